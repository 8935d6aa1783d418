/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel to write others by: a block adds up a row, first each thread its share, then each warp,
 * then the first warp the warps' sums.
 */
#include "tests/simt/sample.h"

#include "engine/cuda/device.h"

#define THREADS 128

__global__ static void __launch_bounds__(THREADS)
	block_sum(const float *x, float *sum, uint32_t n)
{
	device_begin();
	__shared__ float of_warp[THREADS / 32];
	const float *row = x + (size_t)blockIdx.x * n;
	float mine = 0;
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
		mine += row[i];
	mine = warp_sum(mine);
	if (threadIdx.x % 32 == 0)
		of_warp[threadIdx.x / 32] = mine;
	__syncthreads();
	if (threadIdx.x < 32) {
		mine = warp_sum(threadIdx.x < THREADS / 32 ? of_warp[threadIdx.x] : 0);
		if (threadIdx.x == 0)
			sum[blockIdx.x] = mine;
	}
}

extern "C" int sample_block_sum(
	const float *x, float *sum, uint32_t n, uint32_t n_blocks, cudaStream_t stream)
{
	return CUDA_LAUNCH(block_sum, n_blocks, THREADS, 0, stream, x, sum, n);
}
