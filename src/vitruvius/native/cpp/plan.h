// A plan: what one step of a model does, as a flat list of operations over buffers.
//
// This is the only list of operations and their fields. The records below, the checks of their indices, the table of
// functions of each instruction set, and the text from which Python emits records (vt_ops) are all made from it.
#pragma once

#include "formats.h"
#include "vitruvius.h"

namespace vt {

// Kinds of fields: an index (with maybe_, −1 is absent), 0 or 1, an int ≥ 0, an int, a finite float or ∞ …
// A buffer that is written shares no memory with others of the op, but a `same_buffer` may be the very same.
typedef int32_t buffer, maybe_buffer, same_buffer, maybe_same_buffer, written_buffer;
typedef int32_t weight_matrix, vector, maybe_vector, sequence_state, flag, count, integer;
typedef float number;

// … or a choice: what its numbers mean, from 0.
#define VT_CHOICES(C)                                                                       \
    C(norm_kind, rms, layer, unit)                                                          \
    C(act_kind, none, silu, gelu, gelu_tanh, relu, relu2, sigmoid, softplus, tanh, clamped) \
    C(mask_kind, causal, window, chunk, selected)                                           \
    C(score_kind, softmax, sigmoid)                                                         \
    C(group_score_kind, max, top2_sum)                                                      \
    C(pointwise_kind, add, mul, act, gate, vector, softcap, gaussian_topk)
#define VT_CHOICE(kind, ...) enum class kind : int32_t { __VA_ARGS__ };
VT_CHOICES(VT_CHOICE)
#undef VT_CHOICE

// How threads do an op: `rows`, each row for itself, so one row is done by one thread and without a barrier; `all`,
// they share the work of one row too.
enum class Work { rows, all };

struct Record {
    const char* name;
    Work work;
    const char* fields;
};

// An op's record as a structure, and as the text of that structure.
#define VT_OP(name, work, ...) \
    struct op_##name {         \
        __VA_ARGS__            \
    };                         \
    constexpr Record record_of_##name = {#name, Work::work, #__VA_ARGS__};

// Every op works on the rows of a step; "x → y" says what a row of y is. Where there are `skip` and `scale`,
// y ← skip · y + scale · result, and y is not read if skip is 0.

// y = the table's row of the token; ids ≥ known look up row 0 (known 0: there are none)
VT_OP(embed, rows, written_buffer y; weight_matrix table; number skip, scale; count known;)
// y += the table's row of the position
VT_OP(learned, rows, written_buffer y; weight_matrix table;)
// x → y, `group` channels together: rms x/√(mean x² + eps), unit x/√(Σx² + group·eps), layer (x − mean)/√(var + eps);
// times weight plus bias, of `group` channels or of all
VT_OP(norm, rows, same_buffer x; written_buffer y; norm_kind kind; maybe_vector weight, bias; number eps; count group;
      number skip, scale;)
// y = weight · rms(x) · act(z), or weight · rms(x · act(z)) if gate_first
VT_OP(gated_norm, rows, same_buffer x; buffer z; written_buffer y; maybe_vector weight; act_kind act; flag gate_first;
      number eps; count group;)
// result = act(W x + bias). heads > 0: copy h of the matrix takes columns [h·x_step, +cols) to [h·y_step, +rows)
VT_OP(matmul, all, buffer x; written_buffer y; weight_matrix matrix; maybe_vector bias; act_kind act;
      number skip, scale; count heads, x_step, y_step;)
// y = act(gate_scale · gate(x)) · up(x), where panels of gate and up alternate in the matrix and in the bias
VT_OP(glu, all, buffer x; written_buffer y; weight_matrix matrix; maybe_vector bias; act_kind act;
      number gate_scale, limit, alpha, offset;)
// y = [cos, sin] · factor of the angles (position + shift) · freqs
VT_OP(rotary, rows, written_buffer y; vector freqs; number factor; integer shift;)
// turns the first `dim` channels of each head of x by the table's angles; in place, or head by head into y
VT_OP(rope, rows, same_buffer x; written_buffer y; buffer table; count heads, x_step, y_step, dim; flag interleaved;)
// `width` channels of each head of x into y
VT_OP(copy, rows, buffer x; written_buffer y; count heads, x_step, y_step, width;)
// x times 1 + scale · ln(1 + ⌊(position + shift) / floor⌋)
VT_OP(temper, rows, written_buffer x; number scale; count floor; integer shift;)
// the rows' keys and values into the state; v is absent where a state has none of its own
VT_OP(keep, rows, buffer k; maybe_buffer v; sequence_state state;)
// softmax attention over the state, which has the step's own rows already: score = scale · q·k + bias[head][distance],
// then softcap · tanh(score / softcap), then · ln p / ln length at positions p > length; `size` of window or chunk;
// `first` is the lowest position that is seen. Heads of q are k_dim apart, those of y v_dim. 0 is "none" for softcap,
// length, first
VT_OP(attend, all, buffer q; written_buffer y; sequence_state state; count heads; number scale, softcap;
      maybe_vector sinks; mask_kind mask; count size; maybe_buffer selection; maybe_vector bias; count length, first;)
// selection (1 + topk int32) = how many, and the positions with the highest Σ weights[h] · relu(q[h] · key) from `first` on,
// ascending
VT_OP(index, all, buffer q, weights; sequence_state state; written_buffer selection; count heads, topk, first;)
// logits (experts) → chosen (active int32), weights (active) and groups (2 + 4 · active int32: pairs sorted by expert)
VT_OP(route, all, buffer logits; written_buffer chosen, weights, groups; maybe_vector selection_bias, expert_scale;
      count active; score_kind score; count group_count, group_active; group_score_kind group_score;
      number norm_topk_eps, scale, softcap; integer capacity;)
// as glu with the chosen experts' copies of the matrix: y (active · ⌈dim⌉₁₆), rows in the order of `groups`
VT_OP(experts_glu, all, buffer x; written_buffer y; buffer groups; maybe_buffer weights; weight_matrix matrix;
      maybe_vector bias; count active; act_kind act; number gate_scale, limit, alpha, offset;)
// the same without a gate
VT_OP(experts_up, all, buffer x; written_buffer y; buffer groups; maybe_buffer weights; weight_matrix matrix;
      maybe_vector bias; count active; act_kind act;)
// result = Σ weight · (W x + bias) over the chosen experts, x in the order of `groups`
VT_OP(experts_down, all, buffer x; written_buffer y; buffer groups; maybe_buffer weights; weight_matrix matrix;
      maybe_vector bias; count active; number skip, scale;)
// y = act(Σ weight[i] · (before · x)[t − kernel + 1 + i] + bias) · after; weight (kernel, channels), oldest first
VT_OP(conv, all, buffer x; written_buffer y; sequence_state state; vector weight; maybe_vector bias; count kernel;
      act_kind act; maybe_buffer before, after;)
// the gated delta rule with unit q and k, q / √k_dim; decay and beta as projected
VT_OP(delta, all, buffer q, k, v, decay, beta; written_buffer y; sequence_state state; vector a_log, dt_bias;
      count k_heads, v_heads, k_dim, v_dim; flag per_channel; number beta_scale;)
// the state space of Mamba-2, dt as projected
VT_OP(ssm, all, buffer x, b, c, dt; written_buffer y; sequence_state state; vector a_log, dt_bias, d;
      count heads, groups, head_dim, state_dim; number dt_min, dt_max;)
// a, b → y. add: skip·a + scale·b; mul: scale·a·b; act: scale·act(a); gate: scale·act(a)·b, where each channel of a is
// for width(b) / width(a) channels of b; vector: scale·a·vector (its length divides the width); softcap:
// cap·tanh(scale·a / cap); gaussian_topk: relu(a − mean − scale · deviation)
VT_OP(pointwise, rows, pointwise_kind kind; same_buffer a; maybe_same_buffer b; written_buffer y; maybe_vector vector;
      act_kind act; number skip, scale, cap;)
// AltUp: x (n streams) → y = xᵢ + Σⱼ c[i][j] xⱼ
VT_OP(streams_predict, rows, buffer x, coefficients; written_buffer y; count n;)
// x (n streams, in place): xᵢ += (1 + c[i]) (output − x[active])
VT_OP(streams_correct, rows, written_buffer x; buffer output, coefficients; count n, active;)
// y (in place) with the root mean square of x
VT_OP(streams_match, rows, buffer x; written_buffer y;)
// y = mean of the n streams of x
VT_OP(streams_mean, rows, buffer x; written_buffer y; count n;)
// the rows of x whose results are wanted, one after the other, into y: ops after it run on those only
VT_OP(select, rows, buffer x; written_buffer y;)

#undef VT_OP

// The ops in the order of their numbers, with commas between.
#define VT_OPS(O)                                                                                                     \
    O(embed), O(learned), O(norm), O(gated_norm), O(matmul), O(glu), O(rotary), O(rope), O(copy), O(temper), O(keep), \
        O(attend), O(index), O(route), O(experts_glu), O(experts_up), O(experts_down), O(conv), O(delta), O(ssm),     \
        O(pointwise), O(streams_predict), O(streams_correct), O(streams_match), O(streams_mean), O(select)

#define VT_CODE(name) name
enum class Op : int32_t { VT_OPS(VT_CODE), count_ };
#undef VT_CODE

// (rows, width) floats, `stride` apart, from `offset` in the arena; offset −1 is the caller's memory for what is wanted.
// Several buffers may share memory: columns of another, or what is no longer needed.
using Buffer = vt_buffer;
using Vector = vt_vector;

// What one sequence keeps. Tokens: keys (heads · k_dim) and values (heads · v_dim) of each, the last `window` of them or
// all (0); without values of their own (v_dim 0) the first `shared` channels of a key are its value. Otherwise
// `fixed` floats.
struct StateSpec : vt_state {
    bool tokens() const { return fixed == 0; }
    int value_dim() const { return v_dim ? v_dim : shared; }
};

}  // namespace vt
