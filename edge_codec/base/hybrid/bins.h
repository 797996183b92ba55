/* Binary arithmetic coding with adaptive probabilities, mixed in the logistic domain.
 *
 * A range coder of 32 bits with carries (Martin, "Range encoding", 1979). A context estimates the
 * probability of a 1 at two rates (Alshin et al., "Multi-parameter probability up-date for CABAC",
 * JCTVC-F254); where two contexts bear on a bin, their four estimates are mixed (Mahoney, "Adaptive
 * weighing of context models for lossless data compression", 2005). Everything is in integers: the
 * tables too are made by sums, products and shifts, so that they are the same everywhere.
 */
#ifndef EDGE_CODEC_HYBRID_BINS_H
#define EDGE_CODEC_HYBRID_BINS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef HYBRID_INLINE
#define HYBRID_INLINE static inline __attribute__((always_inline, unused))
#define HYBRID_HELPER static __attribute__((unused))
#endif

/* What a function of the syntax does: each is written once, and inlined for a constant of these. */
enum { ENCODE, DECODE, ESTIMATE };

#define COST_BITS 12 /* of the fraction of a cost in bits */
#define ONE_BIT (1u << COST_BITS)

typedef struct {
    uint16_t fast, slow; /* probability of a 1, of 65536 */
    uint32_t count;      /* bins seen, up to LAST_COUNT */
} context;

typedef struct {
    int32_t weight[4]; /* of 65536 */
} mixer;

/* Where bins go to, come from, or are summed up as costs. */
typedef struct {
    uint32_t low, range, code; /* low: encoder; code: decoder, relative to low */
    uint32_t cost;             /* of an estimate, in 1 / ONE_BIT bits */
    int failed;                /* no memory, or a value that cannot be */
    uint8_t *out;
    size_t written, capacity;
    const uint8_t *in;
    size_t position, size; /* bytes read, also beyond the end; bytes there are */
} bins;

/* ------------------------------------------------------------------------------------- tables */

#define LAST_COUNT 126
#define TOP_LOGIT 2047 /* 8 bits of fraction */
#define LEAST_PROBABILITY 32

static struct {
    uint16_t fast, slow; /* steps of 32768 */
} RATES[LAST_COUNT + 1];
static uint16_t SQUASH[4096]; /* logit + 2048 -> probability of 65536 */
static int16_t STRETCH[4096]; /* probability of 4096 -> logit */
static uint32_t COSTS[4096];  /* probability of 4096 -> cost */

/* 1 / (n + 2), the mean under a uniform prior, until the rate is reached: 1 / 16 and 1 / 128. */
static void fill_rates(void) {
    for (int n = 0; n <= LAST_COUNT; n++) {
        const int rate = 32768 / (n + 2);
        RATES[n].fast = (uint16_t)(rate > 2048 ? rate : 2048);
        RATES[n].slow = (uint16_t)rate;
    }
}

/* The logistic function: powers of e^(1/256), which is 1077944331 / 2^30, with 20 bits of fraction. */
static void fill_squash(void) {
    uint64_t power = 1 << 20;
    for (int v = 0; v <= TOP_LOGIT; v++) {
        const uint64_t total = power + (1 << 20);
        uint32_t p = (uint32_t)((65536 * power + total / 2) / total);
        if (p > 65536 - LEAST_PROBABILITY) p = 65536 - LEAST_PROBABILITY;
        SQUASH[2048 + v] = (uint16_t)p;
        SQUASH[2048 - v] = (uint16_t)(65536 - p);
        power = (power * 1077944331 + (1 << 29)) >> 30;
    }
    SQUASH[0] = SQUASH[1];
}

/* Its inverse: the least logit whose probability reaches the middle of the interval. */
static void fill_stretch(void) {
    int v = -TOP_LOGIT;
    for (int i = 0; i < 4096; i++) {
        while (v < TOP_LOGIT && SQUASH[2048 + v] < 16 * i + 8) v++;
        STRETCH[i] = (int16_t)v;
    }
}

/* Binary logarithms, a bit of them at a time, by squaring; only encoders use them. */
static void fill_costs(void) {
    for (uint32_t i = 0; i < 4096; i++) {
        uint64_t x = (uint64_t)(2 * i + 1) << 19;
        uint32_t cost = ONE_BIT;
        for (; x < (uint64_t)1 << 31; x <<= 1) cost += ONE_BIT;
        for (uint32_t part = ONE_BIT >> 1; part; part >>= 1) {
            x = x * x >> 31;
            if (x >> 32) x >>= 1, cost -= part;
        }
        COSTS[i] = cost;
    }
}

static void fill_bin_tables(void) {
    fill_rates();
    fill_squash();
    fill_stretch();
    fill_costs();
}

/* ------------------------------------------------------------------------- the arithmetic coder */

static void start_encoder(bins *c) {
    c->low = c->cost = 0;
    c->range = 0xFFFFFFFF;
    c->written = 0;
    c->failed = 0;
}

static void put_byte(bins *c, uint8_t byte) {
    if (c->written == c->capacity) {
        const size_t capacity = 2 * c->capacity + 4096;
        uint8_t *const out = realloc(c->out, capacity);
        if (!out) {
            c->failed = 1;
            c->written = 0;
            if (!c->capacity) return;
        } else {
            c->out = out;
            c->capacity = capacity;
        }
    }
    c->out[c->written++] = byte;
}

/* The number written so far is below 1, so a byte that does not overflow is always found. */
static void carry(bins *c) {
    for (size_t i = c->written; i && ++c->out[i - 1] == 0; i--) continue;
}

/* Ends with the shortest number in the range: no byte or one. Zeros follow, which are not written. */
static void finish_encoder(bins *c) {
    if (c->low == 0) return;
    if (c->low > UINT32_MAX - (c->range - 1)) {
        carry(c);
        return;
    }
    put_byte(c, (uint8_t)((c->low + 0xFFFFFF) >> 24));
}

HYBRID_INLINE uint32_t next_byte(bins *c) {
    const uint32_t byte = c->position < c->size ? c->in[c->position] : 0;
    c->position++;
    return byte;
}

static void start_decoder(bins *c, const uint8_t *in, size_t size) {
    memset(c, 0, sizeof *c);
    c->in = in;
    c->size = size;
    c->range = 0xFFFFFFFF;
    for (int i = 0; i < 4; i++) c->code = c->code << 8 | next_byte(c);
    c->failed = c->code == c->range; /* no encoder's number is so high */
}

/* Whether the decoder reads what no encoder wrote. */
HYBRID_INLINE int is_beyond(const bins *c) { return c->position > c->size + 4; }

/* Whether the payload ends where its encoder ended it. */
static int is_finished(const bins *c) {
    const size_t shifted = c->position - 4;
    if (c->size == shifted) return 1;
    return c->size == shifted + 1 && c->in[shifted] != 0;
}

/* Codes a bin that is 1 with probability split / range. */
HYBRID_INLINE int code_part(const int mode, bins *c, uint32_t split, int bit) {
    if (mode == DECODE) {
        bit = c->code < split;
        c->code -= bit ? 0 : split;
    } else if (!bit) {
        c->low += split;
        if (c->low < split) carry(c);
    }
    c->range = bit ? split : c->range - split;
    while (c->range < 1u << 24) {
        c->range <<= 8;
        if (mode == DECODE) {
            c->code = c->code << 8 | next_byte(c);
        } else {
            put_byte(c, (uint8_t)(c->low >> 24));
            c->low <<= 8;
        }
    }
    return bit;
}

HYBRID_INLINE uint32_t cost_of(uint32_t p, int bit) {
    return COSTS[(bit ? p : 65536 - p) >> 4];
}

/* Codes a bin that is 1 with probability p / 65536. */
HYBRID_INLINE int code_at(const int mode, bins *c, uint32_t p, int bit) {
    if (mode == ESTIMATE) {
        c->cost += cost_of(p, bit);
        return bit;
    }
    return code_part(mode, c, (uint32_t)((uint64_t)c->range * p >> 16), bit);
}

/* ------------------------------------------------------------------------------------ adaptation */

HYBRID_INLINE void update(context *x, int bit) {
    const int32_t target = bit ? 65535 : 0, fast = RATES[x->count].fast, slow = RATES[x->count].slow;
    x->fast = (uint16_t)(x->fast + (((target - x->fast) * fast + 16384) >> 15));
    x->slow = (uint16_t)(x->slow + (((target - x->slow) * slow + 16384) >> 15));
    x->count += x->count < LAST_COUNT;
}

HYBRID_INLINE uint32_t probability(const context *x) {
    const uint32_t p = ((uint32_t)x->fast + x->slow) >> 1;
    return p < LEAST_PROBABILITY           ? LEAST_PROBABILITY
           : p > 65536 - LEAST_PROBABILITY ? 65536 - LEAST_PROBABILITY
                                           : p;
}

#define MOST_WEIGHT ((1 << 18) - 1) /* keeps the sum of four products within 32 bits */

HYBRID_INLINE uint32_t mix(const context *x, const context *y, const mixer *m, int32_t *logit) {
    logit[0] = STRETCH[x->fast >> 4];
    logit[1] = STRETCH[x->slow >> 4];
    logit[2] = STRETCH[y->fast >> 4];
    logit[3] = STRETCH[y->slow >> 4];
    int32_t sum = 1 << 15;
    for (int i = 0; i < 4; i++) sum += m->weight[i] * logit[i];
    sum >>= 16;
    sum = sum < -TOP_LOGIT ? -TOP_LOGIT : sum > TOP_LOGIT ? TOP_LOGIT : sum;
    return SQUASH[2048 + sum];
}

HYBRID_INLINE void update_mixer(mixer *m, const int32_t *logit, uint32_t p, int bit) {
    const int32_t error = (bit << 16) - (int32_t)p;
    for (int i = 0; i < 4; i++) {
        const int32_t w = m->weight[i] + ((error * logit[i] + (1 << 14)) >> 15);
        m->weight[i] = w < -MOST_WEIGHT ? -MOST_WEIGHT : w > MOST_WEIGHT ? MOST_WEIGHT : w;
    }
}

/* -------------------------------------------------------------------------------------- the bins */

/* A bin of one context. Each of these takes the value (which DECODE ignores) and returns it. */
HYBRID_INLINE int code_bin(const int mode, bins *c, context *x, int bit) {
    bit = code_at(mode, c, probability(x), bit);
    if (mode != ESTIMATE) update(x, bit);
    return bit;
}

/* A bin of two contexts. */
HYBRID_INLINE int code_mixed(const int mode, bins *c, context *x, context *y, mixer *m, int bit) {
    int32_t logit[4];
    const uint32_t p = mix(x, y, m, logit);
    bit = code_at(mode, c, p, bit);
    if (mode != ESTIMATE) {
        update_mixer(m, logit, p, bit);
        update(x, bit);
        update(y, bit);
    }
    return bit;
}

/* The low `count` bits of the value, highest first, as likely as not. */
HYBRID_INLINE uint32_t code_bits(const int mode, bins *c, uint32_t value, int count) {
    if (mode == ESTIMATE) {
        c->cost += (uint32_t)count * ONE_BIT;
        return value;
    }
    uint32_t coded = 0;
    while (count--)
        coded = coded << 1 | (uint32_t)code_part(mode, c, c->range >> 1, (int)(value >> count & 1));
    return coded;
}

/* 0 to `most` as ones and a zero, each in its own context. */
HYBRID_INLINE int code_unary(const int mode, bins *c, context *x, int most, int value) {
    int i = 0;
    while (i < most && code_bin(mode, c, &x[i], value > i)) i++;
    return i;
}

/* A number whose length is not known, Exp-Golomb of order `k`; `longest` ones need no zero. */
HYBRID_INLINE uint32_t code_number(const int mode, bins *c, context *x, int k, int longest,
                                   uint32_t value) {
    uint32_t base = 0;
    int i = 0;
    while (i < longest) {
        const uint32_t next = base + (1u << (k + i));
        if (!(x ? code_bin(mode, c, &x[i], value >= next)
                : (int)code_bits(mode, c, value >= next, 1)))
            break;
        base = next;
        i++;
    }
    return base + code_bits(mode, c, value - base, k + i);
}

#endif
