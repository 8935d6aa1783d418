/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the last blocks of products do (engine/cuda/tail.h) beside the same in launches of its own:
 * the product without a tail, then rows_norm() or rows_glu(). What these compute is held against
 * f64 in test_gemv, test_quant and test_rows.
 */
#include "engine/cuda/gemv.h"
#include "engine/cuda/rows.h"
#include "engine/quant.h"
#include "tests/simt/values.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define COUNTERS 16384 /* words of the workspace that are zero between products */

/* Of which weights and activations are; tensor is meant where reads is q8. */
struct kind {
	enum cuda_type reads;
	enum tensor_type tensor;
};

static const struct kind kinds[] = {
	{CUDA_TYPE_F16, 0},
	{CUDA_TYPE_BF16, 0},
	{CUDA_TYPE_E4M3, 0},
	{CUDA_TYPE_Q8, TENSOR_Q8_0},
	{CUDA_TYPE_Q8, TENSOR_Q4_0},
	{CUDA_TYPE_Q8, TENSOR_Q4_K},
	{CUDA_TYPE_Q8, TENSOR_Q5_K},
	{CUDA_TYPE_Q8, TENSOR_Q6_K},
	{CUDA_TYPE_Q8, TENSOR_Q4_1},
	{CUDA_TYPE_Q8, TENSOR_Q5_1},
};

static bool can(const struct kind *k)
{
	return k->reads != CUDA_TYPE_E4M3 || kernel_test_capability() >= 89;
}

static void *new_workspace(void)
{
	void *workspace = kernel_test_device(CUDA_PRODUCT_WORKSPACE_BYTES);

	EXPECT_CUDA(cudaMemset(workspace, 0, CUDA_PRODUCT_WORKSPACE_BYTES));
	return workspace;
}

static void expect_zero_counters(const void *workspace)
{
	static uint32_t counter[COUNTERS];

	kernel_test_download(counter, workspace, sizeof counter);
	for (size_t i = 0; i < COUNTERS; i++)
		EXPECT_EQUAL(counter[i], 0);
}

static float *random_floats(size_t n, float scale)
{
	float *v = kernel_test_host(n * sizeof *v);

	for (size_t i = 0; i < n; i++)
		v[i] = kernel_test_random_float() * scale;
	return v;
}

/* ---- products ---- */

struct operands {
	const struct kind *kind;
	uint32_t rows, cols;
	struct cuda_quant_matrix q; /* or */
	void *w;
	float *w_scale;
	struct rows_out x;
};

/* Bytes below 48: whatever of a block is a scale is finite and below 1/8. */
static struct cuda_quant_matrix quantised(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	size_t bytes = quant_bytes(type, cols) * rows;
	uint8_t *w = kernel_test_host(bytes);
	struct cuda_quant_matrix q = {
		type, rows, cols, kernel_test_device(cuda_quant_bytes(type, rows, cols))};

	for (size_t i = 0; i < bytes; i++)
		w[i] = (uint8_t)kernel_test_random(48);
	EXPECT_CUDA(cuda_quant_repack(type, rows, cols, 0, rows, kernel_test_upload(w, bytes),
		(void *)(uintptr_t)q.data, NULL));
	return q;
}

static void *plain(enum cuda_type type, size_t n)
{
	uint8_t *w = kernel_test_host(n * cuda_type_bytes(type));

	for (size_t i = 0; i < n; i++)
		values_set(w, type, i, kernel_test_random_float());
	return kernel_test_upload(w, n * cuda_type_bytes(type));
}

/* x has room for n rows of `room` columns. */
static struct operands operands_of(
	const struct kind *k, uint32_t rows, uint32_t cols, uint32_t n, uint32_t room)
{
	struct operands o = {.kind = k, .rows = rows, .cols = cols};
	size_t bytes = k->reads == CUDA_TYPE_Q8 ? cuda_quant_q8_bytes(n, room)
						: (size_t)n * room * cuda_type_bytes(k->reads);

	if (k->reads == CUDA_TYPE_Q8)
		o.q = quantised(k->tensor, rows, cols);
	else
		o.w = plain(k->reads, (size_t)rows * cols);
	o.w_scale = kernel_test_upload(random_floats(rows, 1e-2f), rows * sizeof(float));
	o.x = (struct rows_out){.type = k->reads,
		.data = kernel_test_device(bytes),
		.scale = kernel_test_device(8 * sizeof(float))};
	return o;
}

static void set_x(struct operands *o, const float *x, uint32_t n)
{
	EXPECT_CUDA(rows_convert(kernel_test_upload(x, (size_t)n * o->cols * sizeof(float)),
		CUDA_TYPE_F32, n, o->cols, &o->x, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize()); /* products read weights before device_begin() */
}

static int run(const struct operands *o, struct cuda_product *p)
{
	p->x = o->x.data;
	if (o->kind->reads == CUDA_TYPE_Q8)
		return cuda_quant_product(&o->q, p, NULL);
	if (o->kind->reads == CUDA_TYPE_E4M3)
		return cuda_gemv_fp8(o->w, o->w_scale, o->rows, o->cols, o->x.scale, p, NULL);
	return cuda_gemv(o->kind->reads, o->w, o->rows, o->cols, p, NULL);
}

/* ---- norm ---- */

struct norm_case {
	uint32_t rows, cols, n, n_sm;
	bool bias, add;
};

static size_t h_bytes(enum cuda_type type, uint32_t n, uint32_t cols)
{
	return type == CUDA_TYPE_Q8 ? cuda_quant_q8_bytes(n, cols)
				    : (size_t)n * cols * cuda_type_bytes(type);
}

static double h_value(const struct rows_out *h, const void *data, const float *scale, uint32_t row,
	uint32_t cols, uint32_t c)
{
	if (h->type == CUDA_TYPE_Q8)
		return (double)values_q8(data, cols, row, c);
	return (double)values_get(data, h->type, (size_t)row * cols + c) *
	       (h->type == CUDA_TYPE_E4M3 ? (double)scale[row] : 1);
}

/* As rows_norm() made it: its bits where the order of sums is the same, else what few values that
 * are rounded to the other side make of it. */
static void compare_h(
	const struct rows_out *got, const struct rows_out *want, const struct norm_case *c)
{
	size_t bytes = h_bytes(got->type, c->n, c->rows), n_values = (size_t)c->n * c->rows;
	uint8_t *a = kernel_test_host(bytes), *b = kernel_test_host(bytes);
	float scale[2][8], *value = kernel_test_host(n_values * sizeof *value);
	double *expected = kernel_test_host(n_values * sizeof *expected);

	kernel_test_download(a, got->data, bytes);
	kernel_test_download(b, want->data, bytes);
	kernel_test_download(scale[0], got->scale, sizeof scale[0]);
	kernel_test_download(scale[1], want->scale, sizeof scale[1]);
	if (c->rows > 3584 && c->rows <= 4096)
		EXPECT(memcmp(a, b, bytes) == 0);
	for (size_t i = 0; i < n_values; i++) {
		uint32_t row = (uint32_t)(i / c->rows), col = (uint32_t)(i % c->rows);
		value[i] = (float)h_value(got, a, scale[0], row, c->rows, col);
		expected[i] = h_value(want, b, scale[1], row, c->rows, col);
	}
	EXPECT_ERROR(value, expected, n_values, got->type == CUDA_TYPE_E4M3 ? 1e-4 : 1e-6);
	/* and of q8 the blocks behind the last column */
	for (uint32_t k = c->rows / 32;
		got->type == CUDA_TYPE_Q8 && k < cuda_quant_q8_blocks(c->rows); k++)
		for (uint32_t i = 0; i < c->n; i++)
			EXPECT_NEAR(values_q8(a, c->rows, i, k * 32), 0, 0);
}

static void check_norm(const struct kind *k, const struct norm_case *c, void *workspace)
{
	uint32_t wide = c->rows > c->cols ? c->rows : c->cols;
	size_t out_bytes = (size_t)c->n * c->rows * sizeof(float);
	struct operands o = operands_of(k, c->rows, c->cols, c->n, wide);
	float *x = random_floats((size_t)c->n * c->cols, 1e-2f);
	float *before = random_floats((size_t)c->n * c->rows, 1);
	float *bias = random_floats(c->rows, 1), *weight = random_floats(c->rows, 1);
	uint8_t *want = kernel_test_host(out_bytes), *got = kernel_test_host(out_bytes);
	struct rows_out h = {.type = k->reads,
		.data = kernel_test_device(h_bytes(k->reads, c->n, c->rows)),
		.scale = kernel_test_device(8 * sizeof(float))};
	struct cuda_product p = {.n_rows = c->n,
		.out = kernel_test_upload(before, out_bytes),
		.ld = c->rows,
		.add = c->add,
		.bias = c->bias ? kernel_test_upload(bias, c->rows * sizeof(float)) : NULL,
		.workspace = workspace,
		.n_sm = c->n_sm};
	struct rows_norm n = {.x = p.out,
		.weight = kernel_test_upload(weight, c->rows * sizeof(float)),
		.eps = 1e-5f,
		.n_rows = c->n,
		.cols = c->rows};

	set_x(&o, x, c->n);
	EXPECT_CUDA(run(&o, &p));
	EXPECT_CUDA(rows_norm(&n, &h, NULL));
	kernel_test_download(want, p.out, out_bytes);
	/* h is where x is, as in a step */
	p.out = kernel_test_upload(before, out_bytes);
	p.tail = (struct cuda_tail){
		.kind = CUDA_TAIL_NORM, .h = o.x, .weight = n.weight, .eps = n.eps};
	EXPECT_CUDA(run(&o, &p));
	kernel_test_download(got, p.out, out_bytes);
	EXPECT(memcmp(got, want, out_bytes) == 0);
	compare_h(&o.x, &h, c);
	expect_zero_counters(workspace);
}

/* Of the columns that the type may have. */
static struct norm_case fitting(const struct norm_case *c, const struct kind *k)
{
	struct norm_case fits = *c;

	if (k->reads == CUDA_TYPE_Q8) {
		fits.rows = (c->rows + 31) / 32 * 32;
		fits.cols = (c->cols + 255) / 256 * 256;
	}
	return fits;
}

KERNEL_TEST(a_product_that_norms_what_it_adds_to_leaves_what_two_launches_do)
{
	static const struct norm_case cases[] = {
		{4, 16, 1, 1, false, false},
		{20, 64, 1, 1, true, true},
		{88, 272, 3, 1, false, true},
		{160, 256, 8, 1, true, true},
		{64, 4096, 1, 16, false, true}, /* in parts */
		{36, 8192, 8, 64, true, true},
		{1028, 64, 2, 1, false, true},
		{520, 256, 5, 1, true, false},
	};
	void *workspace = new_workspace();

	for (size_t t = 0; t < COUNT(kinds); t++)
		for (size_t i = 0; can(&kinds[t]) && i < COUNT(cases); i++) {
			struct norm_case c = fitting(&cases[i], &kinds[t]);
			check_norm(&kinds[t], &c, workspace);
		}
}

/* One order of sums in both. */
KERNEL_TEST(with_4096_columns_the_norm_is_rows_norms_to_the_bit)
{
	static const struct norm_case cases[] = {
		{4096, 64, 1, 1, false, true}, {3616, 64, 3, 1, true, true}};
	void *workspace = new_workspace();

	for (size_t t = 0; t < COUNT(kinds); t += 2) /* bf16 is like f16 */
		for (size_t i = 0; can(&kinds[t]) && i < COUNT(cases); i++) {
			struct norm_case c = fitting(&cases[i], &kinds[t]);
			check_norm(&kinds[t], &c, workspace);
		}
}

KERNEL_TEST(the_widest_rows_that_a_product_norms_are_whole)
{
	static const struct norm_case widest = {CUDA_TAIL_MAX_COLS, 64, 2, 1, true, true};
	void *workspace = new_workspace();

	for (size_t t = 1; t < COUNT(kinds); t += 2) {
		struct norm_case c = fitting(&widest, &kinds[t]);
		check_norm(&kinds[t], &c, workspace);
	}
}

/* ---- activation ---- */

struct glu_case {
	uint32_t n_ff, cols, n, n_sm;
	bool bias;
};

static void check_glu(enum tensor_type type, enum cuda_type act, enum rows_gate gate,
	const struct glu_case *c, void *workspace)
{
	const struct kind k = {CUDA_TYPE_Q8, type};
	size_t ld = 2 * c->n_ff + 8, out_bytes = c->n * ld * 2;
	size_t bytes = cuda_quant_q8_bytes(c->n, c->n_ff);
	struct operands o = operands_of(&k, 2 * c->n_ff, c->cols, c->n, c->cols);
	float *x = random_floats((size_t)c->n * c->cols, 1e-2f);
	float *bias = random_floats(2 * (size_t)c->n_ff, 1);
	uint8_t *host[2] = {kernel_test_host(out_bytes), kernel_test_host(out_bytes)};
	uint8_t *h[2] = {kernel_test_host(bytes), kernel_test_host(bytes)};
	struct rows_out out[2] = {{CUDA_TYPE_Q8, kernel_test_device(bytes), NULL},
		{CUDA_TYPE_Q8, kernel_test_device(bytes), NULL}};
	struct cuda_product p = {.n_rows = c->n,
		.out = kernel_test_device(out_bytes),
		.ld = ld,
		.type = act,
		.bias = c->bias ? kernel_test_upload(bias, 2 * c->n_ff * sizeof(float)) : NULL,
		.workspace = workspace,
		.n_sm = c->n_sm};
	struct rows_glu g = {.kind = gate,
		.act = act,
		.gate = p.out,
		.up = (uint16_t *)p.out + c->n_ff,
		.ld = ld,
		.n_rows = c->n,
		.cols = c->n_ff};

	set_x(&o, x, c->n);
	EXPECT_CUDA(run(&o, &p));
	EXPECT_CUDA(rows_glu(&g, &out[0], NULL));
	kernel_test_download(host[0], p.out, out_bytes);
	p.out = kernel_test_device(out_bytes);
	p.tail = (struct cuda_tail){.kind = CUDA_TAIL_GLU, .h = out[1], .gate = gate};
	EXPECT_CUDA(run(&o, &p));
	kernel_test_download(host[1], p.out, out_bytes);
	EXPECT(memcmp(host[0], host[1], out_bytes) == 0);
	for (int i = 0; i < 2; i++)
		kernel_test_download(h[i], out[i].data, bytes);
	EXPECT(memcmp(h[0], h[1], bytes) == 0); /* rows that are none, too: as they were */
	expect_zero_counters(workspace);
}

KERNEL_TEST(quantised_gate_and_up_activated_by_their_product_are_rows_glus_to_the_bit)
{
	static const struct glu_case cases[] = {
		{32, 32, 1, 1, false},
		{96, 288, 2, 1, true},
		{160, 256, 8, 1, false},
		{64, 8192, 1, 64, true}, /* in parts */
		{256, 1024, 5, 1, true},
	};
	void *workspace = new_workspace();

	for (size_t t = 3; t < COUNT(kinds); t++)
		for (size_t i = 0; i < COUNT(cases); i++) {
			enum tensor_type type = kinds[t].tensor;
			struct glu_case c = cases[i];
			if (cuda_quant_chunk_cols(type) == 256)
				c.cols = (c.cols + 255) / 256 * 256;
			check_glu(type, i % 2 ? CUDA_TYPE_F16 : CUDA_TYPE_BF16,
				(i + t) % 2 ? ROWS_GEGLU : ROWS_SWIGLU, &c, workspace);
		}
}

/* ---- what is refused ---- */

KERNEL_TEST(tails_that_do_not_fit_a_product_are_refused)
{
	uint8_t *some = kernel_test_device(1 << 16);
	struct cuda_quant_matrix q = {TENSOR_Q8_0, 64, 32, some};
	struct cuda_product p = {.x = some,
		.n_rows = 1,
		.out = some,
		.ld = 64,
		.workspace = some,
		.n_sm = 1,
		.tail = {.kind = CUDA_TAIL_NORM,
			.h = {CUDA_TYPE_BF16, some, NULL},
			.weight = (float *)some}};

	EXPECT_EQUAL(cuda_gemv_q(&q, &p, NULL), cudaErrorInvalidValue); /* h of another type */
	EXPECT_EQUAL(cuda_gemm_q(&q, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_F16, some, 64, 32, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_BF16, some, 60, 32, &p, NULL), cudaErrorInvalidValue);
	p.ld = CUDA_TAIL_MAX_COLS + 4;
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_BF16, some, CUDA_TAIL_MAX_COLS + 4, 32, &p, NULL),
		cudaErrorInvalidValue);
	p.ld = 62;
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_BF16, some, 62, 32, &p, NULL), cudaErrorInvalidValue);
	p.ld = 64;
	p.tail.h.type = CUDA_TYPE_F32;
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_F32, some, 64, 32, &p, NULL), cudaErrorInvalidValue);
	p.tail.h.type = CUDA_TYPE_Q8;
	p.tail.kind = CUDA_TAIL_GLU;
	EXPECT_EQUAL(cuda_gemv_q(&q, &p, NULL), cudaErrorInvalidValue); /* f32 */
	p.type = CUDA_TYPE_BF16;
	EXPECT_EQUAL(cuda_gemv(CUDA_TYPE_BF16, some, 64, 32, &p, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(cuda_gemm_q(&q, &p, NULL), cudaErrorInvalidValue);
	q.rows = 96; /* 48 are no whole blocks */
	EXPECT_EQUAL(cuda_gemv_q(&q, &p, NULL), cudaErrorInvalidValue);
	q.rows = 2 * CUDA_TAIL_MAX_FF + 64;
	EXPECT_EQUAL(cuda_gemv_q(&q, &p, NULL), cudaErrorInvalidValue);
	q.rows = 64;
	p.n_rows = 9;
	EXPECT_EQUAL(cuda_quant_product(&q, &p, NULL), cudaErrorInvalidValue);
}
