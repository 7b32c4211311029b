// Run by tests/test_native_build.py under qemu: products of every format at each instruction set of an Arm processor
// against the reference, which the Python tests check on the machine they run on.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../src/vitruvius/native/cpp/vitruvius.h"

static float random_number() {  // a linear congruential generator; about normal
    static uint32_t state = 1;
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / (1 << 24) - 0.5f;
    return sum;
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
        const int64_t size = static_cast<int64_t>(w.size() * sizeof(float));
        if (vt_pack(format, rows, cols, "F32", w.data(), size, packed, bytes, panel, error, sizeof error) ||
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
