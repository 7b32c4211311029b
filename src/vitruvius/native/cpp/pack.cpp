// GGUF's blocks into panels without loss, rows of panels back into float32, and the C functions for both.
#include "pack.h"

#include <cstring>

#include "blocks.h"
#include "check.h"
#include "guard.h"
#include "isa.h"

namespace vt {

namespace {

// A block of a kind of tensor, which has the number of the format that keeps it without loss: where its scale (f16) and
// other parts lie; 0 is absent, or the block's begin. The layouts are explained in checkpoints/dequantize.py.
struct KindInfo {
    const char* name;
    int cols, bytes;
    int scale = 0, minimum = 0, steps = 0, high = 0, codes = 0;
    int run = 0;  // words whose low nibbles come first, then their high ones
};
constexpr KindInfo KIND[FORMATS] = {
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"Q8_0", 32, 34, 0, 0, 0, 0, 2, 8},
    {"Q4_0", 32, 18, 0, 0, 0, 0, 2, 4},
    {"Q4_1", 32, 20, 0, 2, 0, 0, 4, 4},
    {"Q5_0", 32, 22, 0, 0, 0, 2, 6, 4},
    {"Q5_1", 32, 24, 0, 2, 0, 4, 8, 4},
    {"Q4_K", 256, 144, 0, 2, 4, 0, 16, 8},
    {"Q5_K", 256, 176, 0, 2, 4, 16, 48, 8},
    {"Q6_K", 256, 210, 208, 0, 192, 128, 0, 16},
    {"MXFP4", 32, 17, 0, 0, 0, 0, 1, 4},
};

// Group j of a block, four codes of `bits`: a run of so many words has groups in the lowest bits of its bytes, then as
// many in the bits above, until bytes are full.
template <int bits, int run> uint32_t group(const uint8_t* p, int j) {
    constexpr int groups = run * 8 / bits;
    return get<uint32_t>(p + 4 * (j / groups * run + j % run)) >> j % groups / run * bits & LOWEST<bits>;
}
// A word of four 1-bit codes, in the lowest bit of each byte, from four bits.
uint32_t spread(uint32_t bits) { return (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21; }

// The scale and minimum of sub-block i from the 12 bytes that hold eight of each, 6 bits wide.
void step_and_least(const uint8_t* p, int i, Codes& c) {
    if (i < 4) {
        c.step[0] = p[i] & 63;
        c.least = p[i + 4] & 63;
    } else {
        c.step[0] = static_cast<uint8_t>((p[i + 4] & 15) | (p[i - 4] >> 6) << 4);
        c.least = static_cast<uint8_t>(p[i + 4] >> 4 | (p[i] >> 6) << 4);
    }
}

// Columns 32 · i … 32 · i + 31 of a block.
template <Format f> Codes read(const uint8_t* block, int i) {
    constexpr KindInfo from = KIND[f];
    Codes c{};
    if constexpr (f == MXFP4) c.exponent = block[0];
    else c.scale = get<uint16_t>(block + from.scale);
    if constexpr (from.minimum != 0) c.minimum = get<uint16_t>(block + from.minimum);
    if constexpr (f == Q4K || f == Q5K) step_and_least(block + from.steps, i, c);
    if constexpr (f == Q6K) memcpy(c.step, block + from.steps + 2 * i, 2);
    for (int j = 0; j < 8; ++j) {
        c.group[j] = group<f == Q8 ? 8 : 4, from.run>(block + from.codes, 8 * i + j);
        if constexpr (f == Q5 || f == Q5M) c.group[j] |= spread(get<uint32_t>(block + from.high) >> 4 * j) << 4;
        if constexpr (f == Q5K || f == Q6K) c.group[j] |= group<HIGH_BITS<f>, 8>(block + from.high, 8 * i + j) << 4;
    }
    return c;
}

template <Format f> void pack_blocks(const Packing& p) {
    constexpr KindInfo from = KIND[f];
    const uint8_t* source = p.source;
    for (int r = 0; r < p.rows; ++r) {
        uint8_t* block = p.out + r / LANES * p.panel_step;
        for (int k = 0; k < p.cols; k += from.cols, source += from.bytes, block += FORMAT[f].bytes)
            for (int i = 0; i < from.cols / 32; ++i) put_codes<f>(block, i, r % LANES, read<f>(source, i));
    }
}

// Row r of the panel at w.
template <Format f> void unpack(const uint8_t* w, int cols, int r, float* out) {
    constexpr FormatInfo info = FORMAT[f];
    if constexpr (info.integer) {
        for (int k = 0; k < cols; k += 32) {
            float numbers[32];
            const uint8_t* const block = w + int64_t{k / info.cols} * info.bytes;
            decode<f>(get_codes<f>(block, k % info.cols / 32, r), numbers);
            memcpy(out + k, numbers, static_cast<size_t>(cols - k < 32 ? cols - k : 32) * sizeof(float));
        }
    } else {
        for (int64_t k = 0; k < cols; ++k) {
            if (f == F32) out[k] = get<float>(w + 64 * k + 4 * r);
            if (f == F16) out[k] = from_half(get<uint16_t>(w + 32 * k + 2 * r));
            if (f == BF16) out[k] = from_bfloat(get<uint16_t>(w + 64 * (k / 2) + 4 * r + k % 2 * 2));
        }
    }
}

// Whether a matrix of that size can be packed; its size in bytes is then far below 2^63.
bool packable(int format, int64_t rows, int64_t cols) {
    return within(format, 0, FORMATS - 1) && within(rows, 1, MOST) && within(cols, 1, MOST);
}

}  // namespace

void unpack_row(const Matrix& m, int copy, int row, float* out) {
    with_format(m.format, [&](auto f) { unpack<f>(panel(m, copy, row / LANES), m.cols, row % LANES, out); });
}

}  // namespace vt

using namespace vt;

int64_t vt_packed_bytes(int32_t format, int32_t rows, int32_t cols) {
    return packable(format, rows, cols) ? packed_bytes(format, rows, cols) : -1;
}

int vt_pack(int32_t format, int32_t rows, int32_t cols, const char* kind, const void* source, int64_t source_bytes,
            void* out, int64_t out_bytes, int64_t panel_step, char* error, int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(packable(format, rows, cols), "a matrix of that format and size cannot be packed");
        require(kind && source && out, "packing needs a kind, a source and a place for the result");
        int k = 0;
        while (k < FORMATS && strcmp(KIND[k].name, kind) != 0) ++k;
        require(k < FORMATS, "tensors of that kind cannot be packed");
        const KindInfo& from = KIND[k];
        require(cols % from.cols == 0, "the columns are not whole blocks");
        require(source_bytes == int64_t{rows} * (cols / from.cols) * from.bytes, "the source has another size");
        const int64_t panel = panel_bytes(format, cols), element = from.cols == 1 ? from.bytes : 1;
        require(panel_step >= panel && panel_step % 64 == 0 && out_bytes >= panel &&
                    panels(rows) - 1 <= (out_bytes - panel) / panel_step,
                "the packed matrix needs more memory");
        require(reinterpret_cast<uintptr_t>(source) % element == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0,
                "the source or the packed matrix is not aligned");
        const bool floats = !FORMAT[k].integer;
        require(floats ? format <= Q4M : format == k, "tensors of that kind are packed into other formats");

        const Packing p{static_cast<Format>(format),         static_cast<Format>(k),     rows,      cols,
                        static_cast<const uint8_t*>(source), static_cast<uint8_t*>(out), panel_step};
        if (rows % LANES != 0) memset(p.out + rows / LANES * panel_step, 0, static_cast<size_t>(panel));
        with_format(format, [&](auto f) {
            if (floats) kernels(nullptr).pack(p);
            else if constexpr (FORMAT[f].integer) pack_blocks<f>(p);
        });
    });
}

int vt_unpack(const vt_matrix* m, int32_t copy, int32_t row0, int32_t rows, float* out, char* error,
              int64_t error_size) {
    return guarded(error, error_size, [&] {
        require(m && out, "unpacking needs a matrix and a place for the result");
        const Matrix whole = checked(*m);
        require(within(copy, 0, m->copies - 1) && row0 >= 0 && within(rows, 0, m->rows - row0),
                "the matrix has no such rows");
        for (int r = 0; r < rows; ++r) unpack_row(whole, copy, row0 + r, out + int64_t{r} * m->cols);
    });
}
