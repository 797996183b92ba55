/* Intra modes of a block: sorted by transformed differences, the best few tried in full. */
#ifndef EDGE_CODEC_HYBRID_INTRA_SEARCH_H
#define EDGE_CODEC_HYBRID_INTRA_SEARCH_H

#include "residual.h"

#define MOST_TRIED 8

typedef struct {
    int mode;
    double cost;
} ranked;

/* The result for a block or part. */
typedef struct {
    int mode, coded;
    double cost;
    int16_t *pixels; /* rows of n */
    int32_t *levels;
} intra_result;

static double mode_cost(const task *t, int x, int y, int mode) {
    bins c = {.cost = 0};
    code_intra_mode(ESTIMATE, &c, (models *)&t->estimate, &t->p, x, y, mode);
    return bits_cost(t, &c);
}

static double intra_coded_cost(const task *t, int log_side, int coded) {
    bins c = {.cost = 0};
    code_intra_coded(ESTIMATE, &c, (models *)&t->estimate, log_side, coded);
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
    int n, most;
    uint64_t tried; /* a bit for each mode */
} mode_search;

static void rank_mode(mode_search *s, int mode) {
    worker *const w = s->w;
    const task *const t = w->t;
    const block *const b = s->b;
    if (mode < 0 || mode >= INTRA_MODES || s->tried >> mode & 1) return;
    s->tried |= (uint64_t)1 << mode;
    intra_predict(s->around, s->smoothed, b->log_side, mode, w->trial, b->side);
    const double scaled = mode_cost(t, b->x, b->y, mode) * (t->motion_lambda / t->lambda);
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
    int likely[3];
    likely_modes(&s->w->t->p, s->b->x, s->b->y, likely);
    for (int i = 0; i < 3; i++) rank_mode(s, likely[i]);
}

/* The best mode of a block or part, with its levels and pixels; cost without the header's. */
static void search_intra(worker *w, const block *b, int most, intra_result *best) {
    const task *const t = w->t;
    const size_t area = (size_t)(b->side * b->side);
    mode_search s = {.w = w, .b = b, .most = most};
    int32_t levels[MOST_TRANSFORM * MOST_TRANSFORM];
    intra_edge(&t->p, b->x, b->y, b->log_side, s.around);
    smooth_edge(s.around, b->log_side, s.smoothed);
    rank_modes(&s);
    const double coded = intra_coded_cost(t, b->log_side, 1);
    const double uncoded = intra_coded_cost(t, b->log_side, 0);
    best->cost = 1e300;
    for (int i = 0; i < s.n; i++) {
        const int mode = s.best[i].mode;
        intra_predict(s.around, s.smoothed, b->log_side, mode, w->trial, b->side);
        const double zeros = (double)error_of(t, b, w->trial) + uncoded;
        subtract_block(w->residual, b->source, t->p.width, w->trial, b->side, b->side);
        forward_transform(w->residual, b->log_side, b->log_side == 2, w->coefficients[0]);
        const double some = try_levels(w, b->log_side, 1, w->coefficients[0], levels) + coded;
        const int is_coded = some < zeros;
        const double cost = mode_cost(t, b->x, b->y, mode) + (is_coded ? some : zeros);
        if (cost >= best->cost) continue;
        best->mode = mode;
        best->coded = is_coded;
        best->cost = cost;
        memcpy(best->pixels, w->trial, area * sizeof *best->pixels);
        if (is_coded) memcpy(best->levels, levels, area * sizeof *levels);
    }
    if (best->coded)
        reconstruct(t, b->log_side, b->log_side == 2, best->levels, best->pixels, b->side,
                    best->pixels, b->side);
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
        c->cost += best.cost;
        record(&t->p, part.x, part.y, UNIT, &c->part[k]);
        put_pixels(t, part.x, part.y, UNIT, pixels, UNIT);
        copy_block(c->pixels + y * b->side + x, b->side, pixels, UNIT, UNIT);
    }
    c->u = c->part[0];
}

#endif
