/* Whole arrays of symbols through the coder of rans.h, for edge_codec/entropy/rans.py.
 *
 * Every function returns its result, or the code of the enum in rans.h that says why there is none;
 * rans.py turns codes into exceptions.  Sizes and values are checked here again, since a wrong index
 * must not become a wrong address.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "rans.h"

#define BAD_TABLE 7      /* a table of cumulative frequencies is not one */
#define BAD_CONTEXT 8    /* a context index without a table */
#define GROUP 8          /* lanes that the fast loop works on at a time */
#define COARSE_BITS 12u  /* 4096 buckets: at most 1 in 16 holds a boundary of 256 symbols */
#define COARSE_TOTAL 18u /* log2 of all buckets of all contexts: 512 KiB, half of a usual L2 cache */

/* The arrays of one call.  contexts may be NULL: all symbols have context 0. */
typedef struct {
    const uint8_t *narrow; /* symbols of 8 bits, or NULL */
    const uint16_t *wide;  /* symbols of 16 bits, or NULL */
    const uint16_t *contexts;
    size_t n;
    size_t n_contexts;
    unsigned lanes;
} job;

/* Cumulative frequencies of one call, shape (contexts, symbols + 1), and their decoding index:
 * coarse[context][slot >> shift] is the first symbol that ends after the start of the bucket. */
typedef struct {
    const uint32_t *cdf;
    uint16_t *coarse;
    size_t n_symbols;
    unsigned shift;
} static_table;

static int check_contexts(const job *work) {
    uint16_t largest = 0;
    if (work->n_contexts == 0) return BAD_CONTEXT;
    if (!work->contexts) return RANS_OK;
    for (size_t i = 0; i < work->n; i++)
        largest = work->contexts[i] > largest ? work->contexts[i] : largest;
    return largest < work->n_contexts || work->n == 0 ? RANS_OK : BAD_CONTEXT;
}

static int check_tables(const static_table *table, size_t n_contexts) {
    for (size_t context = 0; context < n_contexts; context++) {
        const uint32_t *cdf = table->cdf + context * (table->n_symbols + 1);
        uint32_t backwards = 0;
        for (size_t s = 0; s < table->n_symbols; s++) backwards |= cdf[s + 1] < cdf[s];
        if (backwards || cdf[0] != 0 || cdf[table->n_symbols] != RANS_TOTAL) return BAD_TABLE;
    }
    return RANS_OK;
}

/* ------------------------------------------------------------------------------ static, encode */

static int model_static(const job *work, const static_table *table, rans_pair *pairs) {
    const size_t stride = table->n_symbols + 1;
    for (size_t i = 0; i < work->n; i++) {
        const size_t symbol = work->wide ? work->wide[i] : work->narrow[i];
        const uint32_t *cdf = table->cdf + (work->contexts ? work->contexts[i] * stride : 0);
        if (symbol >= table->n_symbols || cdf[symbol + 1] == cdf[symbol]) return RANS_BAD_SYMBOL;
        pairs[i] = rans_make_pair(cdf[symbol], cdf[symbol + 1] - cdf[symbol]);
    }
    return RANS_OK;
}

/* ------------------------------------------------------------------------------ static, decode */

static unsigned coarse_bits(size_t n_contexts) {
    unsigned bits = COARSE_BITS;
    while (bits > 4 && n_contexts << bits > (size_t)1 << COARSE_TOTAL) bits--;
    return bits;
}

static void fill_coarse(const static_table *table, size_t n_contexts) {
    const size_t buckets = (size_t)RANS_TOTAL >> table->shift;
    for (size_t context = 0; context < n_contexts; context++) {
        const uint32_t *cdf = table->cdf + context * (table->n_symbols + 1);
        uint16_t *coarse = table->coarse + context * buckets;
        size_t symbol = 0;
        for (size_t bucket = 0; bucket < buckets; bucket++) {
            while (cdf[symbol + 1] <= bucket << table->shift) symbol++;
            coarse[bucket] = (uint16_t)symbol;
        }
    }
}

/* The symbol of a slot.  The scan ends: the last entry is 65536, above every slot. */
RANS_INLINE size_t find_static(const static_table *table, size_t context, uint32_t slot,
                               const uint32_t **found) {
    const uint32_t *cdf = table->cdf + context * (table->n_symbols + 1);
    const uint16_t *coarse = table->coarse + (context << (RANS_BITS - table->shift));
    size_t symbol = coarse[slot >> table->shift];
    while (cdf[symbol + 1] <= slot) symbol++;
    *found = cdf + symbol;
    return symbol;
}

/* Eight symbols of eight lanes; at least eight words are left.  Returns the next word. */
RANS_INLINE const uint8_t *decode_group(uint32_t *state, const uint8_t *next, const job *work,
                                        const static_table *table, size_t i, void *out, int wide,
                                        int contextual) {
    for (unsigned k = 0; k < GROUP; k++) {
        const uint32_t *found;
        uint32_t x = state[k];
        const uint32_t slot = x & 0xFFFFu;
        const size_t symbol =
            find_static(table, contextual ? work->contexts[i + k] : 0, slot, &found);
        x = (found[1] - found[0]) * (x >> 16) + slot - found[0];
        const uint32_t low = x < RANS_LOW;
        const uint32_t refilled = x << 16 | rans_load16(next);
        state[k] = x ^ ((x ^ refilled) & (0u - low));
        next += 2 * low;
        if (wide)
            ((uint16_t *)out)[i + k] = (uint16_t)symbol;
        else
            ((uint8_t *)out)[i + k] = (uint8_t)symbol;
    }
    return next;
}

/* The fast part: whole rows of lanes while words for a whole row are left. */
RANS_INLINE size_t decode_rows(rans_decoder *decoder, const job *work, const static_table *table,
                               void *out, int wide, int contextual) {
    const unsigned lanes = work->lanes;
    const uint8_t *next = decoder->next;
    const static_table local = *table; /* its fields cannot change under the stores to `out` */
    size_t i = 0;
    for (; i + lanes <= work->n && (size_t)(decoder->end - next) >= 2 * (size_t)lanes; i += lanes)
        for (unsigned lane = 0; lane < lanes; lane += GROUP)
            next = decode_group(decoder->state + lane, next, work, &local, i + lane, out, wide,
                                contextual);
    decoder->next = next;
    return i;
}

static int decode_static_symbols(const uint8_t *payload, size_t size, const job *work,
                                 const static_table *table, void *out, int wide) {
    rans_decoder decoder;
    size_t i = 0;
    const int status = rans_decoder_init(&decoder, payload, size, work->lanes);
    if (status != RANS_OK) return status;
    if (work->lanes >= GROUP) {
        /* Constants for `wide` and `contextual` give four loops without tests inside. */
        if (wide)
            i = work->contexts ? decode_rows(&decoder, work, table, out, 1, 1)
                               : decode_rows(&decoder, work, table, out, 1, 0);
        else
            i = work->contexts ? decode_rows(&decoder, work, table, out, 0, 1)
                               : decode_rows(&decoder, work, table, out, 0, 0);
    }
    for (; i < work->n && !decoder.failed; i++) {
        const unsigned lane = (unsigned)i & (work->lanes - 1);
        const uint32_t *found;
        const size_t symbol = find_static(table, work->contexts ? work->contexts[i] : 0,
                                          rans_peek(&decoder, lane), &found);
        rans_advance(&decoder, lane, found[0], found[1] - found[0]);
        if (wide)
            ((uint16_t *)out)[i] = (uint16_t)symbol;
        else
            ((uint8_t *)out)[i] = (uint8_t)symbol;
    }
    return rans_decoder_finish(&decoder);
}

/* ------------------------------------------------------------------------------------ adaptive */

static int model_adaptive(const job *work, adaptive_cdf *models, rans_pair *pairs) {
    for (size_t i = 0; i < work->n; i++) {
        adaptive_cdf *model = models + (work->contexts ? work->contexts[i] : 0);
        const unsigned symbol = work->narrow[i];
        if (symbol >= ADAPTIVE_SYMBOLS) return RANS_BAD_SYMBOL;
        pairs[i] = adaptive_pair(model, symbol);
        adaptive_update(model, symbol);
    }
    return RANS_OK;
}

static int decode_adaptive_symbols(const uint8_t *payload, size_t size, const job *work,
                                   adaptive_cdf *models, uint8_t *out) {
    rans_decoder decoder;
    const int status = rans_decoder_init(&decoder, payload, size, work->lanes);
    if (status != RANS_OK) return status;
    for (size_t i = 0; i < work->n && !decoder.failed; i++) {
        adaptive_cdf *model = models + (work->contexts ? work->contexts[i] : 0);
        out[i] = (uint8_t)adaptive_get(&decoder, (unsigned)i & (work->lanes - 1), model);
    }
    return rans_decoder_finish(&decoder);
}

/* malloc promises 16 bytes of alignment on 64-bit systems only, adaptive_cdf wants it everywhere. */
static adaptive_cdf *new_models(size_t n_contexts, void **memory) {
    *memory = PyMem_RawMalloc((n_contexts + 1) * sizeof(adaptive_cdf));
    if (!*memory) return NULL;
    adaptive_cdf *models = (adaptive_cdf *)(((uintptr_t)*memory + 15) & ~(uintptr_t)15);
    for (size_t i = 0; i < n_contexts; i++) adaptive_init(models + i, ADAPTIVE_SYMBOLS);
    return models;
}

/* -------------------------------------------------------------------------------------- Python */

/* Fills `work` from Python's arguments; returns RANS_OK or why they do not fit each other. */
static int make_job(job *work, const Py_buffer *symbols, int wide, const Py_buffer *contexts,
                    Py_ssize_t n_contexts, int lanes) {
    work->narrow = wide ? NULL : symbols->buf;
    work->wide = wide ? symbols->buf : NULL;
    work->n = (size_t)symbols->len / (wide ? 2 : 1);
    work->contexts = contexts->buf;
    work->n_contexts = n_contexts < 0 ? 0 : (size_t)n_contexts;
    work->lanes = lanes < 0 ? 0 : (unsigned)lanes;
    if (!rans_lanes_ok(work->lanes)) return RANS_BAD_LANES;
    if (work->n_contexts > 65536) return BAD_CONTEXT;
    if (contexts->buf && (size_t)contexts->len != 2 * work->n) return BAD_CONTEXT;
    return check_contexts(work);
}

static int make_table(static_table *table, const Py_buffer *cdfs, size_t n_contexts) {
    const size_t entries = (size_t)cdfs->len / sizeof(uint32_t);
    table->cdf = cdfs->buf;
    table->coarse = NULL;
    table->shift = RANS_BITS - coarse_bits(n_contexts);
    if (n_contexts == 0 || entries % n_contexts != 0 || entries / n_contexts < 2) return BAD_TABLE;
    table->n_symbols = entries / n_contexts - 1;
    if (table->n_symbols > 65536) return BAD_TABLE;
    return check_tables(table, n_contexts);
}

/* Pairs to payload: the second half of every encoder. */
static PyObject *finish_encode(const rans_pair *pairs, const job *work) {
    const size_t capacity = rans_bound(work->n, work->lanes);
    uint8_t *buffer = PyMem_RawMalloc(capacity);
    PyObject *payload = NULL;
    size_t size = 0;
    if (!buffer) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    rans_encode(pairs, work->n, work->lanes, buffer, capacity, &size);
    Py_END_ALLOW_THREADS
    payload = PyBytes_FromStringAndSize((const char *)buffer + capacity - size, (Py_ssize_t)size);
    PyMem_RawFree(buffer);
    return payload;
}

static PyObject *encode_static(PyObject *module, PyObject *args) {
    Py_buffer symbols, contexts, cdfs;
    int wide, lanes, status;
    Py_ssize_t n_contexts;
    PyObject *result = NULL;
    job work;
    static_table table;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*pz*y*ni", &symbols, &wide, &contexts, &cdfs, &n_contexts,
                          &lanes))
        return NULL;
    rans_pair *pairs = NULL;
    status = make_job(&work, &symbols, wide, &contexts, n_contexts, lanes);
    if (status == RANS_OK) status = make_table(&table, &cdfs, work.n_contexts);
    if (status == RANS_OK) {
        pairs = PyMem_RawMalloc((work.n + 1) * sizeof *pairs);
        if (!pairs) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS
            status = model_static(&work, &table, pairs);
            Py_END_ALLOW_THREADS
            result = status == RANS_OK ? finish_encode(pairs, &work) : PyLong_FromLong(status);
        }
    } else {
        result = PyLong_FromLong(status);
    }
    PyMem_RawFree(pairs);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&cdfs);
    return result;
}

static PyObject *decode_static(PyObject *module, PyObject *args) {
    Py_buffer payload, contexts, cdfs, out;
    int wide, lanes, status;
    Py_ssize_t n_contexts;
    job work;
    static_table table = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*pz*y*ni", &payload, &out, &wide, &contexts, &cdfs,
                          &n_contexts, &lanes))
        return NULL;
    status = make_job(&work, &out, wide, &contexts, n_contexts, lanes);
    if (status == RANS_OK) status = make_table(&table, &cdfs, work.n_contexts);
    if (status == RANS_OK && table.n_symbols > (wide ? 65536u : 256u)) status = RANS_BAD_SYMBOL;
    if (status == RANS_OK) {
        const size_t buckets = work.n_contexts << (RANS_BITS - table.shift);
        table.coarse = PyMem_RawMalloc(buckets * sizeof *table.coarse);
        if (!table.coarse) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS
            fill_coarse(&table, work.n_contexts);
            status = decode_static_symbols(payload.buf, (size_t)payload.len, &work, &table,
                                           out.buf, wide);
            Py_END_ALLOW_THREADS
        }
    }
    PyMem_RawFree(table.coarse);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&out);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&cdfs);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(status);
}

static PyObject *encode_adaptive(PyObject *module, PyObject *args) {
    Py_buffer symbols, contexts;
    int lanes, status;
    Py_ssize_t n_contexts;
    PyObject *result = NULL;
    job work;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*z*ni", &symbols, &contexts, &n_contexts, &lanes)) return NULL;
    status = make_job(&work, &symbols, 0, &contexts, n_contexts, lanes);
    if (status == RANS_OK) {
        void *memory = NULL;
        adaptive_cdf *models = new_models(work.n_contexts, &memory);
        rans_pair *pairs = PyMem_RawMalloc((work.n + 1) * sizeof *pairs);
        if (!models || !pairs) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS
            status = model_adaptive(&work, models, pairs);
            Py_END_ALLOW_THREADS
            result = status == RANS_OK ? finish_encode(pairs, &work) : PyLong_FromLong(status);
        }
        PyMem_RawFree(pairs);
        PyMem_RawFree(memory);
    } else {
        result = PyLong_FromLong(status);
    }
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&contexts);
    return result;
}

static PyObject *decode_adaptive(PyObject *module, PyObject *args) {
    Py_buffer payload, contexts, out;
    int lanes, status;
    Py_ssize_t n_contexts;
    job work;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*z*ni", &payload, &out, &contexts, &n_contexts, &lanes))
        return NULL;
    status = make_job(&work, &out, 0, &contexts, n_contexts, lanes);
    if (status == RANS_OK) {
        void *memory = NULL;
        adaptive_cdf *models = new_models(work.n_contexts, &memory);
        if (!models) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS
            status = decode_adaptive_symbols(payload.buf, (size_t)payload.len, &work, models,
                                             out.buf);
            Py_END_ALLOW_THREADS
        }
        PyMem_RawFree(memory);
    }
    PyBuffer_Release(&payload);
    PyBuffer_Release(&out);
    PyBuffer_Release(&contexts);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(status);
}

static PyMethodDef methods[] = {
    {"encode_static", encode_static, METH_VARARGS,
     "encode_static(symbols, wide, contexts, cdfs, n_contexts, lanes) -> bytes | int"},
    {"decode_static", decode_static, METH_VARARGS,
     "decode_static(payload, out, wide, contexts, cdfs, n_contexts, lanes) -> int"},
    {"encode_adaptive", encode_adaptive, METH_VARARGS,
     "encode_adaptive(symbols, contexts, n_contexts, lanes) -> bytes | int"},
    {"decode_adaptive", decode_adaptive, METH_VARARGS,
     "decode_adaptive(payload, out, contexts, n_contexts, lanes) -> int"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "edge_codec.entropy._rans",
                                        "Interleaved rANS over whole arrays; see rans.py.",
                                        0,
                                        methods,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__rans(void) { return PyModule_Create(&definition); }
