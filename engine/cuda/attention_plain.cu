/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention for what tensor cores do not take: F32, and head dimensions that are not a multiple
 * of 8. Decode and prefill alike, correct and slow.
 *
 * A block takes a row and a query head; a warp takes every fourth position, its lanes the columns
 * of it, and keeps a running softmax; the warps' are added up at the end.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/attention_parts.h"
#include "engine/cuda/device.h"
#include "engine/cuda/rows_device.h"

#define WARPS 4
#define COLS (ATTENTION_MAX_HEAD_DIM / 32) /* of a lane */
#define NO_SCORE -1e30f

struct plain_part {
	float largest, sum, out[COLS];
};

/* Positions first, first + WARPS, ... < len. */
template <enum cuda_type KV>
static __device__ void walk(const struct attention_args *a, const uint32_t *blocks,
	uint32_t kv_head, uint32_t first, uint32_t len, const float q[COLS], struct plain_part *p)
{
	uint32_t lane = threadIdx.x % 32, dim = a->kv.head_dim;

	for (uint32_t pos = first; pos < len; pos += WARPS) {
		size_t block = blocks[pos / CUDA_KV_BLOCK_TOK], row = pos % CUDA_KV_BLOCK_TOK;
		size_t at = ((block * a->kv.n_kv_heads + kv_head) * CUDA_KV_BLOCK_TOK + row) * dim;
		float s = 0;
#pragma unroll
		for (uint32_t i = 0; i < COLS; i++) {
			if (i * 32 + lane < dim)
				s = fmaf(q[i], rows_get<KV>(a->kv.k, at + i * 32 + lane), s);
		}
		s = warp_sum(s);
		float n = fmaxf(p->largest, s), shrink = exp2f(p->largest - n), w = exp2f(s - n);
		p->largest = n;
		p->sum = fmaf(p->sum, shrink, w);
#pragma unroll
		for (uint32_t i = 0; i < COLS; i++) {
			float v =
				i * 32 + lane < dim ? rows_get<KV>(a->kv.v, at + i * 32 + lane) : 0;
			p->out[i] = fmaf(p->out[i], shrink, w * v);
		}
	}
}

/* Grid: rows, query heads. */
template <enum cuda_type ACT, enum cuda_type KV>
static __global__ void __launch_bounds__(WARPS * 32) plain_kernel(struct attention_args a)
{
	ahead_load_weights_by_all(a.ahead);
	device_begin();
	__shared__ float largest[WARPS], sums[WARPS], outs[WARPS][ATTENTION_MAX_HEAD_DIM];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = a.kv.head_dim;
	size_t row = blockIdx.x;
	uint32_t head = blockIdx.y;
	float q[COLS];

	if (a.rows.slot[row] == CUDA_NO_SLOT)
		return;
#pragma unroll
	for (uint32_t i = 0; i < COLS; i++) {
		uint32_t c = i * 32 + lane;
		q[i] = c < dim ? rows_get<ACT>(a.q, row * a.ld_q + (size_t)head * dim + c) : 0;
	}
	struct plain_part p = {NO_SCORE, 0, {}};
	walk<KV>(&a, a.rows.blocks + (size_t)a.rows.run[row] * a.rows.max_blocks, head / a.group,
		warp, a.rows.pos[row] + 1, q, &p);
	if (lane == 0) {
		largest[warp] = p.largest;
		sums[warp] = p.sum;
	}
#pragma unroll
	for (uint32_t i = 0; i < COLS; i++)
		outs[warp][i * 32 + lane] = p.out[i];
	__syncthreads();
	float n = NO_SCORE, sum = 0;
	for (int w = 0; w < WARPS; w++)
		n = fmaxf(n, largest[w]);
	for (int w = 0; w < WARPS; w++)
		sum += sums[w] * exp2f(largest[w] - n);
	for (uint32_t c = threadIdx.x; c < dim; c += WARPS * 32) {
		float o = 0;
		for (int w = 0; w < WARPS; w++)
			o = fmaf(outs[w][c], exp2f(largest[w] - n), o);
		size_t at = (row * a.n_heads + head) * dim + c;
		o /= sum;
		if (a.out.type == CUDA_TYPE_F32)
			rows_set<CUDA_TYPE_F32>(a.out.data, at, o);
		else if (a.out.type == CUDA_TYPE_F16)
			rows_set<CUDA_TYPE_F16>(a.out.data, at, o);
		else
			rows_set<CUDA_TYPE_BF16>(a.out.data, at, o);
	}
}

template <enum cuda_type ACT> static int launch(const struct attention_args *a, cudaStream_t stream)
{
	dim3 grid(a->n_rows, a->n_heads);

	if (a->kv.type == CUDA_TYPE_E4M3)
		return CUDA_LAUNCH(
			(plain_kernel<ACT, CUDA_TYPE_E4M3>), grid, dim3(WARPS * 32), 0, stream, *a);
	return CUDA_LAUNCH((plain_kernel<ACT, ACT>), grid, dim3(WARPS * 32), 0, stream, *a);
}

int attention_plain(const struct attention_args *a, enum cuda_type act, cudaStream_t stream)
{
	switch (act) {
	case CUDA_TYPE_F32:
		return launch<CUDA_TYPE_F32>(a, stream);
	case CUDA_TYPE_F16:
		return launch<CUDA_TYPE_F16>(a, stream);
	case CUDA_TYPE_BF16:
		return launch<CUDA_TYPE_BF16>(a, stream);
	default:
		return cudaErrorInvalidValue;
	}
}
