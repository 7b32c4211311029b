#include "../isa.h"
#include "export.h"
#if VT_NAIVE
#include "../naive/matmul.h"
#else
#include "../ops/products.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(matmul)
VT_EXPORT(glu)

#if !VT_NAIVE
template <Format> void float_kernel(const PanelTile&, const Input&);    // floats.cpp
template <Format> void integer_kernel(const PanelTile&, const Input&);  // integers.cpp

const Kernel KERNEL[FORMATS] = {
    float_kernel<F32>,   float_kernel<F16>,   float_kernel<BF16>,  integer_kernel<Q8>,
    integer_kernel<Q4>,  integer_kernel<Q4M>, integer_kernel<Q5>,  integer_kernel<Q5M>,
    integer_kernel<Q4K>, integer_kernel<Q5K>, integer_kernel<Q6K>, integer_kernel<MXFP4>,
};
#endif

Input prepare(const float* x, int n, Range mine, const Matrix& m, void* scratch) {
#if VT_NAIVE
    Input in{x, m.cols, n, nullptr, quantized_blocks(m.cols)};
    if (!FORMAT[m.format].integer) return in;
    in.q = static_cast<Quantized*>(scratch);
    quantize_rows(x, m.cols, mine.begin, mine.end, m.cols, static_cast<Quantized*>(scratch), in.q_stride);
    return in;
#else
    return prepared(x, m.cols, n, mine, m, 1, 0, scratch);
#endif
}

void multiply(const Matrix& m, int copy, const Input& in, int p0, int p1, float* y, int64_t stride) {
#if VT_NAIVE
    const int end = p1 * LANES < m.rows ? p1 * LANES : m.rows;
    matmul_outputs(m, copy, in, p0 * LANES, end, [&](int o, int r, float a) { y[r * stride + o] = a; });
#else
    matmul_panels(m, copy, in, p0, p1,
                  [&](int p, int r, F a) { store(y + r * stride + p * LANES, lanes_of(m.rows, p), a); });
#endif
}

// Eight sums, so that none waits for the one before.
float read(const float* from, int64_t floats) {
    F sums[8] = {};
    for (int64_t i = 0; i + 8 * LANES <= floats; i += 8 * LANES)
        VT_EACH (j, 8) sums[j] += F::load(from + i + j * LANES);
    for (int j = 1; j < 8; ++j) sums[0] += sums[j];
    return sum(sums[0]);
}

}  // namespace VT_ISA
}  // namespace vt
