// AltUp's several residual streams (spec.AltUp), side by side in a row: stream i is channels i · width … of it.
#pragma once

#include <cmath>

#include "basic.h"

namespace vt {
namespace VT_ISA {

inline void run(const Step& s, const op_streams_predict& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        const float *x = s.row(o.x, r), *coefficients = s.row(o.coefficients, r);
        float* y = s.row(o.y, r);
        each_strip(width, [&](int c, int n) {
            for (int i = 0; i < o.n; ++i) {
                F sum = load(x + i * width + c, n);
                for (int j = 0; j < o.n; ++j) sum = fma(load(x + j * width + c, n), coefficients[i * o.n + j], sum);
                store(y + i * width + c, n, sum);
            }
        });
    });
}

inline void run(const Step& s, const op_streams_correct& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        const float *output = s.row(o.output, r), *coefficients = s.row(o.coefficients, r);
        float* x = s.row(o.x, r);
        each_strip(width, [&](int c, int n) {
            const F gain = load(output + c, n) - load(x + o.active * width + c, n);
            for (int i = 0; i < o.n; ++i) {
                float* at = x + i * width + c;
                store(at, n, fma(gain, 1 + coefficients[i], load(at, n)));
            }
        });
    });
}

VT_INLINE float squares(const float* x, int width) {
    F sums = F::zero();
    each_strip(width, [&](int c, int n) { sums = fma(load(x + c, n), load(x + c, n), sums); });
    return sum(sums);
}

inline void run(const Step& s, const op_streams_match& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        float* y = s.row(o.y, r);
        const float given = fmaxf(squares(y, width) / static_cast<float>(width), 1e-5f);
        const float factor = sqrtf(squares(s.row(o.x, r), width) / static_cast<float>(width) / given);
        each_strip(width, [&](int c, int n) { store(y + c, n, load(y + c, n) * factor); });
    });
}

inline void run(const Step& s, const op_streams_mean& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        const float* x = s.row(o.x, r);
        each_strip(width, [&](int c, int n) {
            F sum = load(x + c, n);
            for (int i = 1; i < o.n; ++i) sum += load(x + i * width + c, n);
            store(s.row(o.y, r) + c, n, sum * (1.0f / static_cast<float>(o.n)));
        });
    });
}

}  // namespace VT_ISA
}  // namespace vt
