// What any processor can run.
#pragma once

#include "vectors.h"

namespace vt {
namespace VT_ISA {

VT_INLINE V vfma(V a, V b, V c) { return a * b + c; }
VT_INLINE V vload_f16(const uint16_t* p) {
    return V{from_half(p[0]), from_half(p[1]), from_half(p[2]), from_half(p[3])};
}
VT_INLINE void vstore_f16(uint16_t* p, V a) {
    for (int i = 0; i < L; ++i) p[i] = to_half(a[i]);
}
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    VB a = places;
    for (int i = 0; i < VT_BYTES; ++i) a[i] = table[places[i]];
    return a;
}

// One byte of each row times one of x: with the byte at the top of an int, a shift back keeps its sign.
VT_INLINE VI vproduct(VI codes, int byte, int8_t x) { return (VI(VU(codes) << (24 - 8 * byte)) >> 24) * x; }
// sum[row][panel] += Σ over the n groups from `first` on of codes · x, for rows of x that are `stride` apart; codes are at
// most `most`.
template <int most, int first, int n, int rows, int W>
VT_INLINE void vdot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
    static_assert(most < 128, "codes are read as signed");
    for (int r = 0; r < rows; ++r)
        for (int p = 0; p < W; ++p)
            for (int j = first; j < first + n; ++j)
                VT_EACH (byte, 4) sum[r][p] += vproduct(VI(codes[p][j]), byte, x[r * stride].q[4 * j + byte]);
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
