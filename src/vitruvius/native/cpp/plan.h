// A plan: what one step of a model does, as a flat list of operations over buffers.
//
// This is the only list of operations and their fields. The structures below, the checks of their indices, the table of
// functions of each instruction set, and the text from which Python emits records (vt_ops) are all made from it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats.h"

// Choices: what the numbers of a field mean, from 0.
#define VT_NORM_KIND(C) C(rms) C(layer) C(unit)
#define VT_ACT(C) C(none) C(silu) C(gelu) C(gelu_tanh) C(relu) C(relu2) C(sigmoid) C(softplus) C(tanh) C(clamped)
#define VT_SEES(C) C(causal) C(window) C(chunk) C(selected)
#define VT_SCORE(C) C(softmax) C(sigmoid)
#define VT_GROUP_SCORE(C) C(max) C(top2_sum)
#define VT_POINTWISE_KIND(C) C(add) C(mul) C(act) C(gate) C(vector) C(softcap) C(gaussian_topk)

#define VT_CHOICES(L)                  \
    L(norm_kind, VT_NORM_KIND)         \
    L(act_kind, VT_ACT)                \
    L(sees_kind, VT_SEES)              \
    L(score_kind, VT_SCORE)            \
    L(group_score_kind, VT_GROUP_SCORE) \
    L(pointwise_kind, VT_POINTWISE_KIND)

// Fields: F(kind, name). Kinds: buffer, matrix, vector, state (an index), the same with maybe_ (−1 is absent), flag (0 or
// 1), count (an int ≥ 0), integer, number (a finite float or ∞), or a choice from above.
// Every op works on the rows of a step; "x → y" says what a row of y is. Where there are `skip` and `scale`,
// y ← skip · y + scale · result, and y is not read if skip is 0.

// y = the table's row of the token; ids ≥ known look up row 0 (known 0: there are none)
#define VT_EMBED(F) F(buffer, y) F(matrix, table) F(number, skip) F(number, scale) F(count, known)
// y += the table's row of the position
#define VT_LEARNED(F) F(buffer, y) F(matrix, table)
// x → y, `group` channels together: rms x/√(mean x² + eps), unit x/√(Σx² + group·eps), layer (x − mean)/√(var + eps);
// times weight plus bias, of `group` channels or of all
#define VT_NORM(F)                                                                                               \
    F(buffer, x) F(buffer, y) F(norm_kind, kind) F(maybe_vector, weight) F(maybe_vector, bias) F(number, eps)     \
    F(count, group) F(number, skip) F(number, scale)
// y = weight · rms(x) · act(z), or weight · rms(x · act(z)) if gate_first
#define VT_GATED_NORM(F)                                                                                        \
    F(buffer, x) F(buffer, z) F(buffer, y) F(maybe_vector, weight) F(act_kind, act) F(flag, gate_first)          \
    F(number, eps) F(count, group)
// result = act(W x + bias). heads > 0: copy h of the matrix takes columns [h·x_step, +cols) to [h·y_step, +rows)
#define VT_MATMUL(F)                                                                                            \
    F(buffer, x) F(buffer, y) F(matrix, matrix) F(maybe_vector, bias) F(act_kind, act) F(number, skip)           \
    F(number, scale) F(count, heads) F(count, x_step) F(count, y_step)
// y = act(gate_scale · gate(x)) · up(x), where panels of gate and up alternate in the matrix and in the bias
#define VT_GLU(F)                                                                                               \
    F(buffer, x) F(buffer, y) F(matrix, matrix) F(maybe_vector, bias) F(act_kind, act) F(number, gate_scale)     \
    F(number, limit) F(number, alpha) F(number, offset)
// y = [cos, sin] · factor of the angles (position + shift) · freqs
#define VT_ROTARY(F) F(buffer, y) F(vector, freqs) F(number, factor) F(integer, shift)
// turns the first `dim` channels of each head of x by the table's angles; in place, or head by head into y
#define VT_ROPE(F)                                                                                              \
    F(buffer, x) F(buffer, y) F(buffer, table) F(count, heads) F(count, x_step) F(count, y_step) F(count, dim)   \
    F(flag, interleaved)
// `width` channels of each head of x into y
#define VT_COPY(F) F(buffer, x) F(buffer, y) F(count, heads) F(count, x_step) F(count, y_step) F(count, width)
// x times 1 + scale · ln(1 + ⌊(position + shift) / floor⌋)
#define VT_TEMPER(F) F(buffer, x) F(number, scale) F(count, floor) F(integer, shift)
// the rows' keys and values into the state; v is absent where a state has none of its own
#define VT_KEEP(F) F(buffer, k) F(maybe_buffer, v) F(state, state)
// softmax attention over the state, which has the step's own rows already: score = scale · q·k + bias[head][distance],
// then softcap · tanh(score / softcap), then · ln p / ln length at positions p > length; `size` of window or chunk;
// `first` is the lowest position that is seen. Heads of q are k_dim apart, those of y v_dim. 0 is "none" for softcap,
// length, first
#define VT_ATTEND(F)                                                                                            \
    F(buffer, q) F(buffer, y) F(state, state) F(count, heads) F(number, scale) F(number, softcap)                \
    F(maybe_vector, sinks) F(sees_kind, sees) F(count, size) F(maybe_buffer, selection) F(maybe_vector, bias)    \
    F(count, length) F(count, first)
// selection (1 + topk int32) = how many, and the positions with the highest Σ weights[h] · relu(q[h] · key) from `first` on,
// ascending
#define VT_INDEX(F)                                                                                             \
    F(buffer, q) F(buffer, weights) F(state, state) F(buffer, selection) F(count, heads) F(count, topk) \
    F(count, first)
// logits (experts) → chosen (active int32), weights (active) and groups (2 + 4 · active int32: pairs sorted by expert)
#define VT_ROUTE(F)                                                                                             \
    F(buffer, logits) F(buffer, chosen) F(buffer, weights) F(buffer, groups) F(maybe_vector, correction)         \
    F(maybe_vector, expert_scale) F(count, active) F(score_kind, score) F(count, group_count)                    \
    F(count, group_active) F(group_score_kind, group_score) F(number, normalize) F(number, scale)                \
    F(number, softcap) F(integer, capacity)
// as glu with the chosen experts' copies of the matrix: y (active · ⌈dim⌉₁₆), rows in the order of `groups`
#define VT_EXPERTS_GLU(F)                                                                                       \
    F(buffer, x) F(buffer, y) F(buffer, groups) F(maybe_buffer, weights) F(matrix, matrix) F(maybe_vector, bias) \
    F(count, active) F(act_kind, act) F(number, gate_scale) F(number, limit) F(number, alpha) F(number, offset)
// the same without a gate
#define VT_EXPERTS_UP(F)                                                                                        \
    F(buffer, x) F(buffer, y) F(buffer, groups) F(maybe_buffer, weights) F(matrix, matrix) F(maybe_vector, bias) \
    F(count, active) F(act_kind, act)
// result = Σ weight · (W x + bias) over the chosen experts, x in the order of `groups`
#define VT_EXPERTS_DOWN(F)                                                                                      \
    F(buffer, x) F(buffer, y) F(buffer, groups) F(maybe_buffer, weights) F(matrix, matrix) F(maybe_vector, bias) \
    F(count, active) F(number, skip) F(number, scale)
// y = act(Σ weight[i] · (before · x)[t − kernel + 1 + i] + bias) · after; weight (kernel, channels), oldest first
#define VT_CONV(F)                                                                                              \
    F(buffer, x) F(buffer, y) F(state, state) F(vector, weight) F(maybe_vector, bias) F(count, kernel)           \
    F(act_kind, act) F(maybe_buffer, before) F(maybe_buffer, after)
// the gated delta rule with unit q and k, q / √k_dim; decay and beta as projected
#define VT_DELTA(F)                                                                                             \
    F(buffer, q) F(buffer, k) F(buffer, v) F(buffer, decay) F(buffer, beta) F(buffer, y) F(state, state)         \
    F(vector, a_log) F(vector, dt_bias) F(count, k_heads) F(count, v_heads) F(count, k_dim) F(count, v_dim)      \
    F(flag, per_channel) F(number, beta_scale)
// the state space of Mamba-2, dt as projected
#define VT_SSM(F)                                                                                               \
    F(buffer, x) F(buffer, b) F(buffer, c) F(buffer, dt) F(buffer, y) F(state, state) F(vector, a_log)           \
    F(vector, dt_bias) F(vector, d) F(count, heads) F(count, groups) F(count, head_dim) F(count, state_dim)      \
    F(number, dt_min) F(number, dt_max)
// a, b → y. add: skip·a + scale·b; mul: scale·a·b; act: scale·act(a); gate: scale·act(a)·b, where each channel of a is
// for width(b) / width(a) channels of b; vector: scale·a·vector (its length divides the width); softcap:
// cap·tanh(scale·a / cap); gaussian_topk: relu(a − mean − scale · deviation)
#define VT_POINTWISE(F)                                                                                         \
    F(pointwise_kind, kind) F(buffer, a) F(maybe_buffer, b) F(buffer, y) F(maybe_vector, vector)                 \
    F(act_kind, act) F(number, skip) F(number, scale) F(number, cap)
// AltUp: x (n streams) → y = xᵢ + Σⱼ c[i][j] xⱼ
#define VT_STREAMS_PREDICT(F) F(buffer, x) F(buffer, coefficients) F(buffer, y) F(count, n)
// x (n streams, in place): xᵢ += (1 + c[i]) (output − x[active])
#define VT_STREAMS_CORRECT(F) F(buffer, x) F(buffer, output) F(buffer, coefficients) F(count, n) F(count, active)
// y (in place) with the root mean square of x
#define VT_STREAMS_MATCH(F) F(buffer, x) F(buffer, y)
// y = mean of the n streams of x
#define VT_STREAMS_MEAN(F) F(buffer, x) F(buffer, y) F(count, n)
// the rows of x whose results are wanted, one after the other, into y: ops after it run on those only
#define VT_SELECT(F) F(buffer, x) F(buffer, y)

// O(name, fields, how): `rows`, each row for itself, so one row is done by one thread and without a barrier; `all`,
// threads share the work of one row too.
#define VT_OPS(O)                                       \
    O(embed, VT_EMBED, rows)                            \
    O(learned, VT_LEARNED, rows)                        \
    O(norm, VT_NORM, rows)                              \
    O(gated_norm, VT_GATED_NORM, rows)                  \
    O(matmul, VT_MATMUL, all)                           \
    O(glu, VT_GLU, all)                                 \
    O(rotary, VT_ROTARY, rows)                          \
    O(rope, VT_ROPE, rows)                              \
    O(copy, VT_COPY, rows)                              \
    O(temper, VT_TEMPER, rows)                          \
    O(keep, VT_KEEP, rows)                              \
    O(attend, VT_ATTEND, all)                           \
    O(index, VT_INDEX, all)                             \
    O(route, VT_ROUTE, all)                             \
    O(experts_glu, VT_EXPERTS_GLU, all)                 \
    O(experts_up, VT_EXPERTS_UP, all)                   \
    O(experts_down, VT_EXPERTS_DOWN, all)               \
    O(conv, VT_CONV, all)                               \
    O(delta, VT_DELTA, all)                             \
    O(ssm, VT_SSM, all)                                 \
    O(pointwise, VT_POINTWISE, rows)                    \
    O(streams_predict, VT_STREAMS_PREDICT, rows)        \
    O(streams_correct, VT_STREAMS_CORRECT, rows)        \
    O(streams_match, VT_STREAMS_MATCH, rows)            \
    O(streams_mean, VT_STREAMS_MEAN, rows)              \
    O(select, VT_SELECT, rows)

namespace vt {

enum class Field { buffer, maybe_buffer, matrix, vector, maybe_vector, state, flag, count, integer, number, choice };

using buffer_field = int32_t;
using maybe_buffer_field = int32_t;
using matrix_field = int32_t;
using vector_field = int32_t;
using maybe_vector_field = int32_t;
using state_field = int32_t;
using flag_field = int32_t;
using count_field = int32_t;
using integer_field = int32_t;
using number_field = float;

#define VT_CONSTANT(name) name,
#define VT_ENUM(kind, list)      \
    namespace kind {             \
    enum Kind : int32_t { list(VT_CONSTANT) count_ }; \
    }                            \
    using kind##_field = int32_t;
VT_CHOICES(VT_ENUM)  // norm_kind::rms …, act_kind::silu …
#undef VT_ENUM
#undef VT_CONSTANT

#define VT_MEMBER(kind, name) kind##_field name;
#define VT_STRUCT(name, fields, how) \
    struct op_##name {               \
        fields(VT_MEMBER)            \
    };
VT_OPS(VT_STRUCT)  // struct op_norm { int32_t x, y, kind …; }
#undef VT_STRUCT
#undef VT_MEMBER

#define VT_CODE(name, fields, how) name,
enum class Op : int32_t { VT_OPS(VT_CODE) count_ };
#undef VT_CODE

// (rows, width) floats, `stride` apart, from `offset` in the arena; offset −1 is the caller's memory for what is wanted.
// Several buffers may share memory: columns of another, or what is no longer needed.
struct Buffer {
    int32_t offset, width, stride;
};

struct Vector {
    const float* data;
    int32_t size;
};

// What one sequence keeps. Tokens: keys (heads · k_dim) and values (heads · v_dim) of each, the last `window` of them or
// all (0); without values of their own (v_dim 0) the first `shared` channels of a key are its value. Otherwise
// `fixed` floats.
struct StateSpec {
    int32_t heads, k_dim, v_dim, shared, window, fixed;
    bool tokens() const { return fixed == 0; }
    int value_dim() const { return v_dim ? v_dim : shared; }
};

}  // namespace vt
