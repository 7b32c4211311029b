// Packing matrices into panels (formats.h), and back.
#pragma once

#include "formats.h"

namespace vt {

// What a matrix is packed from: floats, or GGUF's blocks of checkpoints/dequantize.py.
enum class Kind { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, MXFP4, count_ };

struct KindInfo {
    const char* name;
    int cols, bytes;  // of a block
    Format format;    // that keeps it without loss
};
constexpr KindInfo KIND[static_cast<int>(Kind::count_)] = {
    {"F32", 1, 4, F32},      {"F16", 1, 2, F16},      {"BF16", 1, 2, BF16},    {"Q4_0", 32, 18, Q4},
    {"Q4_1", 32, 20, Q4M},   {"Q5_0", 32, 22, Q5},    {"Q5_1", 32, 24, Q5M},   {"Q8_0", 32, 34, Q8},
    {"Q4_K", 256, 144, Q4K}, {"Q5_K", 256, 176, Q5K}, {"Q6_K", 256, 210, Q6K}, {"MXFP4", 32, 17, MXFP4},
};

// `rows` rows of `cols`, one after the other at `source`, into panels at out, out + panel_step, …
struct Packing {
    Format format;
    int rows, cols;
    Kind kind;
    const uint8_t* source;
    uint8_t* out;
    int64_t panel_step;
};

// Row `row` of a copy as float32 (cols).
void unpack_row(const Matrix& m, int copy, int row, float* out);

}  // namespace vt
