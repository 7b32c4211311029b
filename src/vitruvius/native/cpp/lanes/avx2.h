// Two registers of 8 floats: AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include <cstring>

namespace vt {
namespace VT_ISA {

using V = __m256;    // L floats
using VI = __m256i;  // L int32
using VB = __m256i;  // L rows of 4 bytes
constexpr int L = 8;
constexpr int REGISTERS = 16;

VT_INLINE V vload(const float* p) { return _mm256_loadu_ps(p); }
VT_INLINE void vstore(float* p, V a) { _mm256_storeu_ps(p, a); }
VT_INLINE V vset(float a) { return _mm256_set1_ps(a); }
VT_INLINE V vfma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }  // a · b + c
VT_INLINE V vmin(V a, V b) { return _mm256_min_ps(a, b); }
VT_INLINE V vmax(V a, V b) { return _mm256_max_ps(a, b); }
VT_INLINE V vsqrt(V a) { return _mm256_sqrt_ps(a); }
VT_INLINE V vround(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VT_INLINE V vselect_less(V a, V b, V yes, V no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
VT_INLINE float vsum(V a) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
VT_INLINE float vmaximum(V a) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

VT_INLINE VI viset(int32_t a) { return _mm256_set1_epi32(a); }
VT_INLINE VI viadd(VI a, VI b) { return _mm256_add_epi32(a, b); }
VT_INLINE VI visub(VI a, VI b) { return _mm256_sub_epi32(a, b); }
VT_INLINE VI viand(VI a, VI b) { return _mm256_and_si256(a, b); }
VT_INLINE VI vior(VI a, VI b) { return _mm256_or_si256(a, b); }
VT_INLINE VI vimax(VI a, VI b) { return _mm256_max_epi32(a, b); }
template <int n> VT_INLINE VI vishl(VI a) { return _mm256_slli_epi32(a, n); }
template <int n> VT_INLINE VI vishr(VI a) { return _mm256_srli_epi32(a, n); }
VT_INLINE VI vbits(V a) { return _mm256_castps_si256(a); }
VT_INLINE V vfrombits(VI a) { return _mm256_castsi256_ps(a); }
VT_INLINE VI vtoint(V a) { return _mm256_cvtps_epi32(a); }  // to nearest even
VT_INLINE V vfromint(VI a) { return _mm256_cvtepi32_ps(a); }
VT_INLINE VI viload(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
VT_INLINE void vistore(int32_t* p, VI a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }

VT_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
VT_INLINE V vload_f16(const uint16_t* p) { return _mm256_cvtph_ps(load128(p)); }
VT_INLINE void vstore_f16(uint16_t* p, V a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VT_INLINE VI viload_u16(const uint16_t* p) { return _mm256_cvtepu16_epi32(load128(p)); }
VT_INLINE void vistore_u16(uint16_t* p, VI a) {  // values below 2^16
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, a), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
VT_INLINE VI viload_u8(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
VT_INLINE VI viload_s8(const int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
VT_INLINE void vistore_s8(int8_t* p, VI a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

// Bytes of weights: shifts go over pairs of bytes, so a mask must follow.
VT_INLINE VB vbload(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
VT_INLINE VB vbset(uint8_t a) { return _mm256_set1_epi8(static_cast<char>(a)); }
template <int n> VT_INLINE VB vbshl(VB a) { return _mm256_slli_epi16(a, n); }
template <int n> VT_INLINE VB vbshr(VB a) { return _mm256_srli_epi16(a, n); }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table)), places);
}
VT_INLINE VI vbbroadcast(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

// sum + Σ over the n groups from `first` on of codes · x (which has only those), for each row of W panels.
// Codes are at most `most`. maddubs gives sums of two products in int16; as many of them are added there as surely fit,
// |x| being at most 127.
template <int most, int first, int n, int W>
VT_INLINE void vdot(VI (&sum)[W], const VB (&codes)[W][8], const int8_t* x) {
    constexpr int fit = 32767 / (2 * 127 * most), step = fit < 4 ? 2 : fit < 8 ? 4 : 8;
    static_assert(fit > 1 && n % step == 0, "maddubs would saturate");
    VT_EACH (p, W) {
        VT_UNROLL for (int j = 0; j < n; j += step) {
            VI words = _mm256_maddubs_epi16(codes[p][first + j], vbbroadcast(x + 4 * j));
            VT_UNROLL for (int i = j + 1; i < j + step; ++i)
                words = _mm256_add_epi16(words, _mm256_maddubs_epi16(codes[p][first + i], vbbroadcast(x + 4 * i)));
            sum[p] = viadd(sum[p], _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
        }
    }
}
// All 32 columns of signed codes (Q8): |code| · (x with the code's sign), at most 128 · 127 · 2 in int16.
VT_INLINE VB vsigned(VB codes) { return codes; }
template <int W> VT_INLINE void vdot_signed(VI (&sum)[W], const VB (&codes)[W][8], const Quantized& x) {
    VT_EACH (p, W) {
        sum[p] = viset(0);
        VT_EACH (j, 8) {
            const VI signs = _mm256_sign_epi8(vbbroadcast(x.q + 4 * j), codes[p][j]);
            const VI words = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[p][j]), signs);
            sum[p] = viadd(sum[p], _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
        }
    }
}

}  // namespace VT_ISA
}  // namespace vt
