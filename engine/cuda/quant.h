/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_QUANT_H
#define ENGINE_CUDA_QUANT_H

/*
 * Quantised weights on a device: the form they are repacked to when a model is loaded, the form of
 * the activations they are multiplied with, and the launchers that do it. Types are Q8_0, Q4_0,
 * Q4_1, Q5_1, Q4_K, Q5_K, Q6_K; Q5_0 is repacked to the form of Q8_0, with the same scales. The
 * mathematics is that of engine/ops.h (exact integers in a block of 32 columns, f32 between
 * blocks); the order in which blocks are added is not, so results differ from the CPU's in the last
 * bits, and those for 8 rows from those for 9.
 *
 * Launchers put work into a stream and come back; all of them may be captured in a graph. Each
 * returns a cudaError_t as int: 0, what the launch said, or cudaErrorInvalidValue for a type or
 * shape that is not described here (nothing is launched then). Pointers are device memory aligned
 * to 16 bytes unless it says otherwise.
 *
 * ---- weights, repacked ----
 *
 * Tiles of 16 rows; in a tile chunk after chunk of columns, 256 of the K types, 128 of the
 * others. Rows and columns that are missing in the last of them are zero. A chunk is scales, then
 * the integers in the order in which a tensor core takes its left operand (m16n8k32), so that lane
 * 4 g + t of a warp loads 16 bytes at 16 times its number and has columns 8 t .. 8 t + 7 of rows g
 * and g + 8 of a block of 32 columns: four words A0 (row g, the first four columns), A1 (row g +
 * 8), A2 (row g, the last four), A3 (row g + 8).
 *
 *  Q8_0, 2176 bytes: f16 d[8 g][2 rows g, g + 8][4 blocks]; then for each of 4 blocks [32 lanes]
 *        {A0, A1, A2, A3}.
 *  Q4_0, 1152 bytes: d as in Q8_0; then for each of 2 pairs of blocks [32 lanes] {w0, w1 of the
 *        first block, w0, w1 of the second}. The low half of each byte of w0 is A0, the high one
 *        A1; likewise A2 and A3 in w1. The half byte is q - 8 in two's complement: as the upper
 *        half of a byte it is 16 times that.
 *  Q4_1, 1280 bytes: d as in Q8_0; f16 -m in the same order; then as in Q4_0, but q itself, 0
 * .. 15. Q5_1, 1536 bytes: as Q4_1; then [32 lanes] 2 words, one for a pair of blocks: bit k of
 * byte i of it is the fifth bit of byte i of Ak of the first block, bit 4 + k that of the second.
 *  Q4_K, 2368 bytes: [8 g][2 rows] {f16 d, dmin} (64 bytes); [8 g][2 rows] {8 scales, 8 minima}, a
 *        byte each; then for each of 4 pairs of blocks as in Q4_0, but q itself, 0 .. 15.
 *  Q5_K, 2880 bytes: as Q4_K; then [32 lanes] 4 words as in Q5_1.
 *  Q6_K, 3360 bytes: [8 g][2 rows] f16 d (32 bytes); [8 g][2 rows] 16 scales + 128, a byte each
 *        (256 bytes); then as in Q4_K the low half bytes, of q - 32 in two's complement (6 bits);
 *        then for each of 2 quarters of 4 blocks [32 lanes] 4 words, one for a block: bits 2 k of
 *        byte i of it are the upper ones of byte i of Ak. Only here words are other columns: A0, A1
 *        are columns 4 t .. 4 t + 3, A2, A3 columns 16 + 4 t .., since scales are those of 16
 *        columns.
 *
 * ---- activations, q8 ----
 *
 * Groups of 8 rows; in a group, for each block of 32 columns (as many as chunks have), 320 bytes:
 * struct { int8_t q[8][32]; float d[8]; float s[8]; }: x = d * q as in engine/ops.h, and s = -d *
 * (sum of q), which minima are multiplied with. Blocks behind the last column are zero. Rows behind
 * the last in a group may hold anything. Kernels that make activations write it themselves
 * (rows.h, attention.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#include "engine/cuda/ahead.h"
#include "engine/cuda/step.h"
#include "engine/cuda/tail.h"
#include "engine/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_QUANT_TILE_ROWS 16
#define CUDA_QUANT_GROUP_ROWS 8
#define CUDA_QUANT_GROUP_BLOCK_BYTES 320

/* The type whose form a type of a file is repacked to: its own, but of Q5_0. */
static inline enum tensor_type cuda_quant_form(enum tensor_type type)
{
	return type == TENSOR_Q5_0 ? TENSOR_Q8_0 : type;
}

struct cuda_quant_matrix {
	enum tensor_type type; /* the form: not Q5_0 */
	uint32_t rows, cols;   /* cols: a multiple of 32, of the K types of 256 */
	const void *data;      /* repacked */
};

/* Columns of a chunk of a form or of a type that has one; 0 for one that is not quantised. */
static inline uint32_t cuda_quant_chunk_cols(enum tensor_type type)
{
	switch (type) {
	case TENSOR_Q8_0:
	case TENSOR_Q4_0:
	case TENSOR_Q4_1:
	case TENSOR_Q5_0:
	case TENSOR_Q5_1:
		return 128;
	case TENSOR_Q4_K:
	case TENSOR_Q5_K:
	case TENSOR_Q6_K:
		return 256;
	default:
		return 0;
	}
}

/* Its bytes. */
static inline uint32_t cuda_quant_chunk_bytes(enum tensor_type type)
{
	switch (cuda_quant_form(type)) {
	case TENSOR_Q8_0:
		return 2176;
	case TENSOR_Q4_0:
		return 1152;
	case TENSOR_Q4_1:
		return 1280;
	case TENSOR_Q5_1:
		return 1536;
	case TENSOR_Q4_K:
		return 2368;
	case TENSOR_Q5_K:
		return 2880;
	case TENSOR_Q6_K:
		return 3360;
	default:
		return 0;
	}
}

/* Whether a matrix of the type may have so many columns. */
static inline bool cuda_quant_fits(enum tensor_type type, uint32_t cols)
{
	uint32_t chunk = cuda_quant_chunk_cols(type);

	return chunk != 0 && cols != 0 && cols % (chunk == 256 ? 256 : 32) == 0;
}

/* Bytes of a repacked matrix. Matrices of the same form and columns, rows a multiple of 16 but for
 * the last one's, may lie one behind the other and are then multiplied as one (Q, K, V; gate, up).
 */
static inline size_t cuda_quant_bytes(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	size_t chunk = cuda_quant_chunk_cols(type);

	return chunk == 0 ? 0
			  : ((size_t)rows + 15) / 16 * ((cols + chunk - 1) / chunk) *
				    cuda_quant_chunk_bytes(type);
}

/* Blocks of 32 columns in a row of q8. The same for all types: of 256 columns if the K types may
 * read it (cols % 256 == 0), else of 128. */
static inline uint32_t cuda_quant_q8_blocks(uint32_t cols)
{
	return (cols + 127) / 128 * 4;
}

/* Bytes of q8 of so many rows. */
static inline size_t cuda_quant_q8_bytes(uint32_t n_rows, uint32_t cols)
{
	return ((size_t)n_rows + 7) / 8 * cuda_quant_q8_blocks(cols) * CUDA_QUANT_GROUP_BLOCK_BYTES;
}

/*
 * type: of the file. Rows first .. first + n - 1 of a matrix, which lie at src as in the file (at
 * any even address), to their places in the repacked matrix at dst. first is a multiple of 16, and
 * so is n but for the last rows of the matrix, whose tile is filled with zeros.
 */
int cuda_quant_repack(enum tensor_type type, uint32_t rows, uint32_t cols, uint32_t first,
	uint32_t n, const void *src, void *dst, cudaStream_t stream);

/* Rows first .. first + n - 1 of w as [n][cols] of f32, f16 or bf16, for a dense product. first: a
 * multiple of 16. */
int cuda_quant_unpack(const struct cuda_quant_matrix *w, uint32_t first, uint32_t n,
	enum cuda_type type, void *out, cudaStream_t stream);

/*
 * What all products of this folder are told, besides the weights: out[i][r] = sum over c of w[r][c]
 * * x[i][c] + bias[r], or out += that.
 */
struct cuda_product {
	const void *x;         /* [n_rows][cols]: q8 or bf16 here; in gemv.h as it says there */
	uint32_t n_rows;       /* 1 or more */
	void *out;             /* [n_rows][ld], columns 0 .. rows - 1 are written */
	size_t ld;             /* in values */
	enum cuda_type type;   /* of out: f32, f16, bf16 */
	bool add;              /* f32 only */
	const float *bias;     /* [rows] or NULL */
	struct cuda_tail tail; /* what is done with out then */

	/* Where parts of sums go when there are too few weights to keep the device busy otherwise.
	 * CUDA_PRODUCT_WORKSPACE_BYTES, zeroed once when they were allocated, and left so by each
	 * product: shared by products that follow each other in a stream, not by streams. */
	void *workspace;
	uint32_t n_sm; /* of the device */
	/* Asked for by products of at most CUDA_QUANT_GROUP_ROWS rows, and of gemv.h. */
	struct cuda_ahead ahead;
};

#define CUDA_PRODUCT_WORKSPACE_BYTES ((size_t)21 << 20)

/*
 * Three ways for many rows: q8, below; bf16, by cuda_gemm_wide(), which takes longer for a tile of
 * weights and less for each row; a dense product of weights that were made bf16 in memory, which
 * takes longest to begin and least for each row. From how many rows of activations on, padding
 * counted, the second and the third are the best on a device; UINT32_MAX: never.
 */
struct cuda_quant_limits {
	uint32_t wide, dense;
};
struct cuda_quant_limits cuda_quant_limits(uint32_t sm_major, uint32_t sm_minor);

/*
 * The product of a quantised matrix and q8, for any number of rows: up to 8 by warps that have
 * weights of their own (gemv_q.cu), with any tail; beyond, in tiles of 16, 32 or 64 rows by blocks
 * that share what they read (gemm_q.cu), without.
 */
int cuda_quant_product(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream);

/* The two of them, for tests and measurements. The first takes at most 8 rows. */
int cuda_gemv_q(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream);
int cuda_gemm_q(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream);

/*
 * The same of x in bf16, [n_rows][cols], for any number of rows: weights, as cuda_quant_unpack()
 * makes them bf16, times x, in f32. The sums go along all columns, cut into as many parts as the
 * device's number of multiprocessors says.
 */
int cuda_gemm_wide(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
