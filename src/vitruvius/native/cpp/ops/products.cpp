// The ops that multiply with one matrix: matmul and glu.
#include "products.h"

namespace vt {
namespace VT_ISA {

void run(const Step& s, const op_matmul& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int heads = o.heads ? o.heads : 1, each = panels(m.rows);
    const Input in = input_of(s, o.x, m, heads, o.x_step);
    // Many panels of one head are shared as pairs, which the kernels take together.
    const Range mine = in_lots(s, heads * each, heads == 1 && each >= 4 * s.threads ? 2 : 1);
    for (int h = mine.begin / each; h * each < mine.end; ++h) {
        const int begin = mine.begin - h * each, end = mine.end - h * each;
        const float* const bias = o.bias < 0 ? nullptr : s.vector(o.bias) + h * int64_t{m.rows};
        Input part = in;
        part.x += h * int64_t{o.x_step};
        if (in.q) part.q += h * quantized_blocks(m.cols);
        matmul_panels(m, h, part, begin < 0 ? 0 : begin, end < each ? end : each, [&](int p, int r, F a) {
            const int n = lanes_of(m.rows, p);
            if (bias) a += load(bias + p * LANES, n);
            put(s.row(o.y, r) + h * int64_t{o.y_step} + p * LANES, n, activate(o.act, a), o.skip, o.scale);
        });
    }
}

void run(const Step& s, const op_glu& o) {
    const Matrix& m = s.matrix(o.matrix);
    const Input in = input_of(s, o.x, m, 1, 0);
    const float* const bias = s.vector(o.bias);
    const Range mine = s.mine(m.rows / (2 * LANES));
    matmul_pairs(m, 0, in, mine.begin, mine.end, [&](int pair, int r, F gate, F up) {
        if (bias) gate += F::load(bias + 2 * pair * LANES), up += F::load(bias + (2 * pair + 1) * LANES);
        store(s.row(o.y, r) + pair * LANES, lanes_of(s.width(o.y), pair), gated(o, gate, up));
    });
}

// For products without a plan, as isa.h says.
Input prepare(const float* x, int n, Range mine, const Matrix& m, void* scratch) {
    return prepared(x, m.cols, n, mine, m, 1, 0, scratch);
}

void multiply(const Matrix& m, int copy, const Input& in, int p0, int p1, float* y, int64_t stride) {
    matmul_panels(m, copy, in, p0, p1,
                  [&](int p, int r, F a) { store(y + r * stride + p * LANES, lanes_of(m.rows, p), a); });
}

}  // namespace VT_ISA
}  // namespace vt
