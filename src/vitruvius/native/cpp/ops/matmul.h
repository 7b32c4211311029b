// Products of packed matrices with rows of activations: y = x Wᵀ, 16 outputs (a panel) to a register.
//
//   panel p            block of columns →          sums, in registers
//   row 16p      | lane 0  : w w w w …            x row 0 | 16 outputs |
//   row 16p + 1  | lane 1  : w w w w …      ×     x row 1 | 16 outputs |
//   …            |                                …
//   row 16p + 15 | lane 15 : w w w w …            one number of x goes to all lanes, so nothing is summed across lanes
//
// A panel (in formats of floats two side by side, which share the loads of x) meets a tile of rows of x along all columns;
// then the next tile meets the same panel, which is in the cache by then. One row of x is decoding: the panels are read
// once, as they lie in memory, ahead of their use.
#pragma once

#include "../lanes.h"

namespace vt {
namespace VT_ISA {

// 32 activations as int8: d = max |x| / 127.
VT_INLINE void quantize(const float* x, Quantized& out) {
    const F low = F::load(x), high = F::load(x + 16);
    const float most = maximum(fmax(fabs(low), fabs(high)));
    const float inverse = most > TINY ? 127.0f / most : 0.0f;
    const F a = fround(low * inverse), b = fround(high * inverse);
    a.store_s8(out.q);
    b.store_s8(out.q + 16);
    const float sum_low = sum(a), sum_all = sum_low + sum(b);
    out.d = most / 127.0f;
    out.sum = out.d * sum_all;
    const bool numbers = sum_all == sum_all;  // otherwise d or sum is none either, and so is what they multiply
    out.minus = numbers ? -static_cast<int32_t>(sum_all) : 0;
    out.minus_low = numbers ? -static_cast<int32_t>(sum_low) : 0;
}

// Rows [r0, r1) of x (…, cols) as int8, row r at q + r · q_stride; the columns up to a multiple of 256 are zeros.
inline void quantize_rows(const float* x, int64_t stride, int r0, int r1, int cols, Quantized* q, int64_t q_stride) {
    for (int r = r0; r < r1; ++r) {
        const float* row = x + r * stride;
        Quantized* out = q + r * q_stride;
        const int64_t whole = cols / 32, all = quantized_blocks(cols);
        for (int64_t b = 0; b < whole; ++b) quantize(row + 32 * b, out[b]);
        if (whole == all) continue;
        alignas(64) float rest[32] = {};
        memcpy(rest, row + 32 * whole, static_cast<size_t>(cols % 32) * sizeof(float));
        quantize(rest, out[whole]);
        if (all > whole + 1) memset(out + whole + 1, 0, static_cast<size_t>(all - whole - 1) * sizeof(Quantized));
    }
}

constexpr bool PAIRED = VT_IS(VT_ISA) == 3;  // has instructions for pairs of bfloat16, on some processors

// Rows [r0, r1) of x as bfloat16, with a zero after an odd number of columns.
inline void round_rows(const float* x, int64_t stride, int r0, int r1, int cols, uint16_t* b, int64_t b_stride) {
    for (int r = r0; r < r1; ++r) {
        const float* row = x + r * stride;
        uint16_t* out = b + r * b_stride;
        int k = 0;
        for (; k + LANES <= cols; k += LANES) F::load(row + k).store_bf16(out + k);
        for (; k < bfloat_cols(cols); ++k) out[k] = k < cols ? to_bfloat(row[k]) : 0;
    }
}

// Rows at a time where fewer are left.
constexpr int fewer(int rows) { return rows > 8 ? 8 : rows > 4 ? 4 : rows / 2; }

constexpr int TILE_ROWS = 48;  // rows of x whose results wait for `done`

// Where a kernel works: one or two panels, all columns, rows [r0, r1) of x → out (panel, TILE_ROWS, 16).
struct PanelTile {
    const uint8_t* w;
    int64_t panel_bytes;
    int panels, cols, r0, r1;
    bool first;  // whether these are the first rows, for which the panels come from memory
    float* out;

    VT_INLINE PanelTile panel(int p) const {
        return {w + p * panel_bytes, panel_bytes, 1, cols, r0, r1, first, out + p * TILE_ROWS * LANES};
    }
};

// One for each format: those of floats, then the integer ones.
using Kernel = void (*)(const PanelTile&, const Input&);
extern const Kernel FLOAT_KERNELS[Q8], INTEGER_KERNELS[FORMATS - Q8];  // matmul_float.cpp, matmul_integer.cpp

// Weights are asked for so many bytes before they are read: about what comes from memory in the time of one access.
constexpr int64_t AHEAD = 8 << 10;

constexpr int64_t NEAR_BYTES = 256 << 10;  // of x, which each panel meets again: they stay in the second cache

// Panels [p0, p1) of a copy with all rows of x, two panels at a time: done(first panel, tile).
template <class Done> VT_INLINE void each_tile(const Matrix& m, int copy, const Input& in, int p0, int p1, Done done) {
    alignas(64) float out[2 * TILE_ROWS * LANES];
    const int64_t row_bytes = m.cols * (FORMAT[m.format].integer ? sizeof(Quantized) / 32.0 : sizeof(float));
    const int near = static_cast<int>(NEAR_BYTES / (row_bytes + 1) / TILE_ROWS + 1) * TILE_ROWS;
    const Kernel kernel = m.format < Q8 ? FLOAT_KERNELS[m.format] : INTEGER_KERNELS[m.format - Q8];
    for (int n0 = 0; n0 < in.n; n0 += near) {
        const int n1 = least(in.n, n0 + near);
        for (int p = p0; p < p1; p += 2) {
            for (int r0 = n0; r0 < n1; r0 += TILE_ROWS) {
                const int r1 = least(n1, r0 + TILE_ROWS), n = least(2, p1 - p);
                const PanelTile t{panel(m, copy, p), panel_bytes(m.format, m.cols), n, m.cols, r0, r1, r0 == n0, out};
                kernel(t, in);
                done(p, t);
            }
        }
    }
}

// done(panel, row, F) for panels [p0, p1) of a copy and all rows of x.
template <class Done>
VT_INLINE void matmul_panels(const Matrix& m, int copy, const Input& in, int p0, int p1, Done done) {
    each_tile(m, copy, in, p0, p1, [&](int p, const PanelTile& t) {
        for (int i = 0; i < t.panels; ++i)
            for (int r = t.r0; r < t.r1; ++r) done(p + i, r, F::load(t.panel(i).out + (r - t.r0) * LANES));
    });
}
// done(pair, row, F gate, F up) where panels of two matrices alternate: pair i is panels 2i and 2i + 1.
template <class Done>
VT_INLINE void matmul_pairs(const Matrix& m, int copy, const Input& in, int pair0, int pair1, Done done) {
    each_tile(m, copy, in, 2 * pair0, 2 * pair1, [&](int p, const PanelTile& t) {
        for (int r = t.r0; r < t.r1; ++r) {
            const float* gate = t.out + (r - t.r0) * LANES;
            done(p / 2, r, F::load(gate), F::load(gate + TILE_ROWS * LANES));
        }
    });
}

}  // namespace VT_ISA
}  // namespace vt
