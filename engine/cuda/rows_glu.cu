/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of the feed-forward part, and rows in another type: whatever is done value by value and
 * then stored as the next product wants it.
 *
 * Value by value there is no need for a block to have a whole row; only e4m3 needs the row's
 * largest magnitude before the first value. Its kernels go over the row twice and compute twice:
 * the second time the row comes from the cache.
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/next_device.h"
#include "engine/cuda/rows_device.h"

#define THREADS 128
#define PIECES 2 /* of four values, a thread */
#define SCALED_THREADS 512

/* up is NULL: rows to be converted. */
struct source {
	const void *gate, *up;
	enum cuda_type type;
	enum rows_gate kind;
	size_t ld;
	uint32_t cols;
};

template <int N>
static __device__ __forceinline__ void compute(
	const struct source *s, size_t row, uint32_t c, uint32_t step, float v[N][4])
{
	rows_load<N>(s->gate, s->type, s->ld, row, s->cols, c, step, v);
	if (!s->up)
		return;
	float up[N][4];
	rows_load<N>(s->up, s->type, s->ld, row, s->cols, c, step, up);
#pragma unroll
	for (int i = 0; i < N; i++) {
#pragma unroll
		for (int k = 0; k < 4; k++)
			v[i][k] = rows_gated(s->kind, v[i][k]) * up[i][k];
	}
}

template <enum cuda_type OUT>
static __global__ void __launch_bounds__(THREADS)
	plain_kernel(struct source s, struct rows_out out, struct ahead_aside aside)
{
	if (ahead_load_weights_aside(aside))
		return;
	device_begin();
	device_let_next();
	uint32_t c = (blockIdx.y * THREADS * PIECES + threadIdx.x) * 4;
	float v[PIECES][4];

	compute<PIECES>(&s, blockIdx.x, c, THREADS * 4, v);
#pragma unroll
	for (int i = 0; i < PIECES; i++, c += THREADS * 4)
		rows_put4<OUT>(
			&out, s.cols, blockIdx.x, c, c < rows_put_cols<OUT>(s.cols), v[i], 1);
}

static __global__ void __launch_bounds__(SCALED_THREADS)
	scaled_kernel(struct source s, struct rows_out out, struct ahead_aside aside)
{
	if (ahead_load_weights_aside(aside))
		return;
	device_begin();
	device_let_next();
	__shared__ float shared[32];
	float v[PIECES][4], most = 0;
	uint32_t step = blockDim.x * 4;

	for (uint32_t c = threadIdx.x * 4; c < s.cols; c += PIECES * step) {
		compute<PIECES>(&s, blockIdx.x, c, step, v);
#pragma unroll
		for (int i = 0; i < PIECES; i++) {
#pragma unroll
			for (int k = 0; k < 4; k++)
				most = fmaxf(most, fabsf(v[i][k]));
		}
	}
	float inverse = rows_put_scale(&out, blockIdx.x, rows_block_max(most, shared));
	for (uint32_t c = threadIdx.x * 4; c < s.cols; c += PIECES * step) {
		compute<PIECES>(&s, blockIdx.x, c, step, v);
#pragma unroll
		for (int i = 0; i < PIECES; i++)
			rows_put4<CUDA_TYPE_E4M3>(&out, s.cols, blockIdx.x, c + i * step,
				c + i * step < s.cols, v[i], inverse);
	}
}

template <enum cuda_type OUT>
static int launch_plain(const struct source *s, uint32_t n_rows, const struct rows_out *out,
	const struct cuda_ahead &ahead, cudaStream_t stream)
{
	uint32_t cols = OUT == CUDA_TYPE_Q8 ? cuda_quant_q8_blocks(s->cols) * 32 : s->cols;
	uint32_t of_block = THREADS * PIECES * 4;
	struct ahead_aside aside;
	dim3 grid =
		ahead_grid(dim3(n_rows, (cols + of_block - 1) / of_block), THREADS, ahead, &aside);

	return CUDA_LAUNCH(plain_kernel<OUT>, grid, dim3(THREADS), 0, stream, *s, *out, aside);
}

static int launch_scaled(const struct source *s, uint32_t n_rows, const struct rows_out *out,
	const struct cuda_ahead &ahead, cudaStream_t stream)
{
	struct ahead_aside aside;
	dim3 grid = ahead_grid(dim3(n_rows), SCALED_THREADS, ahead, &aside);

	return CUDA_LAUNCH(scaled_kernel, grid, dim3(SCALED_THREADS), 0, stream, *s, *out, aside);
}

static int launch(const struct source *s, uint32_t n_rows, const struct rows_out *out,
	const struct cuda_ahead &ahead, cudaStream_t stream)
{
	if (n_rows == 0)
		return 0;
	if (s->cols == 0 || (out->type == CUDA_TYPE_Q8 && s->cols % 32 != 0) ||
		(s->type != CUDA_TYPE_F32 && s->type != CUDA_TYPE_F16 && s->type != CUDA_TYPE_BF16))
		return cudaErrorInvalidValue;
	switch (out->type) {
	case CUDA_TYPE_F32:
		return launch_plain<CUDA_TYPE_F32>(s, n_rows, out, ahead, stream);
	case CUDA_TYPE_F16:
		return launch_plain<CUDA_TYPE_F16>(s, n_rows, out, ahead, stream);
	case CUDA_TYPE_BF16:
		return launch_plain<CUDA_TYPE_BF16>(s, n_rows, out, ahead, stream);
	case CUDA_TYPE_Q8:
		return launch_plain<CUDA_TYPE_Q8>(s, n_rows, out, ahead, stream);
	case CUDA_TYPE_E4M3:
		return launch_scaled(s, n_rows, out, ahead, stream);
	}
	return cudaErrorInvalidValue;
}

int rows_glu(const struct rows_glu *g, const struct rows_out *out, cudaStream_t stream)
{
	struct source s = {g->gate, g->up, g->act, g->kind, g->ld, g->cols};

	return launch(&s, g->n_rows, out, g->ahead, stream);
}

int rows_convert(const void *in, enum cuda_type type, uint32_t n_rows, uint32_t cols,
	const struct rows_out *out, cudaStream_t stream)
{
	struct source s = {in, NULL, type, ROWS_SWIGLU, cols, cols};
	struct cuda_ahead nothing = {};

	return launch(&s, n_rows, out, nothing, stream);
}
