/* Symbols and plain bits of a frame: what the encoder collects and the decoder takes. */
#ifndef EDGE_CODEC_SYMBOLS_H
#define EDGE_CODEC_SYMBOLS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rans.h"

enum { RESIDUAL_OK = 0, RESIDUAL_DAMAGED = 1, RESIDUAL_NO_MEMORY = 2, RESIDUAL_LATE = 3 };

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
    unsigned lanes;
    size_t n_symbols;
    const uint8_t *next, *end;
    uint64_t buffer;
    unsigned filled;
    int failed;
} symbol_reader;

/* Pairs and bytes that a number takes at most. */
#define ROOM 16

static int reserve(symbol_writer *w, size_t numbers) {
    const size_t room = numbers * ROOM;
    if (w->n_pairs + room > w->pairs_capacity) {
        const size_t capacity = w->pairs_capacity * 2 + room;
        rans_pair *pairs = realloc(w->pairs, capacity * sizeof *pairs);
        if (!pairs) return 0;
        w->pairs = pairs;
        w->pairs_capacity = capacity;
    }
    if (w->n_bytes + room > w->bytes_capacity) {
        const size_t capacity = w->bytes_capacity * 2 + room;
        uint8_t *bits = realloc(w->bits, capacity);
        if (!bits) return 0;
        w->bits = bits;
        w->bytes_capacity = capacity;
    }
    return 1;
}

/* Writes the low `count` (0 to 40) bits of `value`. Eight bytes are stored each time, since a loop
 * over the bytes that are full cannot be predicted. */
RANS_INLINE void put_bits(symbol_writer *w, uint64_t value, unsigned count) {
    w->buffer |= (value & (((uint64_t)1 << count) - 1)) << w->filled;
    w->filled += count;
    rans_store32(w->bits + w->n_bytes, (uint32_t)w->buffer);
    rans_store32(w->bits + w->n_bytes + 4, (uint32_t)(w->buffer >> 32));
    w->n_bytes += w->filled >> 3;
    w->buffer >>= w->filled & ~7u;
    w->filled &= 7;
}

static void reset(symbol_writer *w) {
    w->n_pairs = w->n_bytes = 0;
    w->buffer = w->filled = 0;
}

static void flush_bits(symbol_writer *w) {
    if (w->filled) w->bits[w->n_bytes++] = (uint8_t)w->buffer;
}

/* Fills the buffer to 56 bits or more, or up to the end. */
RANS_INLINE void refill(symbol_reader *r) {
    if (RANS_LIKELY(r->end - r->next >= 8)) {
        const uint64_t next = (uint64_t)rans_load32(r->next + 4) << 32 | rans_load32(r->next);
        r->buffer |= next << r->filled; /* bits above `filled` are those that follow: same again */
        r->next += (63 - r->filled) >> 3;
        r->filled |= 56;
    } else {
        for (; r->filled <= 56 && r->next != r->end; r->filled += 8)
            r->buffer |= (uint64_t)*r->next++ << r->filled;
    }
}

RANS_INLINE uint64_t get_bits(symbol_reader *r, unsigned count) {
    if (r->filled < count) {
        refill(r);
        if (r->filled < count) {
            r->failed = 1;
            return 0;
        }
    }
    const uint64_t value = r->buffer & (((uint64_t)1 << count) - 1);
    r->buffer >>= count;
    r->filled -= count;
    return value;
}

/* Whether all bytes were used, and the bits that fill up the last one are 0. */
static int bits_finished(const symbol_reader *r) {
    return r->next == r->end && r->filled < 8 && (r->buffer & ((1u << r->filled) - 1)) == 0;
}

RANS_INLINE void put_symbol(symbol_writer *w, adaptive_cdf *model, unsigned symbol) {
    w->pairs[w->n_pairs++] = adaptive_pair(model, symbol);
    adaptive_update(model, symbol);
}

RANS_INLINE unsigned get_symbol(symbol_reader *r, adaptive_cdf *model) {
    return adaptive_get(&r->rans, (unsigned)(r->n_symbols++ & (r->lanes - 1)), model);
}

/* A decision whose probability of 1 is p / 65536, 0 < p < 65536. */
RANS_INLINE void put_decision(symbol_writer *w, uint32_t p, unsigned bit) {
    w->pairs[w->n_pairs++] = bit ? rans_make_pair(0, p) : rans_make_pair(p, RANS_TOTAL - p);
}

RANS_INLINE unsigned get_decision(symbol_reader *r, uint32_t p) {
    const unsigned lane = (unsigned)(r->n_symbols++ & (r->lanes - 1));
    const unsigned bit = rans_peek(&r->rans, lane) < p;
    rans_advance(&r->rans, lane, bit ? 0 : p, bit ? p : RANS_TOTAL - p);
    return bit;
}

/* A number of unknown size, Exp-Golomb: the length of value + 1 as an adaptive symbol (15: the
 * length less 15 follows in 5 bits), then the bits below the leading one. */
RANS_INLINE void put_number(symbol_writer *w, adaptive_cdf *model, uint64_t value) {
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

RANS_INLINE uint32_t reconstruct(int64_t predicted, int64_t level, uint32_t bound, uint32_t span) {
    const int64_t value = predicted + level * (2 * (int64_t)bound + 1);
    return value < 0 ? 0 : value > (int64_t)span ? span : (uint32_t)value;
}

/* The largest code of a level that an encoder can need; products of larger ones leave 64 bits. */
static uint64_t largest_code(uint32_t span, uint32_t bound) {
    return 2 * (((uint64_t)span + bound) / (2 * (uint64_t)bound + 1));
}

#define CONTEXTS 48
#define ENERGY_BITS 4 /* fraction bits of a mean error */

/* The class of an energy: its distribution, and how many low bits of a level go plain. */
typedef struct {
    uint8_t index, shift;
} energy_class;

/* Four classes an octave, from the position of the leading bit and the two below it. */
static energy_class class_of(uint32_t energy) {
    const uint32_t v = energy + 4;
    const unsigned octave = 31u - (unsigned)__builtin_clz(v);
    const unsigned index = (octave - 2) * 4 + ((v >> (octave - 2)) & 3u);
    const energy_class class = {(uint8_t)(index < CONTEXTS ? index : CONTEXTS - 1),
                                (uint8_t)(octave > ENERGY_BITS ? octave - ENERGY_BITS : 0)};
    return class;
}

static energy_class class_table[1024]; /* of small energies, nearly all there are */

static void fill_classes(void) {
    for (uint32_t energy = 0; energy < 1024; energy++) class_table[energy] = class_of(energy);
}

RANS_INLINE unsigned context_of(uint32_t energy, unsigned *shift) {
    const energy_class class = RANS_LIKELY(energy < 1024) ? class_table[energy] : class_of(energy);
    *shift = class.shift;
    return class.index;
}

#endif
