// Products and reads on their own, for the tests of the kernels and for measuring them.
#include <chrono>
#include <exception>
#include <stdexcept>

#include "isa.h"
#include "memory.h"
#include "threads.h"
#include "vitruvius.h"

using namespace vt;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

const MatrixKernels& chosen(const char* simd, int threads) {
    if (threads < 1 || threads > 256) throw std::invalid_argument("there are 1 to 256 threads");
    const MatrixKernels* const found = matrix_kernels(simd);
    if (!found) throw std::invalid_argument("this machine cannot run that instruction set");
    return *found;
}

// Calls job(thread) in each thread, and gives the seconds that it took.
template <class Job> double timed(Team& team, Job job) {
    const double start = now();
    team.run([](void* context, int thread) { (*static_cast<Job*>(context))(thread); }, &job);
    return now() - start;
}

// Runs it, with what it throws as the error text.
template <class Do> int guarded(Do what, char* error, int64_t size) {
    try {
        what();
        return 0;
    } catch (const std::exception& e) {
        if (error && size > 0) snprintf(error, static_cast<size_t>(size), "%s", e.what());
        return 1;
    }
}

}  // namespace

int vt_matmul(const vt_matrix* matrix, const float* x, int32_t n, float* y, const char* simd, int32_t threads,
              int32_t turns, double* seconds, char* error, int64_t error_size) {
    return guarded(
        [&] {
            const MatrixKernels& kernels = chosen(simd, threads);
            const Matrix m{matrix->format,
                           matrix->rows,
                           matrix->cols,
                           matrix->copies,
                           vt_packed_bytes(matrix->format, matrix->rows, matrix->cols),
                           static_cast<const uint8_t*>(matrix->data)};
            if (m.copy_bytes < 0 || m.copies < 1 || matrix->bytes / m.copies < m.copy_bytes || n < 1 || turns < 1)
                throw std::invalid_argument("the matrix has less memory than its size needs");
            const Block scratch(static_cast<size_t>(n * prepared_bytes(m.format, m.cols, 1) + 64));
            Team team(threads, nullptr);
            *seconds = timed(team, [&](int thread) {
                for (int64_t turn = 0; turn < int64_t{turns} * m.copies; ++turn) {
                    const Range pairs = share(static_cast<int>(ceil_div(panels(m.rows), 2)), thread, threads);
                    const int end = 2 * pairs.end < panels(m.rows) ? 2 * pairs.end : panels(m.rows);
                    const Input in = kernels.prepare(x, n, share(n, thread, threads), m, scratch.data());
                    team.barrier();
                    kernels.multiply(m, static_cast<int>(turn % m.copies), in, 2 * pairs.begin, end, y, m.rows);
                    team.barrier();
                }
            });
        },
        error, error_size);
}

int vt_read(const void* memory, int64_t bytes, const char* simd, int32_t threads, double* seconds, char* error,
            int64_t error_size) {
    return guarded(
        [&] {
            const MatrixKernels& kernels = chosen(simd, threads);
            Team team(threads, nullptr);
            const int64_t floats = bytes / 4 / threads;
            volatile float kept = 0.0f;
            *seconds = timed(team, [&](int thread) {
                kept = kernels.read(static_cast<const float*>(memory) + thread * floats, floats);
            });
        },
        error, error_size);
}
