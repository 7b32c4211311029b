// The lightning indexer: which of a sequence's keys each row sees (spec.Indexer). Its own keys stand in a state, in
// blocks of 16 (state.h); a register has the scores of 16 keys, and adds up head after head:
//
//             keys 0 … 15   16 … 31  …
//     head 0  │ w₀ · relu(q₀ · k)            │        of 64 keys those that are higher than the topk-th so far
//     head 1  │ w₁ · relu(q₁ · k)            │  sum → become candidates; when these are twice as many as wanted,
//       …     │ …                            │        the lower ones are dropped
//
// How the scores are scaled does not matter for the choice, so they are not.
#pragma once

#include <cmath>

#include "../scratch.h"
#include "attention.h"

namespace vt {
namespace VT_ISA {

// Numbers in the order of floats.
VT_INLINE uint32_t ordered(float x) {
    const uint32_t bits = bits_of_float(x);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

// The k-th highest of n, found 11, 11 and 10 bits at a time; k becomes its place among those equal to it.
VT_INLINE uint32_t kth(const float* x, int n, int& k, int32_t* counts) {
    uint32_t known = 0, mask = 0;
    for (const int shift : {21, 10, 0}) {
        const uint32_t last = shift ? INDEX_COUNTS - 1 : (INDEX_COUNTS >> 1) - 1;
        memset(counts, 0, INDEX_COUNTS * sizeof(int32_t));
        for (int i = 0; i < n; ++i) {
            const uint32_t bits = ordered(x[i]);
            if ((bits & mask) == known) ++counts[bits >> shift & last];
        }
        uint32_t part = last;
        for (; part > 0 && counts[part] < k; --part) k -= counts[part];
        known |= part << shift;
        mask |= last << shift;
    }
    return known;
}

// The highest scores so far, in the order of their positions.
struct Candidates {
    float* scores;
    int32_t* positions;
    int32_t* counts;  // scratch
    int topk, n = 0;
    float bar = 0;        // what is not higher is not among the best,
    bool barred = false;  // once there are enough

    VT_INLINE void add(float score, int position) {
        if (barred && !(score > bar)) return;
        scores[n] = score;
        positions[n++] = position;
    }
    // Drops all but the topk highest.
    VT_INLINE void prune() {
        if (n <= topk) return;
        int ties = topk, kept = 0;
        const uint32_t least = kth(scores, n, ties, counts);
        for (int i = 0; i < n; ++i) {
            const uint32_t bits = ordered(scores[i]);
            if (bits == least) bar = scores[i];
            if (bits < least || (bits == least && ties-- <= 0)) continue;
            scores[kept] = scores[i];
            positions[kept++] = positions[i];
        }
        n = kept;
        barred = true;
    }
    VT_INLINE void make_room(int more) {
        if (n + more > index_room(topk)) prune();
    }
};

// What a thread has found when all of them look at one row's keys, for thread 0.
struct Found {
    int32_t* n;
    float* scores;
    int32_t* positions;
    VT_INLINE Found(const Step& s, int topk, int thread) {
        float* at = s.shared<float>() + thread * index_left(topk);
        n = reinterpret_cast<int32_t*>(at);
        scores = at + LANES;
        positions = reinterpret_cast<int32_t*>(scores + index_room(topk));
    }
};

// One row of a step, and this thread's scratch memory.
class IndexRow {
   public:
    VT_INLINE IndexRow(const Step& s, const op_index& o, const Part& part, int row)
        : s_(s), o_(o), part_(part), row_(row), dim_(s.state(o.state).k_dim), keys_(s.local<float>()) {
        products_ = keys_ + INDEX_KEYS * static_cast<int64_t>(dim_);
        best_.counts = reinterpret_cast<int32_t*>(products_ + INDEX_KEYS * INDEX_HEADS);
        best_.scores = products_ + INDEX_KEYS * INDEX_HEADS + INDEX_COUNTS;
        best_.positions = reinterpret_cast<int32_t*>(best_.scores + index_room(o.topk));
        best_.topk = o.topk;
    }

    // By this thread alone, or by all of them together.
    VT_INLINE void run(bool alone) {
        const int64_t position = s_.position(row_), seen = position + 1 - o_.first;
        if (seen <= o_.topk) {
            for (int64_t p = o_.first; p <= position; ++p) best_.add(0, static_cast<int>(p));
            if (alone || s_.thread == 0) leave();
            return;
        }
        const int begin = o_.first / INDEX_KEYS, end = static_cast<int>(position / INDEX_KEYS) + 1;
        const Range mine = alone ? Range{0, end - begin} : s_.mine(end - begin);
        for (int tile = begin + mine.begin; tile < begin + mine.end; ++tile) score(tile * INDEX_KEYS);
        best_.prune();
        if (!alone) gather();
        if (alone || s_.thread == 0) leave();
    }

   private:
    // Adds those of the 64 keys from position p on that are seen.
    VT_INLINE void score(int p) {
        Tile tile{};
        const Sequence& kept = *part_.sequence;
        for (int b = 0; b < INDEX_KEYS / LANES; ++b) {
            const int at = p + b * LANES;
            const uint8_t* block = kept.key_block(o_.state, 0, (at <= s_.position(row_) ? at : p) / LANES);
            float* floats = keys_ + static_cast<int64_t>(b) * LANES * dim_;
            if (kept.store != Store::f32) keys_as_floats(block, kept.store, dim_, floats);
            tile.keys[b] = kept.store == Store::f32 ? block : reinterpret_cast<const uint8_t*>(floats);
        }
        alignas(64) float sums[INDEX_KEYS] = {};
        for (int h = 0; h < o_.heads;) {
            with_rows(o_.heads - h, [&](auto count) {
                add_heads<decltype(count)::value>(tile, h, sums);
                h += decltype(count)::value;
            });
        }
        best_.make_room(INDEX_KEYS);
        for (int i = 0; i < INDEX_KEYS; ++i)
            if (p + i >= o_.first && p + i <= s_.position(row_)) best_.add(sums[i], p + i);
    }
    // R heads from h on: sums += w · relu(q · k).
    template <int R> VT_INLINE void add_heads(const Tile& tile, int h, float* sums) {
        scores<F32Store, R>(tile, s_.row(o_.q, row_) + static_cast<int64_t>(h) * dim_, dim_, products_);
        for (int r = 0; r < R; ++r) {
            const float weight = s_.row(o_.weights, row_)[h + r];
            for (int i = 0; i < INDEX_KEYS; i += LANES)
                fma(fmax(F::load(products_ + r * INDEX_KEYS + i), F::zero()), weight, F::load(sums + i)).store(sums + i);
        }
    }
    // Thread 0 takes what the threads have found.
    VT_INLINE void gather() {
        const Found mine(s_, o_.topk, s_.thread);
        *mine.n = best_.n;
        memcpy(mine.scores, best_.scores, static_cast<size_t>(best_.n) * sizeof(float));
        memcpy(mine.positions, best_.positions, static_cast<size_t>(best_.n) * sizeof(int32_t));
        s_.sync();
        for (int t = 1; t < s_.threads && s_.thread == 0; ++t) {
            const Found other(s_, o_.topk, t);
            best_.make_room(*other.n);
            for (int i = 0; i < *other.n; ++i) best_.add(other.scores[i], other.positions[i]);
        }
        if (s_.thread == 0) best_.prune();
        s_.sync();
    }
    VT_INLINE void leave() const {
        int32_t* selection = reinterpret_cast<int32_t*>(s_.row(o_.selection, row_));
        selection[0] = best_.n;
        memcpy(selection + 1, best_.positions, static_cast<size_t>(best_.n) * sizeof(int32_t));
    }

    const Step& s_;
    const op_index& o_;
    const Part& part_;
    const int row_, dim_;
    float *keys_, *products_;
    Candidates best_{};
};

// Many rows are shared by the threads; of few, each is done by all.
inline void run(const Step& s, const op_index& o) {
    const bool alone = s.threads == 1 || s.rows >= 4 * s.threads;
    const Range mine = alone ? s.mine(s.rows) : Range{0, s.rows};
    for (const Part& part : s)
        for (int row = part.row0; row < part.row0 + part.rows; ++row)
            if (row >= mine.begin && row < mine.end) IndexRow(s, o, part, row).run(alone);
}

}  // namespace VT_ISA
}  // namespace vt
