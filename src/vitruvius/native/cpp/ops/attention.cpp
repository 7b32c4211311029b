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
// Tiles begin at multiples of 64 (the first, of a window, later), so a row's sums are the same in whatever item it is.
// Threads share all tiles of all items evenly. Where an item falls to several of them, each has the result of its part, and
// who had the first tile adds them up. A row of a result, relative to the highest score that it has met:
//
//      sums of values, channel by channel | sum of weights, in 16 parts | highest score
//
// Floats and float16 are read as they are, others converted to floats first, a tile at a time.
#include <cmath>

#include "attention_products.h"

namespace vt {
namespace VT_ISA {

constexpr bool FAST_HALVES = VT_IS(VT_ISA) > 0;  // whether converting float16 costs hardly more than a load
constexpr float NOTHING = -1e30f;                // the score of what is not seen

// A few tokens of a sequence, with the queries that share one of its key/value heads.
struct Item {
    const Sequence* sequence;
    int row, head, rows;    // row of the first token; the head; tokens · queries
    int64_t position;       // of the first token
    const int32_t* chosen;  // positions of its keys, or nullptr where it sees all
    int64_t begin, keys;    // from there on, a multiple of 16; and how many
    int64_t tiles;          // at least one, though there be no key in it
    int64_t cost, before;   // of each tile, and of all items before this one
};

// The first position that a query at p sees.
VT_INLINE int64_t first_seen(const op_attend& o, int64_t p) {
    int64_t first = 0;
    if (o.mask == mask_kind::window) first = p - o.size + 1;
    if (o.mask == mask_kind::chunk) first = p - p % o.size;
    return first < o.first ? o.first : first;
}

// Scores outside of [begin, end) of a tile become those of nothing.
VT_INLINE void hide(F* x, int64_t begin, int64_t end) {
    alignas(64) static constexpr float numbers[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const F from = F::all(between<float>(begin, 0, TILE)), to = F::all(between<float>(end, 0, TILE));
    VT_EACH (b, TILE / LANES) {
        const F lane = F::load(numbers) + F::all(static_cast<float>(b * LANES));
        x[b] = select_less(lane, from, F::all(NOTHING), select_less(lane, to, x[b], F::all(NOTHING)));
    }
}

// The weight of a score relative to one that is higher by −by.
VT_INLINE float weight(float by) { return by < -87 ? 0 : expf(by); }

struct Attention {
    const Step& s;
    const op_attend& o;
    const StateSpec& state = s.state(o.state);
    const AttendShape shape{state, o.heads};
    float* const queries = s.local<float>();  // this thread's memory, which begins with them

    // This thread's share of all tiles; then of the items that were shared.
    void run() const {
        const int64_t all = each_item([](const Item&) {});
        float* const results = s.shared<float>();
        // The first tile of an item that comes after the shares of the threads before this one.
        const auto tile = [&](const Item& item, int thread) {
            return between<int64_t>(ceil_div(all * thread / s.threads - item.before, item.cost), 0, item.tiles);
        };
        // A thread has at most one item that others began, and at most one that others end, which is its last.
        const auto result = [&](int thread, bool begun) { return results + (thread * 2 + begun) * shape.result; };
        each_item([&](const Item& item) {
            const int64_t begin = tile(item, s.thread), end = tile(item, s.thread + 1);
            if (begin == end) return;
            float* const mine = result(s.thread, begin > 0);
            start(item, begin == 0 ? s.vector(o.sinks) : nullptr, mine);
            for (int64_t number = begin; number < end; ++number) pass(item, number, mine);
            if (end - begin == item.tiles) finish(item, mine);
        });
        if (s.threads == 1) return;
        s.sync();
        each_item([&](const Item& item) {
            const int64_t end = tile(item, s.thread + 1);
            if (tile(item, s.thread) > 0 || end == 0 || end == item.tiles) return;
            float* const mine = result(s.thread, false);
            for (int other = s.thread + 1; other < s.threads && tile(item, other) < item.tiles; ++other)
                if (tile(item, other) < tile(item, other + 1)) add(item, result(other, true), mine);
            finish(item, mine);
        });
    }

    // Calls what(item) for all items, in their order. Returns what they cost together.
    template <class Do> VT_INLINE int64_t each_item(Do what) const {
        const int most = o.mask == mask_kind::selected ? 1 : shape.tokens;
        int64_t before = 0;
        for (const Part& part : s)
            for (int first = 0; first < part.rows; first += most)
                for (int head = 0; head < state.heads; ++head) {
                    const Item item = item_of(part, first, least(most, part.rows - first), head, before);
                    what(item);
                    before += item.tiles * item.cost;
                }
        return before;
    }

    VT_INLINE Item item_of(const Part& part, int first, int tokens, int head, int64_t before) const {
        const int row = part.row0 + first;
        const int64_t position = int64_t{part.start} + first;
        const int32_t* chosen = nullptr;
        int64_t begin = first_seen(o, position) / LANES * LANES, keys = position + tokens - begin;
        if (o.mask == mask_kind::selected) {
            const int32_t* const selection = s.integers(o.selection, row);
            const int count = between(selection[0], 0, s.width(o.selection) - 1);
            if (count <= position - o.first) chosen = selection + 1, begin = 0, keys = count;  // fewer than there are
        }
        const int64_t tiles = keys > 0 ? ceil_div(begin + keys, TILE) - begin / TILE : 1;
        const int rows = tokens * shape.group;
        return {part.sequence, row, head, rows, position, chosen, begin, keys, tiles, rows + 4, before};
    }

    // Scales the queries, and begins a result: a sink is one more score, without a value, for the item's first tile.
    void start(const Item& item, const float* sinks, float* result) const {
        for (int row = 0; row < item.rows; ++row, result += shape.row) {
            const int64_t head = head_of(item, row);
            const float* const q = s.row(o.q, item.row + row / shape.group) + head * state.k_dim;
            for (int c = 0; c < state.k_dim; ++c) queries[int64_t{row} * state.k_dim + c] = q[c] * o.scale;
            for (int c = 0; c < shape.row; ++c) result[c] = 0;
            result[shape.channels] = sinks ? 1 : 0;
            highest(result) = sinks ? sinks[head] : NOTHING;
        }
    }
    VT_INLINE int64_t head_of(const Item& item, int row) const { return item.head * shape.group + row % shape.group; }
    VT_INLINE float& highest(float* result) const { return result[shape.channels + LANES]; }

    // Adds a tile to the rows of a result.
    void pass(const Item& item, int64_t number, float* result) const {
        const Tile tile = read(item, number);
        float* const weights = queries + shape.weights;
        const int channels = shape.channels;
        each_rows(item.rows, [&](int row, auto count) {
            constexpr int R = decltype(count)::value;
            const float* const q = queries + int64_t{row} * state.k_dim;
            float* const sums = result + int64_t{row} * shape.row;
            if (tile.key_store == Store::f32) scores<Store::f32, R>(tile, q, state.k_dim, weights);
            else scores<Store::f16, R>(tile, q, state.k_dim, weights);
            for (int r = 0; r < R; ++r) weigh(item, tile, row + r, weights + r * TILE, sums + r * shape.row);
            if (tile.value_store == Store::f32) add_values<Store::f32, R>(tile, weights, channels, sums, shape.row);
            else add_values<Store::f16, R>(tile, weights, channels, sums, shape.row);
        });
    }

    // The keys and values of a tile, converted where that pays or must be.
    Tile read(const Item& item, int64_t number) const {
        const Store store = item.sequence->store;
        const bool fast = FAST_HALVES || item.rows <= MOST_ROWS;
        const bool as_is = !item.chosen && (store == Store::f32 || (store == Store::f16 && fast && !state.shared));
        const bool values_as_is = as_is && state.v_dim && state.v_dim % LANES == 0;
        const int64_t before = item.begin % TILE, first = number ? number * TILE - before : 0;  // of the item's keys
        const int64_t count = between<int64_t>(item.keys - first, 0, number ? TILE : TILE - before);
        Tile tile{item.begin + first, static_cast<int>(count), as_is ? store : Store::f32,
                  values_as_is ? store : Store::f32};
        for (int b = 0; b < TILE / LANES; ++b) {
            float* const keys = queries + shape.keys + int64_t{b} * LANES * state.k_dim;
            float* const values = queries + shape.values + int64_t{b} * LANES * shape.channels;
            const int there = between(tile.count - b * LANES, 0, LANES);
            tile.keys[b] = reinterpret_cast<uint8_t*>(keys), tile.values[b] = reinterpret_cast<uint8_t*>(values);
            if (b > 0 && there == 0) {  // any block does: what is beyond the last key is not looked at
                tile.keys[b] = tile.keys[0];
                continue;
            }
            const int block =
                static_cast<int>((tile.first / LANES + b) % (item.sequence->place(o.state).slots / LANES));
            const Kept kept = keys_of(s, *item.sequence, o.state, item.head, block);
            const Kept kept_values = values_of(s, *item.sequence, o.state, item.head, block);
            if (item.chosen) gather(item, item.chosen + first + b * LANES, there, keys, values);
            else if (as_is) tile.keys[b] = kept.block;
            else keys_as_floats(kept, keys);
            if (state.shared)
                transposed(reinterpret_cast<const float*>(tile.keys[b]), state.shared, values, shape.channels);
            else if (values_as_is) tile.values[b] = kept_values.block;
            else if (!item.chosen) values_as_floats(kept_values, 0, there, values, shape.channels);
        }
        return tile;
    }

    // Selected keys and values as floats, up to 16.
    void gather(const Item& item, const int32_t* chosen, int n, float* keys, float* values) const {
        for (int i = 0; i < n; ++i) {
            const int slot = static_cast<int>(between<int64_t>(chosen[i], 0, item.position)), lane = slot % LANES;
            const Kept key = keys_of(s, *item.sequence, o.state, item.head, slot / LANES);
            for (int c = 0; c < state.k_dim; ++c) keys[c * LANES + i] = key.get(c, lane);
            if (state.shared) continue;
            const Kept value = values_of(s, *item.sequence, o.state, item.head, slot / LANES);
            values_as_floats(value, lane, lane + 1, values + int64_t{i} * shape.channels, shape.channels);
        }
    }

    // Scores of one row → weights relative to the highest score so far.
    void weigh(const Item& item, const Tile& tile, int row, float* scores, float* result) const {
        const int64_t position = item.position + row / shape.group;
        if (o.bias >= 0) {
            const int distances = s.size(o.bias) / o.heads;
            const float* const bias = s.vector(o.bias) + head_of(item, row) * distances;
            for (int i = 0; i < tile.count; ++i)
                scores[i] += bias[between<int64_t>(position - tile.first - i, 0, distances - 1)];
        }
        const float sharp = o.length && position > o.length ? logf(position) / logf(o.length) : 1;
        const int64_t from = item.chosen ? 0 : first_seen(o, position) - tile.first;
        const int64_t to = item.chosen ? tile.count : between<int64_t>(position - tile.first + 1, 0, tile.count);
        F x[TILE / LANES];
        VT_EACH (b, TILE / LANES) {
            x[b] = F::load(scores + b * LANES);
            if (o.softcap > 0) x[b] = tanh(x[b] * (1 / o.softcap)) * o.softcap;
            if (sharp != 1) x[b] *= F::all(sharp);
        }
        if (from > 0 || to < TILE) hide(x, from, to);
        const float most = raise(result, maximum(fmax(fmax(x[0], x[1]), fmax(x[2], x[3]))));
        F total = F::load(result + shape.channels);
        VT_EACH (b, TILE / LANES) {
            const F w = most > NOTHING ? exp(x[b] - F::all(most)) : F::zero();
            w.store(scores + b * LANES);
            total += w;
        }
        total.store(result + shape.channels);
    }

    // Makes a row's result relative to a score, if that is higher than all so far. Returns the highest.
    VT_INLINE float raise(float* result, float score) const {
        if (!(score > highest(result))) return highest(result);
        const float factor = weight(highest(result) - score);
        for (int c = 0; c < shape.channels + LANES; c += LANES) (F::load(result + c) * factor).store(result + c);
        return highest(result) = score;
    }

    // Adds what another thread has of an item.
    void add(const Item& item, float* theirs, float* mine) const {
        for (int row = 0; row < item.rows; ++row, theirs += shape.row, mine += shape.row) {
            const float factor = weight(highest(theirs) - raise(mine, highest(theirs)));
            for (int c = 0; c < shape.channels + LANES; c += LANES)
                fma(F::load(theirs + c), factor, F::load(mine + c)).store(mine + c);
        }
    }

    // y = sums / sum of weights; a query that sees nothing gets nothing.
    void finish(const Item& item, const float* result) const {
        for (int row = 0; row < item.rows; ++row, result += shape.row) {
            const float total = sum(F::load(result + shape.channels)), factor = total > 0 ? 1 / total : 0;
            float* const y = s.row(o.y, item.row + row / shape.group) + head_of(item, row) * state.value_dim();
            each_strip(state.value_dim(), [&](int c, int n) { store(y + c, n, F::load(result + c) * factor); });
        }
    }
};

void run(const Step& s, const op_attend& o) { Attention{s, o}.run(); }

void run(const Step& s, const op_keep& o) {
    each_sequence_row(s, s.mine(s.rows), [&](const Sequence& sequence, int row) {
        const int slot = s.position(row) % sequence.place(o.state).slots, block = slot / LANES;
        for (int h = 0; h < s.state(o.state).heads; ++h) {
            keep_one(s.row(o.k, row), h, keys_of(s, sequence, o.state, h, block), slot % LANES);
            if (o.v >= 0) keep_one(s.row(o.v, row), h, values_of(s, sequence, o.state, h, block), slot % LANES);
        }
    });
}

}  // namespace VT_ISA
}  // namespace vt
