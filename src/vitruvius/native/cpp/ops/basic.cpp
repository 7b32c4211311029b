// Ops that take each row for itself: lookups, norms, rotary positions, elementwise functions, AltUp's streams.
#include "../pack.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

// y ← skip · y + scale · the table's row
VT_INLINE void look_up(const Step& s, const Matrix& table, int row, float* y, float skip, float scale) {
    if (skip == 0 && scale == 1) return unpack_row(table, 0, row, y);
    float* const found = s.local<float>();
    unpack_row(table, 0, row, found);
    each_strip(table.cols, [&](int c, int n) { put(y + c, n, load(found + c, n), skip, scale); });
}

void run(const Step& s, const op_embed& o) {
    each_row(s, [&](int r) {
        look_up(s, s.matrix(o.table), o.known && s.id(r) >= o.known ? 0 : s.id(r), s.row(o.y, r), o.skip, o.scale);
    });
}

void run(const Step& s, const op_learned& o) {
    each_row(s, [&](int r) { look_up(s, s.matrix(o.table), s.position(r), s.row(o.y, r), 1, 1); });
}

// Those numbers of a vector that are for the group of channels from g on: its own, or what all groups share.
VT_INLINE const float* numbers(const Step& s, int vector, int width, int g) {
    return vector < 0 ? nullptr : s.vector(vector) + (s.size(vector) == width ? g : 0);
}

// One row: y ← skip · y + scale · (weight · normalised x + bias), each group of channels for itself.
VT_INLINE void normalize(const Step& s, const op_norm& o, const float* x, float* y) {
    const int width = s.width(o.x);
    for (int g = 0; g < width; g += o.group) {
        const float *const weight = numbers(s, o.weight, width, g), *const bias = numbers(s, o.bias, width, g);
        const Normal by = normal(x + g, o.group, o.kind, o.eps);
        each_strip(o.group, [&](int c, int n) {
            F a = (load(x + g + c, n) - F::all(by.mean)) * by.factor;
            if (weight) a *= load(weight + c, n);
            if (bias) a += load(bias + c, n);
            put(y + g + c, n, a, o.skip, o.scale);
        });
    }
}

void run(const Step& s, const op_norm& o) {
    each_row(s, [&](int r) { normalize(s, o, s.row(o.x, r), s.row(o.y, r)); });
}

void run(const Step& s, const op_gated_norm& o) {
    const op_norm norm{o.x, o.y, norm_kind::rms, o.weight, -1, o.eps, o.group, 0, 1};
    each_row(s, [&](int r) {
        const float *const x = s.row(o.x, r), *const z = s.row(o.z, r);
        float* const y = s.row(o.y, r);
        const auto gated = [&](int c, int n, F a) { return a * activate(o.act, load(z + c, n)); };
        if (o.gate_first) map(x, y, s.width(o.y), gated);
        normalize(s, norm, o.gate_first ? y : x, y);
        if (!o.gate_first) map(y, y, s.width(o.y), gated);
    });
}

void run(const Step& s, const op_rotary& o) {
    const int half = s.size(o.freqs);
    each_row(s, [&](int r) {
        float* const y = s.row(o.y, r);
        for (int i = 0; i < half; ++i) {
            // In float32, as in torch.
            const float angle = static_cast<float>(s.position(r) + o.shift) * s.vector(o.freqs)[i];
            y[i] = cosf(angle) * o.factor;
            y[half + i] = sinf(angle) * o.factor;
        }
    });
}

void run(const Step& s, const op_rope& o) {
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

VT_INLINE void copy(const float* x, float* y, int width) { memcpy(y, x, static_cast<size_t>(width) * sizeof(float)); }

void run(const Step& s, const op_copy& o) {
    each_row(s, [&](int r) {
        for (int64_t h = 0; h < o.heads; ++h) copy(s.row(o.x, r) + h * o.x_step, s.row(o.y, r) + h * o.y_step, o.width);
    });
}

void run(const Step& s, const op_select& o) {
    each_row(s, [&](int r) { copy(s.row(o.x, s.wanted(r)), s.row(o.y, r), s.width(o.y)); });
}

void run(const Step& s, const op_temper& o) {
    each_row(s, [&](int r) {
        const auto position = static_cast<float>(s.position(r) + o.shift);
        const float factor = 1 + o.scale * log1pf(floorf(position / static_cast<float>(o.floor)));
        map(s.row(o.x, r), s.row(o.x, r), s.width(o.x), [&](int, int, F x) { return x * factor; });
    });
}

// y = what(a) · b · scale
template <class Do> VT_INLINE void multiply(const float* a, const float* b, float scale, float* y, int width, Do what) {
    map(a, y, width, [&](int c, int n, F x) { return what(x) * load(b + c, n) * scale; });
}

void run(const Step& s, const op_pointwise& o) {
    const int width = s.width(o.y), per = width / s.width(o.a);  // channels of b for each of a
    each_row(s, [&](int r) {
        const float *const a = s.row(o.a, r), *const b = o.b < 0 ? nullptr : s.row(o.b, r);
        float* const y = s.row(o.y, r);
        switch (o.kind) {
            case pointwise_kind::add:
                return map(a, y, width, [&](int c, int n, F x) { return fma(load(b + c, n), o.scale, x * o.skip); });
            case pointwise_kind::mul: return multiply(a, b, o.scale, y, width, [](F x) { return x; });
            case pointwise_kind::act:
                return map(a, y, width, [&](int, int, F x) { return activate(o.act, x) * o.scale; });
            case pointwise_kind::gate:
                if (per == 1) return multiply(a, b, o.scale, y, width, [&](F x) { return activate(o.act, x); });
                for (int c = 0; c < width; c += per) {
                    const F factor = activate(o.act, F::all(a[c / per])) * o.scale;
                    map(b + c, y + c, per, [&](int, int, F x) { return x * factor; });
                }
                return;
            case pointwise_kind::vector:
                for (int c = 0, size = s.size(o.vector); c < width; c += size)
                    multiply(a + c, s.vector(o.vector), o.scale, y + c, size, [](F x) { return x; });
                return;
            case pointwise_kind::softcap:
                return map(a, y, width, [&](int, int, F x) { return tanh(x * (o.scale / o.cap)) * o.cap; });
            case pointwise_kind::gaussian_topk:
                const Normal by = normal(a, width, norm_kind::layer, 0);
                const F cutoff = F::all(by.mean + o.scale / by.factor);
                return map(a, y, width, [&](int, int, F x) { return fmax(x - cutoff, F::zero()); });
        }
    });
}

// AltUp's several residual streams (spec.AltUp), side by side in a row: stream i is channels i · width … of it.

void run(const Step& s, const op_streams_predict& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        for (int i = 0; i < o.n; ++i) {
            const float *const x = s.row(o.x, r), *const coefficients = s.row(o.coefficients, r) + i * o.n;
            map(x + i * width, s.row(o.y, r) + i * width, width, [&](int c, int n, F sum) {
                for (int j = 0; j < o.n; ++j) sum = fma(load(x + j * width + c, n), coefficients[j], sum);
                return sum;
            });
        }
    });
}

void run(const Step& s, const op_streams_correct& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        const float *const output = s.row(o.output, r), *const coefficients = s.row(o.coefficients, r);
        float* const x = s.row(o.x, r);
        each_strip(width, [&](int c, int n) {
            const F gain = load(output + c, n) - load(x + o.active * width + c, n);
            for (int i = 0; i < o.n; ++i) put(x + i * width + c, n, gain, 1, 1 + coefficients[i]);
        });
    });
}

void run(const Step& s, const op_streams_match& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        float* const y = s.row(o.y, r);
        const float given = fminf(normal(y, width, norm_kind::rms, 0).factor, sqrtf(1e5f));
        const float factor = given / normal(s.row(o.x, r), width, norm_kind::rms, 0).factor;
        map(y, y, width, [&](int, int, F a) { return a * factor; });
    });
}

void run(const Step& s, const op_streams_mean& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        const float* const x = s.row(o.x, r);
        map(x, s.row(o.y, r), width, [&](int c, int n, F sum) {
            for (int i = 1; i < o.n; ++i) sum += load(x + i * width + c, n);
            return sum * (1.0f / static_cast<float>(o.n));
        });
    });
}

}  // namespace VT_ISA
}  // namespace vt
