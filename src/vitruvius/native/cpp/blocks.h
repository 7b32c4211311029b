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

// The lowest bits of each byte of a word.
template <int bits> constexpr uint32_t LOWEST = 0x01010101u * ((1u << bits) - 1);

// A value to its place in a block, or from there.
template <class T> VT_INLINE void move(uint8_t* place, T value) { memcpy(place, &value, sizeof value); }
template <class T> VT_INLINE void move(const uint8_t* place, T& value) { memcpy(&value, place, sizeof value); }

// Moves all but the codes of row r, which has a part in the block and one in the sub-block.
template <Format f, class Byte, class C> VT_INLINE void move_scales(Byte* block, Byte* sub, int r, C& c) {
    constexpr FormatInfo info = FORMAT[f];
    if constexpr (f == MXFP4) move(block + r, c.exponent);
    else move(block + 2 * r, c.scale);
    if constexpr (info.minimum != 0) move(block + info.minimum + 2 * r, c.minimum);
    if constexpr (info.step != 0) move(sub + info.step + r, c.step[0]);
    if constexpr (f == Q6K) move(sub + info.step + LANES + r, c.step[1]);
    if constexpr (info.least != 0) move(sub + info.least + r, c.least);
}

// Writes row r of sub-block i.
template <Format f> VT_INLINE void put_codes(uint8_t* block, int i, int r, const Codes& c) {
    constexpr FormatInfo info = FORMAT[f];
    constexpr int bits = HIGH_BITS<f>;
    uint8_t* const sub = block + i * SUB_BYTES<f>;
    move_scales<f>(block, sub, r, c);
    uint32_t planes[2] = {};
    VT_EACH (j, 8) {
        uint8_t* const group = sub + info.codes + 64 * j + 4 * r;
        if (f == Q8) move(group, c.group[j]);
        else if (j < 4) move(group, (c.group[j] & LOWEST<4>) | (c.group[j + 4] & LOWEST<4>) << 4);
        planes[j * bits / 8] |= (c.group[j] >> 4 & LOWEST<bits>) << j * bits % 8;
    }
    VT_EACH (plane, bits) move(sub + info.high + 64 * plane + 4 * r, planes[plane]);
}

// Reads row r of sub-block i.
template <Format f> VT_INLINE Codes get_codes(const uint8_t* block, int i, int r) {
    constexpr FormatInfo info = FORMAT[f];
    constexpr int bits = HIGH_BITS<f>;
    const uint8_t* const sub = block + i * SUB_BYTES<f>;
    Codes c{};
    move_scales<f>(block, sub, r, c);
    VT_EACH (j, 8) {
        const uint8_t* const group = sub + info.codes + 64 * (f == Q8 ? j : j % 4) + 4 * r;
        c.group[j] = f == Q8 ? get<uint32_t>(group) : get<uint32_t>(group) >> j / 4 * 4 & LOWEST<4>;
        if constexpr (bits > 0) {
            const auto plane = get<uint32_t>(sub + info.high + 64 * (j * bits / 8) + 4 * r);
            c.group[j] |= (plane >> j * bits % 8 & LOWEST<bits>) << 4;
        }
    }
    return c;
}

// 2^(e − 128), half of what E8M0 means.
VT_INLINE float half_of_e8m0(uint8_t e) {
    return float_of_bits(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

// The 32 numbers that the codes stand for; operations in the order of checkpoints/dequantize.py, so equal to the bit.
template <Format f> VT_INLINE void decode(const Codes& c, float* out) {
    constexpr FormatInfo info = FORMAT[f];
    const float d = f == MXFP4 ? half_of_e8m0(c.exponent) : from_half(c.scale), m = from_half(c.minimum);
    VT_EACH (j, 32) {
        const auto code = static_cast<uint8_t>(c.group[j / 4] >> 8 * (j % 4));
        const int u = f == Q8 ? static_cast<int8_t>(code) : f == MXFP4 ? E2M1[code & 15] : code;
        const int step = f == Q6K ? static_cast<int8_t>(c.step[j / 16]) : c.step[0];
        out[j] = static_cast<float>(u - info.offset) * (info.step ? d * static_cast<float>(step) : d);
        if (info.least) out[j] -= m * c.least;
        else if (info.minimum) out[j] += m;
    }
}

}  // namespace vt
