// Mixers whose memory does not grow: a short convolution, the gated delta rule, the state space of Mamba-2.
//
// The memory S of a head (rows × columns) is kept in strips of 16 columns, each read from top to bottom:
//
//             column 0 … 15   16 … 31           in memory
//     row 0   ┌───────────┬───────────┐         strip 0: row 0 (16 floats), row 1, …
//     row 1   │  strip 0  │  strip 1  │ …       strip 1: row 0, row 1, …
//      …      └───────────┴───────────┘
//
// Columns know nothing of each other, so threads share the strips, and several tokens pass over a few strips while these
// stay in the first cache: memory is read and written once for all tokens of a step. Token after token is also what
// strong decays need: nothing is ever divided by what has decayed. Forms in chunks do no fewer multiplications.
#pragma once

#include <cmath>
#include <type_traits>

#include "../scratch.h"
#include "../state.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

constexpr int SIDE = PARTS == 1 ? 4 : PARTS == 2 ? 2 : 1;  // strips that stand side by side in registers

VT_INLINE int strips_of(int columns) { return (columns + LANES - 1) / LANES; }
// How many of the columns are in the strip.
VT_INLINE int filled(int columns, int strip) {
    const int rest = columns - strip * LANES;
    return rest < LANES ? rest : LANES;
}
VT_INLINE float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }
VT_INLINE float softplus_of(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

// Strips [begin, end) of one head of a sequence.
struct Strips {
    int head, begin, end;
};

// Calls work(strips) for this thread's share of all heads' strips.
template <class Work> VT_INLINE void each_head(const Step& s, int heads, int strips, Work work) {
    const Range mine = s.mine(heads * strips);
    for (int at = mine.begin; at < mine.end;) {
        const int head = at / strips, next = (head + 1) * strips, end = next < mine.end ? next : mine.end;
        work(Strips{head, at - head * strips, end - head * strips});
        at = end;
    }
}

// Calls work(strip, number) with a number of strips that is known to the compiler.
template <class Work> VT_INLINE void side_by_side(const Strips& strips, Work work) {
    int at = strips.begin;
    for (; at + SIDE <= strips.end; at += SIDE) work(at, std::integral_constant<int, SIDE>());
    for (; at < strips.end; ++at) work(at, std::integral_constant<int, 1>());
}

// ── convolution ──────────────────────────────────────────────────────────────────────────────────────────────────────

// What a row's channels are computed from: for each place of the kernel the inputs of its token, and what multiplies them.
struct Inputs {
    const float *x, *before;
};

// Token t of a part, counted from its first row; those before it are in the state, which holds the last kernel − 1
// inputs, the oldest first.
VT_INLINE Inputs input(const Step& s, const op_conv& o, const Part& part, int t) {
    if (t < 0) return {part.sequence->fixed(o.state) + (o.kernel - 1 + t) * s.width(o.x), nullptr};
    return {s.row(o.x, part.row0 + t), o.before < 0 ? nullptr : s.row(o.before, part.row0 + t)};
}
VT_INLINE F load(const Inputs& from, int c, int n) {
    const F x = load(from.x + c, n);
    return from.before ? x * load(from.before + c, n) : x;
}

inline void run(const Step& s, const op_conv& o) {
    const int width = s.width(o.x), past = o.kernel - 1;
    const Range mine = s.mine(strips_of(width));
    const int begin = mine.begin * LANES, end = mine.end * LANES < width ? mine.end * LANES : width;
    const float *weight = s.vector(o.weight), *bias = s.vector(o.bias);
    Inputs from[KERNEL_MOST];
    for (const Part& part : s) {
        for (int t = 0; t < part.rows; ++t) {
            for (int i = 0; i <= past; ++i) from[i] = input(s, o, part, t - past + i);
            float* y = s.row(o.y, part.row0 + t);
            const float* after = o.after < 0 ? nullptr : s.row(o.after, part.row0 + t);
            each_strip(end - begin, [&](int strip, int n) {
                const int c = begin + strip;
                F sum = bias ? load(bias + c, n) : F::zero();
                for (int i = 0; i <= past; ++i) sum = fma(load(weight + i * width + c, n), load(from[i], c, n), sum);
                sum = activate(o.act, sum);
                store(y + c, n, after ? sum * load(after + c, n) : sum);
            });
        }
        float* state = part.sequence->fixed(o.state);
        for (int i = 0; i < past; ++i) {
            const Inputs kept = input(s, o, part, part.rows - past + i);
            each_strip(end - begin, [&](int strip, int n) {
                store(state + i * width + begin + strip, n, load(kept, begin + strip, n));
            });
        }
    }
}

// ── gated delta rule ─────────────────────────────────────────────────────────────────────────────────────────────────

// What a token does to a head's memory, S ← diag(kept) S + k (β (v − (kept·k)ᵀ S))ᵀ, and reads from it,
// qᵀ S = (kept·q)ᵀ S_before + (q·k) (β (…))ᵀ: four vectors as long as a key.
struct DeltaToken {
    float *kept, *k, *kept_k, *kept_q;
    float qk, beta;
};

// out = scale · x / |x|
VT_INLINE void unit(const float* x, int n, float scale, float* out) {
    F squares = F::zero();
    for (int i = 0; i < strips_of(n); ++i) {
        const F v = load(x + i * LANES, filled(n, i));
        squares = fma(v, v, squares);
    }
    const float factor = scale / sqrtf(sum(squares) + 1e-6f);  // epsilon as flash-linear-attention has it
    for (int i = 0; i < strips_of(n); ++i) {
        (load(x + i * LANES, filled(n, i)) * factor).store(out + i * LANES);
    }
}

inline void prepare(const Step& s, const op_delta& o, int head, int row, DeltaToken& t) {
    const int n = o.k_dim, shared = head / (o.v_heads / o.k_heads) * n;
    unit(s.row(o.q, row) + shared, n, 1.0f / sqrtf(static_cast<float>(n)), t.kept_q);
    unit(s.row(o.k, row) + shared, n, 1.0f, t.k);
    const float rate = -expf(s.vector(o.a_log)[head]);
    const float *a = s.row(o.decay, row), *bias = s.vector(o.dt_bias);
    F kept = F::all(expf(rate * softplus_of(a[head] + bias[head]))), qk = F::zero();
    for (int i = 0; i < strips_of(n); ++i) {
        const int c = i * LANES, m = filled(n, i), at = head * n + c;
        if (o.per_channel) kept = exp(softplus(load(a + at, m) + load(bias + at, m)) * rate);
        const F q = F::load(t.kept_q + c), k = F::load(t.k + c);
        qk = fma(q, k, qk);
        kept.store(t.kept + c);
        (kept * k).store(t.kept_k + c);
        (kept * q).store(t.kept_q + c);
    }
    t.qk = sum(qk);
    t.beta = o.beta_scale * sigmoid_of(s.row(o.beta, row)[head]);
}

// One pass from top to bottom of N strips: the token `writes` adds k ⊗ u, then `reads` is answered with
// found = (kept·k)ᵀ S and answer = (kept·q)ᵀ S. Either may not be wanted.
template <int N, bool WRITES, bool READS>
VT_INLINE void delta_pass(float* strips, int rows, const DeltaToken writes, const F* u, const DeltaToken reads, F* found,
                          F* answer) {
    F added[N], f[N], a[N];
    VT_UNROLL for (int j = 0; j < N; ++j) added[j] = u[j], f[j] = a[j] = F::zero();
    for (int i = 0; i < rows; ++i) {
        const F kept = F::all(writes.kept[i]), k = F::all(writes.k[i]);
        const F kept_k = F::all(reads.kept_k[i]), kept_q = F::all(reads.kept_q[i]);
        VT_UNROLL for (int j = 0; j < N; ++j) {
            float* at = strips + (static_cast<int64_t>(j) * rows + i) * LANES;
            F m = F::load(at);
            if (WRITES) {
                m = fma(added[j], k, m * kept);
                m.store(at);
            }
            if (READS) {
                f[j] = fma(m, kept_k, f[j]);
                a[j] = fma(m, kept_q, a[j]);
            }
        }
    }
    VT_UNROLL for (int j = 0; j < N; ++j) found[j] = f[j], answer[j] = a[j];
}

// Tokens in rows row … row + n − 1 of the step, over N strips from `strip` on.
template <int N>
inline void delta_tokens(const Step& s, const op_delta& o, float* memory, int head, int strip, int row, int n,
                         const DeltaToken* tokens) {
    float* strips = memory + static_cast<size_t>(strip) * o.k_dim * LANES;
    F u[N] = {}, found[N], answer[N];
    delta_pass<N, false, true>(strips, o.k_dim, tokens[0], u, tokens[0], found, answer);
    for (int t = 0; t < n; ++t) {
        VT_UNROLL for (int j = 0; j < N; ++j) {
            const int at = head * o.v_dim + (strip + j) * LANES, m = filled(o.v_dim, strip + j);
            u[j] = (load(s.row(o.v, row + t) + at, m) - found[j]) * tokens[t].beta;
            store(s.row(o.y, row + t) + at, m, fma(u[j], tokens[t].qk, answer[j]));
        }
        if (t + 1 < n) delta_pass<N, true, true>(strips, o.k_dim, tokens[t], u, tokens[t + 1], found, answer);
        else delta_pass<N, true, false>(strips, o.k_dim, tokens[t], u, tokens[t], found, answer);
    }
}

inline void run(const Step& s, const op_delta& o) {
    const int length = strips_of(o.k_dim) * LANES, strips = strips_of(o.v_dim);
    DeltaToken tokens[DELTA_TOKENS];
    for (int t = 0; t < DELTA_TOKENS; ++t) {
        float* at = s.local<float>() + t * 4 * length;
        tokens[t] = {at, at + length, at + 2 * length, at + 3 * length, 0.0f, 0.0f};
    }
    for (const Part& part : s) {
        each_head(s, o.v_heads, strips, [&](const Strips& mine) {
            float* memory = part.sequence->fixed(o.state) + static_cast<size_t>(mine.head) * strips * o.k_dim * LANES;
            for (int done = 0; done < part.rows; done += DELTA_TOKENS) {
                const int row = part.row0 + done, rest = part.rows - done, n = rest < DELTA_TOKENS ? rest : DELTA_TOKENS;
                for (int t = 0; t < n; ++t) prepare(s, o, mine.head, row + t, tokens[t]);
                side_by_side(mine, [&](int strip, auto number) {
                    delta_tokens<decltype(number)::value>(s, o, memory, mine.head, strip, row, n, tokens);
                });
            }
        });
    }
}

// ── state space ──────────────────────────────────────────────────────────────────────────────────────────────────────

// T tokens over N strips: S ← kept S + b ⊗ x and y += cᵀ S for one after the other, in one pass from top to bottom.
template <int N, int T>
VT_INLINE void ssm_pass(float* strips, int rows, const float* const* b, const float* const* c, const float* kept,
                        const F (&x)[T][N], F (&y)[T][N]) {
    F sum[T][N], left[T];
    VT_UNROLL for (int t = 0; t < T; ++t) {
        left[t] = F::all(kept[t]);
        VT_UNROLL for (int j = 0; j < N; ++j) sum[t][j] = y[t][j];
    }
    for (int i = 0; i < rows; ++i) {
        F in[T], out[T];
        VT_UNROLL for (int t = 0; t < T; ++t) in[t] = F::all(b[t][i]), out[t] = F::all(c[t][i]);
        VT_UNROLL for (int j = 0; j < N; ++j) {
            float* at = strips + (static_cast<int64_t>(j) * rows + i) * LANES;
            F m = F::load(at);
            VT_UNROLL for (int t = 0; t < T; ++t) {
                m = fma(x[t][j], in[t], m * left[t]);
                sum[t][j] = fma(m, out[t], sum[t][j]);
            }
            m.store(at);
        }
    }
    VT_UNROLL for (int t = 0; t < T; ++t)
        VT_UNROLL for (int j = 0; j < N; ++j) y[t][j] = sum[t][j];
}

// Tokens in rows row … row + T − 1, over N strips from `strip` on; dt and kept are those of the first.
template <int N, int T>
inline void ssm_tokens(const Step& s, const op_ssm& o, float* memory, int head, int strip, int row, const float* dt,
                       const float* kept) {
    const int group = head / (o.heads / o.groups) * o.state_dim;
    const float *b[T], *c[T];
    F x[T][N], y[T][N];
    VT_UNROLL for (int t = 0; t < T; ++t) {
        b[t] = s.row(o.b, row + t) + group;
        c[t] = s.row(o.c, row + t) + group;
        VT_UNROLL for (int j = 0; j < N; ++j) {
            const float* at = s.row(o.x, row + t) + head * o.head_dim + (strip + j) * LANES;
            const F given = load(at, filled(o.head_dim, strip + j));
            x[t][j] = given * dt[t];
            y[t][j] = given * s.vector(o.d)[head];
        }
    }
    ssm_pass<N, T>(memory + static_cast<size_t>(strip) * o.state_dim * LANES, o.state_dim, b, c, kept, x, y);
    VT_UNROLL for (int t = 0; t < T; ++t) {
        VT_UNROLL for (int j = 0; j < N; ++j) {
            float* at = s.row(o.y, row + t) + head * o.head_dim + (strip + j) * LANES;
            store(at, filled(o.head_dim, strip + j), y[t][j]);
        }
    }
}

inline void run(const Step& s, const op_ssm& o) {
    const int strips = strips_of(o.head_dim);
    float *dt = s.local<float>(), *kept = dt + s.rows;  // of each row of a part
    for (const Part& part : s) {
        each_head(s, o.heads, strips, [&](const Strips& mine) {
            float* memory = part.sequence->fixed(o.state) + static_cast<size_t>(mine.head) * strips * o.state_dim * LANES;
            const float rate = -expf(s.vector(o.a_log)[mine.head]), bias = s.vector(o.dt_bias)[mine.head];
            for (int t = 0; t < part.rows; ++t) {
                const float raw = softplus_of(s.row(o.dt, part.row0 + t)[mine.head] + bias);
                dt[t] = fminf(fmaxf(raw, o.dt_min), o.dt_max);
                kept[t] = expf(rate * dt[t]);
            }
            side_by_side(mine, [&](int strip, auto number) {
                constexpr int N = decltype(number)::value;
                int t = 0;
                for (; t + 2 <= part.rows; t += 2)
                    ssm_tokens<N, 2>(s, o, memory, mine.head, strip, part.row0 + t, dt + t, kept + t);
                if (t < part.rows) ssm_tokens<N, 1>(s, o, memory, mine.head, strip, part.row0 + t, dt + t, kept + t);
            });
        });
    }
}

}  // namespace VT_ISA
}  // namespace vt
