/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_PRODUCT_DEVICE_H
#define ENGINE_CUDA_PRODUCT_DEVICE_H

/*
 * How products end: sums become outputs, and sums that several blocks have parts of are put
 * together. A part goes to the workspace; the block that comes last, by a counter, adds all of them
 * in their order, so that the result does not depend on which one that was, and leaves the counter
 * at zero. The workspace is CUDA_PRODUCT_COUNTERS counters and then the parts.
 */

#include "engine/cuda/device.h"
#include "engine/cuda/quant.h"

#define CUDA_PRODUCT_COUNTERS 16384
#define CUDA_PRODUCT_PART_VALUES (CUDA_PRODUCT_WORKSPACE_BYTES / 4 - CUDA_PRODUCT_COUNTERS)

/* What a kernel is told of its outputs. */
struct cuda_product_out {
	void *out;
	size_t ld;
	const float *bias;
	unsigned *counters;
	float *parts;
	uint32_t rows, n_rows; /* of the matrix, of the activations */
	enum cuda_type type;
	bool add;
	cuda_tail tail;
};

/* Of products that nothing follows; others have cuda_tail_out_of(). 0 or cudaErrorInvalidValue. */
static inline int cuda_product_out_of(
	const struct cuda_product *p, uint32_t rows, struct cuda_product_out *out)
{
	bool known = p->type == CUDA_TYPE_F32 ||
		     (!p->add && (p->type == CUDA_TYPE_F16 || p->type == CUDA_TYPE_BF16));

	if (!known || p->n_rows == 0 || rows == 0 || !p->workspace || p->tail.kind)
		return cudaErrorInvalidValue;
	out->out = p->out;
	out->ld = p->ld;
	out->bias = p->bias;
	out->counters = static_cast<unsigned *>(p->workspace);
	out->parts = static_cast<float *>(p->workspace) + CUDA_PRODUCT_COUNTERS;
	out->rows = rows;
	out->n_rows = p->n_rows;
	out->type = p->type;
	out->add = p->add;
	out->tail = p->tail;
	return 0;
}

/* Into how many parts the columns are cut: so many that the device has about `want` blocks, each of
 * at least `least` of n pieces of columns, and that the parts fit the workspace. n_tiles: outputs
 * are in so many tiles of tile_values. */
static inline uint32_t cuda_product_parts(
	size_t n_tiles, size_t tile_values, uint32_t want, uint32_t n, uint32_t least)
{
	size_t parts = (want + n_tiles - 1) / n_tiles, most = n / least;

	parts = parts < most ? parts : most;
	most = CUDA_PRODUCT_PART_VALUES / (n_tiles * tile_values);
	parts = parts < most ? parts : most;
	parts = parts < 32 ? parts : 32;
	return parts < 2 || n_tiles > CUDA_PRODUCT_COUNTERS ? 1 : static_cast<uint32_t>(parts);
}

/* Output r of activation row i. */
static __device__ __forceinline__ void cuda_product_put(
	const cuda_product_out &o, uint32_t i, uint32_t r, float y)
{
	if (i >= o.n_rows || r >= o.rows)
		return;
	size_t at = i * o.ld + r;
	if (o.bias)
		y += o.bias[r];
	if (o.type == CUDA_TYPE_F32) {
		float *out = static_cast<float *>(o.out) + at;
		*out = o.add ? *out + y : y;
	} else {
		static_cast<uint16_t *>(o.out)[at] =
			o.type == CUDA_TYPE_F16 ? f32_to_f16(y) : f32_to_bf16(y);
	}
}

/* All threads of a block, when its part is written: whether it is the last of n_parts of the tile.
 * shared: a word nobody uses meanwhile. */
static __device__ __forceinline__ bool cuda_product_is_last(
	const cuda_product_out &o, size_t tile, uint32_t n_parts, unsigned *shared)
{
	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence(); /* what the block wrote is there before the counter counts */
		/* at n_parts - 1 the counter goes back to zero */
		*shared = atomicInc(o.counters + tile, n_parts - 1) == n_parts - 1;
		__threadfence();
	}
	__syncthreads();
	return *shared != 0;
}

/*
 * The sums of a product in which a block has a tile of 16 weight rows times 8 activation rows, and
 * each of WARPS warps those of some columns, as tensor cores have them, to be multiplied with
 * `unit`. The tile's number is blockIdx.x; gridDim.y blocks have parts of it. False: another block
 * goes on. Else thread i < 128 gets, in *sum, that of activation row i / 16 and weight row i % 16.
 * shared: CUDA_PRODUCT_FINISH_BYTES.
 */
#define CUDA_PRODUCT_FINISH_BYTES(warps) (((warps)*128 + 4) * sizeof(float))

template <int WARPS>
static __device__ __forceinline__ bool cuda_product_add_up(
	const cuda_product_out &o, float *shared, const float acc[4], float unit, float *sum)
{
	uint32_t tile = blockIdx.x, n_parts = gridDim.y, i = threadIdx.x;
	float *parts = o.parts + static_cast<size_t>(tile) * n_parts * 128;
	unsigned *flag = reinterpret_cast<unsigned *>(shared + WARPS * 128);
	unsigned lane = threadIdx.x % 32;
	/* [warps][8 activation rows][16 weight rows] */
	float *mine = shared + threadIdx.x / 32 * 128 + lane / 4 + lane % 4 * 32, y = 0;

	mine[0] = acc[0] * unit;
	mine[16] = acc[1] * unit;
	mine[8] = acc[2] * unit;
	mine[24] = acc[3] * unit;
	__syncthreads();
	if (i < 128) {
#pragma unroll
		for (int k = 0; k < WARPS; k++)
			y += shared[k * 128 + i];
	}
	if (n_parts > 1) {
		if (i < 128)
			parts[blockIdx.y * 128 + i] = y;
		if (!cuda_product_is_last(o, tile, n_parts, flag))
			return false;
		y = 0;
		for (uint32_t k = 0; k < n_parts && i < 128; k++)
			y += __ldcg(parts + k * 128 + i);
	}
	*sum = y;
	return true;
}

/* 16 bytes of weights, which are used once and should not push activations out of the L1 cache. */
static __device__ __forceinline__ uint4 cuda_product_stream(const void *p)
{
#ifdef __CUDACC__
	uint4 v;
	asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
		: "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		: "l"(__cvta_generic_to_global(p)));
	return v;
#else
	return *static_cast<const uint4 *>(p);
#endif
}

/* The same before device_begin(), and of 8 and of 4 bytes. Not through the path for constants (nc):
 * ptxas moves such loads to the other side of the wait; volatile, or the front end would do it.
 * tools/cuda_waits.py counts them. */
static __device__ __forceinline__ uint4 cuda_product_stream_early(const void *p)
{
#ifdef __CUDACC__
	uint4 v;
	asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(__cvta_generic_to_global(p)));
	return v;
#else
	return *static_cast<const uint4 *>(p);
#endif
}

static __device__ __forceinline__ uint2 cuda_product_pair_early(const void *p)
{
#ifdef __CUDACC__
	uint2 v;
	asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
		     : "=r"(v.x), "=r"(v.y)
		     : "l"(__cvta_generic_to_global(p)));
	return v;
#else
	return *static_cast<const uint2 *>(p);
#endif
}

static __device__ __forceinline__ uint32_t cuda_product_word_early(const void *p)
{
#ifdef __CUDACC__
	uint32_t v;
	asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];"
		     : "=r"(v)
		     : "l"(__cvta_generic_to_global(p)));
	return v;
#else
	return *static_cast<const uint32_t *>(p);
#endif
}

#endif
