#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "memory.h"

namespace vt {

namespace {

constexpr int most = 1 << 27;  // of a width, a row count, a length: products of two fit into int64 with room to spare

struct FieldInfo {
    const char* name;
    Field field;
    int choices;
};

#define VT_CHOICE_INFO(kind, list) constexpr FieldInfo info_##kind{"", Field::choice, kind::count_};
VT_CHOICES(VT_CHOICE_INFO)
#undef VT_CHOICE_INFO
#define VT_KIND_INFO(kind) constexpr FieldInfo info_##kind{"", Field::kind, 0};
VT_KIND_INFO(buffer) VT_KIND_INFO(maybe_buffer) VT_KIND_INFO(matrix) VT_KIND_INFO(vector) VT_KIND_INFO(maybe_vector)
VT_KIND_INFO(state) VT_KIND_INFO(flag) VT_KIND_INFO(count) VT_KIND_INFO(integer) VT_KIND_INFO(number)
#undef VT_KIND_INFO

struct OpInfo {
    const char* name;
    const FieldInfo* fields;
    int count;
    Need (*check)(const Checker&, const void*);
};

#define VT_FIELD(kind, name) {#name, info_##kind.field, info_##kind.choices},
#define VT_FIELDS(name, fields, how) constexpr FieldInfo fields_of_##name[] = {fields(VT_FIELD)};
VT_OPS(VT_FIELDS)
#define VT_OP(name, fields, how)                            \
    {#name, fields_of_##name, sizeof(op_##name) / 4,        \
     [](const Checker& c, const void* op) { return check(c, *static_cast<const op_##name*>(op)); }},
constexpr OpInfo ops[] = {VT_OPS(VT_OP)};
#undef VT_FIELD
#undef VT_FIELDS
#undef VT_OP

bool index_in(int32_t index, int count, bool maybe) { return index >= (maybe ? -1 : 0) && index < count; }

bool right(const Plan& plan, const FieldInfo& info, int32_t word) {
    switch (info.field) {
        case Field::buffer: return index_in(word, plan.n_buffers, false);
        case Field::maybe_buffer: return index_in(word, plan.n_buffers, true);
        case Field::matrix: return index_in(word, plan.n_matrices, false);
        case Field::vector: return index_in(word, plan.n_vectors, false);
        case Field::maybe_vector: return index_in(word, plan.n_vectors, true);
        case Field::state: return index_in(word, plan.n_states, false);
        case Field::flag: return word == 0 || word == 1;
        case Field::count: return word >= 0 && word <= most;
        case Field::integer: return word >= -most && word <= most;
        case Field::choice: return word >= 0 && word < info.choices;
        case Field::number: {
            float number;
            std::memcpy(&number, &word, sizeof number);
            return !std::isnan(number);
        }
    }
    return false;
}

std::string check_sizes(const Plan& plan) {
    const auto within = [](int64_t n, int64_t low, int64_t high) { return n >= low && n <= high; };
    if (!within(plan.max_rows, 1, 65536)) return "max_rows must be from 1 to 65536";
    if (!within(plan.vocab, 1, INT32_MAX)) return "the vocabulary is empty";
    if (!within(plan.context, 1, most)) return "the context is out of range";
    if (!within(plan.arena, 1, INT32_MAX)) return "the arena is empty";
    if (!within(plan.output, 0, plan.n_buffers - 1)) return "the output is no buffer";
    for (int i = 0; i < plan.n_buffers; ++i) {
        const Buffer& b = plan.buffers[i];
        const std::string which = "buffer " + std::to_string(i) + ": ";
        if (!within(b.width, 1, most) || !within(b.stride, b.width, most)) return which + "bad width or stride";
        if ((b.offset == -1) != (i == plan.output)) return which + "only the output, and it always, is the caller's";
        if (b.offset == -1) {
            if (b.stride != b.width) return which + "rows of the output stand without gaps";
        } else if (b.offset < 0 || b.offset + int64_t{b.stride} * (plan.max_rows - 1) + b.width > plan.arena) {
            return which + "beyond the arena";
        }
    }
    for (int i = 0; i < plan.n_states; ++i) {
        const StateSpec& s = plan.states[i];
        const bool fixed = within(s.fixed, 1, INT32_MAX) && !(s.heads | s.k_dim | s.v_dim | s.shared | s.window);
        const bool tokens = s.fixed == 0 && within(s.heads, 1, 1 << 16) && within(s.k_dim, 1, 1 << 16) &&
                            within(s.v_dim, 0, 1 << 16) && within(s.shared, 0, s.v_dim ? 0 : s.k_dim) &&
                            within(s.window, 0, most);
        if (!fixed && !tokens) return "state " + std::to_string(i) + ": bad sizes";
    }
    return "";
}

// Whether rows of width a and of width b, `stride` apart each, meet anywhere, b's first standing `distance` after a's.
bool rows_meet(int64_t distance, int64_t stride, int64_t a, int64_t b, int rows) {
    const int64_t nearest = std::clamp<int64_t>(-(distance / stride), 1 - rows, rows - 1);
    for (int64_t k = std::max<int64_t>(nearest - 1, 1 - rows); k <= std::min<int64_t>(nearest + 1, rows - 1); ++k) {
        const int64_t d = distance + k * stride;
        if (d < a && d > -b) return true;
    }
    return false;
}

}  // namespace

bool Checker::same(int a, int b) const {
    const Buffer &x = buffer(a), &y = buffer(b);
    return x.offset == y.offset && x.width == y.width && x.stride == y.stride;
}

bool Checker::overlap(int a, int b) const {
    const Buffer &x = buffer(a), &y = buffer(b);
    if (x.offset < 0 || y.offset < 0) return x.offset < 0 && y.offset < 0;
    if (x.stride == y.stride) return rows_meet(int64_t{y.offset} - x.offset, x.stride, x.width, y.width, rows());
    const auto end = [&](const Buffer& z) { return z.offset + int64_t{z.stride} * (rows() - 1) + z.width; };
    return x.offset < end(y) && y.offset < end(x);
}

std::string check_matrix(int32_t format, int32_t rows, int32_t cols, int32_t copies, const void* data, int64_t bytes) {
    if (format < 0 || format >= FORMATS) return "unknown format " + std::to_string(format);
    if (rows < 1 || rows > most || cols < 1 || cols > most || copies < 1) return "bad sizes";
    if (!data || reinterpret_cast<uintptr_t>(data) % 64) return "its memory is not aligned to 64 bytes";
    if (bytes < 0 || packed_bytes(format, rows, cols) > bytes / copies) return "its memory is too small";
    return "";
}

std::string check_plan(const Plan& plan, int threads, Need& need) {
    if (std::string wrong = check_sizes(plan); !wrong.empty()) return wrong;
    Checker checker(plan, threads);
    for (int at = 0, number = 0; at < plan.n_words; ++number) {
        const int32_t code = plan.words[at];
        const std::string which = "op " + std::to_string(number);
        if (code < 0 || code >= static_cast<int>(Op::count_)) return which + " is unknown";
        const OpInfo& op = ops[code];
        if (plan.n_words - at - 1 < op.count) return which + " (" + op.name + ") is cut off";
        const int32_t* const words = plan.words + at + 1;
        const std::string name = which + " (" + op.name + ")";
        for (int i = 0; i < op.count; ++i) {
            const FieldInfo& info = op.fields[i];
            if (!right(plan, info, words[i])) return name + ": bad " + info.name;
            const bool buffer = info.field == Field::buffer || info.field == Field::maybe_buffer;
            if (buffer && words[i] == plan.output && !checker.selected && static_cast<Op>(code) != Op::select)
                return name + ": the output is written after select";
        }
        const Need one = op.check(checker, words);
        if (checker.failed()) return name + ": " + checker.problem;
        need.shared = std::max(need.shared, one.shared), need.local = std::max(need.local, one.local);
        if (static_cast<Op>(code) == Op::select) checker.selected = true;
        at += 1 + op.count;
    }
    return checker.selected ? "" : "the plan selects no rows";
}

}  // namespace vt
