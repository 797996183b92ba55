/* The residual layer's coder: Python bindings, payload head, raw frames.
 *
 * Specified in docs/bitstream.md; tests/plain_residual.py is the plain twin.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "filter_code.h"
#include "local_code.h"

enum { MODE_CODED = 0, MODE_RAW = 1, MODE_BOUND = 2 };

/* The same source makes two modules: this one, and one that is compiled for AVX2. */
#ifdef EDGE_CODEC_AVX2
#define NAME "_residual_avx2"
#define INIT PyInit__residual_avx2
#else
#define NAME "_residual"
#define INIT PyInit__residual
#endif

static const char CAPSULE[] = "edge_codec.residual." NAME;

/* The coder of one band: a filter that is sent (fast), or filters that both sides fit. */
typedef struct {
    size_t rows, columns;
    uint32_t span, bound;
    int with_base, effort;
    int pending; /* a frame was encoded and not committed: its models are to be taken back first */
    filter_state filter, filter_before;
    local_coder local;
    symbol_writer writer; /* kept, since fresh memory costs as much as coding a tenth of a frame */
    uint8_t *payload;
    size_t capacity;
} band_coder;

static void band_free(band_coder *c) {
    if (!c) return;
    filter_free(&c->filter);
    coder_free(&c->local);
    free(c->writer.pairs);
    free(c->writer.bits);
    free(c->payload);
    free(c);
}

static void capsule_free(PyObject *capsule) { band_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

static void start_group(band_coder *c) {
    if (c->effort == FAST) start_filter(&c->filter);
    else start_local(&c->local);
}

static band_coder *band_new(size_t rows, size_t columns, uint32_t span, uint32_t bound,
                            int with_base, int effort) {
    band_coder *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->rows = rows;
    c->columns = columns;
    c->span = span;
    c->bound = bound;
    c->with_base = with_base;
    c->effort = effort;
    if (effort == FAST ? filter_new(&c->filter, rows, columns, span, with_base)
                       : coder_new(&c->local, rows, columns, span, with_base, effort))
        return start_group(c), c;
    band_free(c);
    return NULL;
}

static PyObject *py_new(PyObject *self, PyObject *args) {
    Py_ssize_t rows, columns;
    unsigned long span, bound;
    int with_base, effort;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnkkpi", &rows, &columns, &span, &bound, &with_base, &effort))
        return NULL;
    if (rows < 1 || columns < 1 || rows > 65535 || columns > 65535 || span > 0xFFFFFFFF ||
        bound > 0x7FFFFFFF || effort < FAST || effort > BEST)
        return PyErr_Format(PyExc_ValueError, "size, range or effort out of bounds");
    band_coder *c =
        band_new((size_t)rows, (size_t)columns, (uint32_t)span, (uint32_t)bound, with_base, effort);
    if (!c) return PyErr_NoMemory();
    return PyCapsule_New(c, CAPSULE, capsule_free);
}

static unsigned bits_of(uint32_t span) { return span ? 32u - (unsigned)__builtin_clz(span) : 0; }

static unsigned lanes_of(const band_coder *c) { return c->effort == BEST ? 1 : LANES; }

static size_t raw_size(const band_coder *c) {
    return 1 + (c->rows * c->columns * bits_of(c->span) + 7) / 8;
}

static void put_raw(const band_coder *c, const uint32_t *frame, uint8_t *out) {
    const unsigned bits = bits_of(c->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    *out++ = MODE_RAW;
    for (size_t i = 0; i < c->rows * c->columns; i++) {
        buffer |= (uint64_t)frame[i] << filled;
        for (filled += bits; filled >= 8; filled -= 8, buffer >>= 8) *out++ = (uint8_t)buffer;
    }
    if (filled) *out = (uint8_t)buffer;
}

static int get_raw(const band_coder *c, const uint8_t *in, size_t size, uint32_t *frame) {
    const unsigned bits = bits_of(c->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    if (size != raw_size(c)) return RESIDUAL_DAMAGED;
    in++;
    for (size_t i = 0; i < c->rows * c->columns; i++) {
        for (; filled < bits; filled += 8) buffer |= (uint64_t)*in++ << filled;
        const uint64_t value = buffer & (((uint64_t)1 << bits) - 1);
        if (value > c->span) return RESIDUAL_DAMAGED;
        frame[i] = (uint32_t)value;
        buffer >>= bits;
        filled -= bits;
    }
    return buffer ? RESIDUAL_DAMAGED : RESIDUAL_OK; /* the bits that fill the last byte are 0 */
}

/* The frame in work is this one, uncoded. */
static void take_raw(band_coder *c, const uint32_t *frame) {
    if (c->effort == FAST) {
        clear_filter_errors(&c->filter);
        load_plane(&c->filter, c->filter.plane[CURRENT], frame);
    } else {
        clear_local_errors(&c->local);
        load_local(&c->local.frame, NOW, frame);
    }
}

/* Makes room for a payload of any form. */
static int reserve_payload(band_coder *c, size_t size) {
    if (size <= c->capacity) return 1;
    uint8_t *const payload = realloc(c->payload, size);
    if (!payload) return 0;
    c->payload = payload;
    c->capacity = size;
    return 1;
}

/* Joins head, size of the bits, bits and rANS payload; returns their size, 0 without memory. */
static size_t join(band_coder *c, uint32_t bound) {
    const symbol_writer *const w = &c->writer;
    const size_t room = rans_bound(w->n_pairs, lanes_of(c));
    if (!reserve_payload(c, 9 + w->n_bytes + room)) return 0;
    uint8_t *to = c->payload;
    *to++ = bound == c->bound ? MODE_CODED : MODE_BOUND;
    if (bound != c->bound) rans_store32(to, bound), to += 4;
    if (c->effort != BEST) {
        rans_store32(to, (uint32_t)w->n_bytes);
        if (w->n_bytes) memcpy(to + 4, w->bits, w->n_bytes);
        to += 4 + w->n_bytes;
    }
    size_t size = 0;
    rans_encode(w->pairs, w->n_pairs, lanes_of(c), to, room, &size);
    memmove(to, to + room - size, size);
    return (size_t)(to - c->payload) + size;
}

static void keep_models(band_coder *c) {
    if (c->effort == FAST) c->filter_before = c->filter;
    else memcpy(c->local.models_before, c->local.models, models_size(&c->local));
}

static void restore_models(band_coder *c) {
    if (c->effort == FAST) c->filter = c->filter_before;
    else memcpy(c->local.models, c->local.models_before, models_size(&c->local));
}

/* Leaves the payload in the coder; returns its size, 0 without memory. */
static size_t encode_frame(band_coder *c, const uint32_t *frame, uint32_t bound) {
    const size_t raw = raw_size(c);
    reset(&c->writer);
    const int status = c->effort == FAST ? encode_filter(&c->filter, bound, frame, &c->writer)
                                         : encode_local(&c->local, bound, frame, &c->writer);
    const size_t size = status == RESIDUAL_OK ? join(c, bound) : 0;
    if (size < raw) return size;
    if (!reserve_payload(c, raw)) return 0;
    restore_models(c); /* the decoder of a raw frame learns nothing from it */
    put_raw(c, frame, c->payload);
    take_raw(c, frame);
    return raw;
}

static int decode_raw(band_coder *c, const uint8_t *payload, size_t size) {
    uint32_t *frame = malloc(c->rows * c->columns * sizeof *frame);
    if (!frame) return RESIDUAL_NO_MEMORY;
    const int status = get_raw(c, payload, size, frame);
    if (status == RESIDUAL_OK) take_raw(c, frame);
    free(frame);
    return status;
}

static int decode_frame(band_coder *c, const uint8_t *payload, size_t size) {
    const uint8_t *const end = payload + size;
    uint32_t bound = c->bound;
    if (size >= 1 && payload[0] == MODE_RAW) return decode_raw(c, payload, size);
    if (size >= 5 && payload[0] == MODE_BOUND) {
        bound = rans_load32(payload + 1);
        if (bound >= c->bound) return RESIDUAL_DAMAGED;
        payload += 5;
    } else if (size >= 1 && payload[0] == MODE_CODED) {
        payload += 1;
    } else {
        return RESIDUAL_DAMAGED;
    }
    size_t bits = 0;
    if (c->effort != BEST) {
        if (end - payload < 4) return RESIDUAL_DAMAGED;
        bits = rans_load32(payload);
        payload += 4;
        if (bits > (size_t)(end - payload)) return RESIDUAL_DAMAGED;
    }
    symbol_reader r = {.lanes = lanes_of(c), .next = payload, .end = payload + bits};
    payload += bits;
    if (rans_decoder_init(&r.rans, payload, (size_t)(end - payload), r.lanes) != RANS_OK)
        return RESIDUAL_DAMAGED;
    const int status = c->effort == FAST ? decode_filter(&c->filter, bound, &r)
                                         : decode_local(&c->local, bound, &r);
    if (status != RESIDUAL_OK) return status;
    const int whole = rans_decoder_finish(&r.rans) == RANS_OK && bits_finished(&r);
    return whole ? RESIDUAL_OK : RESIDUAL_DAMAGED;
}

/* The decoded frame becomes the previous one. */
static void close_coder(band_coder *c) {
    if (c->effort == FAST) close_frame(&c->filter);
    else close_local_frame(&c->local);
}

static void store_frame(const band_coder *c, uint32_t *out) {
    for (size_t row = 0; row < c->rows; row++, out += c->columns) {
        if (c->effort == FAST) {
            memcpy(out, c->filter.plane[CURRENT] + at(&c->filter, row, 0), 4 * c->columns);
        } else {
            const double *from = c->local.frame.plane[NOW] + place_of(&c->local.frame, row, 0);
            for (size_t i = 0; i < c->columns; i++) out[i] = (uint32_t)(int64_t)from[i];
        }
    }
}

static void load_base(band_coder *c, const uint32_t *base) {
    if (c->effort == FAST) load_plane(&c->filter, c->filter.plane[BASE], base);
    else load_local(&c->local.frame, BASE_NOW, base);
}

/* The arguments of a call: the decoded frame is written to `out`. */
typedef struct {
    Py_buffer input, base, out;
    int key;
    unsigned long bound;
} call;

static void close_call(call *a) {
    if (a->base.obj) PyBuffer_Release(&a->base);
    PyBuffer_Release(&a->input);
    PyBuffer_Release(&a->out);
}

/* Takes (state, input, base or None, key, decoded frame, and, to encode, bound). */
static band_coder *open_call(PyObject *args, const char *format, call *a) {
    PyObject *capsule, *base;
    memset(a, 0, sizeof *a);
    if (!PyArg_ParseTuple(args, format, &capsule, &a->input, &base, &a->key, &a->out, &a->bound))
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
    band_coder *c = open_call(args, "Oy*Opw*k", &a);
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
    size = encode_frame(c, a.input.buf, (uint32_t)a.bound);
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
    status = decode_frame(c, a.input.buf, (size_t)a.input.len);
    if (status == RESIDUAL_OK) {
        store_frame(c, a.out.buf);
        close_coder(c);
    }
    Py_END_ALLOW_THREADS
    close_call(&a);
    return status == RESIDUAL_NO_MEMORY ? PyErr_NoMemory() : PyBool_FromLong(status == RESIDUAL_OK);
}

static PyObject *py_has_avx2(PyObject *self, PyObject *none) {
    (void)self, (void)none;
#if defined(__x86_64__) && defined(__GNUC__)
    return PyBool_FromLong(__builtin_cpu_supports("avx2"));
#else
    Py_RETURN_FALSE;
#endif
}

static PyMethodDef METHODS[] = {
    {"new", py_new, METH_VARARGS, "new(rows, columns, span, bound, with_base, effort) -> state"},
    {"encode", py_encode, METH_VARARGS,
     "encode(state, frame, base, key, decoded, bound) -> payload; again until commit"},
    {"commit", py_commit, METH_O, "commit(state): go on to the next frame"},
    {"decode", py_decode, METH_VARARGS,
     "decode(state, payload, base, key, decoded) -> whether it could be"},
    {"has_avx2", py_has_avx2, METH_NOARGS, "has_avx2() -> whether the processor has AVX2"},
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
