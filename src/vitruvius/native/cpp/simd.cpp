// Which instruction sets this machine has.
#include <stdexcept>
#include <string>

#include "isa.h"
#include "vitruvius.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace vt {

// The sets that the library has are given by the build, the best first: -DVT_SETS(S)=S(avx2) S(plain) …
#define VT_DECLARE(set)           \
    namespace set {               \
    extern const Kernels kernels; \
    }
VT_SETS(VT_DECLARE)

namespace {

// Whether this machine has a set; or BF16's products of pairs, which are no set of their own.
bool has(const std::string& what) {
#if defined(__x86_64__)
    if (what == "pairs") return __builtin_cpu_supports("avx512bf16");
    if (what == "avx2")
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (what == "avx512")
        return has("avx2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__) && defined(__linux__)
    if (what == "dotprod") return getauxval(AT_HWCAP) & (1ul << 20);  // HWCAP_ASIMDDP; Apple's processors all have it
#endif
    return what != "pairs";
}

}  // namespace

const bool has_bfloat_pairs = has("pairs");

const Kernels& kernels(const char* simd) {
#define VT_FIND(set) \
    if (has(#set) && (!simd || simd == std::string(#set))) return set::kernels;
    VT_SETS(VT_FIND)
    throw std::runtime_error("this machine cannot run the instruction set " + std::string(simd ? simd : ""));
}

}  // namespace vt

const char* vt_simd(void) {
    static const std::string text = [] {
        std::string names;
#define VT_NAME(set) \
    if (vt::has(#set)) names += names.empty() ? #set : " " #set;
        VT_SETS(VT_NAME)
        return names;
    }();
    return text.c_str();
}
