// Products of rows with the matrices of the experts that they chose; no other expert's are read.
//
// The pairs of a row and an expert are sorted by expert (ops/route.h), and hidden rows lie in that order. Threads share
// all panels of all chosen experts, in proportion to the rows that meet them:
//
//   pairs      | expert 3: 2 rows | expert 7: 5 rows            | expert 8: 1 row |
//   threads    |        thread 0          |            thread 1                   |
//   hidden     pair after pair, ⌈dim⌉₁₆ floats each            (experts_glu, experts_up → experts_down)
#pragma once

#include "../groups.h"
#include "../scratch.h"
#include "products.h"

namespace vt {
namespace VT_ISA {

// Calls work(group, its panels [begin, end)) for this thread's share of `panels` panels of every group.
template <class Work> VT_INLINE void each_share(const Step& s, const Groups& groups, int panels, Work work) {
    const int64_t all = static_cast<int64_t>(groups.pairs()) * panels;
    const int64_t begin = all * s.thread / s.threads, end = all * (s.thread + 1) / s.threads;
    for (int i = 0; i < groups.size(); ++i) {
        const Group g = groups[i];
        const int64_t before = static_cast<int64_t>(g.begin) * panels, rows = g.end - g.begin;
        const auto panel = [&](int64_t bound) {  // the first that comes after the bound
            const int64_t p = bound <= before ? 0 : ceil_div(bound - before, rows);
            return static_cast<int>(p < panels ? p : panels);
        };
        if (panel(begin) < panel(end)) work(g, Range{panel(begin), panel(end)});
    }
}

// Rows of x for an expert, one after the other in this thread's scratch memory.
class Gathering {
   public:
    // `weights` multiply the rows; −1 leaves them as they are.
    VT_INLINE Gathering(const Step& s, const Groups& groups, const Matrix& m, int x, int weights)
        : s_(s), groups_(groups), m_(m), x_(x), weights_(weights) {}

    // The pairs [begin, end), at most GATHERED_ROWS.
    VT_INLINE Input rows(int begin, int end) {
        if (s_.rows == 1 && weights_ < 0 && in_.n) return in_;  // the same row for every expert
        const int64_t stride = gathered_stride(m_.cols);
        float* floats = s_.local<float>();
        for (int i = begin; i < end; ++i) {
            const float* x = s_.row(x_, groups_.row(i));
            float* to = floats + (i - begin) * stride;
            const float weight = weights_ < 0 ? 1 : s_.row(weights_, groups_.row(i))[groups_.slot(i)];
            each_strip(m_.cols, [&](int c, int n) { store(to + c, n, load(x + c, n) * weight); });
        }
        const int n = end - begin;
        return in_ = prepared(floats, stride, n, Range{0, n}, m_, 1, 0, floats + GATHERED_ROWS * stride);
    }

   private:
    const Step& s_;
    const Groups& groups_;
    const Matrix& m_;
    const int x_, weights_;
    Input in_{};
};

// Calls multiply(group, panels, input, place of its first row) for this thread's share of all products of gathered rows.
template <class Op, class Multiply>
VT_INLINE void each_product(const Step& s, const Op& o, const Matrix& m, int panels, Multiply multiply) {
    const Groups groups(s, o.groups, o.active, m.copies);
    Gathering gathering(s, groups, m, o.x, o.weights);
    each_share(s, groups, panels, [&](const Group& g, Range mine) {
        for (int at = g.begin; at < g.end; at += GATHERED_ROWS) {
            const int end = at + GATHERED_ROWS < g.end ? at + GATHERED_ROWS : g.end;
            multiply(g, mine, gathering.rows(at, end), at);
        }
    });
}

// An expert's bias, or nullptr.
VT_INLINE const float* bias_of(const Step& s, int vector, const Matrix& m, int expert) {
    return vector < 0 ? nullptr : s.vector(vector) + static_cast<int64_t>(expert) * m.rows;
}

inline void run(const Step& s, const op_experts_glu& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int64_t pairs = m.rows / (2 * LANES), width = pairs * LANES;
    each_product(s, o, m, static_cast<int>(pairs), [&](const Group& g, Range mine, const Input& in, int place) {
        const float* bias = bias_of(s, o.bias, m, g.expert);
        float* y = s.row(o.y, 0) + place * width;
        matmul_pairs(m, g.expert, in, mine.begin, mine.end, [&](int pair, int row, F gate, F up) {
            if (bias) gate += F::load(bias + 2 * pair * LANES), up += F::load(bias + (2 * pair + 1) * LANES);
            gated(o, gate, up).store(y + row * width + pair * LANES);
        });
    });
}

inline void run(const Step& s, const op_experts_up& o) {
    const Matrix& m = s.matrix(o.matrix);
    const int64_t width = panels(m.rows) * LANES;
    each_product(s, o, m, panels(m.rows), [&](const Group& g, Range mine, const Input& in, int place) {
        const float* bias = bias_of(s, o.bias, m, g.expert);
        float* y = s.row(o.y, 0) + place * width;
        matmul_panels(m, g.expert, in, mine.begin, mine.end, [&](int panel, int row, F value) {
            const int c = panel * LANES, n = m.rows - c < LANES ? m.rows - c : LANES;
            if (bias) value += load(bias + c, n);
            activate(o.act, value).store(y + row * width + c);
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
inline void run(const Step& s, const op_experts_down& o) {
    const Matrix& m = s.matrix(o.matrix);
    const Groups groups(s, o.groups, o.active, m.copies);
    const Range shared = s.mine(groups.pairs());
    const Input all = prepared(s.row(o.x, 0), gathered_stride(m.cols), groups.pairs(), shared, m, 1, 0, s.shared<void>());
    if (all.q || all.b) s.sync();
    const Range mine = s.mine(panels(m.rows));
    const int begin = mine.begin * LANES, end = mine.end * LANES < m.rows ? mine.end * LANES : m.rows;
    for (int r = 0; r < s.rows; ++r) {
        float* y = s.row(o.y, r) + begin;
        each_strip(end - begin, [&](int c, int n) { put(y + c, n, F::zero(), o.skip, 0); });
    }
    for (int i = 0; i < groups.size() && begin < end; ++i) {
        const Group g = groups[i];
        const float* bias = bias_of(s, o.bias, m, g.expert);
        matmul_panels(m, g.expert, rows_of(all, g.begin, g.end), mine.begin, mine.end, [&](int panel, int row, F value) {
            const int c = panel * LANES, n = m.rows - c < LANES ? m.rows - c : LANES, r = groups.row(g.begin + row);
            const float weight = o.weights < 0 ? 1 : s.row(o.weights, r)[groups.slot(g.begin + row)];
            float* y = s.row(o.y, r) + c;
            if (bias) value += load(bias + c, n);
            store(y, n, fma(value, weight * o.scale, load(y, n)));
        });
    }
}

}  // namespace VT_ISA
}  // namespace vt
