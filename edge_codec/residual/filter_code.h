/* A frame of the sent filter as symbols, and back. */
#ifndef EDGE_CODEC_FILTER_CODE_H
#define EDGE_CODEC_FILTER_CODE_H

#include "bounds.h"
#include "filter_fit.h"

RANS_INLINE uint32_t magnitude(int64_t level) {
    const uint64_t m = (uint64_t)(level < 0 ? -level : level) << ENERGY_BITS;
    return m > MAX_MAGNITUDE ? MAX_MAGNITUDE : (uint32_t)m;
}

static int put_coefficients(filter_state *s, symbol_writer *w, const int32_t *fitted, int n) {
    for (int i = 0; i < n; i++) {
        if (!reserve(w, 1)) return RESIDUAL_NO_MEMORY;
        const int32_t before = n == s->n_taps ? s->coefficients[i] : 0;
        put_number(w, &s->coefficient, zigzag(fitted[i] - before));
        s->coefficients[i] = fitted[i];
    }
    s->n_taps = n;
    return RESIDUAL_OK;
}

static int get_coefficients(filter_state *s, symbol_reader *r, int n) {
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

/* A row of levels as symbols of the distributions that the energies choose. */
static void put_row(filter_state *s, symbol_writer *writer) {
    symbol_writer copy = *writer, *const w = &copy; /* in registers */
    for (size_t column = 0; column < s->columns; column++) {
        unsigned shift;
        adaptive_cdf *const context = &s->context[context_of(s->row_energy[column], &shift)];
        const uint64_t code = zigzag(s->row_level[column]), high = code >> shift;
        put_symbol(w, context, high < ESCAPE ? (unsigned)high : ESCAPE);
        if (high >= ESCAPE) put_number(w, &s->escape, high - ESCAPE);
        put_bits(w, code, shift);
    }
    *writer = copy;
}

static int get_row(filter_state *s, symbol_reader *r, size_t row, const bounds *b) {
    const uint64_t in_frame = largest_code(s->span, b->frame);
    const uint64_t in_region = largest_code(s->span, b->region);
    const uint8_t *const inside = b->inside ? b->inside + row * s->columns : NULL;
    for (size_t column = 0; column < s->columns; column++) {
        const uint64_t largest = inside && inside[column] ? in_region : in_frame;
        unsigned shift;
        adaptive_cdf *const context = &s->context[context_of(s->row_energy[column], &shift)];
        uint64_t high = get_symbol(r, context);
        if (high == ESCAPE) high += get_number(r, &s->escape);
        if (high > largest >> shift) return RESIDUAL_DAMAGED;
        const uint64_t code = high << shift | get_bits(r, shift);
        if (code > largest) return RESIDUAL_DAMAGED;
        s->row_level[column] = unzigzag(code);
    }
    return r->rans.failed | r->failed ? RESIDUAL_DAMAGED : RESIDUAL_OK;
}

/* Predicts a row; the levels are found from `frame`, or taken where it is NULL. */
RANS_INLINE void follow_row(filter_state *s, serial_weights serial, size_t row, const bounds *b,
                            const uint32_t *frame, const int narrow, const int regional) {
    uint32_t *const line = s->plane[CURRENT] + at(s, row, 0), *const error =
                                                                  s->error + at(s, row, 0);
    const int64_t span = s->span, in_frame = b->frame;
    int64_t west = line[-1], west_west = line[-2];
    for (size_t i = 0; i < s->columns; i++) {
        const int64_t bound = regional ? bound_at(b, row * s->columns + i) : in_frame;
        int64_t predicted = narrow ? s->row_sum_narrow[i] : s->row_sum[i];
        predicted += serial.west * west + serial.west_west * west_west;
        predicted >>= COEFFICIENT_BITS; /* arithmetic: floor */
        predicted = predicted < 0 ? 0 : predicted > span ? span : predicted;
        if (frame)
            s->row_level[i] = quantize((int64_t)frame[row * s->columns + i] - predicted, bound);
        const int64_t level = s->row_level[i], value = predicted + level * (2 * bound + 1);
        west_west = west;
        west = value < 0 ? 0 : value > span ? span : value;
        line[i] = (uint32_t)west;
        error[i] = magnitude(level);
    }
    close_row(s, row);
}

/* The same of a lossless frame of 16 bits, which is in the plane already: no voxel waits for another. */
static void follow_known_row(filter_state *s, serial_weights serial, size_t row) {
    const uint32_t *const line = s->plane[CURRENT] + at(s, row, 0);
    uint32_t *const error = s->error + at(s, row, 0);
    const int32_t west = (int32_t)serial.west, west_west = (int32_t)serial.west_west;
    const int32_t span = (int32_t)s->span;
    for (size_t i = 0; i < s->columns; i++) {
        int32_t predicted = s->row_sum_narrow[i] + west * (int32_t)line[(ptrdiff_t)i - 1] +
                            west_west * (int32_t)line[(ptrdiff_t)i - 2];
        predicted >>= COEFFICIENT_BITS;
        predicted = predicted < 0 ? 0 : predicted > span ? span : predicted;
        const int32_t level = (int32_t)line[i] - predicted;
        s->row_level[i] = level;
        error[i] = (uint32_t)abs(level) << ENERGY_BITS;
    }
}

static void follow_either(filter_state *s, serial_weights serial, size_t row, const bounds *b,
                          const uint32_t *frame) {
    if (b->inside) follow_row(s, serial, row, b, frame, is_narrow(s), 1);
    else if (is_narrow(s)) follow_row(s, serial, row, b, frame, 1, 0);
    else follow_row(s, serial, row, b, frame, 0, 0);
}

/* Codes the frame, which is in plane CURRENT as well; its decoded form is left there. */
static int encode_voxels(filter_state *s, const bounds *b, const uint32_t *frame,
                         symbol_writer *w) {
    tap taps[MAX_TAPS];
    list_taps(s, taps);
    open_frame(s);
    for (size_t row = 0; row < s->rows; row++) {
        if (!reserve(w, s->columns)) return RESIDUAL_NO_MEMORY;
        const serial_weights serial = open_row(s, row, taps);
        if (is_narrow(s) && !b->frame) follow_known_row(s, serial, row);
        else follow_either(s, serial, row, b, frame);
        put_row(s, w);
    }
    flush_bits(w);
    return RESIDUAL_OK;
}

static int decode_voxels(filter_state *s, const bounds *b, symbol_reader *r) {
    tap taps[MAX_TAPS];
    list_taps(s, taps);
    open_frame(s);
    for (size_t row = 0; row < s->rows; row++) {
        const serial_weights serial = open_row(s, row, taps);
        if (get_row(s, r, row, b) != RESIDUAL_OK) return RESIDUAL_DAMAGED;
        follow_either(s, serial, row, b, NULL);
    }
    return RESIDUAL_OK;
}

static int encode_filter(filter_state *s, const bounds *b, const uint32_t *frame,
                         symbol_writer *w) {
    int32_t coefficients[MAX_TAPS];
    load_plane(s, s->plane[CURRENT], frame);
    const int n = fit(s, coefficients);
    const int status = put_coefficients(s, w, coefficients, n);
    return status == RESIDUAL_OK ? encode_voxels(s, b, frame, w) : status;
}

static int decode_filter(filter_state *s, const bounds *b, symbol_reader *r) {
    tap taps[MAX_TAPS];
    const int status = get_coefficients(s, r, list_taps(s, taps));
    return status == RESIDUAL_OK ? decode_voxels(s, b, r) : status;
}

#endif
