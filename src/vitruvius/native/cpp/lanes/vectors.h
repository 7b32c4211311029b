// A register as a vector of GCC and Clang, whose operators are those of the language: VT_BYTES bytes, L of the 16 lanes.
#pragma once

#include <cstring>
#include <utility>

#include "../half.h"

namespace vt {
namespace VT_ISA {

constexpr int L = VT_BYTES / 4;

typedef float V __attribute__((vector_size(VT_BYTES)));     // L floats
typedef int32_t VI __attribute__((vector_size(VT_BYTES)));  // L int32
typedef uint32_t VU __attribute__((vector_size(VT_BYTES)));
typedef uint16_t VH __attribute__((vector_size(VT_BYTES)));
typedef uint8_t VB __attribute__((vector_size(VT_BYTES)));  // L rows of 4 bytes

template <class A> VT_INLINE A vload(const void* p) {
    A a;
    memcpy(&a, p, sizeof a);
    return a;
}
template <class A> VT_INLINE void vstore(void* p, A a) { memcpy(p, &a, sizeof a); }
VT_INLINE V vset(float a) { return a - V{}; }
VT_INLINE VI viset(int32_t a) { return a + VI{}; }
// Four bytes in every lane.
VT_INLINE VI vfour(const void* p) { return viset(vload<int32_t>(p)); }

// L numbers of another type as int32, and back; sets have their own where GCC 12 would take them one by one.
template <class T> VT_INLINE VI vwiden(const T* p) {
    typedef T Narrow __attribute__((vector_size(L * sizeof(T))));
    return __builtin_convertvector(vload<Narrow>(p), VI);
}
template <class T> VT_INLINE void vnarrow(T* p, VI a) {
    typedef T Narrow __attribute__((vector_size(L * sizeof(T))));
    vstore(p, __builtin_convertvector(a, Narrow));
}

VT_INLINE V vmin(V a, V b) { return a < b ? a : b; }
VT_INLINE V vmax(V a, V b) { return a > b ? a : b; }
VT_INLINE V vround(V a) { return (a + 0x1.8p23f) - 0x1.8p23f; }  // to nearest even, for |a| < 2^22
VT_INLINE VI vtoint(V a) { return __builtin_convertvector(vround(a), VI); }
VT_INLINE V vfromint(VI a) { return __builtin_convertvector(a, V); }
VT_INLINE VU vbits(V a) { return VU(a); }
VT_INLINE V vfrombits(VU a) { return V(a); }
// Bytes are shifted in pairs, so a mask must follow.
VT_INLINE VB vbshl(VB a, int n) { return VB(VH(a) << n); }
VT_INLINE VB vbshr(VB a, int n) { return VB(VH(a) >> n); }

// two(…) of all lanes, by halves.
template <int by, int... i> VT_INLINE V swapped(V a, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(a, a, (i ^ by)...);
}
template <int by = L / 2, class Two> VT_INLINE float folded(V a, Two two) {
    if constexpr (by == 0) return a[0];
    else return folded<by / 2>(two(a, swapped<by>(a, std::make_integer_sequence<int, L>())), two);
}

}  // namespace VT_ISA
}  // namespace vt
