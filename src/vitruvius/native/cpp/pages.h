// Pages: memory that sequences hold together until one of them writes to it, so that a prefix that they share is there
// once. Kwon et al. 2023, arXiv 2309.06180.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "memory.h"

namespace vt {

struct Slab;

struct Page {
    uint8_t* data = nullptr;
    int64_t bytes = 0;
    Slab* slab = nullptr;
    std::atomic<int> holders{0};
    std::atomic<const void*> counted_by{nullptr};  // the one of its holders whose bytes these are
};

// Some pages of one size side by side: small ones too are in huge pages then.
struct Slab {
    Slab(int64_t bytes, int n);
    Block memory;
    std::vector<Page> pages;
    int used = 0;
};

// The pages of an engine. Sequences may be freed while it runs, so it may be called from any thread.
class Pool {
   public:
    // A page with one holder, and with anything in it. Throws std::bad_alloc.
    Page* take(int64_t bytes);
    // Takes back a page that nobody holds.
    void put(Page* page);
    // Bytes of pages that nobody holds.
    int64_t spare();

   private:
    std::mutex busy_;
    std::list<Slab> slabs_;
    std::map<int64_t, std::vector<Page*>> free_;  // by their bytes
};

}  // namespace vt
