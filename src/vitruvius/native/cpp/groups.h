// What `route` leaves for the experts' ops, in the buffer that ops/route.h draws.
#pragma once

#include "step.h"

namespace vt {

// The pairs [begin, end) of one expert.
struct Group {
    int expert, begin, end;
};

// What `route` has left. Nothing is believed that would lead outside memory: then there are no groups.
class Groups {
   public:
    VT_INLINE Groups(const Step& s, int buffer, int active, int experts)
        : words_(reinterpret_cast<const int32_t*>(s.row(buffer, 0))), active_(active), pairs_(s.rows * active) {
        count_ = words_[0] < 0 || words_[0] > pairs_ ? 0 : words_[0];
        bool right = true;
        for (int i = 0; i < pairs_; ++i) right &= words_[2 + i] >= 0 && words_[2 + i] < pairs_;
        for (int i = 0, at = 0; i < count_; ++i) {
            const Group g = (*this)[i];
            right &= g.expert >= 0 && g.expert < experts && g.begin == at && g.end > at && g.end <= pairs_;
            at = g.end;
        }
        if (!right) count_ = 0;
    }

    VT_INLINE int size() const { return count_; }
    VT_INLINE int pairs() const { return pairs_; }
    VT_INLINE Group operator[](int i) const {
        const int32_t* span = words_ + 2 + pairs_ + 3 * i;
        return {span[0], span[1], span[2]};
    }
    // Of the pair that stands at that place in the order.
    VT_INLINE int row(int place) const { return words_[2 + place] / active_; }
    VT_INLINE int slot(int place) const { return words_[2 + place] % active_; }

   private:
    const int32_t* words_;
    const int active_, pairs_;
    int count_;
};

}  // namespace vt
