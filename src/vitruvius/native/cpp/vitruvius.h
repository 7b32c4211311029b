/* The C interface of the native engine: opaque handles, numbers and pointers.
 *
 * Functions that can fail return 0, or 1 and a text in `error` (at most `error_size` bytes with its end). Nothing aborts
 * and nothing is thrown across this interface. Pointers to weights stay the caller's, and must outlive the engine.
 */
#ifndef VITRUVIUS_H
#define VITRUVIUS_H

#include <stdint.h>

#if defined(_WIN32)
#define VT_API __declspec(dllexport)
#else
#define VT_API __attribute__((visibility("default")))
#endif

#define VT_ABI 2

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vt_engine vt_engine;     /* a plan, its arena and its threads */
typedef struct vt_sequence vt_sequence; /* what an engine remembers of one text */

typedef struct {
    int32_t format, rows, cols, copies; /* see formats.h */
    const void* data;                   /* packed, one copy after the other */
    int64_t bytes;
} vt_matrix;

typedef struct {
    const float* data;
    int64_t size;
} vt_vector;

typedef struct {
    int32_t offset, width, stride; /* see plan.h: Buffer */
} vt_buffer;

typedef struct {
    int32_t heads, k_dim, v_dim, shared, window, fixed; /* see plan.h: StateSpec */
} vt_state;

typedef struct {
    int32_t max_rows; /* rows that one pass over the ops takes; longer inputs are cut */
    int32_t vocab;    /* ids run from 0 to vocab − 1 */
    int32_t context;  /* the longest sequence */
    int32_t arena;    /* floats of all buffers, max_rows rows each */
    int32_t output;   /* the buffer that is the caller's (offset −1) */
    int32_t buffers, matrices, vectors, states, words;
    const vt_buffer* buffer;
    const vt_matrix* matrix;
    const vt_vector* vector;
    const vt_state* state;
    const int32_t* word; /* records: an op's number in vt_ops(), then its fields */
} vt_plan;

/* How the entries of a sequence are kept: VT_STATE_Q8 is int8 with a float16 scale for 32 channels. */
enum { VT_STATE_F32, VT_STATE_F16, VT_STATE_Q8 };

VT_API int32_t vt_abi(void);
/* "choice act_kind none silu …" for each choice, then "op norm x:buffer y:buffer …" for each op, a line each. */
VT_API const char* vt_ops(void);
/* The instruction sets that this machine can run, the best first, with spaces between: "avx512 avx2 plain naive". */
VT_API const char* vt_simd(void);

/* Memory for weights: aligned to 64 bytes, in huge pages where there are such; NULL if there is none. */
VT_API void* vt_alloc(int64_t bytes);
VT_API void vt_free(void* memory, int64_t bytes);

/* Bytes of a copy of a packed matrix; with 16 rows, of a panel. −1 for a format or size that there is not. */
VT_API int64_t vt_packed_bytes(int32_t format, int32_t rows, int32_t cols);
/* Packs `rows` rows that lie one after the other at `source` into panels at out, out + panel_step, …; where a matrix is
 * packed in pieces, all but the last have whole panels. `kind` is "F32", "F16" or "BF16", quantised to any format, or
 * "Q8_0", "Q4_K" … of GGUF, each for the format that keeps it without loss. Several threads may pack pieces at once. */
VT_API int vt_pack(int32_t format, int32_t rows, int32_t cols, const char* kind, const void* source,
                   int64_t source_bytes, void* out, int64_t out_bytes, int64_t panel_step, char* error,
                   int64_t error_size);
/* Rows row0 … row0 + rows − 1 of a copy as float32, (rows, cols). */
VT_API int vt_unpack(const vt_matrix* matrix, int32_t copy, int32_t row0, int32_t rows, float* out, char* error,
                     int64_t error_size);
/* For tests and measurements. y (n, rows) = x (n, cols) Wᵀ, `turns` times over each copy in turn; y is the last one's.
 * `seconds` is the time of all of them, with x quantised anew for each. */
VT_API int vt_matmul(const vt_matrix* matrix, const float* x, int32_t n, float* y, const char* simd, int32_t threads,
                     int32_t turns, double* seconds, char* error, int64_t error_size);
/* Reads the memory once, for the bandwidth. */
VT_API int vt_read(const void* memory, int64_t bytes, const char* simd, int32_t threads, double* seconds, char* error,
                   int64_t error_size);

/* `simd` NULL is the best, `threads` include the caller's; `cpus` is NULL or a processor for each thread. */
VT_API int vt_engine_new(const vt_plan* plan, const char* simd, int32_t threads, const int32_t* cpus, vt_engine** out,
                         char* error, int64_t error_size);
VT_API void vt_engine_free(vt_engine* engine);
VT_API int64_t vt_engine_bytes(const vt_engine* engine); /* arena, scratch, and pages that no sequence holds */

/* An empty sequence of up to `capacity` tokens; windowed states keep `slack` tokens more, so that rewind reaches them.
 * A sequence belongs to its engine and must be freed before it. */
VT_API int vt_sequence_new(vt_engine* engine, int64_t capacity, int64_t slack, int32_t dtype, vt_sequence** out,
                           char* error, int64_t error_size);
/* Another sequence of the same engine with the same tokens. What both have is there once, until one writes to it. */
VT_API int vt_sequence_fork(const vt_sequence* sequence, vt_sequence** out, char* error, int64_t error_size);
VT_API void vt_sequence_free(vt_sequence* sequence);
/* Numbers of a sequence; −1 while its engine is in use by another thread. */
VT_API int64_t vt_sequence_bytes(const vt_sequence* sequence); /* without what another sequence counts already */
VT_API int64_t vt_sequence_length(const vt_sequence* sequence);
/* Whether an interruption has left what is recurrent between two tokens: then it can only be rewound. */
VT_API int64_t vt_sequence_torn(const vt_sequence* sequence);
/* The longest prefix of at most `length` tokens that rewind can return to. */
VT_API int64_t vt_sequence_reach(const vt_sequence* sequence, int64_t length);
VT_API int vt_sequence_rewind(vt_sequence* sequence, int64_t length, char* error, int64_t error_size);
/* Keeps a copy of what is recurrent, so that rewind can return here; of the copies the last `keep`. */
VT_API int vt_sequence_snapshot(vt_sequence* sequence, int32_t keep, char* error, int64_t error_size);

/* Appends counts[i] tokens to sequences[i]: `ids` has them one sequence after the other, and `wanted` says (1 or 0) for
 * each whether its output is written to `out`, which has room for `out_rows` rows. One step at a time on an engine. */
VT_API int vt_step(vt_engine* engine, int32_t n, vt_sequence* const* sequences, const int32_t* counts,
                   const int32_t* ids, const uint8_t* wanted, float* out, int64_t out_rows, char* error,
                   int64_t error_size);
/* Ends a step that runs in another thread, with an error. Its sequences stand at the tokens that were finished. */
VT_API void vt_interrupt(vt_engine* engine);

#ifdef __cplusplus
}
#endif
#endif
