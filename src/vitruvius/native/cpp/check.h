// Checking a plan before it runs: whatever its numbers are, it is refused or runs within its memory.
#pragma once

#include <string>

#include "plan.h"

namespace vt {

// Scratch bytes that an op needs: of all threads together, and of each.
struct Need {
    size_t shared = 0, local = 0;
};

// A plan whose sizes and indices are known to be right.
struct Plan {
    int max_rows, vocab, context, arena, output;
    int n_buffers, n_matrices, n_vectors, n_states, n_words;
    const Buffer* buffers;
    const Matrix* matrices;
    const Vector* vectors;
    const StateSpec* states;
    const int32_t* words;
};

// What checks of single ops use. Indices have been checked from the table of plan.h when these are called: a maybe_
// index is −1 or right, counts are ≥ 0, flags 0 or 1, choices known, numbers not NaN.
class Checker {
   public:
    Checker(const Plan& plan, int threads) : plan(plan), threads(threads) {}

    const Plan& plan;
    const int threads;  // for `shared` scratch
    bool selected = false;  // whether `select` has run: rows are then no longer those of the sequences

    // Refuses the plan with this text. Returns `good`, so that the check can end where going on makes no sense.
    bool require(bool good, const char* text) const {
        if (!good && problem.empty()) problem = text;
        return good;
    }
    bool failed() const { return !problem.empty(); }

    const Buffer& buffer(int index) const { return plan.buffers[index]; }
    int width(int index) const { return plan.buffers[index].width; }
    const Matrix& matrix(int index) const { return plan.matrices[index]; }
    const StateSpec& state(int index) const { return plan.states[index]; }
    int size(int vector) const { return plan.vectors[vector].size; }
    int rows() const { return plan.max_rows; }

    // Refuses buffers that share memory, two that are neither apart nor the very same, a vector that has another size,
    // an op that needs the sequences after `select`, and others than a state of `floats` floats.
    void apart(int a, int b) const { require(!overlap(a, b), "buffers share memory"); }
    void apart_or_same(int a, int b) const { require(same(a, b) || !overlap(a, b), "buffers share some memory"); }
    void sized(int vector, int64_t n) const { require(vector < 0 || size(vector) == n, "a vector has a wrong size"); }
    void whole() const { require(!selected, "it needs all rows, but comes after select"); }
    void fixed(int index, int64_t floats) const {
        require(!state(index).tokens() && state(index).fixed == floats, "a state has a wrong size");
    }
    bool overlap(int a, int b) const;
    bool same(int a, int b) const;

    mutable std::string problem;
};

// One for each op of plan.h, in check.cpp, check_experts.cpp, …
#define VT_CHECK(name, fields, how) Need check(const Checker&, const op_##name&);
VT_OPS(VT_CHECK)
#undef VT_CHECK

// What is wrong with a matrix, or an empty text.
std::string check_matrix(int32_t format, int32_t rows, int32_t cols, int32_t copies, const void* data, int64_t bytes);

// Checks a whole plan for that many threads. Returns what is wrong, or an empty text; `need` is the largest of all ops.
std::string check_plan(const Plan& plan, int threads, Need& need);

}  // namespace vt
