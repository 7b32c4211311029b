// What the ops of ops/basic.h and ops/attention.h rely on.
#include "attention_shape.h"
#include "check.h"

namespace vt {

namespace {

// Vectors of `group` numbers, one for each group, or as many as the width.
void grouped(const Checker& c, int width, int group, int vector) {
    if (!c.require(group >= 1 && width % group == 0, "groups do not fill the width")) return;
    c.require(vector < 0 || c.size(vector) == group || c.size(vector) == width, "a vector has a wrong size");
}

// `heads` pieces of `width` channels, `step` apart, within a buffer.
void pieces(const Checker& c, int buffer, int64_t heads, int64_t step, int64_t width) {
    c.require(heads >= 1 && width >= 1 && (heads - 1) * step + width <= c.width(buffer), "heads are beyond the buffer");
    c.require(heads == 1 || step >= width, "heads share channels");
}

}  // namespace

Need check(const Checker& c, const op_embed& o) {
    const Matrix& table = c.matrix(o.table);
    c.require(table.cols == c.width(o.y), "the table has another width");
    c.require(table.rows >= (o.known ? o.known : c.plan.vocab), "the table has too few rows");
    c.whole();
    return {0, o.skip != 0 || o.scale != 1 ? static_cast<size_t>(c.width(o.y)) * sizeof(float) : 0};
}

Need check(const Checker& c, const op_learned& o) {
    const Matrix& table = c.matrix(o.table);
    c.require(table.cols == c.width(o.y), "the table has another width");
    c.require(table.rows >= c.plan.context, "the table has fewer rows than the context");
    c.whole();
    return {0, static_cast<size_t>(c.width(o.y)) * sizeof(float)};
}

Need check(const Checker& c, const op_norm& o) {
    c.require(c.width(o.x) == c.width(o.y), "widths differ");
    c.apart_or_same(o.x, o.y);
    grouped(c, c.width(o.x), o.group, o.weight);
    grouped(c, c.width(o.x), o.group, o.bias);
    return {};
}

Need check(const Checker& c, const op_gated_norm& o) {
    c.require(c.width(o.x) == c.width(o.y) && c.width(o.z) == c.width(o.y), "widths differ");
    c.require(o.act == act_kind::silu || o.act == act_kind::sigmoid, "the gate is silu or sigmoid");
    c.apart_or_same(o.x, o.y);
    c.apart(o.z, o.y);
    grouped(c, c.width(o.x), o.group, o.weight);
    return {};
}

Need check(const Checker& c, const op_rotary& o) {
    c.require(c.width(o.y) == 2 * int64_t{c.size(o.freqs)}, "the table is as wide as two numbers for each frequency");
    c.whole();
    return {};
}

Need check(const Checker& c, const op_rope& o) {
    c.require(o.dim % 2 == 0 && o.dim == c.width(o.table), "the table is for other channels");
    pieces(c, o.x, o.heads, o.x_step, o.dim);
    pieces(c, o.y, o.heads, o.y_step, o.dim);
    c.apart_or_same(o.x, o.y);
    c.require(!c.same(o.x, o.y) || o.x_step == o.y_step, "heads move within one buffer");
    c.apart(o.table, o.y);
    return {};
}

Need check(const Checker& c, const op_copy& o) {
    pieces(c, o.x, o.heads, o.x_step, o.width);
    pieces(c, o.y, o.heads, o.y_step, o.width);
    c.apart(o.x, o.y);
    return {};
}

Need check(const Checker& c, const op_temper& o) {
    c.require(o.floor >= 1, "floor must be at least 1");
    c.whole();
    return {};
}

Need check(const Checker& c, const op_keep& o) {
    const StateSpec& state = c.state(o.state);
    c.whole();
    if (!c.require(state.tokens(), "the state is not of tokens")) return {};
    c.require(c.width(o.k) == int64_t{state.heads} * state.k_dim, "keys have another width than the state");
    c.require((o.v >= 0) == (state.v_dim > 0), "values are kept where the state has them");
    c.require(o.v < 0 || c.width(o.v) == int64_t{state.heads} * state.v_dim, "values have another width than the state");
    return {};
}

Need check(const Checker& c, const op_attend& o) {
    const StateSpec& s = c.state(o.state);
    c.whole();
    if (!c.require(s.tokens() && s.value_dim() >= 1, "the state has no values")) return {};
    if (!c.require(o.heads >= 1 && o.heads % s.heads == 0, "heads do not share keys evenly")) return {};
    c.require(c.width(o.q) == int64_t{o.heads} * s.k_dim, "queries have another width");
    c.require(c.width(o.y) == int64_t{o.heads} * s.value_dim(), "outputs have another width");
    c.apart(o.q, o.y);
    c.sized(o.sinks, o.heads);
    c.require(o.bias < 0 || c.size(o.bias) % o.heads == 0, "the bias does not fit the heads");
    c.require(o.softcap >= 0 && o.length != 1, "softcap or length is out of range");
    const bool limited = o.sees == sees_kind::window || o.sees == sees_kind::chunk;
    c.require(!limited || o.size >= 1, "the window is empty");
    c.require(s.window == 0 || (limited && o.size <= s.window), "the state keeps fewer keys than are seen");
    c.require((o.sees == sees_kind::selected) == (o.selection >= 0), "a selection is needed where it is what is seen");
    if (o.selection >= 0) {
        c.require(c.width(o.selection) >= 2 && s.window == 0, "the selection is empty or of a window");
        c.apart(o.selection, o.y);
    }
    if (c.failed()) return {};
    const AttendShape shape(s, o.heads);
    const auto partials = static_cast<size_t>(2 * c.threads * shape.partial());
    return {partials * sizeof(float), static_cast<size_t>(shape.local(s)) * sizeof(float)};
}

Need check(const Checker& c, const op_pointwise& o) {
    const int width = c.width(o.y);
    const bool two = o.kind == pointwise_kind::add || o.kind == pointwise_kind::mul || o.kind == pointwise_kind::gate;
    if (!c.require((o.b >= 0) == two, "b is for add, mul and gate")) return {};
    const int wide = o.kind == pointwise_kind::gate ? o.b : o.a;
    c.require(c.width(wide) == width, "widths differ");
    c.apart_or_same(wide, o.y);
    if (o.kind == pointwise_kind::gate) {
        c.require(width % c.width(o.a) == 0, "gates do not fill the width");
        if (c.width(o.a) == width) c.apart_or_same(o.a, o.y);
        else c.apart(o.a, o.y);
    } else if (two) {
        c.require(c.width(o.b) == width, "widths differ");
        c.apart_or_same(o.b, o.y);
    }
    c.require((o.vector >= 0) == (o.kind == pointwise_kind::vector), "the vector is for that kind alone");
    c.require(o.vector < 0 || width % c.size(o.vector) == 0, "the vector does not fill the width");
    c.require(o.act != act_kind::clamped, "clamped is for gated layers");
    c.require(o.kind != pointwise_kind::softcap || o.cap > 0, "cap must be positive");
    return {};
}

Need check(const Checker& c, const op_select& o) {
    c.require(c.width(o.x) == c.width(o.y), "widths differ");
    c.require(o.x != c.plan.output, "the output is written after select");
    c.apart(o.x, o.y);
    c.whole();
    return {};
}

}  // namespace vt
