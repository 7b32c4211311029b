#include "../ops/quantize.h"

namespace vt {
namespace VT_ISA {

void pack(const Packing& p) {
    with_format(p.format, [&](auto f) {
        if constexpr (f <= Q4M)
            for (int r = 0; r < p.rows; r += LANES) pack_panel<f>(p, r, p.out + r / LANES * p.panel_step);
    });
}

}  // namespace VT_ISA
}  // namespace vt
