/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our logits against those of the transformers library, on the tiny models that
 * tests/reference/make_logits_fixtures.py made: every CPU path, the whole prompt in one step, then
 * 64 greedy tokens one by one. Prints what it measured; docs/numerics.md quotes it.
 *
 * usage: test_logits DIRECTORY
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "engine/ops.h"
#include "tests/run_suite.h"

#define MAX_PROMPT 64
#define MAX_GREEDY 64

static const char *directory;

/* tolerance: of the largest difference, in parts of the range of all logits. */
static const struct {
	const char *name;
	double tolerance;
	bool greedy; /* the 64 tokens must be the same */
} fixtures[] = {
	{"f32-mha-untied", 1e-4, true},
	{"f32-gqa-tied-bias", 1e-4, true},
	{"f32-gqa-untied-linear", 1e-4, true},
	{"f32-mqa-tied-llama3", 1e-4, true},
	{"f32-gqa-llama3-by-keys", 1e-4, true},
	{"f32-wide-heads-theta", 1e-4, true},
	{"f16-gqa-untied", 1e-3, true},
	{"f16-mha-tied-llama3", 1e-3, true},
	{"bf16-mha-tied-linear", 1e-3, true},
	{"bf16-gqa-untied-bias", 1e-3, true},
	{"q8_0-gqa-untied", 3e-2, false},
	{"q4_0-mha-tied-bias", 3e-2, false},
};

struct expected {
	uint32_t n_prompt, n_greedy, n_vocab;
	uint32_t prompt[MAX_PROMPT], greedy[MAX_GREEDY];
	float *logits; /* [n_prompt][n_vocab] */
};

static struct expected read_expected(const char *name)
{
	struct expected e;
	char path[1024];

	snprintf(path, sizeof path, "%s/%s.expected", directory, name);
	FILE *f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "%s cannot be read", path);
	ck_assert_uint_eq(fread(&e, sizeof(uint32_t), 3, f), 3);
	ck_assert_uint_le(e.n_prompt, MAX_PROMPT);
	ck_assert_uint_le(e.n_greedy, MAX_GREEDY);
	size_t n = (size_t)e.n_prompt * e.n_vocab;
	e.logits = malloc(n * sizeof *e.logits);
	ck_assert_uint_eq(fread(e.prompt, sizeof(uint32_t), e.n_prompt, f), e.n_prompt);
	ck_assert_uint_eq(fread(e.greedy, sizeof(uint32_t), e.n_greedy, f), e.n_greedy);
	ck_assert_uint_eq(fread(e.logits, sizeof(float), n, f), n);
	fclose(f);
	return e;
}

/* The largest difference, in parts of the range of what is expected. */
static double largest_difference(const float *a, const float *expected, size_t n)
{
	double most = 0, lowest = INFINITY, highest = -INFINITY;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - (double)expected[i]);
		most = d <= most ? most : d; /* a NaN is large */
		lowest = fmin(lowest, (double)expected[i]);
		highest = fmax(highest, (double)expected[i]);
	}
	return most / (highest - lowest);
}

static uint32_t best(const float *logits, uint32_t n)
{
	uint32_t id = 0;

	for (uint32_t i = 1; i < n; i++)
		id = logits[i] > logits[id] ? i : id;
	return id;
}

/* How many of the expected greedy tokens come, one after another. */
static uint32_t greedy_tokens(
	struct model *m, const struct expected *e, const uint32_t *blocks, const float *logits)
{
	uint32_t id = best(logits, e->n_vocab), n = 0;

	for (; n < e->n_greedy && id == e->greedy[n]; n++) {
		struct batch_run run = {.ids = &id,
			.n = 1,
			.first_pos = e->n_prompt + n,
			.blocks = blocks,
			.n_logit_rows = 1};
		ck_assert_int_eq(model_step(m, &run, 1, &logits, NULL), 0);
		id = best(logits, e->n_vocab);
	}
	return n;
}

START_TEST(logits_are_those_of_transformers)
{
	uint32_t blocks[] = {7, 2, 5, 0, 6, 1, 4, 3};
	struct expected e = read_expected(fixtures[_i].name);
	struct gguf *g = NULL;
	struct err err = {""};
	char path[1024];

	snprintf(path, sizeof path, "%s/%s.gguf", directory, fixtures[_i].name);
	ck_assert_msg(gguf_open(&g, path, 0, &err) == 0, "%s", err.text);
	for (size_t i = 0; ops_at(i); i++) {
		struct model_options o = {.n_threads = 2,
			.cpu_path = strchr(ops_at(i)->name, '/') + 1,
			.max_rows = MAX_PROMPT,
			.max_logit_rows = MAX_PROMPT,
			.kv_blocks = 8};
		struct model *m = NULL;
		ck_assert_msg(model_new(&m, g, &o, &err) == 0, "%s", err.text);
		ck_assert_uint_eq(model_config(m)->n_vocab, e.n_vocab);
		size_t n = (size_t)e.n_prompt * e.n_vocab;
		const float *logits;
		struct batch_run run = {.ids = e.prompt,
			.n = e.n_prompt,
			.blocks = blocks,
			.n_logit_rows = e.n_prompt};
		ck_assert_int_eq(model_step(m, &run, 1, &logits, &err), 0);
		double d = largest_difference(logits, e.logits, n);
		uint32_t same = greedy_tokens(m, &e, blocks, logits + n - e.n_vocab);
		printf("%-24s %-11s largest difference %.1e of the range, %u of %u greedy tokens\n",
			fixtures[_i].name, ops_at(i)->name, d, same, e.n_greedy);
		ck_assert_msg(d <= fixtures[_i].tolerance, "%s, %s: %g of the range",
			fixtures[_i].name, ops_at(i)->name, d);
		ck_assert(same == e.n_greedy || !fixtures[_i].greedy);
		model_free(m);
	}
	gguf_free(g);
	free(e.logits);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("logits");
	TCase *t = tcase_create("logits");

	if (argc != 2)
		return 2;
	if (run_suite_has_one_thread())
		return 77;
	directory = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	tcase_add_loop_test(
		t, logits_are_those_of_transformers, 0, sizeof fixtures / sizeof fixtures[0]);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return run_suite(s);
}
