/* One voxel's difference as symbols, and back. */
#ifndef EDGE_CODEC_RESIDUAL_CODE_H
#define EDGE_CODEC_RESIDUAL_CODE_H

#include "residual_frame.h"

enum { RESIDUAL_OK = 0, RESIDUAL_DAMAGED = 1, RESIDUAL_NO_MEMORY = 2 };

#define LANES 2
#define ESCAPE 15
#define MAX_MAGNITUDE 0x7FFFFFFu /* 18 of them fit 32 bits */

/* Symbols go to the rANS coder; bits of no structure go as they are, least significant first, into
 * a segment of their own, which costs no arithmetic. */
typedef struct {
    rans_pair *pairs;
    size_t n_pairs, pairs_capacity;
    uint8_t *bits;
    size_t n_bytes, bytes_capacity;
    uint64_t buffer;
    unsigned filled; /* bits in the buffer, below 8 between calls */
} symbol_writer;

typedef struct {
    rans_decoder rans;
    size_t n_symbols;
    const uint8_t *next, *end;
    uint64_t buffer;
    unsigned filled;
    int failed;
} symbol_reader;

/* Pairs and bytes that one voxel or coefficient takes at most. */
#define ROOM 16

static int reserve(symbol_writer *w) {
    if (w->n_pairs + ROOM > w->pairs_capacity) {
        const size_t capacity = w->pairs_capacity * 2 + 4096;
        rans_pair *pairs = realloc(w->pairs, capacity * sizeof *pairs);
        if (!pairs) return 0;
        w->pairs = pairs;
        w->pairs_capacity = capacity;
    }
    if (w->n_bytes + ROOM > w->bytes_capacity) {
        const size_t capacity = w->bytes_capacity * 2 + 4096;
        uint8_t *bits = realloc(w->bits, capacity);
        if (!bits) return 0;
        w->bits = bits;
        w->bytes_capacity = capacity;
    }
    return 1;
}

/* Writes the low `count` (0 to 40) bits of `value`. */
RANS_INLINE void put_bits(symbol_writer *w, uint64_t value, unsigned count) {
    w->buffer |= (value & (((uint64_t)1 << count) - 1)) << w->filled;
    for (w->filled += count; w->filled >= 8; w->filled -= 8, w->buffer >>= 8)
        w->bits[w->n_bytes++] = (uint8_t)w->buffer;
}

static void flush_bits(symbol_writer *w) {
    if (w->filled) w->bits[w->n_bytes++] = (uint8_t)w->buffer;
}

RANS_INLINE uint64_t get_bits(symbol_reader *r, unsigned count) {
    while (r->filled < count) {
        if (r->next == r->end) {
            r->failed = 1;
            return 0;
        }
        r->buffer |= (uint64_t)*r->next++ << r->filled;
        r->filled += 8;
    }
    const uint64_t value = r->buffer & (((uint64_t)1 << count) - 1);
    r->buffer >>= count;
    r->filled -= count;
    return value;
}

RANS_INLINE void put_symbol(symbol_writer *w, adaptive_cdf *model, unsigned symbol) {
    w->pairs[w->n_pairs++] = adaptive_pair(model, symbol);
    adaptive_update(model, symbol);
}

RANS_INLINE unsigned get_symbol(symbol_reader *r, adaptive_cdf *model) {
    return adaptive_get(&r->rans, (unsigned)(r->n_symbols++ % LANES), model);
}

/* A number of unknown size, Exp-Golomb: the length of value + 1 as an adaptive symbol (15: the
 * length less 15 follows in 5 bits), then the bits below the leading one. */
static void put_number(symbol_writer *w, adaptive_cdf *model, uint64_t value) {
    const unsigned length = 63u - (unsigned)__builtin_clzll(value + 1);
    put_symbol(w, model, length < ESCAPE ? length : ESCAPE);
    if (length >= ESCAPE) put_bits(w, length - ESCAPE, 5);
    put_bits(w, value + 1, length);
}

static uint64_t get_number(symbol_reader *r, adaptive_cdf *model) {
    unsigned length = get_symbol(r, model);
    if (length == ESCAPE) length += (unsigned)get_bits(r, 5);
    return get_bits(r, length < 40 ? length : 40) + ((uint64_t)1 << length) - 1;
}

RANS_INLINE uint64_t zigzag(int64_t value) {
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

RANS_INLINE int64_t unzigzag(uint64_t value) {
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* The nearest multiple of the step, 2 bound + 1, ties cannot occur. */
RANS_INLINE int64_t quantize(int64_t difference, int64_t bound) {
    if (bound == 0) return difference;
    const uint64_t step = 2 * (uint64_t)bound + 1; /* below 2^32 */
    const uint64_t sum = (uint64_t)(difference < 0 ? -difference : difference) + (uint64_t)bound;
    /* Processors divide 32 bits in half the time or less. */
    const int64_t level =
        (int64_t)(sum <= UINT32_MAX ? (uint32_t)sum / (uint32_t)step : sum / step);
    return difference < 0 ? -level : level;
}

RANS_INLINE uint32_t reconstruct(int64_t predicted, int64_t level, const residual_state *s) {
    const int64_t value = predicted + level * (2 * (int64_t)s->bound + 1);
    return value < 0 ? 0 : value > (int64_t)s->span ? s->span : (uint32_t)value;
}

RANS_INLINE uint32_t magnitude(int64_t level) {
    const uint64_t m = (uint64_t)(level < 0 ? -level : level) << ENERGY_BITS;
    return m > MAX_MAGNITUDE ? MAX_MAGNITUDE : (uint32_t)m;
}

static int put_coefficients(residual_state *s, symbol_writer *w, const int32_t *fitted, int n) {
    for (int i = 0; i < n; i++) {
        if (!reserve(w)) return RESIDUAL_NO_MEMORY;
        const int32_t before = n == s->n_taps ? s->coefficients[i] : 0;
        put_number(w, &s->coefficient, zigzag(fitted[i] - before));
        s->coefficients[i] = fitted[i];
    }
    s->n_taps = n;
    return RESIDUAL_OK;
}

static int get_coefficients(residual_state *s, symbol_reader *r, int n) {
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        const int32_t before = n == s->n_taps ? s->coefficients[i] : 0;
        const uint64_t number = get_number(r, &s->coefficient);
        if (number > 1u << 18) return RESIDUAL_DAMAGED;
        const int64_t value = before + unzigzag(number);
        total += value < 0 ? -value : value;
        if (total > MAX_WEIGHT) return RESIDUAL_DAMAGED;
        s->coefficients[i] = (int32_t)value;
    }
    s->n_taps = n;
    return RESIDUAL_OK;
}

/* Codes the frame; its decoded form is left in plane CURRENT. */
static int encode_voxels(residual_state *s, const uint32_t *frame, symbol_writer *w) {
    tap taps[MAX_TAPS];
    list_taps(s, taps);
    open_frame(s);
    for (size_t row = 0; row < s->rows; row++) {
        const serial_weights serial = open_row(s, row, taps);
        for (size_t column = 0; column < s->columns; column++) {
            const size_t place = at(s, row, column);
            if (!reserve(w)) return RESIDUAL_NO_MEMORY;
            const int64_t predicted = predict(s, serial, column, place);
            unsigned shift;
            adaptive_cdf *context = &s->context[context_of(energy(s, column, place), &shift)];
            const int64_t level =
                quantize((int64_t)frame[row * s->columns + column] - predicted, s->bound);
            const uint64_t code = zigzag(level), high = code >> shift;
            put_symbol(w, context, high < ESCAPE ? (unsigned)high : ESCAPE);
            if (high >= ESCAPE) put_number(w, &s->escape, high - ESCAPE);
            put_bits(w, code, shift);
            s->plane[CURRENT][place] = reconstruct(predicted, level, s);
            s->error[place] = magnitude(level);
        }
        close_row(s, row);
    }
    flush_bits(w);
    return RESIDUAL_OK;
}

/* The largest code of a level that an encoder can need; products of larger ones leave 64 bits. */
static uint64_t largest_code(const residual_state *s) {
    return 2 * (((uint64_t)s->span + s->bound) / (2 * (uint64_t)s->bound + 1));
}

static int decode_voxels(residual_state *s, symbol_reader *r) {
    const uint64_t largest = largest_code(s);
    tap taps[MAX_TAPS];
    list_taps(s, taps);
    open_frame(s);
    for (size_t row = 0; row < s->rows; row++) {
        const serial_weights serial = open_row(s, row, taps);
        for (size_t column = 0; column < s->columns; column++) {
            const size_t place = at(s, row, column);
            const int64_t predicted = predict(s, serial, column, place);
            unsigned shift;
            adaptive_cdf *context = &s->context[context_of(energy(s, column, place), &shift)];
            uint64_t high = get_symbol(r, context);
            if (high == ESCAPE) high += get_number(r, &s->escape);
            if (high > largest >> shift) return RESIDUAL_DAMAGED;
            const uint64_t code = high << shift | get_bits(r, shift);
            if (code > largest) return RESIDUAL_DAMAGED;
            const int64_t level = unzigzag(code);
            s->plane[CURRENT][place] = reconstruct(predicted, level, s);
            s->error[place] = magnitude(level);
        }
        close_row(s, row);
        if (r->rans.failed | r->failed) return RESIDUAL_DAMAGED;
    }
    return RESIDUAL_OK;
}

#endif
