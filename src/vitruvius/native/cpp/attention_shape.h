// How attention cuts its work; its scratch memory depends on it.
#pragma once

#include "plan.h"

namespace vt {

constexpr int TILE = 64;  // keys that are looked at together

VT_INLINE int64_t round16(int64_t n) { return (n + 15) / 16 * 16; }

struct AttendShape {
    int group;   // query heads that share a key
    int tokens;  // of an item
    int rows;    // tokens · group
    int padded;  // channels of a value, rounded up to 16

    VT_INLINE AttendShape(const StateSpec& state, int heads) {
        group = heads / state.heads;
        tokens = group < 48 ? 48 / group : 1;
        rows = tokens * group;
        padded = static_cast<int>(round16(state.value_dim()));
    }

    // Floats that a thread leaves of an item: sums, totals (in 16 parts), highest scores.
    VT_INLINE int64_t partial() const { return round16(int64_t{rows} * (padded + 17)); }
    // Floats of scratch memory of each thread: queries, sums, highest scores, totals, weights, a tile of keys and
    // values.
    VT_INLINE int64_t local(const StateSpec& state) const {
        return round16(int64_t{rows} * state.k_dim) + int64_t{rows} * (padded + 16) + round16(rows) + 6 * TILE +
               int64_t{TILE} * (state.k_dim + padded);
    }
};

}  // namespace vt
