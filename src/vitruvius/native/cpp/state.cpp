#include "state.h"

#include <cstring>
#include <utility>

#include "guard.h"

namespace vt {

namespace {

// Of 16 slots with that many channels.
int64_t block_bytes(int64_t channels, Store store) {
    switch (store) {
        case Store::f32: return channels * 64;
        case Store::f16: return round_up(channels * 32, 64);
        default: return round_up(channels * 16 + round_up(channels, 32), 64);
    }
}

}  // namespace

Sequence::Sequence(const std::vector<StateSpec>& specs, int max_rows, int64_t capacity, int64_t slack, Store store)
    : capacity(capacity), store(store) {
    int64_t end = 0;
    const auto add = [&](int64_t bytes) {  // a part is below 2^62 bytes, by what Plan has checked
        require(end <= INT64_MAX / 4, "sizes are beyond all memory");
        return std::exchange(end, end + round_up(bytes, 64));
    };
    for (const StateSpec& spec : specs) {  // what is fixed comes first, so that a snapshot is one copy
        places_.emplace_back();
        places_.back().fixed = add(spec.fixed * int64_t{sizeof(float)});
    }
    fixed_bytes_ = end;
    for (size_t i = 0; i < specs.size(); ++i) {
        const StateSpec& spec = specs[i];
        const int64_t least = spec.window + std::max<int64_t>(slack, max_rows - 1);
        const int slots = round_up(spec.window ? std::min(capacity, least) : capacity, 16);
        const auto blocks = [&](int channels) {
            const int64_t block = block_bytes(channels, store), head = slots / 16 * block;
            return Blocks{add(spec.heads * head), head, block};
        };
        places_[i].window = spec.window, places_[i].slots = slots;
        places_[i].keys = blocks(spec.k_dim), places_[i].values = blocks(spec.v_dim);
    }
    memory_ = Block(std::max<int64_t>(end, 64));
    place_ = places_.data(), base_ = memory_.data();
}

Sequence::Sequence(const Sequence& other)
    : capacity(other.capacity),
      store(other.store),
      places_(other.places_),
      memory_(other.memory_.copy()),
      fixed_bytes_(other.fixed_bytes_),
      place_(places_.data()),
      base_(memory_.data()),
      length_(other.length_),
      written_(other.written_),
      torn_(other.torn_) {
    for (const Snapshot& snapshot : other.snapshots_) snapshots_.push_back({snapshot.length, snapshot.copy.copy()});
}

int64_t Sequence::bytes() const {
    int64_t bytes = memory_.bytes();
    for (const Snapshot& snapshot : snapshots_) bytes += snapshot.copy.bytes();
    return bytes;
}

int64_t Sequence::reach(int64_t length) const {
    int64_t target = std::clamp<int64_t>(length, 0, length_);
    for (;;) {  // until all states agree on one length
        int64_t agreed = target;
        if (fixed_bytes_ && (target < length_ || torn_)) {
            agreed = 0;
            for (const Snapshot& snapshot : snapshots_)
                if (snapshot.length <= target) agreed = snapshot.length;
        }
        for (const Place& place : places_)  // whether what the next token sees there has been overwritten
            if (place.window && written_ - place.slots > std::max<int64_t>(0, agreed - place.window + 1)) agreed = 0;
        if (agreed == target) return target;
        target = agreed;
    }
}

bool Sequence::rewind(int64_t length) {
    if (reach(length) != length) return false;
    if (length == length_ && !torn_) return true;
    if (length == 0) std::memset(memory_.data(), 0, fixed_bytes_), written_ = 0;
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
    const int64_t more = static_cast<int64_t>(snapshots_.size()) - keep;
    if (more > 0) snapshots_.erase(snapshots_.begin(), snapshots_.begin() + more);
}

}  // namespace vt
