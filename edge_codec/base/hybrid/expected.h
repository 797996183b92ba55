/* What contexts are expected to become, for costs before anything was coded.
 *
 * Only encoders use it. Probabilities of a 1 in percent, about those that contexts had reached after
 * the first frames of training exams. Of two contexts for a bin, the one that says more is set.
 */
#ifndef EDGE_CODEC_HYBRID_EXPECTED_H
#define EDGE_CODEC_HYBRID_EXPECTED_H

#include "contexts.h"

/* By `intra`, diagonal and neighborhood. */
static const uint8_t EXPECTED_SIGNIFICANT[2][3][6] = {
    {{14, 38, 52, 67, 76, 84}, {28, 46, 60, 73, 80, 88}, {33, 56, 68, 78, 85, 91}},
    {{17, 50, 65, 74, 82, 90}, {42, 65, 75, 81, 86, 94}, {51, 76, 77, 82, 86, 95}}};
/* By `intra`, neighborhood and bin. */
static const uint8_t EXPECTED_GREATER[2][7][GREATER] = {
    {{10, 13, 22, 30}, {38, 28, 30, 33}, {52, 40, 40, 43}, {62, 48, 46, 46}, {68, 55, 54, 50},
     {75, 64, 62, 57}, {83, 77, 76, 70}},
    {{40, 25, 41, 42}, {60, 42, 47, 48}, {71, 52, 57, 54}, {75, 58, 62, 58}, {82, 66, 67, 62},
     {85, 73, 73, 67}, {94, 87, 89, 87}}};

static void expect(context *x, int percent) {
    x->fast = x->slow = (uint16_t)(percent * 65535 / 100);
    x->count = LAST_COUNT;
}

static void expect_same(context *x, int n, int percent) {
    for (int i = 0; i < n; i++) expect(&x[i], percent);
}

static void expect_each(context *x, int n, const uint8_t *percent) {
    for (int i = 0; i < n; i++) expect(&x[i], percent[i]);
}

static void expect_levels(models *m, int intra) {
    for (int size = 0; size < 4; size++) {
        for (int set = 0; set < 3; set++)
            for (int diagonal = 0; diagonal < 3; diagonal++)
                expect_each(m->significant[set][intra][size][diagonal], 6,
                            EXPECTED_SIGNIFICANT[intra][diagonal]);
        for (int axis = 0; axis < 2; axis++) expect_same(m->last[axis][intra][size], 9, 85);
    }
    for (int diagonal = 0; diagonal < 3; diagonal++)
        for (int around = 0; around < 7; around++)
            expect_each(m->greater[intra][diagonal][around], GREATER,
                        EXPECTED_GREATER[intra][around]);
}

static void expect_blocks(models *m) {
    static const uint8_t SPLIT[3] = {33, 65, 88}, SKIPPED[3] = {17, 57, 74}, INTRA_MODE[3] = {2, 27, 66};
    static const uint8_t CODED[3] = {25, 55, 90};
    for (int size = 0; size < 4; size++) expect_each(m->split[size], 3, SPLIT);
    for (int i = 0; i < 3; i++) expect_same(m->coded_around[i], 5, CODED[i]);
    expect_each(m->skip, 3, SKIPPED);
    expect_each(m->intra, 3, INTRA_MODE);
    expect(&m->merge, 69);
    expect_same(m->both, 4, 3);
    expect_same(m->reference, MOST_REFERENCES - 1, 10);
    expect_same(m->motion_some, 2, 60);
    expect_same(m->motion_more, 2, 33);
    expect_same(m->motion_prefix[0], 2 * MOTION_PREFIX, 25);
    expect(&m->predictor, 35);
    expect_same(m->residual, 4, 93);
    expect_same(m->coded_part, 4, 70);
    expect_same(m->sine, 2, 69);
    expect(&m->four_parts, 30);
    expect(&m->likely, 59);
}

/* Two contexts of one logit have its weight together. */
static void expect_mixers(models *m) {
    static const mixer FIRST_ONE = {{32768, 32768, 0, 0}}, OTHER = {{0, 0, 32768, 32768}};
    mixer *const end = (mixer *)(m + 1);
    for (mixer *x = &m->split_mixer; x != end; x++) *x = FIRST_ONE;
    m->coded_mixer = OTHER;
}

static void expect_models(models *m) {
    reset_models(m);
    expect_levels(m, 0);
    expect_levels(m, 1);
    expect_blocks(m);
    expect_mixers(m);
}

#endif
