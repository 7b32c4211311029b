// AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include "vectors.h"

namespace vt {
namespace VT_ISA {

VT_INLINE V vfma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }  // a · b + c
VT_INLINE V vload_f16(const uint16_t* p) { return _mm256_cvtph_ps(vload<__m128i>(p)); }
VT_INLINE void vstore_f16(uint16_t* p, V a) { vstore(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    return VB(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(vload<__m128i>(table)), __m256i(places)));
}
VT_INLINE VI vwiden(const int8_t* p) { return VI(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(vload<int64_t>(p)))); }
VT_INLINE VI vwiden(const uint8_t* p) { return VI(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(vload<int64_t>(p)))); }
VT_INLINE VI vwiden(const uint16_t* p) { return VI(_mm256_cvtepu16_epi32(vload<__m128i>(p))); }
VT_INLINE void vnarrow(uint16_t* p, VI a) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(__m256i(a), __m256i(a)), 0x08);
    vstore(p, _mm256_castsi256_si128(packed));
}
VT_INLINE void vnarrow(int8_t* p, VI a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(__m256i(a)), _mm256_extracti128_si256(__m256i(a), 1));
    vstore(p, _mm_cvtsi128_si64(_mm_packs_epi16(words, words)));
}

// Sums of two products in int16, and of two of those in int32.
VT_INLINE __m256i pairs(VI a, VI b) { return _mm256_maddubs_epi16(__m256i(a), __m256i(b)); }
VT_INLINE VI fours(__m256i pairs) { return VI(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }

// sum[row][panel] += Σ over the n groups from `first` on of codes · x, for rows of x that are `stride` apart; codes are at
// most `most`. As many pairs are added in int16 as surely fit, |x| being at most 127.
template <int most, int first, int n, int rows, int W>
VT_INLINE void vdot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    constexpr int fit = 32767 / (2 * 127 * most), step = fit < 4 ? 2 : fit < 8 ? 4 : 8;
    static_assert(fit > 1 && n % step == 0, "maddubs would saturate");
    VT_EACH (r, rows) {
        const int8_t* const q = x[r * stride].q;
        VT_EACH (p, W) {
            VT_UNROLL for (int j = first; j < first + n; j += step) {
                __m256i words = pairs(VI(codes[p][j]), vfour(q + 4 * j));
                VT_UNROLL for (int i = j + 1; i < j + step; ++i)
                    words = _mm256_add_epi16(words, pairs(VI(codes[p][i]), vfour(q + 4 * i)));
                sum[r][p] += fours(words);
            }
        }
    }
}
// All 32 columns of signed codes (Q8): |code| · (x with the code's sign), at most 128 · 127 · 2 in int16.
VT_INLINE VB vsigned(VB codes) { return codes; }
template <int rows, int W>
VT_INLINE void vdot_signed(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    VT_EACH (r, rows)
        VT_EACH (p, W) {
            sum[r][p] = viset(0);
            VT_EACH (j, 8) {
                const auto code = __m256i(codes[p][j]), four = __m256i(vfour(x[r * stride].q + 4 * j));
                sum[r][p] += fours(pairs(VI(_mm256_abs_epi8(code)), VI(_mm256_sign_epi8(four, code))));
            }
        }
}

}  // namespace VT_ISA
}  // namespace vt
