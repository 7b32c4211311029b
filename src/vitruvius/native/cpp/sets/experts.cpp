#include "export.h"
#if VT_NAIVE
#include "../naive/experts.h"
#else
#include "../ops/experts.h"
#include "../ops/route.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(route)
VT_EXPORT(experts_glu)
VT_EXPORT(experts_up)
VT_EXPORT(experts_down)

}  // namespace VT_ISA
}  // namespace vt
