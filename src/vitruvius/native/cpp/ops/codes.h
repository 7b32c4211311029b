// How the blocks of each integer format are read: what lies where is in FORMAT (formats.h).
#pragma once

#include "../lanes.h"

namespace vt {
namespace VT_ISA {

// The 16 × f16 at p, the part of these L rows.
VT_INLINE V halves(const uint8_t* p, int part) { return vload_f16(reinterpret_cast<const uint16_t*>(p) + part * L); }
VT_INLINE const uint8_t* rows_of(const uint8_t* group, int part) { return group + part * L * 4; }

// Low halves of 64 bytes are group j, the high ones group j + 4.
VT_INLINE void nibbles(const uint8_t* p, int part, VB (&codes)[8]) {
    VT_EACH (j, 4) {
        const auto both = vload<VB>(rows_of(p + 64 * j, part));
        codes[j] = both & 15;
        codes[j + 4] = vbshr(both, 4) & 15;
    }
}
// Adds 16 · the high bits of each code: group after group in the 8 bits of each byte of a plane.
template <int bits, int j = 0> VT_INLINE void high_bits(const uint8_t* p, int part, VB (&codes)[8]) {
    constexpr int up = 4 - j * bits % 8;  // from their place to above a nibble
    constexpr uint8_t mask = 16 * ((1 << bits) - 1);
    auto plane = vload<VB>(rows_of(p + 64 * (j * bits / 8), part));
    if constexpr (up > 0) plane = vbshl(plane, up);
    if constexpr (up < 0) plane = vbshr(plane, -up);
    codes[j] = codes[j] | (plane & mask);
    if constexpr (j < 7) high_bits<bits, j + 1>(p, part, codes);
}

// 32 columns of a block for L rows: what scales their codes.
template <Format f> struct Columns {
    static constexpr FormatInfo info = FORMAT[f];
    V scale, minimum;
    V last;  // Q6K: the scale of the last 16 columns

    // Columns 32 · i … 32 · i + 31: their codes as 8 groups of 4, and the scales, for all rows of x.
    VT_INLINE void load(const uint8_t* block, int i, int part, VB (&codes)[8]) {
        const uint8_t* const sub = block + i * SUB_BYTES<f>;
        // MXFP4: 2^(e − 128), half of E8M0's value, because the codes are doubled. Below float's normal numbers it is 0.
        if constexpr (f == MXFP4) {
            const VI exponent = vwiden(block + part * L);
            scale = vfrombits(VU(exponent > 0 ? exponent - 1 : exponent) << 23);
        } else scale = halves(block, part);
        if constexpr (info.minimum != 0) minimum = halves(block + info.minimum, part);
        if constexpr (f == Q6K) {
            const auto* const steps = reinterpret_cast<const int8_t*>(sub + info.step) + part * L;
            last = scale * vfromint(vwiden(steps + LANES));
            scale = scale * vfromint(vwiden(steps));
        } else if constexpr (info.step != 0) {
            scale = scale * vfromint(vwiden(sub + info.step + part * L));
            minimum = -(minimum * vfromint(vwiden(sub + info.least + part * L)));
        }
        if constexpr (f == Q8) {
            VT_EACH (j, 8) codes[j] = vsigned(vload<VB>(rows_of(sub + info.codes + 64 * j, part)));
        } else {
            nibbles(sub + info.codes, part, codes);
        }
        if constexpr (HIGH_BITS<f> > 0) high_bits<HIGH_BITS<f>>(sub + info.high, part, codes);
        if constexpr (f == MXFP4)
            VT_EACH (j, 8) codes[j] = vbtable(E2M1, codes[j]);
    }

    // −offset · Σ q: with what a sum begins.
    static VT_INLINE VI without_offset(int32_t minus) {
        if constexpr (info.offset == 0) return viset(0);
        else return viset(minus) * info.offset;
    }
    // Σ code · q, offsets taken off, for the same columns of W panels and rows of x that are `stride` apart.
    template <int rows, int W>
    static VT_INLINE void dot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
        if constexpr (f == Q8) {
            vdot_signed(sum, codes, x, stride);
        } else {
            VT_EACH (r, rows)
                VT_EACH (p, W) sum[r][p] = without_offset(x[r * stride].minus);
            vdot<info.most, 0, 8>(sum, codes, x, stride);
        }
    }
    // Q6K: each half has its own sum.
    template <int rows, int W>
    static VT_INLINE void dot(VI (&first)[rows][W], VI (&second)[rows][W], const VB (&codes)[W][8], const Quantized* x,
                              int64_t stride) {
        VT_EACH (r, rows)
            VT_EACH (p, W) {
                first[r][p] = without_offset(x[r * stride].minus_low);
                second[r][p] = without_offset(x[r * stride].minus - x[r * stride].minus_low);
            }
        vdot<info.most, 0, 4>(first, codes, x, stride);
        vdot<info.most, 4, 4>(second, codes, x, stride);
    }
    // sum + scale · d · Σ code · q, and what belongs to minima.
    VT_INLINE V add(V sum, VI dot, const Quantized& x) const {
        if constexpr (info.minimum != 0) sum = vfma(minimum, vset(x.sum), sum);
        return vfma(vfromint(dot), scale * vset(x.d), sum);
    }
    VT_INLINE V add(V sum, VI first, VI second, const Quantized& x) const {
        return vfma(vfma(vfromint(first), scale, vfromint(second) * last), vset(x.d), sum);
    }
};

}  // namespace VT_ISA
}  // namespace vt
