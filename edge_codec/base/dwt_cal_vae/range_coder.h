/* Range coder of symbols with given distributions, forward in both directions.
 *
 * The interval [low, low + range) of 48-bit fractions shrinks with every symbol to the part that the
 * symbol has of 65536 (Martin, "Range encoding", 1979; carries go back into the bytes written). With
 * at least 40 bits left in `range` nothing is lost to rounding, however likely a symbol is: most
 * latents of a still image are zeros that cost next to nothing. A payload is the shortest fraction
 * in the last interval; the decoder takes zeros for what is behind its end.
 *
 * Symbol 0 is value 0, symbols 2k - 1 and 2k are k and -k. Symbol 255 escapes: four bits say how many
 * bits follow the highest one of magnitude + 1, then come those and one of the sign.
 */
#ifndef EDGE_CODEC_VAE_RANGE_CODER_H
#define EDGE_CODEC_VAE_RANGE_CODER_H

#include <stdint.h>
#include <stdlib.h>

#define TOTAL_BITS 16
#define SYMBOLS 256
#define ESCAPE (SYMBOLS - 1)
#define ROW (SYMBOLS + 1) /* cumulative frequencies of a distribution */
#define LARGEST 4095      /* magnitude of a value */
#define FULL ((uint64_t)1 << 48)
#define LEAST ((uint64_t)1 << 40)

/* ------------------------------------------------------------------------------------ encoder */

typedef struct {
    uint64_t low, range;
    uint8_t *out;
    size_t size, capacity;
    int failed; /* no memory */
} range_writer;

static void write_byte(range_writer *w, uint8_t byte) {
    if (w->size == w->capacity) {
        const size_t capacity = 2 * w->capacity + 256;
        uint8_t *const out = realloc(w->out, capacity);
        if (!out) {
            w->failed = 1;
            return;
        }
        w->out = out;
        w->capacity = capacity;
    }
    w->out[w->size++] = byte;
}

static void carry(range_writer *w) {
    if (w->low < FULL || w->failed) return;
    size_t i = w->size;
    while (i > 0 && ++w->out[--i] == 0) continue;
    w->low -= FULL;
}

static void put_part(range_writer *w, uint32_t start, uint32_t frequency) {
    const uint64_t unit = w->range >> TOTAL_BITS;
    w->low += unit * start;
    w->range = unit * frequency;
    carry(w);
    while (w->range < LEAST) {
        write_byte(w, (uint8_t)(w->low >> 40));
        w->low = w->low << 8 & (FULL - 1);
        w->range <<= 8;
    }
}

/* `bits` bits of equal likelihood, up to 16. */
static void put_bits(range_writer *w, uint32_t value, int bits) {
    put_part(w, value << (TOTAL_BITS - bits), 1u << (TOTAL_BITS - bits));
}

static void put_value(range_writer *w, const uint32_t *cdf, int32_t value) {
    const uint32_t size = (uint32_t)(value < 0 ? -value : value);
    const uint32_t symbol = 2 * size - (value > 0);
    if (symbol < ESCAPE && cdf[symbol + 1] > cdf[symbol]) {
        put_part(w, cdf[symbol], cdf[symbol + 1] - cdf[symbol]);
        return;
    }
    int bits = 0;
    while ((size + 1) >> (bits + 1)) bits++;
    put_part(w, cdf[ESCAPE], cdf[ROW - 1] - cdf[ESCAPE]);
    put_bits(w, (uint32_t)bits, 4);
    put_bits(w, size + 1 - (1u << bits), bits);
    put_bits(w, value < 0, 1);
}

/* Write the fewest bytes of a fraction in the interval, and none that are zero at the end. */
static void close_writer(range_writer *w) {
    int shift = 48;
    uint64_t value = 0;
    for (; shift >= 0; shift -= 8) {
        const uint64_t mask = ((uint64_t)1 << shift) - 1;
        value = (w->low + mask) & ~mask;
        if (value < w->low + w->range) break;
    }
    w->low = value;
    carry(w);
    for (int at = 40; at >= shift; at -= 8) write_byte(w, (uint8_t)(w->low >> at));
    while (w->size > 0 && w->out[w->size - 1] == 0) w->size--;
}

/* ------------------------------------------------------------------------------------ decoder */

typedef struct {
    uint64_t value, range;
    const uint8_t *bytes;
    size_t size, next;
    int failed; /* the payload is none that an encoder writes */
} range_reader;

static void read_byte(range_reader *r) {
    r->value = r->value << 8 | (r->next < r->size ? r->bytes[r->next] : 0);
    r->next++;
}

static void open_reader(range_reader *r, const uint8_t *bytes, size_t size) {
    r->value = 0;
    r->range = FULL;
    r->bytes = bytes;
    r->size = size;
    r->next = 0;
    r->failed = size > 0 && bytes[size - 1] == 0;
    for (int i = 0; i < 6; i++) read_byte(r);
}

/* Which of 65536 parts comes next. */
static uint32_t peek_slot(range_reader *r) {
    const uint64_t slot = r->value / (r->range >> TOTAL_BITS);
    if (slot >> TOTAL_BITS) { /* behind the last part */
        r->failed = 1;
        r->value = 0;
        return 0;
    }
    return (uint32_t)slot;
}

static void take_part(range_reader *r, uint32_t start, uint32_t frequency) {
    const uint64_t unit = r->range >> TOTAL_BITS;
    r->value -= unit * start;
    r->range = unit * frequency;
    while (r->range < LEAST) {
        read_byte(r);
        r->range <<= 8;
    }
}

static uint32_t take_bits(range_reader *r, int bits) {
    const uint32_t value = peek_slot(r) >> (TOTAL_BITS - bits);
    take_part(r, value << (TOTAL_BITS - bits), 1u << (TOTAL_BITS - bits));
    return value;
}

static int32_t take_value(range_reader *r, const uint32_t *cdf) {
    const uint32_t slot = peek_slot(r);
    uint32_t symbol = 0;
    while (cdf[symbol + 1] <= slot) symbol++;
    take_part(r, cdf[symbol], cdf[symbol + 1] - cdf[symbol]);
    if (symbol < ESCAPE) {
        const int32_t size = (int32_t)(symbol + 1) / 2;
        return symbol & 1 ? size : -size;
    }
    const int bits = (int)take_bits(r, 4);
    const int32_t size = (int32_t)(take_bits(r, bits) + (1u << bits)) - 1;
    const uint32_t is_negative = take_bits(r, 1);
    if (size > LARGEST) {
        r->failed = 1;
        return 0;
    }
    return is_negative ? -size : size;
}

#endif
