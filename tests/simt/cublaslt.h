/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_CUBLASLT_H
#define SIMT_CUBLASLT_H

/* What the handles of cuBLASLt stand for in the emulator. */

#include <stddef.h>
#include <stdint.h>

#include "tests/simt/include/cublasLt.h"

struct cublasLtContext {
	int unused;
};

struct cublasLtMatmulDescOpaque {
	cublasOperation_t op_a, op_b;
	cublasLtEpilogue_t epilogue;
	const void *bias;
	cudaDataType bias_type; /* -1: D's */
	const float *a_scale, *b_scale;
	cublasLtMatmulMatrixScale_t a_mode, b_mode;
};

struct cublasLtMatrixLayoutOpaque {
	cudaDataType type;
	uint64_t rows, cols;
	int64_t ld;
	cublasLtOrder_t order;
};

struct cublasLtMatmulPreferenceOpaque {
	size_t workspace;
	uint32_t alignment[4]; /* of A, B, C, D, bytes */
};

typedef struct cublasLtMatmulDescOpaque matmul_desc;
typedef struct cublasLtMatrixLayoutOpaque matrix_layout;

#endif
