/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_NORM_DEVICE_H
#define ENGINE_CUDA_NORM_DEVICE_H

/*
 * The norm of a row that lies in a block's registers, a few pieces of four values a thread: a sum
 * of squares, for e4m3 also the largest magnitude, then the output. For a kernel of its own
 * (rows_norm.cu) and for the end of products (tail_device.h).
 */

#include "engine/cuda/rows_device.h"

#define NORM_SHARED 64 /* words of a row */

/* What all rows have. */
struct norm_rows {
	const float *weight;
	float eps;
	uint32_t cols, first, step; /* of this thread, as in rows_load_as() */
};

template <int PIECES>
static __device__ __forceinline__ void norm_load_weights(const norm_rows &n, float w[PIECES][4])
{
	rows_load_as<PIECES, CUDA_TYPE_F32>(n.weight, n.cols, n.first, n.step, n.cols % 4 == 0, w);
}

/*
 * Row i of out from x, which is spoilt. All threads of the block call. HOLDS: w is what
 * norm_load_weights() gives, so that they came together with the row; else, where that takes too
 * many registers, it is room for them. shared: NORM_SHARED words, for this row alone.
 */
template <enum cuda_type OUT, int PIECES, bool HOLDS>
static __device__ __forceinline__ void norm_row(const norm_rows &n, const rows_out &out, size_t i,
	float x[PIECES][4], float w[PIECES][4], float *shared)
{
	float squares = 0, most = 0, inverse = 1;

#pragma unroll
	for (int p = 0; p < PIECES; p++) {
#pragma unroll
		for (int k = 0; k < 4; k++)
			squares = fmaf(x[p][k], x[p][k], squares);
	}
	float scale = 1 / sqrtf(rows_block_sum(squares, shared) / (float)n.cols + n.eps);
	if (!HOLDS)
		norm_load_weights<PIECES>(n, w);
#pragma unroll
	for (int p = 0; p < PIECES; p++) {
#pragma unroll
		for (int k = 0; k < 4; k++) {
			x[p][k] = x[p][k] * scale * w[p][k];
			most = fmaxf(most, fabsf(x[p][k]));
		}
	}
	if (OUT == CUDA_TYPE_E4M3)
		inverse = rows_put_scale(&out, i, rows_block_max(most, shared + 32));
#pragma unroll
	for (int p = 0; p < PIECES; p++) {
		uint32_t c = n.first + p * n.step;
		rows_put4<OUT>(&out, n.cols, i, c, c < rows_put_cols<OUT>(n.cols), x[p], inverse);
	}
}

#endif
