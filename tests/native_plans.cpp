// Runs the plans of a file (written by tests/native_plans.py) at every instruction set of the machine, and compares what
// they give with the references. For processors that have no Python here: compiled for another one, and run by qemu.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "../src/vitruvius/native/cpp/vitruvius.h"

static FILE* file;
static char error[512];

static void need(bool good, const char* what) {
    if (good) return;
    printf("%s\n", what);
    exit(1);
}

template <class T>
static std::vector<T> read(int64_t count) {
    std::vector<T> items(static_cast<size_t>(count));
    need(fread(items.data(), sizeof(T), items.size(), file) == items.size(), "the file is cut off");
    return items;
}

static void* read_memory(int64_t bytes) {
    void* const memory = vt_alloc(bytes);
    need(memory && fread(memory, 1, static_cast<size_t>(bytes), file) == static_cast<size_t>(bytes), "no memory");
    return memory;
}

// Two texts of different lengths, in three steps with all tokens wanted; the results one after the other.
static std::vector<float> run(const vt_plan& plan, const char* simd, int threads, int dtype) {
    const int width = plan.buffer[plan.output].width, counts[3][2] = {{9, 20}, {1, 1}, {17, 4}};
    vt_engine* engine = nullptr;
    vt_sequence* sequences[2] = {};
    need(!vt_engine_new(&plan, simd, threads, nullptr, &engine, error, sizeof error), error);
    for (vt_sequence*& sequence : sequences)
        need(!vt_sequence_new(engine, 48, 0, dtype, &sequence, error, sizeof error), error);
    std::vector<float> results;
    uint32_t random = 1;
    for (const auto& count : counts) {
        const int rows = count[0] + count[1];
        std::vector<int32_t> ids(static_cast<size_t>(rows));
        for (int32_t& id : ids) id = static_cast<int32_t>((random = random * 1664525u + 1013904223u) >> 8) % plan.vocab;
        const std::vector<uint8_t> wanted(ids.size(), 1);
        std::vector<float> out(ids.size() * static_cast<size_t>(width));
        need(!vt_step(engine, 2, sequences, count, ids.data(), wanted.data(), out.data(), rows, error, sizeof error), error);
        results.insert(results.end(), out.begin(), out.end());
    }
    for (vt_sequence* sequence : sequences) vt_sequence_free(sequence);
    vt_engine_free(engine);
    return results;
}

static double difference(const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0, size = 1;
    for (size_t i = 0; i < a.size(); ++i) {
        most = std::fmax(most, a[i] == b[i] ? 0 : std::isfinite(a[i] - b[i]) ? std::fabs(a[i] - b[i]) : INFINITY);
        size = std::fmax(size, std::fabs(a[i]));
    }
    return most / size;
}

int main(int, char** arguments) {
    file = fopen(arguments[1], "rb");
    need(file, "no such file");
    const int plans = read<int32_t>(1)[0];
    double most = 0;
    for (int number = 0; number < plans; ++number) {
        const std::vector<char> name = read<char>(64);
        const std::vector<int32_t> sizes = read<int32_t>(10);
        const auto buffers = read<vt_buffer>(sizes[5]);
        auto matrices = read<vt_matrix>(sizes[6]);
        auto vectors = read<vt_vector>(sizes[7]);
        const auto states = read<vt_state>(sizes[8]);
        const auto words = read<int32_t>(sizes[9]);
        for (vt_matrix& matrix : matrices) matrix.data = read_memory(matrix.bytes);
        for (vt_vector& vector : vectors) vector.data = static_cast<const float*>(read_memory(4 * vector.size));
        const vt_plan plan{sizes[0], sizes[1],        sizes[2],        sizes[3],       sizes[4],      sizes[5],    sizes[6], sizes[7],
                           sizes[8], sizes[9], buffers.data(), matrices.data(), vectors.data(), states.data(), words.data()};
        for (int dtype = VT_STATE_F32; dtype <= VT_STATE_Q8; ++dtype) {
            const std::vector<float> expected = run(plan, "naive", 1, dtype);
            std::istringstream sets(vt_simd());
            for (std::string simd; sets >> simd && simd != "naive";) {
                const double found = difference(expected, run(plan, simd.c_str(), 2, dtype));
                const double bound = dtype == VT_STATE_F32 ? 1e-4 : 3e-2;  // 16 or 8 bits may be rounded the other way
                if (!(found < bound)) printf("%s, %s, dtype %d: %g\n", name.data(), simd.c_str(), dtype, found), most = 1;
                if (dtype == VT_STATE_F32) most = std::fmax(most, found);
            }
        }
        for (const vt_matrix& matrix : matrices) vt_free(const_cast<void*>(matrix.data), matrix.bytes);
        for (const vt_vector& vector : vectors) vt_free(const_cast<float*>(vector.data), 4 * vector.size);
    }
    printf("%d plans, at most %.1e apart: %s\n", plans, most, vt_simd());
    return most < 1e-4 ? 0 : 1;
}
