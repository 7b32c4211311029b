#include "memory.h"

// The sanitizer for addresses knows what malloc gives, to the byte.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_ADDRESS__)
#define VT_MMAP
#include <sys/mman.h>
#else
#include <cstdlib>
#include <cstring>
#endif

namespace vt {

#ifdef VT_MMAP

void* allocate(size_t bytes) {
    if (bytes == 0 || bytes > PTRDIFF_MAX - 2 * huge_page) return nullptr;
    const size_t unit = bytes < huge_page ? 4096 : huge_page;
    const size_t size = round_up(bytes, unit);
    void* mapped = mmap(nullptr, size + unit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    auto* const start = static_cast<uint8_t*>(mapped);
    const size_t skipped = round_up(reinterpret_cast<uintptr_t>(start), unit) - reinterpret_cast<uintptr_t>(start);
    if (skipped) munmap(start, skipped);
    if (skipped < unit) munmap(start + skipped + size, unit - skipped);
#ifdef MADV_HUGEPAGE
    if (unit == huge_page) madvise(start + skipped, size, MADV_HUGEPAGE);
#endif
    return start + skipped;
}

void release(void* memory, size_t bytes) {
    if (memory) munmap(memory, round_up(bytes, bytes < huge_page ? 4096 : huge_page));
}

#else

void* allocate(size_t bytes) {
    if (bytes == 0 || bytes > PTRDIFF_MAX - huge_page) return nullptr;
    void* memory = std::aligned_alloc(64, round_up(bytes, 64));
    if (memory) std::memset(memory, 0, bytes);
    return memory;
}

void release(void* memory, size_t) { std::free(memory); }

#endif

}  // namespace vt
