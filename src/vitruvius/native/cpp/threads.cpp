#include "threads.h"

#include <algorithm>

#ifdef __linux__
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include <climits>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace vt {

namespace {

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

void stay_on(std::thread& thread, int cpu) {
#ifdef __linux__
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(thread.native_handle(), sizeof set, &set);  // a wish: without it the thread runs anywhere
#else
    (void)thread, (void)cpu;
#endif
}

int64_t this_process() {
#if defined(__unix__) || defined(__APPLE__)
    return getpid();
#else
    return 0;
#endif
}

constexpr int least = 64, most = 4096;  // turns of about 40 cycles: 0.5 µs and 40 µs

}  // namespace

#ifdef __linux__
void Signal::sleep(uint32_t old) { syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0); }
void Signal::wake() { syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0); }
#else
void Signal::sleep(uint32_t old) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != old; });
}
void Signal::wake() {
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
}
#endif

void Signal::advance() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake();
}

bool Signal::spin(uint32_t old) {
    const int patience = patience_.load(std::memory_order_relaxed);
    for (int turn = 0; turn < patience; ++turn) {
        if (value() != old) {
            if (patience < most) patience_.store(std::min(most, patience + least), std::memory_order_relaxed);
            return true;
        }
        pause();
    }
    patience_.store(std::max(least, patience / 2), std::memory_order_relaxed);
    return false;
}

void Signal::wait(uint32_t old) {
    if (spin(old)) return;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);  // before the value is looked at: `advance` does it in turn
    while (value_.load(std::memory_order_seq_cst) == old) sleep(old);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

Team::Team(int threads, const int32_t* cpus) : threads_(threads), process_(this_process()) {
    others_.reserve(static_cast<size_t>(threads - 1));
    try {
        for (int thread = 1; thread < threads; ++thread) {
            others_.emplace_back(&Team::work, this, thread);
            if (cpus) stay_on(others_.back(), cpus[thread]);
        }
    } catch (...) {
        stop();
        throw;
    }
}

Team::~Team() { stop(); }

bool Team::here() const { return process_ == this_process(); }

void Team::stop() {
    if (!here()) {  // they would be waited for without end
        for (std::thread& other : others_) other.detach();
        return;
    }
    job_ = nullptr;
    started_.advance();
    for (std::thread& other : others_) other.join();
}

void Team::run(const std::function<void(int)>& job) {
    job_ = &job;
    if (threads_ > 1) started_.advance();
    job(0);
    if (threads_ > 1) barrier();
}

void Team::barrier() {
    const uint32_t before = met_.value();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        met_.advance();
    } else {
        met_.wait(before);
    }
}

void meet(Team& team) { team.barrier(); }

void Team::work(int thread) {
    for (uint32_t seen = 0;; ++seen) {
        started_.wait(seen);
        if (!job_) return;
        (*job_)(thread);
        barrier();
    }
}

}  // namespace vt
