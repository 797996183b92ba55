/* Levels as binary decisions, whose probabilities are mixed from what several predictors say.
 *
 * Each predictor stands for a distribution around its prediction, as wide as its errors were in like
 * surroundings. A level is found by halving: is it the middle or above, how many steps away, where
 * in the step. For each decision every distribution gives a probability; they are mixed in the
 * logistic domain with weights that learn online (Mahoney 2005, "Adaptive weighing of context
 * models for lossless data compression"), and corrected by what the mixture was worth so far.
 * All integers but for the width of a distribution, one division.
 */
#ifndef EDGE_CODEC_MIXING_H
#define EDGE_CODEC_MIXING_H

#include <math.h>

#include "local_fit.h"

#define INPUTS (MAX_FILTERS + 2) /* their mean as well, with two ways to tell its errors */
#define NODES 48
#define SIGNS 64
#define BINS 25
#define LOG_BITS 12  /* fraction bits of logarithms to base 2 */
#define SCALE_BITS 8 /* fraction bits of a mean error beyond its own */
#define CURVE_ONE (1 << 24)
#define CURVE_HALF 768 /* entries of the curve on either side, 32 for a mean error */

#define VECTOR 8 /* inputs with padding; those beyond the last one weigh nothing */

typedef struct {
    int32_t weight[NODES][VECTOR];           /* 16 fraction bits */
    uint16_t corrected[SIGNS][NODES][BINS];  /* probability by what the mixture says */
    uint32_t scale[INPUTS][CONTEXTS];        /* mean error of a predictor, 4 + 8 fraction bits */
    uint8_t count[INPUTS][CONTEXTS];
} mixing_models;

/* The curves, the same on every machine: no entry lies near a rounding boundary. */
static int32_t curve[2 * CURVE_HALF + 2]; /* the distribution function in units of 2^-24 */
static int32_t mantissa_log[256];
static uint16_t logistic[3072];           /* of -12 to 12 in steps of 2^-7, base 2, 16 bits */

static double sigmoid(double x, double width) { return 1 / (1 + exp(-x / width)); }

static void fill_curves(void) {
    for (int i = 0; i < 2 * CURVE_HALF + 2; i++) {
        const double x = (i - CURVE_HALF) / 32.0;
        const double y = 0.5 * sigmoid(x, 0.72) + 0.3 * sigmoid(x, 0.45) + 0.2 * sigmoid(x, 1.4);
        curve[i] = (int32_t)floor(y * CURVE_ONE + 0.5);
    }
    for (int i = 0; i < 256; i++)
        mantissa_log[i] = (int32_t)floor(log2(1 + (i + 0.5) / 256) * (1 << LOG_BITS) + 0.5);
    for (int i = 0; i < 3072; i++)
        logistic[i] = (uint16_t)floor(65536 * sigmoid((i + 0.5) / 128 - 12, 1 / log(2)) + 0.5);
}

static void mixing_init(mixing_models *m, int inputs) {
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < VECTOR; k++) m->weight[i][k] = k < inputs ? 65536 / inputs : 0;
    for (int b = 0; b < BINS; b++) {
        const int entry = b * 128 < 3071 ? b * 128 : 3071;
        for (int i = 0; i < SIGNS; i++)
            for (int j = 0; j < NODES; j++) m->corrected[i][j][b] = logistic[entry];
    }
    for (int c = 0; c < CONTEXTS; c++)
        for (int k = 0; k < INPUTS; k++) {
            const uint32_t least = (4u + (c & 3)) << (c >> 2); /* context_of's least value, plus 4 */
            m->scale[k][c] = (least - 3) << SCALE_BITS;
            m->count[k][c] = 0;
        }
}

/* One voxel's view of the predictors while its level is narrowed down. */
typedef struct {
    int inputs;
    double center[VECTOR];     /* prediction, a whole number of 1/16 */
    double narrowness[VECTOR]; /* steps of the curve for 1/16 */
    int32_t low[VECTOR], high[VECTOR]; /* of the distributions at the ends of what is left */
    uint16_t (*corrected)[BINS];
    int64_t origin;            /* lower edge of level 0, in 1/16 */
    int64_t step;              /* of a level, in 1/16 */
    int64_t first, last;       /* levels that are left */
} mixing_voxel;

#define CURVE_LIMIT (CURVE_HALF * 256)
#define MIXED_LIMIT ((12 << LOG_BITS) - 1)
#define WEIGHT_LIMIT (1 << 20)

#endif
