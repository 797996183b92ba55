/* Coding of a frame's tokens, for edge_codec/base/tokens.py.
 *
 * The same integers as edge_codec/base/token_model.py, which explains and defines them; one lane of
 * rans.h.  Sums of logits are 16-bit and may wrap for tables that load_token_model would refuse; that
 * changes probabilities, never addresses.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "rans.h"

#define BAD_TABLES 7  /* sizes that do not fit each other */
#define BAD_TOKEN 8   /* a token that the codebook does not have */
#define N_TABLES 13
#define MAX_SYMBOLS 4096 /* clusters, or leaves of a cluster: bounds the work space */
#define EXP2_SIZE 4096
#define NONE (-1)

/* Compiled several times, and chosen by the processor: the loops are over a few vectors each. */
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__clang__)
#define WIDE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define WIDE_CLONES
#endif

/* Tables in the order of TokenModel's fields. */
typedef struct {
    const int16_t *cluster_bias, *cluster_west, *cluster_north, *cluster_previous;
    const int16_t *cluster_northwest, *cluster_northeast;
    const int16_t *cluster_previous_east, *cluster_previous_south;
    const int16_t *leaf_bias, *leaf_west, *leaf_north, *leaf_previous;
    const uint32_t *exp2;
    long n_clusters, n_leaves, n_codes;
} tables;

/* One frame and its place for results; previous may be NULL. */
typedef struct {
    const tables *model;
    uint16_t *tokens;
    const uint16_t *previous;
    long h, w;
} frame;

/* Tokens around a position, NONE where there is none. */
typedef struct {
    long west, north, northwest, northeast, previous, previous_east, previous_south;
} neighbours;

/* Distribution of the next symbol. */
typedef struct {
    int16_t logits[MAX_SYMBOLS];
    uint16_t below[MAX_SYMBOLS];       /* how much less than the largest logit */
    uint32_t frequencies[MAX_SYMBOLS]; /* weights at first */
} distribution;

RANS_INLINE long token_at(const uint16_t *grid, long h, long w, long row, long column) {
    if (!grid || row < 0 || row >= h || column < 0 || column >= w) return NONE;
    return grid[row * w + column];
}

RANS_INLINE neighbours look_around(const frame *f, long row, long column) {
    const neighbours around = {
        token_at(f->tokens, f->h, f->w, row, column - 1),
        token_at(f->tokens, f->h, f->w, row - 1, column),
        token_at(f->tokens, f->h, f->w, row - 1, column - 1),
        token_at(f->tokens, f->h, f->w, row - 1, column + 1),
        token_at(f->previous, f->h, f->w, row, column),
        token_at(f->previous, f->h, f->w, row, column + 1),
        token_at(f->previous, f->h, f->w, row + 1, column),
    };
    return around;
}

RANS_INLINE void add_row(int16_t *restrict logits, const int16_t *restrict row, long n) {
    for (long i = 0; i < n; i++) logits[i] = (int16_t)(logits[i] + row[i]);
}

/* The frequencies of token_model.py. */
RANS_INLINE void make_frequencies(distribution *d, long n, const uint32_t *exp2) {
    int16_t largest = d->logits[0];
    for (long i = 1; i < n; i++) largest = d->logits[i] > largest ? d->logits[i] : largest;
    /* Apart from the look-ups, so that it is done with vectors and without branches. */
    for (long i = 0; i < n; i++) {
        const uint16_t below = (uint16_t)(largest - d->logits[i]);
        d->below[i] = below < EXP2_SIZE ? below : EXP2_SIZE - 1;
    }
    uint32_t sum = 0; /* at most 4096 * 2^16 */
    for (long i = 0; i < n; i++) {
        d->frequencies[i] = exp2[d->below[i]];
        sum += d->frequencies[i];
    }
    /* Factors of 32 bits, for vector units: sum >= exp2[0] = 2^16, so the reciprocal is <= 2^30. */
    const uint32_t reciprocal = (uint32_t)(((uint64_t)1 << 46) / sum);
    const uint32_t shared = RANS_TOTAL - (uint32_t)n;
    uint32_t total = 0;
    for (long i = 0; i < n; i++) {
        const uint32_t share = (uint32_t)((uint64_t)d->frequencies[i] * reciprocal >> 16);
        d->frequencies[i] = 1 + (uint32_t)((uint64_t)share * shared >> 30);
        total += d->frequencies[i];
    }
    long first = 0;
    while (d->logits[first] != largest) first++;
    d->frequencies[first] += RANS_TOTAL - total;
}

/* In 32 bits: a division of 64 takes twice as long on many processors. */
RANS_INLINE long cluster_of(const tables *m, long token) {
    return token < 0 ? m->n_clusters : (long)((uint32_t)token / (uint32_t)m->n_leaves);
}

RANS_INLINE void model_cluster(distribution *d, const tables *m, const neighbours *a) {
    const long n = m->n_clusters, no_token = m->n_codes;
    const struct {
        const int16_t *table;
        long row;
    } rows[7] = {
        {m->cluster_west, a->west < 0 ? no_token : a->west},
        {m->cluster_north, a->north < 0 ? no_token : a->north},
        {m->cluster_previous, a->previous < 0 ? no_token : a->previous},
        {m->cluster_northwest, cluster_of(m, a->northwest)},
        {m->cluster_northeast, cluster_of(m, a->northeast)},
        {m->cluster_previous_east, cluster_of(m, a->previous_east)},
        {m->cluster_previous_south, cluster_of(m, a->previous_south)},
    };
    memcpy(d->logits, m->cluster_bias, (size_t)n * sizeof d->logits[0]);
    for (int i = 0; i < 7; i++) add_row(d->logits, rows[i].table + rows[i].row * n, n);
    make_frequencies(d, n, m->exp2);
}

RANS_INLINE void model_leaf(distribution *d, const tables *m, const neighbours *a, long cluster) {
    const long n = m->n_leaves, low = cluster * n;
    const long west = a->west - low, north = a->north - low, previous = a->previous - low;
    memcpy(d->logits, m->leaf_bias + low, (size_t)n * sizeof d->logits[0]);
    if (west >= 0 && west < n) add_row(d->logits, m->leaf_west + a->west * n, n);
    if (north >= 0 && north < n) add_row(d->logits, m->leaf_north + a->north * n, n);
    if (previous >= 0 && previous < n) add_row(d->logits, m->leaf_previous + a->previous * n, n);
    make_frequencies(d, n, m->exp2);
}

RANS_INLINE rans_pair pair_of(const distribution *d, long symbol) {
    uint32_t below = 0;
    for (long i = 0; i < symbol; i++) below += d->frequencies[i];
    return rans_make_pair(below, d->frequencies[symbol]);
}

WIDE_CLONES static void model_frame(const frame *f, distribution *d, rans_pair *pairs) {
    for (long row = 0; row < f->h; row++) {
        for (long column = 0; column < f->w; column++) {
            const neighbours around = look_around(f, row, column);
            const long token = f->tokens[row * f->w + column];
            const long cluster = cluster_of(f->model, token);
            model_cluster(d, f->model, &around);
            *pairs++ = pair_of(d, cluster);
            model_leaf(d, f->model, &around, cluster);
            *pairs++ = pair_of(d, token - cluster * f->model->n_leaves);
        }
    }
}

/* The next symbol; every frequency is at least 1, so the scan ends at 65536. */
RANS_INLINE long get_symbol(rans_decoder *decoder, const distribution *d) {
    const uint32_t slot = rans_peek(decoder, 0);
    uint32_t below = 0;
    long symbol = 0;
    while (below + d->frequencies[symbol] <= slot) below += d->frequencies[symbol++];
    rans_advance(decoder, 0, below, d->frequencies[symbol]);
    return symbol;
}

WIDE_CLONES static int decode_frame(const frame *f, distribution *d, const uint8_t *payload, size_t size) {
    rans_decoder decoder;
    const int status = rans_decoder_init(&decoder, payload, size, 1);
    if (status != RANS_OK) return status;
    for (long row = 0; row < f->h && !decoder.failed; row++) {
        for (long column = 0; column < f->w; column++) {
            const neighbours around = look_around(f, row, column);
            model_cluster(d, f->model, &around);
            const long cluster = get_symbol(&decoder, d);
            model_leaf(d, f->model, &around, cluster);
            const long leaf = get_symbol(&decoder, d);
            f->tokens[row * f->w + column] = (uint16_t)(cluster * f->model->n_leaves + leaf);
        }
    }
    return rans_decoder_finish(&decoder);
}

static int tokens_exist(const uint16_t *grid, size_t n, long n_codes) {
    uint16_t largest = 0;
    for (size_t i = 0; i < n; i++) largest = grid[i] > largest ? grid[i] : largest;
    return n == 0 || largest < n_codes;
}

/* -------------------------------------------------------------------------------------- Python */

/* Takes the tables from buffers, if their sizes fit; they stay valid as long as the buffers. */
static int make_tables(tables *m, const Py_buffer *buffers, long n_clusters, long n_leaves) {
    if (n_clusters < 1 || n_leaves < 1 || n_clusters > MAX_SYMBOLS || n_leaves > MAX_SYMBOLS)
        return BAD_TABLES;
    if (n_clusters * n_leaves > 65536) return BAD_TABLES;
    const Py_ssize_t c = n_clusters, l = n_leaves, k = c * l;
    const Py_ssize_t sizes[N_TABLES] = {
        c * 2,           (k + 1) * c * 2, (k + 1) * c * 2, (k + 1) * c * 2, (c + 1) * c * 2,
        (c + 1) * c * 2, (c + 1) * c * 2, (c + 1) * c * 2, k * 2,           k * l * 2,
        k * l * 2,       k * l * 2,       EXP2_SIZE * 4,
    };
    const int16_t **fields[N_TABLES - 1] = {
        &m->cluster_bias,          &m->cluster_west,           &m->cluster_north,
        &m->cluster_previous,      &m->cluster_northwest,      &m->cluster_northeast,
        &m->cluster_previous_east, &m->cluster_previous_south, &m->leaf_bias,
        &m->leaf_west,             &m->leaf_north,             &m->leaf_previous,
    };
    for (int i = 0; i < N_TABLES; i++) {
        if (buffers[i].len != sizes[i]) return BAD_TABLES;
        if (i < N_TABLES - 1) *fields[i] = buffers[i].buf;
    }
    m->exp2 = buffers[N_TABLES - 1].buf;
    /* The largest weight is exp2[0]; the sum that divides must not be 0, nor shares exceed 2^16. */
    if (m->exp2[0] != RANS_TOTAL) return BAD_TABLES;
    for (int i = 0; i < EXP2_SIZE; i++)
        if (m->exp2[i] > RANS_TOTAL) return BAD_TABLES;
    m->n_clusters = n_clusters;
    m->n_leaves = n_leaves;
    m->n_codes = n_clusters * n_leaves;
    return RANS_OK;
}

static int make_frame(frame *f, const tables *model, const Py_buffer *tokens,
                      const Py_buffer *previous, Py_ssize_t h, Py_ssize_t w) {
    if (h < 0 || w < 0 || h > 65535 || w > 65535) return BAD_TABLES;
    if (tokens->len != h * w * 2 || (previous->buf && previous->len != h * w * 2))
        return BAD_TABLES;
    f->model = model;
    f->tokens = tokens->buf;
    f->previous = previous->buf;
    f->h = (long)h;
    f->w = (long)w;
    if (previous->buf && !tokens_exist(f->previous, (size_t)(h * w), model->n_codes))
        return BAD_TOKEN;
    return RANS_OK;
}

/* Buffers of the tuple of tables; all or none are held. */
static int take_buffers(PyObject *arrays, Py_buffer *buffers) {
    if (PyTuple_GET_SIZE(arrays) != N_TABLES) {
        PyErr_SetString(PyExc_ValueError, "expected 13 tables");
        return -1;
    }
    for (int i = 0; i < N_TABLES; i++) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, i), &buffers[i], PyBUF_SIMPLE) < 0) {
            while (i-- > 0) PyBuffer_Release(&buffers[i]);
            return -1;
        }
    }
    return 0;
}

/* Payload of a frame of n symbols, or its status as an int. */
static PyObject *encode_frame(const frame *f) {
    const size_t n = 2 * (size_t)f->h * (size_t)f->w, capacity = rans_bound(n, 1);
    size_t size = 0;
    if (!tokens_exist(f->tokens, n / 2, f->model->n_codes)) return PyLong_FromLong(BAD_TOKEN);
    rans_pair *pairs = PyMem_RawMalloc((n + 1) * sizeof *pairs);
    distribution *d = PyMem_RawMalloc(sizeof *d);
    uint8_t *out = PyMem_RawMalloc(capacity);
    PyObject *payload = NULL;
    if (pairs && d && out) {
        Py_BEGIN_ALLOW_THREADS
        model_frame(f, d, pairs);
        rans_encode(pairs, n, 1, out, capacity, &size);
        Py_END_ALLOW_THREADS
        payload = PyBytes_FromStringAndSize((const char *)out + capacity - size, (Py_ssize_t)size);
    } else {
        PyErr_NoMemory();
    }
    PyMem_RawFree(pairs);
    PyMem_RawFree(d);
    PyMem_RawFree(out);
    return payload;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    PyObject *arrays, *result = NULL;
    Py_buffer tokens, previous, buffers[N_TABLES];
    Py_ssize_t h, w;
    long n_clusters, n_leaves;
    tables model;
    frame f;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!lly*z*nn", &PyTuple_Type, &arrays, &n_clusters, &n_leaves,
                          &tokens, &previous, &h, &w))
        return NULL;
    if (take_buffers(arrays, buffers) == 0) {
        int status = make_tables(&model, buffers, n_clusters, n_leaves);
        if (status == RANS_OK) status = make_frame(&f, &model, &tokens, &previous, h, w);
        result = status == RANS_OK ? encode_frame(&f) : PyLong_FromLong(status);
        for (int i = 0; i < N_TABLES; i++) PyBuffer_Release(&buffers[i]);
    }
    PyBuffer_Release(&tokens);
    PyBuffer_Release(&previous);
    return result;
}

static PyObject *decode(PyObject *module, PyObject *args) {
    PyObject *arrays, *result = NULL;
    Py_buffer payload, out, previous, buffers[N_TABLES];
    Py_ssize_t h, w;
    long n_clusters, n_leaves;
    tables model;
    frame f;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!lly*w*z*nn", &PyTuple_Type, &arrays, &n_clusters, &n_leaves,
                          &payload, &out, &previous, &h, &w))
        return NULL;
    if (take_buffers(arrays, buffers) == 0) {
        int status = make_tables(&model, buffers, n_clusters, n_leaves);
        if (status == RANS_OK) status = make_frame(&f, &model, &out, &previous, h, w);
        distribution *d = PyMem_RawMalloc(sizeof *d);
        if (!d) {
            PyErr_NoMemory();
        } else {
            if (status == RANS_OK) {
                Py_BEGIN_ALLOW_THREADS
                status = decode_frame(&f, d, payload.buf, (size_t)payload.len);
                Py_END_ALLOW_THREADS
            }
            result = PyLong_FromLong(status);
        }
        PyMem_RawFree(d);
        for (int i = 0; i < N_TABLES; i++) PyBuffer_Release(&buffers[i]);
    }
    PyBuffer_Release(&payload);
    PyBuffer_Release(&out);
    PyBuffer_Release(&previous);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS,
     "encode(tables, n_clusters, n_leaves, tokens, previous, h, w) -> bytes | int"},
    {"decode", decode, METH_VARARGS,
     "decode(tables, n_clusters, n_leaves, payload, out, previous, h, w) -> int"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "edge_codec.base._tokens", "Token coding; see tokens.py.", 0, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__tokens(void) { return PyModule_Create(&definition); }
