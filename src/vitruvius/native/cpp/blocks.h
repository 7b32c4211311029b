// One row's part of a block of an integer format: 32 codes with what scales them, and their places (see formats.h).
#pragma once

#include "half.h"

namespace vt {

// Group j is four codes in a word, the first in its lowest byte. Scales are as they are stored: `scale` and `minimum`
// are float16 of the 32 columns, or in the K formats of all 256; `step` and `least` are integers that multiply them.
struct Codes {
    uint32_t group[8];
    uint16_t scale, minimum;
    uint8_t step[2], least;  // step[1] is that of the last 16 columns in Q6K
    uint8_t exponent;        // E8M0
};

// Where the parts of sub-block i of a block lie; −1 is absent.
struct Places {
    int scale, minimum, steps, least, high, nibbles;
};
constexpr Places places(Format f, int i) {
    switch (f) {
        case Q4: return {0, -1, -1, -1, -1, 32};
        case Q4M: return {0, 32, -1, -1, -1, 64};
        case Q5: return {0, -1, -1, -1, 32, 96};
        case Q5M: return {0, 32, -1, -1, 64, 128};
        case Q4K: return {0, 32, 64 + 288 * i, 80 + 288 * i, -1, 96 + 288 * i};
        case Q5K: return {0, 32, 64 + 352 * i, 80 + 352 * i, 96 + 352 * i, 160 + 352 * i};
        case Q6K: return {0, -1, 32 + 416 * i, -1, 64 + 416 * i, 192 + 416 * i};
        case MXFP4: return {-1, -1, -1, -1, -1, 16};
        default: return {0, -1, -1, -1, -1, -1};  // Q8
    }
}

template <class T> VT_INLINE T get(const uint8_t* p) {
    T a;
    memcpy(&a, p, sizeof a);
    return a;
}
template <class T> VT_INLINE void put(uint8_t* p, T a) { memcpy(p, &a, sizeof a); }

constexpr uint32_t NIBBLES = 0x0F0F0F0F, BITS = 0x01010101, PAIRS = 0x03030303;

// Writes row r of sub-block i.
template <Format f> VT_INLINE void put_codes(uint8_t* block, int i, int r, const Codes& c) {
    constexpr Places first = places(f, 0);
    const Places at = places(f, i);
    if constexpr (first.scale >= 0) put(block + at.scale + 2 * r, c.scale);
    if constexpr (first.minimum >= 0) put(block + at.minimum + 2 * r, c.minimum);
    if constexpr (first.steps >= 0) block[at.steps + r] = c.step[0];
    if constexpr (first.least >= 0) block[at.least + r] = c.least;
    if constexpr (f == MXFP4) block[r] = c.exponent;
    if constexpr (f == Q6K) block[at.steps + 16 + r] = c.step[1];
    if constexpr (f == Q8) {
        VT_EACH (j, 8) put(block + 32 + 64 * j + 4 * r, c.group[j]);
        return;
    }
    VT_EACH (j, 4) put(block + at.nibbles + 64 * j + 4 * r, (c.group[j] & NIBBLES) | (c.group[j + 4] & NIBBLES) << 4);
    if constexpr (f == Q5 || f == Q5M || f == Q5K) {
        uint32_t bits = 0;
        VT_EACH (j, 8) bits |= (c.group[j] >> 4 & BITS) << j;
        put(block + at.high + 4 * r, bits);
    }
    if constexpr (f == Q6K) {
        VT_EACH (plane, 2) {
            uint32_t bits = 0;
            VT_EACH (j, 4) bits |= (c.group[4 * plane + j] >> 4 & PAIRS) << 2 * j;
            put(block + at.high + 64 * plane + 4 * r, bits);
        }
    }
}

// Reads row r of sub-block i.
template <Format f> VT_INLINE Codes get_codes(const uint8_t* block, int i, int r) {
    constexpr Places first = places(f, 0);
    const Places at = places(f, i);
    Codes c{};
    if constexpr (first.scale >= 0) c.scale = get<uint16_t>(block + at.scale + 2 * r);
    if constexpr (first.minimum >= 0) c.minimum = get<uint16_t>(block + at.minimum + 2 * r);
    if constexpr (first.steps >= 0) c.step[0] = block[at.steps + r];
    if constexpr (first.least >= 0) c.least = block[at.least + r];
    if constexpr (f == MXFP4) c.exponent = block[r];
    if constexpr (f == Q6K) c.step[1] = block[at.steps + 16 + r];
    if constexpr (f == Q8) {
        VT_EACH (j, 8) c.group[j] = get<uint32_t>(block + 32 + 64 * j + 4 * r);
        return c;
    }
    VT_EACH (j, 8) {
        const uint32_t both = get<uint32_t>(block + at.nibbles + 64 * (j % 4) + 4 * r);
        c.group[j] = (j < 4 ? both : both >> 4) & NIBBLES;
        if constexpr (f == Q5 || f == Q5M || f == Q5K)
            c.group[j] |= (get<uint32_t>(block + at.high + 4 * r) >> j & BITS) << 4;
        if constexpr (f == Q6K)
            c.group[j] |= (get<uint32_t>(block + at.high + 64 * (j / 4) + 4 * r) >> 2 * (j % 4) & PAIRS) << 4;
    }
    return c;
}

// Twice the values of E2M1, the 4-bit float of OCP's microscaling formats 1.0.
constexpr int8_t TWICE_E2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(e − 128), half of what E8M0 means.
VT_INLINE float half_of_e8m0(uint8_t e) {
    return float_of_bits(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

// The 32 numbers that the codes stand for; operations in the order of checkpoints/dequantize.py, so equal to the bit.
template <Format f> VT_INLINE void decode(const Codes& c, float* out) {
    const float d = from_half(c.scale), m = from_half(c.minimum);
    VT_EACH (j, 32) {
        const auto code = static_cast<uint8_t>(c.group[j / 4] >> 8 * (j % 4));
        const auto q = static_cast<float>(code);
        if constexpr (f == Q8) out[j] = static_cast<float>(static_cast<int8_t>(code)) * d;
        else if constexpr (f == Q4) out[j] = (q - 8.0f) * d;
        else if constexpr (f == Q5) out[j] = (q - 16.0f) * d;
        else if constexpr (f == Q4M || f == Q5M) out[j] = q * d + m;
        else if constexpr (f == Q4K || f == Q5K) out[j] = q * (d * c.step[0]) - m * c.least;
        else if constexpr (f == Q6K) out[j] = (q - 32.0f) * (d * static_cast<int8_t>(c.step[j / 16]));
        else out[j] = TWICE_E2M1[code] * half_of_e8m0(c.exponent);
    }
}

}  // namespace vt
