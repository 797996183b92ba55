/* Tiles in plain C: any processor, and the definition that the others must equal. */
#ifndef EDGE_CODEC_INT8_PLAIN_H
#define EDGE_CODEC_INT8_PLAIN_H

#include "tile.h"

static inline uint8_t plain_requantize(const tile *t, int lane, int32_t sum) {
    const int shift = t->shift[lane];
    /* Half to even: half a unit less one, and one more where the result would be odd. */
    const int32_t q = (sum + t->half[lane] + ((sum >> shift) & t->odd[lane])) >> shift;
    const int32_t low = t->is_signed ? -128 : 0, high = t->is_signed ? 127 : 255;
    return (uint8_t)(q < low ? low : q > high ? high : q);
}

static void plain_row(const tile *t, const uint8_t *in, uint8_t *out, int pixels) {
    for (int m = 0; m < pixels; m++, in += t->in_pixel, out += t->out_pixel) {
        int32_t sums[LANES];
        const int8_t *w = t->weights;
        memcpy(sums, t->bias, sizeof sums);
        for (int row = 0; row < t->window_rows; row++) {
            const uint8_t *x = in + row * t->in_row;
            for (int g = 0; g < t->groups; g++, x += 4, w += 4 * LANES)
                for (int lane = 0; lane < LANES; lane++)
                    for (int i = 0; i < 4; i++) sums[lane] += x[i] * w[4 * lane + i];
        }
        uint8_t bytes[LANES];
        for (int lane = 0; lane < LANES; lane++) bytes[lane] = plain_requantize(t, lane, sums[lane]);
        put(t, out, 0, bytes);
    }
}

#endif
