/* What the encoder's decisions share: the frame, its costs, and each worker's memory. */
#ifndef EDGE_CODEC_HYBRID_WORKER_H
#define EDGE_CODEC_HYBRID_WORKER_H

#include "decode.h"
#include "trellis.h"

enum { FAST, DEFAULT, BEST };

#define FIRST_FRAMES 3 /* of a slice: little is known */

/* How hard the encoder tries: none of it changes what a decoder does. */
typedef struct {
    int feedback;       /* first frames in which costs follow the contexts, block by block: one worker */
    int planned;        /* decide by guesses; quantize only what was decided */
    int references;     /* that motion is searched in */
    int small_references; /* the same of the smallest blocks */
    int refined;        /* of them, those that it is searched in between pixels */
    int pairs;          /* of references for two predictions */
    int rounds;         /* of refining two predictions in turn; 0: none is */
    int reach;          /* of that, in quarter pixels */
    int merged;         /* candidates of merging that are tried */
    int merges;         /* of them, those that may have levels */
    int directions;     /* that a vector is refined in, 8 or 4 */
    int motions;        /* predictions that levels are tried for */
    int all_modes;      /* rank all intra modes; else from coarse to fine */
    int intra_modes;    /* that are tried in full */
    double good_enough; /* cost in Delta^2 per pixel of skipping that ends the search */
    double intra_least; /* cost in Delta^2 per pixel from which intra modes are tried */
    double split_least; /* the same of splitting a skipped block */
    float least;        /* in Delta / 2: coefficients below stay 0 */
    float least_last;   /* the same for the last one */
} effort_settings;

static const effort_settings EFFORTS[3] = {
    [FAST] = {.planned = 1,
              .references = 2,
              .small_references = 1,
              .refined = 1,
              .merged = 6,
              .merges = 1,
              .directions = 4,
              .motions = 1,
              .intra_modes = 1,
              .good_enough = 0.08,
              .intra_least = 0.3,
              .split_least = 0.2,
              .least = 0.8f,
              .least_last = 1.5f},
    [DEFAULT] = {.feedback = FIRST_FRAMES,
                 .references = 4,
                 .small_references = 4,
                 .refined = 2,
                 .pairs = 1,
                 .rounds = 1,
                 .reach = 2,
                 .merged = 6,
                 .merges = 2,
                 .directions = 8,
                 .motions = 2,
                 .intra_modes = 2,
                 .good_enough = 0.05,
                 .intra_least = 0.15,
                 .split_least = 0.1,
                 .least = 0.5f,
                 .least_last = 1.2f},
    [BEST] = {.feedback = FIRST_FRAMES + 1,
              .references = 4,
              .small_references = 4,
              .refined = 4,
              .pairs = 3,
              .rounds = 2,
              .reach = 4,
              .merged = 6,
              .merges = 2,
              .directions = 8,
              .motions = 4,
              .all_modes = 1,
              .intra_modes = 4,
              .good_enough = 0.04,
              .least = 0.3f,
              .least_last = 0.9f},
};

typedef struct {
    picture p;
    models estimate; /* contexts for costs */
    uint32_t likely_costs[3], mode_costs[INTRA_MODES - 3]; /* of likely modes, and others in order */
    cost_tables costs;
    quantization quantization;
    double lambda, motion_lambda; /* of squared, and of absolute differences */
    double delta;                 /* in pixel values */
    int32_t step;                 /* the same in 1/64 */
    const effort_settings *effort;
    plane reference[MOST_REFERENCES];
    int16_t *source;  /* rows of p.width */
    frame original;   /* the same, as a frame */
    picture unquantized; /* which plans predict from */
    int32_t *levels; /* rows of p.width */
} task;

/* A way to code a block. */
typedef struct {
    unit u, part[4]; /* part: of intra blocks in four parts */
    double cost;
    int16_t pixels[TREE * TREE]; /* prediction, and in the end reconstruction; rows of the side */
    int32_t levels[TREE * TREE]; /* rows of the side; only of transforms that are coded */
} choice;

#define LEVELS_OF_TREE (LOG_TREE - LOG_LEAST + 1)

typedef struct {
    const task *tasks[PLACES]; /* outside and inside of the region */
    const task *t;             /* that of the block in work */
    trellis trellis;
    choice choices[LEVELS_OF_TREE][2];
    int16_t predictions[MERGES + 2][TREE * TREE]; /* merging; one prediction; two */
    int16_t trial[TREE * TREE], other[TREE * TREE], between[TREE * TREE];
    int16_t residual[MOST_TRANSFORM * MOST_TRANSFORM];
    int32_t coefficients[2][TREE * TREE]; /* in one transform; in four, one after another */
} worker;

typedef struct {
    int x, y, log_side, side;
    const int16_t *source; /* rows of p.width */
} block;

/* Takes the prices of the place where a block lies. */
static void enter_place(worker *w, int x, int y) {
    w->t = w->tasks[place_of(&w->tasks[OUTSIDE]->p, x, y)];
}

static block block_at(const task *t, int x, int y, int log_side) {
    return (block){x, y, log_side, 1 << log_side, t->source + (ptrdiff_t)y * t->p.width + x};
}

HYBRID_INLINE double bits_cost(const task *t, const bins *c) {
    return t->lambda * ((double)c->cost / ONE_BIT);
}

static double header_cost(const task *t, const block *b, const unit *u) {
    bins c = {.cost = 0};
    unit copy = *u;
    code_header(ESTIMATE, &c, (models *)&t->estimate, &t->p, b->x, b->y, &copy);
    return bits_cost(t, &c);
}

static double split_cost(const task *t, const block *b, int split) {
    bins c = {.cost = 0};
    code_split(ESTIMATE, &c, (models *)&t->estimate, &t->p, b->x, b->y, b->log_side, split);
    return bits_cost(t, &c);
}

/* Prediction of a block from its motion. */
static void predict_motion(const task *t, const block *b, const motion *m, int16_t *out) {
    const int first = m->lists & FIRST ? 0 : 1;
    const plane *const a = &t->reference[m->reference[first]];
    if (m->lists == BOTH)
        predict_two(a, m->vector[0].x, m->vector[0].y, &t->reference[m->reference[1]],
                    m->vector[1].x, m->vector[1].y, b->x, b->y, b->side, out);
    else predict_one(a, b->x, b->y, b->side, m->vector[first].x, m->vector[first].y, out);
}

static int64_t error_of(const task *t, const block *b, const int16_t *prediction) {
    return squared_difference(b->source, t->p.width, prediction, b->side, b->side);
}

#endif
