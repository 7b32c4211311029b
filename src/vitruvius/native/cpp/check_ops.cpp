// What the ops rely on, and the scratch memory that they need.
#include "check.h"
#include "scratch.h"

namespace vt {

namespace {

constexpr int64_t FLOAT = sizeof(float);

// A table of embeddings; a row of it may stand in scratch memory.
void table(Checker& c, int index, int y, int rows, bool scratch) {
    c.whole();
    c.exact({{y, c.matrix(index).cols}});
    require(c.matrix(index).rows >= rows, "the table has too few rows");
    c.needs(0, scratch ? c.width(y) * FLOAT : 0);
}

// `group` channels together, and vectors for a group or for all.
void grouped(const Checker& c, int64_t width, int group, std::initializer_list<int> vectors) {
    require(group >= 1 && width % group == 0, "groups do not fill the width");
    for (const int vector : vectors) c.sized({{vector, vector >= 0 && c.size(vector) == width ? width : group}});
}

// `heads` pieces of `width` channels, `step` apart, within a buffer.
void pieces(const Checker& c, int buffer, int64_t heads, int64_t step, int64_t width) {
    require(heads >= 1 && width >= 1 && (heads == 1 || step >= width), "heads are empty or share channels");
    c.wide({{buffer, (heads - 1) * step + width}});
}

// Scratch for x as ops/products.h prepares it.
void prepared(Checker& c, const Matrix& m, int heads) {
    const int64_t row = prepared_bytes(m.format, m.cols, heads);
    c.needs(c.plan.max_rows * row, ALONE_ROWS * row);
}

// Rows of that many numbers, one after the other: pairs are counted through all of them.
void flat(const Checker& c, int buffer, int64_t width) {
    const Buffer& b = c.plan.buffers[buffer];
    c.wide({{buffer, width}});
    require(b.stride == b.width && b.offset >= 0, "a buffer of pairs has gaps between its rows, or is the output");
}

template <class Op> void experts(const Checker& c, const Op& o) {
    const Matrix& m = c.matrix(o.matrix);
    require(within(o.active, 1, m.copies), "there are fewer experts than are active");
    c.sized({{o.bias, int64_t{m.copies} * m.rows}});
    c.wide({{o.weights, o.active}});
    flat(c, o.groups, 2 + 4 * int64_t{o.active});
}

// Ops that gather the rows of each expert, and make `hidden` numbers of each.
template <class Op> void gathering(Checker& c, const Op& o, int64_t hidden) {
    const Matrix& m = c.matrix(o.matrix);
    experts(c, o);
    flat(c, o.y, o.active * hidden);
    c.wide({{o.x, m.cols}});
    c.needs(0, gathered_bytes(m.format, m.cols));
}

}  // namespace

void check(Checker& c, const op_embed& o) {
    table(c, o.table, o.y, o.known ? o.known : c.plan.vocab, o.skip != 0 || o.scale != 1);
}

void check(Checker& c, const op_learned& o) { table(c, o.table, o.y, c.plan.context, true); }

void check(Checker& c, const op_norm& o) {
    c.exact({{o.y, c.width(o.x)}});
    grouped(c, c.width(o.x), o.group, {o.weight, o.bias});
}

void check(Checker& c, const op_gated_norm& o) {
    c.exact({{o.y, c.width(o.x)}, {o.z, c.width(o.x)}});
    require(o.act == act_kind::silu || o.act == act_kind::sigmoid, "the gate is silu or sigmoid");
    grouped(c, c.width(o.x), o.group, {o.weight});
}

void check(Checker& c, const op_matmul& o) {
    const Matrix& m = c.matrix(o.matrix);
    const int64_t heads = o.heads ? o.heads : 1;
    require(heads <= m.copies, "the matrix has fewer copies than heads");
    require(o.act != act_kind::clamped, "clamped needs a gate");
    c.wide({{o.x, (heads - 1) * o.x_step + m.cols}});
    pieces(c, o.y, heads, o.y_step, m.rows);
    c.sized({{o.bias, heads * m.rows}});
    prepared(c, m, heads);
}

void check(Checker& c, const op_glu& o) {
    const Matrix& m = c.matrix(o.matrix);
    c.wide({{o.x, m.cols}});
    c.sized({{o.bias, m.rows}});
    require(m.rows == 2 * LANES * panels(c.width(o.y)), "y has not half as many panels as gate and up");
    prepared(c, m, 1);
}

void check(Checker& c, const op_rotary& o) {
    c.whole();
    c.exact({{o.y, 2 * c.size(o.freqs)}});
}

void check(Checker& c, const op_rope& o) {
    const bool same = c.plan.buffers[o.x].offset == c.plan.buffers[o.y].offset;
    require(o.dim % 2 == 0 && o.dim == c.width(o.table), "the table is for other channels");
    pieces(c, o.x, o.heads, o.x_step, o.dim);
    pieces(c, o.y, o.heads, o.y_step, o.dim);
    require(!same || o.x_step == o.y_step, "heads move within one buffer");
}

void check(Checker& c, const op_copy& o) {
    pieces(c, o.x, o.heads, o.x_step, o.width);
    pieces(c, o.y, o.heads, o.y_step, o.width);
}

void check(Checker& c, const op_temper& o) {
    c.whole();
    require(o.floor >= 1, "floor must be at least 1");
}

void check(Checker& c, const op_keep& o) {
    const StateSpec& s = c.state(o.state);
    require(s.tokens() && (o.v >= 0) == (s.v_dim > 0), "keys or values are not what the state keeps");
    c.exact({{o.k, int64_t{s.heads} * s.k_dim}, {o.v, int64_t{s.heads} * s.v_dim}});
}

void check(Checker& c, const op_attend& o) {
    const StateSpec& s = c.state(o.state);
    const bool limited = o.mask == mask_kind::window || o.mask == mask_kind::chunk;
    require(s.tokens() && s.value_dim() >= 1, "the state has no values");
    require(o.heads >= 1 && o.heads % s.heads == 0, "heads do not share keys evenly");
    c.exact({{o.q, int64_t{o.heads} * s.k_dim}, {o.y, int64_t{o.heads} * s.value_dim()}});
    c.sized({{o.sinks, o.heads}});
    require(o.bias < 0 || c.size(o.bias) % o.heads == 0, "the bias does not fit the heads");
    require(o.softcap >= 0 && o.length != 1, "softcap or length is out of range");
    require(limited ? within(o.size, 1, s.window ? s.window : MOST) : !s.window, "the state keeps not what is seen");
    require((o.mask == mask_kind::selected) == (o.selection >= 0), "a selection is needed where it is what is seen");
    c.wide({{o.selection, 2}});
    const AttendShape shape{s, o.heads};
    c.needs(2 * c.threads * shape.result * FLOAT, shape.local * FLOAT);
}

void check(Checker& c, const op_index& o) {
    const StateSpec& s = c.state(o.state);
    require(s.tokens() && s.heads == 1 && !s.window, "its state has one key of every token");
    require(o.heads >= 1 && o.topk >= 1, "an indexer has heads and chooses something");
    c.wide({{o.q, int64_t{o.heads} * s.k_dim}, {o.weights, o.heads}, {o.selection, int64_t{o.topk} + 1}});
    c.needs(c.threads * index_candidates(o.topk) * FLOAT, index_floats(s.k_dim) * FLOAT);
}

void check(Checker& c, const op_route& o) {
    const int64_t experts = c.width(o.logits), size = o.group_count ? experts / o.group_count : 0;
    require(within(o.active, 1, experts), "there are fewer experts than are active");
    require(o.active <= c.width(o.chosen) && o.active <= c.width(o.weights), "chosen experts have no room");
    flat(c, o.groups, 2 + 4 * int64_t{o.active});
    c.sized({{o.selection_bias, experts}, {o.expert_scale, experts}});
    if (o.group_count) {
        require(o.group_count <= 1024 && size * o.group_count == experts, "experts do not form equal groups");
        require(within(o.group_active, 1, o.group_count), "there are fewer groups than are active");
        require(o.group_active * size >= o.active, "the active groups have fewer experts than are active");
        require(o.group_score == group_score_kind::max || size >= 2, "a group has no two experts");
    }
    if (o.capacity >= 0) c.whole();
    c.needs(experts * FLOAT, route_floats(experts, o.group_count) * FLOAT);
}

void check(Checker& c, const op_experts_glu& o) {
    require(c.matrix(o.matrix).rows % (2 * LANES) == 0, "panels of gate and up do not alternate");
    gathering(c, o, c.matrix(o.matrix).rows / 2);
}

void check(Checker& c, const op_experts_up& o) {
    require(o.act != act_kind::clamped, "clamped needs a gate");
    gathering(c, o, gathered_stride(c.matrix(o.matrix).rows));
}

void check(Checker& c, const op_experts_down& o) {
    const Matrix& m = c.matrix(o.matrix);
    experts(c, o);
    flat(c, o.x, o.active * gathered_stride(m.cols));
    c.wide({{o.y, m.rows}});
    c.needs(int64_t{c.plan.max_rows} * o.active * prepared_bytes(m.format, m.cols, 1), 0);
}

void check(Checker& c, const op_conv& o) {
    const int64_t width = c.width(o.x);
    require(within(o.kernel, 2, KERNEL_MOST), "the kernel is too short or too long");
    c.exact({{o.y, width}, {o.before, width}, {o.after, width}});
    c.sized({{o.weight, width * o.kernel}, {o.bias, width}});
    c.fixed(o.state, width * (o.kernel - 1));
}

void check(Checker& c, const op_delta& o) {
    const int64_t heads = o.v_heads, keys = int64_t{o.k_heads} * o.k_dim, values = heads * o.v_dim;
    const int64_t steps = o.per_channel ? heads * o.k_dim : heads;
    require(o.k_heads >= 1 && heads >= 1 && heads % o.k_heads == 0, "key heads do not serve all");
    require(o.k_dim >= 1 && o.v_dim >= 1, "a head has channels");
    c.wide({{o.q, keys}, {o.k, keys}, {o.v, values}, {o.y, values}, {o.beta, heads}, {o.decay, steps}});
    c.sized({{o.dt_bias, steps}, {o.a_log, heads}});
    c.fixed(o.state, heads * o.k_dim * padded(o.v_dim));
    c.needs(0, delta_floats(o.k_dim) * FLOAT);
}

void check(Checker& c, const op_ssm& o) {
    const int64_t heads = o.heads, channels = heads * o.head_dim, states = int64_t{o.groups} * o.state_dim;
    require(heads >= 1 && o.groups >= 1 && heads % o.groups == 0, "groups do not serve all heads");
    require(o.head_dim >= 1 && o.state_dim >= 1, "a head has channels");
    c.wide({{o.x, channels}, {o.y, channels}, {o.b, states}, {o.c, states}, {o.dt, heads}});
    c.sized({{o.a_log, heads}, {o.dt_bias, heads}, {o.d, heads}});
    c.fixed(o.state, heads * o.state_dim * padded(o.head_dim));
    c.needs(0, int64_t{2} * c.plan.max_rows * FLOAT);
}

void check(Checker& c, const op_pointwise& o) {
    const int64_t width = c.width(o.y);
    const bool gate = o.kind == pointwise_kind::gate;
    const bool two = gate || o.kind == pointwise_kind::add || o.kind == pointwise_kind::mul;
    require((o.b >= 0) == two, "b is for add, mul and gate");
    require((o.vector >= 0) == (o.kind == pointwise_kind::vector), "the vector is for that kind alone");
    require(gate ? width % c.width(o.a) == 0 : width == c.width(o.a), "widths differ");
    require(o.vector < 0 || width % c.size(o.vector) == 0, "the vector does not fill the width");
    require(o.act != act_kind::clamped, "clamped is for gated layers");
    require(o.kind != pointwise_kind::softcap || o.cap > 0, "cap must be positive");
    c.exact({{o.b, width}});
}

void check(Checker& c, const op_streams_predict& o) {
    require(within(o.n, 1, 64) && c.width(o.x) % o.n == 0, "streams differ in width");
    c.exact({{o.y, c.width(o.x)}});
    c.wide({{o.coefficients, int64_t{o.n} * o.n}});
}

void check(Checker& c, const op_streams_correct& o) {
    require(within(o.n, 1, 64) && o.active < o.n, "the active stream is none of them");
    c.exact({{o.x, o.n * c.width(o.output)}});
    c.wide({{o.coefficients, o.n}});
}

void check(Checker& c, const op_streams_match& o) { c.exact({{o.x, c.width(o.y)}}); }

void check(Checker& c, const op_streams_mean& o) { c.exact({{o.x, o.n * c.width(o.y)}}); }

void check(Checker& c, const op_select& o) {
    c.whole();
    c.exact({{o.x, c.width(o.y)}});
    require(o.x != c.plan.output, "the output is written after select");
}

}  // namespace vt
