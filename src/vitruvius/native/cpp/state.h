// What a sequence keeps of its tokens.
//
// Keys and values stand in blocks of 16 slots, keys interleaved, so that one register has a channel of 16 keys:
//
//              f32 | f16                                q8: a scale for each slot and up to 32 channels of it
//   key block    [channel][16 slots]                    for each 32 channels: 16 × f16 scale | [channel][16 slots] int8
//   value block  [16 slots][channel]                    for each 32 channels: 16 × f16 scale; then [16 slots][channel] int8
//
// The blocks of 64 slots stand in a page, state by state and head by head, a head's keys before its values:
//
//   page of slots 0 … 63        state 0: head 0: 4 key blocks, 4 value blocks | head 1 … | state 1: …
//   page of slots 64 … 127      …
//
// A position p is in slot p % slots: all positions have their own, or with a window they go round. Then slots are at
// least window + max_rows − 1, so that what a pass writes never overwrites what its first query sees. Pages are there
// once something is in them. Forks share theirs; who writes to a page that others hold gets a copy of it first. What is
// fixed is a page too, and a snapshot is one that is kept.
#pragma once

#include <algorithm>
#include <vector>

#include "pages.h"
#include "plan.h"

namespace vt {

enum class Store : int32_t { f32, f16, q8 };

constexpr int PAGE = 64, PAGE_BLOCKS = PAGE / LANES;  // slots and blocks of a page

// Where in a page the blocks of keys or of values are: the first one, and bytes from head to head and from block to block.
struct Blocks {
    int64_t start = 0, head = 0, block = 0;
    VT_INLINE int64_t at(int h, int b) const { return start + h * head + b * block; }
};

// Where one state of a plan stands in a sequence's memory.
struct Place {
    int window = 0, slots = 0, table = 0;  // slots are a multiple of 16, and beyond 64 of 64
    Blocks keys, values;
    int64_t fixed = 0;  // in the page of all fixed states
    Page* const* pages = nullptr;
};

class Sequence {
   public:
    // Throws that sizes are beyond all memory.
    Sequence(std::shared_ptr<Pool> pool, const std::vector<StateSpec>& specs, int max_rows, int64_t capacity,
             int64_t slack, Store store);
    // A fork: a sequence of its own with the same tokens.
    Sequence(const Sequence& other);
    ~Sequence();

    const int64_t capacity;
    const Store store;

    int64_t length() const { return length_; }
    // Of its pages. One that several sequences hold is counted by one of them: by the eldest, and when that has let go,
    // by the next that is asked.
    int64_t bytes() const;
    int64_t reach(int64_t length) const;
    // Whether it could: exactly the lengths that `reach` returns.
    bool rewind(int64_t length);
    void snapshot(int keep);

    // Before `tokens` more are written: makes their pages its own. Throws std::bad_alloc, and then nothing has changed.
    void prepare(int64_t tokens);
    // Before and after they are written; in between, an interruption leaves it torn: it can be rewound only.
    void begin(int64_t tokens) { torn_ = fixed_bytes_ > 0, written_ = std::max(written_, length_ + tokens); }
    void commit(int64_t tokens) { torn_ = false, length_ += tokens; }
    bool torn() const { return torn_; }

    VT_INLINE const Place& place(int state) const { return place_[state]; }
    VT_INLINE uint8_t* key_block(int state, int head, int b) const {
        return place(state).pages[b / PAGE_BLOCKS]->data + place(state).keys.at(head, b % PAGE_BLOCKS);
    }
    VT_INLINE uint8_t* value_block(int state, int head, int b) const {
        return place(state).pages[b / PAGE_BLOCKS]->data + place(state).values.at(head, b % PAGE_BLOCKS);
    }
    VT_INLINE float* fixed(int state) const { return reinterpret_cast<float*>(fixed_->data + place(state).fixed); }

   private:
    // The pages of all states with so many slots; null where nothing has been written.
    struct Table {
        int slots;
        int64_t page_bytes;
        std::vector<Page*> pages;
    };
    struct Snapshot {
        int64_t length;
        Page* page;
    };

    int table(int slots);
    void bind();
    void own(Page*& page, int64_t bytes, bool keep);
    void release(Page*& page);
    int64_t counted(Page* page) const;

    const std::shared_ptr<Pool> pool_;
    std::vector<Place> places_;
    std::vector<Table> tables_;
    Page* fixed_ = nullptr;               // null where all is zero
    int64_t fixed_bytes_ = 0;
    const Place* place_ = nullptr;        // of places_, for kernels
    std::vector<Snapshot> snapshots_;     // in the order of their lengths
    int64_t length_ = 0, written_ = 0;    // tokens, and up to where slots have ever been written
    bool torn_ = false;
};

}  // namespace vt
