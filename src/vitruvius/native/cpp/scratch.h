// What kernels and their checks agree on about scratch memory.
#pragma once

#include "formats.h"

namespace vt {

// conv: the longest kernel.
constexpr int KERNEL_MOST = 16;

// delta: tokens of a head that are prepared together, each as four vectors as long as a key.
constexpr int DELTA_TOKENS = 8;
VT_INLINE int64_t delta_floats(int k_dim) { return DELTA_TOKENS * 4 * ceil_div(k_dim, LANES) * LANES; }

// route: scores, ranks, the highest rank of each 16, and the score of each group of experts.
VT_INLINE int64_t route_strips(int experts) { return ceil_div(ceil_div(experts, LANES), LANES) * LANES; }
VT_INLINE int64_t route_floats(int experts, int groups) {
    return 2 * ceil_div(experts, LANES) * LANES + route_strips(experts) + groups;
}

// experts: rows that are gathered for one expert at a time, as floats and as its matrix wants them.
constexpr int GATHERED_ROWS = 48;
VT_INLINE int64_t gathered_stride(int cols) { return ceil_div(cols, LANES) * LANES; }
VT_INLINE int64_t gathered_bytes(int format, int cols) {
    return GATHERED_ROWS * (gathered_stride(cols) * 4 + prepared_bytes(format, cols, 1));
}

// index: keys that are scored together by up to 6 heads; of each thread the keys as floats, their products, how often each
// part of a score occurs, and candidates, scores and positions, of which it leaves at most topk for all to see.
constexpr int INDEX_KEYS = 64, INDEX_HEADS = 6, INDEX_COUNTS = 1 << 11;
VT_INLINE int64_t index_room(int topk) { return 2 * ceil_div(topk, LANES) * LANES + INDEX_KEYS; }
VT_INLINE int64_t index_floats(int dim, int topk) {
    return INDEX_KEYS * (static_cast<int64_t>(dim) + INDEX_HEADS) + INDEX_COUNTS + 2 * index_room(topk);
}
VT_INLINE int64_t index_left(int topk) { return 2 * index_room(topk) + LANES; }

}  // namespace vt
