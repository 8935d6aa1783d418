/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_ROWS_DEVICE_H
#define ENGINE_CUDA_ROWS_DEVICE_H

/* Inside kernels: numbers as they are stored, read and written four at a time, and sums over a
 * block of threads. */

#include "engine/cuda/device.h"
#include "engine/cuda/quant.h"
#include "engine/cuda/rows.h"

#define ROWS_FULL_WARP 0xffffffffu
#define ROWS_NOTHING 1e-30f /* a row with no value larger than that is one of zeros, as E4M3 */

template <enum cuda_type TYPE> struct rows_stored;
template <> struct rows_stored<CUDA_TYPE_F32> {
	typedef float type;
};
template <> struct rows_stored<CUDA_TYPE_F16> {
	typedef uint16_t type;
};
template <> struct rows_stored<CUDA_TYPE_BF16> {
	typedef uint16_t type;
};
template <> struct rows_stored<CUDA_TYPE_E4M3> {
	typedef uint8_t type;
};

/* Value i of an array of TYPE: F32, F16, BF16 or E4M3 with scale 1. */
template <enum cuda_type TYPE>
static __device__ __forceinline__ float rows_get(const void *p, size_t i)
{
	if constexpr (TYPE == CUDA_TYPE_F32)
		return ((const float *)p)[i];
	else if constexpr (TYPE == CUDA_TYPE_F16)
		return f16_to_f32(((const uint16_t *)p)[i]);
	else if constexpr (TYPE == CUDA_TYPE_BF16)
		return bf16_to_f32(((const uint16_t *)p)[i]);
	else
		return e4m3_to_f32(((const uint8_t *)p)[i]);
}

template <enum cuda_type TYPE>
static __device__ __forceinline__ void rows_set(void *p, size_t i, float v)
{
	if constexpr (TYPE == CUDA_TYPE_F32)
		((float *)p)[i] = v;
	else if constexpr (TYPE == CUDA_TYPE_F16)
		((uint16_t *)p)[i] = f32_to_f16(v);
	else if constexpr (TYPE == CUDA_TYPE_BF16)
		((uint16_t *)p)[i] = f32_to_bf16(v);
	else
		((uint8_t *)p)[i] = f32_to_e4m3(v);
}

/* Values i .. i + 3, i a multiple of 4, of an array aligned to four of them. */
template <enum cuda_type TYPE>
static __device__ __forceinline__ void rows_get4(const void *p, size_t i, float v[4])
{
	if constexpr (TYPE == CUDA_TYPE_F32) {
		float4 x = *(const float4 *)((const float *)p + i);
		v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
	} else {
		uint2 x = *(const uint2 *)((const uint16_t *)p + i);
		uint32_t word[2] = {x.x, x.y};
#pragma unroll
		for (int k = 0; k < 4; k++) {
			uint16_t h = (uint16_t)(word[k / 2] >> k % 2 * 16);
			v[k] = TYPE == CUDA_TYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
		}
	}
}

template <enum cuda_type TYPE>
static __device__ __forceinline__ void rows_set4(void *p, size_t i, const float v[4])
{
	if constexpr (TYPE == CUDA_TYPE_F32) {
		*(float4 *)((float *)p + i) = make_float4(v[0], v[1], v[2], v[3]);
	} else if constexpr (TYPE == CUDA_TYPE_E4M3) {
		uint32_t word = 0;
#pragma unroll
		for (int k = 0; k < 4; k++)
			word |= (uint32_t)f32_to_e4m3(v[k]) << 8 * k;
		*(uint32_t *)((uint8_t *)p + i) = word;
	} else {
		uint2 x;
		if (TYPE == CUDA_TYPE_F16) {
			x.x = f32x2_to_f16x2(v[0], v[1]);
			x.y = f32x2_to_f16x2(v[2], v[3]);
		} else {
			x.x = f32x2_to_bf16x2(v[0], v[1]);
			x.y = f32x2_to_bf16x2(v[2], v[3]);
		}
		*(uint2 *)((uint16_t *)p + i) = x;
	}
}

/* cuda_quant_q8_blocks() for kernels. */
static __device__ __forceinline__ uint32_t rows_q8_blocks(uint32_t cols)
{
	return (cols + 127) / 128 * 4;
}

/* Columns c .. c + 3 of q8, c a multiple of 4 and known to be one of the row's (in) or not. Eight
 * lanes that begin at a multiple of 8 hold a block; all lanes of the warp call. The arithmetic is
 * that of quantise() in engine/cpu_scalar.c, to the bit. */
static __device__ __forceinline__ void rows_put_q8(
	void *q8, uint32_t cols, size_t row, uint32_t c, bool in, const float v[4])
{
	float largest = 0;
	int q[4], sum = 0;

#pragma unroll
	for (int k = 0; k < 4; k++)
		largest = fabsf(v[k]) > largest ? fabsf(v[k]) : largest;
#pragma unroll
	for (int i = 4; i > 0; i /= 2) {
		float other = __shfl_xor_sync(ROWS_FULL_WARP, largest, i);
		largest = other > largest ? other : largest;
	}
	float inverse = largest > 0 ? 127 / largest : 0;
#pragma unroll
	for (int k = 0; k < 4; k++) {
		float y = v[k] * inverse;
		y = y > -127 ? y : -127; /* a NaN too */
		y = y < 127 ? y : 127;
		q[k] = (int)rintf(y);
		sum += q[k];
	}
#pragma unroll
	for (int i = 4; i > 0; i /= 2)
		sum += __shfl_xor_sync(ROWS_FULL_WARP, sum, i);
	if (!in)
		return;
	uint32_t r = row % CUDA_QUANT_GROUP_ROWS;
	uint8_t *at =
		(uint8_t *)q8 + (row / CUDA_QUANT_GROUP_ROWS * rows_q8_blocks(cols) + c / 32) *
					CUDA_QUANT_GROUP_BLOCK_BYTES;
	*(uint32_t *)(at + r * 32 + c % 32) = (uint32_t)(q[0] & 255) | (uint32_t)(q[1] & 255) << 8 |
					      (uint32_t)(q[2] & 255) << 16 |
					      (uint32_t)(q[3] & 255) << 24;
	if (c % 32 == 0) {
		float d = largest / 127;
		((float *)(at + 256))[r] = d;
		((float *)(at + 288))[r] = (float)-sum * d;
	}
}

/* Columns that rows_put4 is to be called for: those of q8 go on, with zeros, to the end of its last
 * chunk. */
template <enum cuda_type TYPE>
static __device__ __forceinline__ uint32_t rows_put_cols(uint32_t cols)
{
	return TYPE == CUDA_TYPE_Q8 ? rows_q8_blocks(cols) * 32 : cols;
}

/* Columns c .. c + 3 of a row of out, times inverse (1 / scale of E4M3, else 1). v is zero behind
 * the last column. All lanes of a warp call for Q8; `in` false writes nothing. */
template <enum cuda_type TYPE>
static __device__ __forceinline__ void rows_put4(const struct rows_out *out, uint32_t cols,
	size_t row, uint32_t c, bool in, float v[4], float inverse)
{
	if constexpr (TYPE == CUDA_TYPE_Q8) {
		rows_put_q8(out->data, cols, row, c, in, v);
	} else if (in) {
		size_t at = row * cols + c;
		if (TYPE == CUDA_TYPE_E4M3) {
#pragma unroll
			for (int k = 0; k < 4; k++)
				v[k] *= inverse;
		}
		if (cols % 4 == 0) {
			rows_set4<TYPE>(out->data, at, v);
		} else {
			for (uint32_t k = 0; k < 4 && c + k < cols; k++)
				rows_set<TYPE>(out->data, at + k, v[k]);
		}
	}
}

/* f of the gate. */
static __device__ __forceinline__ float rows_gated(enum rows_gate kind, float x)
{
	float y = x;

	if (kind == ROWS_GEGLU) /* (1 + tanh(a)) / 2 = 1 / (1 + exp(-2 a)) */
		y = 1.5957691216057308f * fmaf(0.044715f * x * x, x, x);
	return x / (1 + device_exp(-y));
}

/* N pieces of four values of a row: piece i begins at column c + i * step; zero behind the last. */
template <int N, enum cuda_type TYPE>
static __device__ __forceinline__ void rows_load_as(
	const void *row, uint32_t cols, uint32_t c, uint32_t step, bool aligned, float v[N][4])
{
#pragma unroll
	for (int i = 0; i < N; i++) {
		uint32_t at = c + i * step;
		if (aligned && at < cols) {
			rows_get4<TYPE>(row, at, v[i]);
			continue;
		}
#pragma unroll
		for (int k = 0; k < 4; k++)
			v[i][k] = !aligned && at + k < cols ? rows_get<TYPE>(row, at + k) : 0;
	}
}

/* The same of a matrix whose type is known at run time. ld: values from row to row. */
template <int N>
static __device__ __forceinline__ void rows_load(const void *p, enum cuda_type type, size_t ld,
	size_t row, uint32_t cols, uint32_t c, uint32_t step, float v[N][4])
{
	bool aligned = cols % 4 == 0 && ld % 4 == 0;

	if (type == CUDA_TYPE_F32)
		rows_load_as<N, CUDA_TYPE_F32>(
			(const float *)p + row * ld, cols, c, step, aligned, v);
	else if (type == CUDA_TYPE_F16)
		rows_load_as<N, CUDA_TYPE_F16>(
			(const uint16_t *)p + row * ld, cols, c, step, aligned, v);
	else
		rows_load_as<N, CUDA_TYPE_BF16>(
			(const uint16_t *)p + row * ld, cols, c, step, aligned, v);
}

/* The sum, or the largest, of all threads' v, for all of them. blockDim.x is a multiple of 32 and
 * all threads call; `shared` is for one call. */
static __device__ __forceinline__ float rows_block_sum(float v, float shared[32])
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = blockDim.x / 32;

	v = warp_sum(v);
	if (lane == 0)
		shared[warp] = v;
	__syncthreads();
	return warp_sum(lane < n ? shared[lane] : 0);
}

static __device__ __forceinline__ float rows_block_max(float v, float shared[32])
{
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = blockDim.x / 32;

	v = warp_max(v);
	if (lane == 0)
		shared[warp] = v;
	__syncthreads();
	return warp_max(lane < n ? shared[lane] : 0);
}

/* The scale of a row of E4M3 whose largest magnitude is known; thread 0 stores it. The result is
 * what values are multiplied with. A row of next to nothing is one of zeros: 448 / largest would be
 * infinite, and 0 times that a NaN. */
static __device__ __forceinline__ float rows_put_scale(
	const struct rows_out *out, size_t row, float largest)
{
	if (threadIdx.x == 0)
		out->scale[row] = largest > ROWS_NOTHING ? largest / 448 : 1;
	return largest > ROWS_NOTHING ? 448 / largest : 1;
}

#endif
