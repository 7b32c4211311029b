// Rows of activations as products want them, and what a gated layer does with two products.
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
    const int64_t blocks = quantized_blocks(m.cols);
    Input in{x, stride, n, nullptr, heads * blocks};
    if (FORMAT[m.format].integer) {
        auto* const q = static_cast<Quantized*>(scratch);
        for (int h = 0; h < heads; ++h)
            quantize_rows(x + h * int64_t{x_step}, stride, mine.begin, mine.end, m.cols, q + h * blocks, in.q_stride);
        in.q = q;
    } else if (PAIRED && has_bfloat_pairs && m.format == BF16 && heads == 1 && n >= BFLOAT_ROWS) {
        auto* const b = static_cast<uint16_t*>(scratch);
        in.b_stride = bfloat_cols(m.cols);
        round_rows(x, stride, mine.begin, mine.end, m.cols, b, in.b_stride);
        in.b = b;
    }
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

// What op_glu and op_experts_glu do with a gate and an up, biases included; clamped (gpt-oss): (up + offset) · gate ·
// σ(alpha · gate), the gate at most `limit`, up between −limit and limit.
template <class Op> VT_INLINE F gated(const Op& o, F gate, F up) {
    gate *= F::all(o.gate_scale);
    if (o.act != act_kind::clamped) return activate(o.act, gate) * up;
    gate = fmin(gate, F::all(o.limit));
    up = fmax(fmin(up, F::all(o.limit)), F::all(-o.limit));
    return (up + F::all(o.offset)) * gate * sigmoid(gate * o.alpha);
}

}  // namespace VT_ISA
}  // namespace vt
