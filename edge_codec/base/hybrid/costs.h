/* What levels and motion cost, in tables made once for a frame.
 *
 * Costs are lambda times bits, in squared pixel values, so that they add up with distortions; the bits
 * are those of the contexts as the tables were made. An estimate: contexts adapt as a frame goes on.
 */
#ifndef EDGE_CODEC_HYBRID_COSTS_H
#define EDGE_CODEC_HYBRID_COSTS_H

#include "syntax.h"

#define KINDS 72         /* pairs of diagonal class and place that a transform has, at most */
#define TOP_SUM 64       /* no class tells greater sums from this one */
#define TABLED_MOTION 64 /* differences below are in a table */
#define GREATER_PAIRS 56 /* of greater_class and greater_size_class */
#define DEPTHS 4         /* classes of diagonals for magnitudes */

typedef struct {
    float significant[3][KINDS][6][2]; /* quantizer class, kind of place, neighborhood, bin */
    float magnitude[DEPTHS][GREATER_PAIRS][GREATER + 1]; /* 1 .. 4, and all bins 1; with the sign */
    float last[2][MOST_TRANSFORM];     /* horizontal, vertical */
    float zeros[64][4]; /* squares of 16 zeros with zeros around, by the state before and after */
} transform_costs;

typedef struct {
    float bit; /* lambda, in squared pixel values: of one bit */
    transform_costs transform[2][4]; /* intra, size */
    float motion[2][TABLED_MOTION];
    float motion_length[2][MOTION_PREFIX + 1]; /* of a code of so many ones in its prefix */
} cost_tables;

/* What the tables are indexed by; filled once. */
static uint8_t KIND[4][MOST_TRANSFORM * MOST_TRANSFORM]; /* of a place in the scan */
static position KIND_PLACE[4][KINDS];                    /* one place of that kind */
static int KIND_COUNT[4];
static uint8_t PAIR[TOP_SUM + 1][6]; /* of sum and count of the surroundings */
static uint8_t SUM_CLASS[TOP_SUM + 1];

HYBRID_INLINE int depth_class(int diagonal) {
    return diagonal == 0 ? 0 : diagonal < 3 ? 1 : diagonal < 4 ? 2 : 3;
}

static int find_kind(int size, position at) {
    const int class = significant_diagonal(at.x + at.y);
    for (int k = 0; k < KIND_COUNT[size]; k++) {
        const position other = KIND_PLACE[size][k];
        if (other.place == at.place && significant_diagonal(other.x + other.y) == class) return k;
    }
    KIND_PLACE[size][KIND_COUNT[size]] = at;
    return KIND_COUNT[size]++;
}

static void fill_cost_indices(void) {
    for (int size = 0; size < 4; size++) {
        KIND_COUNT[size] = 0;
        for (int i = 0; i < 1 << (2 * size + 4); i++)
            KIND[size][i] = (uint8_t)find_kind(size, SCAN[size][i]);
    }
    for (int sum = 0; sum <= TOP_SUM; sum++) {
        SUM_CLASS[sum] = (uint8_t)significant_class(sum);
        for (int count = 0; count < 6; count++)
            PAIR[sum][count] = (uint8_t)(greater_class((surroundings){sum, count}) * 8 +
                                         greater_size_class(sum));
    }
}

HYBRID_INLINE float to_cost(const cost_tables *t, uint32_t cost) {
    return t->bit * ((float)cost / ONE_BIT);
}

static void fill_significant(cost_tables *t, models *m, int intra, int size) {
    transform_costs *const out = &t->transform[intra][size];
    for (int set = 0; set < 3; set++)
        for (int k = 0; k < KIND_COUNT[size]; k++) {
            const position at = KIND_PLACE[size][k];
            const int diagonal = significant_diagonal(at.x + at.y);
            for (int class = 0; class < 6; class++) {
                int32_t logit[4];
                const uint32_t p = mix(&m->significant[set][intra][size][diagonal][class],
                                       &m->significant_place[set > 0][intra][size][at.place],
                                       &m->significant_mixer[intra][size], logit);
                out->significant[set][k][class][0] = to_cost(t, cost_of(p, 0));
                out->significant[set][k][class][1] = to_cost(t, cost_of(p, 1));
            }
        }
}

static void fill_magnitude(cost_tables *t, models *m, int intra, int size) {
    static const uint8_t DIAGONAL[DEPTHS] = {0, 1, 3, 4};
    for (int depth = 0; depth < DEPTHS; depth++)
        for (int pair = 0; pair < GREATER_PAIRS; pair++) {
            float *const out = t->transform[intra][size].magnitude[depth][pair];
            const int diagonal = DIAGONAL[depth];
            context *const x = m->greater[intra][greater_diagonal(diagonal)][pair >> 3];
            uint32_t sum = ONE_BIT; /* the sign */
            for (int i = 0; i < GREATER; i++) {
                int32_t logit[4];
                const context *const y = &m->greater_size[intra][size][diagonal < 4][i][pair & 7];
                const uint32_t p = mix(&x[i], y, &m->greater_mixer[intra][i], logit);
                out[i] = to_cost(t, sum + cost_of(p, 0));
                sum += cost_of(p, 1);
            }
            out[GREATER] = to_cost(t, sum);
        }
}

/* Levels of 0 keep states 0 and 3 and swap 1 and 2. */
static void fill_zeros(cost_tables *t, int intra, int size) {
    transform_costs *const out = &t->transform[intra][size];
    static const uint8_t CLASS_AT[2][4] = {{0, 0, 1, 2}, {0, 1, 0, 2}}; /* of quantizers */
    for (int number = 0; number < 1 << (2 * size); number++)
        for (int state = 0; state < 4; state++) {
            float cost = 0;
            for (int place = 15; place >= 0; place--)
                cost += out->significant[CLASS_AT[~place & 1][state]]
                                        [KIND[size][16 * number + place]][0][0];
            out->zeros[number][state] = cost;
        }
}

static void fill_last(cost_tables *t, models *m, int intra, int size) {
    for (int axis = 0; axis < 2; axis++)
        for (int i = 0; i < 4 << size; i++) {
            bins c = {.cost = 0};
            code_last(ESTIMATE, &c, m->last[axis][intra][size], size + 2, i);
            t->transform[intra][size].last[axis][i] = to_cost(t, c.cost);
        }
}

static void fill_motion(cost_tables *t, models *m) {
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < TABLED_MOTION; i++) {
            bins c = {.cost = 0};
            code_difference(ESTIMATE, &c, m, axis, i);
            t->motion[axis][i] = to_cost(t, c.cost);
        }
        for (int ones = 0; ones < MOTION_PREFIX; ones++) {
            bins c = {.cost = 0};
            code_difference(ESTIMATE, &c, m, axis, (4 << ones) - 2);
            t->motion_length[axis][ones] = to_cost(t, c.cost);
        }
        t->motion_length[axis][MOTION_PREFIX] = t->motion_length[axis][MOTION_PREFIX - 1];
    }
}

/* All tables, from the contexts of `m`; lambda is in squared pixel values for a bit. */
static void fill_costs_of(cost_tables *t, models *m, double lambda) {
    t->bit = (float)lambda;
    for (int intra = 0; intra < 2; intra++)
        for (int size = 0; size < 4; size++) {
            fill_significant(t, m, intra, size);
            fill_magnitude(t, m, intra, size);
            fill_last(t, m, intra, size);
            fill_zeros(t, intra, size);
        }
    fill_motion(t, m);
}

/* Of one coordinate of a vector's difference to its predictor. */
HYBRID_INLINE float difference_cost(const cost_tables *t, int axis, int difference) {
    const int v = abs(difference);
    if (v < TABLED_MOTION) return t->motion[axis][v];
    return t->motion_length[axis][30 - __builtin_clz((unsigned)v)];
}

#endif
