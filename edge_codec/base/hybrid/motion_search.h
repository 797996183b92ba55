/* Motion vectors of a block: the least transformed difference plus what the vector costs. */
#ifndef EDGE_CODEC_HYBRID_MOTION_SEARCH_H
#define EDGE_CODEC_HYBRID_MOTION_SEARCH_H

#include "worker.h"

typedef struct {
    vector vector;
    int predictor;
    double cost, vector_cost; /* all, and of the vector alone */
} found;

/* A search for one vector: into which reference, and what it is predicted and limited by. */
typedef struct {
    worker *w;
    const block *b;
    int reference;
    vector predictors[2];
    int least_x, most_x, least_y, most_y;
    double fixed;         /* cost of the reference's place */
    const int16_t *other; /* the other prediction of two (compensate), or NULL */
} search;

static const int8_t AROUND[8][2] = {{1, 0}, {-1, 0}, {0, 1},  {0, -1},
                                    {1, 1}, {-1, 1}, {1, -1}, {-1, -1}};

static search open_search(worker *w, const block *b, int reference, const int16_t *other) {
    const picture *const p = &w->t->p;
    search s = {.w = w, .b = b, .reference = reference, .other = other};
    vector_predictors(p, b->x, b->y, b->side, reference, s.predictors);
    s.least_x = 4 * (-b->x - b->side - 8);
    s.most_x = 4 * (p->width - b->x + 8);
    s.least_y = 4 * (-b->y - b->side - 8);
    s.most_y = 4 * (p->height - b->y + 8);
    if (s.most_x > MOST_MOTION) s.most_x = MOST_MOTION & ~3;
    if (s.most_y > MOST_MOTION) s.most_y = MOST_MOTION & ~3;
    if (s.least_x < -MOST_MOTION) s.least_x = -(MOST_MOTION & ~3);
    if (s.least_y < -MOST_MOTION) s.least_y = -(MOST_MOTION & ~3);
    bins c = {.cost = 0};
    code_unary(ESTIMATE, &c, (context *)w->t->estimate.reference, p->n_references - 1, reference);
    s.fixed = w->t->motion_lambda * ((double)c.cost / ONE_BIT);
    return s;
}

HYBRID_INLINE int is_allowed(const search *s, int x, int y) {
    return x >= s->least_x && x <= s->most_x && y >= s->least_y && y <= s->most_y;
}

HYBRID_INLINE vector limit_vector(const search *s, vector v) {
    v.x = (int16_t)(v.x < s->least_x ? s->least_x : v.x > s->most_x ? s->most_x : v.x);
    v.y = (int16_t)(v.y < s->least_y ? s->least_y : v.y > s->most_y ? s->most_y : v.y);
    return v;
}

/* The cheaper predictor, and the vector's cost. */
static found price(const search *s, vector v) {
    const task *const t = s->w->t;
    float cost[2];
    for (int i = 0; i < 2; i++)
        cost[i] = difference_cost(&t->costs, 0, v.x - s->predictors[i].x) +
                  difference_cost(&t->costs, 1, v.y - s->predictors[i].y);
    const int predictor = cost[1] < cost[0];
    const double scaled = (double)cost[predictor] * (t->motion_lambda / t->lambda);
    return (found){v, predictor, 0, s->fixed + scaled};
}

/* Whole pixels, by absolute differences. */
static void try_whole(const search *s, vector v, found *best) {
    const task *const t = s->w->t;
    found f = price(s, v);
    if (f.vector_cost >= best->cost) return;
    const plane *const from = &t->reference[s->reference];
    const int16_t *const p = moved(from, s->b->x, s->b->y, s->b->side, v.x, v.y);
    f.cost = f.vector_cost +
             absolute_difference(s->b->source, t->p.width, p, from->stride, s->b->side);
    if (f.cost < best->cost) *best = f;
}

/* Any vector, by transformed differences, and with the other prediction if there is one. */
static void try_exact(const search *s, vector v, found *best) {
    worker *const w = s->w;
    const task *const t = w->t;
    const block *const b = s->b;
    found f = price(s, v);
    if (f.vector_cost >= best->cost) return;
    const plane *const from = &t->reference[s->reference];
    if (s->other) {
        compensate(from, b->x, b->y, b->side, v.x, v.y, w->trial);
        round_two(w->trial, s->other, b->side, w->trial);
    } else {
        predict_one(from, b->x, b->y, b->side, v.x, v.y, w->trial);
    }
    f.cost = f.vector_cost +
             transformed_difference(b->source, t->p.width, w->trial, b->side, b->side);
    if (f.cost < best->cost) *best = f;
}

/* Tries the vectors around the best one; returns whether one of them is better. */
HYBRID_INLINE int try_around(const search *s, int distance, int exact, found *best) {
    const vector center = best->vector;
    for (int k = 0; k < s->w->t->effort->directions; k++) {
        const int x = center.x + AROUND[k][0] * distance, y = center.y + AROUND[k][1] * distance;
        if (!is_allowed(s, x, y)) continue;
        const vector v = {(int16_t)x, (int16_t)y};
        if (exact) try_exact(s, v, best);
        else try_whole(s, v, best);
    }
    return !is_same_vector(center, best->vector);
}

/* The best vector of whole pixels; steps begin at `distance` quarter pixels. */
static found search_whole(const search *s, const vector *starts, int n, int distance) {
    found best = {.cost = 1e300};
    for (int i = 0; i < n + 2; i++) {
        vector v = i < n ? starts[i] : s->predictors[i - n];
        v.x = (int16_t)((v.x + 2) & ~3);
        v.y = (int16_t)((v.y + 2) & ~3);
        try_whole(s, limit_vector(s, v), &best);
    }
    while (distance >= 4)
        if (!try_around(s, distance, 0, &best)) distance >>= 1;
    return best;
}

/* The best vector between pixels, close to one of whole pixels or to a predictor. */
static found search_between(const search *s, vector whole) {
    found best = {.cost = 1e300};
    try_exact(s, whole, &best);
    for (int i = 0; i < 2; i++) try_exact(s, limit_vector(s, s->predictors[i]), &best);
    try_around(s, 2, 1, &best);
    try_around(s, 1, 1, &best);
    return best;
}

/* The same with fewer trials: it may be that of the block around. */
static found search_close(const search *s, vector whole, vector hint) {
    found best = {.cost = 1e300};
    try_exact(s, whole, &best);
    if (!is_same_vector(whole, hint)) try_exact(s, limit_vector(s, hint), &best);
    for (int i = 0; i < 2; i++) try_exact(s, limit_vector(s, s->predictors[i]), &best);
    if (is_same_vector(best.vector, whole)) try_around(s, 2, 1, &best);
    try_around(s, 1, 1, &best);
    return best;
}

/* The best vector close to a given one, if the other prediction stays. */
static found search_other(const search *s, vector start, int reach) {
    found best = {.cost = 1e300};
    try_exact(s, start, &best);
    for (int distance = reach; distance >= 1; distance >>= 1)
        for (int i = 0; i < 2 && try_around(s, distance, 1, &best); i++) continue;
    return best;
}

#endif
