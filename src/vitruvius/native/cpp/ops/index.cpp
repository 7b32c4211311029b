// The lightning indexer: which of a sequence's keys each row sees (spec.Indexer). Its own keys stand in a state, in
// blocks of 16 (state.h); a register has the scores of 16 keys, and adds up head after head:
//
//             keys 0 … 15   16 … 31  …
//     head 0  │ w₀ · relu(q₀ · k)            │        of 64 keys those that are higher than the topk-th so far
//     head 1  │ w₁ · relu(q₁ · k)            │  sum → become candidates; when these are twice as many as wanted,
//       …     │ …                            │        the lower ones are dropped
//
// How the scores are scaled does not matter for the choice, so they are not.
#include "attention_products.h"

namespace vt {
namespace VT_ISA {

// A score as a number in the order of floats, and after it the position, the earlier the higher: no two are equal.
VT_INLINE uint64_t candidate(float score, int position) {
    const uint32_t bits = bits_of_float(score);
    return uint64_t{bits >> 31 ? ~bits : bits | 0x80000000} << 32 | ~static_cast<uint32_t>(position);
}

// What the k highest of n are at least, and no other is: found bit by bit, until so many are left.
VT_INLINE uint64_t bar_of(const uint64_t* x, int64_t n, int64_t k) {
    uint64_t bar = 0;
    int64_t left = n;
    for (uint64_t bit = uint64_t{1} << 63; left > k; bit >>= 1) {
        int64_t as_high = 0;
        for (int64_t i = 0; i < n; ++i) as_high += x[i] >= (bar | bit);
        if (as_high >= k) bar |= bit, left = as_high;
    }
    return bar;
}

// The highest that a thread has found, in the order of their positions, where all threads see them.
struct Candidates {
    const Step& s;
    const op_index& o;
    const int thread;
    int32_t& n = s.shared<int32_t>()[thread * index_candidates(o.topk)];
    uint64_t* const found = reinterpret_cast<uint64_t*>(&n + LANES);
    uint64_t bar = 0;  // what is lower is not among the best

    VT_INLINE void add(uint64_t x) {
        if (x >= bar) found[n++] = x;
    }
    // Drops all but the topk highest.
    VT_INLINE void prune() {
        if (n <= o.topk) return;
        bar = bar_of(found, n, o.topk);
        const int all = n;
        n = 0;
        for (int i = 0; i < all; ++i) add(found[i]);
    }
};

// Scores of a row with the 64 keys from position p on: Σ weight · relu(q · k).
VT_INLINE void score(const Step& s, const op_index& o, const Sequence& sequence, int row, int p, float* sums) {
    const int dim = s.state(o.state).k_dim;
    float *const floats = s.local<float>(), *const products = floats + TILE * int64_t{dim};
    Tile tile{p, TILE, Store::f32, Store::f32};
    for (int b = 0; b < TILE / LANES; ++b) {
        const int at = p + b * LANES <= s.position(row) ? p + b * LANES : p;  // beyond the last key any block does
        const Kept keys = keys_of(s, sequence, o.state, 0, at / LANES);
        float* const converted = floats + int64_t{b} * LANES * dim;
        tile.keys[b] = keys.store == Store::f32 ? keys.block : reinterpret_cast<uint8_t*>(converted);
        if (keys.store != Store::f32) keys_as_floats(keys, converted);
    }
    each_rows(o.heads, [&](int head, auto count) {
        constexpr int R = decltype(count)::value;
        scores<Store::f32, R>(tile, s.row(o.q, row) + int64_t{head} * dim, dim, products);
        for (int r = 0; r < R; ++r) {
            const float weight = s.row(o.weights, row)[head + r];
            for (int i = 0; i < TILE; i += LANES)
                fma(fmax(F::load(products + r * TILE + i), F::zero()), weight, F::load(sums + i)).store(sums + i);
        }
    });
}

// Chooses for one row: this thread alone, or all of them together, of whom thread 0 takes what the others have found.
VT_INLINE void choose(const Step& s, const op_index& o, const Sequence& sequence, int row, bool alone) {
    const int position = s.position(row), first = o.first / TILE, tiles = position / TILE + 1 - first;
    Candidates best{s, o, s.thread};
    best.n = 0;
    if (int64_t{position} + 1 - o.first <= o.topk) {
        for (int p = o.first; p <= position; ++p) best.add(candidate(0, p));
    } else {
        const Range mine = alone ? Range{0, tiles} : s.mine(tiles);
        for (int p = (first + mine.begin) * TILE; p < (first + mine.end) * TILE; p += TILE) {
            alignas(64) float sums[TILE] = {};
            score(s, o, sequence, row, p, sums);
            if (best.n + TILE > index_room(o.topk)) best.prune();
            for (int i = 0; i < TILE; ++i)
                if (p + i >= o.first && p + i <= position) best.add(candidate(sums[i], p + i));
        }
        best.prune();
        if (!alone) s.sync();
        for (int thread = 1; thread < s.threads && s.thread == 0 && !alone; ++thread) {
            const Candidates other{s, o, thread};
            if (best.n + other.n > index_room(o.topk)) best.prune();
            for (int i = 0; i < other.n; ++i) best.add(other.found[i]);
        }
        best.prune();
        if (!alone) s.sync();
    }
    if (s.thread > 0 && !alone) return;
    int32_t* const selection = s.integers(o.selection, row);
    selection[0] = best.n;
    for (int i = 0; i < best.n; ++i) selection[1 + i] = static_cast<int32_t>(~best.found[i]);  // its low half
}

// Many rows are shared by the threads; of few, each is done by all.
void run(const Step& s, const op_index& o) {
    const bool alone = s.threads == 1 || s.rows >= 4 * s.threads;
    each_sequence_row(s, alone ? s.mine(s.rows) : Range{0, s.rows},
                      [&](const Sequence& sequence, int row) { choose(s, o, sequence, row, alone); });
}

}  // namespace VT_ISA
}  // namespace vt
