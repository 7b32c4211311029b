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

#include <algorithm>
#include <vector>

#include "memory.h"
#include "plan.h"

namespace vt {

enum class Store : int32_t { f32, f16, q8 };

// Where the blocks of keys or of values are: the first one, and bytes from head to head and from block to block.
struct Blocks {
    int64_t start = 0, head = 0, block = 0;
    VT_INLINE int64_t at(int h, int b) const { return start + h * head + b * block; }
};

// Where one state of a plan stands in a sequence's memory.
struct Place {
    int window = 0, slots = 0;  // slots are a multiple of 16
    Blocks keys, values;
    int64_t fixed = 0;
};

class Sequence {
   public:
    // Throws std::bad_alloc, or that sizes are beyond all memory.
    Sequence(const std::vector<StateSpec>& specs, int max_rows, int64_t capacity, int64_t slack, Store store);

    const int64_t capacity;
    const Store store;

    Sequence(const Sequence& other);

    int64_t length() const { return length_; }
    int64_t bytes() const;
    int64_t reach(int64_t length) const;
    // Whether it could: exactly the lengths that `reach` returns.
    bool rewind(int64_t length);
    void snapshot(int keep);

    // Before and after `tokens` more are written; in between, an interruption leaves it torn: it can be rewound only.
    void begin(int64_t tokens) { torn_ = fixed_bytes_ > 0, written_ = std::max(written_, length_ + tokens); }
    void commit(int64_t tokens) { torn_ = false, length_ += tokens; }
    bool torn() const { return torn_; }

    VT_INLINE const Place& place(int state) const { return place_[state]; }
    VT_INLINE uint8_t* key_block(int state, int head, int b) const { return base_ + place(state).keys.at(head, b); }
    VT_INLINE uint8_t* value_block(int state, int head, int b) const { return base_ + place(state).values.at(head, b); }
    VT_INLINE float* fixed(int state) const { return reinterpret_cast<float*>(base_ + place(state).fixed); }

   private:
    struct Snapshot {
        int64_t length;
        Block copy;
    };

    std::vector<Place> places_;
    Block memory_;
    int64_t fixed_bytes_ = 0;       // of all fixed states, at the beginning
    const Place* place_ = nullptr;  // of places_ and memory_, for kernels
    uint8_t* base_ = nullptr;
    std::vector<Snapshot> snapshots_;   // in the order of their lengths
    int64_t length_ = 0, written_ = 0;  // tokens, and up to where slots have ever been written
    bool torn_ = false;
};

}  // namespace vt
