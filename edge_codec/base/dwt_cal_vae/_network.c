/* Layers and symbols of the `dwt-cal-vae` base layer: Python bindings.
 *
 * load((inputs, outputs, kernel, stride, is_depthwise, is_rectified), weights, shift) makes a layer;
 * run(layer, image, rows, columns, bias, addend or None, result) applies it, while the interpreter is
 * free. write(contexts, values, table) codes values; open(payload, table) makes a reader, from which
 * read(reader, contexts, values) takes them, and close(reader) asks for the end. Sizes are checked here
 * once more, since a wrong index must not become a wrong address.
 *
 * Specified in docs/bitstream.md, section 14; tests/plain_vae.py is the plain twin.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "convolution.h"
#include "processor.h"
#include "range_coder.h"

/* The same source makes three modules: this one, and those for processors with more. */
#if defined(EDGE_CODEC_AVX512)
#define NAME "_network_avx512"
#define INIT PyInit__network_avx512
#elif defined(EDGE_CODEC_AVX2)
#define NAME "_network_avx2"
#define INIT PyInit__network_avx2
#else
#define NAME "_network"
#define INIT PyInit__network
#endif

#define MOST_SIDE 32768 /* of images at half the resolution of a frame */
#define MOST_CONTEXTS 256

static const char LAYER[] = "edge_codec.base.dwt_cal_vae." NAME ".layer";
static const char READER[] = "edge_codec.base.dwt_cal_vae." NAME ".reader";

/* ------------------------------------------------------------------------------------- layers */

static void free_layer(PyObject *capsule) { layer_free(PyCapsule_GetPointer(capsule, LAYER)); }

static int is_sound(const layer *l, const Py_buffer *weights, const Py_buffer *shift) {
    const int taps = l->kernel * l->kernel, depth = l->is_depthwise ? 1 : l->inputs;
    if (l->inputs < 2 || l->inputs > MOST_CHANNELS || l->inputs % 2 || l->outputs < 1 ||
        l->outputs > MOST_CHANNELS || (l->kernel != 1 && l->kernel != 3) || l->stride < 1 ||
        l->stride > 2 || (l->is_depthwise && l->inputs != l->outputs))
        return 0;
    if (weights->len != (Py_ssize_t)2 * l->outputs * taps * depth || shift->len != 4 * l->outputs)
        return 0;
    for (int o = 0; o < l->outputs; o++) {
        const int32_t places = ((const int32_t *)shift->buf)[o];
        if (places < 1 || places > 31) return 0;
    }
    return 1;
}

static int copy_numbers(layer *l, const Py_buffer *weights, const Py_buffer *shift) {
    l->weights = malloc(packed_size(l) * sizeof *l->weights);
    l->shift = malloc((size_t)shift->len);
    if (!l->weights || !l->shift) return 0;
    pack_weights(l, weights->buf);
    memcpy(l->shift, shift->buf, (size_t)shift->len);
    return 1;
}

static PyObject *py_load(PyObject *self, PyObject *args) {
    Py_buffer weights, shift;
    layer *l = calloc(1, sizeof *l);
    PyObject *made = NULL;
    (void)self;
    if (!l) return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "(iiiipp)y*y*", &l->inputs, &l->outputs, &l->kernel, &l->stride,
                          &l->is_depthwise, &l->is_rectified, &weights, &shift))
        return layer_free(l), NULL;
    if (!is_sound(l, &weights, &shift)) PyErr_SetString(PyExc_ValueError, "no such layer");
    else if (!copy_numbers(l, &weights, &shift)) PyErr_NoMemory();
    else made = PyCapsule_New(l, LAYER, free_layer);
    if (!made) layer_free(l);
    PyBuffer_Release(&weights);
    PyBuffer_Release(&shift);
    return made;
}

static int fits(const layer *l, Py_ssize_t rows, Py_ssize_t columns, const Py_buffer *image,
                const Py_buffer *bias, const Py_buffer *addend, const Py_buffer *result) {
    if (rows < 1 || columns < 1 || rows > MOST_SIDE || columns > MOST_SIDE ||
        rows * columns > (Py_ssize_t)1 << 24)
        return 0;
    const Py_ssize_t size = 2 * ((rows + l->stride - 1) / l->stride) *
                            ((columns + l->stride - 1) / l->stride) * l->outputs;
    return image->len == 2 * rows * columns * l->inputs && bias->len == 4 * l->outputs &&
           result->len == size && (!addend->obj || addend->len == size);
}

static PyObject *py_run(PyObject *self, PyObject *args) {
    PyObject *capsule, *more;
    Py_ssize_t rows, columns;
    Py_buffer image, bias, result, addend = {.obj = NULL};
    int is_done = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oy*nny*Ow*", &capsule, &image, &rows, &columns, &bias, &more,
                          &result))
        return NULL;
    const layer *const l = PyCapsule_GetPointer(capsule, LAYER);
    if (l && (more == Py_None || PyObject_GetBuffer(more, &addend, PyBUF_SIMPLE) == 0)) {
        if (!fits(l, rows, columns, &image, &bias, &addend, &result)) {
            PyErr_SetString(PyExc_ValueError, "image, bias or result does not fit the layer");
        } else {
            layer_call call = {.bias = bias.buf, .addend = addend.obj ? addend.buf : NULL,
                               .result = result.buf};
            Py_BEGIN_ALLOW_THREADS
            is_done = run_layer(l, &call, image.buf, (int)rows, (int)columns);
            Py_END_ALLOW_THREADS
            if (!is_done) PyErr_NoMemory();
        }
    }
    if (addend.obj) PyBuffer_Release(&addend);
    PyBuffer_Release(&image);
    PyBuffer_Release(&bias);
    PyBuffer_Release(&result);
    if (!is_done) return NULL;
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------ symbols */

/* Distributions for a call: `contexts` says which one each value has. */
static int is_table(const Py_buffer *table) {
    const Py_ssize_t row = ROW * sizeof(uint32_t), n = table->len / row;
    const uint32_t *cdf = table->buf;
    if (n < 1 || n > MOST_CONTEXTS || table->len % row) return 0;
    for (Py_ssize_t i = 0; i < n; i++, cdf += ROW) {
        uint32_t backwards = cdf[0] != 0 || cdf[ROW - 1] != 1u << TOTAL_BITS ||
                             cdf[ESCAPE] >= cdf[ROW - 1];
        for (int s = 0; s < SYMBOLS; s++) backwards |= cdf[s + 1] < cdf[s];
        if (backwards) return 0;
    }
    return 1;
}

static int are_contexts(const Py_buffer *contexts, const Py_buffer *table) {
    const Py_ssize_t n = table->len / (ROW * (Py_ssize_t)sizeof(uint32_t));
    const uint8_t *const context = contexts->buf;
    uint8_t largest = 0;
    for (Py_ssize_t i = 0; i < contexts->len; i++)
        largest = context[i] > largest ? context[i] : largest;
    return contexts->len == 0 || largest < n;
}

static int are_values(const Py_buffer *values) {
    const int16_t *const value = values->buf;
    for (Py_ssize_t i = 0; i < values->len / 2; i++)
        if (value[i] > LARGEST || value[i] < -LARGEST) return 0;
    return 1;
}

static PyObject *py_write(PyObject *self, PyObject *args) {
    Py_buffer contexts, values, table;
    PyObject *payload = NULL;
    range_writer w = {.range = FULL};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*", &contexts, &values, &table)) return NULL;
    if (values.len != 2 * contexts.len || !is_table(&table) || !are_contexts(&contexts, &table) ||
        !are_values(&values)) {
        PyErr_SetString(PyExc_ValueError, "values, contexts and table do not fit");
    } else {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < contexts.len; i++)
            put_value(&w, (const uint32_t *)table.buf + ROW * ((const uint8_t *)contexts.buf)[i],
                      ((const int16_t *)values.buf)[i]);
        close_writer(&w);
        Py_END_ALLOW_THREADS
        payload = w.failed ? PyErr_NoMemory()
                           : PyBytes_FromStringAndSize((const char *)w.out, (Py_ssize_t)w.size);
    }
    free(w.out);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&values);
    PyBuffer_Release(&table);
    return payload;
}

typedef struct {
    range_reader state;
    Py_buffer payload, table;
} reader;

static void free_reader(PyObject *capsule) {
    reader *const r = PyCapsule_GetPointer(capsule, READER);
    PyBuffer_Release(&r->payload);
    PyBuffer_Release(&r->table);
    free(r);
}

static PyObject *py_open(PyObject *self, PyObject *args) {
    (void)self;
    reader *const r = calloc(1, sizeof *r);
    if (!r) return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "y*y*", &r->payload, &r->table)) return free(r), NULL;
    PyObject *made = NULL;
    if (!is_table(&r->table)) PyErr_SetString(PyExc_ValueError, "no table of distributions");
    else made = PyCapsule_New(r, READER, free_reader);
    if (made) {
        open_reader(&r->state, r->payload.buf, (size_t)r->payload.len);
        return made;
    }
    PyBuffer_Release(&r->payload);
    PyBuffer_Release(&r->table);
    return free(r), NULL;
}

static PyObject *py_read(PyObject *self, PyObject *args) {
    PyObject *capsule;
    Py_buffer contexts, values;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oy*w*", &capsule, &contexts, &values)) return NULL;
    reader *const r = PyCapsule_GetPointer(capsule, READER);
    const int is_right =
        r && values.len == 2 * contexts.len && are_contexts(&contexts, &r->table);
    if (is_right) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < contexts.len; i++)
            ((int16_t *)values.buf)[i] = (int16_t)take_value(
                &r->state,
                (const uint32_t *)r->table.buf + ROW * ((const uint8_t *)contexts.buf)[i]);
        Py_END_ALLOW_THREADS
    } else if (r) {
        PyErr_SetString(PyExc_ValueError, "values and contexts do not fit");
    }
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&values);
    return is_right ? PyBool_FromLong(!r->state.failed) : NULL;
}

static PyObject *py_close(PyObject *self, PyObject *capsule) {
    (void)self;
    const reader *const r = PyCapsule_GetPointer(capsule, READER);
    if (!r) return NULL;
    return PyBool_FromLong(!r->state.failed && r->state.next >= r->state.size);
}

static PyMethodDef METHODS[] = {
    {"features", py_features, METH_NOARGS,
     "features() -> whether the processor has what each of the other modules needs"},
    {"load", py_load, METH_VARARGS, "load(shape, weights, shift) -> layer"},
    {"run", py_run, METH_VARARGS, "run(layer, image, rows, columns, bias, addend, result)"},
    {"write", py_write, METH_VARARGS, "write(contexts, values, table) -> payload"},
    {"open", py_open, METH_VARARGS, "open(payload, table) -> reader"},
    {"read", py_read, METH_VARARGS, "read(reader, contexts, values) -> whether it may go on"},
    {"close", py_close, METH_O, "close(reader) -> whether the payload ended with its last value"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, NAME, "Layers and symbols of the dwt-cal-vae base layer.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC INIT(void) { return PyModule_Create(&MODULE); }
