/* The order of all elements of a frame, once for coder and decoder.
 *
 * A frame is a raster of largest blocks of 64, each a quadtree down to 8. Blocks that reach beyond
 * the frame or over the edge of the region, and the largest ones of key frames, are split without a
 * word.
 */
#ifndef EDGE_CODEC_HYBRID_SYNTAX_H
#define EDGE_CODEC_HYBRID_SYNTAX_H

#include "candidates.h"
#include "coefficients.h"
#include "intra.h"
#include "region.h"

/* What the first reference did at three places of the block: 0 if there is none, or 1 and how many
 * of the places were skipped, or in smaller blocks. */
HYBRID_INLINE int colocated(const picture *p, int x, int y, int log_side, int of_sizes) {
    if (!p->n_references) return 0;
    const int side = 1 << log_side;
    const int xs[3] = {x + side / 2, x, x + side - 1}, ys[3] = {y + side / 2, y, y + side - 1};
    int n = 1;
    for (int i = 0; i < 3; i++) {
        const unit *const u = unit_at(p, p->reference[0], xs[i], ys[i]);
        n += of_sizes ? u->log_side < log_side : u->mode == SKIP;
    }
    return n;
}

/* Whether a block that lies within the frame is split. */
HYBRID_INLINE int code_split(const int mode, bins *c, models *m, const picture *p, int x, int y,
                             int log_side, int split) {
    const unit *const left = coded_unit(p, x, y, x - 1, y), *const up = coded_unit(p, x, y, x, y - 1);
    const int smaller = (left && left->log_side < log_side) + (up && up->log_side < log_side);
    return code_mixed(mode, c, &m->split[log_side - 3][smaller],
                      &m->split_before[log_side - 3][colocated(p, x, y, log_side, 1)],
                      &m->split_mixer, split);
}

HYBRID_INLINE int is_split_unasked(const picture *p, int x, int y, int log_side) {
    const int side = 1 << log_side;
    return x + side > p->width || y + side > p->height || (p->key && log_side == LOG_TREE) ||
           is_divided(p, x, y, log_side);
}

/* ------------------------------------------------------------------------------------------ motion */

HYBRID_INLINE int code_difference(const int mode, bins *c, models *m, int axis, int value) {
    if (!code_bin(mode, c, &m->motion_some[axis], value != 0)) return 0;
    uint32_t magnitude = (uint32_t)abs(value);
    if (code_bin(mode, c, &m->motion_more[axis], magnitude > 1))
        magnitude = 2 + code_number(mode, c, m->motion_prefix[axis], 1, MOTION_PREFIX, magnitude - 2);
    else magnitude = 1;
    return code_bits(mode, c, value < 0, 1) ? -(int)magnitude : (int)magnitude;
}

HYBRID_INLINE int16_t clamp_motion(int v) {
    return (int16_t)(v < -MOST_MOTION ? -MOST_MOTION : v > MOST_MOTION ? MOST_MOTION : v);
}

/* One of a block's predictions: reference, difference to a predictor, and which predictor. */
HYBRID_INLINE void code_vector(const int mode, bins *c, models *m, const picture *p, int x, int y,
                               unit *u, int k) {
    motion *const t = &u->motion;
    vector predictors[2], difference = {0, 0};
    t->reference[k] =
        (uint8_t)code_unary(mode, c, m->reference, p->n_references - 1, t->reference[k]);
    if (mode != DECODE) {
        vector_predictors(p, x, y, 1 << u->log_side, t->reference[k], predictors);
        difference.x = (int16_t)(t->vector[k].x - predictors[u->predictor[k]].x);
        difference.y = (int16_t)(t->vector[k].y - predictors[u->predictor[k]].y);
    }
    const int dx = code_difference(mode, c, m, 0, difference.x);
    const int dy = code_difference(mode, c, m, 1, difference.y);
    u->predictor[k] = (uint8_t)code_bin(mode, c, &m->predictor, u->predictor[k]);
    if (mode == DECODE) {
        vector_predictors(p, x, y, 1 << u->log_side, t->reference[k], predictors);
        t->vector[k].x = clamp_motion(predictors[u->predictor[k]].x + dx);
        t->vector[k].y = clamp_motion(predictors[u->predictor[k]].y + dy);
    }
}

HYBRID_INLINE void code_inter(const int mode, bins *c, models *m, const picture *p, int x, int y,
                              unit *u) {
    const int both = code_bin(mode, c, &m->both[u->log_side - 3], u->motion.lists == BOTH);
    u->motion.lists = both ? BOTH : FIRST;
    for (int k = 0; k <= both; k++) code_vector(mode, c, m, p, x, y, u, k);
}

HYBRID_INLINE void code_merge(const int mode, bins *c, models *m, const picture *p, int x, int y,
                              unit *u) {
    u->merge_index = (uint8_t)code_unary(mode, c, m->merge_index, MERGES - 1, u->merge_index);
    if (mode == DECODE) {
        motion list[MERGES];
        merge_candidates(p, x, y, 1 << u->log_side, list);
        u->motion = list[u->merge_index];
    }
}

/* ------------------------------------------------------------------------------------ intra modes */

HYBRID_INLINE int neighbor_mode(const unit *u) { return u && u->mode == INTRA ? u->intra_mode : DC; }

/* The three most likely modes (Lainema et al., "Intra coding of the HEVC standard", 2012). */
HYBRID_INLINE void likely_modes(const picture *p, int x, int y, int *out) {
    const int a = neighbor_mode(coded_unit(p, x, y, x - 1, y));
    const int b = neighbor_mode(coded_unit(p, x, y, x, y - 1));
    out[0] = a;
    if (a != b) {
        out[1] = b;
        out[2] = a != 0 && b != 0 ? 0 : a != DC && b != DC ? DC : 26;
    } else if (a < 2) {
        out[0] = 0;
        out[1] = DC;
        out[2] = 26;
    } else {
        out[1] = 2 + ((a + 29) & 31);
        out[2] = 2 + ((a - 1) & 31);
    }
}

HYBRID_INLINE int code_intra_mode(const int mode, bins *c, models *m, const picture *p, int x, int y,
                                  int value) {
    int likely[3], index = 0, rank = value;
    likely_modes(p, x, y, likely);
    while (index < 3 && likely[index] != value) index++;
    if (code_bin(mode, c, &m->likely, index < 3))
        return likely[code_unary(mode, c, m->likely_index, 2, index)];
    for (int i = 0; i < 3; i++) rank -= value > likely[i];
    int coded = 0;
    for (int i = 4; i >= 0; i--)
        coded = coded << 1 | code_bin(mode, c, &m->other_mode[i], rank >> i & 1);
    for (int i = 0; i < 2; i++) /* ascending */
        for (int j = 0; j < 2 - i; j++)
            if (likely[j] > likely[j + 1]) {
                const int swap = likely[j];
                likely[j] = likely[j + 1];
                likely[j + 1] = swap;
            }
    for (int i = 0; i < 3; i++) coded += coded >= likely[i];
    return coded;
}

/* ------------------------------------------------------------------------------------- the header */

HYBRID_INLINE int code_skip(const int mode, bins *c, models *m, const picture *p, int x, int y,
                            int log_side, int skip) {
    const unit *const left = coded_unit(p, x, y, x - 1, y), *const up = coded_unit(p, x, y, x, y - 1);
    const int neighbors = (left && left->mode == SKIP) + (up && up->mode == SKIP);
    return code_mixed(mode, c, &m->skip[neighbors],
                      &m->skip_before[log_side - 3][colocated(p, x, y, log_side, 0)],
                      &m->skip_mixer, skip);
}

HYBRID_INLINE int code_is_intra(const int mode, bins *c, models *m, const picture *p, int x, int y,
                                int intra) {
    const unit *const left = coded_unit(p, x, y, x - 1, y), *const up = coded_unit(p, x, y, x, y - 1);
    const int neighbors = (left && left->mode == INTRA) + (up && up->mode == INTRA);
    return code_bin(mode, c, &m->intra[neighbors], intra);
}

/* Mode, motion, and whether there are levels; of INTRA, whether there are four parts. `u->log_side` is
 * known; `u->coded` is not 0 afterwards if levels follow. */
HYBRID_INLINE void code_header(const int mode, bins *c, models *m, const picture *p, int x, int y,
                               unit *u) {
    const int size = u->log_side - 3;
    int is = u->mode;
    if (p->key) {
        is = INTRA;
    } else if (code_skip(mode, c, m, p, x, y, u->log_side, is == SKIP)) {
        is = SKIP;
    } else if (u->log_side < LOG_TREE && code_is_intra(mode, c, m, p, x, y, is == INTRA)) {
        is = INTRA;
    } else {
        is = code_bin(mode, c, &m->merge, is == MERGE) ? MERGE : INTER;
    }
    u->mode = (uint8_t)is;
    if (is == INTRA) {
        if (u->log_side == LOG_LEAST)
            u->split_transform = (uint8_t)code_bin(mode, c, &m->four_parts, u->split_transform);
        return;
    }
    if (is == INTER) {
        code_inter(mode, c, m, p, x, y, u);
        if (!code_bin(mode, c, &m->residual[size], u->coded != 0)) return;
    } else {
        code_merge(mode, c, m, p, x, y, u);
        if (is == SKIP) return;
    }
    if (mode == DECODE) u->coded = 1;
    if (u->log_side == LOG_TREE) u->split_transform = 1;
    else
        u->split_transform =
            (uint8_t)code_bin(mode, c, &m->split_transform[size], u->split_transform);
}

/* Which of a predicted block's four transforms have levels: part `k`, after `before` of the others.
 * The block has levels, so the last part has some if the others have none. */
HYBRID_INLINE int code_part_coded(const int mode, bins *c, models *m, int log_side, int k, int before,
                                  int coded) {
    if (k == 3 && !before) return 1;
    return code_bin(mode, c, &m->coded_part[log_side - 3], coded);
}

/* Whether a square of the frame is filtered; after all blocks. */
HYBRID_INLINE int code_filtered(const int mode, bins *c, models *m, const picture *p, int filtered) {
    return code_bin(mode, c, &m->filtered[p->key], filtered);
}

/* Kinds of intra modes: smooth ones, those near the axes, others. */
HYBRID_INLINE int mode_kind(int mode) {
    if (mode <= DC) return mode;
    return abs(mode - HORIZONTAL) <= 4 ? 2 : abs(mode - VERTICAL) <= 4 ? 3 : 4;
}

/* Whether an intra block or part has levels. */
HYBRID_INLINE int code_intra_coded(const int mode, bins *c, models *m, const picture *p, int x, int y,
                                   int log_side, int intra_mode, int coded) {
    const unit *const left = coded_unit(p, x, y, x - 1, y), *const up = coded_unit(p, x, y, x, y - 1);
    const int neighbors = (left && left->coded) + (up && up->coded);
    return code_mixed(mode, c, &m->coded_intra[log_side - 2],
                      &m->coded_around[neighbors][mode_kind(intra_mode)], &m->coded_mixer, coded);
}

/* Whether the transform of an intra block or part is SINE. The smallest always is, the largest never
 * (Zhao et al., "Transform coding in the VVC standard", 2021). */
HYBRID_INLINE int code_sine(const int mode, bins *c, models *m, int log_side, int sine) {
    if (log_side == 2 || log_side == 5) return log_side == 2;
    return code_bin(mode, c, &m->sine[log_side - 3], sine);
}

#endif
