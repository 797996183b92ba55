/* How far a voxel may be off: the bound of its frame, and a lower one in the region of interest. */
#ifndef EDGE_CODEC_BOUNDS_H
#define EDGE_CODEC_BOUNDS_H

#include "symbols.h"

typedef struct {
    uint32_t frame, region;
    const uint8_t *inside; /* which voxels are in the region; NULL where all have the frame's bound */
} bounds;

/* Of a frame that has a bound of its own, perhaps below that of the region. */
static bounds bounds_of(uint32_t frame, uint32_t region, const uint8_t *inside) {
    const bounds all = {frame, region, region < frame ? inside : NULL};
    return all;
}

RANS_INLINE uint32_t bound_at(const bounds *b, size_t voxel) {
    return b->inside && b->inside[voxel] ? b->region : b->frame;
}

#endif
