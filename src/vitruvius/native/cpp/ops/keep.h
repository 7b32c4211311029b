// Reading and writing what sequences keep of their tokens, in the blocks that state.h draws.
#pragma once

#include "../lanes.h"
#include "../step.h"

namespace vt {
namespace VT_ISA {

struct F32Store {
    static constexpr int size = 4;
    static VT_INLINE F load(const uint8_t* p) { return F::load(reinterpret_cast<const float*>(p)); }
};
struct F16Store {
    static constexpr int size = 2;
    static VT_INLINE F load(const uint8_t* p) { return F::load_f16(reinterpret_cast<const uint16_t*>(p)); }
};

// Up to 32 numbers as scale · int8: the scale, as float16.
VT_INLINE uint16_t quantized(const float* x, int n, int8_t* q) {
    float padded[32] = {};
    memcpy(padded, x, static_cast<size_t>(n) * sizeof(float));
    const F a = F::load(padded), b = F::load(padded + LANES);
    const uint16_t scale = to_half(maximum(fmax(fabs(a), fabs(b))) / 127);
    const float inverse = from_half(scale) > 0 ? 1 / from_half(scale) : 0;
    const F low = F::all(-127), high = F::all(127);
    fmin(fmax(a * inverse, low), high).store_s8(q);
    fmin(fmax(b * inverse, low), high).store_s8(q + LANES);
    return scale;
}

// One key or value into its slot of a block; channels are `step` elements apart there.
VT_INLINE void keep_one(const float* x, int channels, Store store, uint8_t* block, int slot, bool key) {
    const int64_t step = key ? LANES : 1, start = key ? slot : int64_t{slot} * channels;
    int8_t* codes = reinterpret_cast<int8_t*>(block) + (channels + 31) / 32 * 32;  // behind the scales of a value block
    for (int c = 0; c < channels; c += 32) {
        const int n = channels - c < 32 ? channels - c : 32;
        if (store == Store::f32) {
            for (int i = 0; i < n; ++i) reinterpret_cast<float*>(block)[start + (c + i) * step] = x[c + i];
        } else if (store == Store::f16) {
            float padded[32] = {};
            uint16_t halves[32];
            memcpy(padded, x + c, static_cast<size_t>(n) * sizeof(float));
            F::load(padded).store_f16(halves), F::load(padded + LANES).store_f16(halves + LANES);
            for (int i = 0; i < n; ++i) reinterpret_cast<uint16_t*>(block)[start + (c + i) * step] = halves[i];
        } else {
            int8_t q[32];
            uint8_t* const scales = key ? block + c / 32 * (32 + 32 * LANES) : block + c / 32 * 32;
            reinterpret_cast<uint16_t*>(scales)[slot] = quantized(x + c, n, q);
            int8_t* const to = key ? reinterpret_cast<int8_t*>(scales + 32) - c * step : codes;
            for (int i = 0; i < n; ++i) to[start + (c + i) * step] = q[i];
        }
    }
}

inline void run(const Step& s, const op_keep& o) {
    const StateSpec& state = s.state(o.state);
    const Range mine = s.mine(s.rows);
    for (const Part& part : s) {
        const Sequence& sequence = *part.sequence;
        const int slots = sequence.place(o.state).slots;
        for (int r = 0; r < part.rows; ++r) {
            const int row = part.row0 + r, slot = (part.start + r) % slots;
            if (row < mine.begin || row >= mine.end) continue;
            for (int h = 0; h < state.heads; ++h) {
                keep_one(s.row(o.k, row) + int64_t{h} * state.k_dim, state.k_dim, sequence.store,
                         sequence.key_block(o.state, h, slot / LANES), slot % LANES, true);
                if (o.v >= 0)
                    keep_one(s.row(o.v, row) + int64_t{h} * state.v_dim, state.v_dim, sequence.store,
                             sequence.value_block(o.state, h, slot / LANES), slot % LANES, false);
            }
        }
    }
}

// A key block as floats, [channel][16].
VT_INLINE void keys_as_floats(const uint8_t* block, Store store, int channels, float* out) {
    for (int c = 0; c < channels; c += 32) {
        const int n = channels - c < 32 ? channels - c : 32;
        const uint8_t* const scales = block + c / 32 * (32 + 32 * LANES);
        if (store == Store::q8) {
            const F scale = F::load_f16(reinterpret_cast<const uint16_t*>(scales));
            const auto* const q = reinterpret_cast<const int8_t*>(scales + 32);
            for (int i = 0; i < n; ++i) (F::load_s8(q + i * LANES) * scale).store(out + (c + i) * LANES);
        } else {
            for (int i = c; i < c + n; ++i)
                (store == Store::f16 ? F16Store::load(block + i * 32) : F32Store::load(block + i * 64)).store(out + i * LANES);
        }
    }
}

// Up to 16 numbers of a row of values, `at` counting from the block's first.
VT_INLINE F value_strip(const uint8_t* block, const uint8_t* codes, Store store, int64_t at, int n) {
    const auto* const halves = reinterpret_cast<const uint16_t*>(block) + at;
    const auto* const q = reinterpret_cast<const int8_t*>(codes) + at;
    if (store == Store::f32) return F::load_some(reinterpret_cast<const float*>(block) + at, n);
    if (n == LANES) return store == Store::f16 ? F::load_f16(halves) : F::load_s8(q);
    uint16_t some[LANES] = {};
    int8_t few[LANES] = {};
    if (store == Store::f16) memcpy(some, halves, static_cast<size_t>(n) * 2);
    else memcpy(few, q, static_cast<size_t>(n));
    return store == Store::f16 ? F::load_f16(some) : F::load_s8(few);
}

// Values of slots [begin, end) of a block as floats, `width` apart, with zeros behind their channels.
VT_INLINE void values_as_floats(const uint8_t* block, Store store, int channels, int begin, int end, float* out,
                                int width) {
    alignas(64) float scale[LANES];
    F::all(1).store(scale);
    const uint8_t* const codes = block + (channels + 31) / 32 * 32;
    for (int c = 0; c < channels; c += LANES) {
        const int n = channels - c < LANES ? channels - c : LANES;
        if (store == Store::q8) F::load_f16(reinterpret_cast<const uint16_t*>(block + c / 32 * 32)).store(scale);
        for (int slot = begin; slot < end; ++slot) {
            const F a = value_strip(block, codes, store, int64_t{slot} * channels + c, n);
            (a * scale[slot]).store(out + int64_t{slot - begin} * width + c);
        }
    }
}

// [channel][16 slots] → [slot][channel], `width` apart: latent attention's values are the first channels of its keys.
VT_INLINE void transposed(const float* keys, int channels, float* out, int width) {
    typedef float Four __attribute__((vector_size(16)));
    int c = 0;
    for (; c + 4 <= channels; c += 4) {
        for (int slot = 0; slot < LANES; slot += 4) {
            Four a[4], b[4];
            for (int i = 0; i < 4; ++i) memcpy(&a[i], keys + (c + i) * LANES + slot, 16);
            const Four t0 = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5), t1 = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
            const Four t2 = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7), t3 = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
            b[0] = __builtin_shufflevector(t0, t1, 0, 1, 4, 5), b[1] = __builtin_shufflevector(t0, t1, 2, 3, 6, 7);
            b[2] = __builtin_shufflevector(t2, t3, 0, 1, 4, 5), b[3] = __builtin_shufflevector(t2, t3, 2, 3, 6, 7);
            for (int i = 0; i < 4; ++i) memcpy(out + int64_t{slot + i} * width + c, &b[i], 16);
        }
    }
    for (; c < channels; ++c)
        for (int slot = 0; slot < LANES; ++slot) out[int64_t{slot} * width + c] = keys[c * LANES + slot];
}

// One channel of one key.
VT_INLINE float key_at(const uint8_t* block, Store store, int channel, int slot) {
    if (store == Store::f32) return reinterpret_cast<const float*>(block)[channel * LANES + slot];
    if (store == Store::f16) return from_half(reinterpret_cast<const uint16_t*>(block)[channel * LANES + slot]);
    const uint8_t* const scales = block + channel / 32 * (32 + 32 * LANES);
    const auto* const q = reinterpret_cast<const int8_t*>(scales + 32);
    return from_half(reinterpret_cast<const uint16_t*>(scales)[slot]) * static_cast<float>(q[channel % 32 * LANES + slot]);
}

}  // namespace VT_ISA
}  // namespace vt
