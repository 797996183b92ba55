/* Trial transforms: what the residual of a prediction costs, and the reconstruction with it. */
#ifndef EDGE_CODEC_HYBRID_RESIDUAL_H
#define EDGE_CODEC_HYBRID_RESIDUAL_H

#include "motion_search.h"

#define NO_LEVELS 1e300
#define GUESSED_ERROR 0.06f /* in Delta^2, of a level */
#define GUESSED_BITS 4.0f   /* of a level */
#define GUESSED_SLOPE 0.6f  /* bits more for a square twice as large */

typedef float shares __attribute__((vector_size(4 * LANES)));

/* Sum of the squares of n x n coefficients: exact. Not quite that of the residual, since the transform
 * is not quite orthonormal: what levels gain is to be taken from this one. */
static double energy(const int32_t *coefficients, int log_size) {
    double sum[8] = {0};
    for (int i = 0; i < 1 << (2 * log_size); i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += (double)coefficients[i + k] * (double)coefficients[i + k];
    double total = 0;
    for (int k = 0; k < 8; k++) total += sum[k];
    return total / (1 << (2 * COEFFICIENT_BITS));
}

/* Levels of some coefficients, and the cost of the block with them; NO_LEVELS if 0 is best for all. */
static double try_levels(worker *w, int log_size, int intra, const int32_t *coefficients,
                         int32_t *levels) {
    const task *const t = w->t;
    const float gain = quantize(&t->costs, &t->quantization, &w->trellis, log_size, intra,
                                coefficients, levels);
    return gain < 0 ? energy(coefficients, log_size) + (double)gain : NO_LEVELS;
}

/* Squared error and bits of a transform with levels, guessed from each coefficient alone: below about
 * 0.6 Delta it stays, above it is worth some bits, more the larger it is. (Fitted to what quantize()
 * found for blocks of training exams: 10 to 14 % off for a block.) */
static double guess_levels(const task *t, int log_size, const int32_t *coefficients) {
    const float scale = (float)(1 / (t->delta * (1 << COEFFICIENT_BITS)));
    const float bit = (float)(t->lambda / (t->delta * t->delta));
    const shares least = (shares){0} + (GUESSED_ERROR + GUESSED_BITS * bit);
    const shares slope = (shares){0} + GUESSED_SLOPE * bit / (1 << 23);
    shares sum = {0};
    for (int i = 0; i < 1 << (2 * log_size); i += LANES) {
        const shares v = __builtin_convertvector(load_lanes(coefficients + i), shares) * scale;
        const shares square = v * v;
        const lanes length = (lanes)square - ((lanes){0} + (127 << 23)); /* about the logarithm */
        const lanes above = length & (length > 0);
        const shares coded = least + __builtin_convertvector(above, shares) * slope;
        const lanes is_small = square < coded;
        sum += (shares)((is_small & (lanes)square) | (~is_small & (lanes)coded));
    }
    double total = 0;
    for (int k = 0; k < LANES; k++) total += (double)sum[k];
    return total * t->delta * t->delta;
}

/* The coefficients of a prediction's residual in one transform. */
static void transform_one(worker *w, const block *b, const int16_t *prediction) {
    subtract_block(w->residual, b->source, w->t->p.width, prediction, b->side, b->side);
    forward_transform(w->residual, b->log_side, 0, w->coefficients[0]);
}

/* Those of its parts: part k from k n^2 on. */
static void transform_four(worker *w, const block *b, const int16_t *prediction) {
    const ptrdiff_t width = w->t->p.width;
    const int half = b->side / 2;
    for (int k = 0; k < 4; k++) {
        const int x = half * (k & 1), y = half * (k >> 1);
        subtract_block(w->residual, b->source + y * width + x, width,
                       prediction + y * b->side + x, b->side, half);
        forward_transform(w->residual, b->log_side - 1, 0,
                          w->coefficients[1] + k * half * half);
    }
}

/* out = clip(prediction + residual of the levels). */
static void reconstruct(const task *t, int log_size, int sine, const int32_t *levels,
                        const int16_t *prediction, ptrdiff_t prediction_stride, int16_t *out,
                        ptrdiff_t stride) {
    const int n = 1 << log_size;
    const position *const scan = SCAN[log_size - 2];
    int32_t coefficients[MOST_TRANSFORM * MOST_TRANSFORM];
    int16_t residual[MOST_TRANSFORM * MOST_TRANSFORM];
    int last = n * n - 1, state = 0;
    memset(coefficients, 0, sizeof *coefficients << (2 * log_size));
    while (last > 0 && !levels[(scan[last].y << log_size) + scan[last].x]) last--;
    for (int i = last; i >= 0; i--) {
        const int place = (scan[i].y << log_size) + scan[i].x;
        coefficients[place] = dequantize(levels[place], state, t->step);
        state = next_state(state, levels[place]);
    }
    inverse_transform(coefficients, log_size, sine, residual);
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
            out[y * stride + x] = (int16_t)clip_pixel(prediction[y * prediction_stride + x] +
                                                      residual[y * n + x]);
}

HYBRID_INLINE double part_coded_cost(const task *t, int log_side, int k, int before, int coded) {
    bins c = {.cost = 0};
    code_part_coded(ESTIMATE, &c, (models *)&t->estimate, log_side, k, before, coded);
    return bits_cost(t, &c);
}

/* One transform for the whole block; the header's cost included. Returns 0 if there are no levels. */
static int try_one_transform(worker *w, const block *b, choice *c) {
    const double cost = try_levels(w, b->log_side, 0, w->coefficients[0], c->levels);
    if (cost == NO_LEVELS) return 0;
    c->u.split_transform = 0;
    c->u.coded = 1;
    c->cost = cost + header_cost(w->t, b, &c->u);
    return 1;
}

/* Levels of the parts stand one after another, as their coefficients do. */
static int try_four_transforms(worker *w, const block *b, choice *c) {
    const task *const t = w->t;
    const int half = b->side / 2;
    double cost = 0;
    int coded = 0;
    for (int k = 0; k < 4; k++) {
        const int x = half * (k & 1), y = half * (k >> 1), first = k * half * half;
        const double levels =
            try_levels(w, b->log_side - 1, 0, w->coefficients[1] + first, c->levels + first);
        const double error =
            (double)squared_difference(b->source + y * t->p.width + x, t->p.width,
                                       c->pixels + y * b->side + x, b->side, half);
        const double with = levels + part_coded_cost(t, b->log_side, k, coded, 1);
        const double without =
            error + (k == 3 && !coded ? 0 : part_coded_cost(t, b->log_side, k, coded, 0));
        if (with < without) coded |= 1 << k;
        cost += with < without ? with : without;
    }
    if (!coded) return 0;
    c->u.split_transform = 1;
    c->u.coded = (uint8_t)coded;
    c->cost = cost + header_cost(t, b, &c->u);
    return 1;
}

/* What four transforms may cost, without the header. */
static double guess_four(worker *w, const block *b) {
    const task *const t = w->t;
    const int part = b->side * b->side / 4;
    double cost = 0;
    for (int k = 0; k < 4; k++) {
        const int32_t *const coefficients = w->coefficients[1] + k * part;
        const double with = guess_levels(t, b->log_side - 1, coefficients);
        const double without = energy(coefficients, b->log_side - 1);
        cost += with + t->lambda < without ? with + t->lambda : without;
    }
    return cost;
}

/* Prediction plus residual, in place, for a block predicted from other frames. */
static void finish_inter(const task *t, const block *b, choice *c) {
    const int half = b->side / 2;
    if (!c->u.coded) return;
    if (!c->u.split_transform) {
        reconstruct(t, b->log_side, 0, c->levels, c->pixels, b->side, c->pixels, b->side);
        return;
    }
    for (int k = 0; k < 4; k++) {
        int16_t *const at = c->pixels + half * (k >> 1) * b->side + half * (k & 1);
        if (c->u.coded >> k & 1)
            reconstruct(t, b->log_side - 1, 0, c->levels + k * half * half, at, b->side, at,
                        b->side);
    }
}

/* Writes the levels of an n x n transform where code_tree reads them. */
static void store_levels(const task *t, int x, int y, int n, const int32_t *levels) {
    int32_t *row = t->levels + (ptrdiff_t)y * t->p.width + x;
    for (int j = 0; j < n; j++, row += t->p.width)
        memcpy(row, levels + j * n, (size_t)n * sizeof *row);
}

#endif
