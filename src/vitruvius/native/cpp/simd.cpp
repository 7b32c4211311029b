// Which instruction sets this machine has.
#include <cstring>
#include <string>

#include "isa.h"
#include "vitruvius.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace vt {

#if defined(__x86_64__)
const bool has_bfloat_pairs = __builtin_cpu_supports("avx512bf16");
#else
const bool has_bfloat_pairs = false;
#endif

namespace {

struct Set {
    const char* name;
    bool runs;
    const Kernels* kernels;
    const MatrixKernels* matrix_kernels;
};

[[maybe_unused]] bool plain() { return true; }
[[maybe_unused]] bool naive() { return true; }
#if defined(__x86_64__)
[[maybe_unused]] bool avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
[[maybe_unused]] bool avx512() {
    return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
[[maybe_unused]] bool neon() { return true; }
[[maybe_unused]] bool dotprod() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & (1ul << 20);  // HWCAP_ASIMDDP
#else
    return true;  // all of Apple's processors for computers
#endif
}
#endif

#define VT_SET(set) {#set, set(), &set::kernels, &set::matrix_kernels},
const Set* sets() {
    static const Set all[] = {VT_SETS(VT_SET){nullptr, false, nullptr, nullptr}};
    return all;
}
#undef VT_SET

const Set* find(const char* name) {
    for (const Set* s = sets(); s->name; ++s)
        if (s->runs && (!name || strcmp(name, s->name) == 0)) return s;
    return nullptr;
}

}  // namespace

const Kernels* kernels(const char* simd) {
    const Set* const s = find(simd);
    return s ? s->kernels : nullptr;
}
const MatrixKernels* matrix_kernels(const char* simd) {
    const Set* const s = find(simd);
    return s ? s->matrix_kernels : nullptr;
}

}  // namespace vt

const char* vt_simd(void) {
    static const std::string text = [] {
        std::string names;
        for (const vt::Set* s = vt::sets(); s->name; ++s)
            if (s->runs) names += (names.empty() ? "" : " ") + std::string(s->name);
        return names;
    }();
    return text.c_str();
}
