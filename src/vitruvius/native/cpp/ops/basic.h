// What most ops are made of: loops over a thread's rows and over their channels, 16 at a time, and functions of those.
#pragma once

#include <cmath>

#include "../lanes.h"
#include "../step.h"

namespace vt {
namespace VT_ISA {

// Does it for this thread's share of the rows.
template <class Do> VT_INLINE void each_row(const Step& s, Do what) {
    const Range mine = s.mine(s.rows);
    for (int r = mine.begin; r < mine.end; ++r) what(r);
}

// This thread's share of n things that belong together in lots; the last lot may be smaller.
VT_INLINE Range in_lots(const Step& s, int n, int lot) {
    const Range mine = s.mine(static_cast<int>(ceil_div(n, lot)));
    return {mine.begin * lot, least(mine.end * lot, n)};
}

// How many lanes channels fill of the strip of that number.
VT_INLINE int lanes_of(int width, int strip) { return least(width - strip * LANES, LANES); }

// Does it for strips of up to 16 channels: what(first channel, how many).
template <class Do> VT_INLINE void each_strip(Range channels, Do what) {
    int c = channels.begin;
    for (; c + LANES <= channels.end; c += LANES) what(c, LANES);
    if (c < channels.end) what(c, channels.end - c);
}
template <class Do> VT_INLINE void each_strip(int width, Do what) { each_strip(Range{0, width}, what); }

VT_INLINE F load(const float* p, int n) { return n == LANES ? F::load(p) : F::load_some(p, n); }
VT_INLINE void store(float* p, int n, F a) { n == LANES ? a.store(p) : a.store_some(p, n); }

// y = what(first channel, how many, those of a).
template <class Do> VT_INLINE void map(const float* a, float* y, int width, Do what) {
    each_strip(width, [&](int c, int n) { store(y + c, n, what(c, n, load(a + c, n))); });
}

// y ← skip · y + scale · a
VT_INLINE void put(float* y, int n, F a, float skip, float scale) {
    a *= F::all(scale);
    store(y, n, skip == 0 ? a : fma(load(y, n), skip, a));
}

VT_INLINE F activate(act_kind act, F x) {
    switch (act) {
        case act_kind::silu: return silu(x);
        case act_kind::gelu: return gelu(x);
        case act_kind::gelu_tanh: return gelu_tanh(x);
        case act_kind::relu: return fmax(x, F::zero());
        case act_kind::relu2: return fmax(x, F::zero()) * fmax(x, F::zero());
        case act_kind::sigmoid: return sigmoid(x);
        case act_kind::softplus: return softplus(x);
        case act_kind::tanh: return tanh(x);
        default: return x;
    }
}

// What one group of channels is shifted and multiplied by.
struct Normal {
    float mean, factor;
};

VT_INLINE Normal normal(const float* x, int group, norm_kind kind, float eps) {
    F total = F::zero(), squares = F::zero();
    const auto size = static_cast<float>(group);
    if (kind == norm_kind::layer) each_strip(group, [&](int c, int n) { total += load(x + c, n); });
    const float mean = kind == norm_kind::layer ? sum(total) / size : 0;
    float rest = 0;  // of a strip that is not full: its other lanes would be −mean
    each_strip(group, [&](int c, int n) {
        const F a = load(x + c, n) - F::all(mean);
        if (n == LANES) squares = fma(a, a, squares);
        for (int i = c; n < LANES && i < group; ++i) rest += (x[i] - mean) * (x[i] - mean);
    });
    const float square = rest + sum(squares);
    return {mean, 1 / sqrtf(kind == norm_kind::unit ? square + size * eps : square / size + eps)};
}

}  // namespace VT_ISA
}  // namespace vt
