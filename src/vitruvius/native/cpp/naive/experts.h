// References of ops/route.cpp and ops/experts.cpp: expert by expert, a number at a time. Thread 0 does everything.
#pragma once

#include <vector>

#include "../groups.h"
#include "../scratch.h"
#include "matmul.h"

namespace vt {
namespace VT_ISA {

inline std::vector<float> scores_of(const op_route& o, const float* logits, int experts) {
    std::vector<float> scores(logits, logits + experts);
    float most = -INFINITY, total = 0;
    for (float& x : scores) {
        if (o.softcap > 0) x = o.softcap * tanhf(x / o.softcap);
        most = fmaxf(most, x);
    }
    for (float& x : scores) total += x = o.score == score_kind::softmax ? expf(x - most) : 1 / (1 + expf(-x));
    for (float& x : scores) x = o.score == score_kind::softmax ? x / total : x;
    return scores;
}

// How many come before number i: are higher, or as high with a lower number.
inline int before(const std::vector<float>& x, int i) {
    int count = 0;
    for (int j = 0; j < static_cast<int>(x.size()); ++j) count += x[j] > x[i] || (x[j] == x[i] && j < i);
    return count;
}

// Ranks without the experts whose group is not among the best.
inline std::vector<float> limited(const op_route& o, std::vector<float> ranks) {
    const int size = static_cast<int>(ranks.size()) / o.group_count;
    std::vector<float> groups;
    for (int g = 0; g < o.group_count; ++g) {
        std::vector<float> members(ranks.begin() + g * size, ranks.begin() + (g + 1) * size);
        float score = 0;
        for (int i = 0; i < size; ++i)
            if (before(members, i) < (o.group_score == group_score_kind::max ? 1 : 2)) score += members[i];
        groups.push_back(score);
    }
    for (int i = 0; i < static_cast<int>(ranks.size()); ++i)
        if (before(groups, i / size) >= o.group_active) ranks[i] = -INFINITY;
    return ranks;
}

inline void choose(const Step& s, const op_route& o, int r) {
    const int experts = s.width(o.logits);
    const std::vector<float> scores = scores_of(o, s.row(o.logits, r), experts);
    std::vector<float> ranks = scores;
    for (int e = 0; e < experts && o.selection_bias >= 0; ++e) ranks[e] += s.vector(o.selection_bias)[e];
    if (o.group_count) ranks = limited(o, ranks);
    int32_t* chosen = reinterpret_cast<int32_t*>(s.row(o.chosen, r));
    float *weights = s.row(o.weights, r), total = 0;
    for (int k = 0; k < o.active; ++k) chosen[k] = k;  // where ranks are no numbers
    for (int e = 0; e < experts; ++e)
        if (before(ranks, e) < o.active) chosen[before(ranks, e)] = e;
    for (int k = 0; k < o.active; ++k) total += scores[chosen[k]];
    for (int k = 0; k < o.active; ++k) {
        weights[k] = o.scale * (o.norm_topk_eps < 0 ? scores[chosen[k]] : scores[chosen[k]] / (total + o.norm_topk_eps));
        if (o.expert_scale >= 0) weights[k] *= s.vector(o.expert_scale)[chosen[k]];
    }
}

void run(const Step& s, const op_route& o) {
    if (s.thread != 0) return;
    for (int r = 0; r < s.rows; ++r) choose(s, o, r);
    int32_t* groups = reinterpret_cast<int32_t*>(s.row(o.groups, 0));
    int count = 0, n = 0;
    const auto chosen = [&](int r, int k) { return reinterpret_cast<const int32_t*>(s.row(o.chosen, r))[k]; };
    for (int e = 0; e < s.width(o.logits); ++e) {
        const int begin = n;
        for (int r = 0; r < s.rows; ++r)
            for (int k = 0; k < o.active; ++k)
                if (chosen(r, k) == e) groups[2 + n++] = r * o.active + k;
        if (n == begin) continue;
        int32_t* span = groups + 2 + s.rows * o.active + 3 * count++;
        span[0] = e, span[1] = begin, span[2] = n;
    }
    groups[0] = count, groups[1] = 0;
    if (o.capacity < 0) return;
    for (const Part& part : s) {
        std::vector<int> taken(static_cast<size_t>(s.width(o.logits)));
        for (int r = part.row0; r < part.row0 + part.rows; ++r)
            for (int k = 0; k < o.active; ++k)
                if (++taken[chosen(r, k)] > o.capacity) s.row(o.weights, r)[k] = 0;
    }
}

// Calls work(expert, row, slot, place) for every pair in the order of the buffer `groups`.
template <class Op, class Work> void each_pair(const Step& s, const Op& o, Work work) {
    const Groups groups(s, o.groups, o.active, s.matrix(o.matrix).copies);
    for (const Group& g : groups)
        for (int at = g.begin; at < g.end; ++at) work(g.expert, groups.row(at), groups.slot(at), at);
}

// W x + bias of one expert for one row x.
inline std::vector<float> product(const Step& s, const Matrix& m, int bias, int expert, const std::vector<float>& x) {
    std::vector<float> y(static_cast<size_t>(m.rows));
    std::vector<Quantized> q(static_cast<size_t>(quantized_blocks(m.cols)));
    Input in{x.data(), m.cols, 1, nullptr, quantized_blocks(m.cols)};
    if (FORMAT[m.format].integer) {
        quantize_rows(x.data(), m.cols, 0, 1, m.cols, q.data(), in.q_stride);
        in.q = q.data();
    }
    matmul_outputs(m, expert, in, 0, m.rows, [&](int i, int, float a) {
        y[i] = bias < 0 ? a : a + s.vector(bias)[expert * m.rows + i];
    });
    return y;
}

// A row, times its expert's weight if that multiplies the input.
template <class Op> std::vector<float> weighed(const Step& s, const Op& o, const Matrix& m, int r, int k) {
    std::vector<float> x(s.row(o.x, r), s.row(o.x, r) + m.cols);
    for (float& a : x) a *= o.weights < 0 ? 1 : s.row(o.weights, r)[k];
    return x;
}

void run(const Step& s, const op_experts_glu& o) {
    if (s.thread != 0) return;
    const Matrix& m = s.matrix(o.matrix);
    each_pair(s, o, [&](int expert, int r, int k, int at) {
        const std::vector<float> y = product(s, m, o.bias, expert, weighed(s, o, m, r, k));
        for (int i = 0; i < m.rows / 2; ++i) {
            const int gate = i / LANES * 2 * LANES + i % LANES;
            s.row(o.y, 0)[at * (m.rows / 2) + i] = gated(o, y[gate], y[gate + LANES]);
        }
    });
}

void run(const Step& s, const op_experts_up& o) {
    if (s.thread != 0) return;
    const Matrix& m = s.matrix(o.matrix);
    each_pair(s, o, [&](int expert, int r, int k, int at) {
        const std::vector<float> y = product(s, m, o.bias, expert, weighed(s, o, m, r, k));
        for (int i = 0; i < m.rows; ++i) s.row(o.y, 0)[at * gathered_stride(m.rows) + i] = activate(o.act, y[i]);
    });
}

void run(const Step& s, const op_experts_down& o) {
    if (s.thread != 0) return;
    const Matrix& m = s.matrix(o.matrix);
    for (int r = 0; r < s.rows; ++r)
        for (int i = 0; i < m.rows; ++i) put(s.row(o.y, r)[i], 0, o.skip, o.scale);
    each_pair(s, o, [&](int expert, int r, int k, int at) {
        const float* x = s.row(o.x, 0) + at * gathered_stride(m.cols);
        const std::vector<float> y = product(s, m, o.bias, expert, std::vector<float>(x, x + m.cols));
        const float weight = o.weights < 0 ? 1 : s.row(o.weights, r)[k];
        for (int i = 0; i < m.rows; ++i) s.row(o.y, r)[i] += o.scale * weight * y[i];
    });
}

}  // namespace VT_ISA
}  // namespace vt
