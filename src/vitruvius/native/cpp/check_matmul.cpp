// What the ops of ops/products.h rely on.
#include "check.h"

namespace vt {

namespace {

// Scratch for x as ops/products.h prepares it.
Need prepared(const Checker& c, const Matrix& m, int heads) {
    const auto row = static_cast<size_t>(prepared_bytes(m.format, m.cols, heads));
    return {static_cast<size_t>(c.rows()) * row, ALONE_ROWS * row};
}

}  // namespace

Need check(const Checker& c, const op_matmul& o) {
    const Matrix& m = c.matrix(o.matrix);
    const int64_t heads = o.heads ? o.heads : 1;
    c.require(heads <= m.copies, "the matrix has fewer copies than heads");
    c.require((heads - 1) * o.x_step + m.cols <= c.width(o.x), "the matrix has more columns than x");
    c.require((heads - 1) * o.y_step + m.rows <= c.width(o.y), "the matrix has more rows than y");
    c.require(heads == 1 || o.y_step >= m.rows, "heads share channels");
    c.require(o.act != act_kind::clamped, "clamped needs a gate");
    c.sized(o.bias, heads * m.rows);
    c.apart(o.x, o.y);
    return prepared(c, m, static_cast<int>(heads));
}

Need check(const Checker& c, const op_glu& o) {
    const Matrix& m = c.matrix(o.matrix);
    c.require(m.cols <= c.width(o.x), "the matrix has more columns than x");
    c.require(m.rows % (2 * LANES) == 0, "panels of gate and up do not alternate");
    c.require(ceil_div(c.width(o.y), LANES) == m.rows / (2 * LANES),
              "y has not half as many channels as the matrix rows");
    c.sized(o.bias, m.rows);
    c.apart(o.x, o.y);
    return prepared(c, m, 1);
}

}  // namespace vt
