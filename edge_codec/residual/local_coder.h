/* The coder of the local filters' frames: what it keeps, its energies, its symbols. */
#ifndef EDGE_CODEC_LOCAL_CODER_H
#define EDGE_CODEC_LOCAL_CODER_H

#include <stddef.h>
#include <time.h>

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
    double *row_code;                    /* of a row: the codes of its levels */
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
    free(c->row_code);
    free(c->models);
    free(c->models_before);
}

static int coder_new(local_coder *c, size_t rows, size_t columns, uint32_t span, int with_base,
                     int effort) {
    int complete = local_new(&c->frame, rows, columns, span, with_base, effort);
    for (int k = 0; complete && k <= c->frame.n_filters; k++) {
        complete &= (c->error[k] = calloc(1, error_size(c))) != NULL;
        complete &= (c->error_before[k] = calloc(1, error_size(c))) != NULL;
        complete &= (c->row_error[k] = calloc(columns + 8, sizeof(uint32_t))) != NULL;
    }
    complete = complete && (c->column_error = calloc(columns + 2 * REACH, 4)) != NULL;
    complete = complete && (c->wide_error = calloc(columns, 4)) != NULL;
    complete = complete && (c->row_code = calloc(columns + 8, sizeof *c->row_code)) != NULL;
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

RANS_INLINE uint32_t error_of(uint32_t sample, int64_t predicted) {
    const int64_t d = 16 * (int64_t)sample - predicted, m = d < 0 ? -d : d;
    return m > MAX_MAGNITUDE ? MAX_MAGNITUDE : (uint32_t)m;
}

RANS_INLINE void put_code(symbol_writer *w, local_models *m, uint32_t mean, uint64_t code) {
    unsigned shift;
    adaptive_cdf *const context = &m->context[context_of(mean, &shift)];
    const uint64_t high = code >> shift;
    put_symbol(w, context, high < ESCAPE ? (unsigned)high : ESCAPE);
    if (high >= ESCAPE) put_number(w, &m->escape, high - ESCAPE);
    put_bits(w, code, shift);
}

/* A voxel by 16 symbols of the context's distribution; the side of the middle that the prediction
 * lies on comes first. */
RANS_INLINE int64_t code_symbols(local_models *m, uint32_t mean, int upper, int64_t level,
                                 uint64_t largest, symbol_writer *w, symbol_reader *r) {
    if (w) {
        put_code(w, m, mean, zigzag(upper ? -level : level));
        return level;
    }
    unsigned shift;
    adaptive_cdf *const context = &m->context[context_of(mean, &shift)];
    uint64_t high = get_symbol(r, context);
    if (high == ESCAPE) high += get_number(r, &m->escape);
    const uint64_t code =
        high > largest >> shift ? largest + 1 : high << shift | get_bits(r, shift);
    if (code > largest) r->failed = 1;
    const int64_t decoded = r->failed ? 0 : unzigzag(code);
    return upper ? -decoded : decoded;
}

/* Prepares a row: its filters, and what can be computed for many voxels at a time. */
static void open_local_row(local_coder *c, size_t row) {
    local_state *const s = &c->frame;
    const size_t begin = place_of(s, row, 0);
    fit_row(s, row);
    open_left(s, row);
    predict_local_row(s, row);
    for (int k = 0; k <= s->n_filters; k++)
        sum_errors(c->row_error[k], c->error[k] + begin, c->error_before[k] + begin, s->stride,
                   s->columns);
}

#define CLOCK_ROWS 4 /* between two looks at the clock: the blocks that are fitted anew together */

/* Whether an instant of Python's time.monotonic_ns has come. */
static int is_late(int64_t instant) {
    struct timespec now;
#ifdef __APPLE__
    clock_gettime(CLOCK_UPTIME_RAW, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec >= instant;
}

#endif
