// Arm's Advanced SIMD; with sdot where the compiler may use it.
#pragma once
#include <arm_neon.h>

#include "vectors.h"

namespace vt {
namespace VT_ISA {

VT_INLINE V vfma(V a, V b, V c) { return vfmaq_f32(c, a, b); }  // a · b + c
VT_INLINE V vload_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
VT_INLINE void vstore_f16(uint16_t* p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) { return vqtbl1q_u8(vld1q_u8(table), places); }

// sum + Σ over 4 columns of codes · x, for each row.
VT_INLINE VI vdot4(VI sum, int8x16_t codes, const int8_t* x) {
    const auto xs = int8x16_t(vfour(x));
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, codes, xs);
#else  // sums of two products are at most 2 · 128 · 127 and fit into int16
    const int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(xs)), high = vmull_high_s8(codes, xs);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}
// sum[row][panel] += Σ over the n groups from `first` on of codes · x, for rows of x that are `stride` apart; codes are at
// most `most`.
template <int most, int first, int n, int rows, int W>
VT_INLINE void vdot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    static_assert(most < 128, "codes are read as signed");
    VT_EACH (r, rows)
        VT_EACH (p, W) VT_UNROLL
            for (int j = first; j < first + n; ++j)
                sum[r][p] = vdot4(sum[r][p], int8x16_t(codes[p][j]), x[r * stride].q + 4 * j);
}
// All 32 columns of signed codes (Q8).
VT_INLINE VB vsigned(VB codes) { return codes; }
template <int rows, int W>
VT_INLINE void vdot_signed(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    VT_EACH (r, rows)
        VT_EACH (p, W) sum[r][p] = viset(0);
    vdot<127, 0, 8>(sum, codes, x, stride);
}

}  // namespace VT_ISA
}  // namespace vt
