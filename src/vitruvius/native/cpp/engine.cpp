// An engine runs a plan: it takes the new tokens of some sequences in passes of at most max_rows rows, and has its team of
// threads do every op on them, one op after the other.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "check.h"
#include "memory.h"
#include "step.h"
#include "threads.h"
#include "vitruvius.h"

namespace vt {
namespace {

struct Problem : std::runtime_error {
    using std::runtime_error::runtime_error;
};

int report(char* error, int64_t size, const char* text) {
    if (error && size > 0) {
        const size_t length = std::min(std::strlen(text), static_cast<size_t>(size) - 1);
        std::memcpy(error, text, length);
        error[length] = 0;
    }
    return 1;
}

// Does it, and turns what is thrown into a text.
template <class Do>
int guarded(char* error, int64_t size, const Do& what) {
    try {
        what();
        return 0;
    } catch (const Problem& problem) {
        return report(error, size, problem.what());
    } catch (const std::bad_alloc&) {
        return report(error, size, "there is not enough memory");
    } catch (const std::length_error&) {
        return report(error, size, "sizes are beyond all memory");
    } catch (const std::system_error&) {
        return report(error, size, "the system gives no more threads");
    } catch (...) {
        return report(error, size, "the engine failed");
    }
}

void require(bool good, const char* text) {
    if (!good) throw Problem(text);
}
void require(bool good, const std::string& text) {
    if (!good) throw Problem(text);
}

struct Instruction {
    Run run;
    const void* fields;
    Op op;
    bool by_row;
};

bool by_row(Op op) {
#define VT_HOW(name, fields, how) how,
    enum How { all, rows };
    static constexpr How hows[] = {VT_OPS(VT_HOW)};
#undef VT_HOW
    return hows[static_cast<int>(op)] == rows;
}

int record_words(Op op) {
#define VT_SIZE(name, fields, how) static_cast<int>(sizeof(op_##name) / 4),
    static constexpr int sizes[] = {VT_OPS(VT_SIZE)};
#undef VT_SIZE
    return 1 + sizes[static_cast<int>(op)];
}

}  // namespace
}  // namespace vt

using namespace vt;

struct vt_engine {
    vt_engine(const vt_plan& plan, const char* simd, int threads, const int32_t* cpus);

    void step(int n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids, const uint8_t* wanted,
              float* out, int64_t out_rows);
    void admit(int n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids, const uint8_t* wanted,
               const float* out, int64_t out_rows) const;

    std::vector<Buffer> buffers;
    std::vector<Matrix> matrices;
    std::vector<Vector> vectors;
    std::vector<StateSpec> states;
    std::vector<int32_t> words;
    Plan plan{};
    std::vector<Instruction> code;
    std::atomic<bool> busy{false}, interrupted{false};
    int64_t bytes = 0;
    bool here() const { return team->here(); }

   private:
    void decode(const Kernels& kernels);
    void pass();
    void run(int thread);

    Need need;
    Block arena, shared, local;  // of all threads together, and of each
    std::unique_ptr<Team> team;
    std::vector<Part> parts;
    std::vector<int32_t> positions, chosen;
    Pass now{};
    std::atomic<uint32_t> stop_at{0};
};

struct vt_sequence : Sequence {
    vt_sequence(vt_engine& engine, int64_t capacity, int64_t slack, Store store)
        : Sequence(engine.states, &engine, engine.plan.max_rows, capacity, slack, store), engine(engine) {}
    vt_engine& engine;
};

namespace {

// Holds the engine for one call; others are refused, not queued.
class Use {
   public:
    explicit Use(vt_engine& engine) : engine_(engine) {
        require(!engine.busy.exchange(true, std::memory_order_acquire),
                "the engine is in use by another thread: it does one call at a time");
    }
    ~Use() { engine_.busy.store(false, std::memory_order_release); }
    Use(const Use&) = delete;

   private:
    vt_engine& engine_;
};

// A number of a sequence; −1 while the engine is in use by another thread.
template <class Ask>
int64_t asked(const vt_sequence& sequence, const Ask& ask) {
    if (sequence.engine.busy.exchange(true, std::memory_order_acquire)) return -1;
    const int64_t number = ask();
    sequence.engine.busy.store(false, std::memory_order_release);
    return number;
}

}  // namespace

vt_engine::vt_engine(const vt_plan& p, const char* simd, int threads, const int32_t* cpus) {
    require(threads >= 1 && threads <= 256, "an engine has 1 to 256 threads, not " + std::to_string(threads));
    const Kernels* const chosen_kernels = kernels(simd);
    require(chosen_kernels, std::string("this machine cannot run the instruction set ") + (simd ? simd : ""));
    require((!p.buffers || p.buffer) && (!p.states || p.state) && (!p.matrices || p.matrix) && (!p.vectors || p.vector) &&
                (!p.words || p.word),
            "the plan lacks an array");
    require(std::min({p.buffers, p.matrices, p.vectors, p.states, p.words}) >= 0, "the plan has a negative size");
    for (int i = 0; i < p.buffers; ++i) buffers.push_back({p.buffer[i].offset, p.buffer[i].width, p.buffer[i].stride});
    for (int i = 0; i < p.matrices; ++i) {
        const vt_matrix& m = p.matrix[i];
        std::string wrong = check_matrix(m.format, m.rows, m.cols, m.copies, m.data, m.bytes);
        require(wrong.empty(), "matrix " + std::to_string(i) + ": " + wrong);
        matrices.push_back({m.format, m.rows, m.cols, m.copies, static_cast<int64_t>(packed_bytes(m.format, m.rows, m.cols)),
                            static_cast<const uint8_t*>(m.data)});
    }
    for (int i = 0; i < p.vectors; ++i) {
        const vt_vector& v = p.vector[i];
        require(v.data && v.size >= 1 && v.size <= INT32_MAX, "vector " + std::to_string(i) + " has no numbers");
        vectors.push_back({v.data, static_cast<int32_t>(v.size)});
    }
    for (int i = 0; i < p.states; ++i) {
        const vt_state& s = p.state[i];
        states.push_back({s.heads, s.k_dim, s.v_dim, s.shared, s.window, s.fixed});
    }
    words.assign(p.word, p.word + p.words);
    plan = {p.max_rows, p.vocab, p.context, p.arena, p.output, p.buffers, p.matrices, p.vectors, p.states, p.words,
            buffers.data(), matrices.data(), vectors.data(), states.data(), words.data()};
    const std::string wrong = check_plan(plan, threads, need);
    require(wrong.empty(), wrong);
    decode(*chosen_kernels);

    const size_t each = round_up(std::max<size_t>(need.local, 1), 64);
    arena = Block(static_cast<size_t>(plan.arena) * sizeof(float));
    shared = Block(std::max<size_t>(need.shared, 64));
    local = Block(each * static_cast<size_t>(threads));
    bytes = static_cast<int64_t>(arena.bytes() + shared.bytes() + local.bytes());
    const auto rows = static_cast<size_t>(plan.max_rows);
    parts.resize(rows), positions.resize(rows), chosen.resize(rows);
    team = std::make_unique<Team>(threads, cpus);
    now = {0, 0, parts.data(), nullptr, positions.data(), chosen.data(), 0, nullptr, buffers.data(), matrices.data(),
           vectors.data(), states.data(), reinterpret_cast<float*>(arena.data()), shared.data(), local.data(), each,
           team.get()};
}

void vt_engine::decode(const Kernels& kernels) {
    for (int at = 0; at < plan.n_words;) {
        const Op op = static_cast<Op>(words[static_cast<size_t>(at)]);
        code.push_back({kernels.run[static_cast<int>(op)], words.data() + at + 1, op, by_row(op)});
        at += record_words(op);
    }
}

// What one thread does in a pass. Threads meet between ops, except between those that thread 0 does alone.
void vt_engine::run(int thread) {
    const int threads = team->size();
    int rows = now.rows;
    uint32_t meetings = 0;
    const auto meet = [&] {  // returns whether to go on: all threads find the same at the same meeting
        ++meetings;
        uint32_t never = UINT32_MAX;
        if (thread == 0 && interrupted.load(std::memory_order_relaxed)) stop_at.compare_exchange_strong(never, meetings);
        if (threads > 1) team->barrier();
        return stop_at.load(std::memory_order_relaxed) > meetings;
    };
    enum { nobody, first, everybody } since = nobody;  // who has worked since the last meeting
    for (const Instruction& instruction : code) {
        if (instruction.op == Op::select) rows = now.n_wanted;
        if (rows == 0) return;
        const bool alone = instruction.by_row && rows == 1;
        if ((since == everybody || (since == first && !alone)) && !meet()) return;
        if (!alone) instruction.run(Step(now, rows, thread, threads), instruction.fields);
        else if (thread == 0) instruction.run(Step(now, rows, 0, 1), instruction.fields);
        since = alone ? first : everybody;
    }
}

void vt_engine::pass() {
    stop_at.store(UINT32_MAX);
    for (int i = 0; i < now.n_parts; ++i) {
        const Part& part = parts[static_cast<size_t>(i)];
        for (int r = 0; r < part.rows; ++r) positions[static_cast<size_t>(part.row0 + r)] = part.start + r;
        part.sequence->begin(part.rows);
    }
    team->run([](void* engine, int thread) { static_cast<vt_engine*>(engine)->run(thread); }, this);
    require(stop_at.load() == UINT32_MAX, "interrupted");
    for (int i = 0; i < now.n_parts; ++i) parts[static_cast<size_t>(i)].sequence->commit(parts[static_cast<size_t>(i)].rows);
}

// Refuses what cannot be done, before anything is changed. (Texts are made only where they are needed: this runs for
// every token.)
void vt_engine::admit(int n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids,
                      const uint8_t* wanted, const float* out, int64_t out_rows) const {
    require(n >= 1 && sequences && counts && ids && wanted, "a step needs sequences, counts, ids and what is wanted");
    int64_t rows = 0, results = 0;
    for (int i = 0; i < n; ++i) {
        const char* wrong = nullptr;
        if (!sequences[i] || sequences[i]->owner != this) wrong = " belongs to another engine";
        else if (sequences[i]->torn()) wrong = " was interrupted: rewind it first";
        else if (counts[i] < 1) wrong = " needs at least one token";
        else if (std::find(sequences, sequences + i, sequences[i]) != sequences + i) wrong = " is given twice";
        if (wrong) throw Problem("sequence " + std::to_string(i) + wrong);
        const int64_t end = sequences[i]->length() + counts[i], capacity = sequences[i]->capacity;
        if (end > capacity)
            throw Problem("sequence " + std::to_string(i) + " holds " + std::to_string(capacity) + " tokens, and " +
                          std::to_string(end) + " are needed");
        rows += counts[i];
    }
    for (int64_t r = 0; r < rows; ++r) {
        if (ids[r] < 0 || ids[r] >= plan.vocab)
            throw Problem("token ids run from 0 to " + std::to_string(plan.vocab - 1) + ", got " + std::to_string(ids[r]));
        if (wanted[r] > 1) throw Problem("wanted is 0 or 1");
        results += wanted[r];
    }
    if (results > out_rows || (results && !out))
        throw Problem(std::to_string(results) + " results are wanted, but there is room for " + std::to_string(out_rows));
}

void vt_engine::step(int n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids,
                     const uint8_t* wanted, float* out, int64_t out_rows) {
    admit(n, sequences, counts, ids, wanted, out, out_rows);
    interrupted.store(false);
    int i = 0, done = 0;  // tokens before `done` of sequence i are finished
    while (i < n) {
        now.n_parts = 0, now.rows = 0, now.n_wanted = 0;
        now.ids = ids, now.output = out;
        while (i < n && now.rows < plan.max_rows) {
            const int count = std::min(counts[i] - done, plan.max_rows - now.rows);
            parts[static_cast<size_t>(now.n_parts++)] = {sequences[i], now.rows, count,
                                                         static_cast<int>(sequences[i]->length())};
            now.rows += count;
            done += count;
            if (done < counts[i]) break;
            ++i, done = 0;
        }
        for (int r = 0; r < now.rows; ++r)
            if (wanted[r]) chosen[static_cast<size_t>(now.n_wanted++)] = r;
        pass();
        ids += now.rows, wanted += now.rows;
        if (out) out += static_cast<int64_t>(now.n_wanted) * plan.buffers[plan.output].width;
    }
}

namespace {

std::string describe_ops() {
    std::string text;
#define VT_NAME(name) " " #name
#define VT_CHOICE(kind, list) text += "choice " #kind list(VT_NAME) "\n";
    VT_CHOICES(VT_CHOICE)
#define VT_FIELD(kind, name) " " #name ":" #kind
#define VT_OP(name, fields, how) text += "op " #name fields(VT_FIELD) "\n";
    VT_OPS(VT_OP)
#undef VT_NAME
#undef VT_CHOICE
#undef VT_FIELD
#undef VT_OP
    return text;
}

}  // namespace

extern "C" {

int32_t vt_abi(void) { return VT_ABI; }

const char* vt_ops(void) {
    static const std::string text = describe_ops();
    return text.c_str();
}

void* vt_alloc(int64_t bytes) { return bytes > 0 ? allocate(static_cast<size_t>(bytes)) : nullptr; }

void vt_free(void* memory, int64_t bytes) { release(memory, static_cast<size_t>(bytes)); }

int vt_engine_new(const vt_plan* plan, const char* simd, int32_t threads, const int32_t* cpus, vt_engine** out,
                  char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(plan && out, "vt_engine_new needs a plan and a place for the engine");
        *out = new vt_engine(*plan, simd, threads, cpus);
    });
}

void vt_engine_free(vt_engine* engine) { delete engine; }

int64_t vt_engine_bytes(const vt_engine* engine) { return engine->bytes; }

int vt_sequence_new(vt_engine* engine, int64_t capacity, int64_t slack, int32_t dtype, vt_sequence** out, char* error,
                    int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(engine && out, "vt_sequence_new needs an engine and a place for the sequence");
        require(capacity >= 1 && capacity <= engine->plan.context,
                "a sequence has 1 to " + std::to_string(engine->plan.context) + " tokens, not " + std::to_string(capacity));
        require(slack >= 0 && slack <= capacity, "slack is from 0 to the capacity, not " + std::to_string(slack));
        require(dtype >= VT_STATE_F32 && dtype <= VT_STATE_Q8, "unknown state dtype " + std::to_string(dtype));
        *out = new vt_sequence(*engine, capacity, slack, static_cast<Store>(dtype));
    });
}

void vt_sequence_free(vt_sequence* sequence) { delete sequence; }

int64_t vt_sequence_bytes(const vt_sequence* sequence) {
    return asked(*sequence, [&] { return sequence->bytes(); });
}

int64_t vt_sequence_length(const vt_sequence* sequence) {
    return asked(*sequence, [&] { return sequence->length(); });
}

int64_t vt_sequence_reach(const vt_sequence* sequence, int64_t length) {
    return asked(*sequence, [&] { return sequence->reach(length); });
}

int vt_sequence_rewind(vt_sequence* sequence, int64_t length, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(sequence, "no sequence");
        const Use use(sequence->engine);
        require(sequence->rewind(length), "cannot return to " + std::to_string(length) + " tokens; the nearest is " +
                                              std::to_string(sequence->reach(length)));
    });
}

int vt_sequence_snapshot(vt_sequence* sequence, int32_t keep, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(sequence && keep >= 1, "a snapshot needs a sequence, and to keep at least one");
        const Use use(sequence->engine);
        require(!sequence->torn(), "the sequence was interrupted: rewind it first");
        sequence->snapshot(keep);
    });
}

int vt_step(vt_engine* engine, int32_t n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids,
            const uint8_t* wanted, float* out, int64_t out_rows, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(engine, "no engine");
        require(engine->here(), "the engine belongs to the process that this one was forked from: make another");
        const Use use(*engine);
        engine->step(n, sequences, counts, ids, wanted, out, out_rows);
    });
}

void vt_interrupt(vt_engine* engine) { engine->interrupted.store(true); }
}
