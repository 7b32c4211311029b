// References of ops/attention.cpp: the equations, a number at a time.
#pragma once

#include <cmath>

#include "../half.h"
#include "../step.h"

namespace vt {
namespace VT_ISA {

// Where a number of a block is: `key` blocks are interleaved, value blocks are not (state.h).
struct Numbers {
    uint8_t* block;
    Store store;
    int channels;
    bool key;

    int64_t at(int channel, int slot) const { return key ? channel * 16 + slot : slot * channels + channel; }
    uint16_t& half(int channel, int slot) const { return reinterpret_cast<uint16_t*>(block)[at(channel, slot)]; }
    float& single(int channel, int slot) const { return reinterpret_cast<float*>(block)[at(channel, slot)]; }
    uint16_t& scale(int channel, int slot) const {
        return reinterpret_cast<uint16_t*>(block + channel / 32 * (key ? 544 : 32))[slot];
    }
    int8_t& code(int channel, int slot) const {
        uint8_t* const codes = key ? block + channel / 32 * 544 + 32 : block + (channels + 31) / 32 * 32;
        return reinterpret_cast<int8_t*>(codes)[at(key ? channel % 32 : channel, slot)];
    }
    float get(int channel, int slot) const {
        if (store == Store::f32) return single(channel, slot);
        if (store == Store::f16) return from_half(half(channel, slot));
        return from_half(scale(channel, slot)) * static_cast<float>(code(channel, slot));
    }
    void set(const float* x, int slot) const {
        for (int c = 0; c < channels; ++c) {
            if (store == Store::f32) single(c, slot) = x[c];
            if (store == Store::f16) half(c, slot) = to_half(x[c]);
            if (store != Store::q8) continue;
            float most = 0;
            for (int i = c / 32 * 32; i < channels && i < c / 32 * 32 + 32; ++i) most = fmaxf(most, fabsf(x[i]));
            scale(c, slot) = to_half(most / 127);
            const float by = from_half(scale(c, slot));
            code(c, slot) = static_cast<int8_t>(by > 0 ? fminf(fmaxf(rintf(x[c] / by), -127), 127) : 0);
        }
    }
};

inline Numbers keys_at(const Step& s, const Sequence& sequence, int state, int head, int slot) {
    return {sequence.key_block(state, head, slot / 16), sequence.store, s.state(state).k_dim, true};
}
inline Numbers values_at(const Step& s, const Sequence& sequence, int state, int head, int slot) {
    if (s.state(state).v_dim == 0) return keys_at(s, sequence, state, head, slot);
    return {sequence.value_block(state, head, slot / 16), sequence.store, s.state(state).v_dim, false};
}

void run(const Step& s, const op_keep& o) {
    const StateSpec& state = s.state(o.state);
    if (s.thread != 0) return;
    for (const Part& part : s)
        for (int r = 0; r < part.rows; ++r)
            for (int h = 0; h < state.heads; ++h) {
                const int slot = (part.start + r) % part.sequence->place(o.state).slots, row = part.row0 + r;
                keys_at(s, *part.sequence, o.state, h, slot).set(s.row(o.k, row) + h * state.k_dim, slot % 16);
                if (o.v < 0) continue;
                values_at(s, *part.sequence, o.state, h, slot).set(s.row(o.v, row) + h * state.v_dim, slot % 16);
            }
}

// Whether the query at position p sees the key at position k ≤ p.
inline bool sees(const op_attend& o, const int32_t* chosen, int room, int p, int k) {
    if (k < o.first) return false;
    if (o.mask == mask_kind::window) return p - k < o.size;
    if (o.mask == mask_kind::chunk) return p / o.size == k / o.size;
    if (o.mask == mask_kind::causal) return true;
    const int count = chosen[0] < room ? chosen[0] : room;
    for (int i = 1; i <= count; ++i)
        if (chosen[i] == k) return true;
    return false;
}

inline float score(const Step& s, const op_attend& o, const float* q, const Numbers& key, int head, int p, int k, int slot) {
    float x = 0;
    for (int c = 0; c < key.channels; ++c) x += q[c] * key.get(c, slot % 16);
    x *= o.scale;
    if (o.bias >= 0) {
        const int distances = s.size(o.bias) / o.heads, distance = p - k < distances ? p - k : distances - 1;
        x += s.vector(o.bias)[head * distances + distance];
    }
    if (o.softcap > 0) x = o.softcap * tanhf(x / o.softcap);
    if (o.length && p > o.length) x *= logf(static_cast<float>(p)) / logf(static_cast<float>(o.length));
    return x;
}

// One head of one query: twice over all keys, first for the highest score.
inline void attend_one(const Step& s, const op_attend& o, const Part& part, int r, int head, float* y) {
    const StateSpec& state = s.state(o.state);
    const int row = part.row0 + r, p = part.start + r, kv = head / (o.heads / state.heads);
    const int slots = part.sequence->place(o.state).slots, width = state.value_dim();
    const float *const q = s.row(o.q, row) + head * state.k_dim, *const sinks = s.vector(o.sinks);
    const int32_t* chosen = o.selection < 0 ? nullptr : reinterpret_cast<const int32_t*>(s.row(o.selection, row));
    const int room = chosen ? s.width(o.selection) - 1 : 0;
    float most = sinks ? sinks[head] : -1e30f, total = 0;
    for (int c = 0; c < width; ++c) y[c] = 0;
    for (int second = 0; second < 2; ++second) {
        if (second && sinks) total = expf(sinks[head] - most);
        for (int k = p < slots ? 0 : p - slots + 1; k <= p; ++k) {
            if (!sees(o, chosen, room, p, k)) continue;
            const int slot = k % slots;
            const float x = score(s, o, q, keys_at(s, *part.sequence, o.state, kv, slot), head, p, k, slot);
            if (!second) most = fmaxf(most, x);
            if (!second) continue;
            total += expf(x - most);
            for (int c = 0; c < width; ++c)
                y[c] += expf(x - most) * values_at(s, *part.sequence, o.state, kv, slot).get(c, slot % 16);
        }
    }
    for (int c = 0; c < width; ++c) y[c] = total > 0 ? y[c] / total : 0;
}

void run(const Step& s, const op_attend& o) {
    const int width = s.state(o.state).value_dim();
    for (const Part& part : s)
        for (int r = s.thread; r < part.rows; r += s.threads)
            for (int h = 0; h < o.heads; ++h) attend_one(s, o, part, r, h, s.row(o.y, part.row0 + r) + h * width);
}

}  // namespace VT_ISA
}  // namespace vt
