// References of ops/recurrent.cpp: the equations, a number at a time. Thread 0 does everything.
#pragma once

#include <vector>

#include "../state.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

// The memory of head h, and its entry (i, j): columns are kept in strips of 16, as drawn in ops/recurrent.cpp.
inline float* head_of(float* memories, int h, int rows, int columns) {
    return memories + static_cast<size_t>(h) * rows * ((columns + 15) / 16 * 16);
}
inline float& entry(float* memory, int rows, int i, int j) {
    return memory[(static_cast<size_t>(j / 16) * rows + i) * 16 + j % 16];
}

// out = scale · x / |x|
inline void unit(const float* x, int n, float scale, float* out) {
    float squares = 1e-6f;  // as flash-linear-attention has it
    for (int i = 0; i < n; ++i) squares += x[i] * x[i];
    for (int i = 0; i < n; ++i) out[i] = scale * x[i] / sqrtf(squares);
}

void run(const Step& s, const op_conv& o) {
    if (s.thread != 0) return;
    const int width = s.width(o.x), past = o.kernel - 1;
    const float *weight = s.vector(o.weight), *bias = s.vector(o.bias);
    for (const Part& part : s) {
        float* state = part.sequence->fixed(o.state);
        for (int c = 0; c < width; ++c) {
            const auto input = [&](int t) {
                if (t < 0) return state[(past + t) * width + c];
                const int r = part.row0 + t;
                return s.row(o.x, r)[c] * (o.before < 0 ? 1.0f : s.row(o.before, r)[c]);
            };
            for (int t = 0; t < part.rows; ++t) {
                float y = bias ? bias[c] : 0.0f;
                for (int i = 0; i < o.kernel; ++i) y += weight[i * width + c] * input(t - past + i);
                y = activate(o.act, y);
                const int r = part.row0 + t;
                s.row(o.y, r)[c] = o.after < 0 ? y : y * s.row(o.after, r)[c];
            }
            for (int i = 0; i < past; ++i) state[i * width + c] = input(part.rows - past + i);
        }
    }
}

// S ← diag(α) S, then S ← S + k (β (v − kᵀ S))ᵀ, and y = qᵀ S, for each head and token after token.
void run(const Step& s, const op_delta& o) {
    if (s.thread != 0) return;
    const int share = o.v_heads / o.k_heads, k_dim = o.k_dim, v_dim = o.v_dim;
    std::vector<float> q(k_dim), k(k_dim);
    for (const Part& part : s) {
        for (int h = 0; h < o.v_heads; ++h) {
            float* memory = head_of(part.sequence->fixed(o.state), h, k_dim, v_dim);
            for (int r = part.row0; r < part.row0 + part.rows; ++r) {
                unit(s.row(o.q, r) + h / share * k_dim, k_dim, 1.0f / sqrtf(static_cast<float>(k_dim)), q.data());
                unit(s.row(o.k, r) + h / share * k_dim, k_dim, 1.0f, k.data());
                const float beta = o.beta_scale * activate(act_kind::sigmoid, s.row(o.beta, r)[h]);
                for (int i = 0; i < k_dim; ++i) {
                    const int step = o.per_channel ? h * k_dim + i : h;
                    const float dt = activate(act_kind::softplus, s.row(o.decay, r)[step] + s.vector(o.dt_bias)[step]);
                    const float kept = expf(-expf(s.vector(o.a_log)[h]) * dt);
                    for (int j = 0; j < v_dim; ++j) entry(memory, k_dim, i, j) *= kept;
                }
                for (int j = 0; j < v_dim; ++j) {
                    float found = 0.0f, y = 0.0f;
                    for (int i = 0; i < k_dim; ++i) found += k[i] * entry(memory, k_dim, i, j);
                    const float error = beta * (s.row(o.v, r)[h * v_dim + j] - found);
                    for (int i = 0; i < k_dim; ++i) {
                        entry(memory, k_dim, i, j) += k[i] * error;
                        y += q[i] * entry(memory, k_dim, i, j);
                    }
                    s.row(o.y, r)[h * v_dim + j] = y;
                }
            }
        }
    }
}

// S ← exp(−A·dt) S + dt · b ⊗ x, and y = cᵀ S + D·x, for each head and token after token.
void run(const Step& s, const op_ssm& o) {
    if (s.thread != 0) return;
    const int share = o.heads / o.groups, rows = o.state_dim, width = o.head_dim;
    for (const Part& part : s) {
        for (int h = 0; h < o.heads; ++h) {
            float* memory = head_of(part.sequence->fixed(o.state), h, rows, width);
            for (int r = part.row0; r < part.row0 + part.rows; ++r) {
                const float *b = s.row(o.b, r) + h / share * rows, *c = s.row(o.c, r) + h / share * rows;
                const float raw = activate(act_kind::softplus, s.row(o.dt, r)[h] + s.vector(o.dt_bias)[h]);
                const float dt = fminf(fmaxf(raw, o.dt_min), o.dt_max);
                const float kept = expf(-expf(s.vector(o.a_log)[h]) * dt);
                for (int j = 0; j < width; ++j) {
                    const float x = s.row(o.x, r)[h * width + j];
                    float y = s.vector(o.d)[h] * x;
                    for (int i = 0; i < rows; ++i) {
                        float& m = entry(memory, rows, i, j);
                        m = kept * m + b[i] * x * dt;
                        y += c[i] * m;
                    }
                    s.row(o.y, r)[h * width + j] = y;
                }
            }
        }
    }
}

}  // namespace VT_ISA
}  // namespace vt
