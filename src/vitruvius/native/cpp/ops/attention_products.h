// The two products of attention, of a few rows with 64 keys:
//
//      scores (rows, 64) = queries (rows, channels) × keys (channels, 64)        a key block is [channel][16 keys]
//      sums (rows, channels) += weights (rows, 64) × values (64, channels)       a value is [channel]
//
// In both a register holds 16 numbers of a row of the result, and each load of keys or values serves all the rows.
#pragma once

#include <type_traits>

#include "../attention_shape.h"
#include "keep.h"

namespace vt {
namespace VT_ISA {

constexpr int SUMS = REGISTERS * 3 / 4 / PARTS;  // that stay in registers
constexpr int MOST_ROWS = SUMS < 6 ? SUMS : 6;   // rows that are computed side by side

// How many of the F that stand beside each other go with that many rows.
constexpr int beside(int rows) { return SUMS / rows < 4 ? SUMS / rows : 4; }

// Calls what(number) with a number of rows, at most n, that is known to the compiler.
template <class Do>
VT_INLINE void with_rows(int n, Do what) {
    if (n >= 6 && MOST_ROWS >= 6) return what(std::integral_constant<int, 6 <= MOST_ROWS ? 6 : 1>());
    if (n >= 4 && MOST_ROWS >= 4) return what(std::integral_constant<int, 4 <= MOST_ROWS ? 4 : 1>());
    if (n >= 3) return what(std::integral_constant<int, 3>());
    if (n == 2) return what(std::integral_constant<int, 2>());
    what(std::integral_constant<int, 1>());
}

// 64 keys and their values: four blocks of each, as floats or as the state has them.
struct Tile {
    const uint8_t *keys[TILE / LANES], *values[TILE / LANES];
    Store key_store, value_store;
    int64_t first;  // position of the first key
    int count;      // keys that there are
};

// Scores of R queries, `channels` apart, with 64 keys → [R][64]; B blocks of keys at a time.
template <class K, int R>
VT_INLINE void scores(const Tile& tile, const float* q, int channels, float* out) {
    constexpr int B = beside(R) == 3 ? 2 : beside(R);
    for (int block = 0; block < TILE / LANES; block += B) {
        F sums[R][B];
        VT_UNROLL for (int r = 0; r < R; ++r) VT_UNROLL for (int b = 0; b < B; ++b) sums[r][b] = F::zero();
        for (int c = 0; c < channels; ++c) {
            F k[B];
            VT_UNROLL for (int b = 0; b < B; ++b) k[b] = K::load(tile.keys[block + b] + c * (LANES * K::size));
            VT_UNROLL for (int r = 0; r < R; ++r) {
                const F x = F::all(q[int64_t{r} * channels + c]);
                VT_UNROLL for (int b = 0; b < B; ++b) sums[r][b] = fma(k[b], x, sums[r][b]);
            }
        }
        VT_UNROLL for (int r = 0; r < R; ++r)
            VT_UNROLL for (int b = 0; b < B; ++b) sums[r][b].store(out + r * TILE + (block + b) * LANES);
    }
}

// Adds weights [R][64] × values to R sums, `padded` apart; C strips of channels at a time.
template <class S, int R, int C>
VT_INLINE int add_values(const Tile& tile, const float* weights, int c, int padded, float* sums) {
    const int64_t step = int64_t{padded} * S::size;  // as they are, values have no padding
    for (; c + C * LANES <= padded; c += C * LANES) {
        F total[R][C];
        VT_UNROLL for (int r = 0; r < R; ++r)
            VT_UNROLL for (int i = 0; i < C; ++i) total[r][i] = F::load(sums + int64_t{r} * padded + c + i * LANES);
        for (int key = 0; key < tile.count; ++key) {
            const uint8_t* const value = tile.values[key / LANES] + key % LANES * step + int64_t{c} * S::size;
            F v[C];
            VT_UNROLL for (int i = 0; i < C; ++i) v[i] = S::load(value + i * LANES * S::size);
            VT_UNROLL for (int r = 0; r < R; ++r) {
                const F w = F::all(weights[r * TILE + key]);
                VT_UNROLL for (int i = 0; i < C; ++i) total[r][i] = fma(v[i], w, total[r][i]);
            }
        }
        VT_UNROLL for (int r = 0; r < R; ++r)
            VT_UNROLL for (int i = 0; i < C; ++i) total[r][i].store(sums + int64_t{r} * padded + c + i * LANES);
    }
    return c;
}

template <class S, int R>
VT_INLINE void add_values(const Tile& tile, const float* weights, int padded, float* sums) {
    const int c = add_values<S, R, beside(R)>(tile, weights, 0, padded, sums);
    if (beside(R) > 1) add_values<S, R, 1>(tile, weights, c, padded, sums);
}

}  // namespace VT_ISA
}  // namespace vt
