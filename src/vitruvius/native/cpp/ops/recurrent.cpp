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
#include <type_traits>

#include "../scratch.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

constexpr int SIDE = PARTS == 1 ? 4 : PARTS == 2 ? 2 : 1;  // strips that stand side by side in registers

VT_INLINE float softplus_of(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

// The tokens in rows row … row + n − 1 of a step, with one head's memory.
struct Tokens {
    int head, row, n;
    float* memory;
};

// For this thread's share of the strips of all heads' memories (rows × columns) in that state: prepare(tokens), at most
// `most`, then work(tokens, first strip, how many strips) with a number of strips that is known to the compiler.
template <class Prepare, class Work>
VT_INLINE void each_head(const Step& s, int state, int heads, int rows, int columns, int most, Prepare prepare,
                         Work work) {
    const int strips = panels(columns);
    const Range mine = s.mine(heads * strips);
    for (const Part& part : s)
        for (int head = mine.begin / strips; head * strips < mine.end; ++head) {
            const int begin = head * strips, end = begin + strips < mine.end ? strips : mine.end - begin;
            float* const memory = part.sequence->fixed(state) + int64_t{begin} * rows * LANES;
            for (int done = 0; done < part.rows; done += most) {
                const Tokens tokens{head, part.row0 + done, part.rows - done < most ? part.rows - done : most, memory};
                prepare(tokens);
                int strip = begin < mine.begin ? mine.begin - begin : 0;
                for (; strip + SIDE <= end; strip += SIDE) work(tokens, strip, std::integral_constant<int, SIDE>());
                for (; strip < end; ++strip) work(tokens, strip, std::integral_constant<int, 1>());
            }
        }
}

// ── convolution ──────────────────────────────────────────────────────────────────────────────────────────────────────

// The inputs of one token: x, times `before` if there is any.
struct Inputs {
    const float *x, *before;
    VT_INLINE F at(int c, int n) const { return before ? load(x + c, n) * load(before + c, n) : load(x + c, n); }
};

// Token t of a part, counted from its first row; those before it are in the state, which holds the last kernel − 1
// inputs, the oldest first.
VT_INLINE Inputs inputs_of(const Step& s, const op_conv& o, const Part& part, int t) {
    if (t < 0) return {part.sequence->fixed(o.state) + (o.kernel - 1 + t) * s.width(o.x), nullptr};
    return {s.row(o.x, part.row0 + t), o.before < 0 ? nullptr : s.row(o.before, part.row0 + t)};
}

void run(const Step& s, const op_conv& o) {
    const int width = s.width(o.x), past = o.kernel - 1;
    const Range mine = in_lots(s, width, LANES);
    const float *const weight = s.vector(o.weight), *const bias = s.vector(o.bias);
    Inputs from[KERNEL_MOST];
    for (const Part& part : s) {
        for (int t = 0; t < part.rows; ++t) {
            for (int i = 0; i <= past; ++i) from[i] = inputs_of(s, o, part, t - past + i);
            float* const y = s.row(o.y, part.row0 + t);
            const float* const after = o.after < 0 ? nullptr : s.row(o.after, part.row0 + t);
            each_strip(mine, [&](int c, int n) {
                F sum = bias ? load(bias + c, n) : F::zero();
                for (int i = 0; i <= past; ++i) sum = fma(load(weight + i * width + c, n), from[i].at(c, n), sum);
                sum = activate(o.act, sum);
                store(y + c, n, after ? sum * load(after + c, n) : sum);
            });
        }
        for (int i = 0; i < past; ++i) {
            float* const state = part.sequence->fixed(o.state) + i * width;
            each_strip(mine, [&](int c, int n) { store(state + c, n, from[i + 1].at(c, n)); });
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

// What number i of them does, with its vectors one after the other in scratch memory.
inline DeltaToken delta_token(const Step& s, const op_delta& o, const Tokens& tokens, int i) {
    const int width = o.k_dim, length = panels(width) * LANES, head = tokens.head, row = tokens.row + i;
    const int shared = head / (o.v_heads / o.k_heads) * width;
    float* const at = s.local<float>() + i * 4 * int64_t{length};
    DeltaToken t{at, at + length, at + 2 * length, at + 3 * length, 0, 0};
    const auto size = static_cast<float>(width);
    const float *const q = s.row(o.q, row) + shared, *const k = s.row(o.k, row) + shared;
    const float epsilon = 1e-6f / size;  // as flash-linear-attention has it
    const float unit_q = normal(q, width, norm_kind::unit, epsilon).factor / sqrtf(size);
    const float unit_k = normal(k, width, norm_kind::unit, epsilon).factor;
    const float *const decay = s.row(o.decay, row), *const bias = s.vector(o.dt_bias);
    const float rate = -expf(s.vector(o.a_log)[head]);
    F kept = F::all(expf(rate * softplus_of(decay[head] + bias[head]))), qk = F::zero();
    each_strip(width, [&](int c, int n) {
        const int channel = head * width + c;
        if (o.per_channel) kept = exp(softplus(load(decay + channel, n) + load(bias + channel, n)) * rate);
        const F a = load(q + c, n) * unit_q, b = load(k + c, n) * unit_k;
        qk = fma(a, b, qk);
        kept.store(t.kept + c);
        b.store(t.k + c);
        (kept * b).store(t.kept_k + c);
        (kept * a).store(t.kept_q + c);
    });
    t.qk = sum(qk);
    t.beta = o.beta_scale / (1.0f + expf(-s.row(o.beta, row)[head]));
    return t;
}

// One pass from top to bottom of N strips: the token `writes` adds k ⊗ u, then `reads` is answered with
// found = (kept·k)ᵀ S and answer = (kept·q)ᵀ S. Either may not be wanted.
template <int N, bool WRITES, bool READS>
VT_INLINE void delta_pass(float* strips, int rows, const DeltaToken writes, const F (&u)[N], const DeltaToken reads,
                          F (&found)[N], F (&answer)[N]) {
    VT_EACH (j, N) found[j] = answer[j] = F::zero();
    for (int i = 0; i < rows; ++i) {
        const F kept = F::all(writes.kept[i]), k = F::all(writes.k[i]);
        const F kept_k = F::all(reads.kept_k[i]), kept_q = F::all(reads.kept_q[i]);
        VT_EACH (j, N) {
            float* const at = strips + (int64_t{j} * rows + i) * LANES;
            F m = F::load(at);
            if (WRITES) {
                m = fma(u[j], k, m * kept);
                m.store(at);
            }
            if (READS) {
                found[j] = fma(m, kept_k, found[j]);
                answer[j] = fma(m, kept_q, answer[j]);
            }
        }
    }
}

// All tokens over N strips from `strip` on.
template <int N>
inline void delta_tokens(const Step& s, const op_delta& o, const Tokens& tokens, int strip,
                         const DeltaToken* prepared) {
    float* const strips = tokens.memory + int64_t{strip} * o.k_dim * LANES;
    F u[N] = {}, found[N], answer[N];
    delta_pass<N, false, true>(strips, o.k_dim, prepared[0], u, prepared[0], found, answer);
    for (int t = 0; t < tokens.n; ++t) {
        const DeltaToken& token = prepared[t];
        VT_EACH (j, N) {
            const int at = tokens.head * o.v_dim + (strip + j) * LANES, lanes = lanes_of(o.v_dim, strip + j);
            u[j] = (load(s.row(o.v, tokens.row + t) + at, lanes) - found[j]) * token.beta;
            store(s.row(o.y, tokens.row + t) + at, lanes, fma(u[j], token.qk, answer[j]));
        }
        if (t + 1 < tokens.n) delta_pass<N, true, true>(strips, o.k_dim, token, u, prepared[t + 1], found, answer);
        else delta_pass<N, true, false>(strips, o.k_dim, token, u, token, found, answer);
    }
}

void run(const Step& s, const op_delta& o) {
    DeltaToken prepared[DELTA_TOKENS];
    const auto prepare = [&](const Tokens& tokens) {
        for (int t = 0; t < tokens.n; ++t) prepared[t] = delta_token(s, o, tokens, t);
    };
    each_head(
        s, o.state, o.v_heads, o.k_dim, o.v_dim, DELTA_TOKENS, prepare,
        [&](const Tokens& tokens, int strip, auto number) { delta_tokens<number>(s, o, tokens, strip, prepared); });
}

// ── state space ──────────────────────────────────────────────────────────────────────────────────────────────────────

// T tokens from number t0 on, over N strips from `strip` on, in one pass from top to bottom: S ← kept S + b ⊗ (dt x) and
// y = cᵀ S + d x for one after the other.
template <int N, int T>
inline void ssm_tokens(const Step& s, const op_ssm& o, const Tokens& tokens, int strip, int t0, const float* dt,
                       const float* kept) {
    const int rows = o.state_dim, group = tokens.head / (o.heads / o.groups) * rows, row = tokens.row + t0;
    const int channel = tokens.head * o.head_dim + strip * LANES;
    float* const strips = tokens.memory + int64_t{strip} * rows * LANES;
    const float *b[T], *c[T];
    F x[T][N], y[T][N], left[T];
    VT_EACH (t, T) {
        b[t] = s.row(o.b, row + t) + group;
        c[t] = s.row(o.c, row + t) + group;
        left[t] = F::all(kept[t0 + t]);
        VT_EACH (j, N) {
            const F given = load(s.row(o.x, row + t) + channel + j * LANES, lanes_of(o.head_dim, strip + j));
            x[t][j] = given * dt[t0 + t];
            y[t][j] = given * s.vector(o.d)[tokens.head];
        }
    }
    for (int i = 0; i < rows; ++i) {
        F in[T], out[T];
        VT_EACH (t, T) in[t] = F::all(b[t][i]), out[t] = F::all(c[t][i]);
        VT_EACH (j, N) {
            float* const at = strips + (int64_t{j} * rows + i) * LANES;
            F m = F::load(at);
            VT_EACH (t, T) {
                m = fma(x[t][j], in[t], m * left[t]);
                y[t][j] = fma(m, out[t], y[t][j]);
            }
            m.store(at);
        }
    }
    VT_EACH (t, T)
        VT_EACH (j, N) store(s.row(o.y, row + t) + channel + j * LANES, lanes_of(o.head_dim, strip + j), y[t][j]);
}

void run(const Step& s, const op_ssm& o) {
    float *const dt = s.local<float>(), *const kept = dt + s.rows;  // of each token
    const auto prepare = [&](const Tokens& tokens) {
        const float rate = -expf(s.vector(o.a_log)[tokens.head]), bias = s.vector(o.dt_bias)[tokens.head];
        for (int t = 0; t < tokens.n; ++t) {
            const float raw = softplus_of(s.row(o.dt, tokens.row + t)[tokens.head] + bias);
            dt[t] = fminf(fmaxf(raw, o.dt_min), o.dt_max);
            kept[t] = expf(rate * dt[t]);
        }
    };
    each_head(s, o.state, o.heads, o.state_dim, o.head_dim, s.rows, prepare,
              [&](const Tokens& tokens, int strip, auto number) {
                  int t = 0;
                  for (; t + 2 <= tokens.n; t += 2) ssm_tokens<number, 2>(s, o, tokens, strip, t, dt, kept);
                  if (t < tokens.n) ssm_tokens<number, 1>(s, o, tokens, strip, t, dt, kept);
              });
}

}  // namespace VT_ISA
}  // namespace vt
