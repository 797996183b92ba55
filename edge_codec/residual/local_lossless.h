/* Lossless encoding of a frame with the default effort: all its voxels are known from the start.
 *
 * So nothing but the distributions has to wait for the voxel to the left, and the rest is done for
 * many voxels at a time. It gives what code_local does, which the decoder and bounds above 0 need.
 */
#ifndef EDGE_CODEC_LOCAL_LOSSLESS_H
#define EDGE_CODEC_LOCAL_LOSSLESS_H

#include "local_coder.h"

RANS_INLINE doubles error_between(doubles sample, doubles predicted) {
    const doubles d = magnitude_of(16 * sample - predicted), most = (doubles){0} + MAX_MAGNITUDE;
    return choose((longs)(d < most), d, most);
}

/* Completes a row of a filter's predictions by what lies left of each voxel: it has two taps there. */
RANS_INLINE void finish_blocks(const local_state *s, const local_filter *f, const double *x,
                               uint32_t *error, const int log_side) {
    const double *near = f->taps + (size_t)s->west[0] * f->stride;
    const double *far = f->taps + (size_t)s->west[1] * f->stride;
    const doubles top = (doubles){0} + s->span;
    for (size_t i = 0; i < s->columns; i += WIDE) {
        const size_t block = i >> log_side;
        doubles sum = load(f->row + i) + spread(near + block, log_side) * load(x + i - 1);
        sum += spread(far + block, log_side) * load(x + i - 2);
        const doubles predicted = floor_of(clip(sum, top) * 16 + 0.5);
        store(f->row + i, predicted);
        store_integers(error + i, error_between(load(x + i), predicted), s->columns - i);
    }
}

static void finish_predictions(const local_state *s, const local_filter *f, const double *x,
                               uint32_t *error) {
    if (s->sums[f->sums].log_side == 3) finish_blocks(s, f, x, error, 3);
    else finish_blocks(s, f, x, error, 2);
}

/* Completes a row of energies by what lies left of each voxel. */
static void finish_energies(uint32_t *energy, const uint32_t *error, size_t n, int key) {
    for (size_t i = 0; i < n; i++) energy[i] += 3 * error[i - 1] + error[i - 2];
    for (size_t i = 0; key && i < n; i++) energy[i] += energy[i] >> 1;
}

RANS_INLINE doubles weight_of(const uint32_t *energy) {
    const doubles e = load_unsigned(energy) + 86;
    return 1 / (e * e);
}

/* Predicts a row by the mean of both filters, and finds the codes of its levels. */
static void find_codes(const local_coder *c, const double *x, uint32_t *error) {
    const local_state *s = &c->frame;
    const doubles zero = {0};
    for (size_t i = 0; i < s->columns; i += WIDE) {
        const doubles w0 = weight_of(c->row_error[0] + i), w1 = weight_of(c->row_error[1] + i);
        const doubles sum = w0 * load(s->filter[0].row + i) + w1 * load(s->filter[1].row + i);
        const doubles q = floor_of(sum / (w0 + w1) + 0.5), middle = floor_of(q / 16 + 0.5);
        const doubles sample = load(x + i), difference = sample - middle;
        const doubles level = choose((longs)(q > 16 * middle), -difference, difference);
        store_integers(error + i, error_between(sample, q), s->columns - i);
        store(c->row_code + i, choose((longs)(level < zero), -2 * level - 1, 2 * level));
    }
}

static void put_codes(symbol_writer *writer, local_models *m, const uint32_t *energy,
                      const double *code, size_t n) {
    symbol_writer w = *writer; /* in registers */
    for (size_t i = 0; i < n; i++)
        put_code(&w, m, energy[i] >> ENERGY_BITS, (uint64_t)(int64_t)code[i]);
    *writer = w;
}

static int encode_lossless(local_coder *c, const uint32_t *frame, symbol_writer *w,
                           int64_t give_up) {
    local_state *const s = &c->frame;
    const int filters = s->n_filters, key = s->history == 0;
    open_local(s);
    open_above(s);
    for (size_t row = 0; row < s->rows; row++) {
        const size_t place = place_of(s, row, 0);
        const double *x = s->plane[NOW] + place;
        if (row % CLOCK_ROWS == 0 && is_late(give_up)) return RESIDUAL_LATE;
        if (!reserve(w, s->columns)) return RESIDUAL_NO_MEMORY;
        open_local_row(c, row);
        load_row(s, NOW, row, frame + row * s->columns);
        for (int k = 0; k < filters; k++) {
            finish_predictions(s, &s->filter[k], x, c->error[k] + place);
            finish_energies(c->row_error[k], c->error[k] + place, s->columns, key);
        }
        find_codes(c, x, c->error[filters] + place);
        finish_energies(c->row_error[filters], c->error[filters] + place, s->columns, key);
        put_codes(w, c->models, c->row_error[filters], c->row_code, s->columns);
        close_right(s, row);
    }
    flush_bits(w);
    return RESIDUAL_OK;
}

#endif
