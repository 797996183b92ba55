/* Signs of levels, from what fits the pixels around a transform best. NORMATIVE.
 *
 * Henry and Clare, "Residual coefficient sign prediction", JVET-D0031, 2016: of two signs that one is
 * more likely that makes the block continue its neighbors. Here no candidate is reconstructed. The
 * differences between where the pixels to the left and above lead to and the prediction, along both
 * edges, are transformed; a coefficient changes one number of each transform, so what it would leave
 * of them says its sign, and how sure that is.
 */
#ifndef EDGE_CODEC_HYBRID_SIGNS_H
#define EDGE_CODEC_HYBRID_SIGNS_H

#include "contexts.h"
#include "transform.h"

typedef struct {
    int64_t left[MAX_TRANSFORM], above[MAX_TRANSFORM]; /* transforms of what is not explained yet */
    const int32_t *first; /* the first column of the matrix; what is not known has weight 0 */
    int has_left, has_above;
    int64_t scale; /* of scores times coefficients */
} mismatch;

/* The mismatch of one edge: `step` along it and `across` it, towards the known pixels. */
HYBRID_INLINE int32_t transform_edge(const int16_t *known, ptrdiff_t step, ptrdiff_t across,
                                     const int16_t *prediction, ptrdiff_t prediction_step,
                                     const int32_t *turned, int n, int64_t *out) {
    int32_t sum[MAX_TRANSFORM] = {0}, total = 0;
    for (int i = 0; i < n; i++) {
        const int32_t v = 12 * known[i * step] - 4 * known[i * step + across] -
                          8 * prediction[i * prediction_step];
        total += abs(v);
        for (int k = 0; k < n; k++) sum[k] += turned[i * n + k] * v;
    }
    for (int k = 0; k < n; k++) out[k] = sum[k];
    return total;
}

/* `at` points to the block in its frame. */
static void open_mismatch(mismatch *m, const int16_t *at, ptrdiff_t stride,
                          const int16_t *prediction, ptrdiff_t prediction_stride, int log_size,
                          int sine, int has_left, int has_above, int32_t delta) {
    const int n = 1 << log_size;
    const int32_t *const turned = TURNED[transform_place(log_size, sine)];
    int32_t total = 0;
    m->first = turned;
    m->has_left = has_left;
    m->has_above = has_above;
    if (has_left)
        total += transform_edge(at - 1, stride, -1, prediction, prediction_stride, turned, n, m->left);
    if (has_above)
        total += transform_edge(at - stride, 1, -stride, prediction, 1, turned, n, m->above);
    m->scale = 32 * ((int64_t)total + 8 * n * (has_left + has_above)) * delta;
}

/* The sign of the coefficient in column x and row y, 1 if negative. */
HYBRID_INLINE int code_sign(const int mode, bins *c, models *models, mismatch *m, int x, int y,
                            int32_t magnitude, int negative) {
    if (!m->has_left && !m->has_above) return (int)code_bits(mode, c, (uint32_t)negative, 1);
    const int64_t to_left = m->has_left ? m->first[x] : 0, up = m->has_above ? m->first[y] : 0;
    const int64_t score = to_left * m->left[y] + up * m->above[x];
    const uint64_t sure = (uint64_t)(score < 0 ? -score : score) * (uint64_t)magnitude *
                          (uint64_t)(m->has_left + m->has_above) / (uint64_t)m->scale;
    const int bits = sure ? 64 - __builtin_clzll(sure) : 0;
    const int guess = score < 0;
    context *const with = &models->sign[bits < SIGN_CLASSES ? bits : SIGN_CLASSES - 1];
    negative = code_bin(mode, c, with, negative != guess) != guess;
    const int64_t v = negative ? -magnitude : magnitude;
    if (m->has_left) m->left[y] -= to_left * v;
    if (m->has_above) m->above[x] -= up * v;
    return negative;
}

#endif
