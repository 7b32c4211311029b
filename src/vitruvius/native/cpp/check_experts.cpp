// What the ops of ops/route.h, ops/experts.h and ops/index.h rely on.
#include "check.h"
#include "scratch.h"

namespace vt {

namespace {

// Rows of that many numbers, one after the other: pairs are counted through all of them.
void flat(const Checker& c, int buffer, int64_t width) {
    c.require(c.width(buffer) >= width, "a buffer is too narrow for the pairs");
    c.require(c.buffer(buffer).stride == c.width(buffer), "a buffer of pairs has gaps between its rows");
    c.require(c.buffer(buffer).offset >= 0, "pairs cannot be the output");
}

template <class Op> void grouped(const Checker& c, const Op& o) {
    c.require(o.active >= 1 && o.active <= c.matrix(o.matrix).copies, "there are fewer experts than are active");
    c.sized(o.bias, int64_t{c.matrix(o.matrix).copies} * c.matrix(o.matrix).rows);
    flat(c, o.groups, 2 + 4 * int64_t{o.active});
    c.apart(o.x, o.y);
    c.apart(o.groups, o.y);
    if (o.weights < 0) return;
    c.require(c.width(o.weights) >= o.active, "there are fewer weights than active experts");
    c.apart(o.weights, o.y);
}

template <class Op> Need gathering(const Checker& c, const Op& o, int64_t hidden) {
    grouped(c, o);
    flat(c, o.y, o.active * hidden);
    const Matrix& m = c.matrix(o.matrix);
    c.require(m.cols <= c.width(o.x), "the matrix has more columns than x");
    return {0, static_cast<size_t>(gathered_bytes(m.format, m.cols))};
}

}  // namespace

Need check(const Checker& c, const op_route& o) {
    const int experts = c.width(o.logits);
    c.require(o.active >= 1 && o.active <= experts, "there are fewer experts than are active");
    c.require(o.active <= c.width(o.chosen) && o.active <= c.width(o.weights), "chosen experts have no room");
    flat(c, o.groups, 2 + 4 * int64_t{o.active});
    c.sized(o.correction, experts);
    c.sized(o.expert_scale, experts);
    for (const int buffer : {o.logits, o.chosen, o.weights}) c.apart(buffer, o.groups);
    c.apart(o.logits, o.chosen);
    c.apart(o.logits, o.weights);
    c.apart(o.chosen, o.weights);
    if (o.group_count) {
        const int size = experts / o.group_count;
        c.require(o.group_count <= 1024 && experts % o.group_count == 0, "experts do not form equal groups");
        c.require(o.group_active >= 1 && o.group_active <= o.group_count, "there are fewer groups than are active");
        c.require(int64_t{o.group_active} * size >= o.active, "the active groups have fewer experts than are active");
        c.require(o.group_score == group_score_kind::max || size >= 2, "a group has no two experts");
    }
    if (o.capacity >= 0) c.whole();
    return {static_cast<size_t>(experts) * sizeof(int32_t), static_cast<size_t>(route_floats(experts, o.group_count)) * 4};
}

Need check(const Checker& c, const op_experts_glu& o) {
    const int rows = c.matrix(o.matrix).rows;
    c.require(rows % (2 * LANES) == 0, "panels of gate and up do not alternate");
    return gathering(c, o, rows / 2);
}

Need check(const Checker& c, const op_experts_up& o) {
    c.require(o.act != act_kind::clamped, "clamped needs a gate");
    return gathering(c, o, gathered_stride(c.matrix(o.matrix).rows));
}

Need check(const Checker& c, const op_experts_down& o) {
    const Matrix& m = c.matrix(o.matrix);
    grouped(c, o);
    flat(c, o.x, o.active * gathered_stride(m.cols));
    c.require(m.rows <= c.width(o.y), "the matrix has more rows than y");
    if (c.failed()) return {};
    return {static_cast<size_t>(int64_t{c.rows()} * o.active * prepared_bytes(m.format, m.cols, 1)), 0};
}

Need check(const Checker& c, const op_index& o) {
    const StateSpec& state = c.state(o.state);
    c.whole();
    c.require(o.heads >= 1 && o.topk >= 1, "an indexer has heads and chooses something");
    if (!c.require(state.tokens() && state.heads == 1 && !state.window, "its state has one key of every token")) return {};
    c.require(int64_t{o.heads} * state.k_dim <= c.width(o.q), "heads are beyond the buffer");
    c.require(o.heads <= c.width(o.weights), "there are fewer weights than heads");
    c.require(o.topk < c.width(o.selection), "the selection has no room");
    c.apart(o.q, o.selection);
    c.apart(o.weights, o.selection);
    return {static_cast<size_t>(c.threads * index_left(o.topk)) * sizeof(float),
            static_cast<size_t>(index_floats(state.k_dim, o.topk)) * sizeof(float)};
}

}  // namespace vt
