// Errors: what is refused is thrown as a text, and a C function returns 1 with it instead of throwing.
#pragma once

#include <cstdint>
#include <cstdio>
#include <new>
#include <sstream>
#include <stdexcept>

namespace vt {

// Refuses with the text that these parts make, unless it is good. (The text is made only then: this runs for every token.)
template <class... Parts> void require(bool good, const Parts&... parts) {
    if (good) return;
    std::ostringstream text;
    (text << ... << parts);
    throw std::runtime_error(text.str());
}

inline bool within(int64_t n, int64_t low, int64_t high) { return n >= low && n <= high; }

// Does it, and returns 0, or 1 and what was thrown as a text.
template <class Do> int guarded(char* error, int64_t size, const Do& what) {
    const auto refused = [&](const char* text) {
        if (error && size > 0) std::snprintf(error, static_cast<size_t>(size), "%s", text);
        return 1;
    };
    try {
        what();
        return 0;
    } catch (const std::bad_alloc&) {
        return refused("there is not enough memory");
    } catch (const std::exception& problem) {
        return refused(problem.what());
    }
}

}  // namespace vt
