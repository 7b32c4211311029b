// Products of rows with the matrices of the experts that they chose; no other expert's are read.
//
// The pairs of a row and an expert are sorted by expert (ops/route.cpp), and hidden rows lie in that order. Threads share
// all panels of all chosen experts, in proportion to the rows that meet them:
//
//   pairs      | expert 3: 2 rows | expert 7: 5 rows            | expert 8: 1 row |
//   threads    |        thread 0          |            thread 1                   |
//   hidden     pair after pair, ⌈dim⌉₁₆ floats each            (experts_glu, experts_up → experts_down)
#include "../groups.h"
#include "../scratch.h"
#include "products.h"

namespace vt {
namespace VT_ISA {

// An expert's bias, or nullptr.
VT_INLINE const float* bias_of(const Step& s, int vector, const Matrix& m, int expert) {
    return vector < 0 ? nullptr : s.vector(vector) + int64_t{expert} * m.rows;
}

// Calls multiply(expert, panels, rows of x, bias, y) for this thread's share of `n` panels of each group, where the rows
// are gathered in its scratch memory. `weights` multiply them, if there are some.
template <class Op, class Multiply> VT_INLINE void each_product(const Step& s, const Op& o, int n, Multiply multiply) {
    const Matrix& m = s.matrix(o.matrix);
    const Groups groups(s, o.groups, o.active, m.copies);
    const int64_t all = int64_t{groups.pairs} * n, stride = gathered_stride(m.cols);
    float* const floats = s.local<float>();
    Input in{};
    for (const Group& g : groups) {
        const auto panel = [&](int thread) {  // the first that comes after the shares of the threads before this one
            const int64_t rest = all * thread / s.threads - int64_t{g.begin} * n;
            return static_cast<int>(between<int64_t>(ceil_div(rest, g.end - g.begin), 0, n));
        };
        const Range mine{panel(s.thread), panel(s.thread + 1)};
        if (mine.begin == mine.end) continue;
        for (int at = g.begin; at < g.end; at += GATHERED_ROWS) {
            const int rows = least(GATHERED_ROWS, g.end - at);
            const bool gathered = s.rows == 1 && o.weights < 0 && in.n;  // it is the same row for every expert
            for (int r = 0; r < rows && !gathered; ++r) {
                const int row = groups.row(at + r);
                const float weight = o.weights < 0 ? 1 : s.row(o.weights, row)[groups.slot(at + r)];
                map(s.row(o.x, row), floats + r * stride, m.cols, [&](int, int, F x) { return x * weight; });
            }
            if (!gathered)
                in = prepared(floats, stride, rows, Range{0, rows}, m, 1, 0, floats + GATHERED_ROWS * stride);
            multiply(g.expert, mine, in, bias_of(s, o.bias, m, g.expert), s.row(o.y, 0) + int64_t{at} * n * LANES);
        }
    }
}

void run(const Step& s, const op_experts_glu& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int n = m.rows / (2 * LANES);
    each_product(s, o, n, [&](int expert, Range mine, const Input& in, const float* bias, float* y) {
        matmul_pairs(m, expert, in, mine.begin, mine.end, [&](int pair, int row, F gate, F up) {
            if (bias) gate += F::load(bias + 2 * pair * LANES), up += F::load(bias + (2 * pair + 1) * LANES);
            gated(o, gate, up).store(y + (int64_t{row} * n + pair) * LANES);
        });
    });
}

void run(const Step& s, const op_experts_up& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int n = panels(m.rows);
    each_product(s, o, n, [&](int expert, Range mine, const Input& in, const float* bias, float* y) {
        matmul_panels(m, expert, in, mine.begin, mine.end, [&](int panel, int row, F value) {
            if (bias) value += load(bias + panel * LANES, lanes_of(m.rows, panel));
            activate(o.act, value).store(y + (int64_t{row} * n + panel) * LANES);
        });
    });
}

// Some of the rows.
VT_INLINE Input rows_of(Input in, int begin, int end) {
    in.n = end - begin;
    in.x += begin * in.stride;
    if (in.q) in.q += begin * in.q_stride;
    if (in.b) in.b = in.n < BFLOAT_ROWS ? nullptr : in.b + begin * in.b_stride;
    return in;
}

// Each thread computes some channels of all rows: the experts of a row are added up without a barrier.
void run(const Step& s, const op_experts_down& o) {
    const Matrix& m = s.matrix(o.matrix);
    const Groups groups(s, o.groups, o.active, m.copies);
    const Range shared = s.mine(groups.pairs), mine = s.mine(panels(m.rows));
    const Input all = prepared(s.row(o.x, 0), gathered_stride(m.cols), groups.pairs, shared, m, 1, 0, s.shared<void>());
    if (all.q || all.b) s.sync();
    for (int r = 0; r < s.rows; ++r)
        for (int p = mine.begin; p < mine.end; ++p)
            put(s.row(o.y, r) + p * LANES, lanes_of(m.rows, p), F::zero(), o.skip, 0);
    for (const Group& g : groups) {
        const float* const bias = bias_of(s, o.bias, m, g.expert);
        matmul_panels(m, g.expert, rows_of(all, g.begin, g.end), mine.begin, mine.end, [&](int p, int row, F value) {
            const int n = lanes_of(m.rows, p), r = groups.row(g.begin + row);
            const float weight = o.weights < 0 ? 1 : s.row(o.weights, r)[groups.slot(g.begin + row)];
            float* const y = s.row(o.y, r) + p * LANES;
            if (bias) value += load(bias + p * LANES, n);
            store(y, n, fma(value, weight * o.scale, load(y, n)));
        });
    }
}

}  // namespace VT_ISA
}  // namespace vt
