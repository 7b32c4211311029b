#include "memory.h"

// The sanitizer for addresses knows what malloc gives, to the byte.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_ADDRESS__)
#include <sys/mman.h>

namespace {

constexpr int64_t huge_page = 2 << 20;

// What memory of that size is aligned to.
int64_t unit_of(int64_t bytes) { return bytes < huge_page ? 4096 : huge_page; }

}  // namespace

void* vt_alloc(int64_t bytes) {
    if (bytes <= 0 || bytes > PTRDIFF_MAX - 2 * huge_page) return nullptr;
    const int64_t unit = unit_of(bytes), size = vt::round_up(bytes, unit);
    void* const mapped = mmap(nullptr, size + unit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    const auto address = reinterpret_cast<intptr_t>(mapped);
    const int64_t skipped = vt::round_up(address, unit) - address;
    auto* const start = static_cast<uint8_t*>(mapped) + skipped;
    if (skipped) munmap(mapped, skipped);
    munmap(start + size, unit - skipped);
#ifdef MADV_HUGEPAGE
    if (unit == huge_page) madvise(start, size, MADV_HUGEPAGE);
#endif
    return start;
}

void vt_free(void* memory, int64_t bytes) {
    if (memory) munmap(memory, vt::round_up(bytes, unit_of(bytes)));
}

#else
#include <cstdlib>
#include <cstring>

void* vt_alloc(int64_t bytes) {
    if (bytes <= 0 || bytes > PTRDIFF_MAX - 64) return nullptr;
    void* const memory = std::aligned_alloc(64, vt::round_up(bytes, 64));
    return memory ? std::memset(memory, 0, bytes) : nullptr;
}

void vt_free(void* memory, int64_t) { std::free(memory); }

#endif
