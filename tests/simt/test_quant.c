/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised weights on a device against the CPU's scalar definition (engine/quant.h, ops.h). */
#include "engine/cuda/quant.h"
#include "engine/cuda/rows.h"
#include "engine/ops.h"
#include "engine/quant.h"
#include "tests/simt/kernel_test.h"
#include "tests/simt/quant_case.h"

/* ---- weights ---- */

static void check_unpack(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	uint8_t *w = quant_case_blocks(type, rows, cols);
	struct cuda_quant_matrix m = quant_case_repacked(type, rows, cols, w);
	size_t n = (size_t)rows * cols;
	float *want = kernel_test_host(n * 4), *got = kernel_test_host(n * 4);
	uint16_t *half = kernel_test_host(n * 2);
	void *out = kernel_test_device(n * 4);

	for (uint32_t r = 0; r < rows; r++)
		quant_to_f32(type, w + r * quant_bytes(type, cols), cols, want + (size_t)r * cols);
	EXPECT_CUDA(cuda_quant_unpack(&m, 0, rows, CUDA_TYPE_F32, out, NULL));
	kernel_test_download(got, out, n * 4);
	for (size_t i = 0; i < n; i++)
		EXPECT_NEAR(got[i], want[i], 0);
	EXPECT_CUDA(cuda_quant_unpack(&m, 0, rows, CUDA_TYPE_F16, out, NULL));
	kernel_test_download(half, out, n * 2);
	for (size_t i = 0; i < n; i++)
		EXPECT(half[i] == quant_f32_to_f16(want[i]) || want[i] == 0);
	EXPECT_CUDA(cuda_quant_unpack(&m, 0, rows, CUDA_TYPE_BF16, out, NULL));
	kernel_test_download(half, out, n * 2);
	for (size_t i = 0; i < n; i++)
		EXPECT(half[i] == quant_case_bf16(want[i]) || want[i] == 0);
	if (rows > 16) { /* some of them */
		EXPECT_CUDA(cuda_quant_unpack(&m, 16, rows - 17, CUDA_TYPE_F32, out, NULL));
		n = (size_t)(rows - 17) * cols;
		kernel_test_download(got, out, n * 4);
		for (size_t i = 0; i < n; i++)
			EXPECT_NEAR(got[i], want[16 * cols + i], 0);
	}
}

KERNEL_TEST(repacked_weights_are_those_of_the_file)
{
	static const uint32_t shapes[][2] = {{1, 32}, {16, 256}, {33, 288}, {50, 1024}, {40, 640}};

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++)
		for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
			check_unpack(quant_case_types[t], shapes[i][0],
				quant_case_cols(quant_case_types[t], shapes[i][1]));
}

KERNEL_TEST(what_is_not_described_is_refused)
{
	uint8_t *some = kernel_test_device(1 << 16);
	struct cuda_quant_matrix m = {TENSOR_Q4_K, 16, 288, some};
	struct cuda_product p = {.x = some, .n_rows = 1, .out = some, .ld = 16, .n_sm = 1};

	p.workspace = some;
	EXPECT_EQUAL(cuda_quant_product(&m, &p, NULL), cudaErrorInvalidValue); /* columns */
	m.cols = 256;
	m.type = TENSOR_F16;
	EXPECT_EQUAL(cuda_quant_product(&m, &p, NULL), cudaErrorInvalidValue);
	m.type = TENSOR_Q5_0; /* a type of files, not a form */
	EXPECT_EQUAL(cuda_quant_product(&m, &p, NULL), cudaErrorInvalidValue);
	m.type = TENSOR_Q4_K;
	p.type = CUDA_TYPE_E4M3;
	EXPECT_EQUAL(cuda_quant_product(&m, &p, NULL), cudaErrorInvalidValue);
	p.type = CUDA_TYPE_BF16;
	p.add = true;
	EXPECT_EQUAL(cuda_quant_product(&m, &p, NULL), cudaErrorInvalidValue);
	p.add = false;
	p.n_rows = 9;
	EXPECT_EQUAL(cuda_gemv_q(&m, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_quant_repack(TENSOR_Q8_0, 40, 32, 8, 16, some, some, NULL),
		cudaErrorInvalidValue); /* not at a tile */
	EXPECT_EQUAL(cuda_quant_repack(TENSOR_Q8_0, 40, 32, 0, 8, some, some, NULL),
		cudaErrorInvalidValue); /* half a tile that is not the last */
	EXPECT_EQUAL(
		cuda_quant_unpack(&m, 0, 17, CUDA_TYPE_F32, some, NULL), cudaErrorInvalidValue);
}

/* ---- activations ---- */

static void put_reference(const float *x, int8_t q[32], float *d, float *s)
{
	uint8_t block[OPS_Q8_BLOCK_BYTES];
	int32_t sum8;

	ops_at(0)->quantise(x, 1, 32, 0, 0, 1, block);
	memcpy(q, block, 32);
	memcpy(d, block + 32, 4);
	memcpy(&sum8, block + 36, 4);
	*s = (float)(sum8 / 8) * *d;
}

static void check_q8(enum cuda_type type, uint32_t n, uint32_t cols)
{
	uint32_t n_blocks = cuda_quant_q8_blocks(cols);
	float *x = kernel_test_host((size_t)n * cols * 4);
	uint16_t *h = kernel_test_host((size_t)n * cols * 2);
	uint8_t *got = kernel_test_host(cuda_quant_q8_bytes(n, cols));
	void *q8 = kernel_test_device(cuda_quant_q8_bytes(n, cols));

	for (uint32_t i = 0; i < n * cols; i++) {
		x[i] = i / 32 % 5 == 3 ? 0 : 3 * kernel_test_random_float();
		h[i] = type == CUDA_TYPE_F16 ? quant_f32_to_f16(x[i]) : quant_case_bf16(x[i]);
		if (type != CUDA_TYPE_F32)
			x[i] = type == CUDA_TYPE_F16 ? quant_f16_to_f32(h[i])
						     : quant_bf16_to_f32(h[i]);
	}
	void *from = type == CUDA_TYPE_F32 ? kernel_test_upload(x, (size_t)n * cols * 4)
					   : kernel_test_upload(h, (size_t)n * cols * 2);
	struct rows_out out = {.type = CUDA_TYPE_Q8, .data = q8};
	EXPECT_CUDA(rows_convert(from, type, n, cols, &out, NULL));
	kernel_test_download(got, q8, cuda_quant_q8_bytes(n, cols));
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t b = 0; b < n_blocks; b++) {
			const uint8_t *at = got + ((size_t)(i / 8) * n_blocks + b) *
							  CUDA_QUANT_GROUP_BLOCK_BYTES;
			float d = 0, s = 0, got_d, got_s;
			int8_t q[32] = {0};
			if (b * 32 < cols)
				put_reference(x + (size_t)i * cols + b * 32, q, &d, &s);
			memcpy(&got_d, at + 256 + i % 8 * 4, 4);
			memcpy(&got_s, at + 288 + i % 8 * 4, 4);
			EXPECT(memcmp(at + i % 8 * 32, q, 32) == 0);
			EXPECT_NEAR(got_d, d, 0);
			EXPECT_NEAR(got_s, s, 0);
		}
}

KERNEL_TEST(activations_are_quantised_as_on_the_cpu)
{
	check_q8(CUDA_TYPE_F32, 1, 32);
	check_q8(CUDA_TYPE_F32, 9, 288);
	check_q8(CUDA_TYPE_F16, 3, 1024);
	check_q8(CUDA_TYPE_BF16, 17, 96);
}

/* ---- products ---- */

struct product_case {
	enum tensor_type type;
	uint32_t rows, cols, n;
	enum cuda_type out;
	bool bias, add;
	uint32_t n_sm; /* many: columns are cut into parts */
};

typedef int product_fn(
	const struct cuda_quant_matrix *w, const struct cuda_product *p, cudaStream_t stream);

/* The CPU's result, without bias, and the sum of magnitudes that errors are a fraction of. */
static void reference(const struct product_case *c, const uint8_t *w, const float *x, float *out,
	double *magnitude)
{
	uint8_t *q8 = kernel_test_host(c->n * ops_q8_row_bytes(c->cols));
	struct ops_matrix m = {.type = c->type, .rows = c->rows, .cols = c->cols, .data = w};
	struct ops_acts acts = {.n_rows = c->n, .cols = c->cols, .q8 = q8};
	struct ops_product p = {.w = &m, .x = &acts, .out = out, .ld = c->rows};
	float *row = kernel_test_host(c->cols * 4);

	for (uint32_t r = 0; r < c->n; r += ops_tile_rows(r, c->n))
		ops_at(0)->quantise(x, c->n, c->cols, r, 0, c->cols / 32, q8);
	ops_at(0)->product(&p, 0, ops_groups(c->rows));
	for (uint32_t r = 0; r < c->rows; r++) {
		quant_to_f32(c->type, w + r * quant_bytes(c->type, c->cols), c->cols, row);
		for (uint32_t i = 0; i < c->n; i++) {
			double sum = 0;
			for (uint32_t k = 0; k < c->cols; k++)
				sum += fabs((double)row[k] * (double)x[(size_t)i * c->cols + k]);
			magnitude[(size_t)i * c->rows + r] = sum;
		}
	}
}

/* Twice, since the workspace must be as it was. */
static void check_product(const struct product_case *c, product_fn *product, void *workspace)
{
	size_t n = (size_t)c->n * c->rows, ld = c->rows + 3, n_out = ld * c->n;
	uint8_t *w = quant_case_blocks(c->type, c->rows, c->cols);
	struct cuda_quant_matrix m = quant_case_repacked(c->type, c->rows, c->cols, w);
	float *x = kernel_test_host((size_t)c->n * c->cols * 4), *want = kernel_test_host(n * 4);
	float *bias = kernel_test_host(c->rows * 4), *before = kernel_test_host(n_out * 4);
	double *magnitude = kernel_test_host(n * sizeof *magnitude);
	void *q8 = kernel_test_device(cuda_quant_q8_bytes(c->n, c->cols));
	void *got = kernel_test_host(n_out * 4);
	struct cuda_product p = {.x = q8, .n_rows = c->n, .ld = ld, .type = c->out, .add = c->add};

	for (size_t i = 0; i < (size_t)c->n * c->cols; i++)
		x[i] = kernel_test_random_float();
	for (size_t i = 0; i < n_out; i++)
		before[i] = kernel_test_random_float();
	for (uint32_t i = 0; i < c->rows; i++)
		bias[i] = kernel_test_random_float();
	reference(c, w, x, want, magnitude);
	struct rows_out acts = {.type = CUDA_TYPE_Q8, .data = q8};
	EXPECT_CUDA(rows_convert(kernel_test_upload(x, (size_t)c->n * c->cols * 4), CUDA_TYPE_F32,
		c->n, c->cols, &acts, NULL));
	p.workspace = workspace;
	p.bias = c->bias ? kernel_test_upload(bias, c->rows * 4) : NULL;
	p.n_sm = c->n_sm;
	for (int round = 0; round < 2; round++) {
		p.out = kernel_test_upload(before, n_out * 4);
		EXPECT_CUDA(product(&m, &p, NULL));
		kernel_test_download(got, p.out, n_out * cuda_type_bytes(c->out));
		for (size_t i = 0; i < n; i++) {
			size_t at = i / c->rows * ld + i % c->rows;
			float y = want[i] + (c->bias ? bias[i % c->rows] : 0) +
				  (c->add ? before[at] : 0);
			double unit = c->out == CUDA_TYPE_F32   ? 0
				      : c->out == CUDA_TYPE_F16 ? 0x1p-11
								: 0x1p-8;
			EXPECT_NEAR(quant_case_value(got, at, c->out), y,
				1e-6 * magnitude[i] + 1e-6 + unit * fabs((double)y));
		}
		for (size_t i = 0; i < n_out; i++) /* nothing beside them was written */
			if (c->out == CUDA_TYPE_F32 && i % ld >= c->rows)
				EXPECT_NEAR(((float *)got)[i], before[i], 0);
	}
}

KERNEL_TEST(products_with_few_rows_are_those_of_the_cpu)
{
	static const struct product_case shapes[] = {
		{0, 16, 32, 1, CUDA_TYPE_F32, false, false, 1},
		{0, 33, 288, 2, CUDA_TYPE_F32, true, true, 1},
		{0, 1, 256, 3, CUDA_TYPE_BF16, true, false, 1},
		{0, 40, 1024, 7, CUDA_TYPE_F16, false, false, 1},
		{0, 17, 4096, 8, CUDA_TYPE_F32, false, true, 1},
		{0, 50, 2304, 5, CUDA_TYPE_BF16, true, false, 1},
	};
	void *workspace = quant_case_workspace();

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++)
		for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
			struct product_case c = shapes[i];
			c.type = quant_case_types[t];
			c.cols = quant_case_cols(c.type, c.cols);
			check_product(&c, cuda_gemv_q, workspace);
		}
}

KERNEL_TEST(products_with_few_rows_are_cut_by_columns_where_weights_are_few)
{
	void *workspace = quant_case_workspace();

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++) {
		struct product_case c = {
			quant_case_types[t], 33, 8192, 1, CUDA_TYPE_F32, true, true, 8};
		check_product(&c, cuda_gemv_q, workspace);
		c.n = 7;
		c.out = CUDA_TYPE_BF16;
		c.add = false;
		check_product(&c, cuda_gemv_q, workspace);
	}
}

KERNEL_TEST(products_with_many_rows_are_those_of_the_cpu)
{
	static const struct product_case shapes[] = {
		{0, 16, 32, 1, CUDA_TYPE_F32, false, false, 1},
		{0, 33, 288, 9, CUDA_TYPE_F32, true, true, 1},
		{0, 50, 640, 8, CUDA_TYPE_BF16, false, false, 1},
		{0, 70, 1024, 17, CUDA_TYPE_BF16, true, false, 1},
		{0, 130, 768, 33, CUDA_TYPE_F16, false, false, 1},
		{0, 140, 1536, 130, CUDA_TYPE_F32, false, true, 1},
	};
	void *workspace = quant_case_workspace();

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++)
		for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
			struct product_case c = shapes[i];
			c.type = quant_case_types[t];
			c.cols = quant_case_cols(c.type, c.cols);
			check_product(&c, cuda_gemm_q, workspace);
		}
}

KERNEL_TEST(products_with_many_rows_are_cut_by_columns_where_weights_are_few)
{
	void *workspace = quant_case_workspace();

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++) {
		struct product_case c = {
			quant_case_types[t], 33, 2048, 20, CUDA_TYPE_F32, true, true, 4};
		check_product(&c, cuda_gemm_q, workspace);
		c.n = 65;
		c.out = CUDA_TYPE_F16;
		c.add = false;
		check_product(&c, cuda_quant_product, workspace);
	}
}

KERNEL_TEST(matrices_one_behind_the_other_are_multiplied_as_one)
{
	enum { COLS = 256, ROWS = 48 + 21 };
	uint8_t *w = quant_case_blocks(TENSOR_Q4_K, ROWS, COLS);
	size_t row_bytes = quant_bytes(TENSOR_Q4_K, COLS);
	uint8_t *data = kernel_test_device(cuda_quant_bytes(TENSOR_Q4_K, ROWS, COLS));
	uint8_t *src = kernel_test_upload(w, ROWS * row_bytes);
	struct cuda_quant_matrix m = {TENSOR_Q4_K, ROWS, COLS, data};
	float *got = kernel_test_host(ROWS * COLS * 4), *want = kernel_test_host(ROWS * COLS * 4);
	void *out = kernel_test_device(ROWS * COLS * 4);

	EXPECT_CUDA(cuda_quant_repack(TENSOR_Q4_K, 48, COLS, 0, 48, src, data, NULL));
	EXPECT_CUDA(cuda_quant_repack(TENSOR_Q4_K, 21, COLS, 0, 21, src + 48 * row_bytes,
		data + cuda_quant_bytes(TENSOR_Q4_K, 48, COLS), NULL));
	EXPECT_CUDA(cuda_quant_unpack(&m, 0, ROWS, CUDA_TYPE_F32, out, NULL));
	kernel_test_download(got, out, ROWS * COLS * 4);
	quant_to_f32(TENSOR_Q4_K, w, ROWS * COLS, want);
	for (uint32_t i = 0; i < ROWS * COLS; i++)
		EXPECT_NEAR(got[i], want[i], 0);
}
