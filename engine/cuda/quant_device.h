/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_QUANT_DEVICE_H
#define ENGINE_CUDA_QUANT_DEVICE_H

/* For kernels that write activations in the form q8 of quant.h. */

#include "engine/cuda/device.h"
#include "engine/cuda/quant.h"

/*
 * All 32 lanes of a warp: lane i has v, column 32 * block + i of a row; they put it there. n_blocks
 * is cuda_quant_q8_blocks(cols): a kernel calls this for all of them, with 0 for v behind the last
 * column. The arithmetic is that of quantise() in engine/cpu_scalar.c, to the bit.
 */
static __device__ __forceinline__ void cuda_quant_store(
	void *q8, uint32_t n_blocks, uint32_t row, uint32_t block, float v)
{
	uint8_t *at = (uint8_t *)q8 + ((size_t)(row / CUDA_QUANT_GROUP_ROWS) * n_blocks + block) *
					      CUDA_QUANT_GROUP_BLOCK_BYTES;
	uint32_t lane = threadIdx.x % 32, r = row % CUDA_QUANT_GROUP_ROWS;
	float a = fabsf(v);
	float largest = warp_max(a == a ? a : 0.0f);
	float inverse = largest > 0 ? 127 / largest : 0;
	float y = v * inverse;
	y = y > -127 ? y : -127; /* a NaN too */
	y = y < 127 ? y : 127;
	int q = (int)rintf(y), sum = q;

#pragma unroll
	for (int i = 16; i > 0; i /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, i);
	((int8_t *)at)[r * 32 + lane] = (int8_t)q;
	if (lane == 0) {
		float d = largest / 127;
		((float *)(at + 256))[r] = d;
		((float *)(at + 288))[r] = (float)-sum * d;
	}
}

#endif
