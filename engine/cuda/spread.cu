/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two small kernels. One puts what a step's upload says into the form that the others read: tokens
 * that the host knows beside tokens that the step before has picked, and the block tables at a
 * fixed distance. It is the first in every graph, so what it reads is nothing but device memory.
 *
 * The other finishes products that came out unscaled, without bias, or in another type than wanted.
 */
#include "engine/cuda/spread.h"

#include "engine/cuda/device.h"

#define THREADS 128

__global__ void spread_rows(struct cuda_spread u, uint32_t *id)
{
	device_begin();
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < u.n_rows)
		id[i] = u.source[i] == CUDA_SPREAD_NONE ? u.given[i] : u.picked[u.source[i]];
}

/* A block a run. */
__global__ void spread_tables(struct cuda_spread u, uint32_t *blocks, uint32_t max_blocks)
{
	device_begin();
	uint32_t from = u.block_from[blockIdx.x], n = u.block_from[blockIdx.x + 1] - from;
	uint32_t *to = blocks + (size_t)blockIdx.x * max_blocks;

	for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
		to[i] = u.tables[from + i];
}

int cuda_spread(const struct cuda_spread *u, const struct cuda_rows *rows, cudaStream_t stream)
{
	int r = cudaSuccess;

	if (u->n_rows > 0)
		r = CUDA_LAUNCH(spread_rows, dim3((u->n_rows + THREADS - 1) / THREADS),
			dim3(THREADS), 0, stream, *u, rows->id);
	if (r == cudaSuccess && u->n_runs > 0)
		r = CUDA_LAUNCH(spread_tables, dim3(u->n_runs), dim3(THREADS), 0, stream, *u,
			rows->blocks, rows->max_blocks);
	return r;
}

/* ---- products that are not done yet ---- */

static __device__ float read_value(const void *p, enum cuda_type type, size_t i)
{
	if (type == CUDA_TYPE_F32)
		return ((const float *)p)[i];
	uint16_t bits = ((const uint16_t *)p)[i];
	return type == CUDA_TYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static __device__ void write_value(void *p, enum cuda_type type, size_t i, float value)
{
	if (type == CUDA_TYPE_F32)
		((float *)p)[i] = value;
	else
		((uint16_t *)p)[i] = type == CUDA_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
}

/* A row by blockIdx.x, columns by y. */
__global__ void finish_values(struct cuda_finish f)
{
	device_begin();
	uint32_t c = blockIdx.y * blockDim.x + threadIdx.x, row = blockIdx.x;

	if (c >= f.cols)
		return;
	size_t to = (size_t)row * f.ld + c;
	float v = read_value(f.in, f.in_type, (size_t)row * f.ld_in + c);
	float scale = (f.row_scale ? f.row_scale[row] : 1) * (f.col_scale ? f.col_scale[c] : 1);

	v = v * scale + (f.bias ? f.bias[c] : 0);
	if (f.add)
		v += ((const float *)f.out)[to];
	write_value(f.out, f.type, to, v);
}

static bool is_float(enum cuda_type type)
{
	return type == CUDA_TYPE_F32 || type == CUDA_TYPE_F16 || type == CUDA_TYPE_BF16;
}

int cuda_finish(const struct cuda_finish *f, cudaStream_t stream)
{
	if (!is_float(f->in_type) || !is_float(f->type) || (f->add && f->type != CUDA_TYPE_F32))
		return cudaErrorInvalidValue;
	if (f->n_rows == 0 || f->cols == 0)
		return cudaSuccess;
	return CUDA_LAUNCH(finish_values, dim3(f->n_rows, (f->cols + THREADS - 1) / THREADS),
		dim3(THREADS), 0, stream, *f);
}
