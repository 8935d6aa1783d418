/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights times bf16 activations (gemm_wide.cu) against sums in f64 of weights that are
 * rounded to bf16 once.
 */
#include "engine/cuda/quant.h"
#include "engine/quant.h"
#include "tests/simt/kernel_test.h"
#include "tests/simt/quant_case.h"

struct wide_case {
	enum tensor_type type;
	uint32_t rows, cols, n;
	enum cuda_type out;
	bool bias, add;
	uint32_t n_sm; /* blocks at most */
};

/* Device and host memory of a case. */
struct wide_data {
	struct cuda_quant_matrix m;
	struct cuda_product p;
	uint16_t *x;      /* [n][cols] bf16 */
	float *w;         /* [rows][cols], each rounded to bf16 */
	float *bias;      /* [rows] */
	float *before;    /* [n][ld] */
	uint16_t *x_made; /* on the device */
};

static struct wide_data data_of(const struct wide_case *c)
{
	struct wide_data d = {0};
	uint8_t *blocks = quant_case_blocks(c->type, c->rows, c->cols);
	size_t n_x = (size_t)c->n * c->cols, n_w = (size_t)c->rows * c->cols;

	d.m = quant_case_repacked(c->type, c->rows, c->cols, blocks);
	d.w = kernel_test_host(n_w * 4);
	for (uint32_t r = 0; r < c->rows; r++)
		quant_to_f32(c->type, blocks + r * quant_bytes(c->type, c->cols), c->cols,
			d.w + (size_t)r * c->cols);
	for (size_t i = 0; i < n_w; i++)
		d.w[i] = quant_bf16_to_f32(quant_case_bf16(d.w[i]));
	d.x = kernel_test_host(n_x * 2);
	for (size_t i = 0; i < n_x; i++)
		d.x[i] = quant_case_bf16(kernel_test_random_float());
	d.x_made = kernel_test_upload(d.x, n_x * 2);
	d.p = (struct cuda_product){.x = d.x_made,
		.n_rows = c->n,
		.ld = c->rows + 3,
		.type = c->out,
		.add = c->add,
		.n_sm = c->n_sm};
	d.before = kernel_test_host(d.p.ld * c->n * 4);
	for (size_t i = 0; i < d.p.ld * c->n; i++)
		d.before[i] = kernel_test_random_float();
	d.bias = kernel_test_host(c->rows * 4);
	for (uint32_t r = 0; r < c->rows; r++)
		d.bias[r] = kernel_test_random_float();
	d.p.bias = c->bias ? kernel_test_upload(d.bias, c->rows * 4) : NULL;
	return d;
}

/* Output (i, r): the sum and that of magnitudes. */
static double sum_of(const struct wide_case *c, const struct wide_data *d, uint32_t i, uint32_t r,
	double *magnitude)
{
	const float *w = d->w + (size_t)r * c->cols;
	const uint16_t *x = d->x + (size_t)i * c->cols;
	double sum = 0;

	*magnitude = 0;
	for (uint32_t k = 0; k < c->cols; k++) {
		double y = (double)w[k] * (double)quant_bf16_to_f32(x[k]);
		sum += y;
		*magnitude += fabs(y);
	}
	return sum;
}

static void check_values(const struct wide_case *c, const struct wide_data *d, const void *got)
{
	double unit = c->out == CUDA_TYPE_F32 ? 0 : c->out == CUDA_TYPE_F16 ? 0x1p-11 : 0x1p-8;

	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t r = 0; r < c->rows; r++) {
			size_t at = i * d->p.ld + r;
			double magnitude, y = sum_of(c, d, i, r, &magnitude);
			y += (double)(c->bias ? d->bias[r] : 0) +
			     (double)(c->add ? d->before[at] : 0);
			EXPECT_NEAR(quant_case_value(got, at, c->out), y,
				1e-6 * magnitude + 1e-7 + unit * fabs(y));
		}
	for (size_t i = 0; i < d->p.ld * c->n; i++) /* nothing beside them was written */
		if (c->out == CUDA_TYPE_F32 && i % d->p.ld >= c->rows)
			EXPECT_NEAR(((const float *)got)[i], d->before[i], 0);
}

/* Twice, since the workspace must be as it was. */
static void check(const struct wide_case *c, void *workspace)
{
	struct wide_data d = data_of(c);
	size_t n_out = d.p.ld * c->n;
	void *got = kernel_test_host(n_out * 4);

	d.p.workspace = workspace;
	for (int round = 0; round < 2; round++) {
		d.p.out = kernel_test_upload(d.before, n_out * 4);
		EXPECT_CUDA(cuda_gemm_wide(&d.m, &d.p, NULL));
		kernel_test_download(got, d.p.out, n_out * cuda_type_bytes(c->out));
		check_values(c, &d, got);
	}
}

static void check_types(const struct wide_case *cases, size_t n)
{
	void *workspace = quant_case_workspace();

	for (size_t t = 0; t < QUANT_CASE_TYPES; t++)
		for (size_t i = 0; i < n; i++) {
			struct wide_case c = cases[i];
			c.type = quant_case_types[t];
			c.cols = quant_case_cols(c.type, c.cols);
			check(&c, workspace);
		}
}

KERNEL_TEST(wide_products_are_those_of_weights_rounded_to_bf16)
{
	static const struct wide_case cases[] = {
		{0, 16, 32, 1, CUDA_TYPE_F32, false, false, 1},
		{0, 33, 288, 31, CUDA_TYPE_F32, true, true, 1},
		{0, 130, 640, 33, CUDA_TYPE_BF16, false, false, 1},
		{0, 128, 256, 64, CUDA_TYPE_F16, true, false, 1},
		{0, 50, 544, 65, CUDA_TYPE_F32, true, false, 1},
	};

	check_types(cases, sizeof cases / sizeof cases[0]);
}

/* As many blocks as there are pieces of columns, and numbers of them that cut tiles anywhere. */
KERNEL_TEST(wide_products_are_cut_by_columns_where_weights_are_few)
{
	static const struct wide_case cases[] = {
		{0, 17, 2048, 24, CUDA_TYPE_F32, true, true, 64},
		{0, 200, 1536, 40, CUDA_TYPE_BF16, true, false, 5},
		{0, 260, 1024, 70, CUDA_TYPE_F16, false, false, 3},
	};

	check_types(cases, sizeof cases / sizeof cases[0]);
}

/* Rows of activations at the edges of what a block has, and of what all have. */
KERNEL_TEST(wide_products_take_any_number_of_rows)
{
	static const uint32_t rows[] = {8, 32, 96, 97, 128, 129, 192, 193, 257, 100, 515};
	void *workspace = quant_case_workspace();

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct wide_case c = {quant_case_types[i % QUANT_CASE_TYPES], 40, 512, rows[i],
			CUDA_TYPE_F32, i % 2 == 0, i % 3 == 0, 1 + (uint32_t)i % 4};
		check(&c, workspace);
	}
}

/* Each weight on its own, times one: it is what cuda_quant_unpack() makes of it, to the bit. */
KERNEL_TEST(wide_products_round_weights_as_unpacking_does)
{
	enum { ROWS = 48, COLS = 256 };
	uint16_t *one = kernel_test_host(COLS * COLS * 2),
		 *want = kernel_test_host(ROWS * COLS * 2);
	float *got = kernel_test_host(ROWS * COLS * 4);
	void *unpacked = kernel_test_device(ROWS * COLS * 2);

	memset(one, 0, COLS * COLS * 2);
	for (uint32_t i = 0; i < COLS; i++)
		one[i * COLS + i] = 0x3f80;
	struct cuda_product p = {.x = kernel_test_upload(one, COLS * COLS * 2),
		.n_rows = COLS,
		.out = kernel_test_device(ROWS * COLS * 4),
		.ld = ROWS,
		.type = CUDA_TYPE_F32,
		.workspace = quant_case_workspace(),
		.n_sm = 1};
	for (size_t t = 0; t < QUANT_CASE_TYPES; t++) {
		enum tensor_type type = quant_case_types[t];
		struct cuda_quant_matrix m =
			quant_case_repacked(type, ROWS, COLS, quant_case_blocks(type, ROWS, COLS));

		EXPECT_CUDA(cuda_quant_unpack(&m, 0, ROWS, CUDA_TYPE_BF16, unpacked, NULL));
		EXPECT_CUDA(cuda_gemm_wide(&m, &p, NULL));
		kernel_test_download(want, unpacked, ROWS * COLS * 2);
		kernel_test_download(got, p.out, ROWS * COLS * 4);
		for (uint32_t r = 0; r < ROWS; r++)
			for (uint32_t k = 0; k < COLS; k++)
				EXPECT_NEAR(got[k * ROWS + r],
					quant_bf16_to_f32(want[r * COLS + k]), 0);
	}
}

/* Rows and columns that there are not, in the padding of a chunk and of a block, are zeros even
 * where they would lie behind the memory or hold no numbers. */
KERNEL_TEST(wide_products_read_nothing_beside_the_activations)
{
	enum { ROWS = 16, COLS = 96, N = 3 };
	struct wide_case c = {TENSOR_Q8_0, ROWS, COLS, N, CUDA_TYPE_F32, false, false, 1};
	struct wide_data d = data_of(&c);
	uint16_t *x = kernel_test_host((N + 2) * COLS * 2);
	float *got = kernel_test_host(d.p.ld * N * 4);

	memset(x, 0xff, (N + 2) * COLS * 2); /* NaN before and behind */
	memcpy(x + COLS, d.x, N * COLS * 2);
	d.p.x = (uint16_t *)kernel_test_upload(x, (N + 2) * COLS * 2) + COLS;
	d.p.out = kernel_test_upload(d.before, d.p.ld * N * 4);
	d.p.workspace = quant_case_workspace();
	EXPECT_CUDA(cuda_gemm_wide(&d.m, &d.p, NULL));
	kernel_test_download(got, d.p.out, d.p.ld * N * 4);
	check_values(&c, &d, got);
}

/* Cards that multiply bf16 much slower than int8 do not; those for which docs/cuda.md names numbers
 * do, and never in memory before they do in registers. */
KERNEL_TEST(cards_with_fast_bf16_multiply_quantised_weights_as_bf16)
{
	static const uint32_t slow[][2] = {{7, 5}, {8, 6}, {8, 7}, {8, 9}, {11, 0}, {12, 0}},
			      fast[][2] = {{8, 0}, {9, 0}, {10, 0}, {10, 3}};

	for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
		struct cuda_quant_limits l = cuda_quant_limits(slow[i][0], slow[i][1]);
		EXPECT(l.wide == UINT32_MAX && l.dense == UINT32_MAX);
	}
	for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++) {
		struct cuda_quant_limits l = cuda_quant_limits(fast[i][0], fast[i][1]);
		EXPECT(l.wide > CUDA_QUANT_GROUP_ROWS && l.wide < 128 && l.dense > 128);
	}
	EXPECT_EQUAL(cuda_quant_limits(8, 0).dense, UINT32_MAX);
	EXPECT_EQUAL(cuda_quant_limits(9, 0).dense, 192);
	EXPECT_EQUAL(cuda_quant_limits(10, 0).dense, 192);
}
