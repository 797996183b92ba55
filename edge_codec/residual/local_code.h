/* A frame of the local filters as symbols, and back: one loop for both directions. */
#ifndef EDGE_CODEC_LOCAL_CODE_H
#define EDGE_CODEC_LOCAL_CODE_H

#include <stddef.h>

#include "mixing.h"

#define MOST_DECISIONS 128 /* of a voxel */

/* What adapts from voxel to voxel; no pointers, so that a copy takes it back. */
typedef struct {
    adaptive_cdf context[CONTEXTS];
    adaptive_cdf escape;
    mixing_models mixing; /* only there for the effort that uses it */
} local_models;

typedef struct {
    local_state frame;
    uint32_t *error[MAX_FILTERS + 1]; /* magnitudes, of each filter and, last, of their mean */
    uint32_t *error_before[MAX_FILTERS + 1];
    uint32_t *row_error[MAX_FILTERS + 1];
    uint32_t *column_error, *wide_error; /* of a row: of the mean in columns and in wide windows */
    local_models *models, *models_before;
} local_coder;

static size_t models_size(const local_coder *c) {
    return c->frame.effort == BEST ? sizeof(local_models) : offsetof(local_models, mixing);
}

static size_t error_size(const local_coder *c) {
    return ((c->frame.rows + 2 * REACH) * c->frame.stride + 64) * sizeof(uint32_t);
}

static void coder_free(local_coder *c) {
    local_free(&c->frame);
    for (int k = 0; k <= MAX_FILTERS; k++) {
        free(c->error[k]);
        free(c->error_before[k]);
        free(c->row_error[k]);
    }
    free(c->column_error);
    free(c->wide_error);
    free(c->models);
    free(c->models_before);
}

static int coder_new(local_coder *c, size_t rows, size_t columns, uint32_t span, int with_base,
                     int effort) {
    int complete = local_new(&c->frame, rows, columns, span, with_base, effort);
    for (int k = 0; complete && k <= c->frame.n_filters; k++) {
        complete &= (c->error[k] = calloc(1, error_size(c))) != NULL;
        complete &= (c->error_before[k] = calloc(1, error_size(c))) != NULL;
        complete &= (c->row_error[k] = calloc(columns, sizeof(uint32_t))) != NULL;
    }
    complete = complete && (c->column_error = calloc(columns + 2 * REACH, 4)) != NULL;
    complete = complete && (c->wide_error = calloc(columns, 4)) != NULL;
    complete = complete && (c->models = malloc(models_size(c))) != NULL;
    return complete && (c->models_before = malloc(models_size(c))) != NULL;
}

static void clear_local_errors(local_coder *c) {
    for (int k = 0; k <= c->frame.n_filters; k++) memset(c->error[k], 0, error_size(c));
}

static void start_local(local_coder *c) {
    c->frame.history = 0;
    clear_local_errors(c);
    for (int k = 0; k <= c->frame.n_filters; k++) memset(c->error_before[k], 0, error_size(c));
    for (int i = 0; i < CONTEXTS; i++) adaptive_init(&c->models->context[i], 16);
    adaptive_init(&c->models->escape, 16);
    if (c->frame.effort == BEST) mixing_init(&c->models->mixing, c->frame.n_filters + 2);
}

static void close_local_frame(local_coder *c) {
    close_local(&c->frame);
    for (int k = 0; k <= c->frame.n_filters; k++) {
        uint32_t *const before = c->error_before[k];
        c->error_before[k] = c->error[k];
        c->error[k] = before;
    }
}

/* The weighted sum of 18 magnitudes of errors around a voxel, a key frame's scaled to the same. */
RANS_INLINE uint32_t local_energy(const local_coder *c, int k, size_t column, size_t place) {
    const uint32_t *e = c->error[k] + place;
    const uint32_t sum = c->row_error[k][column] + 3 * e[-1] + e[-2];
    return c->frame.history ? sum : sum + (sum >> 1);
}

/* The same of a window of 7 columns, 3 rows of the frame in work, and 5 of the previous one. */
static void sum_wide(local_coder *c, size_t place) {
    const local_state *s = &c->frame;
    const ptrdiff_t stride = (ptrdiff_t)s->stride;
    const uint32_t *e = c->error[s->n_filters] + place - REACH;
    const uint32_t *b = c->error_before[s->n_filters] + place - REACH;
    uint32_t *const column = c->column_error, *const wide = c->wide_error;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)s->columns + 2 * REACH; i++) {
        uint32_t sum = e[i - stride] + e[i - 2 * stride] + e[i - 3 * stride];
        if (s->history)
            sum += b[i - 2 * stride] + b[i - stride] + b[i] + b[i + stride] + b[i + 2 * stride];
        else
            sum += sum + (sum >> 1) + (sum >> 3);
        column[i] = sum < 0xFFFFFFF ? sum : 0xFFFFFFF;
    }
    for (size_t i = 0; i < s->columns; i++) {
        uint32_t sum = 0;
        for (size_t j = 0; j <= 2 * REACH; j++) sum += column[i + j];
        wide[i] = (sum >> 4) * 5; /* 56 places to the weight of 18 */
    }
}

RANS_INLINE uint32_t error_of(uint32_t sample, int64_t predicted) {
    const int64_t d = 16 * (int64_t)sample - predicted, m = d < 0 ? -d : d;
    return m > MAX_MAGNITUDE ? MAX_MAGNITUDE : (uint32_t)m;
}

/* A voxel by 16 symbols of the context's distribution; the side of the middle that the prediction
 * lies on comes first. */
RANS_INLINE int64_t code_symbols(local_models *m, uint32_t mean, int upper, int64_t level,
                                 uint64_t largest, symbol_writer *w, symbol_reader *r) {
    unsigned shift;
    adaptive_cdf *const context = &m->context[context_of(mean, &shift)];
    if (w) {
        const uint64_t code = zigzag(upper ? -level : level), high = code >> shift;
        put_symbol(w, context, high < ESCAPE ? (unsigned)high : ESCAPE);
        if (high >= ESCAPE) put_number(w, &m->escape, high - ESCAPE);
        put_bits(w, code, shift);
        return level;
    }
    uint64_t high = get_symbol(r, context);
    if (high == ESCAPE) high += get_number(r, &m->escape);
    const uint64_t code = high > largest >> shift ? largest + 1 : high << shift | get_bits(r, shift);
    if (code > largest) r->failed = 1;
    const int64_t decoded = r->failed ? 0 : unzigzag(code);
    return upper ? -decoded : decoded;
}

/* Where voxels around lie above the prediction. */
RANS_INLINE unsigned signs_of(const local_state *s, size_t place, double mean) {
    const double *x = s->plane[NOW] + place, *up = x - s->stride;
    unsigned signs = (x[-1] > mean) + 2u * (up[0] > mean) + 8u * (x[-1] + up[0] - up[-1] > mean);
    if (s->history) {
        const double *b = s->plane[BEFORE1] + place, *above = b - s->stride;
        signs += 4u * (b[0] > mean) + 16u * (b[0] + x[-1] - b[-1] > mean) +
                 32u * (b[0] + up[0] - above[0] > mean);
    }
    return signs;
}

RANS_INLINE void learn_scale(mixing_models *m, int k, uint32_t *scale, uint32_t error) {
    uint8_t *const count = &m->count[k][scale - m->scale[k]];
    const unsigned n = *count;
    const unsigned rate = 1u + (n >= 2) + (n >= 4) + (n >= 8) + (n >= 16) + (n >= 32) + (n >= 64);
    const int64_t next = (int64_t)*scale + ((((int64_t)error << SCALE_BITS) - *scale) >> rate);
    *scale = next > 0xFFFFFFFF ? 0xFFFFFFFF : (uint32_t)next;
    if (n < 64) *count = (uint8_t)(n + 1);
}

/* Prepares a row: its filters, and what can be computed for many voxels at a time. */
static void open_local_row(local_coder *c, size_t row, int best) {
    local_state *const s = &c->frame;
    const size_t begin = place_of(s, row, 0);
    fit_row(s, row);
    open_left(s, row);
    predict_local_row(s, row);
    for (int k = 0; k <= s->n_filters; k++)
        sum_errors(c->row_error[k], c->error[k] + begin, c->error_before[k] + begin,
                           s->stride, s->columns);
    if (best) sum_wide(c, begin);
}

#endif
