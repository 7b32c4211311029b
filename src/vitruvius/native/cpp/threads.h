// A team of threads that work on one step together, and meet at barriers several hundred times in it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace vt {

// A number that threads wait for to change: they spin for a while, which costs nothing when the others are about to
// arrive, then sleep, which leaves the processor to those who need it.
class Signal {
   public:
    uint32_t value() const { return value_.load(std::memory_order_acquire); }
    void advance();
    // Returns when the value is no longer `old`.
    void wait(uint32_t old);

   private:
    bool spin(uint32_t old);
    void sleep(uint32_t old);
    void wake();

    alignas(64) std::atomic<uint32_t> value_{0};
    alignas(64) std::atomic<int> sleepers_{0};
    std::atomic<int> patience_{4096};  // turns to spin before sleeping: less while others are using the processors
#ifndef __linux__
    std::mutex mutex_;
    std::condition_variable changed_;
#endif
};

class Team {
   public:
    // Thread 0 is the caller of `run`. `cpus`, if any, has the processor that each thread stays on (the caller's is left
    // alone). Throws std::system_error where there are no more threads.
    Team(int threads, const int32_t* cpus);
    ~Team();
    Team(const Team&) = delete;

    int size() const { return threads_; }
    // Whether this is the process that has the threads: a fork of it has not.
    bool here() const;
    // Has every thread call job(its number); returns when all are done.
    void run(const std::function<void(int)>& job);
    // Waits until every thread of the team is here.
    void barrier();

   private:
    void work(int thread);
    void stop();

    const int threads_;
    const int64_t process_;
    alignas(64) std::atomic<int> arrived_{0};
    Signal met_, started_;
    const std::function<void(int)>* job_ = nullptr;
    std::vector<std::thread> others_;
};

}  // namespace vt
