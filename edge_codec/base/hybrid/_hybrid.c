/* The hybrid codec of the base layer: Python bindings.
 *
 * Specified in docs/bitstream.md, section 13; tests/plain_hybrid.py is the plain twin of the decoder.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define MOST_SIDE 65535
#define MOST_PIXELS (1 << 24)

#include "decode.h"
#include "encode.h"
#include "processor.h"
#include "temporal_binding.h"

/* The same source makes three modules: this one, and those for processors with more. */
#if defined(EDGE_CODEC_AVX512)
#define NAME "_hybrid_avx512"
#define INIT PyInit__hybrid_avx512
#elif defined(EDGE_CODEC_AVX2)
#define NAME "_hybrid_avx2"
#define INIT PyInit__hybrid_avx2
#else
#define NAME "_hybrid"
#define INIT PyInit__hybrid
#endif

#define MOST_WORKERS 64

static PyObject *BITSTREAM_ERROR; /* edge_codec.errors.BitstreamError */

typedef struct {
    PyObject_HEAD
    frame_store store;
    loop_filter filter;
    uint8_t *inside; /* squares of the region, or NULL */
    int gain;        /* of their quantizer */
    models models;
    bins bins; /* keeps the memory of the payload */
    encoder *encoder;
    int is_filled[SLOTS];
    int is_busy, workers;    /* a call is in work; threads that are in encode_work */
    int is_shared;           /* such threads may join */
    unsigned long long turn; /* of the frame that workers are for */
} coder;

/* -------------------------------------------------------------------------------- life of a coder */

/* Takes the squares that are in the region; those of no byte have none. */
static int take_region(coder *self, const Py_buffer *inside, int gain) {
    const int rows = region_columns(self->store.height), columns = region_columns(self->store.width);
    const uint8_t *const squares = inside->buf;
    int is_valid = inside->len == (Py_ssize_t)rows * columns && gain >= 0 && gain < QUANTIZERS;
    for (Py_ssize_t i = 0; is_valid && i < inside->len; i++) is_valid = squares[i] < PLACES;
    if (!is_valid)
        return PyErr_Format(PyExc_ValueError,
                            "a region of %zd squares, gain %d; expected %d x %d bytes of 0 or 1, and "
                            "a gain of 0 to %d",
                            inside->len, gain, rows, columns, QUANTIZERS - 1),
               0;
    self->inside = malloc((size_t)inside->len);
    if (!self->inside) return PyErr_NoMemory(), 0;
    memcpy(self->inside, squares, (size_t)inside->len);
    self->gain = gain;
    return 1;
}

static PyObject *coder_open(PyTypeObject *type, int rows, int columns, const Py_buffer *inside,
                            int gain) {
    if (rows < 1 || columns < 1 || rows > MOST_SIDE || columns > MOST_SIDE ||
        (int64_t)rows * columns > MOST_PIXELS)
        return PyErr_Format(PyExc_ValueError,
                            "%d rows, %d columns; expected 1 to %d of each, %d pixels at most",
                            rows, columns, MOST_SIDE, MOST_PIXELS);
    coder *const self = (coder *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    open_store(&self->store, rows, columns);
    reset_models(&self->models);
    if (!inside->len || take_region(self, inside, gain)) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static PyObject *coder_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"rows", "columns", "inside", "gain", NULL};
    Py_buffer inside = {.len = 0};
    int rows, columns, gain = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "ii|y*i", names, &rows, &columns, &inside, &gain))
        return NULL;
    PyObject *const self = coder_open(type, rows, columns, &inside, gain);
    if (inside.obj) PyBuffer_Release(&inside);
    return self;
}

static void coder_free(coder *self) {
    PyTypeObject *const type = Py_TYPE(self);
    encoder_free(self->encoder);
    close_store(&self->store);
    free_filter(&self->filter);
    free(self->bins.out);
    free(self->inside);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ------------------------------------------------------------------------------ frames of a call */

static int is_slot(int slot) { return slot >= 0 && slot < SLOTS; }

/* Takes the references of a frame that is no key frame. */
static int take_references(coder *self, PyObject *references, int slot, picture *p) {
    PyObject *const list = PySequence_Fast(references, "references are not a sequence of slots");
    if (!list) return 0;
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
    int is_valid = n >= 1 && n <= MOST_REFERENCES;
    for (Py_ssize_t i = 0; is_valid && i < n; i++) {
        const long at = PyLong_AsLong(PySequence_Fast_GET_ITEM(list, i));
        is_valid = at >= 0 && at < SLOTS && at != slot && self->is_filled[at];
        if (is_valid) p->reference[i] = &self->store.slot[at];
    }
    p->n_references = (int)n;
    Py_DECREF(list);
    if (!is_valid && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError,
                     "references %R; expected 1 to %d slots that hold frames, other than slot %d",
                     references, MOST_REFERENCES, slot);
    return is_valid;
}

/* Opens the frame that is to be kept in `slot`; it holds none until it is complete. */
static int open_picture(coder *self, int key, PyObject *references, int slot, picture *p) {
    memset(p, 0, sizeof *p);
    if (self->is_busy || self->workers) {
        PyErr_SetString(PyExc_RuntimeError, "the coder is at work on another frame");
        return 0;
    }
    if (!is_slot(slot)) {
        PyErr_Format(PyExc_ValueError, "slot %d; expected 0 to %d", slot, SLOTS - 1);
        return 0;
    }
    if (!key && !take_references(self, references, slot, p)) return 0;
    if (!reserve_frame(&self->store, &self->store.slot[slot]) ||
        !reserve_filter(&self->filter, &self->store))
        return PyErr_NoMemory(), 0;
    p->height = self->store.height;
    p->width = self->store.width;
    p->unit_columns = self->store.unit_columns;
    p->stride = self->store.stride;
    p->key = key;
    p->now = &self->store.slot[slot];
    p->inside = self->inside;
    self->is_filled[slot] = 0;
    if (key) reset_models(&self->models);
    return 1;
}

/* --------------------------------------------------------------------------------------- decoding */

static PyObject *coder_decode(coder *self, PyObject *args) {
    Py_buffer payload;
    PyObject *references;
    picture p;
    int key, slot, is_valid = 0;
    if (!PyArg_ParseTuple(args, "y*pOi", &payload, &key, &references, &slot)) return NULL;
    if (!open_picture(self, key, references, slot, &p)) return PyBuffer_Release(&payload), NULL;
    self->is_busy = 1;
    Py_BEGIN_ALLOW_THREADS
    is_valid = decode_frame(&p, self->gain, &self->models, &self->filter, payload.buf,
                            (size_t)payload.len);
    if (is_valid) extend_frame(&self->store, p.now);
    Py_END_ALLOW_THREADS
    self->is_busy = 0;
    self->is_filled[slot] = is_valid;
    const Py_ssize_t size = payload.len;
    PyBuffer_Release(&payload);
    if (is_valid) Py_RETURN_NONE;
    return PyErr_Format(BITSTREAM_ERROR,
                        "base layer of %zd bytes does not decode to a frame of its length; it is "
                        "damaged: decode from the next key frame",
                        size);
}

static PyObject *coder_frame(coder *self, PyObject *args) {
    const frame_store *const s = &self->store;
    int slot;
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "iw*", &slot, &out)) return NULL;
    const size_t row = (size_t)s->columns * sizeof(int16_t);
    if (!is_slot(slot) || !self->is_filled[slot] || (size_t)out.len != row * (size_t)s->rows) {
        PyBuffer_Release(&out);
        return PyErr_Format(PyExc_ValueError, "slot %d holds no frame, or it does not fit", slot);
    }
    for (int y = 0; y < s->rows; y++)
        memcpy((char *)out.buf + (size_t)y * row, s->slot[slot].pixels + y * s->stride, row);
    PyBuffer_Release(&out);
    Py_RETURN_NONE;
}

/* For training: what the loop filter saw of the frame coded last, in whole blocks of 8 x 8. */
static PyObject *coder_unfiltered(coder *self, PyObject *args) {
    const loop_filter *const l = &self->filter;
    const size_t width = (size_t)self->store.width, height = (size_t)self->store.height;
    Py_buffer pixels, classes;
    if (!PyArg_ParseTuple(args, "w*w*", &pixels, &classes)) return NULL;
    const int is_valid = l->memory && !self->is_busy &&
                         (size_t)pixels.len == width * height * sizeof *l->pixels &&
                         (size_t)classes.len == width * height / (UNIT * UNIT);
    for (size_t y = 0; is_valid && y < height; y++)
        memcpy((char *)pixels.buf + y * width * sizeof *l->pixels,
               l->pixels + (ptrdiff_t)y * l->stride, width * sizeof *l->pixels);
    for (size_t y = 0; is_valid && y < height / UNIT; y++)
        memcpy((char *)classes.buf + y * width / UNIT,
               l->classes + y * (size_t)l->class_stride, width / UNIT);
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&classes);
    if (is_valid) Py_RETURN_NONE;
    return PyErr_Format(PyExc_ValueError, "no frame was coded yet, or %zu x %zu pixels do not fit",
                        height, width);
}

/* --------------------------------------------------------------------------------------- encoding */

/* The arguments of an encoder's call. */
typedef struct {
    Py_buffer samples;
    PyObject *references, *mapper;
    int quantizer, key, slot, effort, layer, threads;
} encode_call;

static int check_call(const coder *self, const encode_call *a) {
    const size_t n = (size_t)self->store.rows * (size_t)self->store.columns;
    if ((size_t)a->samples.len != n * sizeof(int16_t) || !are_samples(a->samples.buf, n))
        return PyErr_Format(PyExc_ValueError, "samples are not %d x %d int16 from 0 to %d",
                            self->store.rows, self->store.columns, PIXEL_TOP),
               0;
    if (a->quantizer < 0 || a->quantizer >= QUANTIZERS || a->effort < 0 || a->effort > 2 ||
        a->layer < 0 || a->layer > 63 || a->threads < 1 || a->threads > MOST_WORKERS)
        return PyErr_Format(PyExc_ValueError,
                            "quantizer %d, effort %d, layer %d, %d threads: out of bounds",
                            a->quantizer, a->effort, a->layer, a->threads),
               0;
    return 1;
}

/* A share of the decisions, run by the caller's threads; late calls find nothing to do. */
static PyObject *coder_work(coder *self, PyObject *token) {
    const unsigned long long turn = PyLong_AsUnsignedLongLong(token);
    if (PyErr_Occurred()) return NULL;
    if (!self->is_shared || turn / MOST_WORKERS != self->turn) Py_RETURN_NONE;
    self->workers++;
    Py_BEGIN_ALLOW_THREADS
    encode_work(self->encoder);
    Py_END_ALLOW_THREADS
    self->workers--;
    Py_RETURN_NONE;
}

/* Has the mapper run the other workers. */
static int map_workers(coder *self, const encode_call *a) {
    PyObject *const work = PyObject_GetAttrString((PyObject *)self, "_work");
    const unsigned long long first = self->turn * MOST_WORKERS;
    PyObject *const tokens =
        PyObject_CallFunction((PyObject *)&PyRange_Type, "KK", first,
                              first + (unsigned long long)a->threads);
    PyObject *results = NULL, *list = NULL;
    if (work && tokens) results = PyObject_CallFunctionObjArgs(a->mapper, work, tokens, NULL);
    if (results) list = PySequence_List(results);
    Py_XDECREF(list);
    Py_XDECREF(results);
    Py_XDECREF(tokens);
    Py_XDECREF(work);
    return list != NULL;
}

static int run_workers(coder *self, const encode_call *a) {
    self->is_shared = 1;
    const int is_mapped = a->threads <= 1 || a->mapper == Py_None || map_workers(self, a);
    self->is_shared = 0;
    if (!is_mapped) return 0;
    Py_BEGIN_ALLOW_THREADS
    encode_work(self->encoder); /* what is left */
    Py_END_ALLOW_THREADS
    if (self->workers) {
        PyErr_SetString(PyExc_RuntimeError, "the mapper returned before its workers");
        return 0;
    }
    return 1;
}

static PyObject *finish_payload(coder *self, const encode_call *a) {
    const size_t size = self->bins.written;
    PyObject *const payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size + 1);
    if (!payload) return NULL;
    char *const out = PyBytes_AS_STRING(payload);
    out[0] = (char)a->quantizer;
    if (size) memcpy(out + 1, self->bins.out, size);
    self->is_filled[a->slot] = 1;
    return payload;
}

static PyObject *encode_picture(coder *self, const encode_call *a, const picture *p) {
    int is_done = 1;
    Py_BEGIN_ALLOW_THREADS
    if (!self->encoder) self->encoder = encoder_new(&self->store, &self->filter);
    is_done = self->encoder &&
              encode_open(self->encoder, p, &self->models, a->samples.buf, self->store.rows,
                          self->store.columns, a->quantizer, self->gain, a->effort, a->layer,
                          a->threads);
    Py_END_ALLOW_THREADS
    if (!is_done) return PyErr_NoMemory();
    if (!run_workers(self, a)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    is_done = encode_close(self->encoder, &self->bins);
    if (is_done) extend_frame(&self->store, p->now);
    Py_END_ALLOW_THREADS
    return is_done ? finish_payload(self, a) : PyErr_NoMemory();
}

static PyObject *coder_encode(coder *self, PyObject *args) {
    encode_call a;
    picture p;
    PyObject *payload = NULL;
    if (!PyArg_ParseTuple(args, "y*ipOiiiOi", &a.samples, &a.quantizer, &a.key, &a.references,
                          &a.slot, &a.effort, &a.layer, &a.mapper, &a.threads))
        return NULL;
    if (check_call(self, &a) && open_picture(self, a.key, a.references, a.slot, &p)) {
        self->is_busy = 1;
        self->turn++;
        payload = encode_picture(self, &a, &p);
        self->is_busy = 0;
    }
    PyBuffer_Release(&a.samples);
    return payload;
}

/* ------------------------------------------------------------------------------------- the module */

static PyMethodDef CODER_METHODS[] = {
    {"encode", (PyCFunction)coder_encode, METH_VARARGS,
     "encode(samples, quantizer, key, references, slot, effort, layer, mapper, threads) -> payload"},
    {"decode", (PyCFunction)coder_decode, METH_VARARGS, "decode(payload, key, references, slot)"},
    {"frame", (PyCFunction)coder_frame, METH_VARARGS, "frame(slot, out): copy the kept frame"},
    {"unfiltered", (PyCFunction)coder_unfiltered, METH_VARARGS,
     "unfiltered(pixels, classes): copy what the loop filter saw of the frame coded last"},
    {"_work", (PyCFunction)coder_work, METH_O, "_work(token): a worker's share of encode()"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot CODER_SLOTS[] = {
    {Py_tp_new, coder_new},
    {Py_tp_dealloc, coder_free},
    {Py_tp_methods, CODER_METHODS},
    {Py_tp_doc, "Coder(rows, columns, inside=b'', gain=0): the base layer of one slice."},
    {0, NULL},
};

static PyType_Spec CODER = {
    .name = "edge_codec.base.hybrid." NAME ".Coder",
    .basicsize = sizeof(coder),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = CODER_SLOTS,
};

static PyMethodDef METHODS[] = {
    {"features", py_features, METH_NOARGS,
     "features() -> whether the processor has what each of the other modules needs"},
    {"filter_over_time", py_filter_over_time, METH_VARARGS,
     "filter_over_time(frame, others, quantizer, out): the frame's mean with others, moved to match it"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, NAME, "Native coder of the hybrid base layer.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

static PyObject *load_bitstream_error(void) {
    PyObject *const errors = PyImport_ImportModule("edge_codec.errors");
    PyObject *const error = errors ? PyObject_GetAttrString(errors, "BitstreamError") : NULL;
    Py_XDECREF(errors);
    return error;
}

PyMODINIT_FUNC INIT(void) {
    fill_bin_tables();
    fill_scan();
    fill_encoder_tables();
    if (!BITSTREAM_ERROR && !(BITSTREAM_ERROR = load_bitstream_error())) return NULL;
    PyObject *const module = PyModule_Create(&MODULE);
    PyObject *const type = module ? PyType_FromSpec(&CODER) : NULL;
    if (!type || PyModule_AddObject(module, "Coder", type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
