/* Walks the blocks of a frame in their order: what a decoder reconstructs, an encoder wrote. */
#ifndef EDGE_CODEC_HYBRID_TREE_H
#define EDGE_CODEC_HYBRID_TREE_H

#include "interpolate.h"
#include "syntax.h"

/* A frame on its way to or from a payload. */
typedef struct {
    const picture *p;
    models *m;
    bins bins;
    const int32_t *levels; /* ENCODE: of the whole frame, rows of p->width */
    int32_t delta[PLACES]; /* of the quantizers outside and inside of the region */
    plane reference[MOST_REFERENCES];
    int16_t prediction[TREE * TREE]; /* ENCODE: of the block in work */
} frame_coding;

static __attribute__((noinline)) void encode_node(frame_coding *f, int x, int y, int log_side);
static __attribute__((noinline)) void decode_node(frame_coding *f, int x, int y, int log_side);

/* What a decoder does with the elements, and a coder for what they depend on: decode.h. */
static void predict_intra(const frame_coding *f, int x, int y, int log_side, int intra_mode,
                          int16_t *out, ptrdiff_t stride);
static void predict_inter(const frame_coding *f, int x, int y, const unit *u, int16_t *out,
                          ptrdiff_t stride);
static void decode_levels(frame_coding *f, int x, int y, int log_side, int intra, int sine,
                          mismatch *edges);

/* A prediction: in the frame, or, where that has the reconstruction already, beside it. */
typedef struct {
    int16_t *pixels;
    ptrdiff_t stride;
} predicted;

HYBRID_INLINE predicted prediction_at(const int mode, frame_coding *f, int x, int y) {
    if (mode == ENCODE) return (predicted){f->prediction, TREE};
    return (predicted){f->p->now->pixels + y * f->p->stride + x, f->p->stride};
}

HYBRID_INLINE int32_t delta_at(const frame_coding *f, int x, int y) {
    return f->delta[place_of(f->p, x, y)];
}

static void encode_levels(frame_coding *f, int x, int y, int log_side, int intra,
                          mismatch *edges) {
    int32_t *const levels = (int32_t *)f->levels + (ptrdiff_t)y * f->p->width + x;
    code_coefficients(ENCODE, &f->bins, f->m, levels, f->p->width, log_side, intra,
                      delta_at(f, x, y), edges);
}

/* The levels of a transform whose prediction begins at `at`. */
HYBRID_INLINE void code_levels(const int mode, frame_coding *f, int x, int y, int log_side,
                               int intra, int sine, predicted at) {
    const picture *const p = f->p;
    mismatch edges;
    open_mismatch(&edges, p->now->pixels + y * p->stride + x, p->stride, at.pixels, at.stride,
                  log_side, sine, is_coded(p, x, y, x - 1, y), is_coded(p, x, y, x, y - 1),
                  delta_at(f, x, y));
    if (mode == ENCODE) encode_levels(f, x, y, log_side, intra, &edges);
    else decode_levels(f, x, y, log_side, intra, sine, &edges);
}

/* An intra block or one of its four parts: mode, then levels. */
HYBRID_INLINE void code_intra_part(const int mode, frame_coding *f, int x, int y, int log_side,
                                   unit *u) {
    u->intra_mode =
        (uint8_t)code_intra_mode(mode, &f->bins, f->m, f->p, x, y, u->intra_mode);
    u->coded = (uint8_t)code_intra_coded(mode, &f->bins, f->m, f->p, x, y, log_side,
                                         u->intra_mode, u->coded);
    const predicted at = prediction_at(mode, f, x, y);
    if (mode == DECODE) record(f->p, x, y, 1 << log_side, u);
    if (mode == DECODE || u->coded)
        predict_intra(f, x, y, log_side, u->intra_mode, at.pixels, at.stride);
    if (!u->coded) return;
    u->sine = (uint8_t)code_sine(mode, &f->bins, f->m, log_side, u->sine);
    code_levels(mode, f, x, y, log_side, 1, u->sine, at);
}

HYBRID_INLINE void code_intra(const int mode, frame_coding *f, int x, int y, unit *u) {
    if (!u->split_transform) {
        code_intra_part(mode, f, x, y, u->log_side, u);
        return;
    }
    for (int k = 0; k < 4; k++) {
        const int px = x + UNIT * (k & 1), py = y + UNIT * (k >> 1);
        unit part = mode == ENCODE ? *unit_at(f->p, f->p->now, px, py) : *u;
        code_intra_part(mode, f, px, py, u->log_side - 1, &part);
    }
}

/* The levels of a block that is predicted from other frames. */
HYBRID_INLINE void code_residual(const int mode, frame_coding *f, int x, int y, unit *u,
                                 predicted at) {
    if (!u->split_transform) {
        code_levels(mode, f, x, y, u->log_side, 0, 0, at);
        return;
    }
    const int half = 1 << (u->log_side - 1);
    int coded = 0;
    for (int k = 0; k < 4; k++) {
        const int is =
            code_part_coded(mode, &f->bins, f->m, u->log_side, k, coded, u->coded >> k & 1);
        const int px = half * (k & 1), py = half * (k >> 1);
        const predicted part = {at.pixels + py * at.stride + px, at.stride};
        if (is) code_levels(mode, f, x + px, y + py, u->log_side - 1, 0, 0, part);
        coded |= is << k;
    }
    if (mode == DECODE) u->coded = (uint8_t)coded;
}

HYBRID_INLINE void code_block(const int mode, frame_coding *f, int x, int y, unit *u) {
    code_header(mode, &f->bins, f->m, f->p, x, y, u);
    if (u->mode == INTRA) {
        code_intra(mode, f, x, y, u);
        return;
    }
    const predicted at = prediction_at(mode, f, x, y);
    const int has_levels = u->mode != SKIP && u->coded;
    if (mode == DECODE) record(f->p, x, y, 1 << u->log_side, u);
    if (mode == DECODE || has_levels) predict_inter(f, x, y, u, at.pixels, at.stride);
    if (has_levels) code_residual(mode, f, x, y, u, at);
}

/* A square of the tree; those outside of the frame are left out. */
HYBRID_INLINE void code_node(const int mode, frame_coding *f, int x, int y, int log_side) {
    const picture *const p = f->p;
    if (x >= p->width || y >= p->height || f->bins.failed || is_beyond(&f->bins)) return;
    unit u = {0};
    if (mode == ENCODE) u = *unit_at(p, p->now, x, y);
    int split = is_split_unasked(p, x, y, log_side);
    if (!split && log_side > LOG_LEAST)
        split = code_split(mode, &f->bins, f->m, p, x, y, log_side, u.log_side < log_side);
    if (!split) {
        u.log_side = (uint8_t)log_side;
        code_block(mode, f, x, y, &u);
        return;
    }
    const int half = 1 << (log_side - 1);
    for (int k = 0; k < 4; k++) {
        const int px = x + half * (k & 1), py = y + half * (k >> 1);
        if (mode == ENCODE) encode_node(f, px, py, log_side - 1);
        else decode_node(f, px, py, log_side - 1);
    }
}

static void encode_node(frame_coding *f, int x, int y, int log_side) {
    code_node(ENCODE, f, x, y, log_side);
}

static void decode_node(frame_coding *f, int x, int y, int log_side) {
    code_node(DECODE, f, x, y, log_side);
}

/* All blocks of a frame. */
HYBRID_INLINE void code_tree(const int mode, frame_coding *f) {
    for (int y = 0; y < f->p->height; y += TREE)
        for (int x = 0; x < f->p->width; x += TREE)
            if (mode == ENCODE) encode_node(f, x, y, LOG_TREE);
            else decode_node(f, x, y, LOG_TREE);
}

#endif
