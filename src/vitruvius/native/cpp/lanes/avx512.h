// One register of 16 floats: AVX-512 (F, BW, DQ, VL) with VNNI. Only what `has_bfloat_pairs` guards uses AVX512_BF16.
#pragma once
#include <immintrin.h>

#include <cstring>

namespace vt {
namespace VT_ISA {

using V = __m512;    // L floats
using VI = __m512i;  // L int32
using VB = __m512i;  // L rows of 4 bytes
constexpr int L = 16;
constexpr int REGISTERS = 32;

VT_INLINE V vload(const float* p) { return _mm512_loadu_ps(p); }
VT_INLINE void vstore(float* p, V a) { _mm512_storeu_ps(p, a); }
VT_INLINE V vset(float a) { return _mm512_set1_ps(a); }
VT_INLINE V vfma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }  // a · b + c
VT_INLINE V vmin(V a, V b) { return _mm512_min_ps(a, b); }
VT_INLINE V vmax(V a, V b) { return _mm512_max_ps(a, b); }
VT_INLINE V vsqrt(V a) { return _mm512_sqrt_ps(a); }
VT_INLINE V vround(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VT_INLINE V vselect_less(V a, V b, V yes, V no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
VT_INLINE float vsum(V a) { return _mm512_reduce_add_ps(a); }
VT_INLINE float vmaximum(V a) { return _mm512_reduce_max_ps(a); }

VT_INLINE VI viset(int32_t a) { return _mm512_set1_epi32(a); }
VT_INLINE VI viadd(VI a, VI b) { return _mm512_add_epi32(a, b); }
VT_INLINE VI visub(VI a, VI b) { return _mm512_sub_epi32(a, b); }
VT_INLINE VI viand(VI a, VI b) { return _mm512_and_si512(a, b); }
VT_INLINE VI vior(VI a, VI b) { return _mm512_or_si512(a, b); }
VT_INLINE VI vimax(VI a, VI b) { return _mm512_max_epi32(a, b); }
template <int n> VT_INLINE VI vishl(VI a) { return _mm512_slli_epi32(a, n); }
template <int n> VT_INLINE VI vishr(VI a) { return _mm512_srli_epi32(a, n); }
VT_INLINE VI vbits(V a) { return _mm512_castps_si512(a); }
VT_INLINE V vfrombits(VI a) { return _mm512_castsi512_ps(a); }
VT_INLINE VI vtoint(V a) { return _mm512_cvtps_epi32(a); }  // to nearest even
VT_INLINE V vfromint(VI a) { return _mm512_cvtepi32_ps(a); }
VT_INLINE VI viload(const int32_t* p) { return _mm512_loadu_si512(p); }
VT_INLINE void vistore(int32_t* p, VI a) { _mm512_storeu_si512(p, a); }

VT_INLINE V vload_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
VT_INLINE void vstore_f16(uint16_t* p, V a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VT_INLINE VI viload_u16(const uint16_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
VT_INLINE void vistore_u16(uint16_t* p, VI a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a));
}
VT_INLINE VI viload_u8(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
VT_INLINE VI viload_s8(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
VT_INLINE void vistore_s8(int8_t* p, VI a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a)); }

// sum + two products of bfloat16 in each lane.
VT_INLINE V vdot_pairs(V sum, VI a, VI b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// Bytes of weights: shifts go over pairs of bytes, so a mask must follow.
VT_INLINE VB vbload(const uint8_t* p) { return _mm512_loadu_si512(p); }
VT_INLINE VB vbset(uint8_t a) { return _mm512_set1_epi8(static_cast<char>(a)); }
template <int n> VT_INLINE VB vbshl(VB a) { return _mm512_slli_epi16(a, n); }
template <int n> VT_INLINE VB vbshr(VB a) { return _mm512_srli_epi16(a, n); }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
                               places);
}
VT_INLINE VI vbbroadcast(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

// sum + Σ over the n groups from `first` on of codes · x (which has only those), for each row of W panels.
// Codes are at most `most`.
template <int most, int first, int n, int W>
VT_INLINE void vdot(VI (&sum)[W], const VB (&codes)[W][8], const int8_t* x) {
    VT_EACH (j, n) {
        const VI four = vbbroadcast(x + 4 * j);
        VT_EACH (p, W) sum[p] = _mm512_dpbusd_epi32(sum[p], codes[p][first + j], four);
    }
}
// All 32 columns of signed codes (Q8), as vsigned has prepared them for all rows of x. dpbusd wants unsigned ones: 128
// is added to the codes, and 128 · Σ x taken off.
VT_INLINE VB vsigned(VB codes) { return _mm512_xor_si512(codes, _mm512_set1_epi8(-128)); }
template <int W> VT_INLINE void vdot_signed(VI (&sum)[W], const VB (&codes)[W][8], const Quantized& x) {
    VT_EACH (p, W) sum[p] = _mm512_slli_epi32(_mm512_set1_epi32(x.minus), 7);
    vdot<255, 0, 8>(sum, codes, x.q);
}

}  // namespace VT_ISA
}  // namespace vt
