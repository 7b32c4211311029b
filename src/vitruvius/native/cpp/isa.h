// What the library has of each instruction set: a compilation of sets/*.cpp and ops/*.cpp.
#pragma once

#include "pack.h"
#include "step.h"

namespace vt {

// Made by sets/table.cpp. All but `run` are without a plan, for vt_pack and for the tests and benchmarks.
struct Kernels {
    void (*run[static_cast<int>(Op::count_)])(const Step&, const void* fields);
    void (*pack)(const Packing&);  // from floats
    // Rows [mine) of n rows of x as products with m want them; scratch has prepared_bytes for each row.
    Input (*prepare)(const float* x, int n, Range mine, const Matrix& m, void* scratch);
    // y (n, rows of the matrix) = x Wᵀ, panels [p0, p1) of a copy
    void (*multiply)(const Matrix&, int copy, const Input&, int p0, int p1, float* y, int64_t y_stride);
    float (*read)(const float* from, int64_t floats);  // reads memory as fast as it can: a sum
};

// The kernels of that name, or the best for NULL; throws if this machine cannot run them.
const Kernels& kernels(const char* simd);

}  // namespace vt
