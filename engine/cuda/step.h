/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_STEP_H
#define ENGINE_CUDA_STEP_H

/*
 * The memory of a step on the device, which kernels and host agree on. Plain C and C++. Every
 * pointer is device memory at an address that stays the same as long as the model lives, so that a
 * captured graph can be replayed with other contents.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_KV_BLOCK_TOK 16
#define CUDA_NO_SLOT UINT32_MAX /* of a row that is padding */

/* How numbers are stored. 16-bit ones are uint16_t in C, e4m3 is uint8_t. */
enum cuda_type {
	CUDA_TYPE_F32,
	CUDA_TYPE_F16,
	CUDA_TYPE_BF16,
	CUDA_TYPE_E4M3, /* rows of activations: one f32 scale a row beside them */
	CUDA_TYPE_Q8,   /* activations as products of quantised weights read them: quant.h */
};

static inline size_t cuda_type_bytes(enum cuda_type type)
{
	return type == CUDA_TYPE_F32 ? 4 : type == CUDA_TYPE_F16 || type == CUDA_TYPE_BF16 ? 2 : 1;
}

/* What the rows of a step are. [max_rows] each unless it says otherwise. */
struct cuda_rows {
	uint32_t *id;        /* token of the row, resolved */
	uint32_t *pos;       /* its position in its sequence */
	uint32_t *slot;      /* where its K and V go: block * 16 + pos % 16; CUDA_NO_SLOT: a
				padding row, which writes nothing and of which nothing is read */
	uint32_t *run;       /* index of its run (a sequence in this step) */
	uint32_t *first_row; /* [max_runs + 1] first row of each run, then the number of rows */
	uint32_t *first_pos; /* [max_runs] position of that row */
	uint32_t *blocks;    /* [max_runs][max_blocks] block table of each run */
	uint32_t max_blocks; /* row length of blocks */
	uint32_t *logit_row; /* [max_logit_rows] the row whose logits are wanted */
};

/* Keys and values of one layer: k and v are [n_blocks][n_kv_heads][16][head_dim] of type f32, f16,
 * bf16 or e4m3 (whose scale is 1). */
struct cuda_kv {
	void *k, *v;
	enum cuda_type type;
	uint32_t n_kv_heads, head_dim;
};

#endif
