/* Decoded frames with their edges continued, what was decided for their blocks, and the frame that
 * is being coded.
 */
#ifndef EDGE_CODEC_HYBRID_FRAMES_H
#define EDGE_CODEC_HYBRID_FRAMES_H

#include "contexts.h"

#ifndef BORDER
#define BORDER 80 /* a block of 64 outside of the frame and the taps of its filters */
#endif
#define SLOTS 8
#define LOG_TREE 6 /* side of the largest blocks */
#define LOG_LEAST 3
#define TREE (1 << LOG_TREE)
#define UNIT 4 /* side of the squares that decisions are recorded for */
#define MOST_MOTION 16383 /* quarter pixels */

enum { SKIP, MERGE, INTER, INTRA };
enum { FIRST = 1, SECOND = 2, BOTH = 3 };

typedef struct {
    int16_t x, y; /* quarter pixels */
} vector;

typedef struct {
    uint8_t lists;        /* which of two predictions there are: FIRST or BOTH */
    uint8_t reference[2]; /* place in the list of references */
    vector vector[2];
} motion;

/* The block that a square of 4 x 4 lies in. */
typedef struct {
    uint8_t mode, log_side;
    uint8_t intra_mode;      /* of INTRA; of the part of 4 x 4 if there are four */
    uint8_t split_transform; /* four transforms of half the side; of INTRA: four modes as well */
    uint8_t coded;           /* transforms that have levels: bits 0 to 3 (bit 0 if there is one) */
    uint8_t sine;            /* INTRA: the kind of transform, if there is a choice */
    uint8_t merge_index, predictor[2];
    motion motion; /* not of INTRA */
} unit;

typedef struct {
    int16_t *memory, *pixels; /* pixels: (0, 0) */
    unit *units;
} frame;

/* Frames of one slice. Sides are padded to multiples of 8. */
typedef struct {
    int rows, columns, height, width, unit_columns;
    ptrdiff_t stride;
    frame slot[SLOTS]; /* memory is allocated when a slot is first used */
} frame_store;

/* The frame in work. It is read by several workers at once while an encoder decides. */
typedef struct {
    int height, width, unit_columns;
    ptrdiff_t stride;
    int key, n_references;
    const frame *reference[MOST_REFERENCES];
    frame *now;
    const uint8_t *inside; /* squares of 16 x 16 that are in the region (region.h), or NULL */
} picture;

static void free_frame(frame *f) {
    free(f->memory);
    free(f->units);
    *f = (frame){NULL, NULL, NULL};
}

static void open_store(frame_store *s, int rows, int columns) {
    memset(s, 0, sizeof *s);
    s->rows = rows;
    s->columns = columns;
    s->height = (rows + 7) & ~7;
    s->width = (columns + 7) & ~7;
    s->unit_columns = s->width / UNIT;
    s->stride = s->width + 2 * BORDER;
}

static void close_store(frame_store *s) {
    for (int i = 0; i < SLOTS; i++) free_frame(&s->slot[i]);
}

static int reserve_frame(const frame_store *s, frame *f) {
    if (f->memory) return 1;
    f->memory = calloc((size_t)s->stride * (size_t)(s->height + 2 * BORDER), sizeof *f->memory);
    f->units = calloc((size_t)s->unit_columns * (size_t)(s->height / UNIT), sizeof *f->units);
    if (!f->memory || !f->units) return free_frame(f), 0;
    f->pixels = f->memory + BORDER * s->stride + BORDER;
    return 1;
}

/* Continues the edges of a finished frame outwards. */
static void extend_frame(const frame_store *s, frame *f) {
    for (int y = 0; y < s->height; y++) {
        int16_t *const row = f->pixels + y * s->stride;
        for (int x = 1; x <= BORDER; x++) {
            row[-x] = row[0];
            row[s->width - 1 + x] = row[s->width - 1];
        }
    }
    const size_t size = (size_t)s->stride * sizeof(int16_t);
    int16_t *const top = f->pixels - BORDER, *const bottom = top + (s->height - 1) * s->stride;
    for (int y = 1; y <= BORDER; y++) {
        memcpy(top - y * s->stride, top, size);
        memcpy(bottom + y * s->stride, bottom, size);
    }
}

HYBRID_INLINE unit *unit_at(const picture *p, const frame *f, int x, int y) {
    return f->units + (y >> 2) * p->unit_columns + (x >> 2);
}

/* The place of a square among those of its largest block: x and y interleaved. */
HYBRID_INLINE int order_of(int x, int y) {
    static const uint8_t SPREAD[16] = {0,  1,  4,  5,  16, 17, 20, 21,
                                       64, 65, 68, 69, 80, 81, 84, 85};
    return SPREAD[x >> 2 & 15] | SPREAD[y >> 2 & 15] << 1;
}

/* Whether the pixel (other_x, other_y) is coded before the block at (x, y). It is never asked for
 * largest blocks of the row above beyond the next one to the right. */
HYBRID_INLINE int is_coded(const picture *p, int x, int y, int other_x, int other_y) {
    if (other_x < 0 || other_y < 0 || other_x >= p->width || other_y >= p->height) return 0;
    const int dy = (other_y >> LOG_TREE) - (y >> LOG_TREE);
    const int dx = (other_x >> LOG_TREE) - (x >> LOG_TREE);
    if (dy) return dy < 0;
    if (dx) return dx < 0;
    return order_of(other_x, other_y) < order_of(x, y);
}

/* The record of a pixel that is coded before the block at (x, y), or NULL. */
HYBRID_INLINE const unit *coded_unit(const picture *p, int x, int y, int other_x, int other_y) {
    return is_coded(p, x, y, other_x, other_y) ? unit_at(p, p->now, other_x, other_y) : NULL;
}

/* Records a block's decision; blocks lie within the frame. */
HYBRID_HELPER void record(const picture *p, int x, int y, int side, const unit *u) {
    for (int j = 0; j < side; j += UNIT) {
        unit *const row = unit_at(p, p->now, x, y + j);
        for (int i = 0; i < side / UNIT; i++) row[i] = *u;
    }
}

#endif
