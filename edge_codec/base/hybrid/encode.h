/* Encodes a frame: decisions, by several workers if they pay, then the bins in their order.
 *
 * Decisions take their costs from the contexts as they were when the frame began, so that the result
 * does not depend on the number of workers. They take rows of largest blocks in rising order; a row
 * waits until the row above is two blocks ahead, for what it sees of it; while it waits it codes blocks
 * that are decided. Where compression is worth more than time, one worker decides and codes block by
 * block, and costs follow the contexts. Where time is worth more, a block's tree is planned by guesses
 * first, and only what was chosen is quantized (decide.h). A region has prices of its own, those of its
 * quantizer; since blocks lie within it or outside, costs of the two are never compared.
 */
#ifndef EDGE_CODEC_HYBRID_ENCODE_H
#define EDGE_CODEC_HYBRID_ENCODE_H

#include <math.h>
#include <sched.h>
#include <stdatomic.h>

#include "decide.h"
#include "expected.h"

#define DECIDERS 16     /* workers at most */
#define FEW_BINS 16     /* a context that has seen fewer says little */

typedef struct {
    const frame_store *store;
    loop_filter *filter;
    task task;
    task *inner;    /* of the region, once there is one */
    models *m;      /* of the slice: adapt as the frame is coded */
    models learned; /* what was known when contexts were last seen to hold */
    int frames;     /* coded so far, up to FIRST_FRAMES */
    int feedback;   /* this frame is decided and coded block by block */
    int layer, inner_quantizer;
    frame_coding coding;
    int workers; /* of this frame */
    worker *worker[DECIDERS];
    atomic_int next_worker, next_row;
    atomic_int *progress; /* blocks decided in a row */
    atomic_flag is_coding;
    int coded; /* blocks, from the first on; of the worker that is coding */
    int rows, columns;    /* of largest blocks */
} encoder;

static void encoder_free(encoder *e) {
    if (!e) return;
    for (int i = 0; i < DECIDERS; i++) free(e->worker[i]);
    free(e->inner);
    free(e->task.source);
    free(e->task.levels);
    free(e->progress);
    free(e->coding.bins.out);
    free(e);
}

static encoder *encoder_new(const frame_store *s, loop_filter *filter) {
    encoder *const e = calloc(1, sizeof *e);
    if (!e) return NULL;
    const size_t area = (size_t)s->width * (size_t)s->height;
    e->store = s;
    e->filter = filter;
    expect_models(&e->learned);
    e->rows = (s->height + TREE - 1) / TREE;
    e->columns = (s->width + TREE - 1) / TREE;
    e->task.source = calloc(area, sizeof *e->task.source);
    e->task.levels = calloc(area, sizeof *e->task.levels);
    e->progress = calloc((size_t)e->rows, sizeof *e->progress);
    if (e->task.source && e->task.levels && e->progress) return e;
    encoder_free(e);
    return NULL;
}

/* Samples, with the last row and column repeated up to multiples of 8. */
static void load_source(encoder *e, const int16_t *samples, int rows, int columns) {
    const int width = e->store->width, height = e->store->height;
    for (int y = 0; y < height; y++) {
        const int16_t *const from = samples + (ptrdiff_t)(y < rows ? y : rows - 1) * columns;
        int16_t *const to = e->task.source + (ptrdiff_t)y * width;
        memcpy(to, from, (size_t)columns * sizeof *to);
        for (int x = columns; x < width; x++) to[x] = from[columns - 1];
    }
}

/* Squared error worth a bit, in Delta^2, by layer of the structure: key frames, frames that others are
 * predicted from, the rest. Measured: those that cost least at the same quality on training exams. */
static const double LAMBDAS[] = {0.16, 0.10, 0.065};
#define LAYERS ((int)(sizeof LAMBDAS / sizeof *LAMBDAS))

static void set_quantizer(task *t, int quantizer, int layer) {
    t->step = DELTAS[quantizer];
    t->delta = t->step / 64.0;
    t->lambda = LAMBDAS[layer < 0 ? 0 : layer < LAYERS ? layer : LAYERS - 1] * t->delta * t->delta;
    t->motion_lambda = sqrt(t->lambda);
    t->quantization.half_delta = (float)(t->delta / 2);
    t->quantization.inverse = (float)(2 / t->delta);
    t->quantization.least = t->effort->least;
    t->quantization.least_last = t->effort->least_last;
}

/* `to` takes over contexts of `from` that have seen more, where its own have seen little. */
static void fill_in(models *to, const models *from) {
    context *const x = (context *)to, *const end = (context *)&to->split_mixer;
    const context *const y = (const context *)from;
    for (ptrdiff_t i = 0; x + i != end; i++)
        if (x[i].count < FEW_BINS && y[i].count > x[i].count) x[i] = y[i];
}

static void take_mixers(models *to, const models *from) {
    memcpy(&to->split_mixer, &from->split_mixer, sizeof *to - offsetof(models, split_mixer));
}

/* Contexts for costs: the present ones, or after a key frame has reset them, those before. */
static void set_outer(encoder *e) {
    e->task.estimate = *e->m;
    fill_in(&e->task.estimate, &e->learned);
    if (e->task.p.key && !e->feedback) take_mixers(&e->task.estimate, &e->learned);
    fill_costs_of(&e->task.costs, &e->task.estimate, e->task.lambda);
    fill_mode_costs(&e->task);
}

/* The same and the prices of the region's quantizer. */
static void set_estimate(encoder *e) {
    set_outer(e);
    if (!has_region(&e->task.p)) return;
    *e->inner = e->task;
    set_quantizer(e->inner, e->inner_quantizer, e->layer);
    fill_costs_of(&e->inner->costs, &e->inner->estimate, e->inner->lambda);
}

/* Whether there is memory for the workers of the frame. */
static int reserve_workers(encoder *e, int has_inner) {
    if (has_inner && !e->inner && !(e->inner = malloc(sizeof *e->inner))) return 0;
    for (int i = 0; i < e->workers; i++) {
        if (!e->worker[i]) e->worker[i] = calloc(1, sizeof *e->worker[i]);
        if (!e->worker[i]) return 0;
        e->worker[i]->tasks[OUTSIDE] = e->worker[i]->t = &e->task;
        e->worker[i]->tasks[INSIDE] = e->inner;
    }
    return 1;
}

static void learn(encoder *e) {
    models m = *e->m;
    fill_in(&m, &e->learned);
    e->learned = m;
    e->frames += e->frames < FIRST_FRAMES;
}

static void fill_encoder_tables(void) {
    init_transforms();
    fill_cost_indices();
    fill_squares();
}

/* Prepares a frame for workers; `gain` is of the region's quantizer, `layer` that of the structure.
 * Returns 0 without memory. */
static int encode_open(encoder *e, const picture *p, models *m, const int16_t *samples, int rows,
                       int columns, int quantizer, int gain, int effort, int layer, int workers) {
    task *const t = &e->task;
    t->effort = &EFFORTS[effort];
    e->feedback = e->frames < t->effort->feedback;
    e->workers = e->feedback || workers < 1 ? 1 : workers > e->rows ? e->rows : workers;
    if (e->workers > DECIDERS) e->workers = DECIDERS;
    if (!reserve_workers(e, has_region(p))) return 0;
    t->p = *p;
    e->m = m;
    for (int i = 0; i < p->n_references; i++)
        e->coding.reference[i] = t->reference[i] =
            (plane){p->reference[i]->pixels, p->stride, p->width, p->height};
    load_source(e, samples, rows, columns);
    t->original = (frame){.pixels = t->source};
    t->unquantized = *p;
    t->unquantized.stride = p->width;
    t->unquantized.now = &t->original;
    e->layer = layer;
    e->inner_quantizer = inner_quantizer(quantizer, gain);
    set_quantizer(t, quantizer, layer);
    set_estimate(e);
    e->coding.p = &t->p;
    e->coding.m = m;
    e->coding.levels = t->levels;
    fill_deltas(e->coding.delta, quantizer, gain);
    start_encoder(&e->coding.bins);
    atomic_store(&e->next_worker, 0);
    atomic_store(&e->next_row, 0);
    atomic_flag_clear(&e->is_coding);
    e->coded = 0;
    for (int i = 0; i < e->rows; i++) atomic_store(&e->progress[i], 0);
    return 1;
}

static void decide_block(worker *w, int column, int row) {
    static const vector NONE_AROUND[MOST_REFERENCES];
    decide(w, column * TREE, row * TREE, LOG_TREE, NONE_AROUND);
    if (w->t->effort->planned) finish_plan(w, column * TREE, row * TREE, LOG_TREE);
}

static void work_with_feedback(encoder *e, worker *w) {
    for (int row = 0; row < e->rows; row++)
        for (int column = 0; column < e->columns; column++) {
            if (row || column) set_estimate(e);
            decide_block(w, column, row);
            encode_node(&e->coding, column * TREE, row * TREE, LOG_TREE);
        }
}

static int decided_in(encoder *e, int row) {
    return atomic_load_explicit(&e->progress[row], memory_order_acquire);
}

/* Codes the next block, if it is decided and no other worker is coding. */
static int code_next(encoder *e) {
    if (atomic_flag_test_and_set_explicit(&e->is_coding, memory_order_acquire)) return 0;
    const int row = e->coded / e->columns, column = e->coded % e->columns;
    const int is_ready = row < e->rows && column < decided_in(e, row);
    if (is_ready) {
        encode_node(&e->coding, column * TREE, row * TREE, LOG_TREE);
        e->coded++;
    }
    atomic_flag_clear_explicit(&e->is_coding, memory_order_release);
    return is_ready;
}

static void work_on_row(encoder *e, worker *w, int row) {
    for (int column = 0; column < e->columns; column++) {
        const int needed = column + 2 < e->columns ? column + 2 : e->columns;
        while (row && decided_in(e, row - 1) < needed)
            if (!code_next(e)) sched_yield();
        decide_block(w, column, row);
        atomic_store_explicit(&e->progress[row], column + 1, memory_order_release);
    }
}

/* Called once by each worker. */
static void encode_work(encoder *e) {
    const int number = atomic_fetch_add(&e->next_worker, 1);
    if (number >= e->workers) return;
    if (e->feedback) {
        work_with_feedback(e, e->worker[number]);
        return;
    }
    for (int row; (row = atomic_fetch_add(&e->next_row, 1)) < e->rows;)
        work_on_row(e, e->worker[number], row);
    while (decided_in(e, e->rows - 1) < e->columns)
        if (!code_next(e)) sched_yield();
}

/* By how much filtering lowers the squared error of a square, that in the region as it counts there. */
static double filter_gain(const encoder *e, int x, int y, const int16_t *filtered) {
    const task *const t = &e->task;
    const picture *const p = &t->p;
    const double inner = has_region(p) ? t->lambda / e->inner->lambda : 1;
    int64_t gains[PLACES] = {0};
    for (int j = 0; j < FILTER_SQUARE && y + j < p->height; j += 8)
        for (int i = 0; i < FILTER_SQUARE && x + i < p->width; i += 8) {
            int64_t *const gain = &gains[place_of(p, x + i, y + j)];
            const int16_t *const source = t->source + (ptrdiff_t)(y + j) * p->width + x + i;
            const int16_t *const now = p->now->pixels + (y + j) * p->stride + x + i;
            *gain += squared_difference(source, p->width, now, p->stride, 8);
            *gain -= squared_difference(source, p->width, filtered + j * FILTER_SQUARE + i,
                                        FILTER_SQUARE, 8);
        }
    return (double)gains[OUTSIDE] + inner * (double)gains[INSIDE];
}

static double filtered_cost(const task *t, models *m, int filtered) {
    bins c = {.cost = 0};
    code_filtered(ESTIMATE, &c, m, &t->p, filtered);
    return bits_cost(t, &c);
}

/* Filters the squares for which that is worth its bit. */
static void encode_filter(encoder *e) {
    task *const t = &e->task;
    const picture *const p = &t->p;
    int16_t trial[FILTER_SQUARE * FILTER_SQUARE];
    open_filter(e->filter, p, e->coding.delta);
    for (int y = 0; y < p->height; y += FILTER_SQUARE)
        for (int x = 0; x < p->width; x += FILTER_SQUARE) {
            if (!is_filterable(e->filter, p, x, y)) continue;
            filter_square(e->filter, p, x, y, e->coding.delta, trial, FILTER_SQUARE);
            const double price = filtered_cost(t, e->m, 1) - filtered_cost(t, e->m, 0);
            if (!code_filtered(ENCODE, &e->coding.bins, e->m, p, filter_gain(e, x, y, trial) > price))
                continue;
            const int columns = p->width - x < FILTER_SQUARE ? p->width - x : FILTER_SQUARE;
            for (int j = 0; j < FILTER_SQUARE && y + j < p->height; j++)
                memcpy(p->now->pixels + (y + j) * p->stride + x, trial + j * FILTER_SQUARE,
                       (size_t)columns * sizeof *trial);
        }
}

/* Codes what was decided; `out` gets the bins' bytes. Returns 0 without memory. */
static int encode_close(encoder *e, bins *out) {
    while (!e->feedback && code_next(e)) continue;
    encode_filter(e);
    finish_encoder(&e->coding.bins);
    learn(e);
    const bins before = *out;
    *out = e->coding.bins;
    e->coding.bins.out = before.out;
    e->coding.bins.capacity = before.capacity;
    return !out->failed;
}

#endif
