#include "check.h"

#include <algorithm>
#include <map>
#include <string>

#include "memory.h"

namespace vt {

namespace {

struct Field {
    std::string name, kind;
    bool is(const char* part) const { return kind.find(part) != std::string::npos; }  // part of its kind's name
};

// The fields of a record's text, such as "buffer x, y; number eps;".
std::vector<Field> fields_of(const char* text) {
    std::vector<Field> fields;
    std::istringstream words(text);
    for (std::string word, kind; words >> word;) {
        if (word.back() == ',' || word.back() == ';') fields.push_back({word.substr(0, word.size() - 1), kind});
        else kind = word;
    }
    return fields;
}

struct OpInfo {
    Record record;
    std::vector<Field> fields;
    void (*check)(Checker&, const void*);
};

template <class Op> void check_as(Checker& c, const void* fields) { check(c, *static_cast<const Op*>(fields)); }

// In the order of Op.
#define VT_INFO(op) {record_of_##op, fields_of(record_of_##op.fields), check_as<op_##op>}
const std::vector<OpInfo>& ops() {
    static const std::vector<OpInfo> all = {VT_OPS(VT_INFO)};
    return all;
}

// The choices, each with its numbers' names as fields.
#define VT_CHOICE(kind, ...) {#kind, fields_of(#__VA_ARGS__ ";")},
const std::map<std::string, std::vector<Field>>& choices() {
    static const std::map<std::string, std::vector<Field>> all = {VT_CHOICES(VT_CHOICE)};
    return all;
}

// How many words from 0 a field may be. (For a number: its bits without the sign, if it is not NaN.)
int64_t words_of(const Plan& plan, const Field& field) {
    if (field.is("buffer")) return plan.buffers.size();
    if (field.is("matrix")) return plan.matrices.size();
    if (field.is("vector")) return plan.vectors.size();
    if (field.is("state")) return plan.states.size();
    if (field.is("_kind")) return choices().at(field.kind).size();
    return field.is("flag") ? 2 : field.is("number") ? 0x7F800001 : MOST + 1;
}

// Does it; what is wrong is told with its place, that these parts make, before it.
template <class Do, class... Parts> void at_place(const Do& what, const Parts&... place) {
    try {
        what();
    } catch (const std::runtime_error& problem) {
        require(false, place..., ": ", problem.what());
    }
}

// Copies n items, each as `check` returns it; or it throws what is wrong.
template <class To, class From, class Check>
void copy(const char* name, std::vector<To>& to, const From* from, int n, const Check& check) {
    require(n >= 0 && (from || n == 0), "the plan lacks its array of ", name);
    for (int i = 0; i < n; ++i) at_place([&] { to.push_back(check(from[i])); }, name, " ", i);
}

}  // namespace

Matrix checked(const vt_matrix& m) {
    require(within(m.format, 0, FORMATS - 1), "unknown format ", m.format);
    require(within(m.rows, 1, MOST) && within(m.cols, 1, MOST) && m.copies >= 1, "bad sizes");
    require(m.data && reinterpret_cast<uintptr_t>(m.data) % 64 == 0, "its memory is not aligned to 64 bytes");
    const int64_t bytes = packed_bytes(m.format, m.rows, m.cols);
    require(bytes <= m.bytes / m.copies, "its memory is too small");
    return {m.format, m.rows, m.cols, m.copies, bytes, static_cast<const uint8_t*>(m.data)};
}

Plan::Plan(const vt_plan& p, int threads)
    : max_rows(p.max_rows), vocab(p.vocab), context(p.context), arena(p.arena), output(p.output) {
    require(within(threads, 1, 256), "an engine has 1 to 256 threads, not ", threads);
    require(within(max_rows, 1, 65536), "max_rows must be from 1 to 65536");
    require(vocab >= 1 && arena >= 1 && within(context, 1, MOST), "the vocabulary, arena or context is out of range");
    require(within(output, 0, int64_t{p.buffers} - 1), "the output is no buffer");
    copy("buffer", buffers, p.buffer, p.buffers, [&](const Buffer& b) {
        const bool callers = static_cast<int>(buffers.size()) == output;
        const int64_t end = b.offset + int64_t{b.stride} * (max_rows - 1) + b.width;
        require(within(b.width, 1, MOST) && within(b.stride, b.width, MOST), "bad width or stride");
        require(!callers || (b.offset == -1 && b.stride == b.width), "the output is the caller's, without gaps");
        require(callers || (b.offset >= 0 && end <= arena), "beyond the arena");
        return b;
    });
    copy("matrix", matrices, p.matrix, p.matrices, checked);
    copy("vector", vectors, p.vector, p.vectors, [](const Vector& v) {
        require(v.data && within(v.size, 1, INT32_MAX), "it has no numbers");
        return v;
    });
    copy("state", states, p.state, p.states, [](const vt_state& s) {
        const bool fixed = s.fixed >= 1 && !(s.heads | s.k_dim | s.v_dim | s.shared | s.window);
        const bool tokens = s.fixed == 0 && within(s.heads, 1, 1 << 16) && within(s.k_dim, 1, 1 << 16) &&
                            within(s.v_dim, 0, 1 << 16) && within(s.shared, 0, s.v_dim ? 0 : s.k_dim) &&
                            within(s.window, 0, MOST);
        require(fixed || tokens, "bad sizes");
        return StateSpec{s};
    });
    copy("word", words, p.word, p.words, [](int32_t word) { return word; });

    Checker checker{*this, threads};
    for (size_t at = 0; at < words.size();) {
        require(within(words[at], 0, static_cast<int>(Op::count_) - 1), "op ", code.size(), " is unknown");
        const auto op = static_cast<Op>(words[at++]);
        const OpInfo& info = ops()[static_cast<size_t>(op)];
        const auto check = [&] {
            const int32_t* const record = words.data() + at;
            require(words.size() - at >= info.fields.size(), "it is cut off");
            for (const Field& field : info.fields) {
                const int32_t word = words[at++], low = field.is("maybe") ? -1 : field.is("integer") ? -MOST : 0;
                const int32_t number = field.is("number") ? word & INT32_MAX : word;
                require(within(number, low, words_of(*this, field) - 1), "bad ", field.name);
                if (field.is("state")) checker.whole();
                if (field.is("buffer") && word == output)
                    require(checker.selected || op == Op::select, "the output is written after select");
            }
            for (size_t i = 0; i < info.fields.size(); ++i)
                for (size_t j = 0; info.fields[i].is("written") && j < info.fields.size(); ++j)
                    if (i != j && info.fields[j].is("buffer"))
                        checker.apart(record[i], record[j], info.fields[j].is("same"));
            info.check(checker, record);
            code.push_back({op, info.record.work == Work::rows, record});
        };
        at_place(check, "op ", code.size(), " (", info.record.name, ")");
        checker.selected |= op == Op::select;
    }
    require(checker.selected, "the plan selects no rows");
}

void Checker::apart(int written, int other, bool may_be_same) const {
    if (other < 0) return;
    const Buffer &x = plan.buffers[written], &y = plan.buffers[other];
    const int64_t distance = int64_t{y.offset} - x.offset, rows = plan.max_rows;
    const auto extent = [&](const Buffer& z) { return z.stride * (rows - 1) + z.width; };
    // Whether a row of y begins d after one of x that is `turns` rows ahead, and meets it.
    const auto meet = [&](int64_t d, int64_t turns) {
        return within(turns, 1 - rows, rows - 1) && d < x.width && -d < y.width;
    };
    bool overlap = distance < extent(x) && -distance < extent(y);
    if (x.stride == y.stride) {
        const int64_t rest = (distance % x.stride + x.stride) % x.stride, turns = (distance - rest) / x.stride;
        overlap = meet(rest, turns) || meet(rest - x.stride, turns + 1);
    }
    if (x.offset < 0 || y.offset < 0) overlap = distance == 0;
    const bool same = distance == 0 && x.width == y.width && x.stride == y.stride;
    require(!overlap || (may_be_same && same), "buffers share memory");
}

void Checker::needs(int64_t shared, int64_t local) {
    plan.shared = std::max(plan.shared, shared);
    plan.local = std::max(plan.local, round_up(local, 64));
}

}  // namespace vt

const char* vt_ops(void) {
    static const std::string text = [] {
        std::ostringstream all;
        const auto add = [&](const char* what, const std::string& name, const std::vector<vt::Field>& fields) {
            all << what << name;
            for (const vt::Field& field : fields)
                all << " " << field.name << (field.kind.empty() ? "" : ":") << field.kind;
            all << "\n";
        };
        for (const auto& [kind, names] : vt::choices()) add("choice ", kind, names);
        for (const vt::OpInfo& op : vt::ops()) add("op ", op.record.name, op.fields);
        return all.str();
    }();
    return text.c_str();
}
