/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLASLt in plain loops: what the engine asks for, with the library's refusals, so that a product
 * that it would not compute is not computed here either. A product is one piece of work of its
 * stream; its descriptors are copied when it is issued. Sums are in double, rounded once.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/blas_door.h"
#include "tests/simt/cublaslt.h"
#include "tests/simt/fault.h"
#include "tests/simt/lock.h"
#include "tests/simt/memory.h"
#include "tests/simt/number.h"
#include "tests/simt/race.h"
#include "tests/simt/stream.h"

struct product {
	matmul_desc desc;
	matrix_layout a_layout, b_layout, c_layout, d_layout;
	const char *a, *b, *c;
	char *d;
	float alpha, beta;
};

/* ---- what the library would compute ---- */

static size_t size_of(cudaDataType type)
{
	return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2;
}

/* Bytes from the first to past the last element. */
static size_t span(const matrix_layout *l)
{
	uint64_t lines = l->order == CUBLASLT_ORDER_COL ? l->cols : l->rows;
	uint64_t line = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
	return (size_t)((lines - 1) * (uint64_t)l->ld + line) * size_of(l->type);
}

static bool leads(const matrix_layout *l)
{
	uint64_t line = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
	return l->rows && l->cols && l->ld >= (int64_t)line;
}

/* Rows of op(A) by columns of op(A), and so on: shapes that fit. */
static cublasStatus_t check_shapes(const struct product *p)
{
	const matrix_layout *a = &p->a_layout, *b = &p->b_layout, *c = &p->c_layout,
			    *d = &p->d_layout;
	bool ta = p->desc.op_a != CUBLAS_OP_N, tb = p->desc.op_b != CUBLAS_OP_N;
	uint64_t m = ta ? a->cols : a->rows, ka = ta ? a->rows : a->cols;
	uint64_t n = tb ? b->rows : b->cols, kb = tb ? b->cols : b->rows;
	if (!leads(a) || !leads(b) || !leads(c) || !leads(d))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (ka != kb || d->rows != m || d->cols != n || c->rows != m || c->cols != n)
		return CUBLAS_STATUS_INVALID_VALUE;
	return CUBLAS_STATUS_SUCCESS;
}

/* The library's table of supported types, as far as it concerns sums in f32. */
static cublasStatus_t check_types(const struct product *p)
{
	const matrix_layout *a = &p->a_layout, *b = &p->b_layout, *d = &p->d_layout;
	if (a->type != b->type || p->c_layout.type != d->type)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	bool out_f32 = d->type == CUDA_R_32F;
	switch (a->type) {
	case CUDA_R_32F:
		return out_f32 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
	case CUDA_R_16F:
	case CUDA_R_16BF:
		return out_f32 || d->type == a->type ? CUBLAS_STATUS_SUCCESS
						     : CUBLAS_STATUS_NOT_SUPPORTED;
	case CUDA_R_8F_E4M3:
		/* Only A transposed and B not, columns first, all sizes and rows of 16 bytes. */
		if (p->desc.op_a != CUBLAS_OP_T || p->desc.op_b != CUBLAS_OP_N ||
			a->order != CUBLASLT_ORDER_COL || b->order != CUBLASLT_ORDER_COL ||
			d->order != CUBLASLT_ORDER_COL || d->type == CUDA_R_8F_E4M3)
			return CUBLAS_STATUS_NOT_SUPPORTED;
		if (a->rows % 16 || a->cols % 16 || a->ld % 16 || b->ld % 16 ||
			(size_t)d->ld * size_of(d->type) % 16)
			return CUBLAS_STATUS_NOT_SUPPORTED;
		return CUBLAS_STATUS_SUCCESS;
	}
	return CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t check(const struct product *p)
{
	cublasStatus_t rc = check_shapes(p);
	if (rc == CUBLAS_STATUS_SUCCESS)
		rc = check_types(p);
	bool scaled = p->desc.a_scale || p->desc.b_scale;
	if (rc == CUBLAS_STATUS_SUCCESS && scaled && p->a_layout.type != CUDA_R_8F_E4M3)
		rc = CUBLAS_STATUS_NOT_SUPPORTED;
	if (rc == CUBLAS_STATUS_SUCCESS && p->desc.a_mode != p->desc.b_mode)
		rc = CUBLAS_STATUS_NOT_SUPPORTED;
	return rc;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
	cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
	cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int n_wanted,
	cublasLtMatmulHeuristicResult_t results[], int *n_found)
{
	*n_found = 0;
	if (!handle || !preference || n_wanted < 1)
		return CUBLAS_STATUS_INVALID_VALUE;
	struct product p = {
		.desc = *desc, .a_layout = *a, .b_layout = *b, .c_layout = *c, .d_layout = *d};
	cublasStatus_t rc = check(&p);
	if (rc != CUBLAS_STATUS_SUCCESS)
		return rc;
	memset(results, 0, sizeof *results);
	results->algo.data[0] = 1;  /* how cublasLtMatmul() knows that it came from here */
	for (int i = 0; i < 4; i++) /* it needs what it was promised */
		results->algo.data[1 + i] = preference->alignment[i];
	results->wavesCount = 1;
	*n_found = 1;
	return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---- */

static size_t place(const matrix_layout *l, uint64_t row, uint64_t col)
{
	size_t ld = (size_t)l->ld;
	return (l->order == CUBLASLT_ORDER_COL ? col * ld + row : row * ld + col) *
	       size_of(l->type);
}

static float load(const char *at, cudaDataType type)
{
	uint16_t half;
	float f;
	switch (type) {
	case CUDA_R_16F:
	case CUDA_R_16BF:
		memcpy(&half, at, sizeof half);
		return type == CUDA_R_16F ? number_f16(half) : number_bf16(half);
	case CUDA_R_8F_E4M3:
		return number_e4m3((uint8_t)*at);
	case CUDA_R_32F:
		break;
	}
	memcpy(&f, at, sizeof f);
	return f;
}

static void store(char *at, cudaDataType type, float f)
{
	uint16_t half = type == CUDA_R_16F ? number_to_f16(f) : number_to_bf16(f);
	if (type == CUDA_R_32F)
		memcpy(at, &f, sizeof f);
	else
		memcpy(at, &half, sizeof half);
}

/* op(matrix) as floats, each row of `count` together: [lines][k]. */
static float *unpack(const char *from, const matrix_layout *l, bool lines_are_cols)
{
	uint64_t lines = lines_are_cols ? l->cols : l->rows, k = lines_are_cols ? l->rows : l->cols;
	float *out = malloc((size_t)(lines * k) * sizeof *out);
	for (uint64_t i = 0; out && i < lines; i++) {
		for (uint64_t j = 0; j < k; j++)
			out[i * k + j] = load(
				from + (lines_are_cols ? place(l, j, i) : place(l, i, j)), l->type);
	}
	return out;
}

static float scale_of(const float *scale, cublasLtMatmulMatrixScale_t mode, uint64_t i)
{
	return !scale ? 1 : mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F ? scale[i] : *scale;
}

static void multiply(const struct product *p, const float *a, const float *b)
{
	const matrix_layout *d = &p->d_layout;
	uint64_t k = p->desc.op_a == CUBLAS_OP_N ? p->a_layout.cols : p->a_layout.rows;
	cudaDataType bias_type =
		p->desc.bias_type == (cudaDataType)-1 ? d->type : p->desc.bias_type;
	for (uint64_t col = 0; col < d->cols; col++) {
		float sb = scale_of(p->desc.b_scale, p->desc.b_mode, col);
		for (uint64_t row = 0; row < d->rows; row++) {
			const float *x = a + row * k, *y = b + col * k;
			double sum = 0;
			for (uint64_t i = 0; i < k; i++)
				sum += (double)x[i] * (double)y[i];
			sum *= (double)scale_of(p->desc.a_scale, p->desc.a_mode, row) * (double)sb *
			       (double)p->alpha;
			if (p->beta != 0)
				sum += (double)p->beta *
				       (double)load(p->c + place(&p->c_layout, row, col),
					       p->c_layout.type);
			if (p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
				sum += (double)load(
					(const char *)p->desc.bias + row * size_of(bias_type),
					bias_type);
			store(p->d + place(d, row, col), d->type, (float)sum);
		}
	}
}

static void run_product(struct work *w)
{
	const struct product *p = (struct product *)(void *)w->argument;
	float *a = unpack(p->a, &p->a_layout, p->desc.op_a != CUBLAS_OP_N);
	float *b = unpack(p->b, &p->b_layout, p->desc.op_b == CUBLAS_OP_N);
	if (a && b) {
		multiply(p, a, b);
		race_product_wrote(p->d, span(&p->d_layout));
	} else {
		fault_set(cudaErrorUnknown, "no memory for the emulator");
	}
	free(a);
	free(b);
}

static bool in_device(const void *at, const matrix_layout *l)
{
	return memory_holds(at, span(l), MEMORY_DEVICE);
}

static cublasStatus_t check_memory(const struct product *p)
{
	bool fp8 = p->a_layout.type == CUDA_R_8F_E4M3;
	if (!in_device(p->a, &p->a_layout) || !in_device(p->b, &p->b_layout) ||
		!in_device(p->d, &p->d_layout) || (p->beta != 0 && !in_device(p->c, &p->c_layout)))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (fp8 && ((uintptr_t)p->a | (uintptr_t)p->b | (uintptr_t)p->d) % 16)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS && !p->desc.bias)
		return CUBLAS_STATUS_INVALID_VALUE;
	return CUBLAS_STATUS_SUCCESS;
}

/* An algorithm counts on the addresses that were promised when it was chosen. */
static bool is_aligned(const struct product *p, const cublasLtMatmulAlgo_t *algo)
{
	const void *at[] = {p->a, p->b, p->c, p->d};
	for (int i = 0; algo && i < 4; i++) {
		if (algo->data[1 + i] && (uintptr_t)at[i] % algo->data[1 + i])
			return false;
	}
	return true;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
	const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
	cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
	cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
	const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_size,
	cudaStream_t stream)
{
	(void)workspace, (void)workspace_size;
	struct product p = {*desc, *a_layout, *b_layout, *c_layout, *d_layout, a, b, c, d, 0, 0};
	memcpy(&p.alpha, alpha, sizeof p.alpha);
	memcpy(&p.beta, beta, sizeof p.beta);
	if (!handle || (algo && algo->data[0] != 1))
		return CUBLAS_STATUS_INVALID_VALUE;
	lock_enter();
	cublasStatus_t rc = lock_error() ? CUBLAS_STATUS_EXECUTION_FAILED : check(&p);
	if (rc == CUBLAS_STATUS_SUCCESS)
		rc = check_memory(&p);
	if (rc == CUBLAS_STATUS_SUCCESS && !is_aligned(&p, algo))
		rc = CUBLAS_STATUS_NOT_SUPPORTED;
	struct work *w = rc == CUBLAS_STATUS_SUCCESS
				 ? work_new(WORK_CALL, sizeof(struct product), run_product)
				 : NULL;
	if (w) {
		w->what = (const void *)cublasLtMatmul;
		*(struct product *)(void *)w->argument = p;
	}
	if (rc == CUBLAS_STATUS_SUCCESS && stream_add(stream, w))
		rc = CUBLAS_STATUS_EXECUTION_FAILED;
	lock_leave();
	return rc;
}

/* ---- the door that is a library's on a card ---- */

const char *blas_door_missing(void)
{
	return NULL;
}
