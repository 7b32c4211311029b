// What a sequence keeps of its tokens.
//
// Keys and values stand in blocks of 16 slots, keys interleaved, so that one register has a channel of 16 keys:
//
//              f32 | f16                                q8: a scale for each slot and up to 32 channels of it
//   key block    [channel][16 slots]                    for each 32 channels: 16 × f16 scale | [channel][16 slots] int8
//   value block  [16 slots][channel]                    for each 32 channels: 16 × f16 scale; then [16 slots][channel] int8
//
// Each head has its own blocks, one after another. A position p is in slot p % slots: all positions have their own, or
// with a window they go round. Then slots are at least window + max_rows − 1, so that what a pass writes never
// overwrites what its first query sees.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"
#include "plan.h"

namespace vt {

enum class Store : int32_t { f32, f16, q8 };

// Where one state of a plan stands in a sequence's memory. Sizes are bytes.
struct Place {
    int slots = 0;                        // a multiple of 16; 0 if it is fixed
    size_t keys = 0, values = 0;          // offsets
    size_t key_block = 0, value_block = 0;
    size_t key_head = 0, value_head = 0;  // from one head to the next
    size_t fixed = 0;                     // offset
};

class Sequence {
   public:
    // Throws std::bad_alloc, and std::length_error where sizes are beyond all memory.
    Sequence(const std::vector<StateSpec>& specs, const void* owner, int max_rows, int64_t capacity, int64_t slack,
             Store store);

    const void* const owner;  // the engine
    const int64_t capacity;
    const Store store;

    int64_t length() const { return length_; }
    int64_t bytes() const;
    int64_t reach(int64_t length) const;
    // Whether it could: exactly the lengths that `reach` returns.
    bool rewind(int64_t length);
    void snapshot(int keep);

    // Before and after `tokens` more are written; in between, an interruption leaves it torn: it can be rewound only.
    void begin(int64_t tokens);
    void commit(int64_t tokens);
    bool torn() const { return torn_; }

    VT_INLINE const Place& place(int state) const { return place_[state]; }
    VT_INLINE uint8_t* key_block(int state, int head, int block) const {
        const Place& p = place(state);
        return base_ + p.keys + static_cast<size_t>(head) * p.key_head + static_cast<size_t>(block) * p.key_block;
    }
    VT_INLINE uint8_t* value_block(int state, int head, int block) const {
        const Place& p = place(state);
        return base_ + p.values + static_cast<size_t>(head) * p.value_head +
               static_cast<size_t>(block) * p.value_block;
    }
    VT_INLINE float* fixed(int state) const { return reinterpret_cast<float*>(base_ + place(state).fixed); }

   private:
    struct Snapshot {
        int64_t length;
        Block copy;
    };
    int64_t fixed_reach(int64_t length) const;

    std::vector<StateSpec> specs_;
    std::vector<Place> places_;
    std::vector<int64_t> oldest_;  // of each state, the first position that has not been overwritten
    size_t fixed_bytes_ = 0;       // of all fixed states, at the beginning
    Block memory_;
    const Place* place_ = nullptr;  // of places_ and memory_, for kernels
    uint8_t* base_ = nullptr;
    std::vector<Snapshot> snapshots_;  // in the order of their lengths
    int64_t length_ = 0;
    bool torn_ = false;
};

}  // namespace vt
