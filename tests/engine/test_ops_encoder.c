/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations that only encoders use: every CPU path against cpu_scalar.c, bit for bit, on odd
 * sizes; and cpu_scalar.c against plain arithmetic in f64.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops.h"
#include "engine/quant.h"
#include "tests/engine/gguf_writer.h"
#include "tests/engine/ops_fixture.h"
#include "tests/run_suite.h"

static float *random_values(size_t n, float scale)
{
	float *v = malloc(n * sizeof *v);

	for (size_t i = 0; i < n; i++)
		v[i] = scale * (ops_uniform() + ops_uniform() + ops_uniform());
	return v;
}

START_TEST(layer_norm_is_the_definition_on_every_path)
{
	for (uint32_t n = 1; n < 100; n += 7) {
		float *x = random_values(n, 3), *w = random_values(n, 1), *b = random_values(n, 1);
		float a[100], other[100];
		double mean = 0, sum = 0;
		x[n / 2] += 40; /* a mean that is not nothing */
		ops_at(0)->layer_norm(x, w, b, 1e-12f, n, a);
		for (uint32_t i = 0; i < n; i++)
			mean += (double)x[i] / n;
		for (uint32_t i = 0; i < n; i++)
			sum += ((double)x[i] - mean) * ((double)x[i] - mean);
		for (uint32_t i = 0; i < n && n > 1; i++) {
			double y = ((double)x[i] - mean) / sqrt(sum / n + 1e-12);
			ck_assert_double_eq_tol(
				(double)a[i], y * (double)w[i] + (double)b[i], 1e-5);
		}
		for (size_t p = 1; ops_at(p); p++) {
			ops_at(p)->layer_norm(x, w, b, 1e-12f, n, other);
			ck_assert_mem_eq(a, other, n * sizeof *a);
			memcpy(other, x, n * sizeof *x);
			ops_at(p)->layer_norm(other, w, b, 1e-12f, n, other); /* in place */
			ck_assert_mem_eq(a, other, n * sizeof *a);
		}
		free(x);
		free(w);
		free(b);
	}
}
END_TEST

START_TEST(gelu_is_within_a_millionth_and_the_same_on_every_path)
{
	enum { N = 4003 };
	static float x[N], a[N], b[N];

	for (int i = 0; i < N; i++)
		x[i] = (float)(i - N / 2) * 0.01f; /* -20 .. 20 */
	x[3] = -0.0f;
	x[4] = 3e38f;
	x[5] = -3e38f;
	memcpy(a, x, sizeof a);
	ops_at(0)->gelu(a, N);
	for (int i = 0; i < N; i++) {
		double v = (double)x[i], exact = v * 0.5 * erfc(-v * M_SQRT1_2);
		ck_assert_double_eq_tol((double)a[i], exact, 1e-6 + 1e-6 * fabs(exact));
	}
	for (size_t p = 1; ops_at(p); p++) {
		memcpy(b, x, sizeof b);
		ops_at(p)->gelu(b, N);
		ck_assert_mem_eq(a, b, sizeof a);
	}
}
END_TEST

/* ---- the wide form ---- */

static uint8_t *widened(const struct ops *ops, const float *x, uint32_t n_rows, uint32_t cols)
{
	uint8_t *wide = calloc(n_rows, ops_wide_row_bytes(cols));

	for (uint32_t row = 0; row < n_rows; row += ops_wide_tile_rows(row, n_rows))
		ops->widen(x, n_rows, cols, row, wide);
	return wide;
}

START_TEST(tiles_of_wide_rows_are_as_equal_as_can_be)
{
	for (uint32_t n = 1; n < 200; n++) {
		uint32_t least = UINT32_MAX, most = 0, end = 0;
		for (uint32_t row = 0, t; row < n; row += t, end = row) {
			t = ops_wide_tile_rows(row, n);
			least = t < least ? t : least;
			most = t > most ? t : most;
		}
		ck_assert_uint_eq(end, n);
		ck_assert_uint_le(most, OPS_WIDE_TILE_ROWS);
		ck_assert_uint_le(most - least, 1);
	}
}
END_TEST

START_TEST(wide_rows_are_the_same_on_every_path)
{
	static const uint32_t rows[] = {1, 2, 7, 12, 13, 29}, cols[] = {64, 100, 32, 321};

	for (size_t k = 0; k < 24; k++) {
		uint32_t n = rows[k / 4], c = cols[k % 4];
		size_t bytes = n * ops_wide_row_bytes(c);
		float *x = random_values((size_t)n * c, 1);
		x[5] = NAN;
		x[6] = 1e-44f;
		memset(x + 7, 0, 20 * sizeof *x);
		uint8_t *a = widened(ops_at(0), x, n, c);
		for (size_t p = 1; ops_at(p); p++) {
			uint8_t *b = widened(ops_at(p), x, n, c);
			ck_assert_msg(memcmp(a, b, bytes) == 0, "%s, %u rows of %u",
				ops_at(p)->name, n, c);
			free(b);
		}
		free(a);
		free(x);
	}
}
END_TEST

struct wide_case {
	uint32_t rows, cols, n;
	bool bias, add;
};

static const struct wide_case cases[] = {
	{1, 64, 1, false, false}, {16, 96, 3, true, false}, {35, 160, 7, false, true},
	{50, 384, 17, true, true}, {129, 1024, 40, false, false},
	{16, 1536, 380, true, false}, /* more activations than one chunk */
};

static float *multiply(const struct ops *ops, const struct ops_matrix *w, const struct wide_case *c,
	const float *x, const float *before, size_t ld)
{
	uint8_t *wide = widened(ops, x, c->n, c->cols);
	struct ops_acts acts = {.n_rows = c->n, .cols = c->cols, .f32 = x, .wide = wide};
	float *out = malloc(ld * c->n * sizeof *out);
	struct ops_product p = {.w = w, .x = &acts, .out = out, .ld = ld, .add = c->add};
	uint32_t groups = ops_groups(c->rows), half = groups / 2;

	memcpy(out, before, ld * c->n * sizeof *out);
	ops->product_wide(&p, half, groups);
	ops->product_wide(&p, 0, half);
	free(wide);
	return out;
}

/* The normalised mean square error of y against f64 products of the weights as the file has them.
 */
static double nmse(const struct ops_matrix *w, const struct wide_case *c, const float *x,
	const float *before, const float *y, size_t ld)
{
	double error = 0, power = 0;
	float *row = malloc(c->cols * sizeof *row);

	for (uint32_t r = 0; r < c->rows; r++) {
		ops_at(0)->gather(w, r, row);
		for (uint32_t i = 0; i < c->n; i++) {
			double exact = 0, d;
			for (uint32_t k = 0; k < c->cols; k++)
				exact += (double)row[k] * (double)x[(size_t)i * c->cols + k];
			power += exact * exact;
			d = (double)y[i * ld + r] - (w->bias ? (double)w->bias[r] : 0) -
			    (c->add ? (double)before[i * ld + r] : 0) - exact;
			error += d * d;
		}
	}
	free(row);
	return error / power;
}

static void check_wide(const struct wide_case *c, enum tensor_type type)
{
	float *values = random_values((size_t)c->rows * c->cols, 1);
	float *bias = random_values(c->rows, 1), *x = random_values((size_t)c->n * c->cols, 1);
	size_t bytes, ld = c->rows + 5;
	float *before = random_values(ld * c->n, 1);
	void *data = gguf_writer_quantise(type, values, (size_t)c->rows * c->cols, &bytes);
	uint8_t *packed =
		aligned_alloc(64, ops_groups(c->rows) * ops_pack_wide_group_bytes(c->cols));
	struct ops_matrix w = {.type = type,
		.rows = c->rows,
		.cols = c->cols,
		.data = data,
		.packed = packed,
		.bias = c->bias ? bias : NULL};

	ops_pack_wide(&w, 0, ops_groups(c->rows), packed);
	float *a = multiply(ops_at(0), &w, c, x, before, ld);
	double e = nmse(&w, c, x, before, a, ld);
	ck_assert_msg(
		e <= 1e-7, "%s, %u columns: NMSE %g", tensor_type_info(type)->name, c->cols, e);
	for (size_t p = 1; ops_at(p); p++) {
		float *b = multiply(ops_at(p), &w, c, x, before, ld);
		ck_assert_msg(memcmp(a, b, ld * c->n * sizeof *a) == 0, "%s, %s, %u x %u",
			ops_at(p)->name, tensor_type_info(type)->name, c->rows, c->cols);
		free(b);
	}
	free(a);
	free(x);
	free(before);
	free(bias);
	free(values);
	free(data);
	free(packed);
}

START_TEST(wide_products_are_exact_to_four_digits_and_the_same_on_every_path)
{
	uint32_t block = tensor_type_info(ops_types[_i])->block_values;

	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		struct wide_case c = cases[k];
		if (block > 1)
			c.cols = (c.cols + block - 1) / block * block;
		check_wide(&c, ops_types[_i]);
	}
}
END_TEST

START_TEST(largest_numbers_do_not_overflow_a_wide_sum)
{
	static const struct wide_case c = {16, 128, 13, false, false};
	float values[16 * 128], x[13 * 128], zeros[16 * 13] = {0};
	_Alignas(64) uint8_t packed[2 * OPS_WIDE_BLOCK_BYTES];

	for (int i = 0; i < 16 * 128; i++)
		values[i] = i / 128 % 2 ? 1 : -1;
	for (int i = 0; i < 13 * 128; i++)
		x[i] = 1;
	struct ops_matrix w = {
		.type = TENSOR_F32, .rows = 16, .cols = 128, .data = values, .packed = packed};
	ops_pack_wide(&w, 0, 1, packed);
	for (size_t p = 0; ops_at(p); p++) {
		float *y = multiply(ops_at(p), &w, &c, x, zeros, 16);
		for (int i = 0; i < 16 * 13; i++)
			ck_assert_float_eq_tol(y[i], i % 2 ? 128 : -128, 1e-3f);
		free(y);
	}
}
END_TEST

/* ---- attention without a mask ---- */

START_TEST(unmasked_attention_is_the_softmax_alike_alone_and_in_a_tile)
{
	enum { DIM = 32, TOK = 21 };
	static const uint32_t blocks[] = {1, 0};
	uint8_t *data = malloc(2 * 2 * 16 * DIM * sizeof(float));
	struct ops_kv kv = {.data = data,
		.block_bytes = 2 * 16 * DIM * sizeof(float),
		.n_kv_heads = 1,
		.head_dim = DIM};
	float *k = random_values(TOK * DIM, 0.5f), *v = random_values(TOK * DIM, 1),
	      *q = random_values(TOK * DIM, 0.5f);
	float out[TOK * DIM], first[TOK * DIM], alone[DIM];

	memset(data, 0x7f, 2 * kv.block_bytes); /* large where nothing is written */
	for (size_t p = 0; ops_at(p); p++) {
		struct ops_attention job = {.kv = &kv,
			.n_heads = 1,
			.n_tok = TOK,
			.n_pos = TOK,
			.blocks = blocks,
			.q = q,
			.out = out,
			.ld = DIM};
		for (uint32_t t = 0; t < TOK; t++)
			ops_at(p)->kv_write(
				&kv, blocks[t / 16], 0, t % 16, k + t * DIM, v + t * DIM);
		ops_at(p)->attention(&job);
		if (p == 0)
			memcpy(first, out, sizeof out);
		ck_assert_mem_eq(first, out, sizeof out);
		for (uint32_t i = 0; i < TOK; i++) {
			job.n_tok = 1;
			job.q = q + i * DIM;
			job.out = alone;
			ops_at(p)->attention(&job);
			ck_assert_mem_eq(alone, out + i * DIM, sizeof alone);
		}
	}
	for (uint32_t i = 0; i < TOK; i++) {
		double sum = 0, exact = 0;
		for (uint32_t t = 0; t < TOK; t++) {
			double s = 0;
			for (uint32_t d = 0; d < DIM; d++)
				s += (double)q[i * DIM + d] * (double)k[t * DIM + d];
			sum += exp(s);
			exact += exp(s) * (double)v[t * DIM + 5];
		}
		ck_assert_double_eq_tol((double)first[i * DIM + 5], exact / sum, 1e-5);
	}
	free(data);
	free(k);
	free(v);
	free(q);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("ops_encoder");
	TCase *t = tcase_create("ops_encoder");

	tcase_add_test(t, layer_norm_is_the_definition_on_every_path);
	tcase_add_test(t, gelu_is_within_a_millionth_and_the_same_on_every_path);
	tcase_add_test(t, tiles_of_wide_rows_are_as_equal_as_can_be);
	tcase_add_test(t, wide_rows_are_the_same_on_every_path);
	tcase_add_loop_test(t, wide_products_are_exact_to_four_digits_and_the_same_on_every_path, 0,
		OPS_N_TYPES);
	tcase_add_test(t, largest_numbers_do_not_overflow_a_wide_sum);
	tcase_add_test(t, unmasked_attention_is_the_softmax_alike_alone_and_in_a_tile);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return run_suite(s);
}
