// How weights lie in memory: panels of 16 rows, interleaved so that lane r of a register belongs to row r.
//
// A matrix (rows, cols) is cut into panels of 16 rows; rows are padded to 16 and cols to whole blocks, with zeros.
// Along its columns a panel is a sequence of blocks. `16 × f16` is one number for each row; a *group* is 4 columns as 64
// bytes, row 0's four bytes first, then row 1's …
//
//   F32    1 col   | 16 × f32                                                                              |   64 bytes
//   F16    1 col   | 16 × f16                                                                              |   32
//   BF16   2 cols  | 16 × (col 0, col 1)                                                                   |   64
//   Q8     32      | 16 × f16 scale |                       8 groups of int8                               |  544
//   Q4     32      | 16 × f16 scale |                       4 × 64 nibbles: low of group j, high of j + 4  |  288
//   Q4M    32      | 16 × f16 scale | 16 × f16 minimum |    nibbles                                        |  320
//   Q5     32      | 16 × f16 scale |                       64 high bits | nibbles                         |  352
//   Q5M    32      | 16 × f16 scale | 16 × f16 minimum |    64 high bits | nibbles                         |  384
//   Q4K    256     | 16 × f16 d | 16 × f16 dmin | 8 × ( 16 × u8 scale | 16 × u8 minimum | nibbles )        | 2368
//   Q5K    256     | 16 × f16 d | 16 × f16 dmin | 8 × ( the same | 64 high bits | nibbles )                | 2880
//   Q6K    256     | 16 × f16 d | 8 × ( 2 × 16 × int8 scale, of 16 columns each | 128 high bits | nibbles )| 3360
//   MXFP4  32      | 16 × u8 exponent | nibbles                                                            |  272
//
// High bits have the place of a group's bytes: bit j of byte i is the fifth bit of byte i of group j. Q6K's are two for
// each: bits 2·(j mod 4) and the next of byte i in plane j / 4.
//
// A code u (unsigned) stands for scale · (u − offset), or scale · u + minimum; in the K formats for d · scale · u −
// dmin · minimum. Q8's codes are signed. MXFP4's are places in a table of codes.
//
// Everything here is used by code for several instruction sets, so nothing may be emitted as a shared inline function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#define VT_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define VT_UNROLL _Pragma("unroll")
#else
#define VT_UNROLL _Pragma("GCC unroll 32")
#endif
#define VT_EACH(i, n) VT_UNROLL for (int i = 0; i < (n); ++i)

namespace vt {

constexpr int LANES = 16;  // rows of a panel

enum Format : int32_t { F32, F16, BF16, Q8, Q4, Q4M, Q5, Q5M, Q4K, Q5K, Q6K, MXFP4, FORMATS };

struct FormatInfo {
    int cols, bytes;  // of a block of 16 rows
    bool integer;     // multiplies with activations quantised to int8
    // Of the integer formats: a code, at most `most`, stands for scale · (code − offset); and where the parts of a block
    // lie, those of a sub-block in the first one. The scale is at 0; 0 is absent.
    int most = 0, offset = 0;
    int minimum = 0, step = 0, least = 0, high = 0, codes = 0;
};

constexpr FormatInfo FORMAT[FORMATS] = {
    // cols, bytes, integer, most, offset, minimum, step, least, high, codes
    {1, 64, false},                                 // F32
    {1, 32, false},                                 // F16
    {2, 64, false},                                 // BF16
    {32, 544, true, 127, 0, 0, 0, 0, 0, 32},        // Q8
    {32, 288, true, 15, 8, 0, 0, 0, 0, 32},         // Q4
    {32, 320, true, 15, 0, 32, 0, 0, 0, 64},        // Q4M
    {32, 352, true, 31, 16, 0, 0, 0, 32, 96},       // Q5
    {32, 384, true, 31, 0, 32, 0, 0, 64, 128},      // Q5M
    {256, 2368, true, 15, 0, 32, 64, 80, 0, 96},    // Q4K
    {256, 2880, true, 31, 0, 32, 64, 80, 96, 160},  // Q5K
    {256, 3360, true, 63, 32, 0, 32, 0, 64, 192},   // Q6K
    {32, 272, true, 28, 16, 0, 0, 0, 0, 16},        // MXFP4
};

// Bytes from a sub-block of 32 columns to the next, and high bits of a code.
template <Format f> constexpr int SUB_BYTES = FORMAT[f].step ? (FORMAT[f].bytes - FORMAT[f].step) / 8 : 0;
template <Format f> constexpr int HIGH_BITS = FORMAT[f].high ? (FORMAT[f].codes - FORMAT[f].high) / 64 : 0;

// MXFP4's nibbles as codes: twice the values of E2M1 (OCP microscaling formats 1.0), plus 16.
alignas(16) constexpr uint8_t E2M1[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

// Calls what(std::integral_constant<Format, f>()) for the format f of that number.
template <class What, int... f> VT_INLINE void with_format(int format, What what, std::integer_sequence<int, f...>) {
    ((format == f ? what(std::integral_constant<Format, Format{f}>()) : void()), ...);
}
template <class What> VT_INLINE void with_format(int format, What what) {
    with_format(format, what, std::make_integer_sequence<int, FORMATS>());
}

// Matrices of one size, `copies` of them (experts, heads) one after the other. A copy's size is packed_bytes().
struct Matrix {
    int32_t format, rows, cols, copies;
    int64_t copy_bytes;
    const uint8_t* data;
};

VT_INLINE constexpr int least(int a, int b) { return a < b ? a : b; }
VT_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T> VT_INLINE constexpr T between(T a, T low, T high) { return a < low ? low : a > high ? high : a; }
VT_INLINE int panels(int rows) { return static_cast<int>(ceil_div(rows, LANES)); }
VT_INLINE int64_t blocks(int format, int cols) { return ceil_div(cols, FORMAT[format].cols); }
VT_INLINE int64_t panel_bytes(int format, int cols) {
    return ceil_div(blocks(format, cols) * FORMAT[format].bytes, 64) * 64;
}
VT_INLINE int64_t packed_bytes(int format, int rows, int cols) { return panels(rows) * panel_bytes(format, cols); }
VT_INLINE const uint8_t* panel(const Matrix& m, int copy, int p) {
    return m.data + copy * m.copy_bytes + p * panel_bytes(m.format, m.cols);
}

// 32 activations as x ≈ d · q. The integer sums are those that codes with an offset need.
struct Quantized {
    int8_t q[32];
    float d;
    float sum;          // d · Σ q
    int32_t minus;      // −Σ q
    int32_t minus_low;  // −Σ of the first 16
};

// Activations up to this are quantised to 0: 127 / |x| must not overflow.
constexpr float TINY = 1e-30f;

// Blocks of 32 activations that a row of x has, enough for every format's padding.
VT_INLINE int64_t quantized_blocks(int cols) { return ceil_div(cols, 256) * 8; }

// From so many rows on, products with BF16 take x as bfloat16 too, where the processor multiplies such pairs.
constexpr int BFLOAT_ROWS = 8;
extern const bool has_bfloat_pairs;                                          // simd.cpp
VT_INLINE int64_t bfloat_cols(int cols) { return ceil_div(cols, 32) * 32; }  // of a row, the last ones zeros

// Up to so many rows each thread quantises for itself, which takes less time than a barrier.
constexpr int ALONE_ROWS = 4;
// Scratch for a row of x, in `heads` pieces of `cols`, as the format's products want it.
VT_INLINE int64_t prepared_bytes(int format, int cols, int heads) {
    if (format == BF16) return heads * bfloat_cols(cols) * 2;
    return FORMAT[format].integer ? heads * quantized_blocks(cols) * static_cast<int64_t>(sizeof(Quantized)) : 0;
}

// n rows of activations, as float and (if the matrix's format is integer) quantised by quantize_rows.
struct Input {
    const float* x;
    int64_t stride;  // floats from row to row
    int n;
    const Quantized* q;
    int64_t q_stride;             // blocks from row to row
    const uint16_t* b = nullptr;  // or as bfloat16, if they are so
    int64_t b_stride = 0;
};

}  // namespace vt
