// Four registers of 4 floats in the vector extension of GCC and Clang, which any processor can run.
#pragma once
#include <cmath>
#include <cstring>

#include "../half.h"

namespace vt {
namespace VT_ISA {

typedef float V __attribute__((vector_size(16)));     // L floats
typedef int32_t VI __attribute__((vector_size(16)));  // L int32
typedef uint32_t VU __attribute__((vector_size(16)));
typedef uint8_t VB __attribute__((vector_size(16)));  // L rows of 4 bytes
constexpr int L = 4;
constexpr int REGISTERS = 16;

VT_INLINE V vload(const float* p) {
    V a;
    memcpy(&a, p, 16);
    return a;
}
VT_INLINE void vstore(float* p, V a) { memcpy(p, &a, 16); }
VT_INLINE V vset(float a) { return V{a, a, a, a}; }
VT_INLINE V vfma(V a, V b, V c) { return a * b + c; }
VT_INLINE V vmin(V a, V b) { return a < b ? a : b; }
VT_INLINE V vmax(V a, V b) { return a > b ? a : b; }
VT_INLINE V vsqrt(V a) { return V{sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
VT_INLINE V vround(V a) { return (a + 0x1.8p23f) - 0x1.8p23f; }  // to nearest even, for |a| < 2^22
VT_INLINE V vselect_less(V a, V b, V yes, V no) { return a < b ? yes : no; }
VT_INLINE float vsum(V a) { return (a[0] + a[2]) + (a[1] + a[3]); }
VT_INLINE float vmaximum(V a) {
    const float b = a[0] > a[1] ? a[0] : a[1], c = a[2] > a[3] ? a[2] : a[3];
    return b > c ? b : c;
}

VT_INLINE VI viset(int32_t a) { return VI{a, a, a, a}; }
VT_INLINE VI viadd(VI a, VI b) { return reinterpret_cast<VI>(reinterpret_cast<VU>(a) + reinterpret_cast<VU>(b)); }
VT_INLINE VI visub(VI a, VI b) { return reinterpret_cast<VI>(reinterpret_cast<VU>(a) - reinterpret_cast<VU>(b)); }
VT_INLINE VI viand(VI a, VI b) { return a & b; }
VT_INLINE VI vior(VI a, VI b) { return a | b; }
VT_INLINE VI vimax(VI a, VI b) { return a > b ? a : b; }
template <int n> VT_INLINE VI vishl(VI a) { return reinterpret_cast<VI>(reinterpret_cast<VU>(a) << n); }
template <int n> VT_INLINE VI vishr(VI a) { return reinterpret_cast<VI>(reinterpret_cast<VU>(a) >> n); }
VT_INLINE VI vbits(V a) { return reinterpret_cast<VI>(a); }
VT_INLINE V vfrombits(VI a) { return reinterpret_cast<V>(a); }
VT_INLINE V vfromint(VI a) { return __builtin_convertvector(a, V); }
VT_INLINE VI vtoint(V a) { return __builtin_convertvector(vround(a), VI); }
VT_INLINE VI viload(const int32_t* p) {
    VI a;
    memcpy(&a, p, 16);
    return a;
}
VT_INLINE void vistore(int32_t* p, VI a) { memcpy(p, &a, 16); }

VT_INLINE V vload_f16(const uint16_t* p) {
    return V{from_half(p[0]), from_half(p[1]), from_half(p[2]), from_half(p[3])};
}
VT_INLINE void vstore_f16(uint16_t* p, V a) {
    for (int i = 0; i < L; ++i) p[i] = to_half(a[i]);
}
VT_INLINE VI viload_u16(const uint16_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
VT_INLINE void vistore_u16(uint16_t* p, VI a) {
    for (int i = 0; i < L; ++i) p[i] = static_cast<uint16_t>(a[i]);
}
VT_INLINE VI viload_u8(const uint8_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
VT_INLINE VI viload_s8(const int8_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
VT_INLINE void vistore_s8(int8_t* p, VI a) {
    for (int i = 0; i < L; ++i) p[i] = static_cast<int8_t>(a[i]);
}

VT_INLINE VB vbload(const uint8_t* p) {
    VB a;
    memcpy(&a, p, 16);
    return a;
}
VT_INLINE VB vbset(uint8_t a) { return VB{} + a; }
template <int n> VT_INLINE VB vbshl(VB a) { return a << n; }
template <int n> VT_INLINE VB vbshr(VB a) { return a >> n; }
VT_INLINE VB vbtable(const uint8_t table[16], VB places) {
    VB a = places;
    for (int i = 0; i < 16; ++i) a[i] = table[places[i]];
    return a;
}

// One byte of each row times one of x: with the byte at the top of an int, a shift back keeps its sign.
template <int byte> VT_INLINE VI vproduct(VI codes, const int8_t* x) {
    return (vishl<24 - 8 * byte>(codes) >> 24) * x[byte];
}
// sum + Σ over the n groups from `first` on of codes · x (which has only those), for each row of W panels.
// Codes are at most `most`.
template <int most, int first, int n, int W>
VT_INLINE void vdot(VI (&sum)[W], const VB (&codes)[W][8], const int8_t* x) {
    static_assert(most < 128, "codes are read as signed");
    for (int p = 0; p < W; ++p) {
        for (int j = 0; j < n; ++j) {
            const VI c = reinterpret_cast<VI>(codes[p][first + j]);
            const int8_t* const four = x + 4 * j;
            sum[p] += vproduct<0>(c, four) + vproduct<1>(c, four) + vproduct<2>(c, four) + vproduct<3>(c, four);
        }
    }
}
VT_INLINE VB vsigned(VB codes) { return codes; }
template <int W> VT_INLINE void vdot_signed(VI (&sum)[W], const VB (&codes)[W][8], const Quantized& x) {
    VT_EACH (p, W) sum[p] = viset(0);
    vdot<127, 0, 8>(sum, codes, x.q);
}

}  // namespace VT_ISA
}  // namespace vt
