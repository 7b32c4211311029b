// Choosing experts for each row, and sorting the choices by expert.
//
// A pair is a row and one of the `active` experts that it chose, number row · active + slot. `route` sorts the pairs by
// expert into the buffer `groups`, so that afterwards an expert's rows lie side by side and its matrix is read once:
//
//   groups (int32)    n, 0 | the pairs, sorted | for each of n experts: its number, its first pair, its last pair + 1
#pragma once

#include <cmath>

#include "../scratch.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

// The experts of one row and how they rank, with what finds the highest fast.
struct Ranks {
    float *score, *rank;  // padded to whole strips of 16; rank with −∞
    float* highest;       // rank of each strip, padded with −∞
    float* group;         // score of each group
    int experts, strips;

    VT_INLINE Ranks(float* memory, int experts) : experts(experts), strips(static_cast<int>(ceil_div(experts, LANES))) {
        score = memory;
        rank = score + strips * LANES;
        highest = rank + strips * LANES;
        group = highest + route_strips(experts);
        for (int64_t i = strips; i < route_strips(experts); ++i) highest[i] = -INFINITY;
    }

    VT_INLINE void update(int strip) { highest[strip] = maximum(F::load(rank + strip * LANES)); }
    // The first expert of the highest rank, which is then out of it.
    VT_INLINE int take() {
        F most = F::load(highest);
        for (int i = LANES; i < strips; i += LANES) most = fmax(most, F::load(highest + i));
        const float wanted = maximum(most);
        int strip = 0, lane = 0;
        while (strip < strips - 1 && highest[strip] != wanted) ++strip;
        const int last = strip < strips - 1 ? LANES - 1 : experts - 1 - strip * LANES;
        while (lane < last && rank[strip * LANES + lane] != wanted) ++lane;
        rank[strip * LANES + lane] = -INFINITY;
        update(strip);
        return strip * LANES + lane;
    }
};

// Scores: softmax or sigmoid of the logits.
VT_INLINE void score(const op_route& o, const float* logits, Ranks& r) {
    const bool softmax = o.score == score_kind::softmax;
    F most = F::all(-INFINITY), total = F::zero();
    memcpy(r.score, logits, static_cast<size_t>(r.experts) * sizeof(float));
    for (int i = r.experts; i < r.strips * LANES; ++i) r.score[i] = -INFINITY;
    for (int i = 0; i < r.strips * LANES; i += LANES) {
        F x = F::load(r.score + i);
        if (o.softcap > 0) x = tanh(x * (1 / o.softcap)) * o.softcap;
        if (!softmax) x = sigmoid(x);
        x.store(r.score + i);
        most = fmax(most, x);
    }
    if (!softmax) return;
    for (int i = r.experts; i < r.strips * LANES; ++i) r.score[i] = -INFINITY;
    most = F::all(maximum(most));
    for (int i = 0; i < r.strips * LANES; i += LANES) {
        const F e = exp(F::load(r.score + i) - most);
        e.store(r.score + i);
        total += e;
    }
    const F all = F::all(sum(total));
    for (int i = 0; i < r.strips * LANES; i += LANES) (F::load(r.score + i) / all).store(r.score + i);
}

// Leaves only the experts of the best groups in the ranking.
VT_INLINE void limit(const op_route& o, Ranks& r) {
    const int size = r.experts / o.group_count;
    for (int g = 0; g < o.group_count; ++g) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; ++i) {
            second = fmaxf(second, fminf(first, r.rank[i]));
            first = fmaxf(first, r.rank[i]);
        }
        r.group[g] = o.group_score == group_score_kind::max ? first : first + second;
    }
    for (int g = 0; g < o.group_count; ++g) {
        int better = 0;
        for (int i = 0; i < o.group_count; ++i) better += r.group[i] > r.group[g] || (r.group[i] == r.group[g] && i < g);
        if (better < o.group_active) continue;
        for (int i = g * size; i < (g + 1) * size; ++i) r.rank[i] = -INFINITY;
    }
}

VT_INLINE void choose(const Step& s, const op_route& o, int row) {
    Ranks r(s.local<float>(), s.width(o.logits));
    int32_t* chosen = reinterpret_cast<int32_t*>(s.row(o.chosen, row));
    float *weights = s.row(o.weights, row), total = 0;
    const float *correction = s.vector(o.correction), *expert_scale = s.vector(o.expert_scale);
    score(o, s.row(o.logits, row), r);
    each_strip(r.experts, [&](int c, int n) {
        store(r.rank + c, n, correction ? load(r.score + c, n) + load(correction + c, n) : load(r.score + c, n));
    });
    for (int i = r.experts; i < r.strips * LANES; ++i) r.rank[i] = -INFINITY;
    if (o.group_count) limit(o, r);
    for (int i = 0; i < r.strips; ++i) r.update(i);
    for (int k = 0; k < o.active; ++k) {
        chosen[k] = r.take();
        weights[k] = r.score[chosen[k]];
        total += weights[k];
    }
    const float factor = o.normalize < 0 ? o.scale : o.scale / (total + o.normalize);
    for (int k = 0; k < o.active; ++k) weights[k] *= expert_scale ? factor * expert_scale[chosen[k]] : factor;
}

// Takes the weight from those who come when an expert has had `capacity` tokens of their sequence already.
VT_INLINE void turn_away(const Step& s, const op_route& o, int32_t* counts) {
    for (const Part& part : s) {
        memset(counts, 0, static_cast<size_t>(s.width(o.logits)) * sizeof(int32_t));
        for (int r = part.row0; r < part.row0 + part.rows; ++r) {
            const int32_t* chosen = reinterpret_cast<const int32_t*>(s.row(o.chosen, r));
            for (int k = 0; k < o.active; ++k)
                if (++counts[chosen[k]] > o.capacity) s.row(o.weights, r)[k] = 0;
        }
    }
}

// Counts the pairs of each expert, then puts each pair where its expert's begin.
VT_INLINE void sort_pairs(const Step& s, const op_route& o, int32_t* next) {
    const int experts = s.width(o.logits);
    int32_t *groups = reinterpret_cast<int32_t*>(s.row(o.groups, 0)), *pairs = groups + 2;
    int32_t* span = pairs + s.rows * o.active;
    const auto expert = [&](int row, int k) { return reinterpret_cast<const int32_t*>(s.row(o.chosen, row))[k]; };
    memset(next, 0, static_cast<size_t>(experts) * sizeof(int32_t));
    for (int r = 0; r < s.rows; ++r)
        for (int k = 0; k < o.active; ++k) ++next[expert(r, k)];
    groups[0] = groups[1] = 0;
    for (int e = 0, begin = 0; e < experts; ++e) {
        const int end = begin + next[e];
        next[e] = begin;
        if (begin == end) continue;
        span[0] = e, span[1] = begin, span[2] = end;
        span += 3;
        ++groups[0];
        begin = end;
    }
    for (int r = 0; r < s.rows; ++r)
        for (int k = 0; k < o.active; ++k) pairs[next[expert(r, k)]++] = r * o.active + k;
}

inline void run(const Step& s, const op_route& o) {
    each_row(s, [&](int r) { choose(s, o, r); });
    s.sync();
    if (s.thread != 0) return;
    if (o.capacity >= 0) turn_away(s, o, s.shared<int32_t>());
    sort_pairs(s, o, s.shared<int32_t>());
}

}  // namespace VT_ISA
}  // namespace vt
