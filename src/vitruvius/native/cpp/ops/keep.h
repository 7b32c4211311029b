// Reading and writing what sequences keep of their tokens, in the blocks that state.h draws.
#pragma once

#include "basic.h"

namespace vt {
namespace VT_ISA {

constexpr int size_of(Store store) { return store == Store::f32 ? 4 : store == Store::f16 ? 2 : 1; }

// 16 numbers as floats, from number `at` on; those of q8 without their scale.
VT_INLINE F numbers(const void* p, int64_t at, Store store) {
    if (store == Store::f32) return F::load(static_cast<const float*>(p) + at);
    if (store == Store::f16) return F::load_f16(static_cast<const uint16_t*>(p) + at);
    return F::load_s8(static_cast<const int8_t*>(p) + at);
}

// The first n of them, the others 0.
VT_INLINE F numbers(const void* p, int64_t at, Store store, int n) {
    if (n == LANES) return numbers(p, at, store);
    alignas(64) uint8_t some[LANES * sizeof(float)] = {};
    memcpy(some, static_cast<const uint8_t*>(p) + at * size_of(store), static_cast<size_t>(n * size_of(store)));
    return numbers(some, 0, store);
}

// A block of 16 keys or values.
struct Kept {
    uint8_t* block;
    Store store;
    int channels;
    bool key;

    // Which number of the block a channel of a slot is, where the scales of q8 count as numbers too.
    VT_INLINE int64_t at(int channel, int slot) const {
        const int scales = store == Store::q8 ? 32 : 0;  // for each 32 channels
        if (key) return channel * LANES + slot + (channel / 32 + 1) * scales;
        return int64_t{slot} * channels + channel + ceil_div(channels, 32) * scales;
    }
    // The scales of the 16 slots for the 32 channels with this one.
    VT_INLINE uint16_t* scales(int channel) const {
        return reinterpret_cast<uint16_t*>(block + channel / 32 * (key ? 32 + 32 * LANES : 32));
    }
    VT_INLINE F scale(int channel) const { return store == Store::q8 ? F::load_f16(scales(channel)) : F::all(1); }

    // n channels of a slot.
    template <class T> VT_INLINE void set(const T* x, int n, int channel, int slot) const {
        T* const to = reinterpret_cast<T*>(block) + at(channel, slot);
        for (int i = 0; i < n; ++i) to[i * (key ? LANES : 1)] = x[i];
    }
    VT_INLINE float get(int channel, int slot) const {
        const int64_t i = at(channel, slot);
        if (store == Store::f32) return reinterpret_cast<const float*>(block)[i];
        if (store == Store::f16) return from_half(reinterpret_cast<const uint16_t*>(block)[i]);
        return from_half(scales(channel)[slot]) * static_cast<float>(reinterpret_cast<const int8_t*>(block)[i]);
    }
};

VT_INLINE Kept keys_of(const Step& s, const Sequence& sequence, int state, int head, int block) {
    return {sequence.key_block(state, head, block), sequence.store, s.state(state).k_dim, true};
}
VT_INLINE Kept values_of(const Step& s, const Sequence& sequence, int state, int head, int block) {
    return {sequence.value_block(state, head, block), sequence.store, s.state(state).v_dim, false};
}

// 32 numbers as scale · int8: the scale, as float16.
VT_INLINE uint16_t quantized(F a, F b, int8_t* codes) {
    const uint16_t scale = to_half(maximum(fmax(fabs(a), fabs(b))) / 127);
    const float inverse = from_half(scale) > 0 ? 1 / from_half(scale) : 0;
    const F low = F::all(-127), high = F::all(127);
    fmin(fmax(a * inverse, low), high).store_s8(codes);
    fmin(fmax(b * inverse, low), high).store_s8(codes + LANES);
    return scale;
}

// A head's key or value into its slot; x are those of all heads.
VT_INLINE void keep_one(const float* x, int head, const Kept& to, int slot) {
    for (int c = 0; c < to.channels; c += 32) {
        const int n = least(32, to.channels - c);
        uint16_t halves[32];
        int8_t codes[32];
        const float* const part = x + int64_t{head} * to.channels + c;
        const F a = load(part, least(n, LANES)), b = load(part + LANES, between(n - LANES, 0, LANES));
        if (to.store == Store::f32) {
            to.set(part, n, c, slot);
        } else if (to.store == Store::f16) {
            a.store_f16(halves), b.store_f16(halves + LANES);
            to.set(halves, n, c, slot);
        } else {
            to.scales(c)[slot] = quantized(a, b, codes);
            to.set(codes, n, c, slot);
        }
    }
}

// Calls what(sequence, row) for some rows of the step.
template <class Do> VT_INLINE void each_sequence_row(const Step& s, Range rows, const Do& what) {
    for (const Part& part : s)
        for (int row = part.row0; row < part.row0 + part.rows; ++row)
            if (row >= rows.begin && row < rows.end) what(*part.sequence, row);
}

// A block of keys as floats, [channel][16].
VT_INLINE void keys_as_floats(const Kept& keys, float* out) {
    for (int c = 0; c < keys.channels; c += 32) {
        const F scale = keys.scale(c);
        const int64_t at = keys.at(c, 0);
        for (int i = 0; i < 32 && c + i < keys.channels; ++i)
            (numbers(keys.block, at + i * LANES, keys.store) * scale).store(out + (c + i) * LANES);
    }
}

// Values of slots [begin, end) of a block as floats, `stride` apart, with zeros behind their channels.
VT_INLINE void values_as_floats(const Kept& values, int begin, int end, float* out, int stride) {
    each_strip(values.channels, [&](int c, int n) {
        alignas(64) float scale[LANES];
        values.scale(c).store(scale);
        for (int slot = begin; slot < end; ++slot) {
            const F a = numbers(values.block, values.at(c, slot), values.store, n);
            (a * scale[slot]).store(out + int64_t{slot - begin} * stride + c);
        }
    });
}

// [channel][16 slots] → [slot][channel], `stride` apart: latent attention's values are the first channels of its keys.
VT_INLINE void transposed(const float* keys, int channels, float* out, int stride) {
    typedef float Four __attribute__((vector_size(16)));
    const auto low = [](Four x, Four y) { return __builtin_shufflevector(x, y, 0, 4, 1, 5); };
    const auto high = [](Four x, Four y) { return __builtin_shufflevector(x, y, 2, 6, 3, 7); };
    int c = 0;
    for (; c + 4 <= channels; c += 4) {
        for (int slot = 0; slot < LANES; slot += 4) {
            Four a[4];
            for (int i = 0; i < 4; ++i) memcpy(&a[i], keys + (c + i) * LANES + slot, 16);
            const Four even[2] = {low(a[0], a[2]), high(a[0], a[2])}, odd[2] = {low(a[1], a[3]), high(a[1], a[3])};
            for (int i = 0; i < 4; ++i) {
                const Four b = i % 2 ? high(even[i / 2], odd[i / 2]) : low(even[i / 2], odd[i / 2]);
                memcpy(out + int64_t{slot + i} * stride + c, &b, 16);
            }
        }
    }
    for (; c < channels; ++c)
        for (int slot = 0; slot < LANES; ++slot) out[int64_t{slot} * stride + c] = keys[c * LANES + slot];
}

}  // namespace VT_ISA
}  // namespace vt
