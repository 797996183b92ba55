/* A frame predicted by filters that encoder and decoder fit alike, block by block: the state.
 *
 * Planes of decoded frames are kept twice: as doubles for the prediction, and as 16-bit integers
 * without the lowest bits for the sums of products that the filters are fitted to.
 */
#ifndef EDGE_CODEC_LOCAL_FRAME_H
#define EDGE_CODEC_LOCAL_FRAME_H

#include "symbols.h"

#define REACH 3 /* taps reach three voxels far */
#define MAX_FILTERS 3
#define MAX_LOCAL_TAPS 45
#define COARSE_BITS 11 /* of a sample in the sums of products */
#define WINDOW 2       /* blocks that a window reaches to each side at most */
#define SPACE 2        /* blocks of padding between rows of blocks, for windows */
#define BATCH 32       /* blocks that are fitted side by side, a multiple of any vector */

#define MANY_VOXELS 16384 /* of a band from which on the default effort saves time */

enum { FAST, DEFAULT, BEST };
enum { NOW, BEFORE1, BEFORE2, BEFORE3, BEFORE4, BASE_NOW, BASE_BEFORE, LOCAL_PLANES };

typedef struct {
    int8_t plane, dy, dx;
} local_tap;

/* Sums of products of features over square blocks. Feature 0 is the target, feature i the tap i,
 * each less the first tap, which has no feature of its own. */
typedef struct {
    int log_side; /* of a block in voxels: 2 or 3 */
    int features;
    size_t skip;           /* every how many rows of a block are summed: 1 or 2 */
    size_t rows, columns;  /* in blocks */
    size_t stride;         /* of a row of blocks, with SPACE before it */
    size_t size;           /* of all pairs of features of a row of blocks */
    int32_t *now, *before; /* rings: [row % 2 or row % 5][pair][block] */
    int32_t *zero;         /* a row of blocks outside the frame */
} block_sums;

typedef struct {
    int sums;     /* index of the block_sums it is fitted to */
    int features; /* the first ones of theirs */
    int window;   /* weights fall linearly to 0 in window + 1 blocks */
    size_t stride;
    double *taps; /* [tap][block] for the row of blocks in work */
    double *row;  /* predictions of a row, without what lies left of a voxel */
} local_filter;

typedef struct {
    size_t rows, columns, stride;
    uint32_t span;
    int with_base, effort;
    int history;    /* decoded frames since the key frame, at most 4 */
    int depth;      /* earlier frames that taps lie in */
    int use_before; /* whether the previous frame has sums of the same taps */
    unsigned shift; /* bits that samples lose for the sums */
    double *plane[LOCAL_PLANES];
    int16_t *coarse[LOCAL_PLANES];
    local_tap taps[MAX_LOCAL_TAPS];
    int n_taps;
    int west[REACH]; /* indices of the taps (0, -1), (0, -2), (0, -3); -1: none */
    int n_sums, n_filters;
    block_sums sums[2];
    local_filter filter[MAX_FILTERS];
    void *feature_room;
    int16_t *feature; /* of a row of blocks, in the order of local_products.h */
    double *matrix;   /* [vector of blocks][pair][block of the vector] */
} local_state;

RANS_INLINE size_t place_of(const local_state *s, size_t row, size_t column) {
    return (row + REACH) * s->stride + column + REACH;
}

/* Pairs (i, j), j <= i, in order. */
RANS_INLINE size_t pair_of(int i, int j) { return (size_t)(i * (i + 1) / 2 + j); }

#define ROW_ROOM(columns) (((columns) + 63) / 64 * 64)
#define FEATURE_ROOM(columns) (((columns) + 127) / 128 * 128)

static void local_free(local_state *s) {
    for (int i = 0; i < LOCAL_PLANES; i++) {
        free(s->plane[i]);
        free(s->coarse[i]);
    }
    for (int i = 0; i < 2; i++) {
        free(s->sums[i].now);
        free(s->sums[i].before);
        free(s->sums[i].zero);
    }
    for (int i = 0; i < MAX_FILTERS; i++) {
        free(s->filter[i].taps);
        free(s->filter[i].row);
    }
    free(s->feature_room);
    free(s->matrix);
}

static int sums_new(block_sums *b, const local_state *s, int log_side, int features) {
    b->log_side = log_side;
    b->skip = log_side == 3 && s->effort == DEFAULT && s->rows * s->columns > MANY_VOXELS ? 2 : 1;
    b->rows = ((s->rows - 1) >> log_side) + 1;
    b->columns = ((s->columns - 1) >> log_side) + 1;
    b->stride = b->columns + SPACE;
    b->size = pair_of(features, 0) * b->stride + SPACE + BATCH + 16; /* vectors go beyond the end */
    b->now = calloc(2 * b->size, sizeof *b->now);
    b->before = calloc(5 * b->size, sizeof *b->before);
    b->zero = calloc(b->size, sizeof *b->zero);
    return b->now && b->before && b->zero;
}

static int local_filter_new(local_filter *f, const local_state *s, int sums, int window) {
    const size_t columns = ROW_ROOM(s->columns);
    f->sums = sums;
    f->window = window;
    f->stride = (s->sums[sums].columns + 7) / 8 * 8 + 8;
    f->taps = calloc(MAX_LOCAL_TAPS * f->stride, sizeof *f->taps);
    f->row = calloc(columns, sizeof *f->row);
    return f->taps && f->row;
}

/* Taps at distance 1, 2, ... in the plane, each list continuing the one before it. */
static const int8_t RING_1[][2] = {{0, 1}, {1, 0}, {0, -1}, {-1, 0}};
static const int8_t RING_2[][2] = {{1, 1}, {1, -1}, {-1, 1}, {-1, -1}};
static const int8_t RING_3[][2] = {{0, 2}, {2, 0}, {0, -2}, {-2, 0}};
static const int8_t CAUSAL_1[][2] = {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}};
static const int8_t CAUSAL_2[][2] = {{-1, -2}, {-1, 2}, {-2, -1}, {-2, 1}, {-2, -2}, {-2, 2}};
static const int8_t CAUSAL_3[][2] = {{0, -3}, {-3, 0}, {-1, -3}, {-1, 3}, {-3, -1}, {-3, 1}};
static const int8_t CENTER[][2] = {{0, 0}};

static void add_taps(local_state *s, int plane, const int8_t (*places)[2], size_t n) {
    for (size_t i = 0; i < n; i++) {
        const local_tap t = {(int8_t)plane, places[i][0], places[i][1]};
        if (plane == NOW && t.dy == 0) s->west[-t.dx - 1] = s->n_taps;
        s->taps[s->n_taps++] = t;
    }
}

#define ADD(plane, list) add_taps(s, plane, list, sizeof list / sizeof *list)

/* Lists the taps; returns in counts how many the small, the medium, and the two large filters have. */
static void list_local_taps(local_state *s, int counts[4]) {
    s->n_taps = 0;
    for (int i = 0; i < REACH; i++) s->west[i] = -1;
    if (s->depth >= 1) ADD(BEFORE1, CENTER), ADD(BEFORE1, RING_1);
    ADD(NOW, CAUSAL_1);
    if (s->depth >= 2) ADD(BEFORE2, CENTER);
    if (s->depth >= 3) ADD(BEFORE3, CENTER);
    if (s->with_base) ADD(BASE_NOW, CENTER);
    counts[0] = s->n_taps;
    if (s->depth >= 1) ADD(BEFORE1, RING_2);
    ADD(NOW, CAUSAL_2);
    if (s->with_base) ADD(BASE_NOW, RING_1);
    counts[1] = s->n_taps;
    if (s->depth >= 1) ADD(BEFORE1, RING_3);
    if (s->depth >= 2) ADD(BEFORE2, RING_1);
    counts[2] = s->n_taps;
    ADD(NOW, CAUSAL_3);
    if (s->depth >= 2) ADD(BEFORE2, RING_2);
    if (s->depth >= 3) ADD(BEFORE3, RING_1);
    counts[3] = s->n_taps;
}

#undef ADD

enum { SMALL, MEDIUM, LARGE, LARGEST };

/* The most taps of each filter: those of the deepest frames. */
static int local_new(local_state *s, size_t rows, size_t columns, uint32_t span, int with_base,
                     int effort) {
    s->rows = rows;
    s->columns = columns;
    s->span = span;
    s->with_base = with_base;
    s->effort = effort;
    s->stride = (columns + 7) / 8 * 8 + 2 * REACH + 8;
    const unsigned bits = span ? 32u - (unsigned)__builtin_clz(span) : 0;
    s->shift = bits > COARSE_BITS ? bits - COARSE_BITS : 0;
    const size_t size = (rows + 2 * REACH) * s->stride + 64;
    int complete = 1;
    for (int i = 0; i < LOCAL_PLANES; i++) {
        const int used = i >= BASE_NOW ? with_base : !(with_base && i == BEFORE4);
        if (!used) continue;
        complete &= (s->plane[i] = calloc(size, sizeof *s->plane[i])) != NULL;
        complete &= (s->coarse[i] = calloc(size, sizeof *s->coarse[i])) != NULL;
    }
    int counts[4];
    s->depth = with_base ? 2 : 3;
    list_local_taps(s, counts);
    const int best = effort == BEST;
    s->n_sums = 2;
    complete &= sums_new(&s->sums[0], s, 2, counts[best ? MEDIUM : SMALL]);
    complete &= sums_new(&s->sums[1], s, 3, counts[best ? LARGEST : LARGE]);
    if (!complete) return 0;
    s->n_filters = best ? 3 : 2;
    complete &= local_filter_new(&s->filter[0], s, 1, 2);
    complete &= local_filter_new(&s->filter[1], s, 0, 2);
    if (best) complete &= local_filter_new(&s->filter[2], s, 0, 1);
    complete &= (s->feature_room =
                     calloc(8 * (MAX_LOCAL_TAPS + 3) * FEATURE_ROOM(columns) + 32, 2)) != NULL;
    complete &= (s->matrix = calloc(BATCH * pair_of(MAX_LOCAL_TAPS, 0), sizeof *s->matrix)) != NULL;
    s->feature = (int16_t *)(((uintptr_t)s->feature_room + 63) & ~(uintptr_t)63);
    return complete;
}

/* Sets taps and filters up for the next frame. Sums of the previous frame need one frame more than
 * its taps reach back. */
static void open_local(local_state *s) {
    const int most = s->with_base ? 2 : 3;
    s->use_before = s->history >= 2;
    s->depth = s->history <= 1 ? s->history : s->history - 1 < most ? s->history - 1 : most;
    int counts[4];
    list_local_taps(s, counts);
    const int best = s->effort == BEST;
    s->sums[0].features = counts[best ? MEDIUM : SMALL];
    s->sums[1].features = counts[best ? LARGEST : LARGE];
    s->filter[0].features = s->sums[1].features;
    s->filter[1].features = counts[SMALL];
    s->filter[2].features = counts[MEDIUM];
}

/* Puts a sample into both forms of a plane. */
RANS_INLINE void set_voxel(local_state *s, int plane, size_t place, uint32_t sample) {
    s->plane[plane][place] = (double)sample;
    s->coarse[plane][place] = (int16_t)(sample >> s->shift);
}

RANS_INLINE void copy_voxel(local_state *s, int plane, size_t to, size_t from) {
    s->plane[plane][to] = s->plane[plane][from];
    s->coarse[plane][to] = s->coarse[plane][from];
}

static void copy_row(local_state *s, int to_plane, size_t to, int from_plane, size_t from) {
    memcpy(s->plane[to_plane] + to, s->plane[from_plane] + from, s->stride * sizeof(double));
    memcpy(s->coarse[to_plane] + to, s->coarse[from_plane] + from, s->stride * sizeof(int16_t));
}

/* Repeats the edge of a complete plane. */
static void pad_local(local_state *s, int plane) {
    for (size_t row = 0; row < s->rows; row++) {
        const size_t first = place_of(s, row, 0), last = first + s->columns - 1;
        for (size_t i = 1; i <= REACH; i++) {
            copy_voxel(s, plane, first - i, first);
            copy_voxel(s, plane, last + i, last);
        }
    }
    for (size_t i = 0; i < REACH; i++) {
        copy_row(s, plane, i * s->stride, plane, REACH * s->stride);
        copy_row(s, plane, (s->rows + REACH + i) * s->stride, plane,
                 (s->rows + REACH - 1) * s->stride);
    }
}

static void load_row(local_state *s, int plane, size_t row, const uint32_t *samples) {
    const size_t place = place_of(s, row, 0);
    for (size_t column = 0; column < s->columns; column++)
        set_voxel(s, plane, place + column, samples[column]);
}

static void load_local(local_state *s, int plane, const uint32_t *frame) {
    for (size_t row = 0; row < s->rows; row++) load_row(s, plane, row, frame + row * s->columns);
    pad_local(s, plane);
}

/* The padding above the frame in work: the previous frame's first row, or zero. */
static void open_above(local_state *s) {
    for (size_t i = 0; i < REACH; i++) {
        if (s->history) {
            copy_row(s, NOW, i * s->stride, BEFORE1, REACH * s->stride);
        } else {
            memset(s->plane[NOW] + i * s->stride, 0, s->stride * sizeof(double));
            memset(s->coarse[NOW] + i * s->stride, 0, s->stride * sizeof(int16_t));
        }
    }
}

/* Left of a row: the voxel above its first one. */
static void open_left(local_state *s, size_t row) {
    const size_t first = place_of(s, row, 0);
    for (size_t i = 1; i <= REACH; i++) copy_voxel(s, NOW, first - i, first - s->stride);
}

/* Right of a finished row: its last voxel. */
static void close_right(local_state *s, size_t row) {
    const size_t last = place_of(s, row, s->columns - 1);
    for (size_t i = 1; i <= REACH; i++) copy_voxel(s, NOW, last + i, last);
}

static void rotate(local_state *s, int first, int last) {
    double *const plane = s->plane[last];
    int16_t *const coarse = s->coarse[last];
    for (int i = last; i > first; i--) {
        s->plane[i] = s->plane[i - 1];
        s->coarse[i] = s->coarse[i - 1];
    }
    s->plane[first] = plane;
    s->coarse[first] = coarse;
}

/* The decoded frame becomes the previous one; nothing is copied. */
static void close_local(local_state *s) {
    pad_local(s, NOW);
    rotate(s, NOW, s->with_base ? BEFORE3 : BEFORE4);
    if (s->with_base) rotate(s, BASE_NOW, BASE_BEFORE);
    const int most = s->with_base ? 3 : 4;
    if (s->history < most) s->history++;
}

#endif
