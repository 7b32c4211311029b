#include "../isa.h"
#include "export.h"

namespace vt {
namespace VT_ISA {

#define VT_DECLARE(name) run_##name(const Step&, const void*)
void VT_OPS(VT_DECLARE);
void pack(const Packing&);
Input prepare(const float*, int, Range, const Matrix&, void*);
void multiply(const Matrix&, int, const Input&, int, int, float*, int64_t);
float read(const float*, int64_t);

extern const Kernels kernels;
#define VT_ENTRY(name) run_##name
const Kernels kernels = {{VT_OPS(VT_ENTRY)}, pack, prepare, multiply, read};

}  // namespace VT_ISA
}  // namespace vt
