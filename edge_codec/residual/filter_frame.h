/* A frame predicted by one filter that is sent with it: padded planes, prediction, contexts.
 *
 * Shared by encoder and decoder, so that both compute the same integers. All arithmetic that touches
 * the bits is on int64 and wraps nowhere: coefficients have 16 bits, samples 32, taps are few.
 * Contexts do not look left, so that a row of symbols can be coded apart from its prediction.
 */
#ifndef EDGE_CODEC_FILTER_FRAME_H
#define EDGE_CODEC_FILTER_FRAME_H

#include "symbols.h"

#define PAD 2 /* taps reach two voxels far */
#define MAX_TAPS 17
#define COEFFICIENT_BITS 12
#define MAX_WEIGHT 32767 /* of all coefficients' magnitudes together */

typedef struct {
    int8_t plane, dy, dx;
} tap;

enum { CURRENT, PREVIOUS, BEFORE, BASE, PLANES };

/* The first tap of a list is the reference: its coefficient is one minus the sum of the others. */
static const tap CAUSAL_TAPS[] = {{CURRENT, 0, -1}, {CURRENT, -1, 0}, {CURRENT, -1, -1},
                                  {CURRENT, -1, 1}, {CURRENT, 0, -2}, {CURRENT, -2, 0}};
static const tap PREVIOUS_TAPS[] = {
    {PREVIOUS, 0, 0}, {PREVIOUS, 0, 1}, {PREVIOUS, 1, 0}, {PREVIOUS, 0, -1}, {PREVIOUS, -1, 0}};
static const tap BEFORE_TAPS[] = {{BEFORE, 0, 0}};
static const tap BASE_TAPS[] = {
    {BASE, 0, 0}, {BASE, 0, 1}, {BASE, 1, 0}, {BASE, 0, -1}, {BASE, -1, 0}};

typedef struct {
    size_t rows, columns, stride; /* stride of a padded plane */
    uint32_t span;
    int with_base;
    int history;                    /* decoded frames since the key frame, at most 2 */
    uint32_t *plane[PLANES];        /* (rows + 2 PAD) x stride */
    uint32_t *error, *error_before; /* magnitude of the coded differences, padded alike */
    adaptive_cdf context[CONTEXTS];
    adaptive_cdf escape, coefficient;
    int32_t coefficients[MAX_TAPS];
    int n_taps;
    int64_t *row_sum;        /* of a row: predictions without what lies left of a voxel */
    int32_t *row_sum_narrow; /* the same where samples have 16 bits */
    uint32_t *row_energy;
    int64_t *row_level;
} filter_state;

static void filter_free(filter_state *s) {
    for (int i = 0; i < PLANES; i++) free(s->plane[i]);
    free(s->error);
    free(s->error_before);
    free(s->row_sum);
    free(s->row_sum_narrow);
    free(s->row_energy);
    free(s->row_level);
}

static int filter_new(filter_state *s, size_t rows, size_t columns, uint32_t span, int with_base) {
    s->rows = rows;
    s->columns = columns;
    s->stride = columns + 2 * PAD;
    s->span = span;
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
    complete &= (s->row_level = calloc(columns, sizeof *s->row_level)) != NULL;
    return complete;
}

static void clear_filter_errors(filter_state *s) {
    memset(s->error, 0, (s->rows + 2 * PAD) * s->stride * sizeof *s->error);
}

static size_t at(const filter_state *s, size_t row, size_t column) {
    return (row + PAD) * s->stride + column + PAD;
}

static int list_taps(const filter_state *s, tap taps[MAX_TAPS]) {
    int n = 0;
#define APPEND(list)                     \
    memcpy(taps + n, list, sizeof list); \
    n += (int)(sizeof list / sizeof *list)
    if (s->history >= 1) {
        APPEND(PREVIOUS_TAPS);
    }
    APPEND(CAUSAL_TAPS);
    if (s->history >= 2) {
        APPEND(BEFORE_TAPS);
    }
    if (s->with_base) {
        APPEND(BASE_TAPS);
    }
#undef APPEND
    return n;
}

static void start_filter(filter_state *s) {
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
static void pad_plane(const filter_state *s, uint32_t *plane) {
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

static void load_plane(const filter_state *s, uint32_t *plane, const uint32_t *frame) {
    for (size_t row = 0; row < s->rows; row++)
        memcpy(plane + at(s, row, 0), frame + row * s->columns, s->columns * sizeof *frame);
    pad_plane(s, plane);
}

/* The padding of the frame in work: above it the previous frame's first row or zero, left of a row
 * the voxel above its first one, right of a finished row its last voxel. */
static void open_frame(filter_state *s) {
    uint32_t *current = s->plane[CURRENT];
    for (int i = 0; i < PAD; i++) {
        uint32_t *line = current + i * s->stride;
        if (s->history)
            memcpy(line, s->plane[PREVIOUS] + PAD * s->stride, s->stride * sizeof *line);
        else memset(line, 0, s->stride * sizeof *line);
    }
}

static void close_row(filter_state *s, size_t row) {
    uint32_t *line = s->plane[CURRENT] + at(s, row, 0);
    line[s->columns] = line[s->columns + 1] = line[s->columns - 1];
}

/* The decoded frame becomes the previous one; nothing is copied. */
static void close_frame(filter_state *s) {
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
RANS_INLINE int is_narrow(const filter_state *s) { return s->span <= 0xFFFF; }

static void add_tap_narrow(int32_t *sum, const uint32_t *x, int32_t weight, size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * (int32_t)x[i];
}

static void add_tap(int64_t *sum, const uint32_t *x, int64_t weight, size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * (int64_t)x[i];
}

/* Mean magnitude of the coded differences around a voxel, in units of 2^-ENERGY_BITS: weights sum
 * to 14, and an eighth is added to make 16. A key frame has its own ones only, which sum to 8. */
static void find_energy(uint32_t *energy, const uint32_t *error, const uint32_t *before,
                        size_t stride, size_t n, int key) {
    const uint32_t *up = error - stride, *above = before - stride, *below = before + stride;
    for (size_t i = 0; i < n; i++) {
        const uint32_t own = 3 * up[i] + 2 * (up[i - 1] + up[i + 1]) + error[i - 2 * stride];
        const uint32_t sum =
            own + 2 * before[i] + before[i + 1] + before[i - 1] + above[i] + below[i];
        energy[i] = (key ? own + own : sum + (sum >> 3)) >> 4;
    }
}

/* Weights of the two voxels to the left, which a row's other sums do not hold. */
typedef struct {
    int64_t west, west_west;
} serial_weights;

/* Prepares a row: all taps but those of the row itself, many voxels at a time. */
static serial_weights open_row(filter_state *s, size_t row, const tap *taps) {
    const int32_t half = 1 << (COEFFICIENT_BITS - 1);
    const int narrow = is_narrow(s);
    serial_weights serial = {0, 0};
    uint32_t *line = s->plane[CURRENT] + at(s, row, 0);
    line[-1] = line[-2] = line[-(ptrdiff_t)s->stride];
    for (size_t i = 0; narrow && i < s->columns; i++) s->row_sum_narrow[i] = half;
    for (size_t i = 0; !narrow && i < s->columns; i++) s->row_sum[i] = half;
    for (int i = 0; i < s->n_taps; i++) {
        const int32_t weight = s->coefficients[i];
        const uint32_t *x = s->plane[taps[i].plane] + at(s, row, 0) +
                            taps[i].dy * (ptrdiff_t)s->stride + taps[i].dx;
        if (taps[i].plane == CURRENT && taps[i].dy == 0) {
            if (taps[i].dx == -1) serial.west = weight;
            else serial.west_west = weight;
        } else if (narrow) {
            add_tap_narrow(s->row_sum_narrow, x, weight, s->columns);
        } else {
            add_tap(s->row_sum, x, weight, s->columns);
        }
    }
    find_energy(s->row_energy, s->error + at(s, row, 0), s->error_before + at(s, row, 0), s->stride,
                s->columns, s->history == 0);
    return serial;
}

#endif
