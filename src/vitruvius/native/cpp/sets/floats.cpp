#include "export.h"
#if !VT_NAIVE
#include "../ops/matmul_float.h"

namespace vt {
namespace VT_ISA {

template void float_kernel<F32>(const PanelTile&, const Input&);
template void float_kernel<F16>(const PanelTile&, const Input&);
template void float_kernel<BF16>(const PanelTile&, const Input&);

}  // namespace VT_ISA
}  // namespace vt
#endif
