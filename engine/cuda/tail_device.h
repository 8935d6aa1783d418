/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_TAIL_DEVICE_H
#define ENGINE_CUDA_TAIL_DEVICE_H

/*
 * The norm or the activation behind a product of few rows, by the block that comes last (tail.h).
 * A block whose tile has been put down counts itself, as those count that have parts of a tile:
 * for a norm all tiles, with one counter; for an activation the two of the gate and the two of up
 * whose 32 columns are a block of q8, with a counter each. These counters lie behind those of the
 * tiles, and go back to zero like them. Nobody waits for another block.
 *
 * What the last block reads was written by other multiprocessors while it ran. They wrote, then a
 * barrier of the block, a fence, and the counter; here it is the counter, a fence, a barrier, and
 * the loads: so the writes are in the L2 cache by then. All loads are from there (__ldcg): a line
 * in this multiprocessor's L1 cache may be older, as the product that adds to x has read its own
 * part of it through L1. The emulator has no caches and would not show that one were missing.
 *
 * A norm is latency and little else: that of the counter, of x, of sums. So one row is in flight as
 * a whole; of several the next is on its way while one is summed.
 *
 * Kernels with a tail are others than those without, whose registers stay what they are.
 */

#include "engine/cuda/norm_device.h"
#include "engine/cuda/product_device.h"

static_assert(CUDA_TAIL_MAX_FF / 8 + CUDA_TAIL_MAX_FF / 32 <= CUDA_PRODUCT_COUNTERS &&
		      CUDA_TAIL_MAX_COLS / 16 < CUDA_PRODUCT_COUNTERS,
	"counters of tiles, and behind them those of tails");

/* cuda_product_out_of() for products that take a tail; `reads`: the type of their x. 0 or
 * cudaErrorInvalidValue. */
static inline int cuda_tail_out_of(
	const cuda_product *p, uint32_t rows, enum cuda_type reads, cuda_product_out *out)
{
	const cuda_tail *t = &p->tail;
	cuda_product without = *p;
	bool fits = t->kind == CUDA_TAIL_NONE;

	if (t->kind == CUDA_TAIL_NORM)
		fits = p->type == CUDA_TYPE_F32 && p->ld == rows && rows <= CUDA_TAIL_MAX_COLS &&
		       rows % (reads == CUDA_TYPE_Q8 ? 32 : 4) == 0 && t->h.type == reads;
	else if (t->kind == CUDA_TAIL_GLU)
		fits = (p->type == CUDA_TYPE_F16 || p->type == CUDA_TYPE_BF16) && p->ld % 4 == 0 &&
		       rows % 64 == 0 && rows / 2 <= CUDA_TAIL_MAX_FF && reads == CUDA_TYPE_Q8 &&
		       t->h.type == reads;
	without.tail.kind = CUDA_TAIL_NONE;
	int r = fits ? cuda_product_out_of(&without, rows, out)
		     : static_cast<int>(cudaErrorInvalidValue);
	out->tail = *t;
	return r;
}

/* ---- norm ---- */

#define TAIL_PIECES (CUDA_TAIL_MAX_COLS / CUDA_TAIL_THREADS / 4) /* of four values, a thread */

static __device__ __forceinline__ void tail_load_row(
	const float *row, const norm_rows &n, float x[TAIL_PIECES][4])
{
	uint32_t c = n.first;

#pragma unroll
	for (int p = 0; p < TAIL_PIECES; p++, c += n.step) {
		float4 v = c < n.cols ? __ldcg(reinterpret_cast<const float4 *>(row + c))
				      : make_float4(0, 0, 0, 0);
		x[p][0] = v.x, x[p][1] = v.y, x[p][2] = v.z, x[p][3] = v.w;
	}
}

/* shared: NORM_SHARED words a row. */
template <enum cuda_type OUT, bool ODD>
static __device__ __forceinline__ void tail_norm(const cuda_product_out &o, float *shared)
{
	const norm_rows n = {
		o.tail.weight, o.tail.eps, o.rows, threadIdx.x * 4, CUDA_TAIL_THREADS * 4};
	const float *x = static_cast<const float *>(o.out);
	float now[TAIL_PIECES][4], next[TAIL_PIECES][4], w[TAIL_PIECES][4];

	tail_load_row(x, n, now);
	norm_load_weights<TAIL_PIECES>(n, w);
	for (uint32_t i = 0; ODD && i + 1 < o.n_rows; i++) {
		x += n.cols;
		tail_load_row(x, n, next);
		norm_row<OUT, TAIL_PIECES, true>(n, o.tail.h, i, now, w, shared);
		shared += NORM_SHARED;
#pragma unroll
		for (int p = 0; p < TAIL_PIECES; p++)
#pragma unroll
			for (int k = 0; k < 4; k++)
				now[p][k] = next[p][k];
	}
	norm_row<OUT, TAIL_PIECES, true>(n, o.tail.h, o.n_rows - 1, now, w, shared);
}

/* The norm's weights of a tile's columns, into the L2 cache: nobody has read them since the step
 * before, and the last block wants all of them at once. */
static __device__ __forceinline__ void tail_ask_weights(const cuda_product_out &o)
{
#ifdef __CUDACC__
	if (threadIdx.x == 0)
		asm volatile("prefetch.global.L2 [%0];" ::"l"(
			__cvta_generic_to_global(o.tail.weight + blockIdx.x * 16)));
#else
	(void)o;
#endif
}

/* ---- activation ---- */

static __device__ __forceinline__ float tail_half(enum cuda_type type, uint32_t word, int k)
{
	uint16_t h = static_cast<uint16_t>(word >> k % 2 * 16);

	return type == CUDA_TYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

/* Columns 32 `block` .. of h. 8 threads of a row: the first two warps. */
static __device__ __forceinline__ void tail_glu(const cuda_product_out &o, uint32_t block)
{
	uint32_t n = o.rows / 2, row = threadIdx.x / 8, c = threadIdx.x % 8 * 4;
	bool in = row < o.n_rows;
	const uint16_t *gate =
		static_cast<const uint16_t *>(o.out) + (in ? row : 0) * o.ld + block * 32 + c;
	uint2 g = __ldcg(reinterpret_cast<const uint2 *>(gate)),
	      u = __ldcg(reinterpret_cast<const uint2 *>(gate + n));
	float v[4], none[4] = {};

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = rows_gated(o.tail.gate, tail_half(o.type, k < 2 ? g.x : g.y, k)) *
		       tail_half(o.type, k < 2 ? u.x : u.y, k);
	rows_put_q8(o.tail.h.data, n, row, block * 32 + c, in, v);
	/* behind the last column to the end of its chunk */
	for (uint32_t b = n / 32; block + 1 == n / 32 && b < rows_q8_blocks(n); b++)
		rows_put_q8(o.tail.h.data, n, row, b * 32 + c, in, none);
}

/* ---- the end of a product ---- */

/* The sums of cuda_product_add_up() as outputs, and what follows. H: the type of a norm's h. ODD:
 * rows may be more than one. blockDim.x is CUDA_TAIL_THREADS. */
template <int WARPS, enum cuda_tail_kind KIND, enum cuda_type H, bool ODD>
static __device__ __forceinline__ void cuda_tail_finish(
	const cuda_product_out &o, float *shared, const float acc[4], float unit)
{
	unsigned *flag = reinterpret_cast<unsigned *>(shared + WARPS * 128);
	uint32_t i = threadIdx.x, n_tiles = gridDim.x;
	float y;

	static_assert(WARPS * 32 == CUDA_TAIL_THREADS && NORM_SHARED * 8 <= WARPS * 128,
		"a row of the norm for each of activations");
	if (KIND == CUDA_TAIL_NORM)
		tail_ask_weights(o);
	if (!cuda_product_add_up<WARPS>(o, shared, acc, unit, &y))
		return;
	if (i < 128)
		cuda_product_put(o, i / 16, blockIdx.x * 16 + i % 16, y);
	if (KIND == CUDA_TAIL_NORM) {
		if (cuda_product_is_last(o, n_tiles, n_tiles, flag))
			tail_norm<H, ODD>(o, shared);
	} else if (KIND == CUDA_TAIL_GLU) {
		uint32_t block = blockIdx.x % (n_tiles / 2) / 2;
		if (cuda_product_is_last(o, n_tiles + block, 4, flag) && i < 64)
			tail_glu(o, block);
	}
}

#endif
