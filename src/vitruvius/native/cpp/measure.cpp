// Products and reads on their own, for the tests of the kernels and for measuring them.
#include <algorithm>
#include <chrono>

#include "check.h"
#include "isa.h"
#include "memory.h"
#include "threads.h"

using namespace vt;

namespace {

// The seconds that it takes to call job(kernels, team, thread) in each thread.
template <class Job> double timed(const char* simd, int threads, const Job& job) {
    require(within(threads, 1, 256), "there are 1 to 256 threads");
    Team team(threads, nullptr);
    const Kernels& chosen = kernels(simd);
    const auto start = std::chrono::steady_clock::now();
    team.run([&](int thread) { job(chosen, team, thread); });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int vt_matmul(const vt_matrix* matrix, const float* x, int32_t n, float* y, const char* simd, int32_t threads,
              int32_t turns, double* seconds, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(matrix && n >= 1 && turns >= 1, "a product needs a matrix, rows and turns");
        const Matrix m = checked(*matrix);
        const Block scratch(n * prepared_bytes(m.format, m.cols, 1) + 64);
        *seconds = timed(simd, threads, [&](const Kernels& kernels, Team& team, int thread) {
            for (int64_t turn = 0; turn < int64_t{turns} * m.copies; ++turn) {
                const Range pairs = share((panels(m.rows) + 1) / 2, thread, threads);
                const Input in = kernels.prepare(x, n, share(n, thread, threads), m, scratch.data());
                team.barrier();
                const int end = std::min(2 * pairs.end, panels(m.rows));
                kernels.multiply(m, static_cast<int>(turn % m.copies), in, 2 * pairs.begin, end, y, m.rows);
                team.barrier();
            }
        });
    });
}

int vt_read(const void* memory, int64_t bytes, const char* simd, int32_t threads, double* seconds, char* error,
            int64_t error_size) {
    return guarded(error, error_size, [&] {
        volatile float kept = 0.0f;
        *seconds = timed(simd, threads, [&](const Kernels& kernels, Team&, int thread) {
            const int64_t floats = bytes / 4 / threads;
            kept = kernels.read(static_cast<const float*>(memory) + thread * floats, floats);
        });
    });
}
