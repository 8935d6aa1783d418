/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ATTENTION_PARTS_H
#define ENGINE_CUDA_ATTENTION_PARTS_H

/*
 * What attention.cu and its kernels share: the plan of a step and the arguments of a launch.
 *
 * A query group (the heads that share a KV head) of more than 16 heads is cut into parts of 16, the
 * rows of a matrix instruction; `a head part` below is a KV head and such a part of its group.
 */

#include "engine/cuda/attention.h"
#include "engine/cuda/device.h"

#define ATTENTION_PART_HEADS 16
#define ATTENTION_MAX_HEAD_DIM 256

/* Decode: some KV blocks of the context of one row. */
struct alignas(16) attention_item {
	uint32_t row, run;
	uint32_t len;                   /* positions the row sees */
	uint32_t first_block, n_blocks; /* of its context, in blocks of 16 positions */
	uint32_t first_item, n_items;   /* of this row */
	uint32_t pad;
};

/* Prefill: query vectors (a token and a head of the group) first .. of a run, as many as a tile
 * has. */
struct attention_tile {
	uint32_t run, first;
};

struct attention_counts {
	uint32_t n_items, n_tiles;
};

/* What a plan and its launches work on: all in the workspace. */
struct attention_plan {
	struct attention_counts *counts;
	struct attention_item *items; /* [max_items] */
	struct attention_tile *tiles; /* [max_tiles] */
	uint32_t *done;               /* [max_rows][head parts] items that have ended; zero between
					 launches */
	float2 *sums;                 /* [max_items][n_heads] largest score and sum of weights */
	float *outs;                  /* [max_items][n_heads][head_dim] */
};

/* Sizes that follow from a shape. */
struct attention_sizes {
	uint32_t group;     /* query heads of a KV head */
	uint32_t n_parts;   /* of a group */
	uint32_t n_pieces;  /* pieces a step's contexts are cut into, when rows are few */
	uint32_t tile_rows; /* query vectors of a prefill tile */
	uint32_t max_items, max_tiles;
};

/* What each kernel is told. */
struct attention_args {
	struct attention_plan plan;
	struct cuda_rows rows;
	struct cuda_kv kv;
	struct rows_out out;
	const void *q;
	size_t ld_q;
	uint32_t n_heads, group, n_parts, n_rows;
	struct cuda_ahead ahead; /* of the kernel for runs of one row, and of the plain one */
	struct rows_rope rope;   /* k NULL: q is as rows_rope leaves it. Else decode rotates q, and
				    rotates and stores k and v */
};

/* Query vectors of a prefill tile: what attention_prefill.cu is compiled for. */
static inline uint32_t attention_tile_rows(uint32_t head_dim)
{
	return head_dim <= 128 ? 128 : 64;
}

/* The launchers of the three kernels; n: most items or tiles there can be. */
int attention_decode(
	const struct attention_args *a, enum cuda_type act, uint32_t n, cudaStream_t stream);
int attention_prefill(
	const struct attention_args *a, enum cuda_type act, uint32_t n, cudaStream_t stream);
int attention_plain(const struct attention_args *a, enum cuda_type act, cudaStream_t stream);

#endif
