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
        else sum += sum + (sum >> 1) + (sum >> 3);
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
    const uint64_t code =
        high > largest >> shift ? largest + 1 : high << shift | get_bits(r, shift);
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
        sum_errors(c->row_error[k], c->error[k] + begin, c->error_before[k] + begin, s->stride,
                   s->columns);
    if (best) sum_wide(c, begin);
}

RANS_INLINE int64_t code_mixed(local_coder *c, mixing_voxel *v, const uint32_t *energy,
                               size_t place, int64_t middle, uint32_t bound, int64_t level,
                               symbol_writer *w, symbol_reader *r, uint32_t **scales) {
    mixing_models *const m = &c->models->mixing;
    const local_state *s = &c->frame;
    const int inputs = s->n_filters + 2;
    uint32_t scale = 0;
    for (int k = 0; k < inputs; k++) {
        unsigned shift;
        const unsigned class = context_of(energy[k] >> 4, &shift);
        scales[k] = &m->scale[k][class];
        scale = *scales[k] > 205 ? *scales[k] : 205; /* a twentieth of a unit */
        v->narrowness[k] = 8192.0 * 256.0 / (double)scale;
        v->low[k] = 0;
        v->high[k] = CURVE_ONE;
    }
    v->inputs = inputs;
    v->step = 16 * (2 * (int64_t)bound + 1);
    v->origin = 16 * (middle - (int64_t)bound) - 8;
    v->first = -quantize(middle, bound);
    v->last = quantize((int64_t)s->span - middle, bound);
    v->corrected = m->corrected[signs_of(s, place, v->center[s->n_filters] / 16)];
    unsigned spread = 0;
    for (uint64_t limit = 6144 * (2 * (uint64_t)bound + 1); scale >= limit; limit *= 2) spread++;
    return code_level(m, v, spread, level, w, r);
}

/* Predicts a voxel by each filter and by their mean, weighted by how well each did around it. */
RANS_INLINE void predict_voxel(const local_coder *c, size_t column, size_t place, mixing_voxel *v,
                               uint32_t *energy) {
    const local_state *s = &c->frame;
    const int filters = s->n_filters;
    double weights = 0, sum = 0;
    for (int k = 0; k < filters; k++) {
        v->center[k] = (double)predict_local(s, &s->filter[k], column, place);
        energy[k] = local_energy(c, k, column, place);
        const double e = (double)energy[k] + 86, weight = 1 / (e * e); /* 86: 0.3 of a unit */
        weights += weight;
        sum += weight * v->center[k];
    }
    v->center[filters] = (double)(int64_t)(sum / weights + 0.5);
    energy[filters] = local_energy(c, filters, column, place);
}

/* Codes `frame` if the writer is given, else decodes; the decoded frame is left in plane NOW. */
RANS_INLINE int code_local(local_coder *c, uint32_t bound, const uint32_t *frame, symbol_writer *w,
                           symbol_reader *r, const int best) {
    local_state *const s = &c->frame;
    const int filters = s->n_filters;
    const uint64_t largest = largest_code(s->span, bound);
    mixing_voxel v = {0};
    uint32_t energy[INPUTS], *scales[INPUTS];
    open_local(s);
    open_above(s);
    for (size_t row = 0; row < s->rows; row++) {
        open_local_row(c, row, best);
        for (size_t column = 0; column < s->columns; column++) {
            const size_t place = place_of(s, row, column);
            if (w && !reserve(w, MOST_DECISIONS / ROOM)) return RESIDUAL_NO_MEMORY;
            predict_voxel(c, column, place, &v, energy);
            const int64_t predicted = (int64_t)v.center[filters], middle = (predicted + 8) >> 4;
            int64_t level = 0;
            if (w) level = quantize((int64_t)frame[row * s->columns + column] - middle, bound);
            if (best) {
                v.center[filters + 1] = v.center[filters];
                energy[filters + 1] = c->wide_error[column];
                level = code_mixed(c, &v, energy, place, middle, bound, level, w, r, scales);
            } else {
                const uint32_t step = 2 * bound + 1, e = energy[filters];
                const uint32_t mean = (bound ? e / step : e) >> 4;
                level =
                    code_symbols(c->models, mean, predicted > 16 * middle, level, largest, w, r);
            }
            const uint32_t sample = reconstruct(middle, level, bound, s->span);
            set_voxel(s, NOW, place, sample);
            for (int k = 0; k <= filters; k++)
                c->error[k][place] = error_of(sample, (int64_t)v.center[k]);
            for (int k = 0; best && k < filters + 2; k++)
                learn_scale(&c->models->mixing, k, scales[k],
                            error_of(sample, (int64_t)v.center[k]));
        }
        close_right(s, row);
        if (r && (r->rans.failed | r->failed)) return RESIDUAL_DAMAGED;
    }
    if (w) flush_bits(w);
    return RESIDUAL_OK;
}

static int encode_local(local_coder *c, uint32_t bound, const uint32_t *frame, symbol_writer *w) {
    return c->frame.effort == BEST ? code_local(c, bound, frame, w, NULL, 1)
                                   : code_local(c, bound, frame, w, NULL, 0);
}

static int decode_local(local_coder *c, uint32_t bound, symbol_reader *r) {
    return c->frame.effort == BEST ? code_local(c, bound, NULL, NULL, r, 1)
                                   : code_local(c, bound, NULL, NULL, r, 0);
}

#endif
