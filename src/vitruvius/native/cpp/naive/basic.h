// References of ops/basic.cpp: the equations, a number at a time.
#pragma once

#include <cmath>
#include <cstring>

#include "../step.h"

namespace vt {

void unpack_row(const Matrix&, int copy, int row, float* out);  // pack.cpp

namespace VT_ISA {

inline float activate(act_kind act, float x) {
    switch (act) {
        case act_kind::silu: return x / (1 + expf(-x));
        case act_kind::gelu: return 0.5f * x * (1 + erff(x * sqrtf(0.5f)));
        case act_kind::gelu_tanh: return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
        case act_kind::relu: return x > 0 ? x : 0;
        case act_kind::relu2: return x > 0 ? x * x : 0;
        case act_kind::sigmoid: return 1 / (1 + expf(-x));
        case act_kind::softplus: return x > 20 ? x : log1pf(expf(x));
        case act_kind::tanh: return tanhf(x);
        default: return x;
    }
}

// Does it for this thread's share of the rows.
template <class Do>
void each_row(const Step& s, Do what) {
    const Range mine = s.mine(s.rows);
    for (int r = mine.begin; r < mine.end; ++r) what(r);
}

// y ← skip · y + scale · a
inline void put(float& y, float a, float skip, float scale) { y = (skip == 0 ? 0 : skip * y) + scale * a; }

void run(const Step& s, const op_embed& o) {
    each_row(s, [&](int r) {
        float *const row = s.local<float>(), *const y = s.row(o.y, r);
        const bool plain = o.skip == 0 && o.scale == 1;
        unpack_row(s.matrix(o.table), 0, o.known && s.id(r) >= o.known ? 0 : s.id(r), plain ? y : row);
        for (int c = 0; !plain && c < s.width(o.y); ++c) put(y[c], row[c], o.skip, o.scale);
    });
}

void run(const Step& s, const op_learned& o) {
    each_row(s, [&](int r) {
        float *const row = s.local<float>(), *const y = s.row(o.y, r);
        unpack_row(s.matrix(o.table), 0, s.position(r), row);
        for (int c = 0; c < s.width(o.y); ++c) y[c] += row[c];
    });
}

// What one group of channels is shifted and multiplied by.
struct Normal {
    float mean, factor;
};

inline Normal normal(const float* x, int group, norm_kind kind, float eps) {
    double mean = 0, square = 0;
    for (int c = 0; kind == norm_kind::layer && c < group; ++c) mean += x[c] / static_cast<double>(group);
    for (int c = 0; c < group; ++c) square += (x[c] - mean) * (x[c] - mean);
    const double inside = kind == norm_kind::unit ? square + group * static_cast<double>(eps) : square / group + eps;
    return {static_cast<float>(mean), static_cast<float>(1 / sqrt(inside))};
}

// The number of a vector that a channel has, if each group has the same or the width has its own.
inline float number(const Step& s, int vector, int group, int width, int channel, float absent) {
    if (vector < 0) return absent;
    return s.vector(vector)[s.size(vector) == width ? channel : channel % group];
}

void run(const Step& s, const op_norm& o) {
    const int width = s.width(o.x);
    each_row(s, [&](int r) {
        const float* const x = s.row(o.x, r);
        for (int g = 0; g < width; g += o.group) {
            const Normal by = normal(x + g, o.group, o.kind, o.eps);
            for (int c = g; c < g + o.group; ++c) {
                const float a = (x[c] - by.mean) * by.factor * number(s, o.weight, o.group, width, c, 1);
                put(s.row(o.y, r)[c], a + number(s, o.bias, o.group, width, c, 0), o.skip, o.scale);
            }
        }
    });
}

void run(const Step& s, const op_gated_norm& o) {
    const int width = s.width(o.x);
    each_row(s, [&](int r) {
        const float *const x = s.row(o.x, r), *const z = s.row(o.z, r);
        float* const y = s.row(o.y, r);
        for (int g = 0; g < width; g += o.group) {
            for (int c = g; c < g + o.group; ++c) y[c] = o.gate_first ? x[c] * activate(o.act, z[c]) : x[c];
            const float factor = normal(y + g, o.group, norm_kind::rms, o.eps).factor;
            for (int c = g; c < g + o.group; ++c) {
                y[c] *= factor * number(s, o.weight, o.group, width, c, 1);
                if (!o.gate_first) y[c] *= activate(o.act, z[c]);
            }
        }
    });
}

void run(const Step& s, const op_rotary& o) {
    const int half = s.size(o.freqs);
    each_row(s, [&](int r) {
        for (int i = 0; i < half; ++i) {
            const float angle = static_cast<float>(s.position(r) + o.shift) * s.vector(o.freqs)[i];
            s.row(o.y, r)[i] = cosf(angle) * o.factor;
            s.row(o.y, r)[half + i] = sinf(angle) * o.factor;
        }
    });
}

void run(const Step& s, const op_rope& o) {
    const int half = o.dim / 2;
    each_row(s, [&](int r) {
        for (int i = 0; i < o.heads * half; ++i) {
            const int h = i / half, pair = i % half, first = o.interleaved ? 2 * pair : pair;
            const int second = o.interleaved ? first + 1 : first + half;
            const float cos = s.row(o.table, r)[pair], sin = s.row(o.table, r)[half + pair];
            const float* const x = s.row(o.x, r) + int64_t{h} * o.x_step;
            float* const y = s.row(o.y, r) + int64_t{h} * o.y_step;
            const float a = x[first], b = x[second];
            y[first] = a * cos - b * sin;
            y[second] = b * cos + a * sin;
        }
    });
}

void run(const Step& s, const op_copy& o) {
    each_row(s, [&](int r) {
        for (int h = 0; h < o.heads; ++h)
            for (int c = 0; c < o.width; ++c)
                s.row(o.y, r)[int64_t{h} * o.y_step + c] = s.row(o.x, r)[int64_t{h} * o.x_step + c];
    });
}

void run(const Step& s, const op_temper& o) {
    each_row(s, [&](int r) {
        const float steps = floorf(static_cast<float>(s.position(r) + o.shift) / static_cast<float>(o.floor));
        for (int c = 0; c < s.width(o.x); ++c) s.row(o.x, r)[c] *= 1 + o.scale * log1pf(steps);
    });
}

void run(const Step& s, const op_pointwise& o) {
    const int width = s.width(o.y), per = width / s.width(o.a);
    each_row(s, [&](int r) {
        const float *const a = s.row(o.a, r), *const b = o.b < 0 ? nullptr : s.row(o.b, r);
        float* const y = s.row(o.y, r);
        Normal by{};
        if (o.kind == pointwise_kind::gaussian_topk) by = normal(a, width, norm_kind::layer, 0);
        for (int c = 0; c < width; ++c) switch (o.kind) {
                case pointwise_kind::add: y[c] = o.skip * a[c] + o.scale * b[c]; break;
                case pointwise_kind::mul: y[c] = o.scale * a[c] * b[c]; break;
                case pointwise_kind::act: y[c] = o.scale * activate(o.act, a[c]); break;
                case pointwise_kind::gate: y[c] = o.scale * activate(o.act, a[c / per]) * b[c]; break;
                case pointwise_kind::vector: y[c] = o.scale * a[c] * s.vector(o.vector)[c % s.size(o.vector)]; break;
                case pointwise_kind::softcap: y[c] = o.cap * tanhf(o.scale * a[c] / o.cap); break;
                default: y[c] = fmaxf(a[c] - (by.mean + o.scale / by.factor), 0);
            }
    });
}

void run(const Step& s, const op_select& o) {
    each_row(s, [&](int r) {
        memcpy(s.row(o.y, r), s.row(o.x, s.wanted(r)), static_cast<size_t>(s.width(o.y)) * sizeof(float));
    });
}

}  // namespace VT_ISA
}  // namespace vt
