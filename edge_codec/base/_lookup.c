/* Nearest code of a clustered codebook: the encoder's choice of tokens.
 *
 * nearest(latents, centers, center_offsets, codes, code_offsets, dim, probes, tokens): for each
 * latent z the code c with the largest z.c - |c|^2/2, which is the nearest one, searched in the
 * `probes` clusters whose centers are nearest. Vectors stand in blocks of 16, [block][dim][16], so
 * that the products of 16 codes add up in parallel. All sums of codes are integers below 2^24 and
 * so exact in float, in any order.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define BLOCK 16
#define MAX_DIM 256
#define MAX_CLUSTERS 256

#if defined(__GNUC__) && defined(__x86_64__) && !defined(__clang__)
#define WIDE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define WIDE_CLONES
#endif

typedef struct {
    const float *centers, *center_offsets, *codes, *code_offsets;
    size_t clusters, leaves, dim, probes;
} codebook;

/* Eight floats; the compiler makes two halves of it where vectors are shorter. */
typedef float float8 __attribute__((vector_size(32), aligned(4), may_alias));

/* Scores of 16 vectors. */
static inline __attribute__((always_inline)) void score_block(const float *block,
                                                              const float *offsets,
                                                              const float *z, size_t dim,
                                                              float score[BLOCK]) {
    /* Two chains of additions for each half, because an addition takes longer than its turn. */
    float8 low = *(const float8 *)offsets, high = *(const float8 *)(offsets + 8);
    float8 low_odd = {0}, high_odd = {0};
    size_t d = 0;
    for (; d + 1 < dim; d += 2) {
        const float *row = block + d * BLOCK;
        low += *(const float8 *)row * z[d];
        high += *(const float8 *)(row + 8) * z[d];
        low_odd += *(const float8 *)(row + 16) * z[d + 1];
        high_odd += *(const float8 *)(row + 24) * z[d + 1];
    }
    if (d < dim) {
        low += *(const float8 *)(block + d * BLOCK) * z[d];
        high += *(const float8 *)(block + d * BLOCK + 8) * z[d];
    }
    low += low_odd;
    high += high_odd;
    *(float8 *)score = low;
    *(float8 *)(score + 8) = high;
}

static inline __attribute__((always_inline)) uint16_t search(const codebook *book,
                                                             const float *z) {
    float near[MAX_CLUSTERS];
    for (size_t b = 0; b < book->clusters; b += BLOCK)
        score_block(book->centers + b * book->dim, book->center_offsets + b, z, book->dim,
                    near + b);
    float best = 0;
    size_t token = SIZE_MAX;
    for (size_t probe = 0; probe < book->probes; probe++) {
        size_t cluster = 0;
        for (size_t i = 1; i < book->clusters; i++)
            if (near[i] > near[cluster]) cluster = i;
        near[cluster] = -3e38f; /* not again */
        const size_t first = cluster * book->leaves;
        for (size_t b = first; b < first + book->leaves; b += BLOCK) {
            float score[BLOCK];
            score_block(book->codes + b * book->dim, book->code_offsets + b, z, book->dim, score);
            float highest = score[0];
            for (size_t j = 1; j < BLOCK; j++) highest = score[j] > highest ? score[j] : highest;
            if (token != SIZE_MAX && (highest < best || (highest == best && token < b))) continue;
            size_t j = 0;
            while (score[j] != highest) j++; /* ties: lowest index */
            best = highest;
            token = b + j;
        }
    }
    return (uint16_t)token;
}

WIDE_CLONES static void search_all(const codebook *book, const int8_t *latents, size_t n,
                                   uint16_t *tokens) {
    for (size_t i = 0; i < n; i++) {
        float z[MAX_DIM];
        for (size_t d = 0; d < book->dim; d++) z[d] = latents[i * book->dim + d];
        tokens[i] = search(book, z);
    }
}

static int is_sound(const codebook *book, const Py_buffer *b) {
    const size_t code_bytes = 4 * book->clusters * book->leaves, dim = book->dim;
    return dim >= 1 && dim <= MAX_DIM && book->clusters >= BLOCK &&
           book->clusters <= MAX_CLUSTERS && book->clusters % BLOCK == 0 && book->leaves >= BLOCK &&
           book->leaves % BLOCK == 0 && book->clusters * book->leaves <= 65536 &&
           book->probes >= 1 && book->probes <= book->clusters &&
           (size_t)b[1].len == 4 * book->clusters * dim && (size_t)b[3].len == code_bytes * dim &&
           (size_t)b[4].len == code_bytes && (size_t)b[0].len % dim == 0 &&
           (size_t)b[5].len == 2 * ((size_t)b[0].len / dim);
}

static PyObject *py_nearest(PyObject *self, PyObject *args) {
    Py_buffer b[6];
    Py_ssize_t dim, probes;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*nnw*", &b[0], &b[1], &b[2], &b[3], &b[4], &dim, &probes,
                          &b[5]))
        return NULL;
    const size_t clusters = (size_t)b[2].len / 4;
    const codebook book = {b[1].buf, b[2].buf, b[3].buf, b[4].buf, clusters,
                           clusters ? (size_t)b[4].len / 4 / clusters : 0, (size_t)dim,
                           (size_t)probes};
    const int sound = dim > 0 && probes > 0 && is_sound(&book, b);
    if (sound) {
        Py_BEGIN_ALLOW_THREADS
        search_all(&book, b[0].buf, (size_t)b[0].len / book.dim, b[5].buf);
        Py_END_ALLOW_THREADS
    }
    for (int i = 0; i < 6; i++) PyBuffer_Release(&b[i]);
    if (!sound) return PyErr_Format(PyExc_ValueError, "arrays do not fit each other");
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"nearest", py_nearest, METH_VARARGS, "nearest code of each latent; see the file's head"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_lookup", "Nearest code of a clustered codebook.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lookup(void) { return PyModule_Create(&MODULE); }
