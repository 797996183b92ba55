/* The filter of decoded frames, in the loop: other frames are predicted from what it leaves. NORMATIVE.
 *
 * A simplified adaptive loop filter (Tsai et al., "Adaptive loop filtering for video coding", IEEE
 * Journal of Selected Topics in Signal Processing 7(6), 2013; with the clipping of Taquet et al.,
 * "Non-linear adaptive loop filtering for VVC", ICIP 2019). Squares of 4 x 4 are classed by their
 * activity; a class has a weight for each pair of opposite pixels of a diamond 7 wide, and another for
 * the pair with its differences clipped. Weights are constants (loop_filter_weights.h), not sent. Only
 * blocks that are not SKIP are filtered: others were when the frame was that they come from. A square
 * of 32 x 32 that has such blocks has a flag.
 */
#ifndef EDGE_CODEC_HYBRID_LOOP_FILTER_H
#define EDGE_CODEC_HYBRID_LOOP_FILTER_H

#include "pixels.h"
#include "region.h"

#define ACTIVITY_CLASSES 5
#define UNFILTERED ACTIVITY_CLASSES /* the class of SKIP: all weights are 0 */
#define TAP_PAIRS 12
#define FILTER_SQUARE 32
#define FILTER_BORDER 16 /* of the pixels beyond a frame: reads are of 16, up to 3 beyond the diamond */
#define GROUP 16         /* pixels side by side that are filtered at once */

#include "loop_filter_weights.h"

/* Row and column of one pixel of each pair; the other one is opposite. */
static const int8_t TAP_PLACES[TAP_PAIRS][2] = {{0, 1}, {0, 2}, {0, 3}, {1, -2}, {1, -1}, {1, 0},
                                          {1, 1}, {1, 2}, {2, -1}, {2, 0}, {2, 1}, {3, 0}};

typedef struct {
    int16_t *memory, *pixels; /* the frame before it is filtered; pixels: (0, 0) */
    ptrdiff_t stride;
    int32_t *activity; /* of 4 x 4, with a row and a column more on each side */
    uint8_t *classes;  /* of 4 x 4 */
    int class_stride;  /* whole squares */
} loop_filter;

static void free_filter(loop_filter *l) {
    free(l->memory);
    free(l->activity);
    free(l->classes);
    memset(l, 0, sizeof *l);
}

static int reserve_filter(loop_filter *l, const frame_store *s) {
    if (l->memory) return 1;
    const size_t rows = (size_t)s->height / UNIT, columns = (size_t)s->width / UNIT;
    l->stride = s->width + 2 * FILTER_BORDER;
    l->class_stride = (s->width + FILTER_SQUARE - 1) / FILTER_SQUARE * (FILTER_SQUARE / UNIT);
    l->memory = calloc((size_t)l->stride * (size_t)(s->height + 2 * FILTER_BORDER),
                       sizeof *l->memory);
    l->activity = calloc((rows + 2) * (columns + 2), sizeof *l->activity);
    l->classes = malloc(rows * (size_t)l->class_stride);
    if (!l->memory || !l->activity || !l->classes) return free_filter(l), 0;
    memset(l->classes, UNFILTERED, rows * (size_t)l->class_stride);
    l->pixels = l->memory + FILTER_BORDER * l->stride + FILTER_BORDER;
    return 1;
}

/* Copies a frame and continues its edges. */
static void copy_unfiltered(loop_filter *l, const picture *p) {
    const size_t size = (size_t)l->stride * sizeof *l->pixels;
    for (int y = 0; y < p->height; y++) {
        int16_t *const row = l->pixels + y * l->stride;
        memcpy(row, p->now->pixels + y * p->stride, (size_t)p->width * sizeof *row);
        for (int x = 1; x <= UNIT; x++) {
            row[-x] = row[0];
            row[p->width - 1 + x] = row[p->width - 1];
        }
    }
    int16_t *const top = l->pixels - FILTER_BORDER;
    int16_t *const bottom = top + (p->height - 1) * l->stride;
    for (int y = 1; y <= UNIT; y++) {
        memcpy(top - y * l->stride, top, size);
        memcpy(bottom + y * l->stride, bottom, size);
    }
}

/* Sums of second differences over squares of 4 x 4, side by side: they fit in 16 bits before they are
 * added up along a row. Of four squares there may be two beyond the frame. */
#ifdef __AVX2__
#define SQUARES 4
HYBRID_INLINE __m256i second_difference(__m256i here, const int16_t *before, const int16_t *after) {
    const __m256i twice = _mm256_add_epi16(here, here);
    return _mm256_abs_epi16(
        _mm256_sub_epi16(twice, _mm256_add_epi16(load_16(before), load_16(after))));
}

HYBRID_INLINE void sum_activity(const int16_t *at, ptrdiff_t stride, int32_t *out) {
    __m256i sum = _mm256_setzero_si256();
    for (int y = 0; y < UNIT; y++, at += stride) {
        const __m256i here = load_16(at);
        sum = _mm256_add_epi16(sum, second_difference(here, at - stride, at + stride));
        sum = _mm256_add_epi16(sum, second_difference(here, at - 1, at + 1));
    }
    sum = _mm256_add_epi32(_mm256_and_si256(sum, _mm256_set1_epi32(0xFFFF)),
                           _mm256_srli_epi32(sum, 16));
    sum = _mm256_add_epi32(sum, _mm256_srli_epi64(sum, 32));
    sum = _mm256_permutevar8x32_epi32(sum, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(sum));
}
#else
#define SQUARES 2
HYBRID_INLINE void sum_activity(const int16_t *at, ptrdiff_t stride, int32_t *out) {
    uint16_t sum[8] = {0};
    for (int y = 0; y < UNIT; y++, at += stride)
        for (int x = 0; x < 8; x++) {
            const int16_t twice = (int16_t)(2 * at[x]);
            const int16_t down = (int16_t)(twice - at[x - stride] - at[x + stride]);
            const int16_t across = (int16_t)(twice - at[x - 1] - at[x + 1]);
            sum[x] = (uint16_t)(sum[x] + abs(down) + abs(across));
        }
    out[0] = sum[0] + sum[1] + sum[2] + sum[3];
    out[1] = sum[4] + sum[5] + sum[6] + sum[7];
}
#endif

/* Of all squares; those beyond the frame are as the ones at its edge. */
static void measure_activity(loop_filter *l, const picture *p) {
    const int columns = p->unit_columns, rows = p->height / UNIT, stride = columns + 2;
    int32_t *const first = l->activity + stride + 1;
    for (int y = 0; y < rows; y++) {
        int32_t *const row = first + y * stride;
        for (int x = 0; x < columns; x += SQUARES)
            sum_activity(l->pixels + UNIT * (y * l->stride + x), l->stride, row + x);
        row[-1] = row[0];
        row[columns] = row[columns - 1];
    }
    const size_t size = (size_t)stride * sizeof *first;
    memcpy(l->activity, l->activity + stride, size);
    memcpy(l->activity + (rows + 1) * stride, l->activity + rows * stride, size);
}

static void classify(loop_filter *l, const picture *p, const int32_t *deltas) {
    const int columns = p->unit_columns, rows = p->height / UNIT, stride = columns + 2;
    for (int y = 0; y < rows; y++) {
        const int32_t *const row = l->activity + (y + 1) * stride + 1;
        for (int x = 0; x < columns; x++) {
            uint8_t *const class = &l->classes[y * l->class_stride + x];
            *class = UNFILTERED;
            if (p->now->units[y * columns + x].mode == SKIP) continue;
            const int32_t delta = deltas[place_of(p, UNIT * x, UNIT * y)];
            int32_t sum = 0;
            for (int i = -1; i < 2; i++)
                sum += row[x + i - stride] + row[x + i] + row[x + i + stride];
            *class = 0;
            for (int k = 0; k < ACTIVITY_CLASSES - 1; k++) *class += 32 * sum >= 9 * delta << k;
        }
    }
}

/* To be called when all blocks of a frame are there, and before any is filtered. `deltas`: outside and
 * inside of the region. */
static void open_filter(loop_filter *l, const picture *p, const int32_t *deltas) {
    copy_unfiltered(l, p);
    measure_activity(l, p);
    classify(l, p, deltas);
}

/* Whether a square has anything to filter. */
static int is_filterable(const loop_filter *l, const picture *p, int x, int y) {
    int some = 0;
    for (int j = y; j < y + FILTER_SQUARE && j < p->height; j += UNIT)
        for (int i = 0; i < FILTER_SQUARE / UNIT; i++)
            some |= l->classes[j / UNIT * l->class_stride + x / UNIT + i] != UNFILTERED;
    return some;
}

/* Filters 4 rows of 16 pixels, which have 4 classes. */
#ifdef __AVX2__
HYBRID_INLINE __m256i pair_of_weights(const int16_t *low, const int16_t *high) {
    int32_t a, b; /* the weight of the differences, and that of the clipped ones */
    memcpy(&a, low, sizeof a);
    memcpy(&b, high, sizeof b);
    return _mm256_set_m128i(_mm_set1_epi32(b), _mm_set1_epi32(a));
}

HYBRID_INLINE __m256i clip_to(__m256i v, __m256i low, __m256i high) {
    return _mm256_min_epi16(_mm256_max_epi16(v, low), high);
}

static void filter_group(const int16_t *at, ptrdiff_t stride, const uint8_t *classes,
                         const int16_t weights[][TAP_PAIRS][2], int most, int16_t *out,
                         ptrdiff_t out_stride) {
    __m256i even[TAP_PAIRS], odd[TAP_PAIRS];
    const __m256i high = _mm256_set1_epi16((int16_t)most), low = _mm256_set1_epi16((int16_t)-most);
    for (int i = 0; i < TAP_PAIRS; i++) {
        even[i] = pair_of_weights(weights[classes[0]][i], weights[classes[2]][i]);
        odd[i] = pair_of_weights(weights[classes[1]][i], weights[classes[3]][i]);
    }
    for (int y = 0; y < UNIT; y++, at += stride, out += out_stride) {
        const __m256i here = load_16(at);
        __m256i first = _mm256_set1_epi32(128), second = first;
        for (int i = 0; i < TAP_PAIRS; i++) {
            const ptrdiff_t to = TAP_PLACES[i][0] * stride + TAP_PLACES[i][1];
            const __m256i a = _mm256_sub_epi16(load_16(at + to), here);
            const __m256i b = _mm256_sub_epi16(load_16(at - to), here);
            const __m256i sum = _mm256_add_epi16(a, b);
            const __m256i clipped =
                _mm256_add_epi16(clip_to(a, low, high), clip_to(b, low, high));
            first = _mm256_add_epi32(
                first, _mm256_madd_epi16(_mm256_unpacklo_epi16(sum, clipped), even[i]));
            second = _mm256_add_epi32(
                second, _mm256_madd_epi16(_mm256_unpackhi_epi16(sum, clipped), odd[i]));
        }
        const __m256i change =
            _mm256_packs_epi32(_mm256_srai_epi32(first, 8), _mm256_srai_epi32(second, 8));
        const __m256i v = clip_to(_mm256_adds_epi16(here, change), _mm256_setzero_si256(),
                                  _mm256_set1_epi16(PIXEL_TOP));
        _mm256_storeu_si256((__m256i *)out, v);
    }
}
#else
static void filter_group(const int16_t *at, ptrdiff_t stride, const uint8_t *classes,
                         const int16_t weights[][TAP_PAIRS][2], int most, int16_t *out,
                         ptrdiff_t out_stride) {
    int16_t linear[TAP_PAIRS][GROUP], clipping[TAP_PAIRS][GROUP];
    for (int i = 0; i < TAP_PAIRS; i++)
        for (int x = 0; x < GROUP; x++) {
            linear[i][x] = weights[classes[x / UNIT]][i][0];
            clipping[i][x] = weights[classes[x / UNIT]][i][1];
        }
    for (int y = 0; y < UNIT; y++, at += stride, out += out_stride) {
        int32_t sum[GROUP];
        for (int x = 0; x < GROUP; x++) sum[x] = 128;
        for (int i = 0; i < TAP_PAIRS; i++) {
            const ptrdiff_t to = TAP_PLACES[i][0] * stride + TAP_PLACES[i][1];
            for (int x = 0; x < GROUP; x++) {
                int16_t a = (int16_t)(at[x + to] - at[x]), b = (int16_t)(at[x - to] - at[x]);
                sum[x] += linear[i][x] * (int16_t)(a + b);
                a = (int16_t)(a < -most ? -most : a > most ? most : a);
                b = (int16_t)(b < -most ? -most : b > most ? most : b);
                sum[x] += clipping[i][x] * (int16_t)(a + b);
            }
        }
        for (int x = 0; x < GROUP; x++) out[x] = (int16_t)clip_pixel(at[x] + (sum[x] >> 8));
    }
}
#endif

/* The greatest difference that is not clipped. */
HYBRID_INLINE int most_difference(int32_t delta) {
    const int32_t most = (5 * delta + 512) >> 10;
    return most < PIXEL_TOP ? most : PIXEL_TOP;
}

/* Filters a square; `out` gets the part of it that lies in the frame, in whole groups. */
static void filter_square(const loop_filter *l, const picture *p, int x, int y,
                          const int32_t *deltas, int16_t *out, ptrdiff_t stride) {
    for (int j = 0; j < FILTER_SQUARE && y + j < p->height; j += UNIT)
        for (int i = 0; i < FILTER_SQUARE && x + i < p->width; i += GROUP)
            filter_group(l->pixels + (y + j) * l->stride + x + i, l->stride,
                         l->classes + (y + j) / UNIT * l->class_stride + (x + i) / UNIT,
                         LOOP_WEIGHTS[!p->key],
                         most_difference(deltas[place_of(p, x + i, y + j)]), out + j * stride + i,
                         stride);
}

#endif
