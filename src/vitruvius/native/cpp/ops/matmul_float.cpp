// Kernels of the formats of floats: each weight times a number of every row of x, in float32.
#include "codes.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

// Column c of two columns of a panel of floats.
template <Format f> VT_INLINE V column(const uint8_t* two, int c, int part) {
    if constexpr (f == F32) return vload<V>(two + 64 * c + part * L * 4);
    if constexpr (f == F16) return halves(two + 32 * c, part);
    const VU pairs = vload<VU>(two + part * L * 4);
    if (c == 0) return vfrombits(pairs << 16);
#if VT_IS(VT_ISA) == 2  // where no register is left for a mask
    return V(_mm256_slli_epi32(_mm256_srli_epi32(__m256i(pairs), 16), 16));
#else
    return vfrombits(pairs & 0xFFFF0000);
#endif
}

// W panels with `rows` rows of x, from row r0 on. The first ask for weights ahead: two panels are read in turn, so that
// what comes next are those after them.
template <Format f, int W, int rows> VT_INLINE void float_tile(const PanelTile& t, const Input& in, int r0) {
    constexpr int chains = W * rows * PARTS < 8 ? 2 : 1;  // even and odd columns apart where the sums are few
    constexpr int two = f == F32 ? 128 : 64;              // bytes of two columns
    V sum[W][rows][PARTS][chains] = {};
    const int64_t ahead = W == 1 ? AHEAD : W * t.panel_bytes;
    const bool first = t.first && r0 == t.r0;
    const float* x = in.x + r0 * in.stride;
    const uint8_t* w = t.w;
    int k = 0;
    for (; k + 1 < t.cols; k += 2, w += two) {
        for (int line = 0; first && line < two; line += 64)
            VT_EACH (p, W) prefetch(w + p * t.panel_bytes + ahead + line);
        VT_EACH (c, 2) {
            V weights[W][PARTS];
            VT_EACH (p, W)
                VT_EACH (i, PARTS) weights[p][i] = column<f>(w + p * t.panel_bytes, c, i);
            VT_EACH (r, rows) {
                const V one = vset(x[r * in.stride + k + c]);
                VT_EACH (p, W)
                    VT_EACH (i, PARTS) sum[p][r][i][c % chains] = vfma(weights[p][i], one, sum[p][r][i][c % chains]);
            }
        }
    }
    VT_EACH (p, W)
        VT_EACH (r, rows)
            VT_EACH (i, PARTS) {
                V s = sum[p][r][i][0];
                if constexpr (chains == 2) s = s + sum[p][r][i][1];
                if (k < t.cols) s = vfma(column<f>(w + p * t.panel_bytes, 0, i), vset(x[r * in.stride + k]), s);
                vstore(t.panel(p).out + (r0 - t.r0 + r) * LANES + i * L, s);
            }
}

#if VT_IS(VT_ISA) == 3
// The same for BF16 with rows of x as bfloat16, a pair of columns at a time (vdpbf16ps: sums in float32).
template <int W, int rows> VT_INLINE void pairs_tile(const PanelTile& t, const Input& in, int r0) {
    V sum[W][rows] = {};
    const int64_t ahead = W == 1 ? AHEAD : W * t.panel_bytes;
    const bool first = t.first && r0 == t.r0;
    const uint16_t* x = in.b + r0 * in.b_stride;
    const uint8_t* w = t.w;
    for (int k = 0; k < t.cols; k += 2, w += 64, x += 2) {
        VI weights[W];
        VT_EACH (p, W) {
            if (first) prefetch(w + p * t.panel_bytes + ahead);
            weights[p] = vload<VI>(w + p * t.panel_bytes);
        }
        VT_EACH (r, rows) {
            const VI pair = vfour(x + r * in.b_stride);
            VT_EACH (p, W) sum[p][r] = vdot_pairs(sum[p][r], weights[p], pair);
        }
    }
    VT_EACH (p, W)
        VT_EACH (r, rows) vstore(t.panel(p).out + (r0 - t.r0 + r) * LANES, sum[p][r]);
}
#endif

// As many rows of x at a time as there are registers for their sums, then fewer.
constexpr int FLOAT_ROWS = PARTS == 1 ? 12 : REGISTERS == 32 || PARTS == 2 ? 6 : 2;
constexpr int FLOAT_PANELS = PARTS == 1 ? 2 : 1;

template <Format f, int W, int rows> VT_INLINE void float_rows(const PanelTile& t, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows) {
#if VT_IS(VT_ISA) == 3
        if (f == BF16 && in.b) pairs_tile<W, rows>(t, in, r);
        else
#endif
            float_tile<f, W, rows>(t, in, r);
    }
    if constexpr (rows > 1) float_rows<f, W, fewer(rows)>(t, in, r);
}

// Few rows are slower to read weights for than to compute: they take one panel after the other, as they lie in memory.
template <Format f> void float_kernel(const PanelTile& t, const Input& in) {
    if (t.panels == FLOAT_PANELS && t.r1 - t.r0 > 8) return float_rows<f, FLOAT_PANELS, FLOAT_ROWS>(t, in, t.r0);
    for (int p = 0; p < t.panels; ++p) float_rows<f, 1, FLOAT_ROWS>(t.panel(p), in, t.r0);
}

const Kernel FLOAT_KERNELS[Q8] = {float_kernel<F32>, float_kernel<F16>, float_kernel<BF16>};

}  // namespace VT_ISA
}  // namespace vt
