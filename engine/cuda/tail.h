/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_TAIL_H
#define ENGINE_CUDA_TAIL_H

/*
 * What follows a product of few rows and is done by the product's own last blocks, so that it takes
 * no launch: the norm of the rows that it adds to, or the activation of gate and up. gemv.h and
 * quant.h say which products take one; the others refuse it.
 */

#include "engine/cuda/rows.h"

enum cuda_tail_kind { CUDA_TAIL_NONE, CUDA_TAIL_NORM, CUDA_TAIL_GLU };

/*
 * NORM: h = rms_norm(out) * weight once all of out is there, as rows_norm() has it, of the type of
 * the product's x. out is f32, its rows one behind the other (ld == rows of the matrix), at most
 * CUDA_TAIL_MAX_COLS and a multiple of 4, of 32 for q8. With 3,585 to 4,096 columns sums are in the
 * order of rows_norm(), and h has its bits. h may be where x is: all of that has been read by then.
 *
 * GLU: the matrix is gate and up, one behind the other, of a multiple of 32 rows each and at most
 * CUDA_TAIL_MAX_FF; out is f16 or bf16, ld a multiple of 4, and gets both as without. h, q8, is
 * f(gate) * up as rows_glu() makes it of out, to the bit. h may not be where x is.
 *
 * Rows of h are those of out, at most 8.
 */
struct cuda_tail {
	enum cuda_tail_kind kind; /* zero: nothing follows */
	struct rows_out h;
	const float *weight; /* NORM: [cols] */
	float eps;
	enum rows_gate gate; /* GLU */
};

#define CUDA_TAIL_THREADS 256
#define CUDA_TAIL_MAX_COLS 5120
#define CUDA_TAIL_MAX_FF 65536

#endif
