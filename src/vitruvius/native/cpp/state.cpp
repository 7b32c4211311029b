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

void hold(Page* page) {
    if (page) ++page->holders;
}

}  // namespace

Sequence::Sequence(std::shared_ptr<Pool> pool, const std::vector<StateSpec>& specs, int max_rows, int64_t capacity,
                   int64_t slack, Store store)
    : capacity(capacity), store(store), pool_(std::move(pool)) {
    const auto add = [&](int64_t& end, int64_t bytes) {  // a part is below 2^62 bytes, by what Plan has checked
        require(end <= INT64_MAX / 4, "sizes are beyond all memory");
        return std::exchange(end, end + round_up(bytes, 64));
    };
    for (const StateSpec& spec : specs) {
        places_.emplace_back();
        Place& place = places_.back();
        place.fixed = add(fixed_bytes_, spec.fixed * int64_t{sizeof(float)});
        if (!spec.tokens()) continue;
        const int64_t least = spec.window + std::max<int64_t>(slack, max_rows - 1);
        const int64_t slots = spec.window ? std::min(capacity, least) : capacity;
        place.window = spec.window, place.slots = round_up(slots, slots > PAGE ? PAGE : LANES);
        place.table = table(place.slots);
        const int64_t in_page = std::min(place.slots / LANES, PAGE_BLOCKS);
        const int64_t key = block_bytes(spec.k_dim, store), value = block_bytes(spec.v_dim, store);
        const int64_t head = in_page * (key + value), start = add(tables_[place.table].page_bytes, spec.heads * head);
        place.keys = {start, head, key}, place.values = {start + in_page * key, head, value};
    }
    bind();
}

Sequence::Sequence(const Sequence& other)
    : capacity(other.capacity),
      store(other.store),
      pool_(other.pool_),
      places_(other.places_),
      tables_(other.tables_),
      fixed_(other.fixed_),
      fixed_bytes_(other.fixed_bytes_),
      snapshots_(other.snapshots_),
      length_(other.length_),
      written_(other.written_),
      torn_(other.torn_) {
    for (const Table& table : tables_)
        for (Page* page : table.pages) hold(page);
    for (const Snapshot& snapshot : snapshots_) hold(snapshot.page);
    hold(fixed_);
    bind();
}

Sequence::~Sequence() {
    for (Table& table : tables_)
        for (Page*& page : table.pages) release(page);
    for (Snapshot& snapshot : snapshots_) release(snapshot.page);
    release(fixed_);
}

// The number of the table of that many slots.
int Sequence::table(int slots) {
    size_t i = 0;
    while (i < tables_.size() && tables_[i].slots != slots) ++i;
    if (i == tables_.size()) tables_.push_back({slots, 0, std::vector<Page*>((slots + PAGE - 1) / PAGE)});
    return static_cast<int>(i);
}

void Sequence::bind() {
    for (Place& place : places_)
        if (place.slots) place.pages = tables_[place.table].pages.data();
    place_ = places_.data();
}

// Makes a page this sequence's alone, with what is in it or with anything.
void Sequence::own(Page*& page, int64_t bytes, bool keep) {
    if (page && page->holders == 1) return;
    Page* const made = pool_->take(bytes);
    if (page && keep) std::memcpy(made->data, page->data, bytes);
    release(page);
    page = made;
}

void Sequence::release(Page*& page) {
    if (!page) return;
    const void* me = this;
    page->counted_by.compare_exchange_strong(me, nullptr);
    if (--page->holders == 0) pool_->put(page);
    page = nullptr;
}

int64_t Sequence::counted(Page* page) const {
    const void* by = nullptr;
    return page && (page->counted_by.compare_exchange_strong(by, this) || by == this) ? page->bytes : 0;
}

void Sequence::prepare(int64_t tokens) {
    if (fixed_bytes_ && !fixed_) {
        own(fixed_, fixed_bytes_, false);
        std::memset(fixed_->data, 0, fixed_bytes_);
    } else if (fixed_bytes_) {
        own(fixed_, fixed_bytes_, true);
    }
    for (Table& table : tables_)
        for (int64_t at = length_ / PAGE; at * PAGE < length_ + tokens; ++at) {
            const auto n = static_cast<int64_t>(table.pages.size());
            own(table.pages[at % n], table.page_bytes, at * PAGE < length_ || at >= n);  // else it holds nothing of use
        }
}

int64_t Sequence::bytes() const {
    int64_t bytes = counted(fixed_);
    for (const Table& table : tables_)
        for (Page* page : table.pages) bytes += counted(page);
    for (const Snapshot& snapshot : snapshots_)
        if (snapshot.page != fixed_) bytes += counted(snapshot.page);
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
    for (; !snapshots_.empty() && snapshots_.back().length > length; snapshots_.pop_back())
        release(snapshots_.back().page);
    release(fixed_);
    if (length && fixed_bytes_) hold(fixed_ = snapshots_.back().page);
    if (length == 0) written_ = 0;
    for (Table& table : tables_)  // pages behind the length, where slots have not gone round
        for (int64_t at = (length + PAGE - 1) / PAGE; written_ <= table.slots && at < static_cast<int64_t>(table.pages.size()); ++at)
            release(table.pages[at]);
    length_ = length;
    torn_ = false;
    return true;
}

void Sequence::snapshot(int keep) {
    if (!fixed_ || (!snapshots_.empty() && snapshots_.back().length == length_)) return;
    snapshots_.push_back({length_, fixed_});
    hold(fixed_);
    for (; static_cast<int>(snapshots_.size()) > keep; snapshots_.erase(snapshots_.begin()))
        release(snapshots_.front().page);
}

}  // namespace vt
