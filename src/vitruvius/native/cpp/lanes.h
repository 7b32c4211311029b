// 16 floats as one value: a panel's 16 rows, or 16 channels. The same code is compiled for each instruction set, in a
// namespace of its own; lanes/*.h have what a register of that set can do, with L of the 16 lanes each.
#pragma once

#define VT_PASTE(a, b) a##b
#define VT_IS(isa) VT_PASTE(VT_IS_, isa)
#define VT_IS_avx512 3
#define VT_IS_avx2 2
#define VT_IS_neon 1
#define VT_IS_dotprod 1
#define VT_IS_plain 0
#define VT_IS_naive -1
#if VT_IS(VT_ISA) == 3
#define VT_BYTES 64
#include "lanes/avx512.h"
#elif VT_IS(VT_ISA) == 2
#define VT_BYTES 32
#include "lanes/avx2.h"
#elif VT_IS(VT_ISA) == 1
#define VT_BYTES 16
#include "lanes/neon.h"
#else
#define VT_BYTES 16
#include "lanes/plain.h"
#endif

namespace vt {
namespace VT_ISA {

constexpr int PARTS = LANES / L;                             // registers that hold 16 lanes
constexpr int REGISTERS = VT_IS(VT_ISA) % 2 == 0 ? 16 : 32;  // that there are

#define VT_F(expression)                                 \
    F f;                                                 \
    VT_EACH (i, PARTS) f.v[i] = expression; /* part i */ \
    return f;

struct F {
    V v[PARTS];

    static VT_INLINE F load(const float* p) { VT_F(vload<V>(p + i * L)) }
    static VT_INLINE F load_f16(const uint16_t* p) { VT_F(vload_f16(p + i * L)) }
    static VT_INLINE F load_bf16(const uint16_t* p) { VT_F(vfrombits(VU(vwiden(p + i * L)) << 16)) }
    static VT_INLINE F load_s8(const int8_t* p) { VT_F(vfromint(vwiden(p + i * L))) }
    static VT_INLINE F all(float a) { VT_F(vset(a)) }
    static VT_INLINE F zero() { return all(0.0f); }
    // The first n lanes (0 ≤ n ≤ 16), the others 0.
    static VT_INLINE F load_some(const float* p, int n) {
        alignas(64) float lanes[LANES] = {};
        memcpy(lanes, p, static_cast<size_t>(n) * sizeof(float));
        return load(lanes);
    }

    VT_INLINE void store(float* p) const {
        VT_EACH (i, PARTS) vstore(p + i * L, v[i]);
    }
    VT_INLINE void store_some(float* p, int n) const {  // the first n lanes
        alignas(64) float lanes[LANES];
        store(lanes);
        memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
    }
    VT_INLINE void store_f16(uint16_t* p) const {
        VT_EACH (i, PARTS) vstore_f16(p + i * L, v[i]);
    }  // to nearest even
    VT_INLINE void store_bf16(uint16_t* p) const {  // to nearest even; not for NaN
        VT_EACH (i, PARTS) {
            const VU bits = vbits(v[i]);
            vnarrow(p + i * L, VI((bits + 0x7FFF + (bits >> 16 & 1)) >> 16));
        }
    }
    VT_INLINE void store_s8(int8_t* p) const {  // to nearest even; for −128 … 127
        VT_EACH (i, PARTS) vnarrow(p + i * L, vtoint(v[i]));
    }
};

VT_INLINE F operator+(F a, F b){VT_F(a.v[i] + b.v[i])} VT_INLINE F operator-(F a, F b){VT_F(a.v[i] - b.v[i])}
VT_INLINE F operator*(F a, F b){VT_F(a.v[i] * b.v[i])} VT_INLINE F operator*(F a, float b){VT_F(a.v[i] * b)}
VT_INLINE F operator/(F a, F b){VT_F(a.v[i] / b.v[i])} VT_INLINE F operator-(F a){VT_F(-a.v[i])}
VT_INLINE F& operator+=(F& a, F b) {
    return a = a + b;
}
VT_INLINE F& operator*=(F& a, F b) { return a = a * b; }

VT_INLINE F fma(F a, F b, F c){VT_F(vfma(a.v[i], b.v[i], c.v[i]))}  // a · b + c
VT_INLINE F fma(F a, float b, F c) {
    return fma(a, F::all(b), c);
}
VT_INLINE F fmin(F a, F b){VT_F(vmin(a.v[i], b.v[i]))} VT_INLINE F fmax(F a, F b){VT_F(vmax(a.v[i], b.v[i]))}
VT_INLINE F fround(F a){VT_F(vround(a.v[i]))}  // to nearest even, |a| < 2^22
// a < b ? yes : no, lane by lane
VT_INLINE F select_less(F a, F b, F yes, F no){VT_F(a.v[i] < b.v[i] ? yes.v[i] : no.v[i])} VT_INLINE F
    fabs(F a){VT_F(vfrombits(vbits(a.v[i]) & 0x7FFFFFFF))}  // a ≥ 0 with the sign of `sign`
VT_INLINE F with_sign(F a, F sign) {
    VT_F(vfrombits(vbits(a.v[i]) | (vbits(sign.v[i]) & 0x80000000)))
}
template <class Two> VT_INLINE float folded(F a, Two two) {
    VT_UNROLL for (int i = 1; i < PARTS; ++i)
        a.v[0] = two(a.v[0], a.v[i]);
    return folded(a.v[0], two);
}
VT_INLINE float sum(F a) {
    return folded(a, [](V one, V other) { return one + other; });
}
VT_INLINE float maximum(F a) { return folded(a, vmax); }

// c[0] + c[1] x + … by Horner's rule.
template <int n> VT_INLINE F polynomial(F x, const float (&c)[n]) {
    F y = F::all(c[n - 1]);
    VT_UNROLL for (int i = n - 2; i >= 0; --i)
        y = fma(y, x, F::all(c[i]));
    return y;
}

// The functions below are polynomials fitted with least relative error; each is right to about 1e-7 of its value.

// e^x. Below −87 it is e^−87 (about 1e-38, so 0 beside any other), above 88 it is e^88.
VT_INLINE F exp(F x) {
    x = fmax(fmin(x, F::all(88.0f)), F::all(-87.0f));
    const F n = fround(x * 1.44269504f);
    const F r = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, x));  // x − n ln 2, with ln 2 in two parts
    const F p = polynomial(r, {0.5f, 0.16666519f, 0.04166621f, 0.0083688827f, 0.0013950474f});
    const F e = fma(p, r * r, r) + F::all(1.0f);
    VT_F(vfrombits(vbits(e.v[i]) + (VU(vtoint(n.v[i])) << 23)))
}

// ln x for normal x > 0.
VT_INLINE F log(F x) {
    F n, f;  // x = 2^n · (1 + f), √½ ≤ 1 + f < √2
    VT_EACH (i, PARTS) {
        const VI exponent = VI(vbits(x.v[i]) - 0x3F3504F3) >> 23;
        n.v[i] = vfromint(exponent);
        f.v[i] = vfrombits(vbits(x.v[i]) - (VU(exponent) << 23)) - 1.0f;
    }
    const F p = polynomial(f, {0.3333331044f, -0.2499998661f, 0.2000222657f, -0.1666925029f, 0.1421865836f,
                               -0.1238435758f, 0.1187298377f, -0.1178975834f, 0.0691529241f});
    const F rest = fma(p * f, f * f, fma(f * f, -0.5f, n * -2.12194440e-4f));
    return fma(n, 0.693359375f, f + rest);
}

// ln(1 + x) for x ≥ 0: log(1 + x) misses what the sum rounds away, and gets it back.
VT_INLINE F log1p(F x) {
    const F u = x + F::all(1.0f), lost = x - (u - F::all(1.0f));
    return log(u) + lost / u;
}

VT_INLINE F sigmoid(F x) {
    const F e = exp(-fabs(x)), s = F::all(1.0f) / (F::all(1.0f) + e);
    return select_less(x, F::zero(), e * s, s);
}
VT_INLINE F silu(F x) { return x * sigmoid(x); }
VT_INLINE F softplus(F x) { return fmax(x, F::zero()) + log1p(exp(-fabs(x))); }

VT_INLINE F tanh(F x) {
    const F a = fabs(x), s = x * x;
    const F p = polynomial(s, {-0.3333328392f, 0.133314912f, -0.0537434917f, 0.0206505685f, -0.0057170258f});
    const F small = fma(p * s, x, x);
    const F large = F::all(1.0f) - F::all(2.0f) / (exp(a + a) + F::all(1.0f));
    return select_less(a, F::all(0.625f), small, with_sign(large, x));
}

VT_INLINE F erf(F x) {
    const F a = fmin(fabs(x), F::all(4.0f)), s = a * a;
    const F p = polynomial(s, {0.12837916591f, -0.37612627136f, 0.11283600174f, -0.026854444514f, 0.005189535189f,
                               -0.00080208399399f, 0.000078891150547f});
    const F small = fma(p, x, x);
    const F q = polynomial(a, {-1.1285995872f, -0.63541011053f, -0.10566907663f, 0.023091658214f, -0.0031820254183f,
                               0.00013875318212f, 0.000028434693306f, -0.0000035569520608f});
    const F large = F::all(1.0f) - exp(a * q);
    return select_less(a, F::all(1.0f), small, with_sign(large, x));
}

VT_INLINE F gelu(F x) { return x * 0.5f * (F::all(1.0f) + erf(x * 0.70710678f)); }
VT_INLINE F gelu_tanh(F x) { return x * 0.5f * (F::all(1.0f) + tanh(fma(x * x * 0.044715f, x, x) * 0.79788456f)); }

// Asks for the cache line at p, some time before it is read.
VT_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }

}  // namespace VT_ISA
}  // namespace vt
