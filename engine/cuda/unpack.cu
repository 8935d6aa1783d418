/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repacked weights back to numbers, whole rows for a dense product. What a weight is, is as exact
 * here as quant_to_f32(): only the sum of types with a minimum is rounded, and then once more to
 * the 16-bit type.
 */
#include "engine/cuda/chunk_device.h"

#define WARPS 4

/* Row g (upper: g + 8) of a block that a lane has: its 8 values, in the order of columns (of Q6_K
 * columns 4 t .. 4 t + 3, 16 + 4 t ..). */
template <int TYPE>
static __device__ __forceinline__ void values_of(
	const uint32_t a[4], const cuda_chunk_scales &w, int upper, float v[8])
{
#pragma unroll
	for (int i = 0; i < 8; i++) {
		uint32_t word = i < 4 ? (upper ? a[1] : a[0]) : (upper ? a[3] : a[2]);
		float q = static_cast<float>(static_cast<int8_t>(word >> i % 4 * 8 & 255));
		q *= cuda_chunk<TYPE>::unit();
		if (cuda_chunk<TYPE>::HAS_MIN)
			v[i] = fmaf(w.d[upper], q, -w.m[upper]);
		else if (cuda_chunk<TYPE>::IS_Q6)
			v[i] = (i < 4 ? w.d[upper] : w.m[upper]) * q;
		else
			v[i] = w.d[upper] * q;
	}
}

/* Four consecutive values, at a multiple of 4. */
static __device__ __forceinline__ void put_four(
	void *out, size_t at, enum cuda_type type, const float *v)
{
	if (type == CUDA_TYPE_F32)
		*reinterpret_cast<float4 *>(static_cast<float *>(out) + at) =
			make_float4(v[0], v[1], v[2], v[3]);
	else if (type == CUDA_TYPE_F16)
		*reinterpret_cast<uint2 *>(static_cast<uint16_t *>(out) + at) =
			make_uint2(f32x2_to_f16x2(v[0], v[1]), f32x2_to_f16x2(v[2], v[3]));
	else
		*reinterpret_cast<uint2 *>(static_cast<uint16_t *>(out) + at) =
			make_uint2(f32x2_to_bf16x2(v[0], v[1]), f32x2_to_bf16x2(v[2], v[3]));
}

/* The 8 values of a lane to columns of the block that begins at out[at]. */
template <int TYPE>
static __device__ __forceinline__ void put_eight(
	void *out, size_t at, enum cuda_type type, unsigned lane, const float v[8])
{
	uint32_t t = lane % 4;

	put_four(out, at + (cuda_chunk<TYPE>::IS_Q6 ? 4 * t : 8 * t), type, v);
	put_four(out, at + (cuda_chunk<TYPE>::IS_Q6 ? 16 + 4 * t : 8 * t + 4), type, v + 4);
}

/* A warp: a chunk of a tile. w: the first tile; n rows of it on are wanted. */
template <int TYPE>
__global__ void __launch_bounds__(32 * WARPS) unpack(const uint8_t *__restrict__ w,
	uint32_t n_chunks, uint32_t cols, uint32_t n, enum cuda_type type, void *out)
{
	device_begin();
	uint32_t c = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t row = blockIdx.y * 16 + lane / 4;
	typename cuda_chunk<TYPE>::head head;

	if (c >= n_chunks)
		return;
	w += (static_cast<size_t>(blockIdx.y) * n_chunks + c) * cuda_chunk<TYPE>::BYTES;
	head.template load<cuda_chunk_plain_load>(w, lane);
#pragma unroll
	for (int s = 0; s < cuda_chunk<TYPE>::STEPS; s++) {
		typename cuda_chunk<TYPE>::step step;
		step.template load<cuda_chunk_plain_load>(w, s, lane);
#pragma unroll
		for (int b = 0; b < 4; b++) {
			uint32_t a[4], col = (c * cuda_chunk<TYPE>::STEPS + s) * 128 + b * 32;
			cuda_chunk_scales scales;
			float v[8];
			if (col >= cols)
				break;
			step.of(b, a);
			head.of(4 * s + b, &scales);
#pragma unroll
			for (int upper = 0; upper < 2; upper++) {
				if (row + 8 * upper >= n)
					continue;
				values_of<TYPE>(a, scales, upper, v);
				put_eight<TYPE>(out,
					static_cast<size_t>(row + 8 * upper) * cols + col, type,
					lane, v);
			}
		}
	}
}

/* ---- launchers ---- */

static bool is_plain(enum cuda_type type)
{
	return type == CUDA_TYPE_F32 || type == CUDA_TYPE_F16 || type == CUDA_TYPE_BF16;
}

template <int TYPE>
static int launch_unpack(const cuda_quant_matrix *w, uint32_t first, uint32_t n,
	enum cuda_type type, void *out, cudaStream_t stream)
{
	const uint32_t chunk = 128 * cuda_chunk<TYPE>::STEPS;
	uint32_t n_chunks = (w->cols + chunk - 1) / chunk;
	const uint8_t *from = static_cast<const uint8_t *>(w->data) +
			      static_cast<size_t>(first / 16) * n_chunks * cuda_chunk<TYPE>::BYTES;

	return CUDA_LAUNCH(unpack<TYPE>, dim3((n_chunks + WARPS - 1) / WARPS, (n + 15) / 16),
		dim3(32 * WARPS), 0, stream, from, n_chunks, w->cols, n, type, out);
}

extern "C" int cuda_quant_unpack(const struct cuda_quant_matrix *w, uint32_t first, uint32_t n,
	enum cuda_type type, void *out, cudaStream_t stream)
{
	if (!cuda_quant_fits(w->type, w->cols) || !is_plain(type) || n == 0 || first % 16 ||
		first > w->rows || n > w->rows - first || n > 65535 * 16)
		return cudaErrorInvalidValue;
	switch (w->type) {
	case TENSOR_Q8_0:
		return launch_unpack<TENSOR_Q8_0>(w, first, n, type, out, stream);
	case TENSOR_Q4_0:
		return launch_unpack<TENSOR_Q4_0>(w, first, n, type, out, stream);
	case TENSOR_Q4_1:
		return launch_unpack<TENSOR_Q4_1>(w, first, n, type, out, stream);
	case TENSOR_Q5_1:
		return launch_unpack<TENSOR_Q5_1>(w, first, n, type, out, stream);
	case TENSOR_Q4_K:
		return launch_unpack<TENSOR_Q4_K>(w, first, n, type, out, stream);
	case TENSOR_Q5_K:
		return launch_unpack<TENSOR_Q5_K>(w, first, n, type, out, stream);
	case TENSOR_Q6_K:
		return launch_unpack<TENSOR_Q6_K>(w, first, n, type, out, stream);
	default:
		return cudaErrorInvalidValue;
	}
}
