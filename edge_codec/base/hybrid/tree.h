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
    int32_t delta;         /* DECODE: of the quantizer */
    plane reference[MOST_REFERENCES]; /* DECODE */
} frame_coding;

static __attribute__((noinline)) void encode_node(frame_coding *f, int x, int y, int log_side);
static __attribute__((noinline)) void decode_node(frame_coding *f, int x, int y, int log_side);

/* What a decoder does with the elements: decode.h. */
static void reconstruct_intra(frame_coding *f, int x, int y, int log_side, int intra_mode);
static void reconstruct_inter(frame_coding *f, int x, int y, const unit *u);
static void decode_levels(frame_coding *f, int x, int y, int log_side, int intra);

static void encode_levels(frame_coding *f, int x, int y, int log_side, int intra) {
    int32_t *const levels = (int32_t *)f->levels + (ptrdiff_t)y * f->p->width + x;
    code_coefficients(ENCODE, &f->bins, f->m, levels, f->p->width, log_side, intra, 0);
}

HYBRID_INLINE void code_levels(const int mode, frame_coding *f, int x, int y, int log_side,
                               int intra) {
    if (mode == ENCODE) encode_levels(f, x, y, log_side, intra);
    else decode_levels(f, x, y, log_side, intra);
}

/* An intra block or one of its four parts: mode, then levels. */
HYBRID_INLINE void code_intra_part(const int mode, frame_coding *f, int x, int y, int log_side,
                                   unit *u) {
    u->intra_mode =
        (uint8_t)code_intra_mode(mode, &f->bins, f->m, f->p, x, y, u->intra_mode);
    u->coded = (uint8_t)code_intra_coded(mode, &f->bins, f->m, log_side, u->coded);
    if (mode == DECODE) {
        record(f->p, x, y, 1 << log_side, u);
        reconstruct_intra(f, x, y, log_side, u->intra_mode);
    }
    if (u->coded) code_levels(mode, f, x, y, log_side, 1);
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
HYBRID_INLINE void code_residual(const int mode, frame_coding *f, int x, int y, unit *u) {
    if (!u->split_transform) {
        code_levels(mode, f, x, y, u->log_side, 0);
        return;
    }
    const int half = 1 << (u->log_side - 1);
    int coded = 0;
    for (int k = 0; k < 4; k++) {
        const int is =
            code_part_coded(mode, &f->bins, f->m, u->log_side, k, coded, u->coded >> k & 1);
        if (is)
            code_levels(mode, f, x + half * (k & 1), y + half * (k >> 1), u->log_side - 1, 0);
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
    if (mode == DECODE) {
        record(f->p, x, y, 1 << u->log_side, u);
        reconstruct_inter(f, x, y, u);
    }
    if (u->mode != SKIP && u->coded) code_residual(mode, f, x, y, u);
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
