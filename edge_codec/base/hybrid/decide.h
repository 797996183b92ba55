/* Decisions over the quadtree: for each block the way that costs least, and whether to split it.
 *
 * Either each way is quantized and reconstructed in full; or they are compared by guesses, so that the
 * tree is only a plan, which finish_plan carries out.
 */
#ifndef EDGE_CODEC_HYBRID_DECIDE_H
#define EDGE_CODEC_HYBRID_DECIDE_H

#include "intra_search.h"

#define HARDLY_LESS 0.95 /* cost with levels, of that without, that is not worth more thought */

typedef struct {
    choice *best, *trial;
} pair;

static void take_trial(pair *p) {
    if (p->trial->cost >= p->best->cost) return;
    choice *const before = p->best;
    p->best = p->trial;
    p->trial = before;
}

/* Motion that levels may be tried for, with its prediction. */
typedef struct {
    unit u;
    const int16_t *prediction;
    double cost; /* of transformed differences and header */
} candidate;

typedef struct {
    candidate list[MERGES + 2];
    int n;
} candidates;

static void add_prediction(const task *t, const block *b, candidates *all, const unit *u,
                           const int16_t *prediction, double header) {
    const int difference =
        transformed_difference(b->source, t->p.width, prediction, b->side, b->side);
    const double cost = difference + header * (t->motion_lambda / t->lambda);
    int i = all->n++;
    for (; i > 0 && all->list[i - 1].cost > cost; i--) all->list[i] = all->list[i - 1];
    all->list[i] = (candidate){*u, prediction, cost};
}

/* Keeps a prediction, unless it will be made again. */
static void keep_prediction(const task *t, const block *b, choice *c, const int16_t *prediction) {
    if (t->effort->planned) return;
    memcpy(c->pixels, prediction, (size_t)(b->side * b->side) * sizeof *prediction);
}

/* What levels for a prediction may cost. */
static void guess_residual(worker *w, const block *b, pair *p, const candidate *m) {
    double one = 1e300;
    if (b->log_side < LOG_TREE) {
        transform_one(w, b, m->prediction);
        one = guess_levels(w->t, b->log_side, w->coefficients[0]);
        if (one > HARDLY_LESS * energy(w->coefficients[0], b->log_side)) return;
    }
    transform_four(w, b, m->prediction);
    const double four = guess_four(w, b);
    p->trial->u = m->u;
    p->trial->u.split_transform = four < one;
    p->trial->cost = (four < one ? four : one) + header_cost(w->t, b, &p->trial->u);
    take_trial(p);
}

/* Levels for a prediction, in one transform or four. */
static void try_residual(worker *w, const block *b, pair *p, const candidate *m) {
    if (w->t->effort->planned) {
        guess_residual(w, b, p, m);
        return;
    }
    if (b->log_side < LOG_TREE) {
        transform_one(w, b, m->prediction);
        p->trial->u = m->u;
        keep_prediction(w->t, b, p->trial, m->prediction);
        if (!try_one_transform(w, b, p->trial)) return;
        take_trial(p);
    }
    transform_four(w, b, m->prediction);
    p->trial->u = m->u;
    keep_prediction(w->t, b, p->trial, m->prediction);
    if (try_four_transforms(w, b, p->trial)) take_trial(p);
}

/* Merging without levels; the best candidates may have some. */
static void try_merges(worker *w, const block *b, pair *p, candidates *all) {
    const task *const t = w->t;
    motion list[MERGES];
    ranked order[MERGES];
    const int n = merge_candidates(&t->p, b->x, b->y, b->side, list);
    int kept = 0;
    for (int i = 0; i < n && i < t->effort->merged; i++) {
        const unit u = {.mode = SKIP,
                        .log_side = (uint8_t)b->log_side,
                        .merge_index = (uint8_t)i,
                        .motion = list[i]};
        predict_motion(t, b, &list[i], w->predictions[i]);
        const double cost = (double)error_of(t, b, w->predictions[i]) + header_cost(t, b, &u);
        kept = insert_ranked(order, kept, t->effort->merges, (ranked){i, cost});
        if (cost >= p->best->cost) continue;
        p->best->u = u;
        p->best->cost = cost;
    }
    keep_prediction(t, b, p->best, w->predictions[p->best->u.merge_index]);
    for (int k = 0; k < kept; k++) {
        const int i = order[k].mode;
        const unit u = {.mode = MERGE,
                        .log_side = (uint8_t)b->log_side,
                        .coded = 1,
                        .merge_index = (uint8_t)i,
                        .motion = list[i]};
        add_prediction(t, b, all, &u, w->predictions[i], header_cost(t, b, &u));
    }
}

/* Two predictions, from the best reference and another one, refined in turn. */
static double refine_both(worker *w, const block *b, const found *one, int first, int second,
                          unit *u) {
    const effort_settings *const e = w->t->effort;
    found f[2] = {one[first], one[second]};
    int reference[2] = {first, second};
    double cost = 0;
    for (int round = 0; round < e->rounds; round++) {
        const int moving = !(round & 1), still = !moving;
        compensate(&w->t->reference[reference[still]], b->x, b->y, b->side, f[still].vector.x,
                   f[still].vector.y, w->other);
        const search s = open_search(w, b, reference[moving], w->other);
        f[moving] = search_other(&s, f[moving].vector, e->reach);
        cost = f[moving].cost + f[still].vector_cost;
    }
    u->motion.lists = BOTH;
    for (int k = 0; k < 2; k++) {
        u->motion.reference[k] = (uint8_t)reference[k];
        u->motion.vector[k] = f[k].vector;
        u->predictor[k] = (uint8_t)f[k].predictor;
    }
    return cost;
}

/* A block with motion of its own, without levels; it may have some. */
static void try_motion(worker *w, const block *b, pair *p, candidates *all, unit *u,
                       int16_t *prediction) {
    const task *const t = w->t;
    predict_motion(t, b, &u->motion, prediction);
    p->trial->u = *u;
    p->trial->cost = (double)error_of(t, b, prediction) + header_cost(t, b, u);
    if (p->trial->cost < p->best->cost) {
        keep_prediction(t, b, p->trial, prediction);
        take_trial(p);
    }
    u->coded = 1;
    add_prediction(t, b, all, u, prediction, header_cost(t, b, u));
}

/* The best vector into each reference, in the order of their cost. */
static int search_references(worker *w, const block *b, vector *hint, found *one, int *order) {
    const effort_settings *const e = w->t->effort;
    const int most = b->log_side == LOG_LEAST ? e->small_references : e->references;
    const int n = w->t->p.n_references < most ? w->t->p.n_references : most;
    ranked best[MOST_REFERENCES];
    int kept = 0;
    for (int r = 0; r < n; r++) {
        const search s = open_search(w, b, r, NULL);
        const vector starts[3] = {{0, 0}, hint[r], r ? one[0].vector : hint[r]};
        one[r] = search_whole(&s, starts, 3, e->planned && b->log_side < 5 ? 4 : 16);
        if (e->refined >= n) one[r] = search_between(&s, one[r].vector);
        kept = insert_ranked(best, kept, MOST_REFERENCES, (ranked){r, one[r].cost});
    }
    if (e->refined < n) {
        const int refined = e->refined;
        ranked whole[MOST_REFERENCES];
        memcpy(whole, best, sizeof whole);
        kept = 0;
        for (int i = 0; i < refined; i++) {
            const int r = whole[i].mode;
            const search s = open_search(w, b, r, NULL);
            one[r] = e->planned ? search_close(&s, one[r].vector, hint[r])
                                : search_between(&s, one[r].vector);
            kept = insert_ranked(best, kept, MOST_REFERENCES, (ranked){r, one[r].cost});
        }
    }
    for (int r = 0; r < n; r++) hint[r] = one[r].vector;
    for (int i = 0; i < kept; i++) order[i] = best[i].mode;
    return kept;
}

/* Motion of the block's own; `hint`: vectors of the block around, by reference, which become this
 * block's. */
static void try_inter(worker *w, const block *b, pair *p, candidates *all, vector *hint) {
    const effort_settings *const e = w->t->effort;
    found one[MOST_REFERENCES] = {{{0, 0}, 0, 0, 0}};
    int order[MOST_REFERENCES] = {0};
    const int n = search_references(w, b, hint, one, order), best = order[0];
    unit u = {.mode = INTER, .log_side = (uint8_t)b->log_side};
    u.motion.lists = FIRST;
    u.motion.reference[0] = (uint8_t)best;
    u.motion.vector[0] = one[best].vector;
    u.predictor[0] = (uint8_t)one[best].predictor;
    unit both = u;
    double least = 1e300;
    for (int i = n > 1; i < n && i <= e->pairs; i++) {
        unit trial = u;
        const double cost = refine_both(w, b, one, best, order[i], &trial);
        if (cost >= least) continue;
        least = cost;
        both = trial;
    }
    try_motion(w, b, p, all, &u, w->predictions[MERGES]);
    if (least < 1.05 * one[best].cost)
        try_motion(w, b, p, all, &both, w->predictions[MERGES + 1]);
}

static void try_intra(worker *w, const block *b, pair *p) {
    if (w->t->effort->planned) {
        guess_intra(w, b, p->trial);
        const int mode = p->trial->u.intra_mode;
        take_trial(p);
        if (b->log_side > LOG_LEAST) return;
        guess_intra_parts(w, b, mode, p->trial, p->best->cost);
        take_trial(p);
        return;
    }
    try_intra_whole(w, b, p->trial);
    take_trial(p);
    if (b->log_side > LOG_LEAST) return;
    try_intra_parts(w, b, p->trial, p->best->cost);
    take_trial(p);
}

/* Records the choice: what blocks after this one see of it, and what is coded. */
static void commit(const task *t, const block *b, choice *c, int with_levels) {
    const unit *const u = &c->u;
    const int parts = u->split_transform && (u->mode == INTRA || u->coded) ? 4 : 1;
    const int side = parts == 4 ? b->side / 2 : b->side;
    for (int k = 0; k < parts; k++) {
        const int x = b->x + side * (k & 1), y = b->y + side * (k >> 1);
        const unit *const own = u->mode == INTRA && parts == 4 ? &c->part[k] : u;
        record(&t->p, x, y, side, own);
        const int is_coded = u->mode == INTRA ? own->coded : u->coded >> k & 1;
        if (with_levels && is_coded) store_levels(t, x, y, side, c->levels + k * side * side);
    }
    if (with_levels) put_pixels(t, b->x, b->y, b->side, c->pixels, b->side);
}

/* Predictions from other frames; returns whether more is worth a thought. */
static int decide_inter(worker *w, const block *b, pair *p, vector *hint) {
    const task *const t = w->t;
    const effort_settings *const e = t->effort;
    const double unit_cost = t->delta * t->delta * (double)(b->side * b->side);
    candidates all = {.n = 0};
    try_merges(w, b, p, &all);
    if (p->best->cost < e->good_enough * unit_cost) {
        try_residual(w, b, p, &all.list[0]);
        if (p->best->u.mode == SKIP) return 0;
    }
    try_inter(w, b, p, &all, hint);
    for (int i = 0; i < all.n && i < e->motions; i++) try_residual(w, b, p, &all.list[i]);
    return p->best->u.mode != SKIP || p->best->cost >= e->split_least * unit_cost;
}

/* Finds the best way without splitting; returns whether splitting is worth a thought. */
static int decide_whole(worker *w, const block *b, pair *p, vector *hint) {
    const task *const t = w->t;
    const double area = (double)(b->side * b->side);
    int worth = 1;
    p->best->cost = 1e300;
    if (!t->p.key) worth = decide_inter(w, b, p, hint);
    if (b->log_side < LOG_TREE &&
        (t->p.key || (p->best->u.mode != SKIP &&
                      p->best->cost >= t->effort->intra_least * t->delta * t->delta * area)))
        try_intra(w, b, p);
    if (!t->effort->planned && p->best->u.mode != INTRA) finish_inter(t, b, p->best);
    return worth;
}

/* Decides a square of the tree and returns its cost. */
static double decide(worker *w, int x, int y, int log_side, const vector *around) {
    const picture *const p = &w->tasks[OUTSIDE]->p;
    if (x >= p->width || y >= p->height) return 0;
    enter_place(w, x, y);
    const task *const t = w->t;
    const block b = block_at(t, x, y, log_side);
    const int half = b.side / 2, whole = !is_split_unasked(p, x, y, log_side);
    choice *const memory = w->choices[log_side - LOG_LEAST];
    pair choices = {&memory[0], &memory[1]};
    vector hint[MOST_REFERENCES];
    int may_split = log_side > LOG_LEAST;
    double split = 0;
    memcpy(hint, around, sizeof hint);
    if (whole) {
        const int worth = decide_whole(w, &b, &choices, hint);
        if (may_split) {
            choices.best->cost += split_cost(t, &b, 0);
            split = split_cost(t, &b, 1);
        }
        may_split &= worth;
    }
    if (may_split) {
        for (int k = 0; k < 4 && (!whole || split < choices.best->cost); k++)
            split += decide(w, x + half * (k & 1), y + half * (k >> 1), log_side - 1, hint);
        if (!whole || split < choices.best->cost) return split;
    }
    commit(t, &b, choices.best, !t->effort->planned);
    return choices.best->cost;
}

/* Levels of a block as it was planned to be predicted, if they are worth their bits. */
static void finish_residual(worker *w, const block *b, choice *c) {
    const task *const t = w->t;
    unit without = c->u;
    without.coded = 0;
    if (without.mode == MERGE) without.mode = SKIP;
    const double cost = (double)error_of(t, b, c->pixels) + header_cost(t, b, &without);
    int is_coded;
    if (c->u.split_transform) {
        transform_four(w, b, c->pixels);
        is_coded = try_four_transforms(w, b, c);
    } else {
        transform_one(w, b, c->pixels);
        is_coded = try_one_transform(w, b, c);
    }
    if (is_coded && c->cost < cost) finish_inter(t, b, c);
    else c->u = without;
}

static void finish_block(worker *w, const block *b, const unit *u) {
    choice *const c = w->choices[b->log_side - LOG_LEAST];
    c->u = *u;
    if (u->mode == INTRA) {
        finish_intra(w, b, c);
    } else {
        predict_motion(w->t, b, &u->motion, c->pixels);
        if (u->coded) finish_residual(w, b, c);
    }
    commit(w->t, b, c, 1);
}

/* Quantizes and reconstructs the blocks of a plan. */
static void finish_plan(worker *w, int x, int y, int log_side) {
    const picture *const p = &w->tasks[OUTSIDE]->p;
    if (x >= p->width || y >= p->height) return;
    enter_place(w, x, y);
    const unit u = *unit_at(p, p->now, x, y);
    const int half = 1 << (log_side - 1);
    if (u.log_side == log_side) {
        const block b = block_at(w->t, x, y, log_side);
        finish_block(w, &b, &u);
        return;
    }
    for (int k = 0; k < 4; k++)
        finish_plan(w, x + half * (k & 1), y + half * (k >> 1), log_side - 1);
}

#endif
