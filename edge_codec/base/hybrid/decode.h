/* Reconstructs a frame from its payload.
 *
 * Hostile payloads: every element is bounded by its syntax (the place in the list of references, levels,
 * lengths of escapes), motion vectors are clamped, and pixels beyond a frame are its edge; so a payload
 * can only make a frame, or fail for how it ends. Bytes beyond the end read as zeros, and a frame is
 * given up at the first block after more than four of them.
 */
#ifndef EDGE_CODEC_HYBRID_DECODE_H
#define EDGE_CODEC_HYBRID_DECODE_H

#include "loop_filter.h"
#include "transform.h"
#include "tree.h"

static void predict_intra(const frame_coding *f, int x, int y, int log_side, int intra_mode,
                          int16_t *out, ptrdiff_t stride) {
    int16_t around[MOST_AROUND], smoothed[MOST_AROUND];
    intra_edge(f->p, x, y, log_side, around);
    if (is_smoothed(log_side, intra_mode)) smooth_edge(around, log_side, smoothed);
    intra_predict(around, smoothed, log_side, intra_mode, out, stride);
}

static void predict_inter(const frame_coding *f, int x, int y, const unit *u, int16_t *out,
                          ptrdiff_t stride) {
    const int side = 1 << u->log_side;
    const motion *const t = &u->motion;
    const vector *const v = t->vector;
    const plane *const a = &f->reference[t->reference[0]];
    int16_t block[TREE * TREE];
    if (t->lists == BOTH)
        predict_two(a, v[0].x, v[0].y, &f->reference[t->reference[1]], v[1].x, v[1].y, x, y, side,
                    block);
    else predict_one(a, x, y, side, v[0].x, v[0].y, block);
    copy_block(out, stride, block, side, side);
}

/* Adds the transform's residual to the prediction in the frame. */
static void decode_levels(frame_coding *f, int x, int y, int log_side, int intra, int sine,
                          mismatch *edges) {
    const int side = 1 << log_side;
    int32_t coefficients[MOST_TRANSFORM * MOST_TRANSFORM];
    int16_t residual[MOST_TRANSFORM * MOST_TRANSFORM];
    memset(coefficients, 0, sizeof *coefficients << (2 * log_side));
    code_coefficients(DECODE, &f->bins, f->m, coefficients, side, log_side, intra,
                      delta_at(f, x, y), edges);
    inverse_transform(coefficients, log_side, sine, residual);
    int16_t *row = f->p->now->pixels + y * f->p->stride + x;
    for (int j = 0; j < side; j++, row += f->p->stride)
        for (int i = 0; i < side; i++)
            row[i] = (int16_t)clip_pixel(row[i] + residual[j * side + i]);
}

/* Filters the squares that it is coded for. */
static void decode_filter(frame_coding *f, loop_filter *l) {
    const picture *const p = f->p;
    open_filter(l, p, f->delta);
    for (int y = 0; y < p->height; y += FILTER_SQUARE)
        for (int x = 0; x < p->width; x += FILTER_SQUARE)
            if (is_filterable(l, p, x, y) && code_filtered(DECODE, &f->bins, f->m, p, 0))
                filter_square(l, p, x, y, f->delta, p->now->pixels + y * p->stride + x, p->stride);
}

/* Decodes into `p->now`; returns whether the payload is one that an encoder can have written. `gain`:
 * of the region's quantizer. */
static int decode_frame(const picture *p, int gain, models *m, loop_filter *l,
                        const uint8_t *payload, size_t size) {
    frame_coding f = {.p = p, .m = m};
    if (size < 1 || payload[0] >= QUANTIZERS) return 0;
    fill_deltas(f.delta, payload[0], gain);
    for (int i = 0; i < p->n_references; i++)
        f.reference[i] = (plane){p->reference[i]->pixels, p->stride, p->width, p->height};
    start_decoder(&f.bins, payload + 1, size - 1);
    code_tree(DECODE, &f);
    if (f.bins.failed || is_beyond(&f.bins)) return 0;
    decode_filter(&f, l);
    return is_finished(&f.bins);
}

#endif
