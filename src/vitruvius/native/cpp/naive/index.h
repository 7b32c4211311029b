// Reference of ops/index.cpp: scores a number at a time, the highest found one after the other.
#pragma once

#include <vector>

#include "attention.h"
#include "basic.h"

namespace vt {
namespace VT_ISA {

void run(const Step& s, const op_index& o) {
    if (s.thread != 0) return;
    const int dim = s.state(o.state).k_dim;
    for (const Part& part : s) {
        for (int r = part.row0; r < part.row0 + part.rows; ++r) {
            std::vector<float> scores;
            for (int p = o.first; p <= s.position(r); ++p) {
                const Sequence& kept = *part.sequence;
                const Numbers key{kept.key_block(o.state, 0, p / LANES), kept.store, dim, true};
                float score = 0;
                for (int h = 0; h < o.heads; ++h) {
                    float product = 0;
                    for (int c = 0; c < dim; ++c) product += s.row(o.q, r)[h * dim + c] * key.get(c, p % LANES);
                    score += s.row(o.weights, r)[h] * fmaxf(product, 0);
                }
                scores.push_back(score);
            }
            int32_t* selection = reinterpret_cast<int32_t*>(s.row(o.selection, r));
            const int seen = static_cast<int>(scores.size());
            selection[0] = 0;
            for (int i = 0; i < seen; ++i) {
                int better = 0;
                for (int j = 0; j < seen; ++j) better += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
                if (better < o.topk && selection[0] < o.topk) selection[++selection[0]] = o.first + i;
            }
        }
    }
}

}  // namespace VT_ISA
}  // namespace vt
