// References of the ops of AltUp in ops/basic.cpp: the equations, a number at a time.
#pragma once

#include "basic.h"

namespace vt {
namespace VT_ISA {

void run(const Step& s, const op_streams_predict& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        const float *x = s.row(o.x, r), *coefficients = s.row(o.coefficients, r);
        for (int i = 0; i < o.n * width; ++i) {
            float y = x[i];
            for (int j = 0; j < o.n; ++j) y += coefficients[i / width * o.n + j] * x[j * width + i % width];
            s.row(o.y, r)[i] = y;
        }
    });
}

void run(const Step& s, const op_streams_correct& o) {
    const int width = s.width(o.x) / o.n;
    each_row(s, [&](int r) {
        for (int c = 0; c < width; ++c) {
            const float gain = s.row(o.output, r)[c] - s.row(o.x, r)[o.active * width + c];
            for (int i = 0; i < o.n; ++i) s.row(o.x, r)[i * width + c] += (1 + s.row(o.coefficients, r)[i]) * gain;
        }
    });
}

void run(const Step& s, const op_streams_match& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        const float* x = s.row(o.x, r);
        float *y = s.row(o.y, r), wanted = 0, given = 0;
        for (int c = 0; c < width; ++c) wanted += x[c] * x[c] / width, given += y[c] * y[c] / width;
        for (int c = 0; c < width; ++c) y[c] *= sqrtf(wanted / fmaxf(given, 1e-5f));
    });
}

void run(const Step& s, const op_streams_mean& o) {
    const int width = s.width(o.y);
    each_row(s, [&](int r) {
        for (int c = 0; c < width; ++c) {
            float y = 0;
            for (int i = 0; i < o.n; ++i) y += s.row(o.x, r)[i * width + c] / o.n;
            s.row(o.y, r)[c] = y;
        }
    });
}

}  // namespace VT_ISA
}  // namespace vt
