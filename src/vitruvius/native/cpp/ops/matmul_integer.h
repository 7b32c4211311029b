// Kernels of the integer formats: sums of 32 products in integers, then scaled and added up in float32.
#pragma once

#include "codes.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

// 32 columns of W panels with a row of x.
template <Format f, int W>
VT_INLINE void add_row(V (&sum)[W], const Columns<f> (&columns)[W], const VB (&codes)[W][8], const Quantized& x) {
    VI dot[W], last[W];
    if constexpr (f == Q6K) {
        Columns<f>::dot(dot, last, codes, x);
        VT_EACH (p, W) sum[p] = columns[p].add(sum[p], dot[p], last[p], x);
    } else {
        Columns<f>::dot(dot, codes, x);
        VT_EACH (p, W) sum[p] = columns[p].add(sum[p], dot[p], x);
    }
}

// W panels of an integer format, `apart` bytes from each other, with `rows` rows of x: L lanes of them, those of
// `part`. Or all W parts of one panel, if `apart` is 0. `ahead` is as far as weights are asked for before they are
// read, or 0.
template <Format f, int W, int rows>
VT_INLINE void integer_tile(const uint8_t* w, int64_t apart, int part, int64_t ahead, int cols, const Input& in, int r0,
                            float* out, int64_t out_stride) {
    constexpr int subs = FORMAT[f].cols / 32, bytes = FORMAT[f].bytes / subs;
    const int64_t n = blocks(f, cols);
    V sum[rows][W] = {};
    const Quantized* x = in.q + r0 * in.q_stride;
    for (int64_t b = 0; b < n; ++b, w += FORMAT[f].bytes) {
        for (int i = 0; i < subs; ++i, ++x) {
            if (ahead) {  // one panel that is read part by part: each part asks for its share of the lines
                constexpr int step = W == 1 ? 64 * PARTS : 64;
                const uint8_t* const next = w + i * bytes + (W == 1 ? 64 * part : 0) + ahead;
                for (int p = 0; p < (apart ? W : 1); ++p)
                    for (int line = 0; line < bytes; line += step) prefetch(next + p * apart + line);
            }
            VB codes[W][8];
            Columns<f> columns[W];
            VT_EACH (p, W) columns[p].load(w + p * apart, i, apart ? part : part + p, codes[p]);
            VT_EACH (r, rows) add_row<f, W>(sum[r], columns, codes, x[r * in.q_stride]);
        }
    }
    VT_EACH (r, rows)
        VT_EACH (p, W) vstore(out + r * LANES + p * out_stride, sum[r][p]);
}

constexpr int INTEGER_ROWS = PARTS < 4 ? 8 : REGISTERS == 32 ? 4 : 2;  // of x at a time, as registers allow

// Two panels share the loads of x where registers hold a whole panel's lanes. Otherwise the rows of x meet one part of
// a panel after the other, so that its codes stay in registers; but a single row, which waits for memory, all at once.
template <Format f, int W, int rows> VT_INLINE void integer_rows(const PanelTile& t, int part, const Input& in, int r) {
    for (; r + rows <= t.r1; r += rows)
        integer_tile<f, W, rows>(t.w, W == 1 ? 1 : t.panel_bytes, part, r == t.r0 ? t.ahead : 0, t.cols, in, r,
                                 t.out + (r - t.r0) * LANES + part * L, t.out_stride);
    if constexpr (rows > 1) integer_rows<f, W, fewer(rows)>(t, part, in, r);
}
template <Format f> void integer_kernel(const PanelTile& t, const Input& in) {
    if constexpr (PARTS == 1) {
        if (t.panels == 2 && !t.few()) return integer_rows<f, 2, 4>(t, 0, in, t.r0);
    }
    for (int p = 0; p < t.panels; ++p) {
        const PanelTile one = t.single(p);
        if (t.r1 - t.r0 == 1) {
            integer_tile<f, PARTS, 1>(one.w, 0, 0, AHEAD, t.cols, in, t.r0, one.out, L);
            continue;
        }
        for (int part = 0; part < PARTS; ++part) integer_rows<f, 1, INTEGER_ROWS>(one, part, in, t.r0);
    }
}

}  // namespace VT_ISA
}  // namespace vt
