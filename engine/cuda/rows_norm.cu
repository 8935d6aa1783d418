/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The norm before each product, with the residual added first where a product did not add it
 * itself.
 *
 * A block takes a row and keeps it in registers (norm_device.h), so that x is read once whatever
 * the form of the output. With one row in the step this is bound by latency alone: all loads of a
 * thread are under way before the first is used. Behind a product of few rows the product does it
 * itself (tail_device.h).
 */
#include "engine/cuda/ahead_device.h"
#include "engine/cuda/next_device.h"
#include "engine/cuda/norm_device.h"

#define THREADS 512 /* at most */

/* PIECES: of four values, a thread. */
template <enum cuda_type OUT, int PIECES>
static __global__ void __launch_bounds__(THREADS)
	norm_kernel(struct rows_norm n, struct rows_out out, struct ahead_aside aside)
{
	if (ahead_load_weights_aside(aside))
		return;
	device_begin();
	device_let_next();
	__shared__ float shared[NORM_SHARED];
	float x[PIECES][4], w[PIECES][4];
	size_t i = blockIdx.x, row = n.row ? n.row[i] : i;
	uint32_t first = threadIdx.x * 4, step = blockDim.x * 4;
	const bool holds = PIECES <= 4;
	norm_rows rows = {n.weight, n.eps, n.cols, first, step};

	rows_load<PIECES>(n.x, CUDA_TYPE_F32, n.cols, row, n.cols, first, step, x);
	if (holds)
		norm_load_weights<PIECES>(rows, w);
	if (n.delta) {
		float d[PIECES][4];
		rows_load<PIECES>(n.delta, n.delta_type, n.cols, row, n.cols, first, step, d);
		struct rows_out back = {CUDA_TYPE_F32, n.x, NULL};
#pragma unroll
		for (int p = 0; p < PIECES; p++) {
			uint32_t c = first + p * step;
#pragma unroll
			for (int k = 0; k < 4; k++)
				x[p][k] += d[p][k];
			rows_put4<CUDA_TYPE_F32>(&back, n.cols, row, c, c < n.cols, x[p], 1);
		}
	}
	norm_row<OUT, PIECES, holds>(rows, out, i, x, w, shared);
}

template <enum cuda_type OUT>
static int launch(
	const struct rows_norm *n, const struct rows_out *out, uint32_t cols, cudaStream_t stream)
{
	uint32_t pieces = cols <= THREADS * 16 ? 4 : 8, of_thread = 4 * pieces;
	uint32_t threads = ((cols + of_thread - 1) / of_thread + 31) / 32 * 32;
	struct ahead_aside aside;
	dim3 grid = ahead_grid(dim3(n->n_rows), threads, n->ahead, &aside);

	if (pieces == 4)
		return CUDA_LAUNCH(
			(norm_kernel<OUT, 4>), grid, dim3(threads), 0, stream, *n, *out, aside);
	return CUDA_LAUNCH((norm_kernel<OUT, 8>), grid, dim3(threads), 0, stream, *n, *out, aside);
}

int rows_norm(const struct rows_norm *n, const struct rows_out *out, cudaStream_t stream)
{
	if (n->n_rows == 0)
		return 0;
	if (n->cols == 0 || n->cols > ROWS_MAX_COLS || (n->row && n->delta) ||
		(out->type == CUDA_TYPE_Q8 && n->cols % 32 != 0))
		return cudaErrorInvalidValue;
	switch (out->type) {
	case CUDA_TYPE_F32:
		return launch<CUDA_TYPE_F32>(n, out, n->cols, stream);
	case CUDA_TYPE_F16:
		return launch<CUDA_TYPE_F16>(n, out, n->cols, stream);
	case CUDA_TYPE_BF16:
		return launch<CUDA_TYPE_BF16>(n, out, n->cols, stream);
	case CUDA_TYPE_E4M3:
		return launch<CUDA_TYPE_E4M3>(n, out, n->cols, stream);
	case CUDA_TYPE_Q8:
		return launch<CUDA_TYPE_Q8>(n, out, cuda_quant_q8_blocks(n->cols) * 32, stream);
	}
	return cudaErrorInvalidValue;
}
