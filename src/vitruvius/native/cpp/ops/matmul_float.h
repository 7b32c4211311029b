// Kernels of the formats of floats: each weight times a number of every row of x, in float32.
#pragma once

#include "codes.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

// Column c of two columns of a panel of floats.
template <Format f> VT_INLINE V column(const uint8_t* two, int c, int part) {
    if constexpr (f == F32) return vload(reinterpret_cast<const float*>(two) + LANES * c + part * L);
    if constexpr (f == F16) return halves(two + 32 * c, part);
    const VI pairs = viload(reinterpret_cast<const int32_t*>(two) + part * L);
    if (c == 0) return vfrombits(vishl<16>(pairs));
    if constexpr (REGISTERS == 16) return vfrombits(vishl<16>(vishr<16>(pairs)));  // no register is left for a mask
    return vfrombits(viand(pairs, viset(static_cast<int32_t>(0xFFFF0000))));
}

// W panels with `rows` rows of x, from row r0: out[panel · out_stride + row · 16]. `ahead` is as far as weights are
// asked for before they are read, or 0.
template <Format f, int W, int rows>
VT_INLINE void float_tile(const uint8_t* const w0, int64_t panel_bytes, int64_t ahead, int cols, const Input& in,
                          int r0, float* out, int64_t out_stride) {
    constexpr int chains = W * rows * PARTS < 8 ? 2 : 1;  // even and odd columns apart where the sums are few
    constexpr int two = f == F32 ? 128 : 64;              // bytes of two columns
    V sum[W][rows][PARTS][chains] = {};
    const float* x = in.x + r0 * in.stride;
    const int64_t stride = in.stride;
    const uint8_t* w = w0;
    int k = 0;
    for (; k + 1 < cols; k += 2, w += two) {
        if (ahead) {
            VT_EACH (p, W)
                VT_EACH (line, two / 64) prefetch(w + p * panel_bytes + ahead + 64 * line);
        }
        VT_EACH (c, 2) {
            V weights[W][PARTS];
            VT_EACH (p, W)
                VT_EACH (i, PARTS) weights[p][i] = column<f>(w + p * panel_bytes, c, i);
            VT_EACH (r, rows) {
                const V one = vset(x[r * stride + k + c]);
                VT_EACH (p, W)
                    VT_EACH (i, PARTS) {
                        V& s = sum[p][r][i][c % chains];
                        s = vfma(weights[p][i], one, s);
                    }
            }
        }
    }
    VT_EACH (p, W) {
        VT_EACH (r, rows) {
            VT_EACH (i, PARTS) {
                V s = sum[p][r][i][0];
                if constexpr (chains == 2) s = s + sum[p][r][i][1];
                if (k < cols) s = vfma(column<f>(w + p * panel_bytes, 0, i), vset(x[r * stride + k]), s);
                vstore(out + p * out_stride + r * LANES + i * L, s);
            }
        }
    }
}

// As many rows of x at a time as there are registers for their sums, then fewer.
constexpr int FLOAT_ROWS = REGISTERS == 32 ? (PARTS == 1 ? 12 : 6) : (PARTS == 2 ? 6 : 2);
constexpr int FLOAT_PANELS = PARTS == 1 ? 2 : 1;

template <Format f, int W, int rows> VT_INLINE void float_rows(const PanelTile& t, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows)
        float_tile<f, W, rows>(t.w, t.panel_bytes, r == t.r0 ? t.ahead : 0, t.cols, in, r, t.out + (r - t.r0) * LANES,
                               t.out_stride);
    if constexpr (rows > 1) float_rows<f, W, fewer(rows)>(t, in, r);
}
#if VT_IS(VT_ISA) == 3
// W panels of BF16 with `rows` rows of x as bfloat16, a pair of columns at a time (vdpbf16ps: sums in float32).
template <int W, int rows> VT_INLINE void pairs_tile(const PanelTile& t, const Input& in, int r0, float* out) {
    V sum[W][rows] = {};
    const uint16_t* x = in.b + r0 * in.b_stride;
    const uint8_t* w = t.w;
    const int64_t ahead = r0 == t.r0 ? t.ahead : 0;
    for (int k = 0; k < t.cols; k += 2, w += 64, x += 2) {
        VI weights[W];
        if (ahead) {
            VT_EACH (p, W) prefetch(w + p * t.panel_bytes + ahead);
        }
        VT_EACH (p, W) weights[p] = viload(reinterpret_cast<const int32_t*>(w + p * t.panel_bytes));
        VT_EACH (r, rows) {
            const VI pair = vbbroadcast(reinterpret_cast<const int8_t*>(x + r * in.b_stride));
            VT_EACH (p, W) sum[p][r] = vdot_pairs(sum[p][r], weights[p], pair);
        }
    }
    VT_EACH (p, W)
        VT_EACH (r, rows) vstore(out + p * t.out_stride + r * LANES, sum[p][r]);
}
template <int W, int rows> VT_INLINE void pairs_rows(const PanelTile& t, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows) pairs_tile<W, rows>(t, in, r, t.out + (r - t.r0) * LANES);
    if constexpr (rows > 1) pairs_rows<W, fewer(rows)>(t, in, r);
}
#endif

template <Format f> void float_kernel(const PanelTile& t, const Input& in) {
#if VT_IS(VT_ISA) == 3
    if (f == BF16 && in.b) return t.panels == 2 ? pairs_rows<2, 12>(t, in, t.r0) : pairs_rows<1, 12>(t, in, t.r0);
#endif
    if (t.panels == FLOAT_PANELS && !t.few()) return float_rows<f, FLOAT_PANELS, FLOAT_ROWS>(t, in, t.r0);
    for (int p = 0; p < t.panels; ++p) float_rows<f, 1, FLOAT_ROWS / FLOAT_PANELS>(t.single(p), in, t.r0);
}

}  // namespace VT_ISA
}  // namespace vt
