// All ops for one instruction set: compiled once for each, with -DVT_ISA=avx2 … and the compiler's flags for it.
#include "isa.h"

#include "lanes.h"
#include "ops/quantize.h"
#if VT_IS(VT_ISA) < 0
#include "naive/attention.h"
#include "naive/basic.h"
#include "naive/experts.h"
#include "naive/index.h"
#include "naive/matmul.h"
#include "naive/recurrent.h"
#include "naive/streams.h"
#else
#include "ops/attention.h"
#include "ops/basic.h"
#include "ops/experts.h"
#include "ops/index.h"
#include "ops/products.h"
#include "ops/recurrent.h"
#include "ops/route.h"
#include "ops/streams.h"
#endif

namespace vt {
namespace VT_ISA {

namespace {

#define VT_TEXT(a) #a
#define VT_NAME(a) VT_TEXT(a)

template <class Op> void run_op(const Step& s, const void* fields) { run(s, *static_cast<const Op*>(fields)); }

void matmul(const Matrix& m, int copy, const Input& in, int p0, int p1, float* y, int64_t stride) {
#if VT_IS(VT_ISA) < 0
    const int end = p1 * LANES < m.rows ? p1 * LANES : m.rows;
    matmul_outputs(m, copy, in, p0 * LANES, end, [&](int o, int r, float a) { y[r * stride + o] = a; });
#else
    matmul_panels(m, copy, in, p0, p1, [&](int p, int r, F a) { store(y + r * stride + p * LANES, lanes_of(m.rows, p), a); });
#endif
}

// Eight sums, so that none waits for the one before.
float read(const float* from, int64_t floats) {
    F sums[8] = {};
    for (int64_t i = 0; i + 8 * LANES <= floats; i += 8 * LANES)
        VT_UNROLL for (int j = 0; j < 8; ++j) sums[j] += F::load(from + i + j * LANES);
    for (int j = 1; j < 8; ++j) sums[0] += sums[j];
    return sum(sums[0]);
}

}  // namespace

#define VT_RUN(name, fields, how) run_op<op_##name>,
extern const Kernels kernels;
const Kernels kernels = {VT_NAME(VT_ISA), {VT_OPS(VT_RUN)}};

extern const MatrixKernels matrix_kernels;
const MatrixKernels matrix_kernels = {pack_floats, quantize_rows, matmul, read};

}  // namespace VT_ISA
}  // namespace vt
