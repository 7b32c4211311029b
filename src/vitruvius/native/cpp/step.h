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
    return {static_cast<int>(int64_t{n} * thread / threads), static_cast<int>(int64_t{n} * (thread + 1) / threads)};
}

// What all threads of a pass see alike. (What kernels call is always inlined: see formats.h.)
struct Pass {
    int rows, n_parts, n_wanted;
    const Part* parts;
    const int32_t *ids, *positions, *wanted;  // of each row; numbers of the rows whose results are wanted
    const Buffer* buffers;
    const Matrix* matrices;
    const Vector* vectors;
    const StateSpec* states;
    float *arena, *output;    // of the engine; the caller's, for what is wanted
    uint8_t *shared, *local;  // scratch of all threads, and of each, local_bytes apart
    int64_t local_bytes;
    Team* team;
};

struct Step {
    const Pass& pass;
    const int rows;  // of this op: all, or after `select` the wanted ones
    const int thread, threads;

    VT_INLINE const Part* begin() const { return pass.parts; }  // for (const Part& part : step)
    VT_INLINE const Part* end() const { return pass.parts + pass.n_parts; }
    VT_INLINE int id(int row) const { return pass.ids[row]; }
    VT_INLINE int position(int row) const { return pass.positions[row]; }
    VT_INLINE int wanted(int i) const { return pass.wanted[i]; }

    VT_INLINE int width(int buffer) const { return pass.buffers[buffer].width; }
    VT_INLINE int64_t stride(int buffer) const { return pass.buffers[buffer].stride; }
    VT_INLINE float* row(int buffer, int r) const {
        const Buffer& b = pass.buffers[buffer];
        return (b.offset < 0 ? pass.output : pass.arena + b.offset) + int64_t{r} * b.stride;
    }
    VT_INLINE int32_t* integers(int buffer, int r) const { return reinterpret_cast<int32_t*>(row(buffer, r)); }
    VT_INLINE const Matrix& matrix(int index) const { return pass.matrices[index]; }
    VT_INLINE const float* vector(int index) const { return index < 0 ? nullptr : pass.vectors[index].data; }
    VT_INLINE int size(int vector) const { return static_cast<int>(pass.vectors[vector].size); }
    VT_INLINE const StateSpec& state(int index) const { return pass.states[index]; }

    // This thread's share of n things.
    VT_INLINE Range mine(int n) const { return share(n, thread, threads); }
    // Waits until all threads are here. Ops marked `rows` in plan.h must not use it.
    VT_INLINE void sync() const {
        if (threads > 1) meet(*pass.team);
    }
    // Scratch memory, 64-byte aligned, as large as the op's check has asked for; `shared` is one for all threads.
    template <class T> VT_INLINE T* shared() const { return reinterpret_cast<T*>(pass.shared); }
    template <class T> VT_INLINE T* local() const {
        return reinterpret_cast<T*>(pass.local + thread * pass.local_bytes);
    }
};

}  // namespace vt
