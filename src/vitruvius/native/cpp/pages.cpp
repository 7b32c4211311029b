#include "pages.h"

#include <algorithm>

namespace vt {

namespace {

// Bytes of a slab, about. (The sanitizer for addresses knows what each page is, to the byte.)
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t slab_bytes = 1;
#else
constexpr int64_t slab_bytes = 8 << 20;
#endif
constexpr int64_t most_pages = 16;  // of a slab

}  // namespace

Slab::Slab(int64_t bytes, int n) : memory(bytes * n), pages(static_cast<size_t>(n)) {
    for (int i = 0; i < n; ++i) pages[i].data = memory.data() + i * bytes, pages[i].bytes = bytes, pages[i].slab = this;
}

Page* Pool::take(int64_t bytes) {
    const std::lock_guard<std::mutex> held(busy_);
    std::vector<Page*>& free = free_[bytes];
    if (free.empty()) {
        slabs_.emplace_back(bytes, static_cast<int>(std::clamp<int64_t>(slab_bytes / bytes, 1, most_pages)));
        for (Page& page : slabs_.back().pages) free.push_back(&page);
    }
    Page* const page = free.back();
    free.pop_back();
    ++page->slab->used;
    page->holders = 1, page->counted_by = nullptr;
    return page;
}

void Pool::put(Page* page) {
    const std::lock_guard<std::mutex> held(busy_);
    std::vector<Page*>& free = free_[page->bytes];
    free.push_back(page);
    Slab* const slab = page->slab;
    if (--slab->used > 0 || free.size() < 2 * slab->pages.size()) return;  // as many as a slab has wait for the next
    free.erase(std::remove_if(free.begin(), free.end(), [&](const Page* p) { return p->slab == slab; }), free.end());
    slabs_.remove_if([&](const Slab& s) { return &s == slab; });
}

int64_t Pool::spare() {
    const std::lock_guard<std::mutex> held(busy_);
    int64_t bytes = 0;
    for (const auto& [size, free] : free_) bytes += size * static_cast<int64_t>(free.size());
    return bytes;
}

}  // namespace vt
