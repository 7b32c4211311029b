// float16 and bfloat16 one at a time, rounded to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "formats.h"

namespace vt {

template <class T> VT_INLINE T get(const void* p) {  // at any address
    T a;
    memcpy(&a, p, sizeof a);
    return a;
}
VT_INLINE float float_of_bits(uint32_t bits) { return get<float>(&bits); }
VT_INLINE uint32_t bits_of_float(float a) { return get<uint32_t>(&a); }

VT_INLINE float from_bfloat(uint16_t a) { return float_of_bits(static_cast<uint32_t>(a) << 16); }
VT_INLINE uint16_t to_bfloat(float a) {
    const uint32_t bits = bits_of_float(a);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // stays not a number
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

VT_INLINE float from_half(uint16_t a) {
    const uint32_t sign = static_cast<uint32_t>(a & 0x8000) << 16, exponent = a >> 10 & 31, fraction = a & 0x3FF;
    if (exponent == 31) return float_of_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    return float_of_bits(sign | bits_of_float(static_cast<float>(fraction) * 0x1p-24f));  // subnormal
}
VT_INLINE uint16_t to_half(float a) {
    const uint32_t bits = bits_of_float(a), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
    if (rest > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);
    if (rest >= 0x47800000) return static_cast<uint16_t>(sign | 0x7C00);  // 65536 and more
    if (rest < 0x38800000)  // below 2^-14: adding 1/2 leaves multiples of 2^-24 in the last bits, rounded
        return static_cast<uint16_t>(sign | (bits_of_float(float_of_bits(rest) + 0.5f) - 0x3F000000));
    return static_cast<uint16_t>(sign | (rest - 0x38000000 + 0xFFF + (rest >> 13 & 1)) >> 13);
}

}  // namespace vt
