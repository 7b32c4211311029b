// Rows of floats into panels of any format: converted, or quantised with scales of small squared error.
//
// Min and max of 32 numbers give a scale that spends the outer codes on the outliers. A few other scales are tried; for
// the codes of each the best scale and minimum follow by least squares, are rounded to float16 and used for the final
// codes, and the error of what was stored decides. The plain choice is among them, so numbers that already lie on a
// grid of that many steps are kept as they are.
#pragma once

#include "../blocks.h"
#include "../lanes.h"
#include "../pack.h"

namespace vt {
namespace VT_ISA {

struct Block32 {
    F low, high;  // columns 0 … 15 and 16 … 31
    template <class Do> VT_INLINE Block32 map(Do what) const { return {what(low), what(high)}; }
};
VT_INLINE float total(Block32 a) { return sum(a.low + a.high); }
VT_INLINE float product(Block32 a, Block32 b) { return sum(fma(a.low, b.low, a.high * b.high)); }
VT_INLINE float largest(Block32 a) { return maximum(fmax(a.low, a.high)); }
VT_INLINE float rounded(float a) { return from_half(to_half(a)); }

// Codes 0 … top, as floats, of (x − m) · inverse.
VT_INLINE Block32 codes_of(Block32 x, float m, float inverse, float top) {
    return x.map([&](F a) { return fmax(fmin(fround((a - F::all(m)) * inverse), F::all(top)), F::zero()); });
}
VT_INLINE float inverse_of(float d) { return d != 0.0f ? 1.0f / d : 0.0f; }

// x ≈ d · code + m.
struct Grid {
    float d, m, error;
    Block32 codes;
};
VT_INLINE Grid on_grid(Block32 x, float d, float m, float top) {
    Grid g{d, m, 0.0f, codes_of(x, m, inverse_of(d), top)};
    const auto miss = [&](F a, F code) { return a - fma(code, d, F::all(m)); };
    const Block32 e{miss(x.low, g.codes.low), miss(x.high, g.codes.high)};
    g.error = product(e, e);
    return g;
}
constexpr float EXACT = 1e-9f;  // squared error over squared numbers that already lie on the grid
VT_INLINE void keep_better(Grid& best, const Grid& other) {
    if (other.error < best.error) best = other;
}

// With a minimum; it is at most `most` (0 in the K formats, which subtract it).
VT_INLINE Grid grid_with_minimum(Block32 x, float top, float most) {
    const float high = largest(x), low = -largest(x.map([](F a) { return -a; }));
    const float bottom = low < most ? low : most, span = high - bottom, mean = total(x) / 32;
    Grid best = on_grid(x, rounded(span / top), rounded(bottom), top);
    if (best.error <= EXACT * product(x, x)) return best;
    const float tries[] = {top, top + 0.5f, top - 1.0f};
    for (const float steps : tries) {
        const Block32 q = codes_of(x, bottom, steps / span, top);
        const float mean_q = total(q) / 32, spread = product(q, q) - 32 * mean_q * mean_q;
        if (spread <= 0.0f) continue;
        const float d = (product(x, q) - 32 * mean * mean_q) / spread, m = mean - d * mean_q;
        if (d > 0.0f && m <= most) keep_better(best, on_grid(x, rounded(d), rounded(m), top));
    }
    return best;
}

// Around zero: code − half, half = 2^(bits − 1). The number farthest from 0 gets code 0.
VT_INLINE Grid grid_around_zero(Block32 x, float half) {
    const float high = largest(x), low = -largest(x.map([](F a) { return -a; }));
    const float far = high > -low ? high : low, top = 2 * half - 1;
    const auto around = [&](float d) { return on_grid(x, rounded(d), -half * rounded(d), top); };
    Grid best = around(-far / half);
    if (best.error <= EXACT * product(x, x)) return best;
    const float tries[] = {half + 0.5f, half - 0.75f};
    for (const float steps : tries) {
        const float d = -far / steps;
        const Block32 q = codes_of(x, -half * d, 1.0f / d, top).map([&](F a) { return a - F::all(half); });
        const float squares = product(q, q);
        if (squares > 0.0f) keep_better(best, around(product(x, q) / squares));
    }
    return best;
}

VT_INLINE void set_codes(Codes& c, Block32 codes) {
    alignas(64) int8_t bytes[32];
    codes.low.store_s8(bytes);
    codes.high.store_s8(bytes + 16);
    memcpy(c.group, bytes, 32);
}

VT_INLINE Codes quantize_q8(Block32 x) {
    Codes c{};
    c.scale = to_half(largest(x.map([](F a) { return fabs(a); })) / 127.0f);
    const float inverse = inverse_of(from_half(c.scale));
    set_codes(c, x.map([&](F a) { return fmax(fmin(fround(a * inverse), F::all(127.0f)), F::all(-127.0f)); }));
    return c;
}

template <Format f> VT_INLINE Codes quantize_32(Block32 x) {
    if constexpr (f == Q8) return quantize_q8(x);
    Codes c{};
    constexpr bool minimum = f == Q4M || f == Q5M;
    constexpr float half = f == Q4 || f == Q4M ? 8.0f : 16.0f;
    const Grid g = minimum ? grid_with_minimum(x, 2 * half - 1, 3.4e38f) : grid_around_zero(x, half);
    c.scale = to_half(g.d);
    if (minimum) c.minimum = to_half(g.m);
    set_codes(c, g.codes);
    return c;
}

// MXFP4: the exponent that OCP's specification gives (that of the largest number, less 2), and the nearest of E2M1.
VT_INLINE Codes quantize_mxfp4(Block32 x) {
    Codes c{};
    const int e = static_cast<int>(bits_of_float(largest(x.map([](F a) { return fabs(a); }))) >> 23) - 2;
    c.exponent = static_cast<uint8_t>(e > 0 ? e : 0);
    const float inverse = inverse_of(half_of_e8m0(c.exponent));
    const auto nearest = [&](F a) {
        const F twice = fabs(a * inverse);
        F place = F::zero();
        const float middles[] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
        for (const float middle : middles) place += select_less(F::all(middle), twice, F::all(1.0f), F::zero());
        return select_less(a, F::zero(), place + F::all(8.0f), place);
    };
    set_codes(c, x.map(nearest));
    return c;
}
template <> VT_INLINE Codes quantize_32<MXFP4>(Block32 x) { return quantize_mxfp4(x); }

VT_INLINE float integer(float a, float most) {
    return static_cast<float>(static_cast<int>((a < most ? a : most) + 0.5f));
}

// 256 numbers as Q4K or Q5K: 6-bit multiples of two float16.
template <Format f> VT_INLINE void quantize_256(const Block32* x, Codes* out) {
    constexpr float top = f == Q4K ? 15.0f : 31.0f;
    float step[8], least[8], most_step = 0.0f, most_least = 0.0f;
    for (int i = 0; i < 8; ++i) {
        const Grid g = grid_with_minimum(x[i], top, 0.0f);
        step[i] = g.d;
        least[i] = -g.m;
        if (step[i] > most_step) most_step = step[i];
        if (least[i] > most_least) most_least = least[i];
    }
    const uint16_t scale = to_half(most_step / 63), minimum = to_half(most_least / 63);
    const float d = from_half(scale), m = from_half(minimum);
    for (int i = 0; i < 8; ++i) {
        const float s = integer(step[i] * inverse_of(d), 63.0f), l = integer(least[i] * inverse_of(m), 63.0f);
        out[i] = Codes{{}, scale, minimum, {static_cast<uint8_t>(s), 0}, static_cast<uint8_t>(l), 0};
        set_codes(out[i], codes_of(x[i], -m * l, inverse_of(d * s), top));
    }
}
// Q6K: 16 columns have an int8 multiple of one float16.
template <> VT_INLINE void quantize_256<Q6K>(const Block32* x, Codes* out) {
    float far[16], most = 0.0f;
    for (int i = 0; i < 16; ++i) {
        const F a = i % 2 ? x[i / 2].high : x[i / 2].low;
        const float high = maximum(a), low = -maximum(-a);
        far[i] = high > -low ? high : low;
        const float size = far[i] < 0.0f ? -far[i] : far[i];
        if (size > most) most = size;
    }
    const uint16_t scale = to_half(most / (32 * 127));
    const float d = from_half(scale), inverse = inverse_of(-32 * d);
    for (int i = 0; i < 8; ++i) {
        Codes& c = out[i] = Codes{{}, scale, 0, {}, 0, 0};
        F codes[2];
        for (int half = 0; half < 2; ++half) {
            const float multiple = far[2 * i + half] * inverse;
            const float s = multiple < 0.0f ? -integer(-multiple, 127.0f) : integer(multiple, 127.0f);
            c.step[half] = static_cast<uint8_t>(static_cast<int8_t>(s));
            const F a = fround((half ? x[i].high : x[i].low) * inverse_of(d * s)) + F::all(32.0f);
            codes[half] = fmax(fmin(a, F::all(63.0f)), F::zero());
        }
        set_codes(c, {codes[0], codes[1]});
    }
}

// Columns k … k + 31 of row r as floats, zeros beyond the matrix.
VT_INLINE void load_row(const Packing& p, int r, int64_t k, float* out) {
    const int n = r >= p.rows || k >= p.cols ? 0 : p.cols - k < 32 ? static_cast<int>(p.cols - k) : 32;
    const int bytes = KIND[static_cast<int>(p.kind)].bytes;
    alignas(64) uint8_t rest[128] = {};
    const uint8_t* source = n ? p.source + (int64_t{r} * p.cols + k) * bytes : rest;
    if (n < 32) {
        memcpy(rest, source, static_cast<size_t>(n * bytes));
        source = rest;
    }
    for (int i = 0; i < 32; i += LANES) {
        const auto* halves = reinterpret_cast<const uint16_t*>(source) + i;
        const F a = p.kind == Kind::F32   ? F::load(reinterpret_cast<const float*>(source) + i)
                    : p.kind == Kind::F16 ? F::load_f16(halves)
                                          : F::load_bf16(halves);
        a.store(out + i);
    }
}

// One panel of a format of floats: numbers of one column side by side.
inline void pack_float_panel(const Packing& p, int r0, uint8_t* out) {
    alignas(64) float tile[LANES][32];
    for (int64_t k = 0; k < p.cols; k += 32) {
        const int n = p.cols - k < 32 ? static_cast<int>(p.cols - k) : 32;
        for (int r = 0; r < LANES; ++r) load_row(p, r0 + r, k, tile[r]);
        for (int j = 0; j < n; ++j) {
            alignas(64) float column[LANES];
            for (int r = 0; r < LANES; ++r) column[r] = tile[r][j];
            const F a = F::load(column);
            if (p.format == F32) a.store(reinterpret_cast<float*>(out) + (k + j) * LANES);
            else if (p.format == F16) a.store_f16(reinterpret_cast<uint16_t*>(out) + (k + j) * LANES);
            else {
                alignas(64) uint16_t halves[LANES];
                a.store_bf16(halves);
                uint16_t* pairs = reinterpret_cast<uint16_t*>(out) + (k + j) / 2 * 2 * LANES + (k + j) % 2;
                for (int r = 0; r < LANES; ++r) pairs[2 * r] = halves[r];
            }
        }
    }
    if (p.format == BF16 && p.cols % 2) {
        uint16_t* pairs = reinterpret_cast<uint16_t*>(out) + p.cols / 2 * 2 * LANES + 1;
        for (int r = 0; r < LANES; ++r) pairs[2 * r] = 0;
    }
}

template <Format f> void pack_integer_panel(const Packing& p, int r0, uint8_t* out) {
    constexpr int bytes = FORMAT[f].bytes, subs = FORMAT[f].cols / 32;
    const int64_t n = blocks(f, p.cols);
    alignas(64) float row[32];
    for (int64_t b = 0; b < n; ++b, out += bytes) {
        for (int r = 0; r < LANES; ++r) {
            Block32 x[subs];
            Codes codes[subs];
            for (int i = 0; i < subs; ++i) {
                load_row(p, r0 + r, (b * subs + i) * 32, row);
                x[i] = {F::load(row), F::load(row + 16)};
            }
            if constexpr (subs == 1) codes[0] = quantize_32<f>(x[0]);
            else quantize_256<f>(x, codes);
            for (int i = 0; i < subs; ++i) put_codes<f>(out, i, r, codes[i]);
        }
    }
}

inline void pack_floats(const Packing& p) {
    for (int r0 = 0; r0 < p.rows; r0 += LANES) {
        uint8_t* const out = p.out + r0 / LANES * p.panel_step;
        switch (p.format) {
            case Q8: pack_integer_panel<Q8>(p, r0, out); break;
            case Q4: pack_integer_panel<Q4>(p, r0, out); break;
            case Q4M: pack_integer_panel<Q4M>(p, r0, out); break;
            case Q5: pack_integer_panel<Q5>(p, r0, out); break;
            case Q5M: pack_integer_panel<Q5M>(p, r0, out); break;
            case Q4K: pack_integer_panel<Q4K>(p, r0, out); break;
            case Q5K: pack_integer_panel<Q5K>(p, r0, out); break;
            case Q6K: pack_integer_panel<Q6K>(p, r0, out); break;
            case MXFP4: pack_integer_panel<MXFP4>(p, r0, out); break;
            default: pack_float_panel(p, r0, out);
        }
    }
}

}  // namespace VT_ISA
}  // namespace vt
