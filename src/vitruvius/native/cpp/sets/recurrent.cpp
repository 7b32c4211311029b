#include "export.h"
#if VT_NAIVE
#include "../naive/recurrent.h"
#else
#include "../ops/recurrent.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(conv)
VT_EXPORT(delta)
VT_EXPORT(ssm)

}  // namespace VT_ISA
}  // namespace vt
