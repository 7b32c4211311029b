#include "../isa.h"
#include "export.h"

namespace vt {
namespace VT_ISA {

#define VT_DECLARE(name, fields, how) void run_##name(const Step&, const void*);
VT_OPS(VT_DECLARE)
void pack(const Packing&);
Input prepare(const float*, int, Range, const Matrix&, void*);
void multiply(const Matrix&, int, const Input&, int, int, float*, int64_t);
float read(const float*, int64_t);

#define VT_TEXT(a) #a
#define VT_NAME(a) VT_TEXT(a)
#define VT_ENTRY(name, fields, how) run_##name,
const Kernels kernels = {VT_NAME(VT_ISA), {VT_OPS(VT_ENTRY)}};
const MatrixKernels matrix_kernels = {pack, prepare, multiply, read};

}  // namespace VT_ISA
}  // namespace vt
