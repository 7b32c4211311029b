// Products of packed matrices with rows of activations: y = x Wᵀ, 16 outputs (a panel) to a register.
//
//   panel p            block of columns →          sums, in registers
//   row 16p      | lane 0  : w w w w …            x row 0 | 16 outputs |
//   row 16p + 1  | lane 1  : w w w w …      ×     x row 1 | 16 outputs |
//   …            |                                …
//   row 16p + 15 | lane 15 : w w w w …            one number of x goes to all lanes, so nothing is summed across lanes
//
// One panel, or two side by side, meets a tile of rows of x along all columns; then the next tile meets the same panel,
// which is in the cache by then. One row of x is decoding: the panel is read once, ahead of its use.
#pragma once

#include "codes.h"

namespace vt {
namespace VT_ISA {

constexpr int AHEAD = 2048;  // bytes between reading weights and asking for those to come

// 32 activations as int8: d = max |x| / 127.
VT_INLINE void quantize(const float* x, Quantized& out) {
    const F low = F::load(x), high = F::load(x + 16);
    const float most = maximum(fmax(fabs(low), fabs(high)));
    const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
    const F a = fround(low * inverse), b = fround(high * inverse);
    a.store_s8(out.q);
    b.store_s8(out.q + 16);
    const float sum_low = sum(a), sum_all = sum_low + sum(b);
    out.d = most / 127.0f;
    out.sum = out.d * sum_all;
    out.minus = -static_cast<int32_t>(sum_all);
    out.minus_low = -static_cast<int32_t>(sum_low);
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

// Two columns of a panel of floats.
template <Format f> VT_INLINE void two_columns(const uint8_t* block, int part, V& even, V& odd);
template <> VT_INLINE void two_columns<F32>(const uint8_t* p, int part, V& even, V& odd) {
    even = vload(reinterpret_cast<const float*>(p) + part * L);
    odd = vload(reinterpret_cast<const float*>(p) + 16 + part * L);
}
template <> VT_INLINE void two_columns<F16>(const uint8_t* p, int part, V& even, V& odd) {
    even = halves(p, part);
    odd = halves(p + 32, part);
}
template <> VT_INLINE void two_columns<BF16>(const uint8_t* p, int part, V& even, V& odd) {
    const VI pairs = viload(reinterpret_cast<const int32_t*>(p) + part * L);
    even = vfrombits(vishl<16>(pairs));
    odd = vfrombits(viand(pairs, viset(static_cast<int32_t>(0xFFFF0000))));
}
template <Format f> VT_INLINE V one_column(const uint8_t* p, int part) {
    if constexpr (f == F32) return vload(reinterpret_cast<const float*>(p) + part * L);
    if constexpr (f == F16) return halves(p, part);
    V even, odd;
    two_columns<BF16>(p, part, even, odd);
    return even;
}

// W panels with `rows` rows of x, from row r0: out[panel · out_stride + row · 16].
template <Format f, int W, int rows>
VT_INLINE void float_tile(const uint8_t* const w0, int64_t panel_bytes, int cols, const Input& in, int r0, float* out, int64_t out_stride) {
    constexpr int chains = W * rows * PARTS < 8 ? 2 : 1;  // even and odd columns apart where the sums are few
    constexpr int two = f == F32 ? 128 : 64;              // bytes of two columns
    V sum[W][rows][PARTS][chains] = {};
    const float* x = in.x + r0 * in.stride;
    const int64_t stride = in.stride;
    const uint8_t* w = w0;
    int k = 0;
    for (; k + 1 < cols; k += 2, w += two) {
        if constexpr (rows <= 8) {
            VT_UNROLL for (int p = 0; p < W; ++p)
                VT_UNROLL for (int line = 0; line < two; line += 64) prefetch(w + p * panel_bytes + AHEAD + line);
        }
        VT_UNROLL for (int i = 0; i < PARTS; ++i) {
            V even[W], odd[W];
            VT_UNROLL for (int p = 0; p < W; ++p) two_columns<f>(w + p * panel_bytes, i, even[p], odd[p]);
            VT_UNROLL for (int r = 0; r < rows; ++r) {
                const V x0 = vset(x[r * stride + k]);
                VT_UNROLL for (int p = 0; p < W; ++p) sum[p][r][i][0] = vfma(even[p], x0, sum[p][r][i][0]);
            }
            VT_UNROLL for (int r = 0; r < rows; ++r) {
                const V x1 = vset(x[r * stride + k + 1]);
                VT_UNROLL for (int p = 0; p < W; ++p) sum[p][r][i][chains - 1] = vfma(odd[p], x1, sum[p][r][i][chains - 1]);
            }
        }
    }
    VT_UNROLL for (int p = 0; p < W; ++p) {
        VT_UNROLL for (int r = 0; r < rows; ++r) {
            VT_UNROLL for (int i = 0; i < PARTS; ++i) {
                V s = sum[p][r][i][0];
                if constexpr (chains == 2) s = s + sum[p][r][i][1];
                if (k < cols) s = vfma(one_column<f>(w + p * panel_bytes, i), vset(x[r * stride + k]), s);
                vstore(out + p * out_stride + r * LANES + i * L, s);
            }
        }
    }
}

// One panel of an integer format with `rows` rows of x.
template <Format f, int rows>
VT_INLINE void integer_tile(const uint8_t* w, int64_t blocks, const Input& in, int r0, float* out) {
    constexpr int bytes = FORMAT[f].bytes, subs = FORMAT[f].cols / 32;
    V sum[rows][PARTS] = {};
    const Quantized* x = in.q + r0 * in.q_stride;
    for (int64_t b = 0; b < blocks; ++b, w += bytes) {
        for (int i = 0; i < subs; ++i, ++x) {
            if constexpr (rows <= 8) {
                VT_UNROLL for (int line = 0; line < bytes / subs; line += 64) prefetch(w + i * (bytes / subs) + AHEAD + line);
            }
            VT_UNROLL for (int part = 0; part < PARTS; ++part) {
                const Columns<f> columns(w, i, part);
                VT_UNROLL for (int r = 0; r < rows; ++r) sum[r][part] = columns.add(sum[r][part], x[r * in.q_stride]);
            }
        }
    }
    VT_UNROLL for (int r = 0; r < rows; ++r)
        VT_UNROLL for (int part = 0; part < PARTS; ++part) vstore(out + r * LANES + part * L, sum[r][part]);
}

// Where a kernel works: one or two panels, all columns, rows [r0, r1) of x → out[panel · out_stride + (row − r0) · 16].
struct PanelTile {
    const uint8_t* w;
    int64_t panel_bytes;
    int panels, cols, r0, r1;
    float* out;
    int64_t out_stride;
};

// As many rows of x at a time as there are registers for their sums, then fewer.
constexpr int FLOAT_ROWS = REGISTERS == 32 ? (PARTS == 1 ? 12 : 6) : (PARTS == 2 ? 6 : 2);
constexpr int INTEGER_ROWS = PARTS < 4 ? 8 : REGISTERS == 32 ? 4 : 1;
constexpr int FLOAT_PANELS = PARTS == 1 ? 2 : 1;
constexpr int fewer(int rows) { return rows > 8 ? 8 : rows > 4 ? 4 : rows / 2; }

template <Format f, int W, int rows> VT_INLINE void float_rows(const PanelTile& t, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows)
        float_tile<f, W, rows>(t.w, t.panel_bytes, t.cols, in, r, t.out + (r - t.r0) * LANES, t.out_stride);
    if constexpr (rows > 1) float_rows<f, W, fewer(rows)>(t, in, r);
}
template <Format f> void float_kernel(const PanelTile& t, const Input& in) {
    if (t.panels == FLOAT_PANELS) return float_rows<f, FLOAT_PANELS, FLOAT_ROWS>(t, in, t.r0);
    for (int p = 0; p < t.panels; ++p) {
        const PanelTile one{t.w + p * t.panel_bytes, 0, 1, t.cols, t.r0, t.r1, t.out + p * t.out_stride, 0};
        float_rows<f, 1, FLOAT_ROWS / FLOAT_PANELS>(one, in, t.r0);
    }
}

template <Format f, int rows> VT_INLINE void integer_rows(const PanelTile& t, int p, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows)
        integer_tile<f, rows>(t.w + p * t.panel_bytes, blocks(f, t.cols), in, r, t.out + p * t.out_stride + (r - t.r0) * LANES);
    if constexpr (rows > 1) integer_rows<f, fewer(rows)>(t, p, in, r);
}
template <Format f> void integer_kernel(const PanelTile& t, const Input& in) {
    for (int p = 0; p < t.panels; ++p) integer_rows<f, INTEGER_ROWS>(t, p, in, t.r0);
}

using Kernel = void (*)(const PanelTile&, const Input&);
static constexpr Kernel KERNEL[FORMATS] = {
    float_kernel<F32>,   float_kernel<F16>,   float_kernel<BF16>,  integer_kernel<Q8>,  integer_kernel<Q4>,  integer_kernel<Q4M>,
    integer_kernel<Q5>,  integer_kernel<Q5M>, integer_kernel<Q4K>, integer_kernel<Q5K>, integer_kernel<Q6K>, integer_kernel<MXFP4>,
};

constexpr int TILE_ROWS = 48;              // rows of x whose results wait for `done`
constexpr int64_t NEAR_BYTES = 256 << 10;  // of x, which each panel meets again: they stay in the second cache

// Panels [p0, p1) of a copy with all rows of x, two panels at a time: two(panel, n, rows r0 … r1, results).
template <class Two> VT_INLINE void each_two_panels(const Matrix& m, int copy, const Input& in, int p0, int p1, Two two) {
    alignas(64) float out[2 * TILE_ROWS * LANES];
    const int64_t row_bytes = m.cols * (FORMAT[m.format].integer ? sizeof(Quantized) / 32.0 : sizeof(float));
    const int near = static_cast<int>(NEAR_BYTES / (row_bytes + 1) / TILE_ROWS + 1) * TILE_ROWS;
    PanelTile t{nullptr, panel_bytes(m.format, m.cols), 0, m.cols, 0, 0, out, TILE_ROWS * LANES};
    for (int n0 = 0; n0 < in.n; n0 += near) {
        const int n1 = n0 + near < in.n ? n0 + near : in.n;
        for (int p = p0; p < p1; p += 2) {
            t.w = panel(m, copy, p);
            t.panels = p1 - p < 2 ? 1 : 2;
            for (t.r0 = n0; t.r0 < n1; t.r0 = t.r1) {
                t.r1 = t.r0 + TILE_ROWS < n1 ? t.r0 + TILE_ROWS : n1;
                KERNEL[m.format](t, in);
                two(p, t);
            }
        }
    }
}

// done(panel, row, F) for panels [p0, p1) of a copy and all rows of x.
template <class Done> VT_INLINE void matmul_panels(const Matrix& m, int copy, const Input& in, int p0, int p1, Done done) {
    each_two_panels(m, copy, in, p0, p1, [&](int p, const PanelTile& t) {
        for (int i = 0; i < t.panels; ++i)
            for (int r = t.r0; r < t.r1; ++r) done(p + i, r, F::load(t.out + i * t.out_stride + (r - t.r0) * LANES));
    });
}
// done(pair, row, F gate, F up) where panels of two matrices alternate: pair i is panels 2i and 2i + 1.
template <class Done> VT_INLINE void matmul_pairs(const Matrix& m, int copy, const Input& in, int pair0, int pair1, Done done) {
    each_two_panels(m, copy, in, 2 * pair0, 2 * pair1, [&](int p, const PanelTile& t) {
        for (int r = t.r0; r < t.r1; ++r) {
            const float* gate = t.out + (r - t.r0) * LANES;
            done(p / 2, r, F::load(gate), F::load(gate + t.out_stride));
        }
    });
}

}  // namespace VT_ISA
}  // namespace vt
