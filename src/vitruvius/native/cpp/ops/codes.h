// How the blocks of each integer format are read (layouts: formats.h). Columns<format>::load(block, i, part, codes) takes
// columns 32·i … 32·i + 31 of a block for L rows: their codes as 8 groups of 4, and what scales them, for all rows of x.
// dot and add then give scale · d · Σ code · q, and what belongs to offsets and minima, to a row's sum.
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
        const VB both = vload<VB>(rows_of(p + 64 * j, part));
        codes[j] = both & 15;
        codes[j + 4] = vbshr(both, 4) & 15;
    }
}
// Adds `16 · bit j` of each byte to group j.
VT_INLINE void fifth_bits(const uint8_t* p, int part, VB (&codes)[8]) {
    const VB bits = vload<VB>(rows_of(p, part));
    constexpr uint8_t mask = 16;
    codes[0] = codes[0] | (vbshl(bits, 4) & mask);
    codes[1] = codes[1] | (vbshl(bits, 3) & mask);
    codes[2] = codes[2] | (vbshl(bits, 2) & mask);
    codes[3] = codes[3] | (vbshl(bits, 1) & mask);
    codes[4] = codes[4] | (bits & mask);
    codes[5] = codes[5] | (vbshr(bits, 1) & mask);
    codes[6] = codes[6] | (vbshr(bits, 2) & mask);
    codes[7] = codes[7] | (vbshr(bits, 3) & mask);
}
// Adds 16 · two bits of each byte: groups 0 to 3 from the first 64 bytes, 4 to 7 from the second.
VT_INLINE void fifth_and_sixth_bits(const uint8_t* p, int part, VB (&codes)[8]) {
    constexpr uint8_t mask = 48;
    VT_EACH (plane, 2) {
        const VB bits = vload<VB>(rows_of(p + 64 * plane, part));
        VB* c = codes + 4 * plane;
        c[0] = c[0] | (vbshl(bits, 4) & mask);
        c[1] = c[1] | (vbshl(bits, 2) & mask);
        c[2] = c[2] | (bits & mask);
        c[3] = c[3] | (vbshr(bits, 2) & mask);
    }
}

// Codes up to `most`, meaning scale · (code − 2^shift).
template <int most, int shift> struct WithOffset {
    V scale;
    template <int rows, int W>
    static VT_INLINE void dot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
        VT_EACH (r, rows)
            VT_EACH (p, W) sum[r][p] = viset(x[r * stride].minus) << shift;
        vdot<most, 0, 8>(sum, codes, x, stride);
    }
    VT_INLINE V add(V sum, VI dot, const Quantized& x) const { return vfma(vfromint(dot), scale * vset(x.d), sum); }
};
// Codes up to `most`, meaning scale · code + minimum.
template <int most> struct WithMinimum {
    V scale, minimum;
    template <int rows, int W>
    static VT_INLINE void dot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
        VT_EACH (r, rows)
            VT_EACH (p, W) sum[r][p] = viset(0);
        vdot<most, 0, 8>(sum, codes, x, stride);
    }
    VT_INLINE V add(V sum, VI dot, const Quantized& x) const {
        return vfma(vfromint(dot), scale * vset(x.d), vfma(minimum, vset(x.sum), sum));
    }
};

// dot: Σ code · q of one row of x, offsets taken off, for the same columns of W panels. add: sum + what that means.
template <Format> struct Columns;

template <> struct Columns<Q8> {
    V scale;
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        scale = halves(block, part);
        VT_EACH (j, 8) codes[j] = vsigned(vload<VB>(rows_of(block + 32 + 64 * j, part)));
    }
    template <int rows, int W>
    static VT_INLINE void dot(VI (&sum)[rows][W], const VB (&codes)[W][8], const Quantized* x, int64_t stride) {
        vdot_signed(sum, codes, x, stride);
    }
    VT_INLINE V add(V sum, VI dot, const Quantized& x) const { return vfma(vfromint(dot), scale * vset(x.d), sum); }
};
template <> struct Columns<Q4> : WithOffset<15, 3> {
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        scale = halves(block, part);
        nibbles(block + 32, part, codes);
    }
};
template <> struct Columns<Q4M> : WithMinimum<15> {
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        scale = halves(block, part);
        minimum = halves(block + 32, part);
        nibbles(block + 64, part, codes);
    }
};
template <> struct Columns<Q5> : WithOffset<31, 4> {
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        scale = halves(block, part);
        nibbles(block + 96, part, codes);
        fifth_bits(block + 32, part, codes);
    }
};
template <> struct Columns<Q5M> : WithMinimum<31> {
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        scale = halves(block, part);
        minimum = halves(block + 32, part);
        nibbles(block + 128, part, codes);
        fifth_bits(block + 64, part, codes);
    }
};
// The scale and minimum of sub-block `p` in a block of Q4K or Q5K.
template <int most>
VT_INLINE void scale_and_minimum(const uint8_t* block, const uint8_t* p, int part, WithMinimum<most>& c) {
    c.scale = halves(block, part) * vfromint(vwiden(p + part * L));
    c.minimum = -(halves(block + 32, part) * vfromint(vwiden(p + 16 + part * L)));
}
template <> struct Columns<Q4K> : WithMinimum<15> {
    VT_INLINE void load(const uint8_t* block, int i, int part, VB (&codes)[8]) {
        const uint8_t* p = block + 64 + 288 * i;
        scale_and_minimum(block, p, part, *this);
        nibbles(p + 32, part, codes);
    }
};
template <> struct Columns<Q5K> : WithMinimum<31> {
    VT_INLINE void load(const uint8_t* block, int i, int part, VB (&codes)[8]) {
        const uint8_t* p = block + 64 + 352 * i;
        scale_and_minimum(block, p, part, *this);
        nibbles(p + 96, part, codes);
        fifth_bits(p + 32, part, codes);
    }
};
template <> struct Columns<Q6K> {
    V low, high;  // scales of the first and the last 16 columns
    VT_INLINE void load(const uint8_t* block, int i, int part, VB (&codes)[8]) {
        const uint8_t* p = block + 32 + 416 * i;
        const V d = halves(block, part);
        low = d * vfromint(vwiden(reinterpret_cast<const int8_t*>(p) + part * L));
        high = d * vfromint(vwiden(reinterpret_cast<const int8_t*>(p) + 16 + part * L));
        nibbles(p + 160, part, codes);
        fifth_and_sixth_bits(p + 32, part, codes);
    }
    // Each half has its own sum.
    template <int rows, int W>
    static VT_INLINE void dot(VI (&first)[rows][W], VI (&last)[rows][W], const VB (&codes)[W][8], const Quantized* x,
                              int64_t stride) {
        VT_EACH (r, rows)
            VT_EACH (p, W) {
                first[r][p] = viset(x[r * stride].minus_low) << 5;
                last[r][p] = viset(x[r * stride].minus - x[r * stride].minus_low) << 5;
            }
        vdot<63, 0, 4>(first, codes, x, stride);
        vdot<63, 4, 4>(last, codes, x, stride);
    }
    VT_INLINE V add(V sum, VI first, VI last, const Quantized& x) const {
        const V both = vfma(vfromint(first), low, vfromint(last) * high);
        return vfma(both, vset(x.d), sum);
    }
};

// Twice the values of E2M1 (OCP microscaling formats 1.0), plus 16.
alignas(16) static constexpr uint8_t E2M1[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

template <> struct Columns<MXFP4> : WithOffset<28, 4> {
    VT_INLINE void load(const uint8_t* block, int, int part, VB (&codes)[8]) {
        // 2^(e − 128): half of E8M0's value, because the codes are doubled. Below float's normal numbers it is 0.
        const VI given = vwiden(block + part * L), exponent = given > 0 ? given - 1 : given;
        scale = vfrombits(exponent << 23);
        nibbles(block + 16, part, codes);
        VT_EACH (j, 8) codes[j] = vbtable(E2M1, codes[j]);
    }
};

}  // namespace VT_ISA
}  // namespace vt
