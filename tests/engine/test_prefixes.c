/* SPDX-License-Identifier: Apache-2.0 */
/* What was computed of a beginning is found again, by those who may. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "tests/engine/engine_harness.h"
#include "tests/run_suite.h"

static const struct tiny_llama model = {.seed = 12};
/* For answers that are under way until they are ended. */
static const struct tiny_llama roomy = {.seed = 12, .context_tok = 65536};
static uint32_t ids[2048];

static void make_ids(void)
{
	uint32_t random = 21;

	harness_ids(&random, ids, 2048);
}

START_TEST(a_second_prompt_with_the_same_beginning_computes_only_the_rest)
{
	struct engine *e = harness_open(&model, NULL);
	struct engine_stats stats;
	struct answer a, b;
	struct engine_request r = harness_request(&a, ids, 100);

	r.max_tokens = 10;
	r.ignore_eos = true;
	harness_ask(e, &r, &a);
	ck_assert_uint_eq(a.usage.cached_tok, 0);
	ck_assert_uint_eq(a.usage.prompt_tok, 100);
	ck_assert_uint_eq(a.usage.output_tok, 10);
	r.arg = &b;
	memset(&b, 0, sizeof(b));
	harness_ask(e, &r, &b);
	ck_assert_uint_eq(b.usage.cached_tok, 96);
	ck_assert_uint_eq(a.text.len, b.text.len);
	ck_assert(!memcmp(a.text.data, b.text.data, a.text.len));
	harness_free(&b);
	/* All of a prompt of whole blocks but the last one: the last token has to be computed. */
	r = harness_request(&b, ids, 96);
	r.max_tokens = 1;
	harness_ask(e, &r, &b);
	ck_assert_uint_eq(b.usage.cached_tok, 80);
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.cached_tok, 176);
	ck_assert_uint_eq(stats.prompt_tok, 296);
	engine_free(e);
	harness_free(&a);
	harness_free(&b);
}
END_TEST

START_TEST(a_prefix_is_shared_while_the_other_sequence_still_runs)
{
	struct engine *e = harness_open(&roomy, NULL);
	struct answer a, b;
	struct engine_request r = harness_request(&a, ids, 200);

	r.ignore_eos = true;
	harness_submit(e, &r, &a);
	harness_wait_text(&a);
	r = harness_request(&b, ids, 180);
	r.max_tokens = 2;
	harness_ask(e, &r, &b);
	ck_assert_uint_eq(b.usage.cached_tok, 176);
	ck_assert_int_eq(a.n_ends, 0);
	engine_cancel(e, a.id);
	harness_wait(&a);
	engine_free(e);
	harness_free(&a);
	harness_free(&b);
}
END_TEST

START_TEST(the_next_turn_finds_prompt_and_answer)
{
	struct engine *e = harness_open(&model, NULL);
	uint32_t turn[80], n_found = 0;

	for (uint32_t i = 0; i < 400; i++) {
		struct answer a;
		struct engine_tokens said;
		struct engine_request r = harness_request(&a, ids + i, 59);

		r.max_tokens = 6;
		r.ignore_eos = true;
		harness_ask(e, &r, &a);
		ck_assert_int_eq(engine_tokenize(e, a.text.data, a.text.len, &said, NULL), 0);
		/* Only where the text stands for the very tokens that were sampled. */
		if (said.n == 6 && !memchr(a.text.data, 0xEF, a.text.len)) {
			harness_free(&a);
			memcpy(turn, ids + i, 59 * sizeof(*turn));
			memcpy(turn + 59, said.ids, 6 * sizeof(*turn));
			memcpy(turn + 65, ids, 15 * sizeof(*turn));
			r = harness_request(&a, turn, 80);
			r.max_tokens = 1;
			harness_ask(e, &r, &a);
			n_found += a.usage.cached_tok == 64;
		}
		harness_free(&a);
		free(said.ids);
	}
	ck_assert_uint_gt(n_found, 0);
	engine_free(e);
}
END_TEST

START_TEST(eight_equal_prompts_at_once_are_computed_once)
{
	struct engine *e = harness_open(&model, NULL);
	static struct answer answers[8];
	uint32_t cached = 0;

	for (int i = 0; i < 8; i++) {
		struct engine_request r = harness_request(&answers[i], ids, 400);

		r.max_tokens = 3;
		harness_submit(e, &r, &answers[i]);
	}
	for (int i = 0; i < 8; i++) {
		harness_wait(&answers[i]);
		cached += answers[i].usage.cached_tok;
		harness_free(&answers[i]);
	}
	ck_assert_uint_eq(cached, 7 * 384);
	engine_free(e);
}
END_TEST

START_TEST(a_salt_of_its_own_shares_nothing)
{
	struct engine *e = harness_open(&model, NULL);
	struct answer a;
	static const uint64_t salts[] = {0, 1, 0, 1, 2};
	static const uint32_t cached[] = {0, 0, 96, 96, 0};

	for (int i = 0; i < 5; i++) {
		struct engine_request r = harness_request(&a, ids, 100);

		r.max_tokens = 1;
		r.salt = salts[i];
		harness_ask(e, &r, &a);
		ck_assert_uint_eq(a.usage.cached_tok, cached[i]);
		harness_free(&a);
	}
	engine_free(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/prefixes");
	TCase *t = tcase_create("prefixes");

	make_ids();
	tcase_set_timeout(t, 300);
	tcase_add_test(t, a_second_prompt_with_the_same_beginning_computes_only_the_rest);
	tcase_add_test(t, a_prefix_is_shared_while_the_other_sequence_still_runs);
	tcase_add_test(t, the_next_turn_finds_prompt_and_answer);
	tcase_add_test(t, eight_equal_prompts_at_once_are_computed_once);
	tcase_add_test(t, a_salt_of_its_own_shares_nothing);
	suite_add_tcase(s, t);
	return run_suite(s);
}
