#include "../ops/quantize.h"

namespace vt {
namespace VT_ISA {

void pack(const Packing& p) { pack_floats(p); }

}  // namespace VT_ISA
}  // namespace vt
