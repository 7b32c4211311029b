// References of ops/products.cpp: every product a sum of single numbers, of the unpacked weights.
#pragma once

#include <cmath>
#include <vector>

#include "../pack.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

inline void quantize_rows(const float* x, int64_t stride, int r0, int r1, int cols, Quantized* q, int64_t q_stride) {
    for (int r = r0; r < r1; ++r) {
        for (int64_t b = 0; b < quantized_blocks(cols); ++b) {
            float block[32] = {}, most = 0;
            for (int i = 0; i < 32; ++i) {
                if (32 * b + i < cols) block[i] = x[r * stride + 32 * b + i];
                if (std::fabs(block[i]) > most) most = std::fabs(block[i]);
            }
            Quantized& out = q[r * q_stride + b] = {};
            const float inverse = most > TINY ? 127.0f / most : 0;
            for (int i = 0; i < 32; ++i) {
                out.q[i] = static_cast<int8_t>(nearbyintf(block[i] * inverse));
                out.minus -= out.q[i];
                if (i < 16) out.minus_low -= out.q[i];
            }
            out.d = most / 127.0f;
            out.sum = out.d * static_cast<float>(-out.minus);
        }
    }
}

// w · x, where for an integer format x is what its quantised form stands for: d · q.
inline float product(const float* w, const Matrix& m, const Input& in, int r) {
    double total = 0;
    for (int k = 0; k < m.cols; ++k) {
        const Quantized* const q = in.q ? in.q + r * in.q_stride + k / 32 : nullptr;
        total += static_cast<double>(w[k]) * (q ? static_cast<double>(q->d) * q->q[k % 32] : in.x[r * in.stride + k]);
    }
    return static_cast<float>(total);
}

// done(output, row of x, value) for outputs [o0, o1) of a copy.
template <class Done> void matmul_outputs(const Matrix& m, int copy, const Input& in, int o0, int o1, Done done) {
    std::vector<float> w(static_cast<size_t>(m.cols));
    for (int o = o0; o < o1; ++o) {
        unpack_row(m, copy, o, w.data());
        for (int r = 0; r < in.n; ++r) done(o, r, product(w.data(), m, in, r));
    }
}

// Columns x0 … x0 + cols − 1 of a buffer; quantised by every thread for itself.
struct Rows {
    std::vector<Quantized> q;
    Input in;
    Rows(const Step& s, int x, int64_t x0, const Matrix& m)
        : in{s.row(x, 0) + x0, s.stride(x), s.rows, nullptr, quantized_blocks(m.cols)} {
        if (!FORMAT[m.format].integer) return;
        q.resize(static_cast<size_t>(s.rows * in.q_stride));
        quantize_rows(in.x, in.stride, 0, s.rows, m.cols, q.data(), in.q_stride);
        in.q = q.data();
    }
};

void run(const Step& s, const op_matmul& o) {
    const Matrix& m = s.matrix(o.matrix);
    const float* const bias = s.vector(o.bias);
    for (int h = 0; h < (o.heads ? o.heads : 1); ++h) {
        const Rows rows(s, o.x, h * int64_t{o.x_step}, m);
        const Range mine = s.mine(m.rows);
        matmul_outputs(m, h, rows.in, mine.begin, mine.end, [&](int output, int r, float a) {
            if (bias) a += bias[h * int64_t{m.rows} + output];
            put(s.row(o.y, r)[h * int64_t{o.y_step} + output], activate(o.act, a), o.skip, o.scale);
        });
    }
}

template <class Op> float gated(const Op& o, float gate, float up) {
    gate *= o.gate_scale;
    if (o.act != act_kind::clamped) return activate(o.act, gate) * up;
    gate = gate < o.limit ? gate : o.limit;
    up = up > o.limit ? o.limit : up < -o.limit ? -o.limit : up;
    return (up + o.offset) * gate / (1 + expf(-o.alpha * gate));
}

void run(const Step& s, const op_glu& o) {
    const Matrix& m = s.matrix(o.matrix);
    const float* const bias = s.vector(o.bias);
    const Rows rows(s, o.x, 0, m);
    std::vector<float> w(static_cast<size_t>(m.cols));
    const Range mine = s.mine(s.width(o.y));
    for (int c = mine.begin; c < mine.end; ++c) {
        const int gate = c / LANES * 2 * LANES + c % LANES, up = gate + LANES;
        for (int r = 0; r < s.rows; ++r) {
            unpack_row(m, 0, gate, w.data());
            const float g = product(w.data(), m, rows.in, r) + (bias ? bias[gate] : 0);
            unpack_row(m, 0, up, w.data());
            s.row(o.y, r)[c] = gated(o, g, product(w.data(), m, rows.in, r) + (bias ? bias[up] : 0));
        }
    }
}

// For products without a plan, as isa.h says.
Input prepare(const float* x, int n, Range mine, const Matrix& m, void* scratch) {
    Input in{x, m.cols, n, nullptr, quantized_blocks(m.cols)};
    if (!FORMAT[m.format].integer) return in;
    in.q = static_cast<Quantized*>(scratch);
    quantize_rows(x, m.cols, mine.begin, mine.end, m.cols, static_cast<Quantized*>(scratch), in.q_stride);
    return in;
}

void multiply(const Matrix& m, int copy, const Input& in, int p0, int p1, float* y, int64_t stride) {
    const int end = p1 * LANES < m.rows ? p1 * LANES : m.rows;
    matmul_outputs(m, copy, in, p0 * LANES, end, [&](int o, int r, float a) { y[r * stride + o] = a; });
}

}  // namespace VT_ISA
}  // namespace vt
