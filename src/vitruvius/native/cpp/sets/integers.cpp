#include "export.h"
#if !VT_NAIVE
#include "../ops/matmul_integer.h"

namespace vt {
namespace VT_ISA {

template void integer_kernel<Q8>(const PanelTile&, const Input&);
template void integer_kernel<Q4>(const PanelTile&, const Input&);
template void integer_kernel<Q4M>(const PanelTile&, const Input&);
template void integer_kernel<Q5>(const PanelTile&, const Input&);
template void integer_kernel<Q5M>(const PanelTile&, const Input&);
template void integer_kernel<Q4K>(const PanelTile&, const Input&);
template void integer_kernel<Q5K>(const PanelTile&, const Input&);
template void integer_kernel<Q6K>(const PanelTile&, const Input&);
template void integer_kernel<MXFP4>(const PanelTile&, const Input&);

}  // namespace VT_ISA
}  // namespace vt
#endif
