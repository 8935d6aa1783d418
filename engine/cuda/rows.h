/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ROWS_H
#define ENGINE_CUDA_ROWS_H

/*
 * What is done row by row between the products of a step: embeddings, norms, rotation, the gate of
 * the feed-forward part. Every function launches one kernel into `stream` and returns a cudaError_t
 * (0: launched; cudaErrorInvalidValue: arguments that the comment rules out). Nothing is allocated,
 * nothing waits, no address is kept: all of them may be captured in a graph. n_rows == 0 is done at
 * once. All pointers are device memory, aligned to 16 bytes, and so is the start of every row where
 * a distance between rows can be given; no buffer overlaps another one of the same call unless it
 * says so.
 *
 * Padding rows (slot CUDA_NO_SLOT) are computed like others wherever that reads nothing foreign;
 * rows_rope leaves them out. A row's numbers never depend on another row.
 */

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/ahead.h"
#include "engine/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A place for rows of activations as the next product reads them, [n_rows][cols] by `type`:
 *  - F32, F16, BF16: plain;
 *  - E4M3: data is uint8_t [n_rows][cols], scale is [n_rows]: value = e4m3 * scale, where scale is
 *    the row's largest magnitude / 448 (1 when that is 1e-30 or less);
 *  - Q8: data is what quant.h says, for n_rows rows of cols values; cols is a multiple of 32.
 */
struct rows_out {
	enum cuda_type type;
	void *data;
	float *scale; /* E4M3 alone */
};

/* What rows_embed reads: a matrix as it lies in the file, copied to the device as it is. */
struct rows_embed {
	const void *data;   /* [n_vocab][cols], row after row in the file's blocks */
	uint32_t file_type; /* enum tensor_type: F32 F16 BF16 or a quantised one */
	uint32_t n_vocab;
	uint32_t cols; /* a multiple of the type's block */
	float scale;   /* of every value: 1 for llama, sqrt(cols) for gemma */
	struct cuda_ahead ahead;
};

/* x[i] = row id[i] of e, times scale; f32 [n_rows][cols]. An id >= n_vocab gives a row of zeros
 * (padding). */
int rows_embed(const struct rows_embed *e, const uint32_t *id, uint32_t n_rows, float *x,
	cudaStream_t stream);

struct rows_norm {
	float *x;          /* [n_rows][cols] f32: the residual */
	const void *delta; /* [n_rows][cols] of delta_type, or NULL: x += delta comes first and is
			      written back to x */
	enum cuda_type delta_type; /* F32, F16, BF16 */
	const uint32_t *row;       /* NULL, or [n_rows]: row i of out is made of row row[i] of x;
				      then there is no delta */
	const float *weight;       /* [cols] */
	float eps;
	uint32_t n_rows, cols; /* cols <= ROWS_MAX_COLS, a multiple of 4; of 32 for Q8 */
	struct cuda_ahead ahead;
};

#define ROWS_MAX_COLS 16384

/* out[i] = x[i] * (1 / sqrt(sum of squares of x[i] / cols + eps)) * weight, as ops.h has it, summed
 * in f32. out is f32, f16, bf16, e4m3 or q8. */
int rows_norm(const struct rows_norm *n, const struct rows_out *out, cudaStream_t stream);

/*
 * Rotates and stores what the products q, k and v made of a row. act is the type of all three: F32,
 * F16 or BF16. ld_* are the values from one row to the next: the three may lie in one matrix, side
 * by side. head_dim is even, rope_dim even and at most head_dim.
 *
 * q is rotated in place and multiplied by scale (1 / sqrt(head_dim)) * log2(e): attention takes
 * powers of two. k is rotated, v is as it is, both go to row slot[i] of the cache: block slot / 16,
 * position slot % 16; k and v themselves stay. kv->type is act or E4M3, which saturates at 448.
 */
struct rows_rope {
	enum cuda_type act;
	void *q;           /* [n_rows][ld_q], n_heads * head_dim values used */
	const void *k, *v; /* [n_rows][ld_kv], kv.n_kv_heads * head_dim values used */
	size_t ld_q, ld_kv;
	uint32_t n_rows, n_heads, rope_dim;
	float scale;
	const float *
		cs; /* [context][rope_dim]: cosine and sine of pair i of a position at 2i, 2i + 1 */
	const uint32_t *pos;  /* [n_rows] < context, but for padding */
	const uint32_t *slot; /* [n_rows] */
	struct cuda_ahead ahead;
};

int rows_rope(const struct rows_rope *r, const struct cuda_kv *kv, cudaStream_t stream);

enum rows_gate {
	ROWS_SWIGLU, /* x / (1 + exp(-x)) */
	ROWS_GEGLU,  /* x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 */
};

/* out[i][c] = f(gate[i][c]) * up[i][c]. gate and up are of type act (F32, F16, BF16), `ld` values
 * from one row to the next, which may be two halves of one matrix. cols is even; a multiple of 32
 * for Q8. out may be gate itself when the types are the same and ld == cols. up == NULL: the rows
 * of gate in another type, as rows_convert() has them. */
struct rows_glu {
	enum rows_gate kind;
	enum cuda_type act;
	const void *gate, *up;
	size_t ld;
	uint32_t n_rows, cols;
	struct cuda_ahead ahead;
};

int rows_glu(const struct rows_glu *g, const struct rows_out *out, cudaStream_t stream);

/* The same rows in another type: [n_rows][cols] contiguous of F32, F16 or BF16 to any type of
 * rows_out: after attention, and of weights that are made e4m3 when they are loaded. cols is even;
 * a multiple of 32 for Q8. */
int rows_convert(const void *in, enum cuda_type type, uint32_t n_rows, uint32_t cols,
	const struct rows_out *out, cudaStream_t stream);

/* out[i] = in[row[i]], rows of row_bytes bytes, a multiple of 4. For the rows whose logits are
 * wanted: row is cuda_rows.logit_row. */
int rows_gather(const void *in, size_t row_bytes, const uint32_t *row, uint32_t n_rows, void *out,
	cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
