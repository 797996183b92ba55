/* The levels of a transform: from the last one that is not 0 down to the lowest frequency.
 *
 * The state of the trellis (Schwarz et al., "Hybrid video coding with trellis-coded quantization",
 * DCC 2019) chooses the quantizer of a level and contexts; further contexts are the levels around that
 * are known already (Sole et al., "Transform coefficient coding in HEVC", 2012) and the place.
 */
#ifndef EDGE_CODEC_HYBRID_COEFFICIENTS_H
#define EDGE_CODEC_HYBRID_COEFFICIENTS_H

#include "contexts.h"
#include "dequantize.h"
#include "signs.h"

#define MOST_LEVEL 32767
#define LOG_MOST_TRANSFORM 5
#define MOST_TRANSFORM (1 << LOG_MOST_TRANSFORM)
#define ESCAPE_PREFIX 15 /* ones of an escaped level at most: enough for MOST_LEVEL */

typedef struct {
    uint8_t x, y;
    uint8_t place; /* for `significant_place` */
} position;

static position SCAN[4][MOST_TRANSFORM * MOST_TRANSFORM]; /* by size, lowest frequency first */
static uint16_t SCAN_ORDER[4][MOST_TRANSFORM * MOST_TRANSFORM]; /* raster -> place in the scan */

/* The exact coordinate for low frequencies, a coarser one for the others. */
static int place_along(int i, int log_side) {
    const int coarse = i >> (log_side > 3 ? log_side - 3 : 0);
    return i < 4 ? i : coarse < 4 ? 4 : coarse;
}

static void fill_square(position *scan, int *n, int left, int top, int log_side) {
    for (int d = 0; d < 7; d++) {
        for (int y = d < 4 ? d : 3; y >= 0 && d - y < 4; y--) {
            const int px = left + d - y, py = top + y;
            const int place = place_along(py, log_side) * 8 + place_along(px, log_side);
            scan[(*n)++] = (position){(uint8_t)px, (uint8_t)py, (uint8_t)place};
        }
    }
}

/* Diagonals from the lower left to the upper right, of squares of 4 x 4 and within them. */
static void fill_scan(void) {
    for (int log_side = 2; log_side <= LOG_MOST_TRANSFORM; log_side++) {
        position *const scan = SCAN[log_side - 2];
        const int squares = 1 << (log_side - 2);
        int n = 0;
        for (int d = 0; d < 2 * squares - 1; d++)
            for (int y = d < squares ? d : squares - 1; y >= 0 && d - y < squares; y--)
                fill_square(scan, &n, 4 * (d - y), 4 * y, log_side);
        for (int i = 0; i < n; i++)
            SCAN_ORDER[log_side - 2][(scan[i].y << log_side) + scan[i].x] = (uint16_t)i;
    }
}

/* ----------------------------------------------------------------------------- classes of contexts */

/* The neighborhood of a level: sum of the magnitudes of five known ones, and how many are not 0. */
typedef struct {
    int sum, count;
} surroundings;

HYBRID_INLINE int quantizer_class(int state) { return state ? state - 1 : 0; }

HYBRID_INLINE int significant_class(int sum) {
    return sum <= 6 ? (sum + 1) >> 1 : sum <= 8 ? 4 : 5;
}

HYBRID_INLINE int significant_diagonal(int diagonal) {
    return diagonal < 2 ? 2 : diagonal < 5 ? 1 : 0;
}

HYBRID_INLINE int greater_class(surroundings s) {
    const int beyond = s.sum - s.count;
    return beyond <= 4 ? beyond : beyond <= 7 ? 5 : 6;
}

HYBRID_INLINE int greater_diagonal(int diagonal) { return diagonal ? diagonal < 3 : 2; }

HYBRID_INLINE int greater_size_class(int sum) {
    if (sum < 8) return sum < 4 ? sum >> 1 : 2;
    if (sum < 32) return sum < 24 ? 3 + (sum >> 4) : 5;
    return sum < 64 ? 6 : 7;
}

/* Order of the Golomb-Rice code of what exceeds the bins. */
HYBRID_INLINE int escape_order(int sum) { return sum < 7 ? 0 : sum < 14 ? 1 : sum < 28 ? 2 : 3; }

/* ----------------------------------------------------------------------------------- the elements */

HYBRID_INLINE int code_significant(const int mode, bins *c, models *m, int state, int intra,
                                   int log_side, position at, int sum, int bit) {
    const int set = quantizer_class(state), size = log_side - 2;
    return code_mixed(
        mode, c,
        &m->significant[set][intra][size][significant_diagonal(at.x + at.y)][significant_class(sum)],
        &m->significant_place[set > 0][intra][size][at.place], &m->significant_mixer[intra][size],
        bit);
}

/* The magnitude of a level that is not 0. */
HYBRID_INLINE uint32_t code_magnitude(const int mode, bins *c, models *m, int intra, int log_side,
                                      position at, surroundings around, uint32_t value) {
    const int diagonal = at.x + at.y;
    context *const x = m->greater[intra][greater_diagonal(diagonal)][greater_class(around)];
    const int size = greater_size_class(around.sum);
    for (uint32_t i = 0; i < GREATER; i++) {
        context *const y = &m->greater_size[intra][log_side - 2][diagonal < 4][i][size];
        if (!code_mixed(mode, c, &x[i], y, &m->greater_mixer[intra][i], value > i + 1))
            return i + 1;
    }
    const int order = escape_order(around.sum);
    value -= GREATER + 1;
    /* four ones of one length, then ones of rising length */
    uint32_t high = 0;
    while (high < 4 && code_bits(mode, c, value >> order > high, 1)) high++;
    if (high < 4) value = (high << order) + code_bits(mode, c, value - (high << order), order);
    else
        value = (4u << order) + code_number(mode, c, NULL, order + 1, ESCAPE_PREFIX - order - 1,
                                            value - (4u << order));
    return value + GREATER + 1;
}

/* A coordinate of the last level: its class as ones and a zero, then its place in the class. */
HYBRID_INLINE int code_last(const int mode, bins *c, context *x, int log_side, int value) {
    static const uint8_t CLASS[32] = {0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7,
                                      8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9};
    static const uint8_t LEAST[10] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24};
    const int most = 2 * log_side - 1;
    const int coded = code_unary(mode, c, x, most, CLASS[value]);
    const int count = coded < 4 ? 0 : (coded >> 1) - 1;
    return LEAST[coded] + (int)code_bits(mode, c, (uint32_t)(value - LEAST[coded]), count);
}

/* Where the last level is that is not 0; the block has one. */
HYBRID_INLINE int code_last_position(const int mode, bins *c, models *m, int intra, int log_side,
                                     position at) {
    const int x = code_last(mode, c, m->last[0][intra][log_side - 2], log_side, at.x);
    const int y = code_last(mode, c, m->last[1][intra][log_side - 2], log_side, at.y);
    return SCAN_ORDER[log_side - 2][(y << log_side) + x];
}

/* Magnitudes in work, with two columns and rows of zeros beyond the block. */
#define MAP_STRIDE(side) ((side) + 2)
#define MAP_SIZE ((MOST_TRANSFORM + 2) * (MOST_TRANSFORM + 2))

HYBRID_INLINE surroundings look_around(const uint16_t *map, ptrdiff_t stride) {
    const int a = map[1], b = map[2], c = map[stride], d = map[stride + 1], e = map[2 * stride];
    return (surroundings){a + b + c + d + e, (a > 0) + (b > 0) + (c > 0) + (d > 0) + (e > 0)};
}

/* A level that is not 0, before its sign is known. */
typedef struct {
    position at;
    int32_t coefficient;
} unsigned_level;

/* The signs, from the lowest frequency up. */
HYBRID_INLINE void code_signs(const int mode, bins *c, models *m, mismatch *around,
                              const unsigned_level *found, int n, int32_t *levels,
                              ptrdiff_t stride) {
    while (n--) {
        const position at = found[n].at;
        int32_t *const level = &levels[at.y * stride + at.x], v = found[n].coefficient;
        const int negative = code_sign(mode, c, m, around, at.x, at.y, v, *level < 0);
        if (mode == DECODE) *level = negative ? -v : v;
    }
}

/* Codes the levels of a transform that has some. `levels`: rows of `stride`; DECODE sets what is not 0
 * to the coefficient (dequantize.h), in a block that the caller has cleared. */
HYBRID_INLINE void code_coefficients(const int mode, bins *coder, models *m, int32_t *levels,
                                     ptrdiff_t stride, int log_side, int intra, int32_t delta,
                                     mismatch *edges) {
    const position *const scan = SCAN[log_side - 2];
    const int side = 1 << log_side;
    uint16_t map[MAP_SIZE];
    unsigned_level found[MOST_TRANSFORM * MOST_TRANSFORM];
    bins copy = *coder, *const c = &copy; /* in registers */
    memset(map, 0, sizeof *map * (size_t)(MAP_STRIDE(side) * MAP_STRIDE(side)));
    int last = side * side - 1, state = 0, n = 0;
    if (mode != DECODE)
        while (!levels[scan[last].y * stride + scan[last].x]) last--;
    last = code_last_position(mode, c, m, intra, log_side, scan[last]);
    for (int i = last; i >= 0; i--) {
        const position at = scan[i];
        uint16_t *const place = &map[at.y * MAP_STRIDE(side) + at.x];
        const surroundings around = look_around(place, MAP_STRIDE(side));
        uint32_t magnitude = mode == DECODE ? 0 : (uint32_t)abs(levels[at.y * stride + at.x]);
        if (i == last || code_significant(mode, c, m, state, intra, log_side, at, around.sum,
                                          magnitude > 0)) {
            magnitude = code_magnitude(mode, c, m, intra, log_side, at, around, magnitude);
            if (mode == DECODE && magnitude > MOST_LEVEL) {
                c->failed = 1;
                break;
            }
            found[n++] =
                (unsigned_level){at, dequantize_magnitude((int32_t)magnitude, state, delta)};
            *place = (uint16_t)magnitude;
        }
        state = NEXT_STATE[state][magnitude & 1];
    }
    code_signs(mode, c, m, edges, found, n, levels, stride);
    *coder = copy;
}

#endif
