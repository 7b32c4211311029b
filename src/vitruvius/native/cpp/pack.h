// Packing matrices into panels (formats.h), and back.
#pragma once

#include "formats.h"

namespace vt {

// `rows` rows of `cols`, one after the other at `source`, into panels at out, out + panel_step, … The kind of what is
// packed has the number of the format that keeps it without loss.
struct Packing {
    Format format, kind;
    int rows, cols;
    const uint8_t* source;
    uint8_t* out;
    int64_t panel_step;
};

// Row `row` of a copy as float32 (cols).
void unpack_row(const Matrix& m, int copy, int row, float* out);

}  // namespace vt
