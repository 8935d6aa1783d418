/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated cuBLASLt against loops of the test's own, over layouts and types, and what it
 * refuses. */
#include <cublasLt.h>

#include <string.h>

#include "tests/simt/faults.h"
#include "tests/simt/include/simt.h"
#include "tests/simt/kernel_test.h"
#include "tests/simt/number.h"

#define EXPECT_BLAS(call) EXPECT((call) == CUBLAS_STATUS_SUCCESS)

struct product {
	cudaDataType in, out;
	int m, n, k;
	bool transpose_a, transpose_b, rows_first;
	float alpha, beta;
	bool bias, scaled;
};

/* A matrix of the test: rows x cols with ld in columns-first or rows-first order. */
struct matrix {
	int rows, cols, ld;
	bool rows_first;
	cudaDataType type;
	size_t bytes;
	uint8_t *data; /* the host's */
};

static size_t size_of(cudaDataType type)
{
	return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2;
}

static size_t at(const struct matrix *m, int row, int col)
{
	return (size_t)(m->rows_first ? row * m->ld + col : col * m->ld + row) * size_of(m->type);
}

static double get(const struct matrix *m, int row, int col)
{
	const uint8_t *p = m->data + at(m, row, col);
	uint16_t half;
	float f;
	if (m->type == CUDA_R_8F_E4M3)
		return (double)number_e4m3(*p);
	memcpy(&half, p, sizeof half);
	if (m->type == CUDA_R_16F)
		return (double)number_f16(half);
	if (m->type == CUDA_R_16BF)
		return (double)number_bf16(half);
	memcpy(&f, p, sizeof f);
	return (double)f;
}

static void put(const struct matrix *m, int row, int col, float f)
{
	uint8_t *p = m->data + at(m, row, col);
	uint16_t half = m->type == CUDA_R_16F ? number_to_f16(f) : number_to_bf16(f);
	if (m->type == CUDA_R_8F_E4M3)
		*p = (uint8_t)kernel_test_random(0x50); /* any but a NaN */
	else if (m->type == CUDA_R_32F)
		memcpy(p, &f, sizeof f);
	else
		memcpy(p, &half, sizeof half);
}

static struct matrix random_matrix(int rows, int cols, bool rows_first, cudaDataType type)
{
	int line = rows_first ? cols : rows;
	struct matrix m = {rows, cols, line + (line % 16 ? 3 : 16), rows_first, type, 0, NULL};
	m.bytes = (size_t)(m.ld * (rows_first ? rows : cols)) * size_of(type);
	m.data = kernel_test_host(m.bytes);
	for (int i = 0; i < rows; i++) {
		for (int j = 0; j < cols; j++)
			put(&m, i, j, kernel_test_random_float());
	}
	return m;
}

static cublasLtMatrixLayout_t layout_of(const struct matrix *m)
{
	cublasLtMatrixLayout_t l;
	cublasLtOrder_t order = m->rows_first ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
	EXPECT_BLAS(cublasLtMatrixLayoutCreate(
		&l, m->type, (uint64_t)m->rows, (uint64_t)m->cols, m->ld));
	EXPECT_BLAS(cublasLtMatrixLayoutSetAttribute(
		l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
	return l;
}

static cublasLtMatmulDesc_t desc_of(
	const struct product *p, const void *bias, const void *a_scale, const void *b_scale)
{
	cublasLtMatmulDesc_t d;
	cublasOperation_t t = CUBLAS_OP_T;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	cublasLtMatmulMatrixScale_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
	EXPECT_BLAS(cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	if (p->transpose_a)
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
	if (p->transpose_b)
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_TRANSB, &t, sizeof t));
	if (p->bias) {
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
	}
	if (p->scaled) {
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &a_scale, sizeof a_scale));
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &b_scale, sizeof b_scale));
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode));
		EXPECT_BLAS(cublasLtMatmulDescSetAttribute(
			d, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode));
	}
	return d;
}

/* The status of the choice of an algorithm; when that is success, of the product. */
static cublasStatus_t multiply(const struct product *p, cublasLtMatmulDesc_t desc,
	const struct matrix *a, const struct matrix *b, const struct matrix *d, void *out)
{
	cublasLtHandle_t handle;
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t found;
	cublasLtMatrixLayout_t la = layout_of(a), lb = layout_of(b), ld = layout_of(d);
	size_t workspace = 1 << 20;
	int n;
	EXPECT_BLAS(cublasLtCreate(&handle));
	EXPECT_BLAS(cublasLtMatmulPreferenceCreate(&preference));
	EXPECT_BLAS(cublasLtMatmulPreferenceSetAttribute(preference,
		CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
	cublasStatus_t rc = cublasLtMatmulAlgoGetHeuristic(
		handle, desc, la, lb, ld, ld, preference, 1, &found, &n);
	if (rc == CUBLAS_STATUS_SUCCESS) {
		EXPECT_EQUAL(n, 1);
		void *da = kernel_test_upload(a->data, a->bytes);
		void *db = kernel_test_upload(b->data, b->bytes);
		rc = cublasLtMatmul(handle, desc, &p->alpha, da, la, db, lb, &p->beta, out, ld, out,
			ld, &found.algo, NULL, 0, NULL);
	}
	cublasLtMatmulPreferenceDestroy(preference);
	cublasLtMatrixLayoutDestroy(la);
	cublasLtMatrixLayoutDestroy(lb);
	cublasLtMatrixLayoutDestroy(ld);
	cublasLtDestroy(handle);
	return rc;
}

static double want_of(const struct product *p, const struct matrix *a, const struct matrix *b,
	const struct matrix *before, int row, int col)
{
	double sum = 0;
	for (int i = 0; i < p->k; i++)
		sum += (p->transpose_a ? get(a, i, row) : get(a, row, i)) *
		       (p->transpose_b ? get(b, col, i) : get(b, i, col));
	if (p->scaled)
		sum *= (double)(1 + row) * (2 + col);
	sum = sum * (double)p->alpha + (double)p->beta * get(before, row, col);
	return sum + (p->bias ? row * 0.5 : 0);
}

static void check_product(const struct product *p)
{
	struct matrix a = p->transpose_a ? random_matrix(p->k, p->m, p->rows_first, p->in)
					 : random_matrix(p->m, p->k, p->rows_first, p->in);
	struct matrix b = p->transpose_b ? random_matrix(p->n, p->k, p->rows_first, p->in)
					 : random_matrix(p->k, p->n, p->rows_first, p->in);
	struct matrix before = random_matrix(p->m, p->n, p->rows_first, p->out), d = before;
	struct matrix bias = random_matrix(p->m, 1, false, p->out);
	float scales[64];
	for (int i = 0; i < 64; i++)
		scales[i] = (float)(1 + i);
	for (int i = 0; i < p->m; i++)
		put(&bias, i, 0, (float)i * 0.5f);
	float *d_scales = kernel_test_upload(scales, sizeof scales);
	cublasLtMatmulDesc_t desc =
		desc_of(p, kernel_test_upload(bias.data, bias.bytes), d_scales, d_scales + 1);
	void *out = kernel_test_upload(before.data, before.bytes);
	EXPECT_BLAS(multiply(p, desc, &a, &b, &d, out));
	d.data = kernel_test_host(d.bytes);
	kernel_test_download(d.data, out, d.bytes);
	double step = p->out == CUDA_R_32F ? 1e-6 : p->out == CUDA_R_16F ? 1e-3 : 8e-3;
	for (int row = 0; row < p->m; row++) {
		for (int col = 0; col < p->n; col++) {
			double want = want_of(p, &a, &b, &before, row, col);
			EXPECT_NEAR(get(&d, row, col), want, step * (1 + fabs(want)));
		}
	}
	cublasLtMatmulDescDestroy(desc);
}

KERNEL_TEST(products_of_every_type_and_layout_are_what_loops_give)
{
	static const struct product products[] = {
		{CUDA_R_32F, CUDA_R_32F, 5, 7, 9, true, false, false, 1, 0, false, false},
		{CUDA_R_32F, CUDA_R_32F, 5, 7, 9, false, true, true, 2, 1, false, false},
		{CUDA_R_16F, CUDA_R_16F, 8, 3, 33, true, false, false, 1, 0, true, false},
		{CUDA_R_16F, CUDA_R_32F, 8, 3, 33, true, false, false, 1, 1, false, false},
		{CUDA_R_16BF, CUDA_R_16BF, 1, 1, 1, false, false, false, 1, 0, false, false},
		{CUDA_R_16BF, CUDA_R_32F, 17, 2, 40, true, false, false, 1, 1, true, false},
		{CUDA_R_8F_E4M3, CUDA_R_16BF, 32, 16, 48, true, false, false, 1, 0, false, true},
		{CUDA_R_8F_E4M3, CUDA_R_32F, 16, 5, 16, true, false, false, 1, 1, false, false},
	};
	for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
		struct product p = products[i];
		if (p.in == CUDA_R_8F_E4M3 && p.out != CUDA_R_32F)
			p.n = 16;
		check_product(&p);
	}
}

static cublasStatus_t try_product(const struct product *p)
{
	struct matrix a = p->transpose_a ? random_matrix(p->k, p->m, false, p->in)
					 : random_matrix(p->m, p->k, false, p->in);
	struct matrix b = random_matrix(p->k, p->n, false, p->in);
	struct matrix d = random_matrix(p->m, p->n, false, p->out);
	cublasLtMatmulDesc_t desc = desc_of(p, NULL, NULL, NULL);
	cublasStatus_t rc = multiply(p, desc, &a, &b, &d, kernel_test_device(d.bytes));
	cublasLtMatmulDescDestroy(desc);
	return rc;
}

/* What a product wrote is read by a kernel before device_begin(); the fault, or NULL. */
static const char *fault_of_reading(bool wait)
{
	static const struct product p = {
		CUDA_R_32F, CUDA_R_32F, 32, 1, 4, true, false, false, 1, 0, false, false};
	struct matrix a = random_matrix(p.k, p.m, false, p.in),
		      b = random_matrix(p.k, p.n, false, p.in),
		      d = random_matrix(p.m, p.n, false, p.out);
	cublasLtMatmulDesc_t desc = desc_of(&p, NULL, NULL, NULL);
	uint32_t *product = kernel_test_device(d.bytes), *out = kernel_test_device(32 * 4);

	EXPECT_BLAS(multiply(&p, desc, &a, &b, &d, product));
	cublasLtMatmulDescDestroy(desc);
	if (wait)
		EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_CUDA(faults_read_early(product, out));
	cudaDeviceSynchronize();
	const char *fault = simt_take_fault();
	if (fault) {
		EXPECT_CUDA(cudaDeviceReset());
		cudaGetLastError();
	}
	return fault;
}

KERNEL_TEST(what_a_product_that_nobody_waited_for_wrote_is_not_read_before_device_begin)
{
	EXPECT(!fault_of_reading(true));
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	const char *fault = fault_of_reading(false);
	EXPECT(fault && strstr(fault, "before device_begin()"));
}

KERNEL_TEST(what_the_library_cannot_do_is_refused)
{
	struct product p = {
		CUDA_R_16F, CUDA_R_16BF, 16, 16, 16, true, false, false, 1, 0, false, false};
	EXPECT(try_product(&p) == CUBLAS_STATUS_NOT_SUPPORTED); /* types do not go together */
	p.in = CUDA_R_8F_E4M3;
	EXPECT(try_product(&p) == CUBLAS_STATUS_SUCCESS);
	p.transpose_a = false;
	EXPECT(try_product(&p) == CUBLAS_STATUS_NOT_SUPPORTED);
	p.transpose_a = true;
	p.k = 24; /* not of 16 */
	EXPECT(try_product(&p) == CUBLAS_STATUS_NOT_SUPPORTED);
}
