/* The adaptive probabilities of all syntax elements: kept over the frames of a group. */
#ifndef EDGE_CODEC_HYBRID_CONTEXTS_H
#define EDGE_CODEC_HYBRID_CONTEXTS_H

#include "bins.h"

#define MERGES 6         /* candidates to merge with */
#define MOST_REFERENCES 4
#define GREATER 4        /* bins for a level's magnitude beyond 1 before the rest is escaped */
#define SIGN_CLASSES 16  /* of how sure a guess at a sign is */
#define MOTION_PREFIX 14 /* ones of a motion vector difference's Exp-Golomb code at most */

/* Block sizes are indexed by log2(side) - 3 (8, 16, 32, 64), transform sizes by log2(side) - 2 (4, 8,
 * 16, 32), `intra` by 0 for blocks predicted from other frames and 1 for those from their own. */
typedef struct {
    context split[4][3];        /* neighbors to the left and above that are smaller */
    context split_before[4][5]; /* what the first reference did there: `colocated` */
    context skip[3];            /* neighbors that are skipped */
    context skip_before[4][5];
    context intra[3]; /* neighbors that are intra */
    context merge;
    context merge_index[MERGES - 1];
    context both[4]; /* predicted from two references */
    context reference[MOST_REFERENCES - 1];
    context motion_some[2], motion_more[2]; /* horizontal, vertical */
    context motion_prefix[2][MOTION_PREFIX];
    context predictor;
    context residual[4];
    context split_transform[4];
    context coded_part[4];
    context coded_intra[4];
    context coded_around[3][5]; /* neighbors that have levels, kind of mode */
    context sine[2]; /* size */
    context four_parts;
    context filtered[2]; /* key frame */
    context sign[SIGN_CLASSES];
    context likely, likely_index[2];
    context other_mode[5];
    context last[2][2][4][9];               /* axis, intra, transform size, ones before */
    context significant[3][2][4][3][6];     /* quantizers of the state, ..., diagonal, neighborhood */
    context significant_place[2][2][4][64]; /* quantizer, intra, size, place */
    context greater[2][3][7][GREATER];      /* intra, diagonal, neighborhood, bin */
    context greater_size[2][4][2][GREATER][8]; /* intra, size, low, bin, neighborhood */
    mixer split_mixer, skip_mixer, coded_mixer;
    mixer significant_mixer[2][4]; /* intra, size */
    mixer greater_mixer[2][GREATER];
} models;

#define INITIAL_WEIGHT 19661 /* 0.3 */

/* A key frame starts from nothing. */
static void reset_models(models *m) {
    context *const first = (context *)m, *const end = (context *)&m->split_mixer;
    for (context *x = first; x != end; x++) *x = (context){32768, 32768, 0};
    int32_t *const weight = (int32_t *)end, *const stop = (int32_t *)(m + 1);
    for (int32_t *w = weight; w != stop; w++) *w = INITIAL_WEIGHT;
}

#endif
