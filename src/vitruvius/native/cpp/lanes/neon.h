// Four registers of 4 floats: Arm's Advanced SIMD; with sdot where the compiler may use it.
#pragma once
#include <arm_neon.h>

#include <cstring>

namespace vt {
namespace VT_ISA {

using V = float32x4_t;  // L floats
using VI = int32x4_t;   // L int32
using VB = uint8x16_t;  // L rows of 4 bytes
constexpr int L = 4;
constexpr int REGISTERS = 32;

VT_INLINE V vload(const float* p) { return vld1q_f32(p); }
VT_INLINE void vstore(float* p, V a) { vst1q_f32(p, a); }
VT_INLINE V vset(float a) { return vdupq_n_f32(a); }
VT_INLINE V vfma(V a, V b, V c) { return vfmaq_f32(c, a, b); }  // a · b + c
VT_INLINE V vmin(V a, V b) { return vminq_f32(a, b); }
VT_INLINE V vmax(V a, V b) { return vmaxq_f32(a, b); }
VT_INLINE V vsqrt(V a) { return vsqrtq_f32(a); }
VT_INLINE V vround(V a) { return vrndnq_f32(a); }
VT_INLINE V vselect_less(V a, V b, V yes, V no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
VT_INLINE float vsum(V a) { return vaddvq_f32(a); }
VT_INLINE float vmaximum(V a) { return vmaxvq_f32(a); }

VT_INLINE VI viset(int32_t a) { return vdupq_n_s32(a); }
VT_INLINE VI viadd(VI a, VI b) { return vaddq_s32(a, b); }
VT_INLINE VI visub(VI a, VI b) { return vsubq_s32(a, b); }
VT_INLINE VI viand(VI a, VI b) { return vandq_s32(a, b); }
VT_INLINE VI vior(VI a, VI b) { return vorrq_s32(a, b); }
VT_INLINE VI vimax(VI a, VI b) { return vmaxq_s32(a, b); }
template <int n> VT_INLINE VI vishl(VI a) { return vshlq_n_s32(a, n); }
template <int n> VT_INLINE VI vishr(VI a) { return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), n)); }
VT_INLINE VI vbits(V a) { return vreinterpretq_s32_f32(a); }
VT_INLINE V vfrombits(VI a) { return vreinterpretq_f32_s32(a); }
VT_INLINE VI vtoint(V a) { return vcvtnq_s32_f32(a); }  // to nearest even
VT_INLINE V vfromint(VI a) { return vcvtq_f32_s32(a); }
VT_INLINE VI viload(const int32_t* p) { return vld1q_s32(p); }
VT_INLINE void vistore(int32_t* p, VI a) { vst1q_s32(p, a); }

VT_INLINE V vload_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
VT_INLINE void vstore_f16(uint16_t* p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
VT_INLINE VI viload_u16(const uint16_t* p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
VT_INLINE void vistore_u16(uint16_t* p, VI a) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(a))); }
VT_INLINE VI viload_u8(const uint8_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
VT_INLINE VI viload_s8(const int8_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
VT_INLINE void vistore_s8(int8_t* p, VI a) {
    const int8x8_t bytes = vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(a)));
    memcpy(p, &bytes, 4);
}

VT_INLINE VB vbload(const uint8_t* p) { return vld1q_u8(p); }
VT_INLINE VB vbset(uint8_t a) { return vdupq_n_u8(a); }
template <int n> VT_INLINE VB vbshl(VB a) { return vshlq_n_u8(a, n); }
template <int n> VT_INLINE VB vbshr(VB a) {
    if constexpr (n == 0) return a;
    else return vshrq_n_u8(a, n);
}
VT_INLINE VB vbtable(const uint8_t table[16], VB places) { return vqtbl1q_u8(vld1q_u8(table), places); }

// sum + Σ over 4 columns of codes · x, for each row.
VT_INLINE VI vdot4(VI sum, int8x16_t codes, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(four));
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, codes, xs);
#else  // sums of two products are at most 2 · 128 · 127 and fit into int16
    const int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(xs)), high = vmull_high_s8(codes, xs);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}
// The same over the n groups from `first` on, for W panels; codes are at most `most`.
template <int most, int first, int n, int W>
VT_INLINE void vdot(VI (&sum)[W], const VB (&codes)[W][8], const int8_t* x) {
    static_assert(most < 128, "codes are read as signed");
    VT_EACH (p, W)
        VT_EACH (j, n) sum[p] = vdot4(sum[p], vreinterpretq_s8_u8(codes[p][first + j]), x + 4 * j);
}
VT_INLINE VB vsigned(VB codes) { return codes; }
template <int W> VT_INLINE void vdot_signed(VI (&sum)[W], const VB (&codes)[W][8], const Quantized& x) {
    VT_EACH (p, W) sum[p] = viset(0);
    vdot<127, 0, 8>(sum, codes, x.q);
}

}  // namespace VT_ISA
}  // namespace vt
