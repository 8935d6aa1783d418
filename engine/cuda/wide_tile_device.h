/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_WIDE_TILE_DEVICE_H
#define ENGINE_CUDA_WIDE_TILE_DEVICE_H

/*
 * How gemm_wide.cu cuts its work, and what becomes of sums. A tile is 128 weight rows times S::ROWS
 * activation rows. Work is the chunks of columns of all tiles, one tile behind the other, cut into
 * as many equal parts as there are blocks. So a block has the end of a tile, some whole
 * ones and the beginning of another. Who has a part of a tile leaves it in the workspace, and who
 * comes last adds all of them in their order.
 */

#include "engine/cuda/product_device.h"

#define CUDA_WIDE_WARPS 8
#define CUDA_WIDE_WARPS_M 4 /* that have the same columns, of two halves */
#define CUDA_WIDE_M 2       /* tiles of 16 weight rows a warp */
#define CUDA_WIDE_TILE_ROWS (16 * CUDA_WIDE_M * CUDA_WIDE_WARPS_M)
#define CUDA_WIDE_PASS_ROWS 32 /* of activations, whose sums are put together at a time */
#define CUDA_WIDE_PITCH (CUDA_WIDE_TILE_ROWS + 4)
/* Of a stage that cuda_wide_finish() uses: sums, and a word. */
#define CUDA_WIDE_FINISH_BYTES (4 * (CUDA_WIDE_PASS_ROWS * CUDA_WIDE_PITCH + 1))

struct cuda_wide_work {
	const uint8_t *w;
	const uint16_t *x;
	uint32_t n_tiles, n_chunks; /* of w, 16 rows each */
	uint32_t cols, n_rows;      /* of x */
	uint32_t n_across;          /* tiles of activation rows */
	uint32_t n_items;           /* chunks of all tiles */
};

/* A place in the work: a tile is `down` among those of weight rows, `across` among those
 * of activation rows, which come one behind the other, since they have the same weights. */
struct cuda_wide_place {
	uint32_t down, across, chunk;
};

static __device__ __forceinline__ cuda_wide_place cuda_wide_place_of(
	const cuda_wide_work &m, uint32_t item)
{
	uint32_t tile = item / m.n_chunks;
	cuda_wide_place p = {tile / m.n_across, tile % m.n_across, item % m.n_chunks};

	return p;
}

/* Whether that was the last chunk of its tile. */
static __device__ __forceinline__ bool cuda_wide_go_on(const cuda_wide_work &m, cuda_wide_place *p)
{
	if (++p->chunk < m.n_chunks)
		return false;
	p->chunk = 0;
	if (++p->across == m.n_across) {
		p->across = 0;
		p->down++;
	}
	return true;
}

/* The sums of 32 activation rows, from group 4 * pass on, of both halves of the warps, to
 * sums[32][CUDA_WIDE_PITCH]. */
template <typename S>
static __device__ __forceinline__ void cuda_wide_put_together(
	float *sums, int pass, const float acc[CUDA_WIDE_M][S::N][4])
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	float *mine = sums + lane % 4 * 2 * CUDA_WIDE_PITCH +
		      warp % CUDA_WIDE_WARPS_M * CUDA_WIDE_M * 16 + lane / 4;

	for (uint32_t half = 0; half < 2; half++) {
		__syncthreads(); /* nobody reads what lay here any more; the first half is there */
		if (warp / CUDA_WIDE_WARPS_M != half)
			continue;
#pragma unroll
		for (int i = 0; i < CUDA_WIDE_M; i++)
#pragma unroll
			for (int k = 0; k < 4; k++)
#pragma unroll
				for (int j = 0; j < 4; j++) {
					float *to = mine + (8 * k + j % 2) * CUDA_WIDE_PITCH +
						    16 * i + j / 2 * 8;
					float y = acc[i][4 * pass + k][j];
					*to = half ? *to + y : y;
				}
	}
	__syncthreads();
}

/* Which blocks have parts of a tile. */
struct cuda_wide_parts {
	uint32_t first, n;
};

static __device__ __forceinline__ uint32_t cuda_wide_first_of(
	const cuda_wide_work &m, uint32_t block)
{
	return static_cast<uint32_t>(static_cast<uint64_t>(m.n_items) * block / gridDim.x);
}

/* The block that has item i: the last one whose first item is not behind it. */
static __device__ __forceinline__ uint32_t cuda_wide_block_of(const cuda_wide_work &m, uint32_t i)
{
	return static_cast<uint32_t>(((static_cast<uint64_t>(i) + 1) * gridDim.x - 1) / m.n_items);
}

static __device__ __forceinline__ cuda_wide_parts cuda_wide_parts_of(
	const cuda_wide_work &m, uint32_t tile)
{
	uint32_t first = tile * m.n_chunks;
	uint32_t block = cuda_wide_block_of(m, first);
	cuda_wide_parts p = {block, cuda_wide_block_of(m, first + m.n_chunks - 1) - block + 1};

	return p;
}

/* A block's place in the workspace, [ROWS][CUDA_WIDE_TILE_ROWS]: it may have the
 * beginning of one tile and the end of another. */
template <typename S>
static __device__ __forceinline__ float *cuda_wide_part_at(
	const cuda_product_out &o, uint32_t block, bool begins)
{
	return o.parts + (2 * static_cast<size_t>(block) + begins) * S::ROWS * CUDA_WIDE_TILE_ROWS;
}

/* Sums of the 32 activation rows from `row` on and of the weight rows from r on. */
static __device__ __forceinline__ void cuda_wide_put_out(
	const cuda_product_out &o, const float *sums, uint32_t row, uint32_t r)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll 1
	for (uint32_t i = warp; i < CUDA_WIDE_PASS_ROWS; i += CUDA_WIDE_WARPS)
#pragma unroll 1
		for (uint32_t j = lane; j < CUDA_WIDE_TILE_ROWS; j += 32)
			cuda_product_put(o, row + i, r + j, sums[i * CUDA_WIDE_PITCH + j]);
}

/* The same to the block's part of a tile. */
static __device__ __forceinline__ void cuda_wide_keep_part(float *part, const float *sums)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll 1
	for (uint32_t i = warp; i < CUDA_WIDE_PASS_ROWS; i += CUDA_WIDE_WARPS)
#pragma unroll
		for (uint32_t j = 0; j < CUDA_WIDE_TILE_ROWS; j += 32)
			part[i * CUDA_WIDE_TILE_ROWS + j + lane] =
				sums[i * CUDA_WIDE_PITCH + j + lane];
}

/* The sums over all parts of a tile. A thread has here what it has in
 * cuda_wide_put_out(). So many values are asked for at a time that the memory is kept busy. */
template <typename S>
static __device__ __forceinline__ void cuda_wide_add_parts(
	const cuda_product_out &o, const cuda_wide_parts &p, uint32_t pass, float *sums)
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	float y[CUDA_WIDE_PASS_ROWS / CUDA_WIDE_WARPS][CUDA_WIDE_TILE_ROWS / 32] = {};

#pragma unroll 2
	for (uint32_t k = 0; k < p.n; k++) {
		const float *part = cuda_wide_part_at<S>(o, p.first + k, k == 0) +
				    (pass * CUDA_WIDE_PASS_ROWS + warp) * CUDA_WIDE_TILE_ROWS +
				    lane;
#pragma unroll
		for (int i = 0; i < CUDA_WIDE_PASS_ROWS / CUDA_WIDE_WARPS; i++)
#pragma unroll
			for (int j = 0; j < CUDA_WIDE_TILE_ROWS / 32; j++)
				y[i][j] += __ldcg(
					part + i * CUDA_WIDE_WARPS * CUDA_WIDE_TILE_ROWS + 32 * j);
	}
#pragma unroll
	for (int i = 0; i < CUDA_WIDE_PASS_ROWS / CUDA_WIDE_WARPS; i++)
#pragma unroll
		for (int j = 0; j < CUDA_WIDE_TILE_ROWS / 32; j++)
			sums[(warp + i * CUDA_WIDE_WARPS) * CUDA_WIDE_PITCH + 32 * j + lane] =
				y[i][j];
}

/* The sums of a tile, or of the block's part of it, become outputs. free: a stage that all warps
 * will have done with when they come here. */
template <typename S>
static __device__ __forceinline__ void cuda_wide_finish(const cuda_wide_work &m,
	const cuda_product_out &o, const cuda_wide_place &at, uint8_t *free,
	const float acc[CUDA_WIDE_M][S::N][4])
{
	uint32_t row = at.across * S::ROWS, r = at.down * CUDA_WIDE_TILE_ROWS;
	float *sums = reinterpret_cast<float *>(free);
	cuda_wide_parts p = cuda_wide_parts_of(m, at.down * m.n_across + at.across);
	float *part = cuda_wide_part_at<S>(o, blockIdx.x, blockIdx.x == p.first);

#pragma unroll
	for (int pass = 0; pass < S::N / 4; pass++) {
		cuda_wide_put_together<S>(sums, pass, acc);
		if (p.n > 1)
			cuda_wide_keep_part(
				part + pass * CUDA_WIDE_PASS_ROWS * CUDA_WIDE_TILE_ROWS, sums);
		else
			cuda_wide_put_out(o, sums, row + pass * CUDA_WIDE_PASS_ROWS, r);
	}
	unsigned *flag = reinterpret_cast<unsigned *>(sums + CUDA_WIDE_PASS_ROWS * CUDA_WIDE_PITCH);
	if (p.n == 1 || !cuda_product_is_last(o, p.first, p.n, flag))
		return;
#pragma unroll 1
	for (uint32_t pass = 0; pass < S::N / 4 && row + pass * CUDA_WIDE_PASS_ROWS < o.n_rows;
		pass++) {
		cuda_wide_add_parts<S>(o, p, pass, sums);
		cuda_wide_put_out(o, sums, row + pass * CUDA_WIDE_PASS_ROWS, r);
	}
}

#endif
