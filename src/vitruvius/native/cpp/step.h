// What the function of an op sees: the rows of one pass, the plan's memory, and its place among the threads.
#pragma once

#include "plan.h"
#include "state.h"

namespace vt {

class Team;
void meet(Team& team);  // its barrier

// The rows of one sequence in a pass: row0 … row0 + rows − 1 stand at positions start, start + 1, ….
struct Part {
    Sequence* sequence;
    int row0, rows, start;
};

struct Range {
    int begin, end;
};

// Share `thread` of n things in `threads` nearly equal shares.
VT_INLINE Range share(int n, int thread, int threads) {
    return {static_cast<int>(static_cast<int64_t>(n) * thread / threads),
            static_cast<int>(static_cast<int64_t>(n) * (thread + 1) / threads)};
}

// What all threads of a pass see alike. (What kernels call is always inlined: see formats.h.)
struct Pass {
    int rows, n_parts;
    const Part* parts;
    const int32_t* ids;        // of each row
    const int32_t* positions;  // of each row
    const int32_t* wanted;     // the rows that are
    int n_wanted;
    float* output;  // of the wanted rows
    const Buffer* buffers;
    const Matrix* matrices;
    const Vector* vectors;
    const StateSpec* states;
    float* arena;
    uint8_t* shared;  // scratch of all threads
    uint8_t* local;   // scratch of each thread, local_bytes apart
    size_t local_bytes;
    Team* team;
};

class Step {
   public:
    VT_INLINE Step(const Pass& pass, int rows, int thread, int threads)
        : rows(rows), thread(thread), threads(threads), pass_(pass) {}

    const int rows;  // of this op: all, or after `select` the wanted ones
    const int thread, threads;

    VT_INLINE const Part* begin() const { return pass_.parts; }  // for (const Part& part : step)
    VT_INLINE const Part* end() const { return pass_.parts + pass_.n_parts; }
    VT_INLINE int parts() const { return pass_.n_parts; }
    VT_INLINE const Part& part(int i) const { return pass_.parts[i]; }
    VT_INLINE int id(int row) const { return pass_.ids[row]; }
    VT_INLINE int position(int row) const { return pass_.positions[row]; }
    VT_INLINE int wanted() const { return pass_.n_wanted; }
    VT_INLINE int wanted(int i) const { return pass_.wanted[i]; }

    VT_INLINE int width(int buffer) const { return pass_.buffers[buffer].width; }
    VT_INLINE int64_t stride(int buffer) const { return pass_.buffers[buffer].stride; }
    VT_INLINE float* row(int buffer, int r) const {
        const Buffer& b = pass_.buffers[buffer];
        return (b.offset < 0 ? pass_.output : pass_.arena + b.offset) + static_cast<int64_t>(r) * b.stride;
    }
    VT_INLINE const Matrix& matrix(int index) const { return pass_.matrices[index]; }
    VT_INLINE const float* vector(int index) const { return index < 0 ? nullptr : pass_.vectors[index].data; }
    VT_INLINE int size(int vector) const { return pass_.vectors[vector].size; }
    VT_INLINE const StateSpec& state(int index) const { return pass_.states[index]; }

    // This thread's share of n things.
    VT_INLINE Range mine(int n) const { return share(n, thread, threads); }
    // Waits until all threads are here. Ops marked `rows` in plan.h must not use it.
    VT_INLINE void sync() const {
        if (threads > 1) meet(*pass_.team);
    }
    // Scratch memory, 64-byte aligned, as large as the op's check has asked for; `shared` is one for all threads.
    template <class T>
    VT_INLINE T* shared() const {
        return reinterpret_cast<T*>(pass_.shared);
    }
    template <class T>
    VT_INLINE T* local() const {
        return reinterpret_cast<T*>(pass_.local + static_cast<size_t>(thread) * pass_.local_bytes);
    }

   private:
    const Pass& pass_;
};

using Run = void (*)(const Step&, const void* fields);

// The functions of one instruction set, made by sets/table.cpp; in the order of Op.
struct Kernels {
    const char* name;
    Run run[static_cast<int>(Op::count_)];
};

// The kernels of that name, or the best for NULL; nullptr if this machine cannot run them.
const Kernels* kernels(const char* simd);

}  // namespace vt
