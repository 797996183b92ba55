/* Interleaved rANS (range asymmetric numeral systems) and adaptive 16-symbol distributions.
 *
 * Header only: each C extension includes it and gets its own inlined copy.  The bytes are specified
 * in docs/bitstream.md; edge_codec/entropy/rans_reference.py is the plain Python twin.
 *
 * A symbol is a part [start, start + freq) of the interval [0, 2^16).  A coder state x, L <= x < 2^32
 * with L = 2^16, is one integer that holds all that was coded so far.  Coding a symbol multiplies x by
 * 2^16 / freq; where that would leave 32 bits, the low 16 bits are written out first.  Decoding runs
 * backwards: the low 16 bits of x say which symbol comes next ("peek"), and "advance" undoes the step.
 * Because a decoder undoes what was done last, the encoder codes the symbols from last to first.
 *
 * Symbol i belongs to lane i % lanes.  Lanes are independent states that share one stream of words,
 * so that a processor can work on several at a time (Giesen 2014, arXiv:1402.3392).
 *
 * Nothing here allocates, and no payload, however hostile, makes it read outside of the payload.
 */
#ifndef EDGE_CODEC_RANS_H
#define EDGE_CODEC_RANS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define RANS_INLINE static inline __attribute__((always_inline, unused))
#define RANS_HELPER static __attribute__((unused))
#define RANS_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define RANS_ALIGNED(bytes) __attribute__((aligned(bytes)))
#else
#define RANS_INLINE static inline
#define RANS_HELPER static
#define RANS_LIKELY(condition) (condition)
#define RANS_ALIGNED(bytes)
#endif

#define RANS_BITS 16
#define RANS_TOTAL 65536u /* sum of the frequencies of a distribution */
#define RANS_LOW 65536u   /* L: every state lies in [L, 2^32) between symbols */
#define RANS_MAX_LANES 32

enum {
    RANS_OK = 0,
    RANS_BAD_LANES = 1,  /* lanes is not 1, 2, 4, 8, 16 or 32 */
    RANS_TRUNCATED = 2,  /* payload ends before its symbols do */
    RANS_BAD_STATE = 3,  /* an initial state is below L: no encoder writes that */
    RANS_BAD_END = 4,    /* all symbols decoded, but states or words are left over */
    RANS_BAD_SYMBOL = 5, /* encoder: symbol without probability; decoder: value out of range */
    RANS_NO_SPACE = 6    /* output buffer too small */
};

RANS_INLINE int rans_lanes_ok(unsigned lanes) {
    return lanes >= 1 && lanes <= RANS_MAX_LANES && (lanes & (lanes - 1)) == 0;
}

/* One symbol as the encoder wants it.  freq 65536, the only symbol there is, is stored as 0. */
typedef struct {
    uint16_t start;
    uint16_t freq;
} rans_pair;

RANS_INLINE rans_pair rans_make_pair(uint32_t start, uint32_t freq) {
    rans_pair pair = {(uint16_t)start, (uint16_t)freq};
    return pair;
}

/* The inverse of storing 65536 as 0 without a branch. */
RANS_INLINE uint32_t rans_frequency(uint16_t freq) { return (uint32_t)(uint16_t)(freq - 1u) + 1u; }

RANS_INLINE uint32_t rans_load16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

RANS_INLINE uint32_t rans_load32(const uint8_t *p) {
    return rans_load16(p) | rans_load16(p + 2) << 16;
}

RANS_INLINE void rans_store16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

RANS_INLINE void rans_store32(uint8_t *p, uint32_t value) {
    rans_store16(p, value);
    rans_store16(p + 2, value >> 16);
}

/* ------------------------------------------------------------------------------------ encoder */

/* Bytes that n symbols can take at most: a symbol writes one word or none. */
RANS_INLINE size_t rans_bound(size_t n, unsigned lanes) { return 4 * (size_t)lanes + 2 * n; }

/* Codes one symbol; `back` is where the payload starts so far, and at least 2 bytes before it are
 * free.  The store is unconditional because a branch on it could not be predicted. */
RANS_INLINE void rans_put(uint32_t *state, uint8_t **back, rans_pair pair) {
    uint32_t x = *state;
    const uint32_t freq = rans_frequency(pair.freq);
    const uint32_t full = (x >> 16) >= freq; /* x * 2^16 / freq would need more than 32 bits */
    rans_store16(*back - 2, x);
    *back -= 2 * full;
    x >>= 16 * full;
    const uint32_t quotient = x / freq;
    *state = (quotient << 16) + (x - quotient * freq) + pair.start;
}

RANS_INLINE uint8_t *rans_encode_lanes(const rans_pair *pairs, size_t n, unsigned lanes,
                                       uint8_t *back) {
    uint32_t state[RANS_MAX_LANES];
    for (unsigned lane = 0; lane < lanes; lane++) state[lane] = RANS_LOW;
    while (n % lanes != 0) {
        n--;
        rans_put(&state[n % lanes], &back, pairs[n]);
    }
    while (n != 0) {
        n -= lanes;
        for (unsigned lane = lanes; lane-- > 0;) rans_put(&state[lane], &back, pairs[n + lane]);
    }
    back -= 4 * (size_t)lanes;
    for (unsigned lane = 0; lane < lanes; lane++) rans_store32(back + 4 * lane, state[lane]);
    return back;
}

/* Codes n symbols into the end of out[0 .. capacity), capacity >= rans_bound(n, lanes).
 * The payload is then at out + capacity - *size.  Returns RANS_OK or why not. */
RANS_HELPER int rans_encode(const rans_pair *pairs, size_t n, unsigned lanes, uint8_t *out,
                            size_t capacity, size_t *size) {
    uint8_t *back = out + capacity;
    if (!rans_lanes_ok(lanes)) return RANS_BAD_LANES;
    if (n > (SIZE_MAX >> 2) || capacity < rans_bound(n, lanes)) return RANS_NO_SPACE;
    /* Constant lane counts let the compiler unroll and keep the states in registers. */
    switch (lanes) {
    case 1: back = rans_encode_lanes(pairs, n, 1, back); break;
    case 2: back = rans_encode_lanes(pairs, n, 2, back); break;
    case 4: back = rans_encode_lanes(pairs, n, 4, back); break;
    case 8: back = rans_encode_lanes(pairs, n, 8, back); break;
    case 16: back = rans_encode_lanes(pairs, n, 16, back); break;
    default: back = rans_encode_lanes(pairs, n, 32, back); break;
    }
    *size = (size_t)(out + capacity - back);
    return RANS_OK;
}

/* ------------------------------------------------------------------------------------ decoder */

typedef struct {
    uint32_t state[RANS_MAX_LANES];
    const uint8_t *next; /* word that is read next */
    const uint8_t *end;  /* an even number of bytes after `next` */
    unsigned lanes;
    int failed; /* words ran out; states since then are made up, but safe to go on with */
} rans_decoder;

RANS_HELPER int rans_decoder_init(rans_decoder *decoder, const uint8_t *payload, size_t size,
                                  unsigned lanes) {
    if (!rans_lanes_ok(lanes)) return RANS_BAD_LANES;
    if (size < 4 * (size_t)lanes) return RANS_TRUNCATED;
    if (size & 1) return RANS_BAD_END;
    for (unsigned lane = 0; lane < lanes; lane++) {
        decoder->state[lane] = rans_load32(payload + 4 * lane);
        if (decoder->state[lane] < RANS_LOW) return RANS_BAD_STATE;
    }
    decoder->next = payload + 4 * (size_t)lanes;
    decoder->end = payload + size;
    decoder->lanes = lanes;
    decoder->failed = 0;
    return RANS_OK;
}

/* The slot, 0 to 65535: the next symbol is the one with start <= slot < start + freq. */
RANS_INLINE uint32_t rans_peek(const rans_decoder *decoder, unsigned lane) {
    return decoder->state[lane] & 0xFFFFu;
}

/* Takes the symbol off; start and freq (1 to 65536) must contain the slot that was peeked.
 * One word is always enough: x >> 16 >= 1, hence freq * (x >> 16) >= 1, and a word restores L. */
RANS_INLINE void rans_advance(rans_decoder *decoder, unsigned lane, uint32_t start, uint32_t freq) {
    uint32_t x = decoder->state[lane];
    x = freq * (x >> 16) + (x & 0xFFFFu) - start;
    const uint32_t low = x < RANS_LOW;
    if (RANS_LIKELY(decoder->next != decoder->end)) {
        const uint32_t refilled = x << 16 | rans_load16(decoder->next);
        x ^= (x ^ refilled) & (0u - low); /* whether to refill cannot be predicted: no branch */
        decoder->next += 2 * low;
    } else if (low) {
        x <<= 16;
        decoder->failed = 1;
    }
    decoder->state[lane] = x;
}

/* After the last symbol: RANS_OK only if the payload held exactly these symbols. */
RANS_HELPER int rans_decoder_finish(const rans_decoder *decoder) {
    if (decoder->failed) return RANS_TRUNCATED;
    if (decoder->next != decoder->end) return RANS_BAD_END;
    for (unsigned lane = 0; lane < decoder->lanes; lane++)
        if (decoder->state[lane] != RANS_LOW) return RANS_BAD_END;
    return RANS_OK;
}

/* ----------------------------------------------------------- adaptive distributions, 16 symbols */

/* A distribution that follows the symbols it has seen, the same way in encoder and decoder.
 *
 * cdf[i] is the start of symbol i.  After symbol s, every start moves towards the distribution in
 * which s has all the probability but ADAPTIVE_FLOOR for each other symbol:
 *
 *     i <= s:  cdf[i] -= (cdf[i] - F * i) >> rate
 *     i >  s:  cdf[i] += (65536 - F * (16 - i) - cdf[i]) >> rate
 *
 * Both differences are >= 0 and below 2^16.  If all frequencies are >= F before, they are after:
 * between two starts on one side of s a frequency f becomes at least f - ceil((f - F) / 2^rate), and
 * that of s only grows.  So no symbol is ever impossible, and no distribution needs a check.
 * The rate starts fast and becomes slow (about 1/n for the first symbols: a running mean). */
#define ADAPTIVE_SYMBOLS 16
#define ADAPTIVE_FLOOR 8u
#define ADAPTIVE_COUNT_MAX 300u

#if defined(__GNUC__) || defined(__clang__)
#define RANS_VECTORS 1
#if defined(__AVX2__)
#define RANS_WIDTH 16 /* symbols in a vector */
#else
#define RANS_WIDTH 8 /* SSE2, NEON, or emulated */
#endif
typedef uint16_t rans_vector __attribute__((vector_size(2 * RANS_WIDTH)));
#endif

typedef struct {
    uint16_t cdf[ADAPTIVE_SYMBOLS + 1]; /* cdf[16] is 65536 mod 2^16, that is 0, for ever */
    uint16_t count;                     /* symbols seen, stops at ADAPTIVE_COUNT_MAX */
} RANS_ALIGNED(16) adaptive_cdf;

/* `used` (1 to 16) symbols share the interval, the others get the floor. */
RANS_HELPER void adaptive_init(adaptive_cdf *model, unsigned used) {
    const uint32_t shared = RANS_TOTAL - ADAPTIVE_FLOOR * ADAPTIVE_SYMBOLS;
    for (unsigned i = 0; i < ADAPTIVE_SYMBOLS; i++) {
        const uint32_t share = i < used ? shared * i / used : shared;
        model->cdf[i] = (uint16_t)(share + ADAPTIVE_FLOOR * i);
    }
    model->cdf[ADAPTIVE_SYMBOLS] = 0;
    model->count = 0;
}

/* The symbol that a slot (rans_peek) belongs to: how many starts are not above it, less one. */
RANS_INLINE unsigned adaptive_find(const adaptive_cdf *model, uint32_t slot) {
#if defined(RANS_VECTORS)
    const rans_vector none = {0}, all = none + (uint16_t)slot;
    rans_vector found = none;
    for (unsigned first = 0; first < ADAPTIVE_SYMBOLS; first += RANS_WIDTH) {
        rans_vector starts;
        memcpy(&starts, model->cdf + first, sizeof starts);
        found -= (rans_vector)(starts <= all);
    }
    uint64_t part[RANS_WIDTH / 4], sum = 0;
    memcpy(part, &found, sizeof part);
    for (unsigned i = 0; i < RANS_WIDTH / 4; i++) sum += part[i];
    return (unsigned)((sum * 0x0001000100010001u) >> 48) - 1u;
#else
    unsigned below = 0;
    for (unsigned i = 0; i < ADAPTIVE_SYMBOLS; i++) below += model->cdf[i] <= (uint16_t)slot;
    return below - 1u; /* cdf[0] is 0: below >= 1 */
#endif
}

RANS_INLINE uint32_t adaptive_start(const adaptive_cdf *model, unsigned symbol) {
    return model->cdf[symbol];
}

RANS_INLINE uint32_t adaptive_freq(const adaptive_cdf *model, unsigned symbol) {
    return (uint16_t)(model->cdf[symbol + 1] - model->cdf[symbol]);
}

/* Rate for the number of symbols seen.  Tuned on residuals of ACDC cines, with 32 contexts and frames
 * from 9,500 voxels: bits fall by 0.5 % against a last rate of 7, and by 1.5 % against 6. */
static const uint8_t ADAPTIVE_RATES[ADAPTIVE_COUNT_MAX + 1] = {
    [0 ... 3] = 3, [4 ... 11] = 4, [12 ... 29] = 5, [30 ... 99] = 6, [100 ... 299] = 7, [300] = 8};

RANS_INLINE unsigned adaptive_rate(unsigned count) { return ADAPTIVE_RATES[count]; }

/* One step of the formula above with a rate (0 to 15) of the caller's choice.
 *
 * The upper side is the lower side of the complement, 65535 - cdf, so that both take one path.
 * Compilers turn the plain loop into branches; hence the vectors where there are any. */
RANS_INLINE void adaptive_step(uint16_t cdf[ADAPTIVE_SYMBOLS], unsigned symbol, unsigned rate) {
#if defined(RANS_VECTORS)
    static const uint16_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned first = 0; first < ADAPTIVE_SYMBOLS; first += RANS_WIDTH) {
        rans_vector value, i;
        memcpy(&value, cdf + first, sizeof value);
        memcpy(&i, numbers + first, sizeof i);
        const rans_vector upper = (rans_vector)(i > (uint16_t)symbol);
        /* upper: 65535 - (65536 - F * (16 - i)) = (F * 16 - 1) - F * i, which is the complement of
         * F * i - F * 16 */
        const rans_vector bound =
            i * (uint16_t)ADAPTIVE_FLOOR - (upper & (uint16_t)(ADAPTIVE_FLOOR * 16));
        value ^= upper;
        value -= (value - (bound ^ upper)) >> (uint16_t)rate;
        value ^= upper;
        memcpy(cdf + first, &value, sizeof value);
    }
#else
    for (unsigned i = 0; i < ADAPTIVE_SYMBOLS; i++) {
        const uint32_t least = ADAPTIVE_FLOOR * i;
        const uint32_t most = RANS_TOTAL - ADAPTIVE_FLOOR * (ADAPTIVE_SYMBOLS - i);
        cdf[i] = (uint16_t)(i > symbol ? cdf[i] + ((most - cdf[i]) >> rate)
                                       : cdf[i] - ((cdf[i] - least) >> rate));
    }
#endif
}

RANS_INLINE void adaptive_update(adaptive_cdf *model, unsigned symbol) {
    adaptive_step(model->cdf, symbol, adaptive_rate(model->count));
    model->count = (uint16_t)(model->count + (model->count < ADAPTIVE_COUNT_MAX));
}

/* The symbol as a pair for the encoder; call adaptive_update after it. */
RANS_INLINE rans_pair adaptive_pair(const adaptive_cdf *model, unsigned symbol) {
    return rans_make_pair(adaptive_start(model, symbol), adaptive_freq(model, symbol));
}

/* Decodes one adaptive symbol and updates the model. */
RANS_INLINE unsigned adaptive_get(rans_decoder *decoder, unsigned lane, adaptive_cdf *model) {
    const unsigned symbol = adaptive_find(model, rans_peek(decoder, lane));
    rans_advance(decoder, lane, adaptive_start(model, symbol), adaptive_freq(model, symbol));
    adaptive_update(model, symbol);
    return symbol;
}

#endif
