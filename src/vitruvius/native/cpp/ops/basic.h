// Ops that take each row for itself: lookups, norms, rotary positions, elementwise functions.
#pragma once

#include <cmath>

#include "../lanes.h"
#include "../step.h"

namespace vt {

void unpack_row(const Matrix&, int copy, int row, float* out);  // pack.cpp

namespace VT_ISA {

// Does it for this thread's share of the rows.
template <class Do>
VT_INLINE void each_row(const Step& s, Do what) {
    const Range mine = s.mine(s.rows);
    for (int r = mine.begin; r < mine.end; ++r) what(r);
}

// Does it for strips of up to 16 channels: what(first channel, how many).
template <class Do>
VT_INLINE void each_strip(int width, Do what) {
    int c = 0;
    for (; c + LANES <= width; c += LANES) what(c, LANES);
    if (c < width) what(c, width - c);
}

VT_INLINE F load(const float* p, int n) { return n == LANES ? F::load(p) : F::load_some(p, n); }
VT_INLINE void store(float* p, int n, F a) { n == LANES ? a.store(p) : a.store_some(p, n); }

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

inline void run(const Step& s, const op_embed& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        const int id = s.id(r), row = o.known && id >= o.known ? 0 : id;
        float* const y = s.row(o.y, r);
        if (o.skip == 0 && o.scale == 1) return unpack_row(s.matrix(o.table), 0, row, y);
        float* const looked_up = s.local<float>();
        unpack_row(s.matrix(o.table), 0, row, looked_up);
        each_strip(width, [&](int c, int n) { put(y + c, n, load(looked_up + c, n), o.skip, o.scale); });
    });
}

inline void run(const Step& s, const op_learned& o) {
    each_row(s, [&](int r) {
        float *const y = s.row(o.y, r), *const looked_up = s.local<float>();
        unpack_row(s.matrix(o.table), 0, s.position(r), looked_up);
        each_strip(s.width(o.y), [&](int c, int n) { put(y + c, n, load(looked_up + c, n), 1, 1); });
    });
}

// What one group of channels is shifted and multiplied by.
struct Normal {
    float mean, factor;
};

VT_INLINE Normal normal(const float* x, int group, norm_kind kind, float eps) {
    F total = F::zero(), squares = F::zero();
    const auto size = static_cast<float>(group);
    float mean = 0;
    if (kind == norm_kind::layer) {
        each_strip(group, [&](int c, int n) { total += load(x + c, n); });
        mean = sum(total) / size;
    }
    float square = 0;
    each_strip(group, [&](int c, int n) {
        const F a = load(x + c, n) - F::all(mean);
        if (n == LANES) squares = fma(a, a, squares);
        else for (int i = c; i < c + n; ++i) square += (x[i] - mean) * (x[i] - mean);
    });
    square += sum(squares);
    if (kind == norm_kind::unit) return {mean, 1 / sqrtf(square + size * eps)};
    return {mean, 1 / sqrtf(square / size + eps)};
}

inline void run(const Step& s, const op_norm& o) {
    const int width = s.width(o.x);
    const float *const weight = s.vector(o.weight), *const bias = s.vector(o.bias);
    const bool own_weight = weight && s.size(o.weight) == width, own_bias = bias && s.size(o.bias) == width;
    each_row(s, [&](int r) {
        for (int g = 0; g < width; g += o.group) {
            const float* const x = s.row(o.x, r) + g;
            float* const y = s.row(o.y, r) + g;
            const float* const w = own_weight ? weight + g : weight;
            const float* const b = own_bias ? bias + g : bias;
            const Normal by = normal(x, o.group, o.kind, o.eps);
            each_strip(o.group, [&](int c, int n) {
                F a = (load(x + c, n) - F::all(by.mean)) * by.factor;
                if (w) a *= load(w + c, n);
                if (b) a += load(b + c, n);
                put(y + c, n, a, o.skip, o.scale);
            });
        }
    });
}

inline void run(const Step& s, const op_gated_norm& o) {
    const int width = s.width(o.x);
    const float* const weight = s.vector(o.weight);
    const bool own_weight = weight && s.size(o.weight) == width;
    each_row(s, [&](int r) {
        for (int g = 0; g < width; g += o.group) {
            const float *x = s.row(o.x, r) + g, *const z = s.row(o.z, r) + g;
            float* const y = s.row(o.y, r) + g;
            const float* const w = own_weight ? weight + g : weight;
            if (o.gate_first) {
                each_strip(o.group, [&](int c, int n) { store(y + c, n, load(x + c, n) * activate(o.act, load(z + c, n))); });
                x = y;
            }
            const float factor = normal(x, o.group, norm_kind::rms, o.eps).factor;
            each_strip(o.group, [&](int c, int n) {
                F a = load(x + c, n) * factor;
                if (w) a *= load(w + c, n);
                store(y + c, n, o.gate_first ? a : a * activate(o.act, load(z + c, n)));
            });
        }
    });
}

inline void run(const Step& s, const op_rotary& o) {
    const float* const freqs = s.vector(o.freqs);
    const int half = s.size(o.freqs);
    each_row(s, [&](int r) {
        float* const y = s.row(o.y, r);
        const auto position = static_cast<float>(s.position(r) + o.shift);
        for (int i = 0; i < half; ++i) {
            const float angle = position * freqs[i];  // in float32, as in torch
            y[i] = cosf(angle) * o.factor;
            y[half + i] = sinf(angle) * o.factor;
        }
    });
}

inline void run(const Step& s, const op_rope& o) {
    const int half = o.dim / 2;
    each_row(s, [&](int r) {
        const float *const cos = s.row(o.table, r), *const sin = cos + half;
        for (int h = 0; h < o.heads; ++h) {
            const float* const x = s.row(o.x, r) + int64_t{h} * o.x_step;
            float* const y = s.row(o.y, r) + int64_t{h} * o.y_step;
            if (o.interleaved) {
                for (int i = 0; i < half; ++i) {
                    const float a = x[2 * i], b = x[2 * i + 1];
                    y[2 * i] = a * cos[i] - b * sin[i];
                    y[2 * i + 1] = b * cos[i] + a * sin[i];
                }
            } else {
                each_strip(half, [&](int i, int n) {
                    const F a = load(x + i, n), b = load(x + half + i, n), c = load(cos + i, n), d = load(sin + i, n);
                    store(y + i, n, a * c - b * d);
                    store(y + half + i, n, fma(a, d, b * c));
                });
            }
        }
    });
}

inline void run(const Step& s, const op_copy& o) {
    each_row(s, [&](int r) {
        for (int h = 0; h < o.heads; ++h)
            memcpy(s.row(o.y, r) + int64_t{h} * o.y_step, s.row(o.x, r) + int64_t{h} * o.x_step,
                   static_cast<size_t>(o.width) * sizeof(float));
    });
}

inline void run(const Step& s, const op_temper& o) {
    each_row(s, [&](int r) {
        const auto position = static_cast<float>(s.position(r) + o.shift);
        const float factor = 1 + o.scale * log1pf(floorf(position / static_cast<float>(o.floor)));
        float* const x = s.row(o.x, r);
        each_strip(s.width(o.x), [&](int c, int n) { store(x + c, n, load(x + c, n) * factor); });
    });
}

// y = what(channel, how many, a's channels) for all channels of one row.
template <class Do>
VT_INLINE void map(const float* a, float* y, int width, Do what) {
    each_strip(width, [&](int c, int n) { store(y + c, n, what(c, n, load(a + c, n))); });
}

// Each channel of a is the gate of `per` channels of b.
VT_INLINE void gate(const op_pointwise& o, const float* a, const float* b, float* y, int width, int per) {
    if (per == 1) return map(a, y, width, [&](int c, int n, F x) { return activate(o.act, x) * load(b + c, n) * o.scale; });
    for (int c = 0; c < width; c += per) {
        const F factor = activate(o.act, F::all(a[c / per])) * o.scale;
        map(b + c, y + c, per, [&](int, int, F x) { return x * factor; });
    }
}

VT_INLINE void gaussian_topk(const op_pointwise& o, const float* a, float* y, int width) {
    const Normal by = normal(a, width, norm_kind::layer, 0);
    const F cutoff = F::all(by.mean + o.scale / by.factor);
    map(a, y, width, [&](int, int, F x) { return fmax(x - cutoff, F::zero()); });
}

inline void run(const Step& s, const op_pointwise& o) {
    const int width = s.width(o.y);
    const float* const vector = s.vector(o.vector);
    each_row(s, [&](int r) {
        const float *const a = s.row(o.a, r), *const b = o.b < 0 ? nullptr : s.row(o.b, r);
        float* const y = s.row(o.y, r);
        switch (o.kind) {
            case pointwise_kind::add:
                return map(a, y, width, [&](int c, int n, F x) { return fma(load(b + c, n), o.scale, x * o.skip); });
            case pointwise_kind::mul:
                return map(a, y, width, [&](int c, int n, F x) { return x * load(b + c, n) * o.scale; });
            case pointwise_kind::act:
                return map(a, y, width, [&](int, int, F x) { return activate(o.act, x) * o.scale; });
            case pointwise_kind::gate: return gate(o, a, b, y, width, width / s.width(o.a));
            case pointwise_kind::vector:
                for (int c = 0, size = s.size(o.vector); c < width; c += size)
                    map(a + c, y + c, size, [&](int i, int n, F x) { return x * load(vector + i, n) * o.scale; });
                return;
            case pointwise_kind::softcap:
                return map(a, y, width, [&](int, int, F x) { return tanh(x * (o.scale / o.cap)) * o.cap; });
            case pointwise_kind::gaussian_topk: return gaussian_topk(o, a, y, width);
        }
    });
}

inline void run(const Step& s, const op_select& o) {
    each_row(s, [&](int r) {
        memcpy(s.row(o.y, r), s.row(o.x, s.wanted(r)), static_cast<size_t>(s.width(o.y)) * sizeof(float));
    });
}

}  // namespace VT_ISA
}  // namespace vt
