#include "export.h"
#if VT_NAIVE
#include "../naive/attention.h"
#else
#include "../ops/attention.h"
#include "../ops/keep.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(keep)
VT_EXPORT(attend)

}  // namespace VT_ISA
}  // namespace vt
