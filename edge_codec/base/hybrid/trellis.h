/* Dependent quantization: the levels of a transform by the Viterbi algorithm.
 *
 * Schwarz et al., "Hybrid video coding with trellis-coded quantization", DCC 2019. Down the scan, each
 * of the four states keeps its cheapest path: distortion plus lambda times bits, relative to a block of
 * zeros. The contexts of a level depend on the levels around it, so a path carries those of its square
 * of 4 x 4, and what they add to the neighborhoods of the rest of the square; for the squares before,
 * it knows the path that it came from at the end of each.
 */
#ifndef EDGE_CODEC_HYBRID_TRELLIS_H
#define EDGE_CODEC_HYBRID_TRELLIS_H

#include "costs.h"

#define STATES 4
#define START STATES /* a path begins here: what comes before it in the code is 0 */
#define NO_PATH 1e30f
#define KEPT_LEVEL 51 /* five of them fit in a byte; no class tells greater ones apart */
#define MOST_SQUARES 64
#define NONE 255

typedef uint8_t square __attribute__((vector_size(16))); /* of a square's places in its scan */
typedef float costs_of_states __attribute__((vector_size(4 * STATES)));
typedef int32_t states __attribute__((vector_size(4 * STATES)));
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (states){i, j, k, l})
#endif

typedef struct {
    square level, sum, count; /* levels; sum and number of those that are known around a place */
    int origin;               /* state at the end of the square before, or START */
} path;

typedef struct {
    costs_of_states cost;
    path way[STATES];
} front;

typedef struct {
    front fronts[2];
    path ended[MOST_SQUARES][STATES]; /* at the end of a square */
    states level[MOST_TRANSFORM * MOST_TRANSFORM], from[MOST_TRANSFORM * MOST_TRANSFORM];
    uint8_t is_passed[MOST_SQUARES]; /* all paths pass a square without levels: nothing recorded */
    uint8_t is_blank[MOST_SQUARES];  /* no path that is left has levels there */
} trellis;

static square SEEN_BY[16];               /* places of a square in whose surroundings a place is */
static square HERE[16];                  /* the place itself */
static uint8_t SQUARE_AT[4][3][MOST_SQUARES]; /* by size: to the right, below, and both; or NONE */
static uint8_t PLACE_IN_SQUARE[4][4];    /* row, column -> place in the scan of a square */

static int find_square(int size, int x, int y) {
    if (x >= 1 << size || y >= 1 << size) return NONE;
    return SCAN_ORDER[size][((4 * y) << (size + 2)) + 4 * x] >> 4;
}

static void fill_squares(void) {
    static const int DX[5] = {1, 2, 1, 0, 0}, DY[5] = {0, 0, 1, 1, 2};
    for (int i = 0; i < 16; i++) PLACE_IN_SQUARE[SCAN[0][i].y][SCAN[0][i].x] = (uint8_t)i;
    for (int i = 0; i < 16; i++) {
        HERE[i][i] = 255;
        for (int k = 0; k < 5; k++) {
            const int x = SCAN[0][i].x - DX[k], y = SCAN[0][i].y - DY[k];
            if (x >= 0 && y >= 0) SEEN_BY[i][PLACE_IN_SQUARE[y][x]] = 255;
        }
    }
    for (int size = 0; size < 4; size++)
        for (int i = 0; i < 1 << (2 * size); i++) {
            const int x = SCAN[size][16 * i].x >> 2, y = SCAN[size][16 * i].y >> 2;
            SQUARE_AT[size][0][i] = (uint8_t)find_square(size, x + 1, y);
            SQUARE_AT[size][1][i] = (uint8_t)find_square(size, x, y + 1);
            SQUARE_AT[size][2][i] = (uint8_t)find_square(size, x + 1, y + 1);
        }
}

/* ------------------------------------------------------------------ the surroundings of a square */

HYBRID_INLINE int is_empty(square v) {
    uint64_t half[2];
    memcpy(half, &v, sizeof half);
    return !(half[0] | half[1]);
}

HYBRID_INLINE void see(uint8_t *sum, uint8_t *count, int y, int x, int level) {
    const int place = PLACE_IN_SQUARE[y][x];
    sum[place] = (uint8_t)(sum[place] + level);
    count[place] = (uint8_t)(count[place] + (level > 0));
}

/* What the squares to the right, below and beyond the corner add, of a path that ends in `state`. */
static void look_beyond(const trellis *t, int size, int number, int squares, int state, path *p) {
    square beyond[3] = {{0}};
    int found = 0, may = 0;
    *p = (path){{0}, {0}, {0}, state};
    for (int k = 0; k < 3; k++) {
        const int at = SQUARE_AT[size][k][number];
        may |= at < squares && !t->is_blank[at];
    }
    if (!may) return;
    for (int s = number + 1, at = state; s < squares && at != START; s++) {
        const path *const ended = &t->ended[s][at];
        for (int k = 0; k < 3; k++)
            if (SQUARE_AT[size][k][number] == s) {
                beyond[k] = ended->level;
                found |= !is_empty(ended->level);
            }
        if (SQUARE_AT[size][2][number] == s) break;
        at = ended->origin;
    }
    if (!found) return;
    uint8_t sum[16] = {0}, count[16] = {0}, level[3][16];
    memcpy(level, beyond, sizeof level);
    for (int i = 0; i < 4; i++) {
        const int right = level[0][PLACE_IN_SQUARE[i][0]], below = level[1][PLACE_IN_SQUARE[0][i]];
        see(sum, count, i, 2, right);
        see(sum, count, i, 3, right);
        see(sum, count, i, 3, level[0][PLACE_IN_SQUARE[i][1]]);
        if (i) see(sum, count, i - 1, 3, right);
        see(sum, count, 2, i, below);
        see(sum, count, 3, i, below);
        see(sum, count, 3, i, level[1][PLACE_IN_SQUARE[1][i]]);
        if (i) see(sum, count, 3, i - 1, below);
    }
    see(sum, count, 3, 3, level[2][0]);
    memcpy(&p->sum, sum, sizeof sum);
    memcpy(&p->count, count, sizeof count);
}

HYBRID_INLINE void add_level(path *p, int place, int level) {
    const int kept = level < KEPT_LEVEL ? level : KEPT_LEVEL;
    const square v = (square){0} + (uint8_t)kept;
    p->level |= HERE[place] & v;
    p->sum += SEEN_BY[place] & v;
    p->count += SEEN_BY[place] & ((square){0} + (uint8_t)(level > 0));
}

/* ----------------------------------------------------------------------------------- a coefficient */

/* Cost of an escaped level beyond the table. */
HYBRID_INLINE float escape_cost(float bit, int rest, int order) {
    const int high = rest >> order;
    if (high < 4) return bit * (float)(high + 1 + order);
    const unsigned v = (unsigned)(rest - (4 << order)) + (2u << order);
    const int length = 31 - __builtin_clz(v);
    return bit * (float)(4 + (length - order) + length);
}

HYBRID_INLINE float magnitude_cost(const float *table, float bit, int sum, int level) {
    if (level <= GREATER) return table[level - 1];
    return table[GREATER] + escape_cost(bit, level - GREATER - 1, escape_order(sum));
}

/* Of each quantizer, the even and the odd one of the two levels next to a magnitude, and what they
 * change in distortion. */
typedef struct {
    int even[2], odd[2];
    float even_distortion[2], odd_distortion[2];
} options;

HYBRID_INLINE float change(float magnitude, int point, float half_delta) {
    const float rest = magnitude - (float)point * half_delta;
    return rest * rest - magnitude * magnitude;
}

HYBRID_INLINE options find_options(float magnitude, float half_delta, float inverse) {
    options o;
    const float points = magnitude * inverse;
    for (int q = 0; q < 2; q++) {
        int low = (int)((points + (float)q) * 0.5f);
        if (low > MOST_LEVEL - 1) low = MOST_LEVEL - 1;
        o.odd[q] = low | 1;
        o.even[q] = (low + 1) & ~1;
        o.odd_distortion[q] = change(magnitude, 2 * o.odd[q] - q, half_delta);
        o.even_distortion[q] = change(magnitude, 2 * o.even[q] - q, half_delta);
    }
    return o;
}

HYBRID_INLINE costs_of_states choose_costs(states mask, costs_of_states yes, costs_of_states no) {
    return (costs_of_states)((mask & (states)yes) | (~mask & (states)no));
}

HYBRID_INLINE states choose_states(states mask, states yes, states no) {
    return (mask & yes) | (~mask & no);
}

HYBRID_INLINE int sum_at(const path *p, int place) {
    const int sum = ((const uint8_t *)&p->sum)[place];
    return sum < TOP_SUM ? sum : TOP_SUM;
}

/* One step down the scan, in which only zeros are thought of. */
HYBRID_INLINE void step_zero(const transform_costs *t, front *f, trellis *w, int i, int kind) {
    const int place = i & 15;
    costs_of_states zero;
    for (int s = 0; s < STATES; s++)
        zero[s] = t->significant[quantizer_class(s)][kind][SUM_CLASS[sum_at(&f->way[s], place)]][0];
    const costs_of_states sum = f->cost + zero;
    f->cost = SHUFFLE(sum, sum, 0, 2, 1, 3); /* the next of each state */
    w->level[i] = (states){0, 0, 0, 0};
    w->from[i] = (states){0, 2, 1, 3};
    const path kept = f->way[1];
    f->way[1] = f->way[2];
    f->way[2] = kept;
}

/* A path may begin here, from state 0: its level is even, or odd. */
HYBRID_INLINE void start_paths(const cost_tables *all, const transform_costs *t, position at,
                               const options *o, const float *magnitudes, costs_of_states *cost,
                               states *from, states *level) {
    const float last = t->last[0][at.x] + t->last[1][at.y];
    costs_of_states start = {NO_PATH, NO_PATH, NO_PATH, NO_PATH};
    if (o->even[0])
        start[0] = last + o->even_distortion[0] + magnitude_cost(magnitudes, all->bit, 0, o->even[0]);
    start[2] = last + o->odd_distortion[0] + magnitude_cost(magnitudes, all->bit, 0, o->odd[0]);
    const states better = start < *cost;
    *cost = choose_costs(better, start, *cost);
    *from = choose_states(better, (states){START, START, START, START}, *from);
    *level = choose_states(better, (states){o->even[0], 0, o->odd[0], 0}, *level);
}

/* One step down the scan. Even levels take states 0 to 3 to 0, 2, 1, 3; odd ones to 2, 0, 3, 1. */
HYBRID_INLINE void step_full(const cost_tables *all, const transform_costs *t, const front *f,
                             front *next, trellis *w, int i, int size, const options *o,
                             int may_start) {
    const int place = i & 15, kind = KIND[size][i];
    const position at = SCAN[size][i];
    const float(*const magnitudes)[GREATER + 1] = t->magnitude[depth_class(at.x + at.y)];
    costs_of_states zero, even, odd;
    for (int s = 0; s < STATES; s++) {
        const int q = s >> 1, sum = sum_at(&f->way[s], place);
        const float *const bin = t->significant[quantizer_class(s)][kind][SUM_CLASS[sum]];
        const float *const table =
            magnitudes[PAIR[sum][((const uint8_t *)&f->way[s].count)[place]]];
        zero[s] = bin[0];
        odd[s] = bin[1] + o->odd_distortion[q] + magnitude_cost(table, all->bit, sum, o->odd[q]);
        even[s] = o->even[q] ? bin[1] + o->even_distortion[q] +
                                   magnitude_cost(table, all->bit, sum, o->even[q])
                             : NO_PATH;
    }
    zero += f->cost;
    odd += f->cost;
    even += f->cost;
    const states is_some = even < zero;
    const states even_level = is_some & (states){o->even[0], o->even[0], o->even[1], o->even[1]};
    const states odd_level = {o->odd[0], o->odd[0], o->odd[1], o->odd[1]};
    even = choose_costs(is_some, even, zero);
    const costs_of_states one = SHUFFLE(even, odd, 0, 2, 4, 6);
    const costs_of_states other = SHUFFLE(even, odd, 5, 7, 1, 3);
    const states is_other = other < one;
    next->cost = choose_costs(is_other, other, one);
    states from = choose_states(is_other, (states){1, 3, 1, 3}, (states){0, 2, 0, 2});
    states level = choose_states(is_other,
                                 SHUFFLE(even_level, odd_level, 5, 7, 1, 3),
                                 SHUFFLE(even_level, odd_level, 0, 2, 4, 6));
    if (may_start) start_paths(all, t, at, o, magnitudes[0], &next->cost, &from, &level);
    w->from[i] = from;
    w->level[i] = level;
    for (int to = 0; to < STATES; to++) {
        if (from[to] == START) next->way[to] = (path){{0}, {0}, {0}, START};
        else next->way[to] = f->way[from[to]];
        add_level(&next->way[to], place, level[to]);
    }
}

/* ------------------------------------------------------------------------------------- the block */

typedef struct {
    float half_delta, inverse; /* Delta / 2 in pixel values; its inverse */
    float least;               /* magnitudes below, in Delta / 2, stay 0 */
    float least_last;          /* and below this are not the first to be coded */
} quantization;

static void trace_back(const trellis *w, int size, int first, int state,
                       const int32_t *coefficients, int32_t *levels) {
    const int log_size = size + 2;
    for (int i = 0; i <= first; i++) {
        if (!(i & 15) && w->is_passed[i >> 4]) { /* which leads back to the same state */
            i += 15;
            continue;
        }
        const int place = (SCAN[size][i].y << log_size) + SCAN[size][i].x;
        const int32_t level = w->level[i][state];
        levels[place] = coefficients[place] < 0 ? -level : level;
        state = w->from[i][state];
        if (state == START) return;
    }
}

/* Whether all magnitudes of a square of 4 x 4 are at most `most`. */
HYBRID_INLINE int is_below(const int32_t *coefficients, int size, int number, int32_t most) {
    const position at = SCAN[size][16 * number];
    const int32_t *row = coefficients + (at.y << (size + 2)) + at.x;
    int32_t above = 0;
    for (int y = 0; y < 4; y++, row += 4 << size)
        for (int x = 0; x < 4; x++) above |= abs(row[x]) > most;
    return !above;
}

/* The place in the scan of the last magnitude above `most`, or -1. */
static int find_last(const int32_t *coefficients, int size, int32_t most) {
    int number = (1 << (2 * size)) - 1;
    while (number >= 0 && is_below(coefficients, size, number, most)) number--;
    for (int i = 16 * number + 15; i >= 16 * number && number >= 0; i--)
        if (abs(coefficients[(SCAN[size][i].y << (size + 2)) + SCAN[size][i].x]) > most) return i;
    return -1;
}

/* Takes all paths through a square of zeros: states 1 and 2 take turns, so all come back. */
static void pass_zeros(const transform_costs *t, front *f, int size, int number) {
    static const uint8_t STATE_AT[2][STATES] = {{0, 1, 2, 3}, {0, 2, 1, 3}};
    for (int s = 0; s < STATES; s++) {
        if (is_empty(f->way[s].count)) {
            f->cost[s] += t->zeros[number][s];
            continue;
        }
        float cost = 0;
        for (int place = 15; place >= 0; place--)
            cost += t->significant[quantizer_class(STATE_AT[~place & 1][s])]
                                  [KIND[size][16 * number + place]]
                                  [SUM_CLASS[sum_at(&f->way[s], place)]][0];
        f->cost[s] += cost;
    }
}

static void end_square(const front *f, trellis *w, int number) {
    square any = {0};
    for (int s = 0; s < STATES; s++) {
        w->ended[number][s] = f->way[s];
        any |= f->way[s].level;
    }
    w->is_blank[number] = (uint8_t)is_empty(any);
}

/* Levels of n x n coefficients (in 1/8, rows of n). Returns what they gain over zeros in cost, the
 * place of the last one and all levels included, the flag that there are some not: below 0, or 0 if
 * there are none. */
static float quantize(const cost_tables *all, const quantization *q, trellis *w, int log_size,
                      int intra, const int32_t *coefficients, int32_t *levels) {
    const int size = log_size - 2;
    const transform_costs *const t = &all->transform[intra][size];
    const float scale = q->inverse / (1 << COEFFICIENT_BITS);
    const int32_t least = (int32_t)(q->least / scale), least_last = (int32_t)(q->least_last / scale);
    const int first = find_last(coefficients, size, least_last), squares = (first >> 4) + 1;
    memset(levels, 0, sizeof *levels << (2 * log_size));
    if (first < 0) return 0;
    front *f = &w->fronts[0], *next = &w->fronts[1];
    f->cost = (costs_of_states){NO_PATH, NO_PATH, NO_PATH, NO_PATH};
    for (int k = 0; k < STATES; k++) f->way[k] = (path){{0}, {0}, {0}, START};
    for (int number = squares - 1; number >= 0; number--) {
        const int is_first = number == squares - 1;
        if (!is_first)
            for (int k = 0; k < STATES; k++) look_beyond(w, size, number, squares, k, &f->way[k]);
        w->is_passed[number] = !is_first && is_below(coefficients, size, number, least);
        if (w->is_passed[number]) pass_zeros(t, f, size, number);
        for (int i = is_first ? first : 16 * number + 15; i >= 16 * number; i--) {
            if (w->is_passed[number]) break;
            const position at = SCAN[size][i];
            const int32_t c = abs(coefficients[(at.y << log_size) + at.x]);
            if (c <= least) {
                step_zero(t, f, w, i, KIND[size][i]);
                continue;
            }
            const options o =
                find_options((float)c / (1 << COEFFICIENT_BITS), q->half_delta, q->inverse);
            step_full(all, t, f, next, w, i, size, &o, c > least_last);
            front *const before = f;
            f = next;
            next = before;
        }
        end_square(f, w, number);
    }
    int best = 0;
    for (int k = 1; k < STATES; k++)
        if (f->cost[k] < f->cost[best]) best = k;
    if (f->cost[best] >= 0) return 0;
    trace_back(w, size, first, best, coefficients, levels);
    return f->cost[best];
}

#endif
