// Checking a plan before it runs: whatever its numbers are, it is refused or runs within its memory.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "guard.h"
#include "plan.h"

namespace vt {

constexpr int MOST = 1 << 27;  // of a width, a row count, a length: products of two fit into int64 with room to spare

struct Instruction {
    Op op;
    bool by_row;
    const void* fields;
};

// A plan that is known to be right, with copies of all that vt_plan points to but the weights.
struct Plan {
    Plan(const vt_plan& given, int threads);  // throws what is wrong with it

    const int max_rows, vocab, context, arena, output;
    std::vector<Buffer> buffers;
    std::vector<Matrix> matrices;
    std::vector<Vector> vectors;
    std::vector<StateSpec> states;
    std::vector<int32_t> words;
    std::vector<Instruction> code;
    int64_t shared = 64, local = 64;  // bytes of scratch memory that its ops need: of all threads together, and of each
};

// The matrix if its size and its memory are right; throws what is wrong.
Matrix checked(const vt_matrix& matrix);

// What checks of single ops use. When these are called, indices have been checked from the records of plan.h: a maybe_
// index is −1 or right, counts are ≥ 0, flags 0 or 1, choices known, numbers not NaN; and what is written is apart from
// what is read.
struct Checker {
    Plan& plan;
    const int threads;
    bool selected = false;  // whether `select` has run: rows are then no longer those of the sequences

    // Indices with sizes; what is −1 is left out.
    using Sizes = std::initializer_list<std::pair<int, int64_t>>;

    const Matrix& matrix(int index) const { return plan.matrices[index]; }
    const StateSpec& state(int index) const { return plan.states[index]; }
    int64_t width(int buffer) const { return plan.buffers[buffer].width; }
    int64_t size(int vector) const { return plan.vectors[vector].size; }

    // Buffers as wide as that at least, or exactly; vectors and fixed states of that size; rows of the sequences.
    void wide(Sizes buffers) const {
        for (const auto& [index, n] : buffers) require(index < 0 || width(index) >= n, "a buffer is too narrow");
    }
    void exact(Sizes buffers) const {
        for (const auto& [index, n] : buffers) require(index < 0 || width(index) == n, "widths differ");
    }
    void sized(Sizes vectors) const {
        for (const auto& [index, n] : vectors) require(index < 0 || size(index) == n, "a vector has a wrong size");
    }
    void fixed(int index, int64_t n) const { require(state(index).fixed == n, "a state has a wrong size"); }
    void whole() const { require(!selected, "it needs all rows, but comes after select"); }

    void apart(int written, int other, bool may_be_same) const;  // that they share no memory
    // Bytes of scratch memory, for all threads together and for each.
    void needs(int64_t shared, int64_t local);
};

// One for each op of plan.h, in check_ops.cpp.
#define VT_CHECK(name) check(Checker&, const op_##name&)
void VT_OPS(VT_CHECK);
#undef VT_CHECK

}  // namespace vt
