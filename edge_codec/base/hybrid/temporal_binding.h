/* filter_over_time() for Python. */
#ifndef EDGE_CODEC_HYBRID_TEMPORAL_BINDING_H
#define EDGE_CODEC_HYBRID_TEMPORAL_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "temporal_filter.h"

static int are_samples(const int16_t *samples, size_t n) {
    int beyond = 0;
    for (size_t i = 0; i < n; i++) beyond |= samples[i] & ~PIXEL_TOP;
    return !beyond;
}

/* The arguments of a call: the views of frame and out, and those of the others. */
typedef struct {
    Py_buffer frame, out, other[FILTER_MOST];
    int n_others, quantizer;
} filter_call;

static void release_call(filter_call *a) {
    PyBuffer_Release(&a->frame);
    PyBuffer_Release(&a->out);
    for (int k = 0; k < a->n_others; k++) PyBuffer_Release(&a->other[k]);
}

/* Takes the view of an array, which has to be int16 in two dimensions, the size of `like` if given. */
static int view_frame(PyObject *array, int flags, const Py_buffer *like, Py_buffer *view) {
    if (PyObject_GetBuffer(array, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return 0;
    const int is_frame = view->ndim == 2 && view->format && !strcmp(view->format, "h") &&
                         view->shape[0] > 0 && view->shape[1] > 0;
    if (is_frame && view->shape[0] <= MOST_SIDE && view->shape[1] <= MOST_SIDE &&
        view->shape[0] * view->shape[1] <= MOST_PIXELS &&
        (!like || (view->shape[0] == like->shape[0] && view->shape[1] == like->shape[1])))
        return 1;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError,
                 "an array that is no int16 frame of rows and columns, %d pixels at most, or not as "
                 "large as the frame to filter",
                 MOST_PIXELS);
    return 0;
}

static int view_others(PyObject *others, filter_call *a) {
    PyObject *const list = PySequence_Fast(others, "others are not a sequence of frames");
    if (!list) return 0;
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
    int is_valid = n <= FILTER_MOST;
    if (!is_valid)
        PyErr_Format(PyExc_ValueError, "%zd other frames; expected %d at most", n, FILTER_MOST);
    for (Py_ssize_t k = 0; is_valid && k < n; k++) {
        PyObject *const array = PySequence_Fast_GET_ITEM(list, k);
        is_valid = view_frame(array, 0, &a->frame, &a->other[k]);
        a->n_others += is_valid;
    }
    Py_DECREF(list);
    return is_valid;
}

static int views_are_samples(const filter_call *a) {
    const size_t n = (size_t)a->frame.len / sizeof(int16_t);
    int is_valid = are_samples(a->frame.buf, n);
    for (int k = 0; k < a->n_others; k++) is_valid &= are_samples(a->other[k].buf, n);
    if (!is_valid) PyErr_Format(PyExc_ValueError, "samples are not from 0 to %d", PIXEL_TOP);
    return is_valid;
}

static PyObject *py_filter_over_time(PyObject *self, PyObject *args) {
    PyObject *frame, *others, *out;
    filter_call a;
    int is_valid = 0, is_done = 0;
    (void)self;
    memset(&a, 0, sizeof a);
    if (!PyArg_ParseTuple(args, "OOiO", &frame, &others, &a.quantizer, &out)) return NULL;
    if (a.quantizer < 0 || a.quantizer >= QUANTIZERS)
        return PyErr_Format(PyExc_ValueError, "quantizer %d; expected 0 to %d", a.quantizer,
                            QUANTIZERS - 1);
    if (view_frame(frame, 0, NULL, &a.frame) &&
        view_frame(out, PyBUF_WRITABLE, &a.frame, &a.out) && view_others(others, &a))
        is_valid = views_are_samples(&a);
    if (is_valid) {
        temporal_filter f = {.quantizer = a.quantizer, .rows = (int)a.frame.shape[0], .columns = (int)a.frame.shape[1],
                             .n_others = a.n_others, .frame = a.frame.buf};
        for (int k = 0; k < a.n_others; k++) f.other[k] = a.other[k].buf;
        Py_BEGIN_ALLOW_THREADS
        is_done = filter_over_time(&f, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    release_call(&a);
    if (is_done) Py_RETURN_NONE;
    return is_valid ? PyErr_NoMemory() : NULL;
}

#endif
