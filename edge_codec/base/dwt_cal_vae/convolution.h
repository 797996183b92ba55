/* Convolutions in integers: 16-bit activations and weights, sums of 32 bits, one shift per channel.
 *
 * Images have channels last. The exporter proves, and the loader checks, that no sum of magnitudes of
 * products reaches 2^31, so that the order of additions does not matter and every build gives the
 * same bits. After the shift a result may have another image added to it, and saturates to 16 bits.
 */
#ifndef EDGE_CODEC_VAE_CONVOLUTION_H
#define EDGE_CODEC_VAE_CONVOLUTION_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
typedef __m256i vector;
#define LANES 8
#define GROUP 6 /* positions at a time: with BLOCK outputs each, sums fill 12 of 16 registers */
#define NOTHING _mm256_setzero_si256()
#define LOAD(from) _mm256_loadu_si256((const vector *)(from))
#define STORE(to, x) _mm256_storeu_si256((vector *)(to), x)
#define REPEAT(x) _mm256_set1_epi32(x)
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define ADD_PRODUCTS(sum, x, y) _mm256_dpwssd_epi32(sum, x, y)
#else
#define ADD_PRODUCTS(sum, x, y) _mm256_add_epi32(sum, _mm256_madd_epi16(x, y))
#endif
#elif defined(__SSE2__)
#include <emmintrin.h>
typedef __m128i vector;
#define LANES 4
#define GROUP 2
#define NOTHING _mm_setzero_si128()
#define LOAD(from) _mm_loadu_si128((const vector *)(from))
#define STORE(to, x) _mm_storeu_si128((vector *)(to), x)
#define REPEAT(x) _mm_set1_epi32(x)
#define ADD_PRODUCTS(sum, x, y) _mm_add_epi32(sum, _mm_madd_epi16(x, y))
#else
#define GROUP 4
#endif

#define BLOCK 16 /* outputs at a time */
#define TILE 48  /* positions whose inputs stay in the nearest cache while weights pass */
#define MOST_CHANNELS 4096
#define MOST_TAPS 9

typedef struct {
    int inputs, outputs; /* inputs: even */
    int kernel, stride;
    int is_depthwise, is_rectified;
    int16_t *weights; /* blocks of outputs, then taps, then pairs of inputs, then the outputs' pairs */
    int32_t *shift;
} layer;

typedef struct {
    const int16_t *source;
    int rows, columns; /* of the result */
    int row_step;      /* elements from one row of the source to the next */
    const int32_t *bias;
    const int16_t *addend; /* same shape as the result, or NULL */
    int16_t *result;
} layer_call;

static void layer_free(layer *l) {
    if (!l) return;
    free(l->weights);
    free(l->shift);
    free(l);
}

static size_t packed_size(const layer *l) {
    const size_t taps = (size_t)l->kernel * l->kernel;
    if (l->is_depthwise) return taps * l->outputs;
    return taps * l->inputs * ((l->outputs + BLOCK - 1) / BLOCK * BLOCK);
}

/* Arrange weights (output, row, column, input), or (output, row, column) for depthwise ones. */
static void pack_weights(layer *l, const int16_t *weights) {
    const int taps = l->kernel * l->kernel, depth = l->is_depthwise ? 1 : l->inputs;
    memset(l->weights, 0, packed_size(l) * sizeof *l->weights);
    for (int o = 0; o < l->outputs; o++)
        for (int tap = 0; tap < taps; tap++)
            for (int i = 0; i < depth; i++) {
                const int16_t w = weights[((size_t)o * taps + tap) * depth + i];
                if (l->is_depthwise) {
                    l->weights[(size_t)tap * l->outputs + o] = w;
                    continue;
                }
                const size_t block = (size_t)(o / BLOCK) * taps * depth;
                const size_t pair = block + (size_t)tap * depth + (i & ~1);
                l->weights[pair * BLOCK + 2 * (o % BLOCK) + (i & 1)] = w;
            }
}

/* Sums of one block of outputs at GROUP positions. */
static void sum_group(const layer *l, const int16_t *const at[GROUP], const int *offsets,
                      const int16_t *weights, int32_t sums[GROUP][BLOCK]) {
    const int taps = l->kernel * l->kernel;
#if defined(LANES)
    /* Loops of constant length are unrolled, and `total` then lives in registers. */
    vector total[GROUP][BLOCK / LANES];
#pragma GCC unroll 6
    for (int g = 0; g < GROUP; g++)
#pragma GCC unroll 4
        for (int v = 0; v < BLOCK / LANES; v++) total[g][v] = NOTHING;
    for (int tap = 0; tap < taps; tap++)
        for (int i = 0; i < l->inputs; i += 2, weights += 2 * BLOCK) {
            vector part[BLOCK / LANES];
#pragma GCC unroll 4
            for (int v = 0; v < BLOCK / LANES; v++) part[v] = LOAD(weights + 2 * LANES * v);
#pragma GCC unroll 6
            for (int g = 0; g < GROUP; g++) {
                int32_t pair;
                memcpy(&pair, at[g] + offsets[tap] + i, sizeof pair);
                const vector both = REPEAT(pair);
#pragma GCC unroll 4
                for (int v = 0; v < BLOCK / LANES; v++)
                    total[g][v] = ADD_PRODUCTS(total[g][v], both, part[v]);
            }
        }
#pragma GCC unroll 6
    for (int g = 0; g < GROUP; g++)
#pragma GCC unroll 4
        for (int v = 0; v < BLOCK / LANES; v++) STORE(sums[g] + LANES * v, total[g][v]);
#else
    memset(sums, 0, GROUP * sizeof *sums);
    for (int tap = 0; tap < taps; tap++)
        for (int i = 0; i < l->inputs; i += 2, weights += 2 * BLOCK)
            for (int g = 0; g < GROUP; g++) {
                const int32_t a = at[g][offsets[tap] + i], b = at[g][offsets[tap] + i + 1];
                for (int o = 0; o < BLOCK; o++)
                    sums[g][o] += a * weights[2 * o] + b * weights[2 * o + 1];
            }
#endif
}

static inline int16_t saturate(int32_t value, int32_t least) {
    value = value < least ? least : value;
    return (int16_t)(value > 32767 ? 32767 : value);
}

/* Turn `count` sums, outputs `first` and on, of position `place` into results. */
static inline void store_sums(const layer *l, const layer_call *c, const int32_t *sums, int first,
                              int count, size_t place) {
    const int32_t least = l->is_rectified ? 0 : -32768;
    const size_t start = place * l->outputs + first;
    const int32_t *const bias = c->bias + first, *const shift = l->shift + first;
    int16_t *const to = c->result + start;
    if (c->addend) {
        const int16_t *const more = c->addend + start;
        for (int o = 0; o < count; o++)
            to[o] = saturate(((sums[o] + bias[o]) >> shift[o]) + more[o], least);
    } else {
        for (int o = 0; o < count; o++) to[o] = saturate((sums[o] + bias[o]) >> shift[o], least);
    }
}

static void run_full(const layer *l, const layer_call *c) {
    const size_t places = (size_t)c->rows * c->columns;
    const int step = l->stride * l->inputs;
    int offsets[MOST_TAPS];
    for (int tap = 0; tap < l->kernel * l->kernel; tap++)
        offsets[tap] = tap / l->kernel * c->row_step + tap % l->kernel * l->inputs;
    for (size_t tile = 0; tile < places; tile += TILE) {
        const size_t end = tile + TILE < places ? tile + TILE : places;
        const int16_t *weights = l->weights;
        for (int first = 0; first < l->outputs; first += BLOCK) {
            const int count = l->outputs - first < BLOCK ? l->outputs - first : BLOCK;
            for (size_t place = tile; place < end; place += GROUP) {
                const int16_t *at[GROUP];
                int32_t sums[GROUP][BLOCK];
                for (int g = 0; g < GROUP; g++) { /* past the end: the last one again */
                    const size_t p = place + g < end ? place + g : end - 1;
                    const size_t row = p / c->columns, column = p % c->columns;
                    at[g] = c->source + row * l->stride * c->row_step + column * step;
                }
                sum_group(l, at, offsets, weights, sums);
                for (int g = 0; g < GROUP && place + g < end; g++)
                    store_sums(l, c, sums[g], first, count, place + g);
            }
            weights += (size_t)l->kernel * l->kernel * l->inputs * BLOCK;
        }
    }
}

/* Each channel by itself. */
static void run_depthwise(const layer *l, const layer_call *c) {
    int32_t sums[MOST_CHANNELS];
    const int n = l->outputs, step = l->stride * n;
    for (int row = 0; row < c->rows; row++)
        for (int column = 0; column < c->columns; column++) {
            const int16_t *const at =
                c->source + (size_t)row * l->stride * c->row_step + column * step;
            memset(sums, 0, n * sizeof *sums);
            for (int tap = 0; tap < l->kernel * l->kernel; tap++) {
                const int16_t *const x = at + tap / l->kernel * c->row_step + tap % l->kernel * n;
                const int16_t *const w = l->weights + (size_t)tap * n;
                for (int o = 0; o < n; o++) sums[o] += (int32_t)x[o] * w[o];
            }
            store_sums(l, c, sums, 0, n, (size_t)row * c->columns + column);
        }
}

/* Copy an image into one with a border of zeros, half a kernel wide. NULL without memory. */
static int16_t *with_border(const layer *l, const int16_t *image, int rows, int columns) {
    const size_t margin = l->kernel / 2, row = (size_t)columns * l->inputs;
    const size_t wide = row + 2 * margin * l->inputs;
    int16_t *const padded = calloc(((size_t)rows + 2 * margin) * wide, sizeof *padded);
    if (!padded) return NULL;
    for (int i = 0; i < rows; i++)
        memcpy(padded + (i + margin) * wide + margin * l->inputs, image + i * row,
               row * sizeof *image);
    return padded;
}

/* Apply to an image (rows, columns, inputs). Returns 0 without memory. */
static int run_layer(const layer *l, layer_call *c, const int16_t *image, int rows, int columns) {
    const int margin = l->kernel / 2;
    int16_t *const padded = margin ? with_border(l, image, rows, columns) : NULL;
    if (margin && !padded) return 0;
    c->source = padded ? padded : image;
    c->row_step = (columns + 2 * margin) * l->inputs;
    c->rows = (rows + l->stride - 1) / l->stride;
    c->columns = (columns + l->stride - 1) / l->stride;
    if (l->is_depthwise) run_depthwise(l, c);
    else run_full(l, c);
    free(padded);
    return 1;
}

#endif
