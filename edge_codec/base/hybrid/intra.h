/* Prediction of a block from pixels around it: planar, mean, and 33 directions, as in HEVC.
 *
 * Lainema et al., "Intra coding of the HEVC standard", IEEE Transactions on Circuits and Systems for
 * Video Technology 22(12), 2012; ITU-T H.265, 8.4.4.2.
 */
#ifndef EDGE_CODEC_HYBRID_INTRA_H
#define EDGE_CODEC_HYBRID_INTRA_H

#include "frames.h"
#include "pixels.h"

#define INTRA_MODES 35
#define PLANAR 0
#define DC 1
#define HORIZONTAL 10
#define VERTICAL 26
#define UNKNOWN_PIXEL 512
#define MOST_AROUND (4 * 32 + 1)

/* Pixels around a block of `side` in work: from the lowest on the left (0) up to the corner (2 side)
 * and on to the last on the right (4 side). */
typedef struct {
    int16_t *out;
    int n, known; /* pixels so far; whether one of them was coded */
} edge;

/* Appends four pixels; unknown ones are those before, and in the end those after. */
HYBRID_INLINE void append(edge *e, const int16_t *from, ptrdiff_t step, int count, int is_known) {
    if (is_known) {
        for (int i = 0; i < count; i++) e->out[e->n + i] = from[i * step];
        if (!e->known)
            for (int i = 0; i < e->n; i++) e->out[i] = e->out[e->n];
        e->known = 1;
    } else if (e->known) {
        for (int i = 0; i < count; i++) e->out[e->n + i] = e->out[e->n - 1];
    }
    e->n += count;
}

/* Collects the pixels around a block. */
static void intra_edge(const picture *p, int x, int y, int log_side, int16_t *out) {
    const int length = 2 << log_side;
    const int16_t *const at = p->now->pixels + y * p->stride + x;
    edge e = {out, 0, 0};
    for (int i = length - UNIT; i >= 0; i -= UNIT)
        append(&e, at + (i + UNIT - 1) * p->stride - 1, -p->stride, UNIT,
               is_coded(p, x, y, x - 1, y + i));
    append(&e, at - p->stride - 1, 0, 1, is_coded(p, x, y, x - 1, y - 1));
    for (int i = 0; i < length; i += UNIT)
        append(&e, at - p->stride + i, 1, UNIT, is_coded(p, x, y, x + i, y - 1));
    if (!e.known)
        for (int i = 0; i < e.n; i++) out[i] = UNKNOWN_PIXEL;
}

/* Whether a mode predicts from smoothed pixels: the larger the block, the closer to the axes. */
HYBRID_INLINE int is_smoothed(int log_side, int mode) {
    static const uint8_t LEAST_DISTANCE[6] = {99, 99, 99, 7, 1, 0};
    if (mode == DC) return 0;
    if (mode == PLANAR) return log_side > 2;
    const int across = abs(mode - HORIZONTAL), down = abs(mode - VERTICAL);
    return (across < down ? across : down) > LEAST_DISTANCE[log_side];
}

static void smooth_edge(const int16_t *in, int log_side, int16_t *out) {
    const int last = 4 << log_side;
    out[0] = in[0];
    for (int i = 1; i < last; i++) out[i] = (int16_t)((in[i - 1] + 2 * in[i] + in[i + 1] + 2) >> 2);
    out[last] = in[last];
}

/* `corner` points to the pixel of the corner: left[-i] and top[i] are corner[-i], corner[i]. */
HYBRID_INLINE void predict_planar(const int16_t *corner, int log_side, int16_t *out,
                                  ptrdiff_t stride) {
    const int side = 1 << log_side, right = corner[side + 1], below = corner[-side - 1];
    for (int y = 0; y < side; y++, out += stride) {
        const int left = corner[-1 - y];
        for (int x = 0; x < side; x++)
            out[x] = (int16_t)(((side - 1 - x) * left + (x + 1) * right +
                                (side - 1 - y) * corner[1 + x] + (y + 1) * below + side) >>
                               (log_side + 1));
    }
}

HYBRID_INLINE void predict_mean(const int16_t *corner, int log_side, int16_t *out,
                                ptrdiff_t stride) {
    const int side = 1 << log_side;
    int mean = side;
    for (int i = 1; i <= side; i++) mean += corner[i] + corner[-i];
    mean >>= log_side + 1;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) out[y * stride + x] = (int16_t)mean;
    if (log_side == 5) return;
    out[0] = (int16_t)((corner[-1] + 2 * mean + corner[1] + 2) >> 2);
    for (int i = 1; i < side; i++) {
        out[i] = (int16_t)((corner[1 + i] + 3 * mean + 2) >> 2);
        out[i * stride] = (int16_t)((corner[-1 - i] + 3 * mean + 2) >> 2);
    }
}

/* Turns a block of `side` along its diagonal. */
HYBRID_INLINE void transpose(const int16_t *in, const int side, int16_t *out, ptrdiff_t stride) {
#ifdef __SSE2__
    for (int y = 0; y < side && side >= 8; y += 8)
        for (int x = 0; x < side; x += 8) {
            __m128i a[8], b[8];
            for (int i = 0; i < 8; i++)
                a[i] = _mm_loadu_si128((const __m128i *)(in + (y + i) * side + x));
            for (int round = 0; round < 3; round++) {
                for (int i = 0; i < 4; i++) {
                    b[2 * i] = _mm_unpacklo_epi16(a[i], a[i + 4]);
                    b[2 * i + 1] = _mm_unpackhi_epi16(a[i], a[i + 4]);
                }
                memcpy(a, b, sizeof a);
            }
            for (int i = 0; i < 8; i++)
                _mm_storeu_si128((__m128i *)(out + (x + i) * stride + y), a[i]);
        }
    if (side >= 8) return;
#endif
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) out[x * stride + y] = in[y * side + x];
}

/* out = ((32 - part) from[x] + part from[x + 1] + 16) >> 5 */
HYBRID_INLINE void blend(const int16_t *from, int part, const int side, int16_t *out) {
#ifdef __AVX2__
    const __m128i weight = _mm_set1_epi16((int16_t)(part << 10)); /* products of 15 bits, rounded */
    for (int x = 0; x < side; x += 8) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(from + x));
        const __m128i b = _mm_loadu_si128((const __m128i *)(from + x + 1));
        const __m128i v = _mm_add_epi16(a, _mm_mulhrs_epi16(_mm_sub_epi16(b, a), weight));
        if (side == 4) _mm_storel_epi64((__m128i *)out, v);
        else _mm_storeu_si128((__m128i *)(out + x), v);
    }
#else
    for (int x = 0; x < side; x++)
        out[x] = (int16_t)(((32 - part) * from[x] + part * from[x + 1] + 16) >> 5);
#endif
}

/* Along a direction: from the pixels on one side, continued by those of the other where it is steep.
 * `to_side` is 1 if the former are those above, and -1 if they are those on the left. */
HYBRID_INLINE void predict_down(const int16_t *corner, const int log_side, int angle, int inverse,
                                int to_side, int16_t *out, ptrdiff_t stride) {
    const int side = 1 << log_side;
    int16_t memory[3 * 32 + 16], *const line = memory + 32; /* reads are of 8 */
    for (int i = 0; i <= 2 * side; i++) line[i] = corner[to_side * i];
    for (int i = 1; i < 8; i++) line[2 * side + i] = line[2 * side];
    for (int i = -1; i > (side * angle) >> 5; i--)
        line[i] = corner[-to_side * ((i * inverse + 128) >> 8)];
    for (int y = 0; y < side; y++) {
        const int position = (y + 1) * angle, part = position & 31;
        const int16_t *const from = line + (position >> 5) + 1;
        blend(from, part, side, out + y * stride);
    }
    if (angle || log_side == 5) return;
    for (int i = 0; i < side; i++)
        out[i * stride] =
            (int16_t)clip_pixel(corner[to_side] + ((corner[-to_side * (1 + i)] - corner[0]) >> 1));
}

HYBRID_INLINE void predict_size(const int16_t *corner, const int log_side, int mode, int16_t *out,
                                ptrdiff_t stride) {
    static const int8_t ANGLES[33] = {32,  26,  21,  17,  13,  9,   5,   2,  0,  -2, -5,
                                      -9,  -13, -17, -21, -26, -32, -26, -21, -17, -13, -9,
                                      -5,  -2,  0,   2,   5,   9,   13,  17, 21, 26, 32};
    static const int16_t INVERSES[17] = {0,    -4096, -1638, -910, -630, -482, -390, -315, -256,
                                         -315, -390,  -482,  -630, -910, -1638, -4096, 0};
    if (mode == PLANAR) {
        predict_planar(corner, log_side, out, stride);
    } else if (mode == DC) {
        predict_mean(corner, log_side, out, stride);
    } else {
        const int angle = ANGLES[mode - 2], inverse = angle < 0 ? INVERSES[mode - 10] : 0;
        const int side = 1 << log_side, is_across = mode < 18;
        int16_t turned[32 * 32];
        predict_down(corner, log_side, angle, inverse, is_across ? -1 : 1, is_across ? turned : out,
                     is_across ? side : stride);
        if (is_across) transpose(turned, side, out, stride);
    }
}

/* Predicts a block by one of the modes from `around` (intra_edge) and, if is_smoothed(), from
 * `smoothed` (smooth_edge) instead. */
static void intra_predict(const int16_t *around, const int16_t *smoothed, int log_side, int mode,
                          int16_t *out, ptrdiff_t stride) {
    const int16_t *const corner = (is_smoothed(log_side, mode) ? smoothed : around) + (2 << log_side);
    switch (log_side) {
    case 2: predict_size(corner, 2, mode, out, stride); break;
    case 3: predict_size(corner, 3, mode, out, stride); break;
    case 4: predict_size(corner, 4, mode, out, stride); break;
    default: predict_size(corner, 5, mode, out, stride);
    }
}

#endif
