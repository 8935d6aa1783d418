/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ROWS_ROPE_DEVICE_H
#define ENGINE_CUDA_ROWS_ROPE_DEVICE_H

/* Inside kernels: rotation, four columns of a head at a time. rows_rope.cu and attention_decode.cu
 * both have it from here: what they leave is the same to the bit. */

#include "engine/cuda/rows_device.h"

#define ROWS_ROPE_LOG2_E 1.44269504088896341f /* in q: attention takes powers of two */

/* Cosine and sine of the pairs in N pieces of four columns from c on, a multiple of 4, at a
 * position; zeros where nothing rotates. aligned: rope_dim is a multiple of 4. */
template <int N>
static __device__ __forceinline__ void rows_rope_angles(
	const struct rows_rope *r, uint32_t pos, uint32_t c, bool aligned, float cs[N][4])
{
	rows_load_as<N, CUDA_TYPE_F32>(
		r->cs + (size_t)pos * r->rope_dim, r->rope_dim, c, 4, aligned, cs);
}

/* Columns c .. c + 3, rotated, then scaled. */
static __device__ __forceinline__ void rows_rope_turn(
	const struct rows_rope *r, uint32_t c, const float cs[4], float scale, float v[4])
{
#pragma unroll
	for (int k = 0; k < 4; k += 2) {
		float x0 = v[k], x1 = v[k + 1], cosine = cs[k], sine = cs[k + 1];
		if (c + k < r->rope_dim) {
			v[k] = fmaf(x0, cosine, -(x1 * sine));
			v[k + 1] = fmaf(x1, cosine, x0 * sine);
		}
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] *= scale;
}

#endif
