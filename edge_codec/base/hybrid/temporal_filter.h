/* Filters a frame over time: its mean with frames near to it, moved to where they match.
 *
 * What frames are predicted from need not be a frame itself. Noise differs from frame to frame, so
 * that the mean of several is nearer to each of those that are predicted from it. Encoders alone do
 * this, to key frames before they code them: P. Wennersten et al., "Encoder-only GOP-based temporal
 * filter", JVET-O0549, 2019; the alternate reference frames of J. Han et al., "A Technical Overview
 * of AV1", Proceedings of the IEEE 109 (9), 2021.
 *
 * Blocks of 8 x 8 are searched for in whole pixels, and count the less the worse they match beyond
 * what noise explains, and what the quantizer will lose anyway. The variance of noise is measured by
 * the matches; a frame whose matches are far worse than a shift by a pixel would be shows something
 * else and does not count. All is in integers: every variant of the module gives the same.
 */
#ifndef EDGE_CODEC_HYBRID_TEMPORAL_FILTER_H
#define EDGE_CODEC_HYBRID_TEMPORAL_FILTER_H

#include "pixels.h"
#include "quantizers.h"

#define FILTER_MOST 16      /* other frames */
#define FILTER_RANGE 5      /* of the search, on each side */
#define FILTER_SIDE 8       /* of blocks; a match is judged by a window three times as wide */
#define FILTER_LENGTH 128   /* cost of a vector's squared length, as squared error of a block */
#define FILTER_ONE 1024     /* weight of the frame itself, and the most of another one */
#define FILTER_TOLERANCE 3  /* excess of the error, in what is forgiven, that costs a factor e */
#define FILTER_NOISE_FROM 2 /* the nearest frames, which noise is measured with */
#define FILTER_PERCENTILE 15 /* of blocks' errors, which noise is measured by */
#define FILTER_UNLIKE 4     /* times the error of neighboring pixels: frames of something else */
#define FILTER_STEPS 8      /* of the table for each factor e */
#define FILTER_DECAY 64

/* round(1024 * exp(-i / 8)) */
static const int16_t FILTER_DECAYS[FILTER_DECAY] = {
    1024, 904, 797, 704, 621, 548, 484, 427, 377, 332, 293, 259, 228, 202, 178, 157,
    139,  122, 108, 95,  84,  74,  65,  58,  51,  45,  40,  35,  31,  27,  24,  21,
    19,   17,  15,  13,  11,  10,  9,   8,   7,   6,   5,   5,   4,   4,   3,   3,
    3,    2,   2,   2,   2,   1,   1,   1,   1,   1,   1,   1,   1,   0,   0,   0,
};

/* Where a block is in another frame. */
typedef struct {
    int32_t error; /* squared, of 64 pixels */
    int8_t x, y;
} match;

typedef struct {
    int quantizer; /* that the frame will be coded with */
    int rows, columns, block_rows, block_columns, n_blocks, n_others;
    ptrdiff_t stride;
    const int16_t *frame;
    const int16_t *other[FILTER_MOST];
    int16_t *padded;      /* the other frame that is searched, its edges continued */
    int32_t *column_sums; /* squared errors of a row of blocks, by columns */
    int32_t *errors;      /* of all blocks, for one vector; later sorted ones */
    int64_t *three;       /* their sums of three, one above the other, in a row of blocks */
    int64_t *best;        /* costs */
    match *matches;       /* [other][block], and once more for the frame itself */
} temporal_filter;

static void filter_free(temporal_filter *f) {
    free(f->padded);
    free(f->column_sums);
    free(f->errors);
    free(f->three);
    free(f->best);
    free(f->matches);
}

static int filter_open(temporal_filter *f) {
    f->block_rows = (f->rows + FILTER_SIDE - 1) / FILTER_SIDE;
    f->block_columns = (f->columns + FILTER_SIDE - 1) / FILTER_SIDE;
    f->n_blocks = f->block_rows * f->block_columns;
    f->stride = f->columns + 2 * FILTER_RANGE;
    const size_t n = (size_t)f->n_blocks, wide = (size_t)f->block_columns;
    const size_t padded = (size_t)f->stride * (size_t)(f->rows + 2 * FILTER_RANGE);
    f->padded = malloc(padded * sizeof *f->padded);
    f->column_sums = calloc(wide * FILTER_SIDE, sizeof *f->column_sums);
    f->errors = malloc(n * sizeof *f->errors);
    f->three = malloc(wide * sizeof *f->three);
    f->best = malloc(n * sizeof *f->best);
    f->matches = malloc(n * (size_t)(f->n_others + 1) * sizeof *f->matches);
    return f->padded && f->column_sums && f->errors && f->three && f->best && f->matches;
}

HYBRID_INLINE int filter_clamp(int at, int count) { return at < 0 ? 0 : at < count ? at : count - 1; }

/* Pixels of a block along an axis: fewer at the end of the frame. */
HYBRID_INLINE int filter_extent(int block, int count) {
    const int left = count - block * FILTER_SIDE;
    return left < FILTER_SIDE ? left : FILTER_SIDE;
}

/* ------------------------------------------------------------------------------------- the search */

static void filter_pad(const temporal_filter *f, const int16_t *other) {
    for (int y = -FILTER_RANGE; y < f->rows + FILTER_RANGE; y++) {
        const int16_t *const from = other + (ptrdiff_t)filter_clamp(y, f->rows) * f->columns;
        int16_t *const to = f->padded + (y + FILTER_RANGE) * f->stride;
        for (int x = 0; x < FILTER_RANGE; x++) {
            to[x] = from[0];
            to[f->columns + FILTER_RANGE + x] = from[f->columns - 1];
        }
        memcpy(to + FILTER_RANGE, from, (size_t)f->columns * sizeof *to);
    }
}

/* Squared errors of `height` rows, by columns. */
HYBRID_INLINE void filter_columns(const int16_t *a, ptrdiff_t a_stride, const int16_t *b,
                                  ptrdiff_t b_stride, int columns, int height, int32_t *sums) {
    for (int x = 0; x < columns; x++) {
        int32_t sum = 0;
        for (int y = 0; y < height; y++) {
            const int16_t d = (int16_t)(a[y * a_stride + x] - b[y * b_stride + x]);
            sum += (int32_t)d * d;
        }
        sums[x] = sum;
    }
}

/* Squared errors of all blocks, moved by (dx, dy). */
static void filter_errors(const temporal_filter *f, int dx, int dy) {
    for (int by = 0; by < f->block_rows; by++) {
        const int y = by * FILTER_SIDE, height = filter_extent(by, f->rows);
        const int16_t *const a = f->frame + (ptrdiff_t)y * f->columns;
        const int16_t *const b =
            f->padded + (y + dy + FILTER_RANGE) * f->stride + dx + FILTER_RANGE;
        if (height == FILTER_SIDE)
            filter_columns(a, f->columns, b, f->stride, f->columns, FILTER_SIDE, f->column_sums);
        else
            filter_columns(a, f->columns, b, f->stride, f->columns, height, f->column_sums);
        int32_t *const out = f->errors + (ptrdiff_t)by * f->block_columns;
        for (int bx = 0; bx < f->block_columns; bx++) {
            const int32_t *const s = f->column_sums + bx * FILTER_SIDE; /* zeros beyond the frame */
            out[bx] = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
        }
    }
}

/* Keeps the vector for blocks whose windows match better than before. */
static void filter_keep(const temporal_filter *f, int dx, int dy, match *matches) {
    const int wide = f->block_columns;
    const int64_t length = (int64_t)(dx * dx + dy * dy) * FILTER_LENGTH;
    for (int by = 0; by < f->block_rows; by++) {
        const int32_t *const middle = f->errors + (ptrdiff_t)by * wide;
        const int32_t *const above = by > 0 ? middle - wide : middle;
        const int32_t *const below = by < f->block_rows - 1 ? middle + wide : middle;
        for (int bx = 0; bx < wide; bx++)
            f->three[bx] = (int64_t)above[bx] + middle[bx] + below[bx];
        for (int bx = 0; bx < wide; bx++) {
            const int64_t cost = f->three[filter_clamp(bx - 1, wide)] + f->three[bx] +
                                 f->three[filter_clamp(bx + 1, wide)] + length;
            const ptrdiff_t at = (ptrdiff_t)by * wide + bx;
            if (cost >= f->best[at]) continue;
            f->best[at] = cost;
            matches[at] = (match){middle[bx], (int8_t)dx, (int8_t)dy};
        }
    }
}

/* Takes errors of smaller blocks for those of whole ones. */
static void filter_complete(const temporal_filter *f, match *matches) {
    for (int i = 0; i < f->n_blocks; i++) {
        const int pixels = filter_extent(i / f->block_columns, f->rows) *
                           filter_extent(i % f->block_columns, f->columns);
        matches[i].error =
            (int32_t)((int64_t)matches[i].error * FILTER_SIDE * FILTER_SIDE / pixels);
    }
}

/* Finds all blocks in one of the other frames. */
static void filter_search(const temporal_filter *f, const int16_t *other, match *matches) {
    filter_pad(f, other);
    for (int i = 0; i < f->n_blocks; i++) f->best[i] = INT64_MAX;
    for (int dy = -FILTER_RANGE; dy <= FILTER_RANGE; dy++)
        for (int dx = -FILTER_RANGE; dx <= FILTER_RANGE; dx++) {
            filter_errors(f, dx, dy);
            filter_keep(f, dx, dy, matches);
        }
    filter_complete(f, matches);
}

/* -------------------------------------------------------------------------------------- the mean */

static int64_t filter_sum(const temporal_filter *f, int y, int x, int height, int width) {
    int64_t sum = 0;
    for (int row = y; row < y + height; row++)
        for (int column = x; column < x + width; column++)
            sum += f->frame[(ptrdiff_t)row * f->columns + column];
    return sum;
}

static int filter_compare(const void *a, const void *b) {
    const int32_t first = *(const int32_t *)a, second = *(const int32_t *)b;
    return (first > second) - (first < second);
}

/* Error of the quieter ones of the blocks that are brighter than the frame, 1 or more. In matches it
 * is twice the variance of noise, of 64 pixels: others move as well, and what is dark is often air,
 * whose noise is less. */
static int32_t filter_typical(const temporal_filter *f, const match *matches) {
    const int64_t all = (int64_t)f->rows * f->columns;
    const int64_t whole = filter_sum(f, 0, 0, f->rows, f->columns);
    int n = 0;
    for (int i = 0; i < f->n_blocks; i++) {
        const int by = i / f->block_columns, bx = i % f->block_columns;
        const int height = filter_extent(by, f->rows), width = filter_extent(bx, f->columns);
        const int64_t sum = filter_sum(f, by * FILTER_SIDE, bx * FILTER_SIDE, height, width);
        if (sum * all > whole * height * width) f->errors[n++] = matches[i].error;
    }
    if (!n) return 1;
    qsort(f->errors, (size_t)n, sizeof *f->errors, filter_compare);
    const int32_t found = f->errors[(int64_t)n * FILTER_PERCENTILE / 100];
    return found > 0 ? found : 1;
}

/* Error of the same kind when the frame is moved by a pixel, the lesser way. */
static int32_t filter_steepness(const temporal_filter *f) {
    match *const matches = f->matches + (ptrdiff_t)f->n_others * f->n_blocks;
    int32_t least = INT32_MAX;
    filter_pad(f, f->frame);
    for (int way = 0; way < 2; way++) {
        filter_errors(f, way, 1 - way);
        for (int i = 0; i < f->n_blocks; i++) matches[i].error = f->errors[i];
        filter_complete(f, matches);
        const int32_t found = filter_typical(f, matches);
        if (found < least) least = found;
    }
    return least;
}

/* How much another frame counts, by the error of a block in it. */
typedef struct {
    int32_t typical; /* error of blocks that differ by noise alone */
    int32_t most;    /* weight up to that */
    int64_t excess;  /* error beyond it that costs a factor e */
    int is_like[FILTER_MOST]; /* frames that show the same */
} filter_weights;

/* What a fine quantizer would keep of the frame's own noise is worth more than what is predicted from
 * the mean: the most weight falls with the variance that the quantizer adds, Delta * Delta / 12, from
 * where that is less than noise. What a coarse one loses it loses of a worse match as well: half of
 * that variance is forgiven beside noise. */
static filter_weights filter_measure(const temporal_filter *f) {
    const int64_t added = (int64_t)DELTAS[f->quantizer] * DELTAS[f->quantizer] / 384;
    const int64_t bound = (int64_t)FILTER_UNLIKE * filter_steepness(f);
    filter_weights w = {.typical = INT32_MAX};
    for (int k = 0; k < f->n_others; k++) {
        const int32_t found = filter_typical(f, f->matches + (ptrdiff_t)k * f->n_blocks);
        w.is_like[k] = found <= bound;
        if (k < FILTER_NOISE_FROM && found < w.typical) w.typical = found;
    }
    w.most = (int32_t)(added < w.typical ? FILTER_ONE * added / w.typical : FILTER_ONE);
    w.excess = FILTER_TOLERANCE * (w.typical + added / 2);
    return w;
}

static int32_t filter_weight(int32_t error, const filter_weights *w) {
    if (error <= w->typical) return w->most;
    const int64_t step = (int64_t)(error - w->typical) * FILTER_STEPS / w->excess;
    return step < FILTER_DECAY ? w->most * FILTER_DECAYS[step] / FILTER_ONE : 0;
}

/* Adds a block of another frame. */
static void filter_add(const temporal_filter *f, int y, int x, const int16_t *other, const match *m,
                       int32_t weight, int32_t sums[FILTER_SIDE][FILTER_SIDE]) {
    for (int i = 0; i < FILTER_SIDE; i++) {
        const int16_t *const row = other + (ptrdiff_t)filter_clamp(y + i + m->y, f->rows) * f->columns;
        for (int j = 0; j < FILTER_SIDE; j++)
            sums[i][j] += weight * row[filter_clamp(x + j + m->x, f->columns)];
    }
}

static void filter_block(const temporal_filter *f, int block, const filter_weights *weights,
                         int16_t *out) {
    static const match STILL = {0, 0, 0};
    const int by = block / f->block_columns, bx = block % f->block_columns;
    const int y = by * FILTER_SIDE, x = bx * FILTER_SIDE;
    int32_t sums[FILTER_SIDE][FILTER_SIDE] = {{0}}, total = FILTER_ONE;
    filter_add(f, y, x, f->frame, &STILL, FILTER_ONE, sums);
    for (int k = 0; k < f->n_others; k++) {
        const match *const m = f->matches + (ptrdiff_t)k * f->n_blocks + block;
        const int32_t weight = filter_weight(m->error, weights);
        if (!weight || !weights->is_like[k]) continue;
        filter_add(f, y, x, f->other[k], m, weight, sums);
        total += weight;
    }
    for (int i = 0; i < filter_extent(by, f->rows); i++)
        for (int j = 0; j < filter_extent(bx, f->columns); j++)
            out[(ptrdiff_t)(y + i) * f->columns + x + j] =
                (int16_t)((sums[i][j] + total / 2) / total);
}

/* Filters f->frame with the others, the nearest in time first; 0 without memory. */
static int filter_over_time(temporal_filter *f, int16_t *out) {
    const int is_open = filter_open(f);
    if (is_open) {
        for (int k = 0; k < f->n_others; k++)
            filter_search(f, f->other[k], f->matches + (ptrdiff_t)k * f->n_blocks);
        const filter_weights weights = filter_measure(f);
        for (int i = 0; i < f->n_blocks; i++) filter_block(f, i, &weights, out);
    }
    filter_free(f);
    return is_open;
}

#endif
