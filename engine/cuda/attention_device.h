/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ATTENTION_DEVICE_H
#define ENGINE_CUDA_ATTENTION_DEVICE_H

/*
 * Inside the kernels with tensor cores. DIM is the head dimension that a kernel is compiled for,
 * the true one at most that: columns beyond it are zero in shared memory. Rows of 16-bit numbers in
 * shared memory are 16 bytes longer than DIM of them, so that the eight rows that a matrix load
 * reads at once lie in different banks.
 */

#include "engine/cuda/attention_parts.h"
#include "engine/cuda/device.h"
#include "engine/cuda/rows_device.h"

#define ATTENTION_THREADS_OF(WARPS) ((WARPS)*32)

template <int DIM> struct attention_dim {
	static constexpr int pitch = DIM * 2 + 16; /* bytes of a row of 16-bit numbers */
	static constexpr int chunks = DIM / 8;     /* of 16 bytes, in it */
	static constexpr int steps = DIM / 16;     /* matrix instructions along it */
};

/* 2^x; of -infinity 0. */
static __device__ __forceinline__ float attention_exp2(float x)
{
#ifdef __CUDA_ARCH__
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
#else
	return exp2f(x);
#endif
}

template <enum cuda_type ACT>
static __device__ __forceinline__ void attention_mma(
	float d[4], const uint32_t a[4], const uint32_t b[2])
{
	if constexpr (ACT == CUDA_TYPE_F16)
		mma_f16(d, a, b);
	else
		mma_bf16(d, a, b);
}

template <enum cuda_type ACT>
static __device__ __forceinline__ uint32_t attention_pack(float low, float high)
{
	if constexpr (ACT == CUDA_TYPE_F16)
		return f32x2_to_f16x2(low, high);
	else
		return f32x2_to_bf16x2(low, high);
}

/* Columns 16 step .. of 16 rows as the left operand. */
template <int DIM>
static __device__ __forceinline__ void attention_left(const uint8_t *rows, int step, uint32_t a[4])
{
	uint32_t lane = threadIdx.x % 32;

	ldmatrix_x4(a, rows + lane % 16 * attention_dim<DIM>::pitch + step * 32 + lane / 16 * 16);
}

/* Keys: columns 16 step .. of 16 rows as two right operands, whose columns are rows 0 .. 7 and
 * 8 .. 15. */
template <int DIM>
static __device__ __forceinline__ void attention_keys(const uint8_t *rows, int step, uint32_t b[4])
{
	uint32_t lane = threadIdx.x % 32;

	ldmatrix_x4(b, rows + (lane / 16 * 8 + lane % 8) * attention_dim<DIM>::pitch + step * 32 +
			       lane / 8 % 2 * 16);
}

/* Values: 16 rows as two right operands, whose columns are columns 16 step .. 16 step + 7 and the
 * eight behind them. */
template <int DIM>
static __device__ __forceinline__ void attention_values(
	const uint8_t *rows, int step, uint32_t b[4])
{
	uint32_t lane = threadIdx.x % 32;

	ldmatrix_x4_trans(
		b, rows + lane % 16 * attention_dim<DIM>::pitch + step * 32 + lane / 16 * 16);
}

/* E4M3 to ACT, `threads` threads, this one being `thread`: n_rows rows of DIM bytes to rows of
 * 16-bit numbers. */
template <enum cuda_type ACT, int DIM>
static __device__ __forceinline__ void attention_widen(
	const uint8_t *from, uint8_t *to, int n_rows, uint32_t thread, uint32_t threads)
{
	for (uint32_t i = thread; i < (uint32_t)n_rows * (DIM / 8); i += threads) {
		uint32_t row = i / (DIM / 8), c = i % (DIM / 8), word[4];
		uint2 raw = *(const uint2 *)(from + row * DIM + c * 8);
		uint32_t bytes[2] = {raw.x, raw.y};
#pragma unroll
		for (int k = 0; k < 4; k++) {
			uint32_t pair = bytes[k / 2] >> k % 2 * 16;
			word[k] = attention_pack<ACT>(
				e4m3_to_f32((uint8_t)pair), e4m3_to_f32((uint8_t)(pair >> 8)));
		}
		*(uint4 *)(to + row * attention_dim<DIM>::pitch + c * 16) =
			make_uint4(word[0], word[1], word[2], word[3]);
	}
}

/* The address of the query vector of head `head` in a row. */
static __device__ __forceinline__ const uint8_t *attention_query(
	const struct attention_args *a, size_t row, uint32_t head)
{
	return (const uint8_t *)a->q + (row * a->ld_q + (size_t)head * a->kv.head_dim) * 2;
}

/* Four values of the output, columns c .. c + 3 of a row; all lanes of a warp call. */
static __device__ __forceinline__ void attention_put(
	const struct attention_args *a, size_t row, uint32_t c, bool in, float v[4])
{
	uint32_t cols = a->n_heads * a->kv.head_dim;

	switch (a->out.type) {
	case CUDA_TYPE_F32:
		rows_put4<CUDA_TYPE_F32>(&a->out, cols, row, c, in, v, 1);
		break;
	case CUDA_TYPE_F16:
		rows_put4<CUDA_TYPE_F16>(&a->out, cols, row, c, in, v, 1);
		break;
	case CUDA_TYPE_BF16:
		rows_put4<CUDA_TYPE_BF16>(&a->out, cols, row, c, in, v, 1);
		break;
	default:
		rows_put4<CUDA_TYPE_Q8>(&a->out, cols, row, c, in, v, 1);
		break;
	}
}

#endif
