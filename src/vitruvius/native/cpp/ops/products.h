// The ops that multiply with one matrix: matmul and glu.
#pragma once

#include "basic.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

// The rows `mine` of n rows of x, for products with m: quantised for an integer format, in `heads` pieces one after the
// other, piece h from column h · x_step and at q + h · quantized_blocks(cols); many rows for BF16 as bfloat16, where
// that is faster; otherwise as they are.
VT_INLINE Input prepared(const float* x, int64_t stride, int n, Range mine, const Matrix& m, int heads, int x_step,
                         void* scratch) {
    Input in{x, stride, n, nullptr, heads * quantized_blocks(m.cols)};
    if (PAIRED && has_bfloat_pairs && m.format == BF16 && heads == 1 && n >= BFLOAT_ROWS) {
        auto* const b = static_cast<uint16_t*>(scratch);
        in.b = b;
        in.b_stride = bfloat_cols(m.cols);
        round_rows(x, stride, mine.begin, mine.end, m.cols, b, in.b_stride);
    }
    if (!FORMAT[m.format].integer) return in;
    auto* const q = static_cast<Quantized*>(scratch);
    in.q = q;
    for (int h = 0; h < heads; ++h)
        quantize_rows(x + h * int64_t{x_step}, stride, mine.begin, mine.end, m.cols, q + h * quantized_blocks(m.cols),
                      in.q_stride);
    return in;
}

// The rows of buffer x for products with m.
VT_INLINE Input input_of(const Step& s, int x, const Matrix& m, int heads, int x_step) {
    const bool alone = s.rows <= ALONE_ROWS;
    const Range mine = alone ? Range{0, s.rows} : s.mine(s.rows);
    void* const scratch = alone ? s.local<void>() : s.shared<void>();
    const Input in = prepared(s.row(x, 0), s.stride(x), s.rows, mine, m, heads, x_step, scratch);
    if (!alone && (in.q || in.b)) s.sync();
    return in;
}

// The same for one head.
VT_INLINE Input head_of(Input in, const Matrix& m, int head, int x_step) {
    in.x += head * int64_t{x_step};
    if (in.q) in.q += head * quantized_blocks(m.cols);
    return in;
}

// This thread's share of n panels: whole pairs where there are many, which the kernels take together.
VT_INLINE Range my_panels(const Step& s, int n) {
    if (n < 4 * s.threads) return s.mine(n);
    const Range pairs = s.mine(static_cast<int>(ceil_div(n, 2)));
    return {2 * pairs.begin, 2 * pairs.end < n ? 2 * pairs.end : n};
}

VT_INLINE int lanes_of(int width, int panel) { return width - panel * LANES < LANES ? width - panel * LANES : LANES; }

inline void run(const Step& s, const op_matmul& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int heads = o.heads ? o.heads : 1, each = panels(m.rows);
    const Input in = input_of(s, o.x, m, heads, o.x_step);
    const float* const bias = s.vector(o.bias);
    float* const y = s.row(o.y, 0);
    const int64_t stride = s.stride(o.y);
    const Range mine = heads == 1 ? my_panels(s, each) : s.mine(heads * each);
    for (int p0 = mine.begin; p0 < mine.end;) {
        const int h = p0 / each, first = h * each, p1 = mine.end < first + each ? mine.end : first + each;
        matmul_panels(m, h, head_of(in, m, h, o.x_step), p0 - first, p1 - first, [&](int p, int r, F a) {
            const int n = lanes_of(m.rows, p);
            if (bias) a += load(bias + h * int64_t{m.rows} + p * LANES, n);
            put(y + r * stride + h * int64_t{o.y_step} + p * LANES, n, activate(o.act, a), o.skip, o.scale);
        });
        p0 = p1;
    }
}

// (up + offset) · gate · σ(alpha · gate), the gate at most `limit`, up between −limit and limit (gpt-oss).
VT_INLINE F clamped_glu(F gate, F up, float limit, float alpha, float offset) {
    gate = fmin(gate, F::all(limit));
    up = fmax(fmin(up, F::all(limit)), F::all(-limit));
    return (up + F::all(offset)) * gate * sigmoid(gate * alpha);
}

// What op_glu and op_experts_glu do with a gate and an up, biases included.
template <class Op> VT_INLINE F gated(const Op& o, F gate, F up) {
    gate *= F::all(o.gate_scale);
    if (o.act == act_kind::clamped) return clamped_glu(gate, up, o.limit, o.alpha, o.offset);
    return activate(o.act, gate) * up;
}

inline void run(const Step& s, const op_glu& o) {
    const Matrix& m = s.matrix(o.matrix);
    const Input in = input_of(s, o.x, m, 1, 0);
    const float* const bias = s.vector(o.bias);
    float* const y = s.row(o.y, 0);
    const int64_t stride = s.stride(o.y);
    const int width = s.width(o.y);
    const Range mine = s.mine(m.rows / (2 * LANES));
    matmul_pairs(m, 0, in, mine.begin, mine.end, [&](int pair, int r, F gate, F up) {
        if (bias) {
            gate += F::load(bias + pair * 2 * LANES);
            up += F::load(bias + pair * 2 * LANES + LANES);
        }
        store(y + r * stride + pair * LANES, lanes_of(width, pair), gated(o, gate, up));
    });
}

}  // namespace VT_ISA
}  // namespace vt
