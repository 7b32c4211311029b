// Choosing experts for each row, and sorting the choices by expert.
//
// A pair is a row and one of the `active` experts that it chose, number row · active + slot. `route` sorts the pairs by
// expert into the buffer `groups`, so that afterwards an expert's rows lie side by side and its matrix is read once:
//
//   groups (int32)    n, 0 | the pairs, sorted | for each of n experts: its number, its first pair, its last pair + 1
#include <cmath>

#include "../groups.h"
#include "../scratch.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

// Of n numbers, with −∞ behind them up to whole strips.
VT_INLINE float highest(const float* x, int n) {
    F most = F::load(x);
    for (int i = LANES; i < n; i += LANES) most = fmax(most, F::load(x + i));
    return maximum(most);
}

// Softmax or sigmoid of n logits; what stands behind them up to whole strips is −∞.
VT_INLINE void score(const op_route& o, const float* logits, int n, float* scores) {
    map(logits, scores, n, [&](int, int, F x) {
        if (o.softcap > 0) x = tanh(x * (1 / o.softcap)) * o.softcap;
        return o.score == score_kind::sigmoid ? sigmoid(x) : x;
    });
    if (o.score == score_kind::sigmoid) return;
    const F most = F::all(highest(scores, n));
    F total = F::zero();
    map(scores, scores, static_cast<int>(padded(n)), [&](int, int, F x) { return exp(x - most); });
    for (int i = 0; i < n; i += LANES) total += F::load(scores + i);
    const F all = F::all(sum(total));
    map(scores, scores, n, [&](int, int, F x) { return x / all; });
}

// Leaves only the experts of the best groups in the ranking.
VT_INLINE void limit(const op_route& o, int experts, float* rank, float* group) {
    const int size = experts / o.group_count;
    for (int g = 0; g < o.group_count; ++g) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; ++i) {
            second = fmaxf(second, fminf(first, rank[i]));
            first = fmaxf(first, rank[i]);
        }
        group[g] = o.group_score == group_score_kind::max ? first : first + second;
    }
    for (int g = 0; g < o.group_count; ++g) {
        int better = 0;
        for (int i = 0; i < o.group_count; ++i) better += group[i] > group[g] || (group[i] == group[g] && i < g);
        for (int i = g * size; i < (g + 1) * size && better >= o.group_active; ++i) rank[i] = -INFINITY;
    }
}

// The first expert of the highest rank, which is then out of it.
VT_INLINE int take(float* rank, int experts) {
    const float wanted = highest(rank, experts);
    int expert = 0;
    while (expert < experts - 1 && rank[expert] != wanted) ++expert;
    rank[expert] = -INFINITY;
    return expert;
}

VT_INLINE void choose(const Step& s, const op_route& o, int row) {
    const int experts = s.width(o.logits);
    float *const scores = s.local<float>(), *const rank = scores + padded(experts),
                 *const group = rank + padded(experts);
    for (int64_t i = experts; i < padded(experts); ++i) scores[i] = rank[i] = -INFINITY;
    int32_t* const chosen = s.integers(o.chosen, row);
    float *const weights = s.row(o.weights, row), total = 0;
    const float *const correction = s.vector(o.selection_bias), *const expert_scale = s.vector(o.expert_scale);
    score(o, s.row(o.logits, row), experts, scores);
    map(scores, rank, experts, [&](int c, int n, F x) { return correction ? x + load(correction + c, n) : x; });
    if (o.group_count) limit(o, experts, rank, group);
    for (int k = 0; k < o.active; ++k) {
        chosen[k] = take(rank, experts);
        weights[k] = scores[chosen[k]];
        total += weights[k];
    }
    const float factor = o.norm_topk_eps < 0 ? o.scale : o.scale / (total + o.norm_topk_eps);
    for (int k = 0; k < o.active; ++k) weights[k] *= expert_scale ? factor * expert_scale[chosen[k]] : factor;
}

// Takes the weight from those who come when an expert has had `capacity` tokens of their sequence already.
VT_INLINE void turn_away(const Step& s, const op_route& o, int32_t* counts) {
    for (const Part& part : s) {
        memset(counts, 0, static_cast<size_t>(s.width(o.logits)) * sizeof(int32_t));
        for (int r = part.row0; r < part.row0 + part.rows; ++r)
            for (int k = 0; k < o.active; ++k)
                if (++counts[s.integers(o.chosen, r)[k]] > o.capacity) s.row(o.weights, r)[k] = 0;
    }
}

// Counts the pairs of each expert, then puts each pair where its expert's begin.
VT_INLINE void sort_pairs(const Step& s, const op_route& o, int32_t* next) {
    int32_t *const groups = s.integers(o.groups, 0), *const pairs = groups + 2;
    auto* group = reinterpret_cast<Group*>(pairs + s.rows * o.active);
    memset(next, 0, static_cast<size_t>(s.width(o.logits)) * sizeof(int32_t));
    for (int r = 0; r < s.rows; ++r)
        for (int k = 0; k < o.active; ++k) ++next[s.integers(o.chosen, r)[k]];
    groups[0] = groups[1] = 0;
    for (int e = 0, begin = 0; e < s.width(o.logits); ++e) {
        const int end = begin + next[e];
        next[e] = begin;
        if (begin == end) continue;
        *group++ = {e, begin, end};
        ++groups[0];
        begin = end;
    }
    for (int r = 0; r < s.rows; ++r)
        for (int k = 0; k < o.active; ++k) pairs[next[s.integers(o.chosen, r)[k]]++] = r * o.active + k;
}

void run(const Step& s, const op_route& o) {
    each_row(s, [&](int r) { choose(s, o, r); });
    s.sync();
    if (s.thread != 0) return;
    if (o.capacity >= 0) turn_away(s, o, s.shared<int32_t>());
    sort_pairs(s, o, s.shared<int32_t>());
}

}  // namespace VT_ISA
}  // namespace vt
