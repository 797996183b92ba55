/* Nearest code of a clustered codebook: the encoder's choice of tokens.
 *
 * nearest(latents, centers, center_offsets, codes, code_offsets, dim, probes, tokens): for each
 * latent z the code c with the largest z.c - |c|^2/2, which is the nearest one, searched in the
 * `probes` clusters whose centers are nearest. Vectors stand in blocks of 16, [block][dim][16], so
 * that the products of 16 codes add up in parallel. All sums of codes are integers below 2^24 and
 * so exact in float, in any order.
 *
 * nearest_vnni(...) gives the same tokens with AVX-512 VNNI. Its codes are int8, four dimensions of
 * 16 codes side by side: [block][dim / 4][16][4], with zeros behind the last dimension. Latents
 * enter as z + 128 >= 0, so that `code_offsets` are int32 -|c|^2 - 256 * sum(c), and a score is
 * twice the sum of products and its offset: 2 z.c - |c|^2, in integers. Centers are floats as
 * above, added up in the same order, so that the same clusters are searched.
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

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define VNNI_INLINE static inline __attribute__((always_inline)) VNNI

static int has_vnni(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/* Scores of all centers for 16 latents side by side, `z[d]` their dimension d; each score adds up
 * in the order of `score_block`. Four centers at a time, since they share what is loaded. */
VNNI_INLINE void score_centers(const codebook *book, const __m512 *z, __m512 *near) {
    const size_t dim = book->dim;
    for (size_t c = 0; c < book->clusters; c += 4) {
        const float *center = book->centers + c / BLOCK * BLOCK * dim + c % BLOCK;
        __m512 sum[4], odd[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            sum[i] = _mm512_set1_ps(book->center_offsets[c + (size_t)i]);
            odd[i] = _mm512_setzero_ps();
        }
        size_t d = 0;
        for (; d + 1 < dim; d += 2, center += 2 * BLOCK) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                sum[i] = _mm512_add_ps(sum[i], _mm512_mul_ps(_mm512_set1_ps(center[i]), z[d]));
                odd[i] = _mm512_add_ps(
                    odd[i], _mm512_mul_ps(_mm512_set1_ps(center[BLOCK + i]), z[d + 1]));
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            if (d < dim)
                sum[i] = _mm512_add_ps(sum[i], _mm512_mul_ps(_mm512_set1_ps(center[i]), z[d]));
            near[c + (size_t)i] = _mm512_add_ps(sum[i], odd[i]);
        }
    }
}

/* Take the highest of each latent's scores out of them, the first of several; return where they
 * were. Four chains of comparisons, because each waits for the one before. */
VNNI_INLINE __m512i take_highest(__m512 *near, size_t clusters) {
    const size_t quarter = clusters / 4;
    __m512 most[4];
    __m512i where[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        most[i] = near[(size_t)i * quarter];
        where[i] = _mm512_set1_epi32(i * (int)quarter);
    }
    for (size_t c = 1; c < quarter; c++) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const size_t at = (size_t)i * quarter + c;
            const __mmask16 more = _mm512_cmp_ps_mask(near[at], most[i], _CMP_GT_OQ);
            most[i] = _mm512_mask_mov_ps(most[i], more, near[at]);
            where[i] = _mm512_mask_set1_epi32(where[i], more, (int)at);
        }
    }
    for (int i = 1; i < 4; i++) {
        const __mmask16 more = _mm512_cmp_ps_mask(most[i], most[0], _CMP_GT_OQ);
        most[0] = _mm512_mask_mov_ps(most[0], more, most[i]);
        where[0] = _mm512_mask_mov_epi32(where[0], more, where[i]);
    }
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i places = _mm512_add_epi32(_mm512_slli_epi32(where[0], 4), lanes);
    _mm512_i32scatter_ps(near, places, _mm512_set1_ps(-3e38f), 4); /* not again */
    return where[0];
}

typedef struct {
    __m512i score, token; /* of each of 16 lanes */
} leader;

VNNI_INLINE void score_codes(leader *best, const int8_t *codes, const int32_t *offsets,
                             const int32_t *z, size_t groups, int first) {
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (size_t g = 0; g < groups; g++)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(z[g]),
                                  _mm512_loadu_si512(codes + g * 4 * BLOCK));
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i token = _mm512_add_epi32(_mm512_set1_epi32(first), lanes);
    const __m512i score =
        _mm512_add_epi32(_mm512_add_epi32(sum, sum), _mm512_loadu_si512(offsets));
    const __mmask16 better =
        _mm512_cmpgt_epi32_mask(score, best->score) |
        _mm512_mask_cmplt_epi32_mask(_mm512_cmpeq_epi32_mask(score, best->score), token,
                                     best->token); /* ties: lowest index */
    best->score = _mm512_mask_mov_epi32(best->score, better, score);
    best->token = _mm512_mask_mov_epi32(best->token, better, token);
}

/* The best of one latent's codes in `probes` clusters. */
VNNI_INLINE uint16_t search_codes(const codebook *book, const int8_t *codes,
                                  const int32_t *code_offsets, const int8_t *latent,
                                  const int32_t *clusters, const size_t groups) {
    const size_t dim = book->dim;
    uint8_t shifted[MAX_DIM] = {0};
    int32_t z[MAX_DIM / 4];
    for (size_t d = 0; d < dim; d++) shifted[d] = (uint8_t)(latent[d] + 128);
    memcpy(z, shifted, 4 * groups);
    leader best = {_mm512_set1_epi32(INT32_MIN), _mm512_set1_epi32(INT32_MAX)};
    for (size_t probe = 0; probe < book->probes; probe++) {
        const size_t first = (size_t)clusters[probe * BLOCK] * book->leaves;
        for (size_t b = first; b < first + book->leaves; b += BLOCK)
            score_codes(&best, codes + b * 4 * groups, code_offsets + b, z, groups, (int)b);
    }
    const __m512i highest = _mm512_set1_epi32(_mm512_reduce_max_epi32(best.score));
    const __mmask16 equal = _mm512_cmpeq_epi32_mask(best.score, highest);
    return (uint16_t)_mm512_mask_reduce_min_epi32(equal, best.token);
}

VNNI static void search_all_vnni(const codebook *book, const int8_t *codes,
                                 const int32_t *code_offsets, const int8_t *latents, size_t n,
                                 uint16_t *tokens) {
    __m512 z[MAX_DIM], near[MAX_CLUSTERS];
    int32_t clusters[MAX_CLUSTERS * BLOCK] __attribute__((aligned(64)));
    const size_t dim = book->dim;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        for (size_t d = 0; d < dim; d++) {
            float lanes[BLOCK] = {0};
            for (size_t j = 0; j < count; j++) lanes[j] = latents[(i + j) * dim + d];
            z[d] = _mm512_loadu_ps(lanes);
        }
        score_centers(book, z, near);
        for (size_t probe = 0; probe < book->probes; probe++)
            _mm512_store_si512(clusters + probe * BLOCK, take_highest(near, book->clusters));
        for (size_t j = 0; j < count; j++) {
            const int8_t *latent = latents + (i + j) * dim;
            /* The zoo's size as a constant: the loop over groups is gone, a latent in registers. */
            tokens[i + j] =
                dim == 32 ? search_codes(book, codes, code_offsets, latent, clusters + j, 8)
                          : search_codes(book, codes, code_offsets, latent, clusters + j,
                                         (dim + 3) / 4);
        }
    }
}
#else
static int has_vnni(void) { return 0; }

static void search_all_vnni(const codebook *book, const int8_t *codes, const int32_t *code_offsets,
                            const int8_t *latents, size_t n, uint16_t *tokens) {
    (void)book, (void)codes, (void)code_offsets, (void)latents, (void)n, (void)tokens;
}
#endif

/* `code_size`: bytes of a code's numbers. */
static int is_sound(const codebook *book, const Py_buffer *b, size_t code_size) {
    const size_t code_bytes = 4 * book->clusters * book->leaves, dim = book->dim;
    return dim >= 1 && dim <= MAX_DIM && book->clusters >= BLOCK &&
           book->clusters <= MAX_CLUSTERS && book->clusters % BLOCK == 0 && book->leaves >= BLOCK &&
           book->leaves % BLOCK == 0 && book->clusters * book->leaves <= 65536 &&
           book->probes >= 1 && book->probes <= book->clusters &&
           (size_t)b[1].len == 4 * book->clusters * dim && (size_t)b[3].len == book->clusters * book->leaves * code_size &&
           (size_t)b[4].len == code_bytes && (size_t)b[0].len % dim == 0 &&
           (size_t)b[5].len == 2 * ((size_t)b[0].len / dim);
}

static PyObject *search_buffers(PyObject *args, int vnni) {
    Py_buffer b[6];
    Py_ssize_t dim, probes;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*nnw*", &b[0], &b[1], &b[2], &b[3], &b[4], &dim, &probes,
                          &b[5]))
        return NULL;
    const size_t clusters = (size_t)b[2].len / 4;
    const codebook book = {b[1].buf, b[2].buf, b[3].buf, b[4].buf, clusters,
                           clusters ? (size_t)b[4].len / 4 / clusters : 0, (size_t)dim,
                           (size_t)probes};
    const size_t code_size = vnni ? (book.dim + 3) / 4 * 4 : 4 * book.dim;
    const int sound = dim > 0 && dim <= MAX_DIM && probes > 0 && is_sound(&book, b, code_size);
    if (sound) {
        const size_t n = (size_t)b[0].len / book.dim;
        Py_BEGIN_ALLOW_THREADS
        if (vnni)
            search_all_vnni(&book, b[3].buf, b[4].buf, b[0].buf, n, b[5].buf);
        else
            search_all(&book, b[0].buf, n, b[5].buf);
        Py_END_ALLOW_THREADS
    }
    for (int i = 0; i < 6; i++) PyBuffer_Release(&b[i]);
    if (!sound) return PyErr_Format(PyExc_ValueError, "arrays do not fit each other");
    Py_RETURN_NONE;
}

static PyObject *py_nearest(PyObject *self, PyObject *args) {
    (void)self;
    return search_buffers(args, 0);
}

static PyObject *py_nearest_vnni(PyObject *self, PyObject *args) {
    (void)self;
    if (has_vnni()) return search_buffers(args, 1);
    return PyErr_Format(PyExc_ValueError, "the processor has no AVX-512 VNNI");
}

static PyObject *py_has_vnni(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return PyBool_FromLong(has_vnni());
}

static PyMethodDef METHODS[] = {
    {"nearest", py_nearest, METH_VARARGS, "nearest code of each latent; see the file's head"},
    {"nearest_vnni", py_nearest_vnni, METH_VARARGS, "the same with AVX-512 VNNI"},
    {"has_vnni", py_has_vnni, METH_NOARGS, "whether the processor has AVX-512 VNNI"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_lookup", "Nearest code of a clustered codebook.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lookup(void) { return PyModule_Create(&MODULE); }
