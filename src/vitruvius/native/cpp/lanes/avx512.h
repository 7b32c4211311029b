// AVX-512 (F, BW, DQ, VL) with VNNI. Only what `has_bfloat_pairs` guards uses AVX512_BF16.
#pragma once
#include <immintrin.h>

#include "vectors.h"

namespace vt {
namespace VT_ISA {

VT_INLINE V vfma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }  // a · b + c
VT_INLINE V vload_f16(const uint16_t* p) { return _mm512_cvtph_ps(vload<__m256i>(p)); }
VT_INLINE void vstore_f16(uint16_t* p, V a) { vstore(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
VT_INLINE VI vwiden(const int8_t* p) { return VI(_mm512_cvtepi8_epi32(vload<__m128i>(p))); }
VT_INLINE VI vwiden(const uint8_t* p) { return VI(_mm512_cvtepu8_epi32(vload<__m128i>(p))); }
VT_INLINE VI vwiden(const uint16_t* p) { return VI(_mm512_cvtepu16_epi32(vload<__m256i>(p))); }
VT_INLINE void vnarrow(int8_t* p, VI a) { vstore(p, _mm512_cvtepi32_epi8(__m512i(a))); }
VT_INLINE void vnarrow(uint16_t* p, VI a) { vstore(p, _mm512_cvtepi32_epi16(__m512i(a))); }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    return VB(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(vload<__m128i>(table)), __m512i(places)));
}

// sum + two products of bfloat16 in each lane.
VT_INLINE V vdot_pairs(V sum, VI a, VI b) { return _mm512_dpbf16_ps(sum, __m512bh(a), __m512bh(b)); }

// sum[row][panel] += Σ over the n groups from `first` on of codes · x, for rows of x that are `stride` apart; codes are at
// most `most`. All rows take turns, so that no product waits for the one before.
template <int most, int first, int n, int rows, int W>
VT_INLINE void vdot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    VT_EACH (j, n) {
        VT_EACH (r, rows) {
            const auto four = __m512i(vfour(x[r * stride].q + 4 * (first + j)));
            VT_EACH (p, W) sum[r][p] = VI(_mm512_dpbusd_epi32(__m512i(sum[r][p]), __m512i(codes[p][first + j]), four));
        }
    }
}
// All 32 columns of signed codes (Q8), as vsigned has prepared them for all rows of x. dpbusd wants unsigned ones: 128
// is added to the codes, and 128 · Σ x taken off.
VT_INLINE VB vsigned(VB codes) { return codes ^ 128; }
template <int rows, int W>
VT_INLINE void vdot_signed(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    VT_EACH (r, rows)
        VT_EACH (p, W) sum[r][p] = viset(x[r * stride].minus) * 128;
    vdot<255, 0, 8>(sum, codes, x, stride);
}

}  // namespace VT_ISA
}  // namespace vt
