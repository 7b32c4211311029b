// What an instruction set has: the functions of all ops, and of packing and products without a plan.
//
// The files in sets/ are compiled once for each set, with -DVT_ISA=avx2 … and the compiler's flags for it, and so are
// those in ops/, or for the set "naive" those in naive/.
#include "../isa.h"
#include "../lanes.h"

namespace vt {
namespace VT_ISA {

#define VT_DECLARE(name) run(const Step&, const op_##name&)
void VT_OPS(VT_DECLARE);
void pack(const Packing&);
Input prepare(const float*, int, Range, const Matrix&, void*);
void multiply(const Matrix&, int, const Input&, int, int, float*, int64_t);

// Eight sums, so that none waits for the one before.
float read(const float* from, int64_t floats) {
    F sums[8] = {};
    for (int64_t i = 0; i + 8 * LANES <= floats; i += 8 * LANES)
        VT_EACH (j, 8) sums[j] += F::load(from + i + j * LANES);
    for (int j = 1; j < 8; ++j) sums[0] += sums[j];
    return sum(sums[0]);
}

extern const Kernels kernels;
#define VT_ENTRY(name) [](const Step& s, const void* op) { run(s, *static_cast<const op_##name*>(op)); }
const Kernels kernels = {{VT_OPS(VT_ENTRY)}, pack, prepare, multiply, read};

}  // namespace VT_ISA
}  // namespace vt
