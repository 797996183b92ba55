/* The region of interest: squares of a frame that are quantized more finely. NORMATIVE.
 *
 * The stream's header says which squares of 16 x 16 are inside, the same for all frames of a slice,
 * and by how many steps their quantizer is finer. A block has one quantizer: those that reach over the
 * region's edge are split without a word (syntax.h). A transform lies within a block, and a group of
 * pixels that the loop filter takes at once within a square.
 */
#ifndef EDGE_CODEC_HYBRID_REGION_H
#define EDGE_CODEC_HYBRID_REGION_H

#include "frames.h"
#include "quantizers.h"

#define LOG_REGION 4
#define FINEST 24 /* no region makes a quantizer finer than that */

enum { OUTSIDE, INSIDE, PLACES };

static int has_region(const picture *p) { return p->inside != NULL; }

HYBRID_INLINE int region_columns(int width) {
    return (width + (1 << LOG_REGION) - 1) >> LOG_REGION;
}

/* OUTSIDE or INSIDE, where the pixel (x, y) is. */
HYBRID_INLINE int place_of(const picture *p, int x, int y) {
    if (!p->inside) return OUTSIDE;
    return p->inside[(y >> LOG_REGION) * region_columns(p->width) + (x >> LOG_REGION)];
}

/* Whether the region's edge runs through a block; parts of the block beyond the frame do not count. */
HYBRID_INLINE int is_divided(const picture *p, int x, int y, int log_side) {
    if (!p->inside || log_side <= LOG_REGION) return 0;
    const int right = x + (1 << log_side) < p->width ? x + (1 << log_side) : p->width;
    const int bottom = y + (1 << log_side) < p->height ? y + (1 << log_side) : p->height;
    const int first = place_of(p, x, y);
    for (int j = y; j < bottom; j += 1 << LOG_REGION)
        for (int i = x; i < right; i += 1 << LOG_REGION)
            if (place_of(p, i, j) != first) return 1;
    return 0;
}

/* The quantizer inside, `gain` steps finer than the frame's as far as there are such. */
static int inner_quantizer(int quantizer, int gain) {
    const int finer = quantizer - gain;
    if (finer >= FINEST) return finer;
    return quantizer < FINEST ? quantizer : FINEST;
}

/* Delta outside and inside. */
static void fill_deltas(int32_t *delta, int quantizer, int gain) {
    delta[OUTSIDE] = DELTAS[quantizer];
    delta[INSIDE] = DELTAS[inner_quantizer(quantizer, gain)];
}

#endif
