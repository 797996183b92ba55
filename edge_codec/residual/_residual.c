/* The residual layer's coder: Python bindings.
 *
 * Specified in docs/bitstream.md; tests/plain_residual.py is the plain twin.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "band_coder.h"
#include "processor.h"

/* The same source makes three modules: this one, and those for processors with more. */
#if defined(EDGE_CODEC_AVX512)
#define NAME "_residual_avx512"
#define INIT PyInit__residual_avx512
#elif defined(EDGE_CODEC_AVX2)
#define NAME "_residual_avx2"
#define INIT PyInit__residual_avx2
#else
#define NAME "_residual"
#define INIT PyInit__residual
#endif

static const char CAPSULE[] = "edge_codec.residual." NAME;

static void capsule_free(PyObject *capsule) { band_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

/* The state of a band; `inside` has a byte for each voxel, or none. */
static PyObject *make_state(Py_ssize_t rows, Py_ssize_t columns, unsigned long span,
                            unsigned long bound, int with_base, int effort,
                            const Py_buffer *inside, unsigned long region_bound) {
    if (rows < 1 || columns < 1 || rows > 65535 || columns > 65535 || span > 0xFFFFFFFF ||
        bound > 0x7FFFFFFF || effort < FAST || effort > BEST)
        return PyErr_Format(PyExc_ValueError, "size, range or effort out of bounds");
    if (inside->len && (inside->len != rows * columns || region_bound > 0x7FFFFFFF))
        return PyErr_Format(PyExc_ValueError, "a region of %zd voxels in a band of %zd x %zd",
                            inside->len, rows, columns);
    band_coder *c =
        band_new((size_t)rows, (size_t)columns, (uint32_t)span, (uint32_t)bound, with_base, effort);
    if (!c) return PyErr_NoMemory();
    if (inside->len && !set_region(c, inside->buf, (uint32_t)region_bound)) {
        band_free(c);
        return PyErr_NoMemory();
    }
    return PyCapsule_New(c, CAPSULE, capsule_free);
}

static PyObject *py_new(PyObject *self, PyObject *args) {
    Py_ssize_t rows, columns;
    unsigned long span, bound, region_bound = 0;
    int with_base, effort;
    Py_buffer inside = {.len = 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "nnkkpi|y*k", &rows, &columns, &span, &bound, &with_base, &effort,
                          &inside, &region_bound))
        return NULL;
    PyObject *const state =
        make_state(rows, columns, span, bound, with_base, effort, &inside, region_bound);
    if (inside.obj) PyBuffer_Release(&inside);
    return state;
}

/* The arguments of a call: the decoded frame is written to `out`. */
typedef struct {
    Py_buffer input, base, out;
    int key;
    unsigned long bound;
    long long give_up;
} call;

static void close_call(call *a) {
    if (a->base.obj) PyBuffer_Release(&a->base);
    PyBuffer_Release(&a->input);
    PyBuffer_Release(&a->out);
}

/* Takes (state, input, base or None, key, decoded frame, and, to encode, bound and an instant). */
static band_coder *open_call(PyObject *args, const char *format, call *a) {
    PyObject *capsule, *base;
    memset(a, 0, sizeof *a);
    if (!PyArg_ParseTuple(args, format, &capsule, &a->input, &base, &a->key, &a->out, &a->bound,
                          &a->give_up))
        return NULL;
    band_coder *c = PyCapsule_GetPointer(capsule, CAPSULE);
    if (c && base != Py_None && PyObject_GetBuffer(base, &a->base, PyBUF_SIMPLE) < 0) c = NULL;
    if (c) {
        const Py_ssize_t size = (Py_ssize_t)(4 * c->rows * c->columns);
        if ((a->base.obj != NULL) != (c->with_base != 0) || (a->base.obj && a->base.len != size) ||
            a->out.len != size || a->bound > c->bound) {
            PyErr_SetString(PyExc_ValueError, "base, frame or bound does not fit the state");
            c = NULL;
        }
    }
    if (!c) close_call(a);
    return c;
}

static void open_frame_of(band_coder *c, const call *a) {
    if (a->key) start_group(c);
    if (a->base.obj) load_base(c, a->base.buf);
}

static PyObject *py_encode(PyObject *self, PyObject *args) {
    call a;
    size_t size = 0;
    (void)self;
    band_coder *c = open_call(args, "Oy*Opw*kL", &a);
    if (!c) return NULL;
    if (a.input.len != a.out.len) {
        PyErr_SetString(PyExc_ValueError, "frame does not fit the state");
        return close_call(&a), NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    open_frame_of(c, &a);
    if (c->pending) restore_models(c);
    else keep_models(c);
    c->pending = 1;
    size = encode_frame(c, a.input.buf, a.base.buf, (uint32_t)a.bound, a.give_up);
    if (size) store_frame(c, a.out.buf);
    Py_END_ALLOW_THREADS
    close_call(&a);
    return size ? PyBytes_FromStringAndSize((const char *)c->payload, (Py_ssize_t)size)
                : PyErr_NoMemory();
}

static PyObject *py_commit(PyObject *self, PyObject *capsule) {
    (void)self;
    band_coder *c = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!c) return NULL;
    if (c->pending) close_coder(c);
    c->pending = 0;
    Py_RETURN_NONE;
}

static PyObject *py_decode(PyObject *self, PyObject *args) {
    call a;
    int status;
    (void)self;
    band_coder *c = open_call(args, "Oy*Opw*", &a);
    if (!c) return NULL;
    Py_BEGIN_ALLOW_THREADS
    open_frame_of(c, &a);
    status = decode_frame(c, a.input.buf, (size_t)a.input.len, a.base.buf);
    if (status == RESIDUAL_OK) {
        store_frame(c, a.out.buf);
        close_coder(c);
    }
    Py_END_ALLOW_THREADS
    close_call(&a);
    return status == RESIDUAL_NO_MEMORY ? PyErr_NoMemory() : PyBool_FromLong(status == RESIDUAL_OK);
}

static PyMethodDef METHODS[] = {
    {"new", py_new, METH_VARARGS,
     "new(rows, columns, span, bound, with_base, effort, inside=b'', region_bound=0) -> state"},
    {"encode", py_encode, METH_VARARGS,
     "encode(state, frame, base, key, decoded, bound, give_up) -> payload; again until commit"},
    {"commit", py_commit, METH_O, "commit(state): go on to the next frame"},
    {"decode", py_decode, METH_VARARGS,
     "decode(state, payload, base, key, decoded) -> whether it could be"},
    {"features", py_features, METH_NOARGS,
     "features() -> whether the processor has what each of the other modules needs"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, NAME, "Native coder of the residual layer.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC INIT(void) {
    fill_classes();
    fill_curves();
    return PyModule_Create(&MODULE);
}
