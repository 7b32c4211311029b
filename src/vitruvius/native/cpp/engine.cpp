// An engine runs a plan: it takes the new tokens of some sequences in passes of at most max_rows rows, and has its team of
// threads do every op on them, one op after the other.
#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>

#include "check.h"
#include "isa.h"
#include "memory.h"
#include "threads.h"

using namespace vt;

struct vt_engine {
    vt_engine(const vt_plan& plan, const char* simd, int threads, const int32_t* cpus);
    void pass();
    void run(int thread);

    const Kernels& kernels;
    const Plan plan;
    Team team;
    const Block arena, shared, local;  // scratch of all threads together, and of each
    const std::shared_ptr<Pool> pool = std::make_shared<Pool>();  // of what sequences keep
    std::vector<Part> parts;
    std::vector<int32_t> positions, chosen;
    Pass now{};
    std::mutex busy;  // held for one call; others are refused, not queued
    std::atomic<bool> interrupted{false};
    std::atomic<uint32_t> stop_at{0};
};

struct vt_sequence : Sequence {
    vt_sequence(vt_engine& engine, int64_t capacity, int64_t slack, Store store)
        : Sequence(engine.pool, engine.plan.states, engine.plan.max_rows, capacity, slack, store), engine(engine) {}
    vt_engine& engine;
};

vt_engine::vt_engine(const vt_plan& given, const char* simd, int threads, const int32_t* cpus)
    : kernels(vt::kernels(simd)),
      plan(given, threads),
      team(threads, cpus),
      arena(plan.arena * int64_t{sizeof(float)}),
      shared(plan.shared),
      local(plan.local * threads) {
    parts.resize(plan.max_rows), positions.resize(plan.max_rows), chosen.resize(plan.max_rows);
    now.parts = parts.data(), now.positions = positions.data(), now.wanted = chosen.data();
    now.buffers = plan.buffers.data(), now.matrices = plan.matrices.data();
    now.vectors = plan.vectors.data(), now.states = plan.states.data();
    now.arena = reinterpret_cast<float*>(arena.data()), now.shared = shared.data();
    now.local = local.data(), now.local_bytes = plan.local;
    now.team = &team;
}

// What one thread does in a pass. Threads meet between ops, except between those that thread 0 does alone.
void vt_engine::run(int thread) {
    const int threads = team.size();
    int rows = now.rows;
    uint32_t meetings = 0;
    const auto meet = [&] {  // returns whether to go on: all threads find the same at the same meeting
        ++meetings;
        uint32_t never = UINT32_MAX;
        if (thread == 0 && interrupted.load(std::memory_order_relaxed))
            stop_at.compare_exchange_strong(never, meetings);
        if (threads > 1) team.barrier();
        return stop_at.load(std::memory_order_relaxed) > meetings;
    };
    enum { nobody, first, everybody } since = nobody;  // who has worked since the last meeting
    for (const auto& [op, by_row, fields] : plan.code) {
        if (op == Op::select) rows = now.n_wanted;
        if (rows == 0) return;
        const bool alone = by_row && rows == 1;
        if ((since == everybody || (since == first && !alone)) && !meet()) return;
        if (!alone || thread == 0) kernels.run[static_cast<int>(op)]({now, rows, thread, alone ? 1 : threads}, fields);
        since = alone ? first : everybody;
    }
}

void vt_engine::pass() {
    stop_at.store(UINT32_MAX);
    for (int i = 0; i < now.n_parts; ++i) parts[i].sequence->prepare(parts[i].rows);
    for (int i = 0; i < now.n_parts; ++i) {
        const auto& [sequence, row0, rows, start] = parts[i];
        for (int r = 0; r < rows; ++r) positions[row0 + r] = start + r;
        sequence->begin(rows);
    }
    team.run([this](int thread) { run(thread); });
    require(stop_at.load() == UINT32_MAX, "interrupted");
    for (int i = 0; i < now.n_parts; ++i) parts[i].sequence->commit(parts[i].rows);
}

namespace {

std::unique_lock<std::mutex> use(vt_engine& engine) {
    std::unique_lock<std::mutex> held(engine.busy, std::try_to_lock);
    require(held.owns_lock(), "the engine is in use by another thread: it does one call at a time");
    return held;
}

// A number of a sequence; −1 while the engine is in use by another thread.
template <class Number, class... Arguments>
int64_t asked(const vt_sequence& sequence, Number number, Arguments... arguments) {
    const std::unique_lock<std::mutex> held(sequence.engine.busy, std::try_to_lock);
    return held ? std::invoke(number, sequence, arguments...) : -1;
}

// Refuses a step that cannot be done, before anything is changed.
void admit(const vt_engine* engine, int n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids,
           const uint8_t* wanted, const float* out, int64_t out_rows) {
    require(n >= 1 && sequences && counts && ids && wanted, "a step needs sequences, counts, ids and what is wanted");
    int64_t rows = 0, results = 0;
    for (int i = 0; i < n; ++i) {
        const vt_sequence* const s = sequences[i];
        require(s && &s->engine == engine, "sequence ", i, " belongs to another engine");
        require(!s->torn(), "sequence ", i, " was interrupted: rewind it first");
        require(counts[i] >= 1, "sequence ", i, " needs at least one token");
        require(std::find(sequences, sequences + i, s) == sequences + i, "sequence ", i, " is given twice");
        const int64_t end = s->length() + counts[i];
        require(end <= s->capacity, "sequence ", i, " holds ", s->capacity, " tokens, and ", end, " are needed");
        rows += counts[i];
    }
    for (int64_t r = 0; r < rows; ++r) {
        const int last = engine->plan.vocab - 1;
        require(within(ids[r], 0, last), "token ids run from 0 to ", last, ", got ", ids[r]);
        require(wanted[r] <= 1, "wanted is 0 or 1");
        results += wanted[r];
    }
    require(results == 0 || (out && results <= out_rows), results, " results are wanted, but there is room for ",
            out_rows);
}

}  // namespace

int32_t vt_abi(void) { return VT_ABI; }

int vt_engine_new(const vt_plan* plan, const char* simd, int32_t threads, const int32_t* cpus, vt_engine** out,
                  char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(plan && out, "vt_engine_new needs a plan and a place for the engine");
        *out = new vt_engine(*plan, simd, threads, cpus);
    });
}

void vt_engine_free(vt_engine* engine) { delete engine; }

int64_t vt_engine_bytes(const vt_engine* engine) {
    return engine->arena.bytes() + engine->shared.bytes() + engine->local.bytes() + engine->pool->spare();
}

int vt_sequence_new(vt_engine* engine, int64_t capacity, int64_t slack, int32_t dtype, vt_sequence** out, char* error,
                    int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(engine && out, "vt_sequence_new needs an engine and a place for the sequence");
        const int most = engine->plan.context;
        require(within(capacity, 1, most), "a sequence has 1 to ", most, " tokens, not ", capacity);
        require(within(slack, 0, capacity), "slack is from 0 to the capacity, not ", slack);
        require(within(dtype, VT_STATE_F32, VT_STATE_Q8), "unknown state dtype ", dtype);
        *out = new vt_sequence(*engine, capacity, slack, static_cast<Store>(dtype));
    });
}

int vt_sequence_fork(const vt_sequence* sequence, vt_sequence** out, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(sequence && out, "vt_sequence_fork needs a sequence and a place for the new one");
        const auto held = use(sequence->engine);
        *out = new vt_sequence(*sequence);
    });
}

void vt_sequence_free(vt_sequence* sequence) { delete sequence; }

int64_t vt_sequence_bytes(const vt_sequence* sequence) { return asked(*sequence, &Sequence::bytes); }

int64_t vt_sequence_length(const vt_sequence* sequence) { return asked(*sequence, &Sequence::length); }

int64_t vt_sequence_torn(const vt_sequence* sequence) { return asked(*sequence, &Sequence::torn); }

int64_t vt_sequence_reach(const vt_sequence* sequence, int64_t length) {
    return asked(*sequence, &Sequence::reach, length);
}

int vt_sequence_rewind(vt_sequence* sequence, int64_t length, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(sequence, "no sequence");
        const auto held = use(sequence->engine);
        const int64_t nearest = sequence->reach(length);
        require(sequence->rewind(length), "cannot return to ", length, " tokens; the nearest is ", nearest);
    });
}

int vt_sequence_snapshot(vt_sequence* sequence, int32_t keep, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(sequence && keep >= 1, "a snapshot needs a sequence, and to keep at least one");
        const auto held = use(sequence->engine);
        require(!sequence->torn(), "the sequence was interrupted: rewind it first");
        sequence->snapshot(keep);
    });
}

int vt_step(vt_engine* engine, int32_t n, vt_sequence* const* sequences, const int32_t* counts, const int32_t* ids,
            const uint8_t* wanted, float* out, int64_t out_rows, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(engine, "no engine");
        require(engine->team.here(), "the engine belongs to the process that this one was forked from: make another");
        const auto held = use(*engine);
        admit(engine, n, sequences, counts, ids, wanted, out, out_rows);
        engine->interrupted.store(false);
        Pass& now = engine->now;
        int i = 0, done = 0;  // tokens before `done` of sequence i are finished
        while (i < n) {
            now.n_parts = now.rows = now.n_wanted = 0;
            now.ids = ids, now.output = out;
            while (i < n && now.rows < engine->plan.max_rows) {
                const int count = std::min(counts[i] - done, engine->plan.max_rows - now.rows);
                engine->parts[now.n_parts++] = {sequences[i], now.rows, count,
                                                static_cast<int>(sequences[i]->length())};
                now.rows += count;
                done += count;
                if (done < counts[i]) break;
                ++i, done = 0;
            }
            for (int r = 0; r < now.rows; ++r)
                if (wanted[r]) engine->chosen[now.n_wanted++] = r;
            engine->pass();
            ids += now.rows, wanted += now.rows;
            if (out) out += int64_t{now.n_wanted} * engine->plan.buffers[engine->plan.output].width;
        }
    });
}

void vt_interrupt(vt_engine* engine) { engine->interrupted.store(true); }
