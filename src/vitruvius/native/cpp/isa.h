// The instruction sets that the library has, each a compilation of sets/*.cpp, and which of them this machine can run.
#pragma once

#include "pack.h"
#include "step.h"

namespace vt {

// Products and packing without a plan, for vt_pack and for the tests and benchmarks.
struct MatrixKernels {
    void (*pack)(const Packing&);  // from floats
    // Rows [mine) of n rows of x as products with m want them; scratch has prepared_bytes for each row.
    Input (*prepare)(const float* x, int n, Range mine, const Matrix& m, void* scratch);
    // y (n, rows of the matrix) = x Wᵀ, panels [p0, p1) of a copy
    void (*multiply)(const Matrix&, int copy, const Input&, int p0, int p1, float* y, int64_t y_stride);
    float (*read)(const float* from, int64_t floats);  // reads memory as fast as it can: a sum
};

// As `kernels` in step.h.
const MatrixKernels* matrix_kernels(const char* simd);

#if defined(VT_SETS)  // given by the build
#elif defined(__x86_64__) || defined(_M_X64)
#define VT_SETS(S) S(avx512) S(avx2) S(plain) S(naive)  // the best first
#elif defined(__aarch64__)
#define VT_SETS(S) S(dotprod) S(neon) S(plain) S(naive)
#else
#define VT_SETS(S) S(plain) S(naive)
#endif

#define VT_DECLARE(set)                        \
    namespace set {                            \
    extern const Kernels kernels;              \
    extern const MatrixKernels matrix_kernels; \
    }
VT_SETS(VT_DECLARE)
#undef VT_DECLARE

}  // namespace vt
