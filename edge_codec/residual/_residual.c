/* The residual layer's coder: Python bindings, payload head, raw frames.
 *
 * Specified in docs/bitstream.md; edge_codec/residual/reference.py is the plain twin.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "residual_code.h"
#include "residual_fit.h"

enum { MODE_CODED = 0, MODE_RAW = 1 };

static const char CAPSULE[] = "edge_codec.residual";

static void state_free(residual_state *s) {
    if (!s) return;
    for (int i = 0; i < PLANES; i++) free(s->plane[i]);
    free(s->error);
    free(s->error_before);
    free(s->row_sum);
    free(s->row_sum_narrow);
    free(s->row_energy);
    free(s);
}

static void capsule_free(PyObject *capsule) {
    state_free(PyCapsule_GetPointer(capsule, CAPSULE));
}

static residual_state *state_new(size_t rows, size_t columns, uint32_t span, uint32_t bound,
                                 int with_base) {
    residual_state *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->rows = rows;
    s->columns = columns;
    s->stride = columns + 2 * PAD;
    s->span = span;
    s->bound = bound;
    s->with_base = with_base;
    const size_t size = (rows + 2 * PAD) * s->stride;
    int complete = 1;
    for (int i = 0; i < PLANES; i++)
        if (i != BASE || with_base) complete &= (s->plane[i] = calloc(size, 4)) != NULL;
    complete &= (s->error = calloc(size, 4)) != NULL;
    complete &= (s->error_before = calloc(size, 4)) != NULL;
    complete &= (s->row_sum = calloc(columns, sizeof *s->row_sum)) != NULL;
    complete &= (s->row_sum_narrow = calloc(columns, sizeof *s->row_sum_narrow)) != NULL;
    complete &= (s->row_energy = calloc(columns, sizeof *s->row_energy)) != NULL;
    if (complete) return start_group(s), s;
    state_free(s);
    return NULL;
}

static PyObject *py_new(PyObject *self, PyObject *args) {
    Py_ssize_t rows, columns;
    unsigned long span, bound;
    int with_base;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnkkp", &rows, &columns, &span, &bound, &with_base)) return NULL;
    if (rows < 1 || columns < 1 || rows > 65535 || columns > 65535 || span > 0xFFFFFFFF ||
        bound > 0x7FFFFFFF)
        return PyErr_Format(PyExc_ValueError, "size or range out of bounds");
    residual_state *s =
        state_new((size_t)rows, (size_t)columns, (uint32_t)span, (uint32_t)bound, with_base);
    if (!s) return PyErr_NoMemory();
    return PyCapsule_New(s, CAPSULE, capsule_free);
}

static unsigned bits_of(uint32_t span) { return span ? 32u - (unsigned)__builtin_clz(span) : 0; }

static void clear_errors(residual_state *s) {
    memset(s->error, 0, (s->rows + 2 * PAD) * s->stride * sizeof *s->error);
}

static size_t raw_size(const residual_state *s) {
    return 1 + (s->rows * s->columns * bits_of(s->span) + 7) / 8;
}

static void put_raw(const residual_state *s, const uint32_t *frame, uint8_t *out) {
    const unsigned bits = bits_of(s->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    *out++ = MODE_RAW;
    for (size_t i = 0; i < s->rows * s->columns; i++) {
        buffer |= (uint64_t)frame[i] << filled;
        for (filled += bits; filled >= 8; filled -= 8, buffer >>= 8) *out++ = (uint8_t)buffer;
    }
    if (filled) *out = (uint8_t)buffer;
}

static int get_raw(residual_state *s, const uint8_t *in, size_t size) {
    const unsigned bits = bits_of(s->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    if (size != raw_size(s)) return RESIDUAL_DAMAGED;
    in++;
    for (size_t row = 0; row < s->rows; row++) {
        for (size_t column = 0; column < s->columns; column++) {
            for (; filled < bits; filled += 8) buffer |= (uint64_t)*in++ << filled;
            const uint64_t value = buffer & (((uint64_t)1 << bits) - 1);
            if (value > s->span) return RESIDUAL_DAMAGED;
            s->plane[CURRENT][at(s, row, column)] = (uint32_t)value;
            buffer >>= bits;
            filled -= bits;
        }
    }
    return buffer ? RESIDUAL_DAMAGED : RESIDUAL_OK; /* the bits that fill the last byte are 0 */
}

/* Joins the segments: mode, size of the rANS segment, rANS segment, bits. NULL: no memory. */
static uint8_t *join(symbol_writer *w, size_t raw, size_t *size) {
    const size_t room = rans_bound(w->n_pairs, LANES), head = 5;
    const size_t most = head + room + w->n_bytes;
    uint8_t *out = malloc(most > raw ? most : raw);
    if (!out) return NULL;
    size_t rans_size = 0;
    rans_encode(w->pairs, w->n_pairs, LANES, out + head, room, &rans_size);
    memmove(out + head, out + head + room - rans_size, rans_size);
    memcpy(out + head + rans_size, w->bits, w->n_bytes);
    out[0] = MODE_CODED;
    rans_store32(out + 1, (uint32_t)rans_size);
    *size = head + rans_size + w->n_bytes;
    return out;
}

static int write_frame(residual_state *s, const uint32_t *frame, symbol_writer *w) {
    int32_t coefficients[MAX_TAPS];
    load_plane(s, s->plane[CURRENT], frame);
    const int n = fit(s, coefficients);
    int status = put_coefficients(s, w, coefficients, n);
    if (status == RESIDUAL_OK) status = encode_voxels(s, frame, w);
    return status;
}

static int encode_frame(residual_state *s, const uint32_t *frame, uint8_t **out, size_t *size) {
    const residual_state before = *s;
    const size_t raw = raw_size(s);
    symbol_writer w = {0};
    const int status = write_frame(s, frame, &w);
    *out = status == RESIDUAL_OK ? join(&w, raw, size) : NULL;
    free(w.pairs);
    free(w.bits);
    if (!*out) return RESIDUAL_NO_MEMORY;
    if (*size >= raw) {
        /* Take the distributions back to where the decoder of a raw frame leaves them. */
        *s = before;
        put_raw(s, frame, *out);
        *size = raw;
        clear_errors(s);
        load_plane(s, s->plane[CURRENT], frame);
    }
    return RESIDUAL_OK;
}

static int decode_frame(residual_state *s, const uint8_t *payload, size_t size) {
    tap taps[MAX_TAPS];
    if (size >= 1 && payload[0] == MODE_RAW) {
        clear_errors(s);
        return get_raw(s, payload, size);
    }
    if (size < 5 || payload[0] != MODE_CODED) return RESIDUAL_DAMAGED;
    const size_t rans_size = rans_load32(payload + 1);
    if (rans_size > size - 5) return RESIDUAL_DAMAGED;
    symbol_reader r = {.next = payload + 5 + rans_size, .end = payload + size};
    if (rans_decoder_init(&r.rans, payload + 5, rans_size, LANES) != RANS_OK)
        return RESIDUAL_DAMAGED;
    int status = get_coefficients(s, &r, list_taps(s, taps));
    if (status == RESIDUAL_OK) status = decode_voxels(s, &r);
    if (status != RESIDUAL_OK) return status;
    const int whole = rans_decoder_finish(&r.rans) == RANS_OK && r.next == r.end && !r.buffer;
    return whole ? RESIDUAL_OK : RESIDUAL_DAMAGED;
}

static PyObject *frame_bytes(const residual_state *s) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(4 * s->rows * s->columns));
    if (!bytes) return NULL;
    char *out = PyBytes_AS_STRING(bytes);
    for (size_t row = 0; row < s->rows; row++)
        memcpy(out + 4 * row * s->columns, s->plane[CURRENT] + at(s, row, 0), 4 * s->columns);
    return bytes;
}

/* Parses (state, input, base or None, key) and prepares the state. */
static residual_state *open_call(PyObject *args, Py_buffer *input, Py_buffer *base) {
    PyObject *capsule, *maybe_base;
    int key;
    base->obj = NULL;
    if (!PyArg_ParseTuple(args, "Oy*Op", &capsule, input, &maybe_base, &key)) return NULL;
    residual_state *s = PyCapsule_GetPointer(capsule, CAPSULE);
    if (s && maybe_base != Py_None && PyObject_GetBuffer(maybe_base, base, PyBUF_SIMPLE) < 0)
        s = NULL;
    if (s && (base->obj != NULL) != (s->with_base != 0)) {
        PyErr_SetString(PyExc_ValueError, "base given or missing against the state");
        s = NULL;
    }
    if (s && base->obj && (size_t)base->len != 4 * s->rows * s->columns) {
        PyErr_SetString(PyExc_ValueError, "base has another size than the state");
        s = NULL;
    }
    if (!s) {
        if (base->obj) PyBuffer_Release(base);
        PyBuffer_Release(input);
        return NULL;
    }
    if (key) start_group(s);
    if (base->obj) load_plane(s, s->plane[BASE], base->buf);
    return s;
}

static PyObject *py_encode(PyObject *self, PyObject *args) {
    Py_buffer input, base;
    uint8_t *payload = NULL;
    size_t size = 0;
    int status = RESIDUAL_OK;
    PyObject *result = NULL;
    (void)self;
    residual_state *s = open_call(args, &input, &base);
    if (!s) return NULL;
    if ((size_t)input.len != 4 * s->rows * s->columns) {
        PyErr_SetString(PyExc_ValueError, "frame has another size than the state");
    } else {
        Py_BEGIN_ALLOW_THREADS
        status = encode_frame(s, input.buf, &payload, &size);
        Py_END_ALLOW_THREADS
        PyObject *decoded = status == RESIDUAL_OK ? frame_bytes(s) : PyErr_NoMemory();
        if (decoded) result = Py_BuildValue("y#N", payload, (Py_ssize_t)size, decoded);
        if (status == RESIDUAL_OK) close_frame(s);
    }
    free(payload);
    if (base.obj) PyBuffer_Release(&base);
    PyBuffer_Release(&input);
    return result;
}

static PyObject *py_decode(PyObject *self, PyObject *args) {
    Py_buffer input, base;
    int status;
    PyObject *result = NULL;
    (void)self;
    residual_state *s = open_call(args, &input, &base);
    if (!s) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = decode_frame(s, input.buf, (size_t)input.len);
    Py_END_ALLOW_THREADS
    if (status == RESIDUAL_OK) {
        result = frame_bytes(s);
        close_frame(s);
    } else {
        result = Py_NewRef(Py_None);
    }
    if (base.obj) PyBuffer_Release(&base);
    PyBuffer_Release(&input);
    return result;
}

static PyMethodDef METHODS[] = {
    {"new", py_new, METH_VARARGS, "new(rows, columns, span, bound, with_base) -> state"},
    {"encode", py_encode, METH_VARARGS, "encode(state, frame, base, key) -> (payload, decoded)"},
    {"decode", py_decode, METH_VARARGS, "decode(state, payload, base, key) -> frame or None"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_residual", "Native coder of the residual layer.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__residual(void) { return PyModule_Create(&MODULE); }
