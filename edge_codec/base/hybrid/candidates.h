/* Motion that a block may take over: from neighbors, from the first reference, or none at all. */
#ifndef EDGE_CODEC_HYBRID_CANDIDATES_H
#define EDGE_CODEC_HYBRID_CANDIDATES_H

#include "frames.h"

HYBRID_INLINE int is_same_vector(vector a, vector b) { return a.x == b.x && a.y == b.y; }

HYBRID_INLINE int is_same_motion(const motion *a, const motion *b) {
    if (a->lists != b->lists) return 0;
    for (int k = 0; k < 2; k++)
        if ((a->lists >> k & 1) &&
            (a->reference[k] != b->reference[k] || !is_same_vector(a->vector[k], b->vector[k])))
            return 0;
    return 1;
}

/* The motion of up to five neighbors: at the ends of the left and upper edge, and around the corners
 * (as in HEVC: Helle et al., "Block merging for quadtree-based partitioning in HEVC", 2012). */
static int neighbor_motion(const picture *p, int x, int y, int side, const motion **out) {
    const int xs[5] = {x - 1, x + side - 1, x + side, x - 1, x - 1};
    const int ys[5] = {y + side - 1, y - 1, y - 1, y + side, y - 1};
    int n = 0;
    for (int i = 0; i < 5; i++) {
        const unit *const u = coded_unit(p, x, y, xs[i], ys[i]);
        if (u && u->mode != INTRA) out[n++] = &u->motion;
    }
    return n;
}

/* Adds motion that is not in the list yet, unless the list has `most` entries. */
static int add_candidate(motion *list, int n, const motion *m, int most) {
    if (n >= most) return n;
    for (int i = 0; i < n; i++)
        if (is_same_motion(&list[i], m)) return n;
    list[n] = *m;
    return n + 1;
}

/* What the first reference has at the middle of the block. */
static int add_temporal(const picture *p, int x, int y, int side, motion *list, int n) {
    const int mx = x + side / 2, my = y + side / 2;
    const unit *const u = unit_at(p, p->reference[0], mx < p->width ? mx : p->width - 1,
                                  my < p->height ? my : p->height - 1);
    if (u->mode == INTRA) return n;
    motion m = u->motion;
    for (int k = 0; k < 2; k++)
        if (m.reference[k] >= p->n_references) m.reference[k] = 0;
    return add_candidate(list, n, &m, MERGES);
}

/* The first prediction of one candidate and the second of another. */
static int add_combined(motion *list, int n) {
    const int m = n;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < m; j++) {
            if (i == j || !(list[i].lists & FIRST) || !(list[j].lists & SECOND)) continue;
            const motion both = {BOTH,
                                 {list[i].reference[0], list[j].reference[1]},
                                 {list[i].vector[0], list[j].vector[1]}};
            n = add_candidate(list, n, &both, MERGES);
        }
    }
    return n;
}

/* Fills `list` with MERGES candidates and returns how many differ; there is at least one reference. */
static int merge_candidates(const picture *p, int x, int y, int side, motion *list) {
    const motion *neighbors[5];
    const int found = neighbor_motion(p, x, y, side, neighbors);
    int n = 0;
    for (int i = 0; i < found; i++) n = add_candidate(list, n, neighbors[i], MERGES - 1);
    n = add_temporal(p, x, y, side, list, n);
    n = add_combined(list, n);
    for (int r = 0; r < p->n_references; r++)
        n = add_candidate(list, n, &(motion){FIRST, {(uint8_t)r, 0}, {{0, 0}, {0, 0}}}, MERGES);
    for (int r = 1; r < p->n_references; r++)
        n = add_candidate(list, n, &(motion){BOTH, {0, (uint8_t)r}, {{0, 0}, {0, 0}}}, MERGES);
    for (int i = n; i < MERGES; i++) list[i] = (motion){FIRST, {0, 0}, {{0, 0}, {0, 0}}};
    return n;
}

/* Two predictors of a vector into `reference`: of neighbors that use it first. */
static void vector_predictors(const picture *p, int x, int y, int side, int reference, vector *out) {
    const motion *neighbors[5];
    const int found = neighbor_motion(p, x, y, side, neighbors);
    int n = 0;
    for (int other = 0; other < 2; other++) {
        for (int i = 0; i < 2 * found && n < 2; i++) {
            const motion *const m = neighbors[i / 2];
            const int k = i & 1;
            if (!(m->lists >> k & 1) || (m->reference[k] != reference) != other) continue;
            if (!n || !is_same_vector(out[0], m->vector[k])) out[n++] = m->vector[k];
        }
    }
    while (n < 2) out[n++] = (vector){0, 0};
}

#endif
