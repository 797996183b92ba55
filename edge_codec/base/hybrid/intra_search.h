/* Intra modes of a block: sorted by transformed differences, the best few tried in full. */
#ifndef EDGE_CODEC_HYBRID_INTRA_SEARCH_H
#define EDGE_CODEC_HYBRID_INTRA_SEARCH_H

#include "residual.h"

#define MOST_TRIED 8
#define NO_HINT -1
#define PLANNED_BITS 4 /* of a prediction, since that from what is decoded is worse */
#define PART_LEAST 0.2 /* cost in Delta^2 per pixel from which four parts are thought of */

typedef struct {
    int mode;
    double cost;
} ranked;

/* The result for a block or part. */
typedef struct {
    int mode, coded, sine;
    double cost;
    int16_t *pixels; /* rows of n */
    int32_t *levels;
} intra_result;

/* What code_intra_mode takes. */
static void fill_mode_costs(task *t) {
    models *const m = &t->estimate;
    for (int i = 0; i < 3; i++) {
        bins c = {.cost = cost_of(probability(&m->likely), 1)};
        code_unary(ESTIMATE, &c, m->likely_index, 2, i);
        t->likely_costs[i] = c.cost;
    }
    for (int rank = 0; rank < INTRA_MODES - 3; rank++) {
        uint32_t cost = cost_of(probability(&m->likely), 0);
        for (int i = 0; i < 5; i++) cost += cost_of(probability(&m->other_mode[i]), rank >> i & 1);
        t->mode_costs[rank] = cost;
    }
}

static double mode_cost(const task *t, const int *likely, int mode) {
    int rank = mode;
    bins c = {.cost = 0};
    for (int i = 0; i < 3; i++) {
        if (mode == likely[i]) c.cost = t->likely_costs[i];
        rank -= mode > likely[i];
    }
    if (!c.cost) c.cost = t->mode_costs[rank];
    return bits_cost(t, &c);
}

static double intra_coded_cost(const task *t, const block *b, int mode, int coded) {
    bins c = {.cost = 0};
    code_intra_coded(ESTIMATE, &c, (models *)&t->estimate, &t->p, b->x, b->y, b->log_side, mode,
                     coded);
    return bits_cost(t, &c);
}

static double sine_cost(const task *t, int log_side, int sine) {
    bins c = {.cost = 0};
    code_sine(ESTIMATE, &c, (models *)&t->estimate, log_side, sine);
    return bits_cost(t, &c);
}

/* Keeps the `most` best in rising order of cost. */
static int insert_ranked(ranked *list, int n, int most, ranked item) {
    int i = n < most ? n : most;
    if (i == most && item.cost >= list[most - 1].cost) return n;
    if (i == most) i--;
    for (; i > 0 && list[i - 1].cost > item.cost; i--) list[i] = list[i - 1];
    list[i] = item;
    return n < most ? n + 1 : most;
}

typedef struct {
    worker *w;
    const block *b;
    int16_t around[MOST_AROUND], smoothed[MOST_AROUND];
    ranked best[MOST_TRIED];
    int n, most, likely[3];
    uint64_t tried; /* a bit for each mode */
} mode_search;

/* A frame to predict from. */
static void open_modes(mode_search *s, const picture *from) {
    const block *const b = s->b;
    intra_edge(from, b->x, b->y, b->log_side, s->around);
    smooth_edge(s->around, b->log_side, s->smoothed);
    likely_modes(&s->w->t->p, b->x, b->y, s->likely);
}

static void rank_mode(mode_search *s, int mode) {
    worker *const w = s->w;
    const task *const t = w->t;
    const block *const b = s->b;
    if (mode < 0 || mode >= INTRA_MODES || s->tried >> mode & 1) return;
    s->tried |= (uint64_t)1 << mode;
    intra_predict(s->around, s->smoothed, b->log_side, mode, w->trial, b->side);
    const double scaled = mode_cost(t, s->likely, mode) * (t->motion_lambda / t->lambda);
    const int difference =
        transformed_difference(b->source, t->p.width, w->trial, b->side, b->side);
    s->n = insert_ranked(s->best, s->n, s->most, (ranked){mode, difference + scaled});
}

/* All modes, or every fourth direction and then those around the best one. */
static void rank_modes(mode_search *s) {
    const int all = s->w->t->effort->all_modes;
    rank_mode(s, PLANAR);
    rank_mode(s, DC);
    for (int mode = 2; mode < INTRA_MODES; mode += all ? 1 : 4) rank_mode(s, mode);
    for (int distance = 2; !all && distance; distance >>= 1) {
        const int middle = s->best[0].mode;
        if (middle <= DC) break;
        if (middle - distance >= 2) rank_mode(s, middle - distance);
        rank_mode(s, middle + distance);
    }
    for (int i = 0; i < 3; i++) rank_mode(s, s->likely[i]);
}

/* Takes over a way to code the block, if it is the best so far. */
static void take_intra(const block *b, intra_result *best, intra_result way,
                       const int16_t *prediction, const int32_t *levels) {
    const size_t area = (size_t)(b->side * b->side);
    if (way.cost >= best->cost) return;
    way.pixels = best->pixels;
    way.levels = best->levels;
    *best = way;
    memcpy(best->pixels, prediction, area * sizeof *best->pixels);
    if (levels) memcpy(best->levels, levels, area * sizeof *levels);
}

/* A mode without levels, and with those of each transform that there is. */
static void try_mode(worker *w, const block *b, const int *likely, int mode, intra_result *best) {
    const task *const t = w->t;
    const double header = mode_cost(t, likely, mode);
    const double coded = header + intra_coded_cost(t, b, mode, 1);
    const int first = b->log_side == 2, last = b->log_side < 5;
    int32_t levels[MOST_TRANSFORM * MOST_TRANSFORM];
    intra_result way = {.mode = mode};
    way.cost = (double)error_of(t, b, w->trial) + header + intra_coded_cost(t, b, mode, 0);
    take_intra(b, best, way, w->trial, NULL);
    subtract_block(w->residual, b->source, t->p.width, w->trial, b->side, b->side);
    way.coded = 1;
    for (way.sine = first; way.sine <= last; way.sine++) {
        forward_transform(w->residual, b->log_side, way.sine, w->coefficients[0]);
        way.cost = try_levels(w, b->log_side, 1, w->coefficients[0], levels) + coded +
                   sine_cost(t, b->log_side, way.sine);
        take_intra(b, best, way, w->trial, levels);
    }
}

/* The best mode of a block or part, with its levels and pixels; cost without the header's. */
static void search_intra(worker *w, const block *b, int most, intra_result *best) {
    const task *const t = w->t;
    mode_search s = {.w = w, .b = b, .most = most};
    open_modes(&s, &t->p);
    rank_modes(&s);
    best->cost = 1e300;
    for (int i = 0; i < s.n; i++) {
        intra_predict(s.around, s.smoothed, b->log_side, s.best[i].mode, w->trial, b->side);
        try_mode(w, b, s.likely, s.best[i].mode, best);
    }
    if (best->coded)
        reconstruct(t, b->log_side, best->sine, best->levels, best->pixels, b->side, best->pixels,
                    b->side);
}

static void put_pixels(const task *t, int x, int y, int side, const int16_t *pixels,
                       ptrdiff_t stride) {
    copy_block(t->p.now->pixels + y * t->p.stride + x, t->p.stride, pixels, stride, side);
}

static void try_intra_whole(worker *w, const block *b, choice *c) {
    intra_result best = {.pixels = c->pixels, .levels = c->levels};
    c->u = (unit){.mode = INTRA, .log_side = (uint8_t)b->log_side};
    const double header = header_cost(w->t, b, &c->u);
    search_intra(w, b, w->t->effort->intra_modes, &best);
    c->u.intra_mode = (uint8_t)best.mode;
    c->u.coded = (uint8_t)best.coded;
    c->u.sine = (uint8_t)best.sine;
    c->cost = header + best.cost;
}

/* Four parts of 4 x 4, each predicted from those before. Gives up at `limit`. */
static void try_intra_parts(worker *w, const block *b, choice *c, double limit) {
    const task *const t = w->t;
    c->u = (unit){.mode = INTRA, .log_side = (uint8_t)b->log_side, .split_transform = 1};
    c->cost = header_cost(t, b, &c->u);
    for (int k = 0; k < 4 && c->cost < limit; k++) {
        const int x = UNIT * (k & 1), y = UNIT * (k >> 1);
        int16_t pixels[16];
        const block part = block_at(t, b->x + x, b->y + y, 2);
        intra_result best = {.pixels = pixels, .levels = c->levels + 16 * k};
        search_intra(w, &part, w->t->effort->intra_modes, &best);
        c->part[k] = c->u;
        c->part[k].intra_mode = (uint8_t)best.mode;
        c->part[k].coded = (uint8_t)best.coded;
        c->part[k].sine = (uint8_t)best.sine;
        c->cost += best.cost;
        record(&t->p, part.x, part.y, UNIT, &c->part[k]);
        put_pixels(t, part.x, part.y, UNIT, pixels, UNIT);
        copy_block(c->pixels + y * b->side + x, b->side, pixels, UNIT, UNIT);
    }
    c->u = c->part[0];
}

/* ------------------------------------------------------------------------------------------- plans
 *
 * A plan predicts from the original, since nothing is decoded yet, and guesses what levels cost. Once
 * the tree is decided, the modes around the plan's are ranked again by what is decoded, and only then
 * is there a transform to quantize. */

/* Smooth modes, likely ones, and the best around a hint or, without one, from coarse to fine. The
 * prediction is left in `trial`. */
static int guess_mode(mode_search *s, const picture *from, int hint) {
    const block *const b = s->b;
    s->most = 1;
    open_modes(s, from);
    rank_mode(s, PLANAR);
    rank_mode(s, DC);
    for (int i = 0; i < 3; i++) rank_mode(s, s->likely[i]);
    if (hint == NO_HINT && b->log_side < 5)
        for (int mode = 2; mode < INTRA_MODES; mode += 8) rank_mode(s, mode);
    for (int distance = hint == NO_HINT ? 4 : 1; distance; distance >>= 1) {
        const int middle = hint == NO_HINT ? s->best[0].mode : hint;
        if (middle <= DC) break;
        if (hint != NO_HINT) rank_mode(s, middle);
        if (middle - distance >= 2) rank_mode(s, middle - distance);
        rank_mode(s, middle + distance);
    }
    intra_predict(s->around, s->smoothed, b->log_side, s->best[0].mode, s->w->trial, b->side);
    return s->best[0].mode;
}

/* The better transform for the prediction in `trial`, with its coefficients; the cost without that of
 * the mode. */
static double guess_transform(worker *w, const block *b, int *sine) {
    const task *const t = w->t;
    const int first = b->log_side == 2, last = b->log_side < 5;
    double least = 1e300;
    subtract_block(w->residual, b->source, t->p.width, w->trial, b->side, b->side);
    for (int kind = first; kind <= last; kind++) {
        forward_transform(w->residual, b->log_side, kind, w->coefficients[kind]);
        const double cost = guess_levels(t, b->log_side, w->coefficients[kind]) +
                            sine_cost(t, b->log_side, kind);
        if (cost >= least) continue;
        least = cost;
        *sine = kind;
    }
    return least;
}

/* The plan for a block or part; the cost without the header's. */
static double guess_part(worker *w, const block *b, int hint, unit *u) {
    const task *const t = w->t;
    mode_search s = {.w = w, .b = b};
    int sine = 0;
    const int mode = guess_mode(&s, &t->unquantized, hint);
    const double with = guess_transform(w, b, &sine) + intra_coded_cost(t, b, mode, 1);
    const double without = (double)error_of(t, b, w->trial) + intra_coded_cost(t, b, mode, 0);
    u->intra_mode = (uint8_t)mode;
    u->sine = (uint8_t)sine;
    u->coded = with < without;
    return PLANNED_BITS * t->lambda + mode_cost(t, s.likely, mode) + (with < without ? with : without);
}

static void guess_intra(worker *w, const block *b, choice *c) {
    c->u = (unit){.mode = INTRA, .log_side = (uint8_t)b->log_side};
    c->cost = header_cost(w->t, b, &c->u);
    c->cost += guess_part(w, b, NO_HINT, &c->u);
}

static void guess_intra_parts(worker *w, const block *b, int hint, choice *c, double limit) {
    const task *const t = w->t;
    c->cost = limit;
    if (limit < PART_LEAST * t->delta * t->delta * (double)(b->side * b->side)) return;
    c->u = (unit){.mode = INTRA, .log_side = (uint8_t)b->log_side, .split_transform = 1};
    c->cost = header_cost(t, b, &c->u);
    for (int k = 0; k < 4 && c->cost < limit; k++) {
        const block part = block_at(t, b->x + UNIT * (k & 1), b->y + UNIT * (k >> 1), 2);
        c->part[k] = c->u;
        c->cost += guess_part(w, &part, hint, &c->part[k]);
        record(&t->p, part.x, part.y, UNIT, &c->part[k]);
    }
    c->u = c->part[0];
}

/* Carries out the plan for a block or part. */
static void finish_part(worker *w, const block *b, unit *u, int16_t *pixels, ptrdiff_t stride,
                        int32_t *levels) {
    const task *const t = w->t;
    mode_search s = {.w = w, .b = b};
    int sine = 0;
    const int mode = guess_mode(&s, &t->p, u->intra_mode);
    const double without = (double)error_of(t, b, w->trial) + intra_coded_cost(t, b, mode, 0);
    double with = guess_transform(w, b, &sine) + intra_coded_cost(t, b, mode, 1);
    if (with < 1.1 * without)
        with = try_levels(w, b->log_side, 1, w->coefficients[sine], levels) +
               sine_cost(t, b->log_side, sine) + intra_coded_cost(t, b, mode, 1);
    u->intra_mode = (uint8_t)mode;
    u->coded = with < without;
    u->sine = (uint8_t)(u->coded ? sine : 0);
    if (u->coded)
        reconstruct(t, b->log_side, sine, levels, w->trial, b->side, pixels, stride);
    else copy_block(pixels, stride, w->trial, b->side, b->side);
}

static void finish_intra(worker *w, const block *b, choice *c) {
    const task *const t = w->t;
    if (!c->u.split_transform) {
        finish_part(w, b, &c->u, c->pixels, b->side, c->levels);
        return;
    }
    for (int k = 0; k < 4; k++) {
        const int x = UNIT * (k & 1), y = UNIT * (k >> 1);
        const block part = block_at(t, b->x + x, b->y + y, 2);
        int16_t *const pixels = c->pixels + y * b->side + x;
        c->part[k] = *unit_at(&t->p, t->p.now, part.x, part.y);
        finish_part(w, &part, &c->part[k], pixels, b->side, c->levels + 16 * k);
        record(&t->p, part.x, part.y, UNIT, &c->part[k]);
        put_pixels(t, part.x, part.y, UNIT, pixels, b->side);
    }
    c->u = c->part[0];
}

#endif
