/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of every CPU path against cpu_scalar.c, bit for bit, on odd sizes; and
 * cpu_scalar.c against plain arithmetic in f64, with the tolerances of docs/numerics.md.
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

static float *copy_of(const float *v, size_t n)
{
	float *c = malloc(n * sizeof *c);

	memcpy(c, v, n * sizeof *c);
	return c;
}

/* ---- value by value ---- */

START_TEST(rms_norm_is_the_definition_on_every_path)
{
	for (uint32_t n = 1; n < 100; n += 7) {
		float *x = ops_random(n, ops_normal), *w = ops_random(n, ops_uniform), a[100],
		      b[100];
		double sum = 0;
		ops_at(0)->rms_norm(x, w, 1e-5f, n, a);
		for (uint32_t i = 0; i < n; i++)
			sum += (double)x[i] * (double)x[i];
		for (uint32_t i = 0; i < n; i++) {
			double exact = (double)x[i] / sqrt(sum / n + 1e-5) * (double)w[i];
			ck_assert_double_eq_tol((double)a[i], exact, 1e-6 * fabs(exact));
		}
		for (size_t p = 1; ops_at(p); p++) {
			ops_at(p)->rms_norm(x, w, 1e-5f, n, b);
			ck_assert_mem_eq(a, b, n * sizeof *a);
		}
		free(x);
		free(w);
	}
}
END_TEST

START_TEST(rope_rotates_pairs_on_every_path)
{
	static const uint32_t dims[][2] = {{2, 2}, {12, 12}, {64, 64}, {80, 80}, {64, 24}, {18, 6}};

	for (size_t k = 0; k < sizeof dims / sizeof dims[0]; k++) {
		uint32_t head = dims[k][0], turned = dims[k][1];
		float *x = ops_random(3 * head, ops_normal), cs[80], *a = copy_of(x, 3 * head);
		for (uint32_t i = 0; i < turned; i += 2) {
			float angle = 3 * ops_uniform();
			cs[i] = cosf(angle);
			cs[i + 1] = sinf(angle);
		}
		ops_at(0)->rope(a, 3, head, turned, cs, 0.25f);
		for (uint32_t i = 0; i < 3 * head; i++) {
			uint32_t d = i % head, pair = d & ~1u, at = i - d + pair;
			double c = (double)cs[pair], s = (double)cs[pair + 1], x0 = (double)x[at],
			       x1 = (double)x[at + 1];
			double exact = d >= turned ? (double)x[i]
				       : d & 1     ? x0 * s + x1 * c
						   : x0 * c - x1 * s;
			ck_assert_double_eq_tol((double)a[i], exact / 4, 1e-6);
		}
		for (size_t p = 1; ops_at(p); p++) {
			float *b = copy_of(x, 3 * head);
			ops_at(p)->rope(b, 3, head, turned, cs, 0.25f);
			ck_assert_mem_eq(a, b, 3 * head * sizeof *a);
			free(b);
		}
		free(x);
		free(a);
	}
}
END_TEST

START_TEST(swiglu_is_the_definition_on_every_path)
{
	enum { N = 1003 };
	float *gate = ops_random(N, ops_normal), *up = ops_random(N, ops_normal), *a;

	for (int i = 0; i < 200; i++) /* large ones too, where exp leaves its range */
		gate[i] *= (float)i;
	a = copy_of(gate, N);
	ops_at(0)->swiglu(a, up, N);
	for (int i = 0; i < N; i++) {
		double g = (double)gate[i], exact = g / (1 + exp(-g)) * (double)up[i];
		ck_assert_double_eq_tol((double)a[i], exact, 1e-6 * fabs(exact) + 1e-30);
	}
	for (size_t p = 1; ops_at(p); p++) {
		float *b = copy_of(gate, N);
		ops_at(p)->swiglu(b, up, N);
		ck_assert_mem_eq(a, b, N * sizeof *a);
		free(b);
	}
	free(gate);
	free(up);
	free(a);
}
END_TEST

static uint8_t *quantised(const struct ops *ops, const float *x, uint32_t rows, uint32_t cols)
{
	uint8_t *q8 = calloc(rows, ops_q8_row_bytes(cols));

	for (uint32_t row = 0; row < rows; row += ops_tile_rows(row, rows)) {
		ops->quantise(x, rows, cols, row, 0, 1, q8);
		ops->quantise(x, rows, cols, row, 1, cols / 32, q8);
	}
	return q8;
}

START_TEST(quantised_activations_are_the_same_on_every_path)
{
	static const uint32_t rows[] = {1, 2, 3, 5, 16, 23, 47};

	for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
		uint32_t cols = 96;
		float *x = ops_random((size_t)rows[k] * cols, ops_normal);
		x[5] = NAN;
		x[40] = INFINITY;
		memset(x + 64, 0, 32 * sizeof *x);
		uint8_t *a = quantised(ops_at(0), x, rows[k], cols);
		for (size_t p = 1; ops_at(p); p++) {
			uint8_t *b = quantised(ops_at(p), x, rows[k], cols);
			/* a NaN is one, whatever its bits */
			for (size_t i = 0; i < rows[k] * ops_q8_row_bytes(cols); i += 4) {
				float fa, fb;
				memcpy(&fa, a + i, 4);
				memcpy(&fb, b + i, 4);
				ck_assert(memcmp(a + i, b + i, 4) == 0 || (fa != fa && fb != fb));
			}
			free(b);
		}
		free(a);
		free(x);
	}
}
END_TEST

/* ---- products ---- */

struct product_case {
	uint32_t rows, cols, n;
	bool bias, add;
};

static const struct product_case cases[] = {
	{1, 32, 1, false, false}, {16, 64, 3, true, false}, {35, 96, 7, false, true},
	{50, 512, 33, true, true}, {129, 1024, 40, false, false},
	{16, 5632, 47, false, false}, /* more activations than one chunk */
};

struct matrix {
	struct ops_matrix w;
	void *data;
	uint8_t *packed;
	float *bias;
};

static struct matrix make_matrix(const struct product_case *c, enum tensor_type type)
{
	float *values = ops_random((size_t)c->rows * c->cols, ops_normal);
	struct matrix m = {.bias = ops_random(c->rows, ops_uniform)};
	size_t bytes, group = ops_is_quantised(type) ? ops_pack_group_bytes(type, c->cols) : 0;

	m.data = gguf_writer_quantise(type, values, (size_t)c->rows * c->cols, &bytes);
	m.w = (struct ops_matrix){.type = type,
		.rows = c->rows,
		.cols = c->cols,
		.data = m.data,
		.bias = c->bias ? m.bias : NULL};
	if (group) {
		m.packed = aligned_alloc(64, ops_groups(c->rows) * group);
		ops_pack(&m.w, 0, ops_groups(c->rows), m.packed);
		m.w.packed = m.packed;
	}
	free(values);
	return m;
}

static void free_matrix(struct matrix *m)
{
	free(m->data);
	free(m->packed);
	free(m->bias);
}

static float *multiply(const struct ops *ops, const struct matrix *m, const struct product_case *c,
	const float *x, const float *before, size_t ld)
{
	uint8_t *q8 = ops_is_quantised(m->w.type) ? quantised(ops, x, c->n, c->cols) : NULL;
	struct ops_acts acts = {.n_rows = c->n, .cols = c->cols, .f32 = x, .q8 = q8};
	float *out = copy_of(before, ld * c->n);
	struct ops_product p = {.w = &m->w, .x = &acts, .out = out, .ld = ld, .add = c->add};
	uint32_t groups = ops_groups(c->rows), half = groups / 2;

	ops->product(&p, half, groups);
	ops->product(&p, 0, half);
	free(q8);
	return out;
}

/* The normalised mean square error of y against f64 products of the weights as the file has them.
 */
static double nmse(const struct matrix *m, const struct product_case *c, const float *x,
	const float *before, const float *y, size_t ld)
{
	double error = 0, power = 0;
	float *row = malloc(c->cols * sizeof *row);

	for (uint32_t r = 0; r < c->rows; r++) {
		ops_at(0)->gather(&m->w, r, row);
		for (uint32_t i = 0; i < c->n; i++) {
			double exact = 0, d;
			for (uint32_t k = 0; k < c->cols; k++)
				exact += (double)row[k] * (double)x[(size_t)i * c->cols + k];
			power += exact * exact;
			d = (double)y[i * ld + r] - (c->bias ? (double)m->bias[r] : 0) -
			    (c->add ? (double)before[i * ld + r] : 0) - exact;
			error += d * d;
		}
	}
	free(row);
	return error / power;
}

/* Columns of a case as the type allows them; and more than one number, which may happen to be about
 * 0, to compare the error with. */
static struct product_case fitting(struct product_case c, enum tensor_type type)
{
	uint32_t block = tensor_type_info(type)->block_values;

	c.cols = (c.cols + block - 1) / block * block;
	if (ops_is_k(type) && c.n == 1)
		c.n = 7;
	return c;
}

START_TEST(products_are_exact_within_the_format_and_the_same_on_every_path)
{
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		const struct product_case fits = fitting(cases[k], ops_types[_i]), *c = &fits;
		struct matrix m = make_matrix(c, ops_types[_i]);
		size_t ld = c->rows + 5;
		float *x = ops_random((size_t)c->n * c->cols, ops_normal);
		float *before = ops_random(ld * c->n, ops_uniform);
		float *a = multiply(ops_at(0), &m, c, x, before, ld);
		double e = nmse(&m, c, x, before, a, ld);
		ck_assert_msg(e <= (ops_is_quantised(ops_types[_i]) ? 5e-4 : 1e-12),
			"%s, case %zu: NMSE %g", tensor_type_info(ops_types[_i])->name, k, e);
		for (size_t p = 1; ops_at(p); p++) {
			float *b = multiply(ops_at(p), &m, c, x, before, ld);
			ck_assert_msg(memcmp(a, b, ld * c->n * sizeof *a) == 0, "%s, %s, case %zu",
				ops_at(p)->name, tensor_type_info(ops_types[_i])->name, k);
			free(b);
		}
		free(a);
		free(x);
		free(before);
		free_matrix(&m);
	}
}
END_TEST

/* Weights of -128, which no quantiser writes but a file may hold, and full nibbles against the
 * largest activations. */
START_TEST(extreme_integers_do_not_saturate)
{
	static const struct product_case c = {16, 32, 2, false, false};
	float x[64];

	for (int i = 0; i < 64; i++)
		x[i] = i % 3 ? 1 : -1;
	for (int t = 3; t < 8; t++) {
		struct matrix m = make_matrix(&c, ops_types[t]);
		size_t bytes = quant_bytes(ops_types[t], 32),
		       head = ops_has_min(ops_types[t]) ? 4 : 2;
		for (int r = 0; r < 16; r++)
			memset((uint8_t *)m.data + r * bytes + head,
				r % 2                         ? 0x80
				: ops_types[t] == TENSOR_Q8_0 ? 0x7f
							      : 0xff,
				bytes - head);
		ops_pack(&m.w, 0, 1, m.packed);
		float *a = multiply(ops_at(0), &m, &c, x, x, 16);
		ck_assert_double_le(nmse(&m, &c, x, x, a, 16), 1e-10);
		for (size_t p = 1; ops_at(p); p++) {
			float *b = multiply(ops_at(p), &m, &c, x, x, 16);
			ck_assert_mem_eq(a, b, sizeof x / 2);
			free(b);
		}
		free(a);
		free_matrix(&m);
	}
}
END_TEST

/* The K types: largest scales, minima and integers of either sign, against the largest
 * activations. */
START_TEST(extreme_integers_of_k_types_do_not_saturate)
{
	static const struct product_case c = {16, 256, 2, false, false};
	static const enum tensor_type k_types[] = {TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
	float x[512];

	for (int i = 0; i < 512; i++)
		x[i] = i < 256 || i % 3 ? 1 : -1;
	for (int t = 0; t < 3; t++) {
		struct matrix m = make_matrix(&c, k_types[t]);
		size_t bytes = quant_bytes(k_types[t], 256);
		for (size_t r = 0; r < 16; r++) {
			uint8_t *block = (uint8_t *)m.data + r * bytes;
			struct quant_q6_k *q6 = (void *)block;
			if (k_types[t] != TENSOR_Q6_K) {
				memset(block + 4, r % 2 ? 0xff : 0xf0, bytes - 4);
				continue;
			}
			memset(q6->low, r % 2 ? 0 : 0xff, sizeof q6->low + sizeof q6->high);
			memset(q6->scale, r % 4 < 2 ? 0x80 : 0x7f, sizeof q6->scale);
		}
		ops_pack(&m.w, 0, 1, m.packed);
		float *a = multiply(ops_at(0), &m, &c, x, x, 16);
		ck_assert_double_le(nmse(&m, &c, x, x, a, 16), 1e-10);
		for (size_t p = 1; ops_at(p); p++) {
			float *b = multiply(ops_at(p), &m, &c, x, x, 16);
			ck_assert_mem_eq(a, b, 32 * sizeof *a);
			free(b);
		}
		free(a);
		free_matrix(&m);
	}
}
END_TEST

START_TEST(gathered_rows_are_the_files_values_on_every_path)
{
	const struct product_case c =
		fitting((struct product_case){5, 96, 1, false, false}, ops_types[_i]);
	struct matrix m = make_matrix(&c, ops_types[_i]);
	float a[256], b[256];

	for (size_t p = 0; ops_at(p); p++) {
		ops_at(p)->gather(&m.w, 3, b);
		quant_to_f32(ops_types[_i], (char *)m.data + 3 * quant_bytes(ops_types[_i], c.cols),
			c.cols, a);
		ck_assert_mem_eq(a, b, c.cols * sizeof *a);
	}
	free_matrix(&m);
}
END_TEST

START_TEST(unknown_path_is_not_found)
{
	ck_assert_ptr_null(ops_find("sse9"));
	ck_assert_ptr_eq(ops_find("scalar"), ops_at(0));
	ck_assert_ptr_nonnull(ops_find(NULL));
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("ops");
	TCase *t = tcase_create("ops");

	tcase_add_test(t, rms_norm_is_the_definition_on_every_path);
	tcase_add_test(t, rope_rotates_pairs_on_every_path);
	tcase_add_test(t, swiglu_is_the_definition_on_every_path);
	tcase_add_test(t, quantised_activations_are_the_same_on_every_path);
	tcase_add_loop_test(
		t, products_are_exact_within_the_format_and_the_same_on_every_path, 0, OPS_N_TYPES);
	tcase_add_test(t, extreme_integers_do_not_saturate);
	tcase_add_test(t, extreme_integers_of_k_types_do_not_saturate);
	tcase_add_loop_test(t, gathered_rows_are_the_files_values_on_every_path, 0, OPS_N_TYPES);
	tcase_add_test(t, unknown_path_is_not_found);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return run_suite(s);
}
