/* One frame of the residual layer: padded planes, prediction, contexts.
 *
 * Shared by encoder and decoder, so that both compute the same integers. All arithmetic that touches
 * the bits is on int64 and wraps nowhere: coefficients have 16 bits, samples 32, taps are 33.
 */
#ifndef EDGE_CODEC_RESIDUAL_FRAME_H
#define EDGE_CODEC_RESIDUAL_FRAME_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rans.h"

#if defined(__GNUC__) && defined(__x86_64__) && !defined(__clang__)
#define WIDE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define WIDE_CLONES
#endif

#define PAD 2            /* taps reach two voxels far */
#define MAX_TAPS 33
#define COEFFICIENT_BITS 12
#define MAX_WEIGHT 32767 /* of all coefficients' magnitudes together */
#define CONTEXTS 48
#define ENERGY_BITS 4    /* fraction bits of a mean error */

typedef struct {
    int8_t plane, dy, dx;
} tap;

enum { CURRENT, PREVIOUS, BEFORE, BASE, PLANES };

/* The first tap of a list is the reference: its coefficient is one minus the sum of the others. */
static const tap CAUSAL_TAPS[] = {{CURRENT, 0, -1}, {CURRENT, -1, 0}, {CURRENT, -1, -1},
                                  {CURRENT, -1, 1}, {CURRENT, 0, -2}, {CURRENT, -2, 0},
                                  {CURRENT, -1, -2}, {CURRENT, -1, 2}, {CURRENT, -2, -1},
                                  {CURRENT, -2, 1}};
static const tap PREVIOUS_TAPS[] = {{PREVIOUS, 0, 0}, {PREVIOUS, 0, 1}, {PREVIOUS, 1, 0},
                                    {PREVIOUS, 0, -1}, {PREVIOUS, -1, 0}, {PREVIOUS, 1, 1},
                                    {PREVIOUS, 1, -1}, {PREVIOUS, -1, 1}, {PREVIOUS, -1, -1},
                                    {PREVIOUS, 0, 2}, {PREVIOUS, 2, 0}, {PREVIOUS, 0, -2},
                                    {PREVIOUS, -2, 0}};
static const tap BEFORE_TAPS[] = {{BEFORE, 0, 0}, {BEFORE, 0, 1}, {BEFORE, 1, 0},
                                  {BEFORE, 0, -1}, {BEFORE, -1, 0}};
static const tap BASE_TAPS[] = {{BASE, 0, 0}, {BASE, 0, 1}, {BASE, 1, 0}, {BASE, 0, -1},
                                {BASE, -1, 0}};

typedef struct {
    size_t rows, columns, stride; /* stride of a padded plane */
    uint32_t span;
    uint32_t bound;
    int with_base;
    int history;             /* decoded frames since the key frame, at most 2 */
    uint32_t *plane[PLANES]; /* (rows + 2 PAD) x stride */
    uint32_t *error, *error_before; /* magnitude of the coded differences, padded alike */
    adaptive_cdf context[CONTEXTS];
    adaptive_cdf escape, coefficient;
    int32_t coefficients[MAX_TAPS];
    int n_taps;
    int64_t *row_sum;        /* of a row: prediction and energy without what lies left of a voxel */
    int32_t *row_sum_narrow; /* the same where samples have 16 bits */
    uint32_t *row_energy;
} residual_state;

static size_t at(const residual_state *s, size_t row, size_t column) {
    return (row + PAD) * s->stride + column + PAD;
}

static int list_taps(const residual_state *s, tap taps[MAX_TAPS]) {
    int n = 0;
#define APPEND(list)                             \
    memcpy(taps + n, list, sizeof list);         \
    n += (int)(sizeof list / sizeof *list)
    if (s->history >= 1) { APPEND(PREVIOUS_TAPS); }
    APPEND(CAUSAL_TAPS);
    if (s->history >= 2) { APPEND(BEFORE_TAPS); }
    if (s->with_base) { APPEND(BASE_TAPS); }
#undef APPEND
    return n;
}

static void start_group(residual_state *s) {
    const size_t size = (s->rows + 2 * PAD) * s->stride * sizeof(uint32_t);
    s->history = 0;
    s->n_taps = 0;
    memset(s->error, 0, size);
    memset(s->error_before, 0, size);
    for (int i = 0; i < CONTEXTS; i++) adaptive_init(&s->context[i], 16);
    adaptive_init(&s->escape, 16);
    adaptive_init(&s->coefficient, 16);
}

/* Repeats the edge of a whole plane into its padding. */
static void pad_plane(const residual_state *s, uint32_t *plane) {
    for (size_t row = 0; row < s->rows; row++) {
        uint32_t *line = plane + at(s, row, 0);
        line[-1] = line[-2] = line[0];
        line[s->columns] = line[s->columns + 1] = line[s->columns - 1];
    }
    const uint32_t *first = plane + PAD * s->stride;
    const uint32_t *last = first + (s->rows - 1) * s->stride;
    for (int i = 0; i < PAD; i++) {
        memcpy(plane + i * s->stride, first, s->stride * sizeof *plane);
        memcpy(plane + (s->rows + PAD + i) * s->stride, last, s->stride * sizeof *plane);
    }
}

static void load_plane(const residual_state *s, uint32_t *plane, const uint32_t *frame) {
    for (size_t row = 0; row < s->rows; row++)
        memcpy(plane + at(s, row, 0), frame + row * s->columns, s->columns * sizeof *frame);
    pad_plane(s, plane);
}

/* The padding of the frame in work: above it the previous frame's first row or zero, left of a row
 * the voxel above its first one, right of a finished row its last voxel. */
static void open_frame(residual_state *s) {
    uint32_t *current = s->plane[CURRENT];
    for (int i = 0; i < PAD; i++) {
        uint32_t *line = current + i * s->stride;
        if (s->history)
            memcpy(line, s->plane[PREVIOUS] + PAD * s->stride, s->stride * sizeof *line);
        else
            memset(line, 0, s->stride * sizeof *line);
    }
}

static void close_row(residual_state *s, size_t row) {
    uint32_t *line = s->plane[CURRENT] + at(s, row, 0);
    line[s->columns] = line[s->columns + 1] = line[s->columns - 1];
}

/* The decoded frame becomes the previous one; nothing is copied. */
static void close_frame(residual_state *s) {
    uint32_t *oldest = s->plane[BEFORE];
    pad_plane(s, s->plane[CURRENT]);
    s->plane[BEFORE] = s->plane[PREVIOUS];
    s->plane[PREVIOUS] = s->plane[CURRENT];
    s->plane[CURRENT] = oldest;
    uint32_t *error = s->error_before;
    s->error_before = s->error;
    s->error = error;
    if (s->history < 2) s->history++;
}

/* Whether sums of products fit 32 bits: weights sum to at most 2^15 - 1, see get_coefficients. */
RANS_INLINE int is_narrow(const residual_state *s) { return s->span <= 0xFFFF; }

WIDE_CLONES static void add_tap_narrow(int32_t *sum, const uint32_t *x, int32_t weight, size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * (int32_t)x[i];
}

static void add_tap(int64_t *sum, const uint32_t *x, int64_t weight, size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * (int64_t)x[i];
}

WIDE_CLONES static void sum_energy(uint32_t *sum, const uint32_t *error, const uint32_t *before,
                                   size_t stride, size_t n) {
    const uint32_t *up = error - stride, *above = before - stride, *below = before + stride;
    for (size_t i = 0; i < n; i++)
        sum[i] = 3 * up[i] + 2 * (up[i - 1] + up[i + 1]) + error[i - 2 * stride] + 2 * before[i] +
                 before[i + 1] + before[i - 1] + above[i] + below[i];
}

/* What the two voxels to the left add to the prediction of a row's voxels. */
typedef struct {
    int64_t west, west_west;
} serial_weights;

/* Prepares a row: all taps but those of the row itself, many voxels at a time. */
static serial_weights open_row(residual_state *s, size_t row, const tap *taps) {
    serial_weights serial = {0, 0};
    uint32_t *line = s->plane[CURRENT] + at(s, row, 0);
    line[-1] = line[-2] = line[-(ptrdiff_t)s->stride];
    const int64_t half = (int64_t)1 << (COEFFICIENT_BITS - 1);
    for (size_t i = 0; i < s->columns; i++) {
        if (is_narrow(s))
            s->row_sum_narrow[i] = (int32_t)half;
        else
            s->row_sum[i] = half;
    }
    for (int i = 0; i < s->n_taps; i++) {
        const int32_t weight = s->coefficients[i];
        const uint32_t *x =
            s->plane[taps[i].plane] + at(s, row, 0) + taps[i].dy * (ptrdiff_t)s->stride + taps[i].dx;
        if (taps[i].plane == CURRENT && taps[i].dy == 0) {
            if (taps[i].dx == -1) serial.west = weight;
            else serial.west_west = weight;
        } else if (is_narrow(s)) {
            add_tap_narrow(s->row_sum_narrow, x, weight, s->columns);
        } else {
            add_tap(s->row_sum, x, weight, s->columns);
        }
    }
    sum_energy(s->row_energy, s->error + at(s, row, 0), s->error_before + at(s, row, 0), s->stride,
               s->columns);
    return serial;
}

RANS_INLINE int64_t predict(const residual_state *s, serial_weights serial, size_t column,
                            size_t place) {
    const uint32_t *x = s->plane[CURRENT] + place;
    int64_t sum = is_narrow(s) ? s->row_sum_narrow[column] : s->row_sum[column];
    sum += serial.west * (int64_t)x[-1] + serial.west_west * (int64_t)x[-2];
    sum >>= COEFFICIENT_BITS; /* arithmetic: floor */
    return sum < 0 ? 0 : sum > (int64_t)s->span ? (int64_t)s->span : sum;
}

/* Mean magnitude of the coded differences around a voxel, in units of 2^-ENERGY_BITS: weights sum
 * to 18, which is as good as 16 here. A key frame has no frame before it and counts its own more. */
RANS_INLINE uint32_t energy(const residual_state *s, size_t column, size_t place) {
    const uint32_t *e = s->error + place;
    const uint32_t sum = s->row_energy[column] + 3 * e[-1] + e[-2];
    return (s->history ? sum : sum + (sum >> 1)) >> 4;
}

/* Four classes an octave, from the position of the leading bit and the two below it. */
RANS_INLINE unsigned context_of(uint32_t value, unsigned *shift) {
    const uint32_t v = value + 4;
    const unsigned octave = 31u - (unsigned)__builtin_clz(v);
    const unsigned index = (octave - 2) * 4 + ((v >> (octave - 2)) & 3u);
    *shift = octave > ENERGY_BITS ? octave - ENERGY_BITS : 0;
    return index < CONTEXTS ? index : CONTEXTS - 1;
}

#endif
