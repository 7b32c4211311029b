#include "export.h"
#if VT_NAIVE
#include "../naive/index.h"
#else
#include "../ops/index.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(index)

}  // namespace VT_ISA
}  // namespace vt
