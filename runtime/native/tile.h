/* Tiles of a convolution: a few output pixels of one row by a block of output channels.
 *
 * Weights of a block stand as [window row][group][vector][16 outputs][4 inputs]; a group is four
 * neighboring bytes of the input, which runs on from pixel to pixel within a row of the window.
 * The sums of a tile are its pixels' groups times the weights' vectors, added up in registers.
 */
#ifndef EDGE_CODEC_INT8_TILE_H
#define EDGE_CODEC_INT8_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16      /* outputs of a vector of sums */
#define MAX_VECTORS 4 /* of a block of outputs */

typedef struct {
    int window_rows, groups, is_signed;
    ptrdiff_t in_row, in_pixel; /* bytes from a window's row to the next, from pixel to pixel */
    const int8_t *weights;      /* of this block, 64-byte aligned */
    const int32_t *bias, *shift, *half, *odd;
    ptrdiff_t out_row, out_pixel;
    ptrdiff_t place[MAX_VECTORS]; /* offset of a vector's first output from the pixel */
    int piece;                    /* outputs that stay together in a row: 16, a part of it, or 0 */
    int first, outputs, run;      /* channels: of the block, of all, of a row */
} tile;

/* Computes `pixels` outputs of a row for one block. */
typedef void tile_row(const tile *t, const uint8_t *in, uint8_t *out, int pixels);

/* Channels that share a vector with others of another row, or that are fewer than a vector. */
static void put_singly(const tile *t, uint8_t *pixel, int vector, const uint8_t *bytes) {
    const int first = t->first + LANES * vector;
    for (int c = first; c < first + LANES && c < t->outputs; c++)
        pixel[c / t->run * t->out_row + c % t->run] = bytes[c - first];
}

/* Put 16 outputs of one pixel where they belong. */
static inline __attribute__((always_inline)) void put(const tile *t, uint8_t *pixel, int vector,
                                                      const void *bytes) {
    uint8_t *out = pixel + t->place[vector];
    if (t->piece == LANES) {
        memcpy(out, bytes, LANES);
    } else if (t->piece == 4) { /* the size of a constant: no call */
        for (int i = 0; i < LANES; i += 4, out += t->out_row)
            memcpy(out, (const char *)bytes + i, 4);
    } else if (t->piece) {
        for (int i = 0; i < LANES; i += t->piece, out += t->out_row)
            memcpy(out, (const char *)bytes + i, (size_t)t->piece);
    } else {
        put_singly(t, pixel, vector, bytes);
    }
}

#endif
