// What `route` leaves for the experts' ops, in the buffer that ops/route.cpp draws.
#pragma once

#include "step.h"

namespace vt {

// The pairs [begin, end) of one expert.
struct Group {
    int32_t expert, begin, end;
};

// What `route` has left. Nothing is believed that would lead outside memory: then there are no groups.
struct Groups {
    const int active, pairs;
    const int32_t* const sorted;
    const Group *const first, *last;

    VT_INLINE Groups(const Step& s, int buffer, int active, int experts)
        : active(active),
          pairs(s.rows * active),
          sorted(s.integers(buffer, 0) + 2),
          first(reinterpret_cast<const Group*>(sorted + pairs)),
          last(first) {
        const int count = between(sorted[-2], 0, pairs);
        bool right = count == sorted[-2];
        for (int i = 0; i < pairs; ++i) right &= sorted[i] >= 0 && sorted[i] < pairs;
        for (int i = 0, at = 0; i < count; at = first[i++].end) {
            const Group& g = first[i];
            right &= g.expert >= 0 && g.expert < experts && g.begin == at && g.end > at && g.end <= pairs;
        }
        last = first + (right ? count : 0);
    }

    VT_INLINE const Group* begin() const { return first; }  // for (const Group& g : groups)
    VT_INLINE const Group* end() const { return last; }
    // Of the pair that stands at that place in the order.
    VT_INLINE int row(int place) const { return sorted[place] / active; }
    VT_INLINE int slot(int place) const { return sorted[place] % active; }
};

}  // namespace vt
