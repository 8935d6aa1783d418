/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of every CPU path against cpu_scalar.c, bit for bit; and that against a softmax in f64.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops.h"
#include "tests/engine/ops_fixture.h"
#include "tests/run_suite.h"

#define N_POS 75
#define N_LAYERS 2
#define KV_HEADS 2

static struct ops_kv make_kv(uint32_t dim, bool f16)
{
	size_t bytes = (size_t)N_LAYERS * KV_HEADS * 2 * 16 * dim * (f16 ? 2 : 4);
	struct ops_kv kv = {
		.block_bytes = bytes, .f16 = f16, .n_kv_heads = KV_HEADS, .head_dim = dim};

	kv.data = malloc(bytes * 5);
	memset(kv.data, 0x7f, bytes * 5); /* large values and NaNs where nothing was written */
	return kv;
}

static void fill_kv(const struct ops *ops, const struct ops_kv *kv, const uint32_t *blocks,
	const float *k, const float *v)
{
	size_t n = (size_t)KV_HEADS * kv->head_dim;

	for (uint32_t pos = 0; pos < N_POS; pos++)
		ops->kv_write(kv, blocks[pos / 16], 1, pos % 16, k + pos * n, v + pos * n);
}

/* The softmax as a book has it, in f64. */
static double exact_attention(const struct ops_kv *kv, uint32_t head, uint32_t seen, const float *q,
	const float *k, const float *v, uint32_t d)
{
	size_t n = (size_t)KV_HEADS * kv->head_dim, at = (size_t)head * kv->head_dim;
	double sum = 0, out = 0;

	for (uint32_t t = 0; t < seen; t++) {
		double s = 0;
		for (uint32_t i = 0; i < kv->head_dim; i++)
			s += (double)q[i] * (double)k[t * n + at + i];
		sum += exp(s);
		out += exp(s) * (double)v[t * n + at + d];
	}
	return out / sum;
}

static void check_attention(
	uint32_t dim, uint32_t n_heads, uint32_t n_tok, uint32_t first_pos, bool f16)
{
	static const uint32_t blocks[] = {3, 0, 4, 1, 2};
	size_t n = (size_t)N_POS * KV_HEADS * dim, nq = (size_t)n_tok * n_heads * dim;
	float *k = ops_random(n, ops_normal), *v = ops_random(n, ops_normal),
	      *q = ops_random(nq, ops_uniform);
	float *a = calloc(nq, sizeof *a), *b = calloc(nq, sizeof *b);
	struct ops_kv kv = make_kv(dim, f16);
	struct ops_attention job = {.kv = &kv,
		.layer = 1,
		.kv_head = 1,
		.n_heads = n_heads,
		.n_tok = n_tok,
		.first_pos = first_pos,
		.blocks = blocks,
		.q = q,
		.out = a,
		.ld = (size_t)n_heads * dim};

	fill_kv(ops_at(0), &kv, blocks, k, v);
	ops_at(0)->attention(&job);
	for (size_t i = 0; i < nq; i++) {
		double exact = exact_attention(&kv, 1, first_pos + 1 + (uint32_t)(i / job.ld),
			q + i / dim * dim, k, v, (uint32_t)(i % dim));
		ck_assert_double_eq_tol((double)a[i], exact, (f16 ? 1e-2 : 1e-5));
	}
	job.out = b;
	for (size_t p = 1; ops_at(p); p++) {
		fill_kv(ops_at(p), &kv, blocks, k, v);
		ops_at(p)->attention(&job);
		ck_assert_msg(memcmp(a, b, nq * sizeof *a) == 0,
			"%s, dim %u, heads %u, tokens %u, from %u", ops_at(p)->name, dim, n_heads,
			n_tok, first_pos);
	}
	free(kv.data);
	free(k);
	free(v);
	free(q);
	free(a);
	free(b);
}

START_TEST(attention_is_the_softmax_and_the_same_on_every_path)
{
	static const uint32_t dims[] = {2, 12, 16, 64, 80, 128, 256};

	for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
		check_attention(dims[i], 1, 1, 0, _i);
		check_attention(dims[i], 3, 1, 74, _i);
		check_attention(dims[i], 7, 5, 44, _i);
		check_attention(dims[i], 4, 8, 8, _i);
	}
}
END_TEST

START_TEST(token_attends_alike_alone_and_in_a_tile)
{
	enum { DIM = 64, HEADS = 3, TOK = 9 };
	static const uint32_t blocks[] = {3, 0, 4, 1, 2};
	struct ops_kv kv = make_kv(DIM, true);
	size_t n = (size_t)N_POS * KV_HEADS * DIM, ld = HEADS * DIM;
	float *k = ops_random(n, ops_normal), *v = ops_random(n, ops_normal),
	      *q = ops_random(TOK * ld, ops_uniform);
	float tile[TOK * HEADS * DIM], alone[HEADS * DIM];

	for (size_t p = 0; ops_at(p); p++) {
		struct ops_attention job = {.kv = &kv,
			.layer = 1,
			.n_heads = HEADS,
			.n_tok = TOK,
			.first_pos = 27,
			.blocks = blocks,
			.q = q,
			.out = tile,
			.ld = ld};
		fill_kv(ops_at(p), &kv, blocks, k, v);
		ops_at(p)->attention(&job);
		for (uint32_t i = 0; i < TOK; i++) {
			job.n_tok = 1;
			job.first_pos = 27 + i;
			job.q = q + i * ld;
			job.out = alone;
			ops_at(p)->attention(&job);
			ck_assert_mem_eq(alone, tile + i * ld, sizeof alone);
		}
	}
	free(kv.data);
	free(k);
	free(v);
	free(q);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("ops_attention");
	TCase *t = tcase_create("ops_attention");

	tcase_add_loop_test(t, attention_is_the_softmax_and_the_same_on_every_path, 0, 2);
	tcase_add_test(t, token_attends_alike_alone_and_in_a_tile);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return run_suite(s);
}
