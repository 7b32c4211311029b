// Softmax attention over what sequences have kept (state.h draws it).
//
// An item is a few tokens of one sequence with the query heads that share one key/value head: their queries, side by
// side, are its rows. It passes over the keys that they see in tiles of 64, and keeps for each row the highest score so
// far, the sum of weights relative to it, and the weighted sum of values (online softmax: Milakov and Gimelshein 2018,
// arXiv 1805.02867; in tiles Dao et al. 2022, arXiv 2205.14135):
//
//              64 keys                     channels                                    channels
//            ┌──────────┐                ┌──────────┐                               ┌──────────┐
//       rows │ weights  │ = softmax of   │ queries  │ × keysᵀ           values +=   │   sum    │ += weights × values
//            └──────────┘                └──────────┘                               └──────────┘
//
// Threads share all tiles of all items evenly. Where an item falls to several of them, each leaves its part, and who had
// the first tile adds them up. Floats and float16 are read as they are, others converted to floats first, a tile at a
// time.
#pragma once

#include <cmath>

#include "attention_products.h"

namespace vt {
namespace VT_ISA {

constexpr bool FAST_HALVES = VT_IS(VT_ISA) > 0;  // whether converting float16 costs hardly more than a load
constexpr float NOTHING = -1e30f;                // the score of what is not seen

// Tokens first … first + tokens − 1 of a part, with the queries of one key/value head.
struct Item {
    const Part* part;
    int head, first, tokens;
    int64_t begin;  // the position where its keys begin, a multiple of 16; those selected: 0
    int keys;       // from there
    VT_INLINE int tiles() const { return static_cast<int>(ceil_div(keys, TILE)); }
    VT_INLINE int64_t position(int token) const { return int64_t{part->start} + first + token; }
};

// The first position that a query at p sees.
VT_INLINE int64_t first_seen(const op_attend& o, int64_t p) {
    int64_t first = 0;
    if (o.sees == sees_kind::window) first = p - o.size + 1;
    if (o.sees == sees_kind::chunk) first = p - p % o.size;
    return first < o.first ? o.first : first;
}

class Attention {
   public:
    VT_INLINE Attention(const Step& s, const op_attend& o)
        : s(s), o(o), state(s.state(o.state)), shape(state, o.heads), memory(s.local<float>(), shape, state) {}

    void run() const;

   private:
    // Parts of the scratch memory of one thread.
    struct Memory {
        float *q, *sums, *most, *total, *weights, *keys, *values;  // `total` has 16 parts of each
        VT_INLINE Memory(float* at, const AttendShape& shape, const StateSpec& state) {
            q = at, at += round16(int64_t{shape.rows} * state.k_dim);
            sums = at, at += int64_t{shape.rows} * shape.padded;
            most = at, at += round16(shape.rows);
            total = at, at += int64_t{shape.rows} * LANES;
            weights = at, at += 6 * TILE;
            keys = at, at += int64_t{TILE} * state.k_dim;
            values = at;
        }
    };

    template <class Do>
    VT_INLINE void each_item(Do what) const;
    VT_INLINE int64_t cost(const Item& item) const { return item.tokens * shape.group + 4; }
    VT_INLINE float* partial(int thread, int which) const {
        return s.shared<float>() + (thread * 2 + which) * shape.partial();
    }
    const int32_t* selection(const Item& item, int& count) const;
    bool is_selected(const Item& item) const {
        int count;
        return selection(item, count);
    }
    void start(const Item& item) const;
    void gather(const Item& item, int tile) const;
    void find(const Item& item, int number, Tile& tile) const;
    void weigh(const Item& item, const Tile& tile, int row, float* scores) const;
    void rescale(int row, float by) const;
    void pass(const Item& item, int begin, int end) const;
    void leave(const Item& item, float* part) const;
    void add(const Item& item, const float* part) const;
    void finish(const Item& item) const;

    const Step& s;
    const op_attend& o;
    const StateSpec& state;
    const AttendShape shape;
    const Memory memory;
};

// The selected positions of the item's one token, if they are fewer than what it could see.
inline const int32_t* Attention::selection(const Item& item, int& count) const {
    if (o.sees != sees_kind::selected) return nullptr;
    const auto* const chosen = reinterpret_cast<const int32_t*>(s.row(o.selection, item.part->row0 + item.first));
    const int room = s.width(o.selection) - 1;
    count = chosen[0] < 0 ? 0 : chosen[0] > room ? room : chosen[0];
    return count > item.position(0) - o.first ? nullptr : chosen + 1;
}

template <class Do>
VT_INLINE void Attention::each_item(Do what) const {
    const int most = o.sees == sees_kind::selected ? 1 : shape.tokens;
    for (const Part& part : s)
        for (int first = 0; first < part.rows; first += most)
            for (int head = 0; head < state.heads; ++head) {
                Item item{&part, head, first, part.rows - first < most ? part.rows - first : most, 0, 0};
                int count = 0;
                if (selection(item, count)) {
                    item.keys = count;
                } else {
                    item.begin = first_seen(o, item.position(0)) / LANES * LANES;
                    const int64_t keys = item.position(item.tokens - 1) + 1 - item.begin;
                    item.keys = keys < 0 ? 0 : static_cast<int>(keys);
                }
                what(item);
            }
}

inline void Attention::start(const Item& item) const {
    for (int row = 0; row < item.tokens * shape.group; ++row) {
        const float* const q = s.row(o.q, item.part->row0 + item.first + row / shape.group) +
                               (int64_t{item.head} * shape.group + row % shape.group) * state.k_dim;
        for (int c = 0; c < state.k_dim; ++c) memory.q[int64_t{row} * state.k_dim + c] = q[c] * o.scale;
        for (int c = 0; c < shape.padded; ++c) memory.sums[int64_t{row} * shape.padded + c] = 0;
        memory.most[row] = NOTHING;
        F::zero().store(memory.total + row * LANES);
    }
}

// Copies the selected keys and values of a tile as floats.
inline void Attention::gather(const Item& item, int tile) const {
    int count = 0;
    const Sequence& sequence = *item.part->sequence;
    const int32_t* const chosen = selection(item, count) + tile * TILE;
    for (int i = 0; i < TILE && tile * TILE + i < count; ++i) {
        const int64_t latest = item.position(0);
        const int64_t slot = chosen[i] < 0 ? 0 : chosen[i] > latest ? latest : chosen[i];
        const int block = static_cast<int>(slot / LANES), lane = static_cast<int>(slot % LANES);
        const uint8_t* const keys = sequence.key_block(o.state, item.head, block);
        float* const to = memory.keys + int64_t{i / LANES * LANES} * state.k_dim + i % LANES;
        for (int c = 0; c < state.k_dim; ++c) to[c * LANES] = key_at(keys, sequence.store, c, lane);
        if (state.v_dim)
            values_as_floats(sequence.value_block(o.state, item.head, block), sequence.store, state.v_dim, lane, lane + 1,
                             memory.values + int64_t{i} * shape.padded, shape.padded);
    }
}

// Finds the keys and values of a tile, and converts them where that pays or must be.
inline void Attention::find(const Item& item, int number, Tile& tile) const {
    const Sequence& sequence = *item.part->sequence;
    const Store store = sequence.store;
    const bool selected = is_selected(item), convertible = FAST_HALVES || item.tokens * shape.group <= MOST_ROWS;
    const bool as_is = !selected && (store == Store::f32 || (store == Store::f16 && convertible && !state.shared));
    const bool values_as_is = as_is && state.v_dim && state.v_dim % LANES == 0;
    const int blocks = sequence.place(o.state).slots / LANES, rest = item.keys - number * TILE;
    tile.first = item.begin + int64_t{number} * TILE;
    tile.count = rest < TILE ? rest : TILE;
    tile.key_store = as_is ? store : Store::f32, tile.value_store = values_as_is ? store : Store::f32;
    if (selected) gather(item, number);
    for (int b = 0; b < TILE / LANES; ++b) {
        const int there = tile.count - b * LANES < LANES ? tile.count - b * LANES : LANES;
        float* const keys = memory.keys + int64_t{b} * LANES * state.k_dim;
        float* const values = memory.values + int64_t{b} * LANES * shape.padded;
        tile.keys[b] = reinterpret_cast<const uint8_t*>(keys), tile.values[b] = reinterpret_cast<const uint8_t*>(values);
        if (there <= 0) {  // any block does: what is beyond the last key is not looked at
            tile.keys[b] = tile.keys[0];
            continue;
        }
        const int block = static_cast<int>((tile.first / LANES + b) % blocks);
        const uint8_t* const kept = sequence.key_block(o.state, item.head, block);
        if (as_is) tile.keys[b] = kept;
        else if (!selected) keys_as_floats(kept, store, state.k_dim, keys);
        if (state.shared) transposed(as_is ? reinterpret_cast<const float*>(kept) : keys, state.shared, values, shape.padded);
        else if (values_as_is) tile.values[b] = sequence.value_block(o.state, item.head, block);
        else if (!selected)
            values_as_floats(sequence.value_block(o.state, item.head, block), store, state.v_dim, 0, there, values, shape.padded);
    }
}

// Scores outside of [begin, end) of a tile become those of nothing.
VT_INLINE void hide(F* x, int64_t begin, int64_t end) {
    alignas(64) static constexpr float numbers[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const F from = F::all(static_cast<float>(begin < 0 ? 0 : begin > TILE ? TILE : begin));
    const F to = F::all(static_cast<float>(end < 0 ? 0 : end));
    VT_UNROLL for (int b = 0; b < TILE / LANES; ++b) {
        const F lane = F::load(numbers) + F::all(static_cast<float>(b * LANES));
        x[b] = select_less(lane, from, F::all(NOTHING), select_less(lane, to, x[b], F::all(NOTHING)));
    }
}

// Scores of one row → weights relative to the highest score so far.
inline void Attention::weigh(const Item& item, const Tile& tile, int row, float* scores) const {
    const int64_t position = item.position(row / shape.group);
    const int head = item.head * shape.group + row % shape.group;
    if (o.bias >= 0) {
        const int distances = s.size(o.bias) / o.heads;
        const float* const bias = s.vector(o.bias) + int64_t{head} * distances;
        for (int i = 0; i < tile.count; ++i) {
            const int64_t distance = position - tile.first - i;
            scores[i] += bias[distance < 0 ? 0 : distance < distances ? distance : distances - 1];
        }
    }
    const float sharp = o.length && position > o.length
                            ? logf(static_cast<float>(position)) / logf(static_cast<float>(o.length)) : 1;
    const bool selected = is_selected(item);
    const int64_t from = selected ? 0 : first_seen(o, position) - tile.first;
    const int64_t to = selected ? tile.count : position - tile.first + 1;
    F x[TILE / LANES];
    VT_UNROLL for (int b = 0; b < TILE / LANES; ++b) {
        x[b] = F::load(scores + b * LANES);
        if (o.softcap > 0) x[b] = tanh(x[b] * (1 / o.softcap)) * o.softcap;
        if (sharp != 1) x[b] *= F::all(sharp);
    }
    if (from > 0 || to < TILE || tile.count < TILE) hide(x, from, to < tile.count ? to : tile.count);
    const float most = maximum(fmax(fmax(x[0], x[1]), fmax(x[2], x[3])));
    if (most > memory.most[row]) {
        rescale(row, memory.most[row] - most);
        memory.most[row] = most;
    }
    const bool sees_some = memory.most[row] > NOTHING;
    F total = F::load(memory.total + row * LANES);
    VT_UNROLL for (int b = 0; b < TILE / LANES; ++b) {
        const F w = sees_some ? exp(x[b] - F::all(memory.most[row])) : F::zero();
        w.store(scores + b * LANES);
        total += w;
    }
    total.store(memory.total + row * LANES);
}

// Makes what a row has so far relative to a score that is higher by −by.
inline void Attention::rescale(int row, float by) const {
    const float factor = by < -87 ? 0 : expf(by);
    float* const sums = memory.sums + int64_t{row} * shape.padded;
    for (int c = 0; c < shape.padded; c += LANES) (F::load(sums + c) * factor).store(sums + c);
    (F::load(memory.total + row * LANES) * factor).store(memory.total + row * LANES);
}

// Tiles [begin, end) of an item.
inline void Attention::pass(const Item& item, int begin, int end) const {
    const int rows = item.tokens * shape.group;
    for (int number = begin; number < end; ++number) {
        Tile tile;
        find(item, number, tile);
        for (int row = 0; row < rows;) {
            with_rows(rows - row, [&](auto count) {
                constexpr int R = decltype(count)::value;
                const float* const q = memory.q + int64_t{row} * state.k_dim;
                float* const sums = memory.sums + int64_t{row} * shape.padded;
                if (tile.key_store == Store::f32) scores<F32Store, R>(tile, q, state.k_dim, memory.weights);
                else scores<F16Store, R>(tile, q, state.k_dim, memory.weights);
                for (int r = 0; r < R; ++r) weigh(item, tile, row + r, memory.weights + r * TILE);
                if (tile.value_store == Store::f32) add_values<F32Store, R>(tile, memory.weights, shape.padded, sums);
                else add_values<F16Store, R>(tile, memory.weights, shape.padded, sums);
                row += R;
            });
        }
    }
}

// Leaves the rows of an item for the thread that adds its parts: sums, totals, highest scores.
inline void Attention::leave(const Item& item, float* part) const {
    const size_t rows = static_cast<size_t>(item.tokens * shape.group);
    memcpy(part, memory.sums, rows * static_cast<size_t>(shape.padded) * sizeof(float));
    memcpy(part + int64_t{shape.rows} * shape.padded, memory.total, rows * LANES * sizeof(float));
    memcpy(part + int64_t{shape.rows} * (shape.padded + LANES), memory.most, rows * sizeof(float));
}

// Adds what another thread has left.
inline void Attention::add(const Item& item, const float* part) const {
    for (int row = 0; row < item.tokens * shape.group; ++row) {
        const float most = part[int64_t{shape.rows} * (shape.padded + LANES) + row];
        if (most > memory.most[row]) {
            rescale(row, memory.most[row] - most);
            memory.most[row] = most;
        }
        const float by = most - memory.most[row], factor = by < -87 ? 0 : expf(by);
        float* const sums = memory.sums + int64_t{row} * shape.padded;
        const float* const theirs = part + int64_t{row} * shape.padded;
        for (int c = 0; c < shape.padded; c += LANES) fma(F::load(theirs + c), factor, F::load(sums + c)).store(sums + c);
        float* const total = memory.total + row * LANES;
        fma(F::load(part + int64_t{shape.rows} * shape.padded + row * LANES), factor, F::load(total)).store(total);
    }
}

// y = sum / total, where a sink is one more score without a value.
inline void Attention::finish(const Item& item) const {
    const int width = state.value_dim();
    const float* const sinks = s.vector(o.sinks);
    for (int row = 0; row < item.tokens * shape.group; ++row) {
        const int64_t head = int64_t{item.head} * shape.group + row % shape.group;
        float total = sum(F::load(memory.total + row * LANES)), factor = 1;
        if (sinks) {
            const float most = sinks[head] > memory.most[row] ? sinks[head] : memory.most[row];
            factor = expf(memory.most[row] - most);
            total = total * factor + expf(sinks[head] - most);
        }
        factor = total > 0 ? factor / total : 0;  // a query that sees nothing gets nothing
        float* const y = s.row(o.y, item.part->row0 + item.first + row / shape.group) + head * width;
        const float* const sums = memory.sums + int64_t{row} * shape.padded;
        for (int c = 0; c < width; ++c) y[c] = sums[c] * factor;
    }
}

// This thread's share of all tiles; then of the items that were shared.
inline void Attention::run() const {
    int64_t all = 0, at = 0;
    each_item([&](const Item& item) { all += item.tiles() * cost(item); });
    const auto bound = [&](int thread) { return all * thread / s.threads; };
    // The first tile of an item, which begins at `at`, that comes after the share of the threads before this one.
    const auto tile = [&](const Item& item, int thread) {
        const int64_t n = bound(thread) <= at ? 0 : ceil_div(bound(thread) - at, cost(item));
        return n < item.tiles() ? static_cast<int>(n) : item.tiles();
    };
    each_item([&](const Item& item) {
        const int begin = tile(item, s.thread), end = tile(item, s.thread + 1);
        const bool whole = end - begin == item.tiles() && (item.tiles() > 0 || s.thread == 0);
        if (begin < end || whole) {
            start(item);
            pass(item, begin, end);
            if (whole) finish(item);
            else leave(item, partial(s.thread, begin == 0));
        }
        at += item.tiles() * cost(item);
    });
    if (s.threads == 1) return;
    s.sync();
    at = 0;
    each_item([&](const Item& item) {
        const int begin = tile(item, s.thread), end = tile(item, s.thread + 1);
        if (begin == 0 && end > 0 && end < item.tiles()) {
            start(item);
            add(item, partial(s.thread, 1));
            for (int other = s.thread + 1; other < s.threads && tile(item, other) < item.tiles(); ++other)
                if (tile(item, other) < tile(item, other + 1)) add(item, partial(other, 0));
            finish(item);
        }
        at += item.tiles() * cost(item);
    });
}

inline void run(const Step& s, const op_attend& o) { Attention(s, o).run(); }

}  // namespace VT_ISA
}  // namespace vt
