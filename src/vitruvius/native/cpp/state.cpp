#include "state.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace vt {

namespace {

// Of 16 slots with that many channels.
size_t block_bytes(int channels, Store store) {
    const auto c = static_cast<size_t>(channels);
    switch (store) {
        case Store::f32: return c * 64;
        case Store::f16: return round_up(c * 32, 64);
        default: return round_up(c * 16 + (c + 31) / 32 * 32, 64);
    }
}

// Hands out parts of memory that does not exist yet.
class Layout {
   public:
    size_t add(size_t count, size_t bytes) {
        size_t size = 0;
        if (__builtin_mul_overflow(count, bytes, &size) || size > most || end_ > most) throw std::length_error("");
        const size_t start = end_;
        end_ += round_up(size, 64);
        return start;
    }
    size_t end() const { return end_; }

   private:
    static constexpr size_t most = PTRDIFF_MAX / 4;
    size_t end_ = 0;
};

}  // namespace

Sequence::Sequence(const std::vector<StateSpec>& specs, const void* owner, int max_rows, int64_t capacity,
                   int64_t slack, Store store)
    : owner(owner), capacity(capacity), store(store), specs_(specs), places_(specs.size()), oldest_(specs.size()) {
    Layout layout;
    for (size_t i = 0; i < specs.size(); ++i) {  // what is fixed comes first, so that a snapshot is one copy
        if (specs[i].tokens()) continue;
        places_[i].fixed = layout.add(static_cast<size_t>(specs[i].fixed), sizeof(float));
    }
    fixed_bytes_ = layout.end();
    for (size_t i = 0; i < specs.size(); ++i) {
        const StateSpec& spec = specs[i];
        if (!spec.tokens()) continue;
        Place& place = places_[i];
        int64_t slots = capacity;
        if (spec.window) slots = std::min(slots, spec.window + std::max<int64_t>(slack, max_rows - 1));
        place.slots = static_cast<int>(round_up(static_cast<size_t>(slots), 16));
        const auto heads = static_cast<size_t>(spec.heads), n = static_cast<size_t>(place.slots);
        place.key_block = block_bytes(spec.k_dim, store);
        place.value_block = block_bytes(spec.v_dim, store);
        place.key_head = n / 16 * place.key_block;
        place.value_head = n / 16 * place.value_block;
        place.keys = layout.add(heads, place.key_head);
        place.values = layout.add(heads, place.value_head);
    }
    memory_ = Block(std::max<size_t>(layout.end(), 64));
    place_ = places_.data(), base_ = memory_.data();
}

int64_t Sequence::bytes() const {
    size_t bytes = memory_.bytes();
    for (const Snapshot& snapshot : snapshots_) bytes += snapshot.copy.bytes();
    return static_cast<int64_t>(bytes);
}

int64_t Sequence::fixed_reach(int64_t length) const {
    if (fixed_bytes_ == 0 || (length >= length_ && !torn_)) return length;
    int64_t best = 0;
    for (const Snapshot& snapshot : snapshots_)
        if (snapshot.length <= length) best = snapshot.length;
    return best;
}

int64_t Sequence::reach(int64_t length) const {
    int64_t target = std::clamp<int64_t>(length, 0, length_);
    for (;;) {  // until all states agree on one length
        int64_t agreed = fixed_reach(target);
        for (size_t i = 0; i < specs_.size(); ++i) {
            const int64_t window = specs_[i].window;
            if (window && oldest_[i] > std::max<int64_t>(0, agreed - window + 1)) agreed = 0;
        }
        if (agreed == target) return target;
        target = agreed;
    }
}

bool Sequence::rewind(int64_t length) {
    if (length < 0 || length > length_ || reach(length) != length) return false;
    if (length == length_ && !torn_) return true;
    if (length == 0) {
        std::memset(memory_.data(), 0, fixed_bytes_);
        std::fill(oldest_.begin(), oldest_.end(), 0);
    }
    while (!snapshots_.empty() && snapshots_.back().length > length) snapshots_.pop_back();
    if (length && fixed_bytes_) std::memcpy(memory_.data(), snapshots_.back().copy.data(), fixed_bytes_);
    length_ = length;
    torn_ = false;
    return true;
}

void Sequence::snapshot(int keep) {
    if (fixed_bytes_ == 0 || (!snapshots_.empty() && snapshots_.back().length == length_)) return;
    Snapshot taken{length_, Block(fixed_bytes_)};
    std::memcpy(taken.copy.data(), memory_.data(), fixed_bytes_);
    snapshots_.push_back(std::move(taken));
    if (snapshots_.size() > static_cast<size_t>(keep))
        snapshots_.erase(snapshots_.begin(), snapshots_.end() - keep);
}

void Sequence::begin(int64_t tokens) {
    torn_ = fixed_bytes_ > 0;
    for (size_t i = 0; i < specs_.size(); ++i)
        if (specs_[i].window) oldest_[i] = std::max(oldest_[i], length_ + tokens - places_[i].slots);
}

void Sequence::commit(int64_t tokens) {
    length_ += tokens;
    torn_ = false;
}

}  // namespace vt
