/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows picked by number: embeddings, from any form a file may have, and rows of activations as they
 * are.
 *
 * The blocks of a file are read where they lie, in its own layout: an embedding is looked up a few
 * times a step, so nothing is gained by repacking it. Blocks are an even number of bytes long and
 * their rows begin at even addresses, hence the reads of two bytes. The layouts are those of
 * engine/quant.h; values come out as quant_to_f32() has them, but for a rounding where the device
 * fuses a multiplication and a subtraction.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/rows_device.h"

#define THREADS 128
#define SUPER 256 /* values of a block of the K types */

static __device__ __forceinline__ float half_at(const uint8_t *p)
{
	return f16_to_f32(*(const uint16_t *)p);
}

static __device__ __forceinline__ uint32_t word_at(const uint8_t *p)
{
	return (uint32_t) * (const uint16_t *)p | (uint32_t) * (const uint16_t *)(p + 2) << 16;
}

/* Scale and minimum of the 32 values `sub` of a block of Q4_K or Q5_K: twelve bytes for eight pairs
 * of 6 bits. */
static __device__ __forceinline__ void k_scale(
	const uint8_t *s, uint32_t sub, float *scale, float *minimum)
{
	if (sub < 4) {
		*scale = (float)(s[sub] & 63);
		*minimum = (float)(s[sub + 4] & 63);
	} else {
		*scale = (float)((s[sub + 4] & 15) | s[sub - 4] >> 6 << 4);
		*minimum = (float)(s[sub + 4] >> 4 | s[sub] >> 6 << 4);
	}
}

/* Values c .. c + 3 of a row, c a multiple of 4. */
static __device__ __forceinline__ void q8_0_at(const uint8_t *row, uint32_t c, float v[4])
{
	const uint8_t *b = row + (size_t)c / 32 * 34;
	float d = half_at(b);
	uint32_t q = word_at(b + 2 + c % 32);

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = d * (float)(int8_t)(q >> 8 * k);
}

static __device__ __forceinline__ void q4_0_at(const uint8_t *row, uint32_t c, float v[4])
{
	const uint8_t *b = row + (size_t)c / 32 * 18;
	float d = half_at(b);
	uint32_t q = word_at(b + 2 + c % 16) >> (c % 32 < 16 ? 0 : 4);

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = d * (float)((int)(q >> 8 * k & 15) - 8);
}

/* Q4_1, and with a fifth bit Q5_0 and Q5_1. */
template <bool FIFTH, bool HAS_MIN>
static __device__ __forceinline__ void q45_at(const uint8_t *row, uint32_t c, float v[4])
{
	const uint32_t at = HAS_MIN ? 4 : 2, bytes = at + (FIFTH ? 20 : 16);
	const uint8_t *b = row + (size_t)c / 32 * bytes;
	float d = half_at(b), m = HAS_MIN ? half_at(b + 2) : d * -16.0f;
	uint32_t q = word_at(b + bytes - 16 + c % 16) >> (c % 32 < 16 ? 0 : 4);
	uint32_t high = FIFTH ? word_at(b + at) >> c % 32 : 0;

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = fmaf(d, (float)((q >> 8 * k & 15) | (high >> k & 1) << 4), m);
}

/* Q4_K and Q5_K, which has a fifth bit in qh. */
template <bool FIFTH>
static __device__ __forceinline__ void q45_k_at(const uint8_t *row, uint32_t c, float v[4])
{
	const uint8_t *b = row + (size_t)c / SUPER * (FIFTH ? 176 : 144);
	uint32_t j = c % SUPER, sub = j / 32;
	float scale, minimum, d = half_at(b), dmin = half_at(b + 2);
	uint32_t q = word_at(b + (FIFTH ? 48 : 16) + j / 64 * 32 + j % 32) >> sub % 2 * 4;
	uint32_t high = FIFTH ? word_at(b + 16 + j % 32) >> sub : 0;

	k_scale(b + 4, sub, &scale, &minimum);
#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = d * scale * (float)((q >> 8 * k & 15) | (high >> 8 * k & 1) << 4) -
		       dmin * minimum;
}

static __device__ __forceinline__ void q6_k_at(const uint8_t *row, uint32_t c, float v[4])
{
	const uint8_t *b = row + (size_t)c / SUPER * 210;
	uint32_t j = c % SUPER, half = j / 128, quarter = j % 128 / 32, l = j % 32;
	uint32_t low = word_at(b + half * 64 + quarter % 2 * 32 + l) >> quarter / 2 * 4;
	uint32_t high = word_at(b + 128 + half * 32 + l) >> 2 * quarter;
	float d = half_at(b + 208) * (float)(int8_t)b[192 + half * 8 + quarter * 2 + l / 16];

#pragma unroll
	for (int k = 0; k < 4; k++)
		v[k] = d * (float)((int)((low >> 8 * k & 15) | (high >> 8 * k & 3) << 4) - 32);
}

/* Bytes of a row, or 0 for a type or a length that no file has. */
static __host__ __device__ __forceinline__ size_t row_bytes(uint32_t type, uint32_t cols)
{
	switch (type) {
	case TENSOR_F32:
		return (size_t)cols * 4;
	case TENSOR_F16:
	case TENSOR_BF16:
		return (size_t)cols * 2;
	case TENSOR_Q8_0:
		return cols % 32 ? 0 : (size_t)cols / 32 * 34;
	case TENSOR_Q4_0:
		return cols % 32 ? 0 : (size_t)cols / 32 * 18;
	case TENSOR_Q4_1:
		return cols % 32 ? 0 : (size_t)cols / 32 * 20;
	case TENSOR_Q5_0:
		return cols % 32 ? 0 : (size_t)cols / 32 * 22;
	case TENSOR_Q5_1:
		return cols % 32 ? 0 : (size_t)cols / 32 * 24;
	case TENSOR_Q4_K:
		return cols % SUPER ? 0 : (size_t)cols / SUPER * 144;
	case TENSOR_Q5_K:
		return cols % SUPER ? 0 : (size_t)cols / SUPER * 176;
	case TENSOR_Q6_K:
		return cols % SUPER ? 0 : (size_t)cols / SUPER * 210;
	default:
		return 0;
	}
}

/* Values c .. c + 3, zero behind the last. */
static __device__ __forceinline__ void values_at(
	uint32_t type, const uint8_t *row, uint32_t cols, uint32_t c, float v[1][4])
{
	switch (type) {
	case TENSOR_F32:
		rows_load_as<1, CUDA_TYPE_F32>(row, cols, c, 0, cols % 4 == 0, v);
		break;
	case TENSOR_F16:
		rows_load_as<1, CUDA_TYPE_F16>(row, cols, c, 0, cols % 4 == 0, v);
		break;
	case TENSOR_BF16:
		rows_load_as<1, CUDA_TYPE_BF16>(row, cols, c, 0, cols % 4 == 0, v);
		break;
	case TENSOR_Q8_0:
		q8_0_at(row, c, v[0]);
		break;
	case TENSOR_Q4_0:
		q4_0_at(row, c, v[0]);
		break;
	case TENSOR_Q4_1:
		q45_at<false, true>(row, c, v[0]);
		break;
	case TENSOR_Q5_0:
		q45_at<true, false>(row, c, v[0]);
		break;
	case TENSOR_Q5_1:
		q45_at<true, true>(row, c, v[0]);
		break;
	case TENSOR_Q4_K:
		q45_k_at<false>(row, c, v[0]);
		break;
	case TENSOR_Q5_K:
		q45_k_at<true>(row, c, v[0]);
		break;
	case TENSOR_Q6_K:
		q6_k_at(row, c, v[0]);
		break;
	}
}

static __global__ void __launch_bounds__(THREADS)
	embed_kernel(struct rows_embed e, const uint32_t *ids, float *x, struct ahead_aside aside)
{
	if (ahead_load_weights_aside(aside))
		return;
	device_begin();
	uint32_t c = (blockIdx.y * THREADS + threadIdx.x) * 4, id = ids[blockIdx.x];
	struct rows_out out = {CUDA_TYPE_F32, x, NULL};
	float v[1][4] = {};

	if (c >= e.cols)
		return;
	if (id < e.n_vocab)
		values_at(e.file_type,
			(const uint8_t *)e.data + id * row_bytes(e.file_type, e.cols), e.cols, c,
			v);
#pragma unroll
	for (int k = 0; k < 4; k++)
		v[0][k] *= e.scale;
	rows_put4<CUDA_TYPE_F32>(&out, e.cols, blockIdx.x, c, true, v[0], 1);
}

int rows_embed(const struct rows_embed *e, const uint32_t *id, uint32_t n_rows, float *x,
	cudaStream_t stream)
{
	dim3 own(n_rows, (e->cols + 4 * THREADS - 1) / (4 * THREADS));
	struct ahead_aside aside;

	if (n_rows == 0)
		return 0;
	if (row_bytes(e->file_type, e->cols) == 0)
		return cudaErrorInvalidValue;
	dim3 grid = ahead_grid(own, THREADS, e->ahead, &aside);
	return CUDA_LAUNCH(embed_kernel, grid, dim3(THREADS), 0, stream, *e, id, x, aside);
}

struct gather {
	const uint8_t *in;
	uint8_t *out;
	const uint32_t *row;
	size_t row_bytes;
};

/* T: what is copied at once. */
template <class T> static __global__ void __launch_bounds__(THREADS) gather_kernel(struct gather g)
{
	device_begin();
	const T *in = (const T *)(g.in + g.row[blockIdx.x] * g.row_bytes);
	T *out = (T *)(g.out + blockIdx.x * g.row_bytes);

	for (size_t i = blockIdx.y * THREADS + threadIdx.x; i < g.row_bytes / sizeof(T);
		i += (size_t)gridDim.y * THREADS)
		out[i] = in[i];
}

int rows_gather(const void *in, size_t row_bytes, const uint32_t *row, uint32_t n_rows, void *out,
	cudaStream_t stream)
{
	struct gather g = {(const uint8_t *)in, (uint8_t *)out, row, row_bytes};
	size_t pieces = (row_bytes + 16 * THREADS - 1) / (16 * THREADS);
	dim3 grid(n_rows, (uint32_t)(pieces < 16 ? pieces : 16));

	if (n_rows == 0)
		return 0;
	if (row_bytes == 0 || row_bytes % 4 != 0)
		return cudaErrorInvalidValue;
	if (row_bytes % 16 == 0)
		return CUDA_LAUNCH(gather_kernel<uint4>, grid, dim3(THREADS), 0, stream, g);
	return CUDA_LAUNCH(gather_kernel<uint32_t>, grid, dim3(THREADS), 0, stream, g);
}
