// What the ops of ops/recurrent.h and ops/streams.h rely on.
#include "check.h"
#include "scratch.h"

namespace vt {

namespace {

int64_t round16(int64_t n) { return ceil_div(n, LANES) * LANES; }

void as_wide(const Checker& c, int buffer, int64_t width) {
    c.require(c.width(buffer) >= width, "a buffer is too narrow");
}

}  // namespace

Need check(const Checker& c, const op_conv& o) {
    const int64_t width = c.width(o.x);
    c.whole();
    c.require(o.kernel >= 2 && o.kernel <= KERNEL_MOST, "the kernel is too short or too long");
    c.require(c.width(o.y) == width, "widths differ");
    c.sized(o.weight, width * o.kernel);
    c.sized(o.bias, width);
    c.fixed(o.state, width * (o.kernel - 1));
    c.apart(o.x, o.y);
    for (const int factor : {o.before, o.after}) {
        if (factor < 0) continue;
        c.require(c.width(factor) == width, "widths differ");
        c.apart(factor, o.y);
    }
    return {};
}

Need check(const Checker& c, const op_delta& o) {
    const int64_t heads = o.v_heads;
    c.whole();
    if (!c.require(o.k_heads >= 1 && heads >= 1 && heads % o.k_heads == 0, "key heads do not serve all")) return {};
    c.require(o.k_dim >= 1 && o.v_dim >= 1, "a head has channels");
    as_wide(c, o.q, int64_t{o.k_heads} * o.k_dim);
    as_wide(c, o.k, int64_t{o.k_heads} * o.k_dim);
    as_wide(c, o.v, heads * o.v_dim);
    as_wide(c, o.y, heads * o.v_dim);
    as_wide(c, o.beta, heads);
    const int64_t steps = o.per_channel ? heads * o.k_dim : heads;
    as_wide(c, o.decay, steps);
    c.sized(o.dt_bias, steps);
    c.sized(o.a_log, heads);
    if (c.failed()) return {};
    c.fixed(o.state, heads * o.k_dim * round16(o.v_dim));
    for (const int input : {o.q, o.k, o.v, o.decay, o.beta}) c.apart(input, o.y);
    return {0, static_cast<size_t>(delta_floats(o.k_dim)) * sizeof(float)};
}

Need check(const Checker& c, const op_ssm& o) {
    const int64_t heads = o.heads;
    c.whole();
    if (!c.require(heads >= 1 && o.groups >= 1 && heads % o.groups == 0, "groups do not serve all heads")) return {};
    c.require(o.head_dim >= 1 && o.state_dim >= 1, "a head has channels");
    as_wide(c, o.x, heads * o.head_dim);
    as_wide(c, o.y, heads * o.head_dim);
    as_wide(c, o.b, int64_t{o.groups} * o.state_dim);
    as_wide(c, o.c, int64_t{o.groups} * o.state_dim);
    as_wide(c, o.dt, heads);
    for (const int vector : {o.a_log, o.dt_bias, o.d}) c.sized(vector, heads);
    if (c.failed()) return {};
    c.fixed(o.state, heads * o.state_dim * round16(o.head_dim));
    for (const int input : {o.x, o.b, o.c, o.dt}) c.apart(input, o.y);
    return {0, 2 * static_cast<size_t>(c.rows()) * sizeof(float)};
}

Need check(const Checker& c, const op_streams_predict& o) {
    if (!c.require(o.n >= 1 && o.n <= 64 && c.width(o.x) % o.n == 0, "streams differ in width")) return {};
    c.require(c.width(o.y) == c.width(o.x), "widths differ");
    as_wide(c, o.coefficients, int64_t{o.n} * o.n);
    c.apart(o.x, o.y);
    c.apart(o.coefficients, o.y);
    return {};
}

Need check(const Checker& c, const op_streams_correct& o) {
    if (!c.require(o.n >= 1 && o.n <= 64 && c.width(o.x) % o.n == 0, "streams differ in width")) return {};
    c.require(o.active < o.n, "the active stream is none of them");
    c.require(c.width(o.output) == c.width(o.x) / o.n, "the output is not as wide as a stream");
    as_wide(c, o.coefficients, o.n);
    c.apart(o.output, o.x);
    c.apart(o.coefficients, o.x);
    return {};
}

Need check(const Checker& c, const op_streams_match& o) {
    c.require(c.width(o.x) == c.width(o.y), "widths differ");
    c.apart(o.x, o.y);
    return {};
}

Need check(const Checker& c, const op_streams_mean& o) {
    c.require(o.n >= 1 && c.width(o.x) == int64_t{o.n} * c.width(o.y), "streams differ in width");
    c.apart(o.x, o.y);
    return {};
}

}  // namespace vt
