/* The coder of one band: its state, raw samples, and whatever form its frames have. */
#ifndef EDGE_CODEC_BAND_CODER_H
#define EDGE_CODEC_BAND_CODER_H

#include "filter_code.h"
#include "local_code.h"

/* The fast modes are those of a frame for which there was no time for the effort of the stream. */
enum { MODE_CODED = 0, MODE_RAW = 1, MODE_BOUND = 2, MODE_FAST = 3, MODE_FAST_BOUND = 4 };

/* A filter that is sent (fast), or filters that both sides fit, and the former where time is short. */
typedef struct {
    size_t rows, columns;
    uint32_t span, bound;
    uint32_t region_bound; /* of the voxels inside */
    uint8_t *inside;       /* which voxels are in the region, or NULL */
    int with_base, effort;
    int pending; /* a frame was encoded and not committed: its models are to be taken back first */
    filter_state filter, filter_before; /* of other efforts, empty until it is needed */
    local_coder local;
    symbol_writer writer; /* kept, since fresh memory costs as much as coding a tenth of a frame */
    uint8_t *payload;
    size_t capacity;
} band_coder;

static void band_free(band_coder *c) {
    if (!c) return;
    filter_free(&c->filter);
    coder_free(&c->local);
    free(c->writer.pairs);
    free(c->writer.bits);
    free(c->payload);
    free(c->inside);
    free(c);
}

static int has_filter(const band_coder *c) { return c->filter.plane[CURRENT] != NULL; }

static void start_group(band_coder *c) {
    if (has_filter(c)) start_filter(&c->filter);
    if (c->effort != FAST) start_local(&c->local);
}

static band_coder *band_new(size_t rows, size_t columns, uint32_t span, uint32_t bound,
                            int with_base, int effort) {
    band_coder *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->rows = rows;
    c->columns = columns;
    c->span = span;
    c->bound = bound;
    c->with_base = with_base;
    c->effort = effort;
    if (effort == FAST ? filter_new(&c->filter, rows, columns, span, with_base)
                       : coder_new(&c->local, rows, columns, span, with_base, effort))
        return start_group(c), c;
    band_free(c);
    return NULL;
}

/* Gives the voxels of a region their bound. Returns 0 without memory. */
static int set_region(band_coder *c, const uint8_t *inside, uint32_t bound) {
    const size_t n = c->rows * c->columns;
    c->inside = malloc(n);
    if (!c->inside) return 0;
    for (size_t i = 0; i < n; i++) c->inside[i] = inside[i] != 0;
    c->region_bound = bound;
    return 1;
}

static unsigned bits_of(uint32_t span) { return span ? 32u - (unsigned)__builtin_clz(span) : 0; }

static size_t raw_size(const band_coder *c) {
    return 1 + (c->rows * c->columns * bits_of(c->span) + 7) / 8;
}

static void put_raw(const band_coder *c, const uint32_t *frame, uint8_t *out) {
    const unsigned bits = bits_of(c->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    *out++ = MODE_RAW;
    for (size_t i = 0; i < c->rows * c->columns; i++) {
        buffer |= (uint64_t)frame[i] << filled;
        for (filled += bits; filled >= 8; filled -= 8, buffer >>= 8) *out++ = (uint8_t)buffer;
    }
    if (filled) *out = (uint8_t)buffer;
}

static int get_raw(const band_coder *c, const uint8_t *in, size_t size, uint32_t *frame) {
    const unsigned bits = bits_of(c->span);
    uint64_t buffer = 0;
    unsigned filled = 0;
    if (size != raw_size(c)) return RESIDUAL_DAMAGED;
    in++;
    for (size_t i = 0; i < c->rows * c->columns; i++) {
        for (; filled < bits; filled += 8) buffer |= (uint64_t)*in++ << filled;
        const uint64_t value = buffer & (((uint64_t)1 << bits) - 1);
        if (value > c->span) return RESIDUAL_DAMAGED;
        frame[i] = (uint32_t)value;
        buffer >>= bits;
        filled -= bits;
    }
    return buffer ? RESIDUAL_DAMAGED : RESIDUAL_OK; /* the bits that fill the last byte are 0 */
}

/* The frame in work is this one, uncoded. */
static void take_raw(band_coder *c, const uint32_t *frame) {
    if (c->effort == FAST) {
        clear_filter_errors(&c->filter);
        load_plane(&c->filter, c->filter.plane[CURRENT], frame);
    } else {
        clear_local_errors(&c->local);
        load_local(&c->local.frame, NOW, frame);
    }
}

static void keep_models(band_coder *c) {
    if (has_filter(c)) c->filter_before = c->filter;
    if (c->effort != FAST) memcpy(c->local.models_before, c->local.models, models_size(&c->local));
}

static void restore_models(band_coder *c) {
    if (has_filter(c)) c->filter = c->filter_before;
    if (c->effort != FAST) memcpy(c->local.models, c->local.models_before, models_size(&c->local));
}

/* The decoded frame becomes the previous one. */
static void close_coder(band_coder *c) {
    if (c->effort == FAST) close_frame(&c->filter);
    else close_local_frame(&c->local);
}

static void store_frame(const band_coder *c, uint32_t *out) {
    for (size_t row = 0; row < c->rows; row++, out += c->columns) {
        if (c->effort == FAST) {
            memcpy(out, c->filter.plane[CURRENT] + at(&c->filter, row, 0), 4 * c->columns);
        } else {
            const double *from = c->local.frame.plane[NOW] + place_of(&c->local.frame, row, 0);
            for (size_t i = 0; i < c->columns; i++) out[i] = (uint32_t)(int64_t)from[i];
        }
    }
}

static void load_base(band_coder *c, const uint32_t *base) {
    if (c->effort == FAST) load_plane(&c->filter, c->filter.plane[BASE], base);
    else load_local(&c->local.frame, BASE_NOW, base);
}

/* ------------------------------------------------- coded as fast in a stream of another effort */

static int reserve_filter(band_coder *c) {
    if (has_filter(c)) return 1;
    if (!filter_new(&c->filter, c->rows, c->columns, c->span, c->with_base)) {
        filter_free(&c->filter);
        memset(&c->filter, 0, sizeof c->filter);
        return 0;
    }
    start_filter(&c->filter);
    c->filter_before = c->filter;
    return 1;
}

static void lend_plane(band_coder *c, int to, int from) {
    filter_state *const f = &c->filter;
    for (size_t row = 0; row < c->rows; row++) {
        uint32_t *const out = f->plane[to] + at(f, row, 0);
        const double *in = c->local.frame.plane[from] + place_of(&c->local.frame, row, 0);
        for (size_t i = 0; i < c->columns; i++) out[i] = (uint32_t)(int64_t)in[i];
    }
    pad_plane(f, f->plane[to]);
}

/* Gives the filter what there is of earlier frames, and the base; magnitudes turn into its unit. */
static int open_fallback(band_coder *c, const uint32_t *base, const bounds *b) {
    if (!reserve_filter(c)) return 0;
    filter_state *const f = &c->filter;
    const local_state *const s = &c->local.frame;
    f->history = s->history < 2 ? s->history : 2;
    if (s->history >= 1) lend_plane(c, PREVIOUS, BEFORE1);
    if (s->history >= 2) lend_plane(c, BEFORE, BEFORE2);
    if (base) load_plane(f, f->plane[BASE], base);
    for (size_t row = 0; row < c->rows; row++) {
        uint32_t *const out = f->error_before + at(f, row, 0);
        const uint32_t *in = c->local.error_before[s->n_filters] + place_of(s, row, 0);
        if (!b->frame) memcpy(out, in, c->columns * sizeof *out);
        else /* below 2^53 the floor of a rounded quotient is that of the quotient */
            for (size_t i = 0; i < c->columns; i++) {
                const double step = 2 * (double)bound_at(b, row * c->columns + i) + 1;
                out[i] = (uint32_t)(int32_t)(in[i] / step);
            }
    }
    return 1;
}

/* Takes over what the filter coded, as if all filters of the effort had predicted as it did. */
static void close_fallback(band_coder *c, const bounds *b) {
    filter_state *const f = &c->filter;
    local_state *const s = &c->local.frame;
    for (size_t row = 0; row < c->rows; row++) {
        const size_t from = at(f, row, 0), to = place_of(s, row, 0);
        load_row(s, NOW, row, f->plane[CURRENT] + from);
        uint32_t *const error = c->local.error[0] + to;
        for (size_t i = 0; i < c->columns; i++) {
            const uint64_t step = 2 * (uint64_t)bound_at(b, row * c->columns + i) + 1;
            const uint64_t m = f->error[from + i] * step;
            error[i] = m < MAX_MAGNITUDE ? (uint32_t)m : MAX_MAGNITUDE;
        }
        for (int k = 1; k <= s->n_filters; k++)
            memcpy(c->local.error[k] + to, error, c->columns * sizeof *error);
    }
    pad_local(s, NOW);
}

/* ------------------------------------------------------------------------------- whole frames */

/* Makes room for a payload of any form. */
static int reserve_payload(band_coder *c, size_t size) {
    if (size <= c->capacity) return 1;
    uint8_t *const payload = realloc(c->payload, size);
    if (!payload) return 0;
    c->payload = payload;
    c->capacity = size;
    return 1;
}

static unsigned lanes_of(int effort) { return effort == BEST ? 1 : LANES; }

/* Joins head, size of the bits, bits and rANS payload; returns their size, 0 without memory. */
static size_t join(band_coder *c, int effort, uint32_t bound) {
    const symbol_writer *const w = &c->writer;
    const unsigned lanes = lanes_of(effort);
    const size_t room = rans_bound(w->n_pairs, lanes);
    const int whole = bound == c->bound;
    if (!reserve_payload(c, 9 + w->n_bytes + room)) return 0;
    uint8_t *to = c->payload;
    if (effort == c->effort) *to++ = whole ? MODE_CODED : MODE_BOUND;
    else *to++ = whole ? MODE_FAST : MODE_FAST_BOUND;
    if (!whole) rans_store32(to, bound), to += 4;
    if (effort != BEST) {
        rans_store32(to, (uint32_t)w->n_bytes);
        if (w->n_bytes) memcpy(to + 4, w->bits, w->n_bytes);
        to += 4 + w->n_bytes;
    }
    size_t size = 0;
    rans_encode(w->pairs, w->n_pairs, lanes, to, room, &size);
    memmove(to, to + room - size, size);
    return (size_t)(to - c->payload) + size;
}

/* Codes the frame into the writer; returns the effort that did so, -1 without memory. */
static int encode_as(band_coder *c, const uint32_t *frame, const uint32_t *base, uint32_t bound,
                     int64_t give_up) {
    const bounds b = bounds_of(bound, c->region_bound, c->inside);
    symbol_writer *const w = &c->writer;
    reset(w);
    if (c->effort == FAST)
        return encode_filter(&c->filter, &b, frame, w) == RESIDUAL_OK ? FAST : -1;
    const int status = encode_local(&c->local, &b, frame, w, give_up);
    if (status != RESIDUAL_LATE) return status == RESIDUAL_OK ? c->effort : -1;
    restore_models(c);
    reset(w);
    if (!open_fallback(c, base, &b)) return -1;
    if (encode_filter(&c->filter, &b, frame, w) != RESIDUAL_OK) return -1;
    close_fallback(c, &b);
    return FAST;
}

/* Leaves the payload in the coder; returns its size, 0 without memory. */
static size_t encode_frame(band_coder *c, const uint32_t *frame, const uint32_t *base,
                           uint32_t bound, int64_t give_up) {
    const size_t raw = raw_size(c);
    const int effort = encode_as(c, frame, base, bound, give_up);
    const size_t size = effort < 0 ? 0 : join(c, effort, bound);
    if (size < raw) return size;
    if (!reserve_payload(c, raw)) return 0;
    restore_models(c); /* the decoder of a raw frame learns nothing from it */
    put_raw(c, frame, c->payload);
    take_raw(c, frame);
    return raw;
}

static int decode_raw(band_coder *c, const uint8_t *payload, size_t size) {
    uint32_t *frame = malloc(c->rows * c->columns * sizeof *frame);
    if (!frame) return RESIDUAL_NO_MEMORY;
    const int status = get_raw(c, payload, size, frame);
    if (status == RESIDUAL_OK) take_raw(c, frame);
    free(frame);
    return status;
}

static int decode_as(band_coder *c, int effort, const uint32_t *base, uint32_t bound,
                     symbol_reader *r) {
    const bounds b = bounds_of(bound, c->region_bound, c->inside);
    if (effort != FAST) return decode_local(&c->local, &b, r);
    if (c->effort == FAST) return decode_filter(&c->filter, &b, r);
    if (!open_fallback(c, base, &b)) return RESIDUAL_NO_MEMORY;
    const int status = decode_filter(&c->filter, &b, r);
    if (status == RESIDUAL_OK) close_fallback(c, &b);
    return status;
}

static int decode_coded(band_coder *c, int effort, const uint32_t *base, uint32_t bound,
                        const uint8_t *payload, const uint8_t *end) {
    size_t bits = 0;
    if (effort != BEST) {
        if (end - payload < 4) return RESIDUAL_DAMAGED;
        bits = rans_load32(payload);
        payload += 4;
        if (bits > (size_t)(end - payload)) return RESIDUAL_DAMAGED;
    }
    symbol_reader r = {.lanes = lanes_of(effort), .next = payload, .end = payload + bits};
    payload += bits;
    if (rans_decoder_init(&r.rans, payload, (size_t)(end - payload), r.lanes) != RANS_OK)
        return RESIDUAL_DAMAGED;
    const int status = decode_as(c, effort, base, bound, &r);
    if (status != RESIDUAL_OK) return status;
    const int whole = rans_decoder_finish(&r.rans) == RANS_OK && bits_finished(&r);
    return whole ? RESIDUAL_OK : RESIDUAL_DAMAGED;
}

static int decode_frame(band_coder *c, const uint8_t *payload, size_t size, const uint32_t *base) {
    const uint8_t *const end = payload + size;
    if (!size) return RESIDUAL_DAMAGED;
    const int mode = *payload;
    if (mode == MODE_RAW) return decode_raw(c, payload, size);
    const int fast = mode == MODE_FAST || mode == MODE_FAST_BOUND;
    if (mode > MODE_FAST_BOUND || (fast && c->effort == FAST)) return RESIDUAL_DAMAGED;
    uint32_t bound = c->bound;
    payload++;
    if (mode == MODE_BOUND || mode == MODE_FAST_BOUND) {
        if (end - payload < 4) return RESIDUAL_DAMAGED;
        bound = rans_load32(payload);
        if (bound >= c->bound) return RESIDUAL_DAMAGED;
        payload += 4;
    }
    return decode_coded(c, fast ? FAST : c->effort, base, bound, payload, end);
}

#endif
