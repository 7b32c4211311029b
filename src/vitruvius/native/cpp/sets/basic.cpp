#include "export.h"
#if VT_NAIVE
#include "../naive/basic.h"
#include "../naive/streams.h"
#else
#include "../ops/basic.h"
#include "../ops/streams.h"
#endif

namespace vt {
namespace VT_ISA {

VT_EXPORT(embed)
VT_EXPORT(learned)
VT_EXPORT(norm)
VT_EXPORT(gated_norm)
VT_EXPORT(rotary)
VT_EXPORT(rope)
VT_EXPORT(copy)
VT_EXPORT(temper)
VT_EXPORT(pointwise)
VT_EXPORT(select)
VT_EXPORT(streams_predict)
VT_EXPORT(streams_correct)
VT_EXPORT(streams_match)
VT_EXPORT(streams_mean)

}  // namespace VT_ISA
}  // namespace vt
