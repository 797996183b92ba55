/* What a level of dependent quantization stands for. NORMATIVE.
 *
 * Schwarz, Nguyen, Marpe and Wiegand, "Hybrid video coding with trellis-coded quantization", DCC 2019:
 * two quantizers, Q0 with the points 2n Delta / 2 and Q1 with (2n - sign(n)) Delta / 2 for level n,
 * and four states. A block begins in state 0; states 0 and 1 take Q0, 2 and 3 take Q1; the parity of
 * a level picks the next state. The levels are taken in the order of the code: from the last
 * coefficient down the scan to the first.
 *
 * Delta is in 1/64 of a pixel value, coefficients are in 1/8 of those of an orthonormal transform:
 *   point = 2 level - (state >> 1) sign(level)
 *   coefficient = sign(point) min((|point| Delta + 8) >> 4, 2^20)
 * in exact integers. No coefficient of a block of pixel differences is above 2^20.
 */
#ifndef EDGE_CODEC_HYBRID_DEQUANTIZE_H
#define EDGE_CODEC_HYBRID_DEQUANTIZE_H

#include "pixels.h"

#define COEFFICIENT_TOP (1 << 20)
#define COEFFICIENT_BITS 3 /* a coefficient of 1 is stored as 8 */

static const uint8_t NEXT_STATE[4][2] = {{0, 2}, {2, 0}, {1, 3}, {3, 1}};

HYBRID_INLINE int next_state(int state, int32_t level) { return NEXT_STATE[state][level & 1]; }

HYBRID_INLINE int32_t dequantize_magnitude(int32_t magnitude, int state, int32_t delta) {
    if (!magnitude) return 0;
    const int64_t v = ((int64_t)(2 * magnitude - (state >> 1)) * delta + 8) >> 4;
    return v > COEFFICIENT_TOP ? COEFFICIENT_TOP : (int32_t)v;
}

/* |level| < 2^24. */
HYBRID_INLINE int32_t dequantize(int32_t level, int state, int32_t delta) {
    const int32_t v = dequantize_magnitude(level < 0 ? -level : level, state, delta);
    return level < 0 ? -v : v;
}

#endif
