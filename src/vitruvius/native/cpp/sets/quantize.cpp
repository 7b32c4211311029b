// Rows of floats into panels: converted, or quantised to Q8, Q4 and Q4M.
//
// Scales are those of llama.cpp's Q8_0, Q4_0 and Q4_1: the number farthest from 0, or min and max, get an outer code. For
// Q4M a few other grids are tried, because min and max of 32 numbers spend the outer codes on the outliers: for the codes
// of each the best scale and minimum follow by least squares, are rounded to float16 and used for the final codes, and
// the error of what was stored decides. (Its mean square is 17 % lower for normally distributed numbers; Q4's would be
// 7 to 10 %.) The plain choice is among them, so numbers that already lie on a grid of that many steps are kept.
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

// x ≈ d · code + m, with codes bottom … top.
struct Grid {
    float d, m, bottom, top;
    VT_INLINE Block32 codes(Block32 x) const {
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        return x.map([&](F a) { return fmax(fmin(fround((a - F::all(m)) * inverse), F::all(top)), F::all(bottom)); });
    }
    VT_INLINE float error(Block32 x) const {  // squared
        const Block32 q = codes(x);
        const auto miss = [&](F a, F code) { return a - fma(code, d, F::all(m)); };
        const Block32 e{miss(x.low, q.low), miss(x.high, q.high)};
        return product(e, e);
    }
};

// The best grid with a minimum.
VT_INLINE Grid fitted(Block32 x, float low, float high) {
    const float span = high - low, mean = total(x) / 32;
    Grid best{rounded(span / 15), rounded(low), 0, 15};
    float least = best.error(x);
    if (least <= 1e-9f * product(x, x)) return best;  // they already lie on it
    const float tries[] = {15.0f, 15.5f, 14.0f};
    for (const float steps : tries) {
        const Block32 q = Grid{span / steps, low, 0, 15}.codes(x);
        const float mean_q = total(q) / 32, spread = product(q, q) - 32 * mean_q * mean_q;
        const float d = spread > 0.0f ? (product(x, q) - 32 * mean * mean_q) / spread : 0.0f;
        const Grid other{rounded(d), rounded(mean - d * mean_q), 0, 15};
        const float error = d > 0.0f ? other.error(x) : least;
        if (error < least) {
            best = other;
            least = error;
        }
    }
    return best;
}

template <Format f> VT_INLINE Codes quantize(Block32 x) {
    const float high = largest(x), low = -largest(x.map([](F a) { return -a; }));
    const float far = high < -low ? low : high, d = rounded(far / (f == Q8 ? 127.0f : -8.0f));
    const Grid grid = f == Q8 ? Grid{d, 0, -127, 127} : f == Q4 ? Grid{d, -8 * d, 0, 15} : fitted(x, low, high);
    alignas(64) int8_t bytes[32];
    const Block32 codes = grid.codes(x);
    codes.low.store_s8(bytes);
    codes.high.store_s8(bytes + 16);
    Codes c{};
    memcpy(c.group, bytes, 32);
    c.scale = to_half(grid.d);
    c.minimum = to_half(grid.m);
    return c;
}

// Columns k … k + 31 of row r as floats, zeros beyond the matrix.
VT_INLINE Block32 load_row(const Packing& p, int r, int64_t k) {
    const int64_t left = r < p.rows ? p.cols - k : 0, bytes = p.kind == F32 ? 4 : 2;
    alignas(64) uint8_t rest[128] = {};
    const uint8_t* source = left ? p.source + (int64_t{r} * p.cols + k) * bytes : rest;
    if (left < 32) {
        memcpy(rest, source, static_cast<size_t>(left * bytes));
        source = rest;
    }
    const auto load = [&](int i) {
        if (p.kind == F32) return F::load(reinterpret_cast<const float*>(source) + i);
        const auto* halves = reinterpret_cast<const uint16_t*>(source) + i;
        return p.kind == F16 ? F::load_f16(halves) : F::load_bf16(halves);
    };
    return {load(0), load(LANES)};
}

// The first n of 32 columns of row r, in a format of floats.
template <Format f> VT_INLINE void put_floats(uint8_t* out, int r, int n, Block32 x) {
    constexpr int cols = FORMAT[f].cols;
    alignas(64) std::conditional_t<f == F32, float, uint16_t> row[32];
    const auto convert = [&](int i, F a) {
        if constexpr (f == F32) a.store(row + i);
        if constexpr (f == F16) a.store_f16(row + i);
        if constexpr (f == BF16) a.store_bf16(row + i);
    };
    convert(0, x.low);
    convert(LANES, x.high);
    for (int j = 0; j < n; ++j) move(out + ((j / cols * LANES + r) * cols + j % cols) * sizeof row[0], row[j]);
}

template <Format f> void pack_panel(const Packing& p, int r0, uint8_t* out) {
    constexpr FormatInfo info = FORMAT[f];
    const int64_t cols = blocks(f, p.cols) * info.cols;  // with those that fill the last block
    for (int64_t k = 0; k < cols; k += 32, out += 32 / info.cols * info.bytes) {
        for (int r = 0; r < LANES; ++r) {
            const Block32 x = load_row(p, r0 + r, k);
            if constexpr (info.integer) put_codes<f>(out, 0, r, quantize<f>(x));
            else put_floats<f>(out, r, static_cast<int>(cols - k < 32 ? cols - k : 32), x);
        }
    }
}

void pack(const Packing& p) {
    with_format(p.format, [&](auto f) {
        if constexpr (f <= Q4M)
            for (int r = 0; r < p.rows; r += LANES) pack_panel<f>(p, r, p.out + r / LANES * p.panel_step);
    });
}

}  // namespace VT_ISA
}  // namespace vt
