// The two products of attention, of a few rows with 64 keys:
//
//      scores (rows, 64) = queries (rows, channels) × keys (channels, 64)        a key block is [channel][16 keys]
//      sums (rows, channels) += weights (rows, 64) × values (64, channels)       a value is [channel]
//
// In both a register holds 16 numbers of a row of the result, and each load of keys or values serves all the rows.
#pragma once

#include <type_traits>

#include "../scratch.h"
#include "keep.h"

namespace vt {
namespace VT_ISA {

constexpr int SUMS = REGISTERS * 3 / 4 / PARTS;       // that stay in registers
constexpr int MOST_ROWS = least(SUMS, TILE_QUERIES);  // rows that are computed side by side

// How many of the F that stand beside each other go with that many rows.
constexpr int beside(int rows) { return least(SUMS / rows, 4); }

// Calls what(first row, how many) for n rows in pieces of sizes that the compiler knows: 6, 4, 3, 2 or 1.
template <int R = MOST_ROWS, class Do> VT_INLINE void each_rows(int n, const Do& what, int row = 0) {
    for (; row + R <= n; row += R) what(row, std::integral_constant<int, R>());
    if constexpr (R > 1) each_rows<R == 6 ? 4 : R - 1>(n, what, row);
}

// 64 keys and their values: four blocks of each, as floats or as the state has them.
struct Tile {
    int64_t first;  // position of the first key
    int count;      // keys that there are
    Store key_store, value_store;
    const uint8_t *keys[TILE / LANES] = {}, *values[TILE / LANES] = {};
};

// Scores of R queries, `channels` apart, with 64 keys → [R][64]; B blocks of keys at a time.
template <Store K, int R> VT_INLINE void scores(const Tile& tile, const float* q, int channels, float* out) {
    constexpr int B = beside(R) == 3 ? 2 : beside(R);
    for (int block = 0; block < TILE / LANES; block += B) {
        F sums[R][B];
        VT_EACH (r, R)
            VT_EACH (b, B) sums[r][b] = F::zero();
        for (int c = 0; c < channels; ++c) {
            F k[B];
            VT_EACH (b, B) k[b] = numbers(tile.keys[block + b], c * LANES, K);
            VT_EACH (r, R) {
                const F x = F::all(q[int64_t{r} * channels + c]);
                VT_EACH (b, B) sums[r][b] = fma(k[b], x, sums[r][b]);
            }
        }
        VT_EACH (r, R)
            VT_EACH (b, B) sums[r][b].store(out + r * TILE + (block + b) * LANES);
    }
}

// Adds weights [R][64] × values to R sums of `channels`, `stride` apart; C strips of channels at a time.
template <Store S, int R, int C = beside(R)>
VT_INLINE void add_values(const Tile& tile, const float* weights, int channels, float* sums, int stride, int c = 0) {
    const int64_t step = int64_t{channels} * size_of(S);  // as they are, values have no padding
    for (; c + C * LANES <= channels; c += C * LANES) {
        F total[R][C];
        VT_EACH (r, R)
            VT_EACH (i, C) total[r][i] = F::load(sums + int64_t{r} * stride + c + i * LANES);
        for (int key = 0; key < tile.count; ++key) {
            const uint8_t* const value = tile.values[key / LANES] + key % LANES * step + int64_t{c} * size_of(S);
            F v[C];
            VT_EACH (i, C) v[i] = numbers(value, i * LANES, S);
            VT_EACH (r, R) {
                const F w = F::all(weights[r * TILE + key]);
                VT_EACH (i, C) total[r][i] = fma(v[i], w, total[r][i]);
            }
        }
        VT_EACH (r, R)
            VT_EACH (i, C) total[r][i].store(sums + int64_t{r} * stride + c + i * LANES);
    }
    if constexpr (C > 1) add_values<S, R, 1>(tile, weights, channels, sums, stride, c);
}

}  // namespace VT_ISA
}  // namespace vt
