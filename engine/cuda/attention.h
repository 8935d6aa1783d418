/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ATTENTION_H
#define ENGINE_CUDA_ATTENTION_H

/*
 * Attention over the paged cache. Every row of a step attends to positions 0 .. its own of its
 * sequence, whose K and V were written before; its own too, by rows_rope, or they are written by
 * attention itself, where it ropes.
 *
 * Once a step, attention_plan() cuts the work into pieces on the device: it reads positions and
 * runs from device memory, so a captured graph stays right when contexts grow. Then, for each
 * layer, attention_run(). Runs of one row (decode) are split over their context, so that few long
 * sequences use the whole card, one piece reading a KV head once for all query heads that share it;
 * the last piece of a sequence to end adds the pieces up. Longer runs (prefill) are cut into tiles
 * of query rows and computed with tensor cores. Both may be in one step.
 *
 * Fast: act and cache both F16 or both BF16, or the cache E4M3; head_dim a multiple of 8 (16 for
 * E4M3) up to 256. Anything else (F32; other head dimensions up to 256) goes to a plain kernel that
 * is correct and slow. A row's numbers depend on its own sequence, but for the order of sums: into
 * how many pieces a context is cut depends on the other sequences of the step.
 *
 * All return a cudaError_t: 0, or cudaErrorInvalidValue, or what a launch says. Nothing waits or
 * allocates: both may be captured in a graph.
 */

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/rows.h"
#include "engine/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What stays the same as long as the model lives. */
struct attention_shape {
	enum cuda_type act;           /* of q: F32, F16, BF16 */
	enum cuda_type kv;            /* of the cache: act or E4M3 */
	uint32_t n_heads, n_kv_heads; /* n_heads is a multiple of n_kv_heads */
	uint32_t head_dim;            /* even, <= 256 */
	uint32_t n_processors;        /* cudaDevAttrMultiProcessorCount */
	uint32_t max_rows, max_runs;
};

/* Bytes of device memory that steps of this shape need, at an address aligned to 256 bytes. It is
 * set to zero once, before the first attention_plan(); it belongs to one stream at a time. */
size_t attention_workspace_bytes(const struct attention_shape *s);

struct attention_step {
	const struct attention_shape *shape;
	const struct cuda_rows *rows; /* pos, slot, run, first_row, first_pos, blocks are read */
	/*
	 * decode: every run has one row, row i belongs to run run[i], and rows with CUDA_NO_SLOT
	 * are padding (n_runs and first_row are not looked at). Else: rows first_row[r] ..
	 * first_row[r + 1] - 1 belong to run r < n_runs, runs of no rows are allowed, and rows
	 * behind first_row[n_runs] are padding.
	 */
	bool decode;
	uint32_t n_rows, n_runs; /* as launched, with padding */
	void *workspace;         /* of attention_workspace_bytes() */
	struct cuda_ahead ahead; /* of each attention_run() */
};

/* The plan of a step, into its workspace. It holds until the next one. One small kernel. */
int attention_plan(const struct attention_step *s, cudaStream_t stream);

/*
 * Attention of one layer, after attention_plan() of the same step: one launch, or two where the
 * step may have both kinds of runs. kv is the layer's cache (sizes as in the shape). q is
 * [n_rows][ld_q] of type act as rows_rope leaves it (rotated and scaled). out is [n_rows][n_heads *
 * head_dim]: F32, F16, BF16 whatever act is, or Q8 if attention_gives_q8(). For E4M3 let it give
 * act and use rows_convert(). Rows of padding are left as they are. out may not overlap q.
 */
int attention_run(const struct attention_step *s, const struct cuda_kv *kv, const void *q,
	size_t ld_q, const struct rows_out *out, cudaStream_t stream);

/*
 * Whether attention_rope_and_run() is to be had: in decode steps, on the fast path, with up to 16
 * query heads for a KV head and a rope_dim that is a multiple of 4. (Of more than that several
 * blocks read a KV head, and one of them would have to wait until another has stored the new
 * position.)
 */
bool attention_ropes(const struct attention_step *s, uint32_t rope_dim);

/*
 * rows_rope() and attention_run() of a layer in one launch, to the bit what the two give in `out`
 * and in the cache; q, k and v themselves stay as they are, so that it may be done twice. r is as
 * for rows_rope() with q, k and v of the shape's act; pos and slot are not looked at, as positions
 * and places follow from the plan and the block tables. `out` may overlap none of them.
 */
int attention_rope_and_run(const struct attention_step *s, const struct rows_rope *r,
	const struct cuda_kv *kv, const struct rows_out *out, cudaStream_t stream);

/* Whether attention_run() can write Q8: on the fast path with head_dim a multiple of 32. */
bool attention_gives_q8(const struct attention_shape *s);

#ifdef __cplusplus
}
#endif

#endif
