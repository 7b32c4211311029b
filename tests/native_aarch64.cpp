// Run by tests/test_native_build.py under qemu: products of every format at each instruction set of an Arm processor
// against the reference, which the Python tests check on the machine they run on.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../src/vitruvius/native/cpp/vitruvius.h"

static float random_number() {  // a linear congruential generator; about normal
    static uint32_t state = 1;
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / (1 << 24) - 0.5f;
    return sum;
}

// What the formats hold that floats are not quantised to, and the bytes of a block that keep its numbers about normal:
// the upper ones of float16 scales, or an exponent.
struct Kind {
    const char* name;
    int cols, bytes;
    std::vector<std::pair<int, uint8_t>> fixed;
};
static const Kind KIND[] = {
    {"Q5_0", 32, 22, {{1, 0x2E}}},
    {"Q5_1", 32, 24, {{1, 0x2A}, {3, 0xB8}}},
    {"Q4_K", 256, 144, {{1, 0x1A}, {3, 0x23}}},
    {"Q5_K", 256, 176, {{1, 0x16}, {3, 0x23}}},
    {"Q6_K", 256, 210, {{209, 0x11}}},
    {"MXFP4", 32, 17, {{0, 124}}},
};
static const int FIRST = 6;  // the format of the first

static std::vector<uint8_t> random_blocks(const Kind& kind, int count) {
    std::vector<uint8_t> blocks(count * kind.bytes);
    for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random_number() * 256);
    for (int i = 0; i < count; ++i)
        for (const auto& [place, value] : kind.fixed) blocks[i * kind.bytes + place] = value;
    return blocks;
}

int main() {
    char error[256] = "";
    double seconds;
    int checked = 0;
    for (int format = 0; format < 12; ++format) {
        const int rows = 37, cols = 300, n = 9;
        std::vector<float> w(rows * cols), x(n * cols), expected(n * rows), found(n * rows);
        for (float& a : w) a = random_number();
        for (float& a : x) a = random_number();
        const int64_t bytes = vt_packed_bytes(format, rows, cols), panel = vt_packed_bytes(format, 16, cols);
        void* const packed = vt_alloc(bytes);
        const vt_matrix m{format, rows, cols, 1, packed, bytes};
        const Kind floats{"F32", 1, 4, {}};
        const Kind& kind = format < FIRST ? floats : KIND[format - FIRST];
        const int across = (cols + kind.cols - 1) / kind.cols;  // in blocks; what fills the last one does not count
        const std::vector<uint8_t> blocks = random_blocks(kind, rows * across);
        const void* const source = format < FIRST ? static_cast<const void*>(w.data()) : blocks.data();
        const int64_t size = int64_t{rows} * across * kind.bytes;
        if (vt_pack(format, rows, across * kind.cols, kind.name, source, size, packed, bytes, panel, error, sizeof error) ||
            vt_matmul(&m, x.data(), n, expected.data(), "naive", 1, 1, &seconds, error, sizeof error))
            return printf("%s\n", error), 1;
        for (const char* simd : {"dotprod", "neon", "plain"}) {
            if (!strstr(vt_simd(), simd)) continue;
            for (int rows_of_x : {1, 2, 9}) {
                if (vt_matmul(&m, x.data(), rows_of_x, found.data(), simd, 2, 1, &seconds, error, sizeof error))
                    return printf("%s\n", error), 1;
                for (int i = 0; i < rows_of_x * rows; ++i)
                    if (!(std::fabs(found[i] - expected[i]) < 1e-4f))
                        return printf("%s, format %d: %g instead of %g\n", simd, format, found[i], expected[i]), 1;
                ++checked;
            }
        }
        vt_free(packed, bytes);
    }
    return printf("%d products are right: %s\n", checked, vt_simd()), 0;
}
