/* SPDX-License-Identifier: Apache-2.0 */
/* Products of unquantised and FP8 weights with few rows, against plain sums in f64. */
#include "engine/cuda/gemv.h"
#include "engine/cuda/rows.h"
#include "engine/quant.h"
#include "tests/simt/kernel_test.h"

struct product_case {
	enum cuda_type type, out;
	uint32_t rows, cols, n;
	bool bias, add;
	uint32_t n_sm; /* many: columns are cut into parts */
};

static uint16_t bf16_of(float f)
{
	uint32_t u = quant_bits(f);

	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float e4m3_value(uint8_t e)
{
	int exponent = e >> 3 & 15, fraction = e & 7;
	float f =
		exponent ? ldexpf((float)(8 + fraction), exponent - 10) : (float)fraction * 0x1p-9f;

	return e & 0x80 ? -f : f;
}

static float value_at(const void *p, size_t i, enum cuda_type type)
{
	switch (type) {
	case CUDA_TYPE_F32:
		return ((const float *)p)[i];
	case CUDA_TYPE_F16:
		return quant_f16_to_f32(((const uint16_t *)p)[i]);
	case CUDA_TYPE_BF16:
		return quant_bf16_to_f32(((const uint16_t *)p)[i]);
	default:
		return e4m3_value(((const uint8_t *)p)[i]);
	}
}

/* n random numbers of the type; of e4m3 every finite one. */
static void *random_values(size_t n, enum cuda_type type)
{
	uint8_t *p = kernel_test_host(n * cuda_type_bytes(type));

	for (size_t i = 0; i < n; i++) {
		float f = kernel_test_random_float();
		uint32_t e = kernel_test_random(254);
		uint16_t h = type == CUDA_TYPE_F16 ? quant_f32_to_f16(f) : bf16_of(f);
		uint8_t byte = (uint8_t)(e < 127 ? e : e + 1);
		const void *from = type == CUDA_TYPE_F32    ? (void *)&f
				   : type == CUDA_TYPE_E4M3 ? (void *)&byte
							    : (void *)&h;
		memcpy(p + i * cuda_type_bytes(type), from, cuda_type_bytes(type));
	}
	return p;
}

static int run(const struct product_case *c, const void *w, const float *w_scale,
	const float *x_scale, const struct cuda_product *p)
{
	if (c->type == CUDA_TYPE_E4M3)
		return cuda_gemv_fp8(w, w_scale, c->rows, c->cols, x_scale, p, NULL);
	return cuda_gemv(c->type, w, c->rows, c->cols, p, NULL);
}

static void check_product(const struct product_case *c, void *workspace)
{
	size_t bytes = cuda_type_bytes(c->type), ld = c->rows + 3, n_out = ld * c->n;
	void *w = random_values((size_t)c->rows * c->cols, c->type);
	void *x = random_values((size_t)c->n * c->cols, c->type);
	float *bias = random_values(c->rows, CUDA_TYPE_F32);
	float *before = random_values(n_out, CUDA_TYPE_F32);
	float *w_scale = random_values(c->rows, CUDA_TYPE_F32);
	float *x_scale = random_values(c->n, CUDA_TYPE_F32);
	void *got = kernel_test_host(n_out * 4);

	for (uint32_t r = 0; r < c->rows; r++) /* sums of FP8 are large, and f16 ends at 65504 */
		w_scale[r] *= 1e-3f;
	struct cuda_product p = {.x = kernel_test_upload(x, c->n * c->cols * bytes),
		.n_rows = c->n,
		.out = kernel_test_upload(before, n_out * 4),
		.ld = ld,
		.type = c->out,
		.add = c->add,
		.bias = c->bias ? kernel_test_upload(bias, c->rows * 4) : NULL,
		.workspace = workspace,
		.n_sm = c->n_sm};

	EXPECT_CUDA(run(c, kernel_test_upload(w, c->rows * c->cols * bytes),
		kernel_test_upload(w_scale, c->rows * 4), kernel_test_upload(x_scale, c->n * 4),
		&p));
	kernel_test_download(got, p.out, n_out * cuda_type_bytes(c->out));
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t r = 0; r < c->rows; r++) {
			double sum = 0, magnitude = 0;
			for (uint32_t k = 0; k < c->cols; k++) {
				double v = (double)value_at(w, (size_t)r * c->cols + k, c->type) *
					   (double)value_at(x, (size_t)i * c->cols + k, c->type);
				sum += v;
				magnitude += fabs(v);
			}
			if (c->type == CUDA_TYPE_E4M3) {
				sum *= (double)w_scale[r] * (double)x_scale[i];
				magnitude *= fabs((double)w_scale[r] * (double)x_scale[i]);
			}
			sum += (c->bias ? bias[r] : 0) + (c->add ? before[i * ld + r] : 0);
			double unit = c->out == CUDA_TYPE_F32   ? 0
				      : c->out == CUDA_TYPE_F16 ? 0x1p-11
								: 0x1p-8;
			/* Tensor cores cut off bits of FP8 sums. */
			double part = c->type == CUDA_TYPE_E4M3 ? 1e-4 : 1e-6;
			EXPECT_NEAR(value_at(got, i * ld + r, c->out), sum,
				part * magnitude + 1e-6 + unit * fabs(sum));
		}
}

static const struct product_case shapes[] = {
	{0, CUDA_TYPE_F32, 1, 16, 1, false, false, 1},
	{0, CUDA_TYPE_F32, 16, 32, 2, true, false, 1},
	{0, CUDA_TYPE_F32, 33, 272, 3, true, true, 1},
	{0, CUDA_TYPE_BF16, 50, 1024, 4, false, false, 1},
	{0, CUDA_TYPE_F16, 17, 2064, 7, true, false, 1},
	{0, CUDA_TYPE_F32, 20, 4096, 8, false, true, 8}, /* in parts */
	{0, CUDA_TYPE_F32, 20, 8192, 1, true, false, 64},
};

static void check_all(enum cuda_type type)
{
	void *workspace = kernel_test_device(CUDA_PRODUCT_WORKSPACE_BYTES);

	EXPECT_CUDA(cudaMemset(workspace, 0, CUDA_PRODUCT_WORKSPACE_BYTES));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		struct product_case c = shapes[i];
		c.type = type;
		check_product(&c, workspace);
		check_product(&c, workspace);
	}
}

KERNEL_TEST(f32_products_are_plain_sums)
{
	check_all(CUDA_TYPE_F32);
}

KERNEL_TEST(f16_products_are_plain_sums)
{
	check_all(CUDA_TYPE_F16);
}

KERNEL_TEST(bf16_products_are_plain_sums)
{
	check_all(CUDA_TYPE_BF16);
}

KERNEL_TEST(fp8_products_are_plain_sums_times_both_scales)
{
	if (kernel_test_capability() >= 89)
		check_all(CUDA_TYPE_E4M3);
}

KERNEL_TEST(odd_columns_and_too_many_rows_are_refused)
{
	uint8_t *some = kernel_test_device(4096);
	struct cuda_product p = {
		.x = some, .n_rows = 1, .out = some, .ld = 1, .workspace = some, .n_sm = 1};

	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_F32, some, 1, 6, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_BF16, some, 1, 12, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_Q8, some, 1, 32, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv_fp8(some, (float *)some, 1, 24, (float *)some, &p, NULL),
		cudaErrorInvalidValue);
	p.n_rows = CUDA_GEMV_MAX_ROWS + 1;
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_F32, some, 1, 8, &p, NULL), cudaErrorInvalidValue);
}

/* ---- gate and up ---- */

/* Beside the same in two launches. A card's compilers may contract differently in the two: one unit
 * of the last place. */
static void check_gated(enum cuda_type type, enum rows_gate kind, const struct product_case *c)
{
	size_t n_w = (size_t)2 * c->rows * c->cols, both = (size_t)2 * c->rows, ld = c->rows + 3;
	void *x = kernel_test_upload(
		random_values((size_t)c->n * c->cols, type), (size_t)c->n * c->cols * 2);
	float *bias = random_values(both, CUDA_TYPE_F32);
	void *w = kernel_test_upload(random_values(n_w, type), n_w * 2);
	uint16_t *want = kernel_test_host((size_t)c->n * c->rows * 2),
		 *got = kernel_test_host(c->n * ld * 2);
	uint16_t *rows = kernel_test_device(c->n * both * 2);
	struct rows_out out = {
		.type = type, .data = kernel_test_device((size_t)c->n * c->rows * 2)};
	struct cuda_product p = {.x = x,
		.n_rows = c->n,
		.out = rows,
		.ld = both,
		.type = type,
		.bias = c->bias ? kernel_test_upload(bias, both * 4) : NULL,
		.workspace = kernel_test_device(CUDA_PRODUCT_WORKSPACE_BYTES),
		.n_sm = c->n_sm};
	struct rows_glu g = {.kind = kind,
		.act = type,
		.gate = rows,
		.up = rows + c->rows,
		.ld = both,
		.n_rows = c->n,
		.cols = c->rows};

	EXPECT_CUDA(cudaMemset(p.workspace, 0, CUDA_PRODUCT_WORKSPACE_BYTES));
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_CUDA(cuda_gemv(type, w, 2 * c->rows, c->cols, &p, NULL));
	EXPECT_CUDA(rows_glu(&g, &out, NULL));
	kernel_test_download(want, out.data, (size_t)c->n * c->rows * 2);
	memset(got, 0xff, c->n * ld * 2);
	p.out = kernel_test_upload(got, c->n * ld * 2);
	p.ld = ld;
	EXPECT_CUDA(cuda_gemv_gated(type, w, c->rows, c->cols, kind, &p, NULL));
	kernel_test_download(got, p.out, c->n * ld * 2);
	for (size_t i = 0; i < (size_t)c->n * ld; i++) {
		size_t row = i / ld, col = i % ld;
		if (col >= c->rows) { /* nothing beside them was written */
			EXPECT_EQUAL(got[i], 0xffff);
			continue;
		}
		double y = (double)value_at(want, row * c->rows + col, type);
		EXPECT_NEAR(value_at(got, i, type), y,
			fabs(y) * (type == CUDA_TYPE_F16 ? 0x1p-10 : 0x1p-7) + 0x1p-24);
	}
}

KERNEL_TEST(gate_and_up_in_one_are_their_product_activated)
{
	static const struct product_case gates[] = {
		{0, 0, 8, 32, 1, false, false, 1},
		{0, 0, 16, 272, 2, true, false, 1},
		{0, 0, 37, 1024, 3, true, false, 1},
		{0, 0, 24, 4096, 8, false, false, 8}, /* in parts */
		{0, 0, 5, 8192, 1, true, false, 64},
	};

	for (size_t i = 0; i < sizeof gates / sizeof gates[0]; i++) {
		check_gated(CUDA_TYPE_BF16, i % 2 ? ROWS_GEGLU : ROWS_SWIGLU, &gates[i]);
		check_gated(CUDA_TYPE_F16, i % 2 ? ROWS_SWIGLU : ROWS_GEGLU, &gates[i]);
	}
}

KERNEL_TEST(gate_and_up_of_other_types_are_refused)
{
	uint8_t *some = kernel_test_device(4096);
	struct cuda_product p = {.x = some,
		.n_rows = 1,
		.out = some,
		.ld = 8,
		.type = CUDA_TYPE_F32,
		.workspace = some,
		.n_sm = 1};

	EXPECT_EQUAL(cuda_gemv_gated(CUDA_TYPE_F32, some, 8, 8, ROWS_SWIGLU, &p, NULL),
		cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv_gated(CUDA_TYPE_BF16, some, 8, 8, ROWS_SWIGLU, &p, NULL),
		cudaErrorInvalidValue);
	p.type = CUDA_TYPE_BF16;
	EXPECT_EQUAL(cuda_gemv_gated(CUDA_TYPE_BF16, some, 8, 12, ROWS_SWIGLU, &p, NULL),
		cudaErrorInvalidValue);
	p.n_rows = CUDA_GEMV_MAX_ROWS + 1;
	EXPECT_EQUAL(cuda_gemv_gated(CUDA_TYPE_BF16, some, 8, 8, ROWS_SWIGLU, &p, NULL),
		cudaErrorInvalidValue);
}

/* ---- to FP8 ---- */

static void check_fp8(enum cuda_type type, uint32_t rows, uint32_t cols)
{
	size_t n = (size_t)rows * cols;
	void *x = random_values(n, type);
	uint8_t *got = kernel_test_host(n), *dst = kernel_test_device(n);
	float *scale = kernel_test_host(rows * 4), *dscale = kernel_test_device(rows * 4);

	memset((char *)x + (n - cols) * cuda_type_bytes(type), 0, cols * cuda_type_bytes(type));
	struct rows_out out = {.type = CUDA_TYPE_E4M3, .data = dst, .scale = dscale};
	EXPECT_CUDA(rows_convert(
		kernel_test_upload(x, n * cuda_type_bytes(type)), type, rows, cols, &out, NULL));
	kernel_test_download(got, dst, n);
	kernel_test_download(scale, dscale, rows * 4);
	for (uint32_t r = 0; r < rows; r++) {
		float most = 0;
		for (uint32_t c = 0; c < cols; c++)
			most = fmaxf(most, fabsf(value_at(x, (size_t)r * cols + c, type)));
		EXPECT_NEAR(scale[r], most > 0 ? most / 448 : 1, 0);
		for (uint32_t c = 0; c < cols; c++) {
			float want = value_at(x, (size_t)r * cols + c, type) / scale[r];
			/* half of the distance between neighbours: 3 bits, or 2^-9 */
			double half =
				fmax(ldexp(1, ilogbf(fmaxf(fabsf(want), 0x1p-9f)) - 4), 0x1p-10);
			EXPECT_NEAR(e4m3_value(got[(size_t)r * cols + c]), want, half + 1e-4);
		}
	}
}

KERNEL_TEST(fp8_values_are_the_nearest_under_the_rows_scale)
{
	check_fp8(CUDA_TYPE_F32, 2, 2);
	check_fp8(CUDA_TYPE_F32, 3, 300);
	check_fp8(CUDA_TYPE_F16, 4, 1024);
	check_fp8(CUDA_TYPE_BF16, 5, 78);
}
