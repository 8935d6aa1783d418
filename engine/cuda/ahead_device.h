/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_AHEAD_DEVICE_H
#define ENGINE_CUDA_AHEAD_DEVICE_H

/*
 * Asking for weights of a product to come (ahead.h): by which blocks of a launch, and when. All of
 * these are called by whole warps, whose first lane asks, AHEAD_BYTES at a time; neighbouring
 * pieces go to different blocks, so that memory sees them in about their order. Nobody waits for
 * what was asked for: a block may end before it has come.
 *
 *  - Kernels of a few blocks are launched with some more, behind their own (ahead_grid()), which do
 *    this and end, before device_begin(): while the kernel before is ending, memory has nothing to
 *    do, and the few blocks that have work are not kept from it.
 *  - Kernels of many small blocks, which are in place before they may begin, have each of them ask
 *    for its share before device_begin().
 *  - Products have the blocks that end last ask, each warp behind its own last load: before that
 *    memory is busy with their own weights.
 */

#include "engine/cuda/ahead.h"
#include "engine/cuda/device.h"

#define AHEAD_BYTES 4096u

/* Every n_warps-th piece from number `warp` on. */
static __device__ __forceinline__ void ahead_load_weights(
	const struct cuda_ahead &a, uint32_t warp, uint32_t n_warps)
{
	for (uint32_t at = warp * AHEAD_BYTES; at < a.bytes; at += n_warps * AHEAD_BYTES)
		device_ask(a.from + at, a.bytes - at < AHEAD_BYTES ? a.bytes - at : AHEAD_BYTES);
}

/* The shares of all blocks of the grid. */
static __device__ __forceinline__ void ahead_load_weights_by_all(const struct cuda_ahead &a)
{
	uint32_t n = gridDim.x * gridDim.y, block = blockIdx.y * gridDim.x + blockIdx.x;

	ahead_load_weights(a, threadIdx.x / 32 * n + block, blockDim.x / 32 * n);
}

/* Those of the last `most` blocks of the grid, which are as many as the device has at a time: the
 * others ask for nothing. */
static __device__ __forceinline__ void ahead_load_weights_by_last(
	const struct cuda_ahead &a, uint32_t most)
{
	uint32_t all = gridDim.x * gridDim.y, n = all < most ? all : most;
	uint32_t block = all - 1 - (blockIdx.y * gridDim.x + blockIdx.x);

	if (block < n)
		ahead_load_weights(a, threadIdx.x / 32 * n + block, blockDim.x / 32 * n);
}

/* ---- blocks of their own ---- */

/* What a kernel that has such blocks is told. */
struct ahead_aside {
	struct cuda_ahead ahead;
	uint32_t first; /* blockIdx.y of the first of them */
};

/* The grid with them, in rows of y behind its own; of `threads` threads each. */
static inline dim3 ahead_grid(
	dim3 grid, uint32_t threads, const struct cuda_ahead &a, struct ahead_aside *aside)
{
	uint32_t a_turn = AHEAD_BYTES * (threads / 32);
	uint32_t blocks = (a.bytes + a_turn - 1) / a_turn;

	*aside = {a, grid.y};
	blocks = blocks < a.blocks ? blocks : a.blocks;
	grid.y += (blocks + grid.x - 1) / grid.x;
	return grid;
}

/* Whether this block is one of them: it has asked for its share, and returns. */
static __device__ __forceinline__ bool ahead_load_weights_aside(const struct ahead_aside &s)
{
	if (blockIdx.y < s.first)
		return false;
	uint32_t n = gridDim.x * (gridDim.y - s.first);
	uint32_t block = (blockIdx.y - s.first) * gridDim.x + blockIdx.x;

	ahead_load_weights(s.ahead, threadIdx.x / 32 * n + block, blockDim.x / 32 * n);
	return true;
}

#endif
