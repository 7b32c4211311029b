// What kernels and their checks agree on about scratch memory.
#pragma once

#include "plan.h"

namespace vt {

// Rounded up to whole registers.
VT_INLINE int64_t padded(int64_t n) { return ceil_div(n, LANES) * LANES; }

// conv: the longest kernel.
constexpr int KERNEL_MOST = 16;

// delta: tokens of a head that are prepared together, each as four vectors as long as a key.
constexpr int DELTA_TOKENS = 8;
VT_INLINE int64_t delta_floats(int k_dim) { return DELTA_TOKENS * 4 * padded(k_dim); }

// attend and index: keys that are looked at together, by at most so many queries side by side.
constexpr int TILE = 64, TILE_QUERIES = 6;

// attend: how it cuts its work. In memory of each thread, `local` floats, the queries come first, then the weights of a
// tile, its keys and its values as floats. Two results of each thread, of so many floats, are seen by all.
struct AttendShape {
    const StateSpec& state;
    const int heads;
    const int group = heads / state.heads;           // query heads that share a key
    const int tokens = group < 48 ? 48 / group : 1;  // of an item
    const int channels = static_cast<int>(padded(state.value_dim()));
    const int row = channels + 2 * LANES;  // of a result: sums of channels, sum of weights in 16 parts, highest score
    const int64_t result = int64_t{tokens} * group * row;
    const int64_t weights = padded(int64_t{tokens} * group * state.k_dim);
    const int64_t keys = weights + TILE_QUERIES * TILE;
    const int64_t values = keys + int64_t{TILE} * state.k_dim;
    const int64_t local = values + int64_t{TILE} * channels;
};

// route: scores, ranks, and the score of each group of experts.
VT_INLINE int64_t route_floats(int experts, int groups) { return 2 * padded(experts) + groups; }

// experts: rows that are gathered for one expert at a time, as floats and as its matrix wants them.
constexpr int GATHERED_ROWS = 48;
VT_INLINE int64_t gathered_stride(int cols) { return padded(cols); }
VT_INLINE int64_t gathered_bytes(int format, int cols) {
    return GATHERED_ROWS * (gathered_stride(cols) * 4 + prepared_bytes(format, cols, 1));
}

// index: in memory of each thread a tile of keys as floats and their products; seen by all, how many candidates it has
// and the candidates, of 64 bits.
VT_INLINE int64_t index_floats(int dim) { return TILE * (int64_t{dim} + TILE_QUERIES); }
VT_INLINE int64_t index_room(int topk) { return 2 * padded(topk) + TILE; }
VT_INLINE int64_t index_candidates(int topk) { return LANES + 2 * index_room(topk); }

}  // namespace vt
