// GGUF's blocks into panels without loss, rows of panels back into float32, and the C functions for both.
#include "pack.h"

#include <cstdio>
#include <cstring>

#include "blocks.h"
#include "isa.h"
#include "vitruvius.h"

namespace vt {

namespace {

// A word of four 1-bit codes, in the lowest bit of each byte, from four bits.
uint32_t spread(uint32_t bits) { return (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21; }

void nibbles(const uint8_t* p, Codes& c) {  // low halves are columns 0 to 15, high ones 16 to 31
    for (int j = 0; j < 4; ++j) {
        const auto both = get<uint32_t>(p + 4 * j);
        c.group[j] = both & NIBBLES;
        c.group[j + 4] = both >> 4 & NIBBLES;
    }
}
void fifth_bits(const uint8_t* p, Codes& c) {
    const auto bits = get<uint32_t>(p);
    for (int j = 0; j < 8; ++j) c.group[j] |= spread(bits >> 4 * j) << 4;
}
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

// Columns 32·i … 32·i + 31 of a block of each kind; the layouts are explained in checkpoints/dequantize.py.
template <Kind> Codes read(const uint8_t* block, int i);

template <> Codes read<Kind::Q4_0>(const uint8_t* block, int) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    nibbles(block + 2, c);
    return c;
}
template <> Codes read<Kind::Q4_1>(const uint8_t* block, int) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    c.minimum = get<uint16_t>(block + 2);
    nibbles(block + 4, c);
    return c;
}
template <> Codes read<Kind::Q5_0>(const uint8_t* block, int) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    nibbles(block + 6, c);
    fifth_bits(block + 2, c);
    return c;
}
template <> Codes read<Kind::Q5_1>(const uint8_t* block, int) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    c.minimum = get<uint16_t>(block + 2);
    nibbles(block + 8, c);
    fifth_bits(block + 4, c);
    return c;
}
template <> Codes read<Kind::Q8_0>(const uint8_t* block, int) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    memcpy(c.group, block + 2, 32);
    return c;
}
template <> Codes read<Kind::Q4_K>(const uint8_t* block, int i) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    c.minimum = get<uint16_t>(block + 2);
    step_and_least(block + 4, i, c);
    for (int j = 0; j < 8; ++j) c.group[j] = get<uint32_t>(block + 16 + i / 2 * 32 + 4 * j) >> i % 2 * 4 & NIBBLES;
    return c;
}
template <> Codes read<Kind::Q5_K>(const uint8_t* block, int i) {
    Codes c{};
    c.scale = get<uint16_t>(block);
    c.minimum = get<uint16_t>(block + 2);
    step_and_least(block + 4, i, c);
    for (int j = 0; j < 8; ++j) {
        c.group[j] = get<uint32_t>(block + 48 + i / 2 * 32 + 4 * j) >> i % 2 * 4 & NIBBLES;
        c.group[j] |= (get<uint32_t>(block + 16 + 4 * j) >> i & BITS) << 4;
    }
    return c;
}
template <> Codes read<Kind::Q6_K>(const uint8_t* block, int i) {
    Codes c{};
    const int half = i / 4, quarter = i % 4;  // quarters of 128 columns share 32 bytes of upper bits
    c.scale = get<uint16_t>(block + 208);
    memcpy(c.step, block + 192 + 2 * i, 2);
    for (int j = 0; j < 8; ++j) {
        const auto low = get<uint32_t>(block + 64 * half + quarter % 2 * 32 + 4 * j) >> quarter / 2 * 4;
        const auto high = get<uint32_t>(block + 128 + 32 * half + 4 * j) >> 2 * quarter;
        c.group[j] = (low & NIBBLES) | (high & PAIRS) << 4;
    }
    return c;
}
template <> Codes read<Kind::MXFP4>(const uint8_t* block, int) {
    Codes c{};
    c.exponent = block[0];
    nibbles(block + 1, c);
    return c;
}

template <Kind kind> void pack_blocks(const Packing& p) {
    constexpr KindInfo from = KIND[static_cast<int>(kind)];
    constexpr int bytes = FORMAT[from.format].bytes, subs = from.cols / 32;
    const int64_t n = p.cols / from.cols;
    for (int r = 0; r < p.rows; ++r) {
        const uint8_t* source = p.source + r * n * from.bytes;
        uint8_t* block = p.out + r / LANES * p.panel_step;
        for (int64_t b = 0; b < n; ++b, source += from.bytes, block += bytes)
            for (int i = 0; i < subs; ++i) put_codes<from.format>(block, i, r % LANES, read<kind>(source, i));
    }
}

template <Format f> void unpack(const uint8_t* w, int cols, int r, float* out) {
    constexpr int bytes = FORMAT[f].bytes, subs = FORMAT[f].cols / 32;
    for (int k = 0, i = 0; k < cols; k += 32) {
        float rest[32];
        float* const to = cols - k < 32 ? rest : out + k;
        decode<f>(get_codes<f>(w, i, r), to);
        if (to == rest) memcpy(out + k, rest, static_cast<size_t>(cols - k) * sizeof(float));
        if (++i == subs) w += bytes, i = 0;
    }
}
void unpack_floats(Format f, const uint8_t* w, int cols, int r, float* out) {
    for (int k = 0; k < cols; ++k) {
        if (f == F32) out[k] = get<float>(w + 64 * int64_t{k} + 4 * r);
        else if (f == F16) out[k] = from_half(get<uint16_t>(w + 32 * int64_t{k} + 2 * r));
        else out[k] = from_bfloat(get<uint16_t>(w + 64 * int64_t{k / 2} + 4 * r + k % 2 * 2));
    }
}

int refuse(char* error, int64_t size, const char* text) {
    if (error && size > 0) snprintf(error, static_cast<size_t>(size), "%s", text);
    return 1;
}

// Whether a matrix of that size can be packed; its size in bytes is then far below 2^63.
bool packable(int format, int64_t rows, int64_t cols) {
    constexpr int most = 1 << 27;  // as for the matrices of a plan
    return format >= 0 && format < FORMATS && rows >= 1 && cols >= 1 && rows <= most && cols <= most;
}

}  // namespace

void unpack_row(const Matrix& m, int copy, int row, float* out) {
    const uint8_t* const w = panel(m, copy, row / LANES);
    const int r = row % LANES;
    switch (m.format) {
        case Q8: return unpack<Q8>(w, m.cols, r, out);
        case Q4: return unpack<Q4>(w, m.cols, r, out);
        case Q4M: return unpack<Q4M>(w, m.cols, r, out);
        case Q5: return unpack<Q5>(w, m.cols, r, out);
        case Q5M: return unpack<Q5M>(w, m.cols, r, out);
        case Q4K: return unpack<Q4K>(w, m.cols, r, out);
        case Q5K: return unpack<Q5K>(w, m.cols, r, out);
        case Q6K: return unpack<Q6K>(w, m.cols, r, out);
        case MXFP4: return unpack<MXFP4>(w, m.cols, r, out);
        default: return unpack_floats(static_cast<Format>(m.format), w, m.cols, r, out);
    }
}

}  // namespace vt

using namespace vt;

int64_t vt_packed_bytes(int32_t format, int32_t rows, int32_t cols) {
    return packable(format, rows, cols) ? packed_bytes(format, rows, cols) : -1;
}

int vt_pack(int32_t format, int32_t rows, int32_t cols, const char* kind, const void* source, int64_t source_bytes,
            void* out, int64_t out_bytes, int64_t panel_step, char* error, int64_t error_size) {
    if (!packable(format, rows, cols))
        return refuse(error, error_size, "a matrix of that format and size cannot be packed");
    if (!kind || !source || !out)
        return refuse(error, error_size, "packing needs a kind, a source and a place for the result");
    int k = 0;
    while (k < static_cast<int>(Kind::count_) && strcmp(KIND[k].name, kind) != 0) ++k;
    if (k == static_cast<int>(Kind::count_)) return refuse(error, error_size, "tensors of that kind cannot be packed");
    const KindInfo& from = KIND[k];
    if (cols % from.cols != 0) return refuse(error, error_size, "the columns are not whole blocks");
    if (source_bytes != int64_t{rows} * (cols / from.cols) * from.bytes)
        return refuse(error, error_size, "the source has another size");
    const int64_t panel = panel_bytes(format, cols), element = from.cols == 1 ? from.bytes : 1;
    if (panel_step < panel || panel_step % 64 != 0 || out_bytes < panel ||
        panels(rows) - 1 > (out_bytes - panel) / panel_step)
        return refuse(error, error_size, "the packed matrix needs more memory");
    if (reinterpret_cast<uintptr_t>(source) % element != 0 || reinterpret_cast<uintptr_t>(out) % 64 != 0)
        return refuse(error, error_size, "the source or the packed matrix is not aligned");

    const Packing p{
        static_cast<Format>(format), rows,      cols, static_cast<Kind>(k), static_cast<const uint8_t*>(source),
        static_cast<uint8_t*>(out),  panel_step};
    if (from.cols > 1 && from.format != p.format)
        return refuse(error, error_size, "that kind is packed into another format");
    for (int i = 0; i < panels(rows); ++i)
        if (from.cols > 1 && (i + 1) * LANES > rows) memset(p.out + i * panel_step, 0, static_cast<size_t>(panel));
    switch (p.kind) {
        case Kind::Q4_0: pack_blocks<Kind::Q4_0>(p); break;
        case Kind::Q4_1: pack_blocks<Kind::Q4_1>(p); break;
        case Kind::Q5_0: pack_blocks<Kind::Q5_0>(p); break;
        case Kind::Q5_1: pack_blocks<Kind::Q5_1>(p); break;
        case Kind::Q8_0: pack_blocks<Kind::Q8_0>(p); break;
        case Kind::Q4_K: pack_blocks<Kind::Q4_K>(p); break;
        case Kind::Q5_K: pack_blocks<Kind::Q5_K>(p); break;
        case Kind::Q6_K: pack_blocks<Kind::Q6_K>(p); break;
        case Kind::MXFP4: pack_blocks<Kind::MXFP4>(p); break;
        default: matrix_kernels(nullptr)->pack(p);
    }
    return 0;
}

int vt_unpack(const vt_matrix* m, int32_t copy, int32_t row0, int32_t rows, float* out, char* error,
              int64_t error_size) {
    if (!m || !m->data || !out) return refuse(error, error_size, "unpacking needs a matrix and a place for the result");
    const Matrix whole{m->format,
                       m->rows,
                       m->cols,
                       m->copies,
                       vt_packed_bytes(m->format, m->rows, m->cols),
                       static_cast<const uint8_t*>(m->data)};
    if (whole.copy_bytes < 0 || m->copies < 1 || m->bytes / m->copies < whole.copy_bytes)
        return refuse(error, error_size, "the matrix has less memory than its size needs");
    if (copy < 0 || copy >= m->copies || row0 < 0 || rows < 0 || rows > m->rows - row0)
        return refuse(error, error_size, "the matrix has no such rows");
    for (int r = 0; r < rows; ++r) unpack_row(whole, copy, row0 + r, out + int64_t{r} * m->cols);
    return 0;
}
