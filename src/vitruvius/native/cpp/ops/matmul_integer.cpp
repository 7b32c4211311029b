// Kernels of the integer formats: sums of 32 products in integers, then scaled and added up in float32.
#include "codes.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

// 32 columns of W parts of a panel with rows of x, `stride` apart.
template <Format f, int rows, int W>
VT_INLINE void add_rows(V (*sum)[W], const Columns<f> (&columns)[W], const VB (&codes)[W][8], const Quantized* x,
                        int64_t stride) {
    VI dot[rows][W];
    if constexpr (f == Q6K) {
        VI last[rows][W];
        Columns<f>::dot(dot, last, codes, x, stride);
        VT_EACH (r, rows)
            VT_EACH (p, W) sum[r][p] = columns[p].add(sum[r][p], dot[r][p], last[r][p], x[r * stride]);
    } else {
        Columns<f>::dot(dot, codes, x, stride);
        VT_EACH (r, rows)
            VT_EACH (p, W) sum[r][p] = columns[p].add(sum[r][p], dot[r][p], x[r * stride]);
    }
}

// W parts of a panel, L lanes each, from `part` on, with `rows` rows of x from row r0 on. The first that read the panel
// ask for the weights ahead.
template <Format f, int W, int rows>
VT_INLINE void integer_tile(const PanelTile& t, const Input& in, int part, int r0) {
    constexpr int subs = FORMAT[f].cols / 32, bytes = FORMAT[f].bytes / subs;
    constexpr int turns = REGISTERS == 32 ? rows : 1;  // rows whose products do not wait for each other
    const bool first = t.first && r0 == t.r0 && part == 0;
    const uint8_t* w = t.w;
    V sum[rows][W] = {};
    const Quantized* x = in.q + r0 * in.q_stride;
    for (int64_t b = 0, n = blocks(f, t.cols); b < n; ++b, w += FORMAT[f].bytes) {
        for (int i = 0; i < subs; ++i, ++x) {
            for (int line = 0; first && line < bytes; line += 64) prefetch(w + i * bytes + AHEAD + line);
            VB codes[W][8];
            Columns<f> columns[W];
            VT_EACH (p, W) columns[p].load(w, i, part + p, codes[p]);
            VT_UNROLL for (int r = 0; r < rows; r += turns)
                add_rows<f, turns>(sum + r, columns, codes, x + r * in.q_stride, in.q_stride);
        }
    }
    VT_EACH (r, rows)
        VT_EACH (p, W) vstore(t.out + (r0 - t.r0 + r) * LANES + (part + p) * L, sum[r][p]);
}

template <Format f, int rows> VT_INLINE void integer_rows(const PanelTile& t, const Input& in, int part, int r) {
    for (; r + rows <= t.r1; r += rows) integer_tile<f, 1, rows>(t, in, part, r);
    if constexpr (rows > 1) integer_rows<f, fewer(rows)>(t, in, part, r);
}

// Rows of x meet one part of a panel after the other, so that its codes stay in registers; but a single row, which waits
// for memory, all at once.
template <Format f> void integer_kernel(const PanelTile& two, const Input& in) {
    constexpr int rows = PARTS < 4 ? 8 : REGISTERS == 32 ? 4 : 2;  // of x at a time, as registers allow
    for (int p = 0; p < two.panels; ++p) {
        const PanelTile t = two.panel(p);
        if (t.r1 - t.r0 == 1) integer_tile<f, PARTS, 1>(t, in, 0, t.r0);
        else
            for (int part = 0; part < PARTS; ++part) integer_rows<f, rows>(t, in, part, t.r0);
    }
}

const Kernel INTEGER_KERNELS[FORMATS - Q8] = {
    integer_kernel<Q8>,  integer_kernel<Q4>,  integer_kernel<Q4M>, integer_kernel<Q5>,    integer_kernel<Q5M>,
    integer_kernel<Q4K>, integer_kernel<Q5K>, integer_kernel<Q6K>, integer_kernel<MXFP4>,
};

}  // namespace VT_ISA
}  // namespace vt
