/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-probabilities and judges of a model that samples, whose steps overlap: what is asked with
 * each step, and that it is what the processor says. Among others, preempted and cancelled:
 * test_sched.c.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "tests/engine/engine_harness.h"
#include "tests/engine/late_backend.h"
#include "tests/run_suite.h"

static const struct tiny_llama model = {.n_kv_heads = 2, .seed = 3};
static const char *const words[] = {"safe", "unsafe", "(", "\xC3\xA9"};

/* White space that an answer begins with: as many tokens, as each of these is one byte. */
static uint64_t n_white(const struct answer *a)
{
	size_t n = 0;

	while (n < a->text.len && memchr(" \t\n\v\f\r", a->text.data[n], 6))
		n++;
	return n;
}

/* The step behind the one that tells is under way by then. */
START_TEST(a_judge_runs_ahead_and_asks_until_it_is_known_where_its_answer_begins)
{
	enum { N_TOK = 10 };
	struct engine *e = harness_open(&model, NULL);
	uint32_t random = 5, ids[20];
	int n_at_once = 0, n_later = 0;

	for (int i = 0; i < 300; i++) {
		struct answer a;
		struct engine_request r;
		struct late_counts c;

		harness_ids(&random, ids, 20);
		r = harness_request(&a, ids, 20);
		r.ignore_eos = true;
		r.candidates = words;
		r.n_candidates = 4;
		r.max_tokens = N_TOK;
		late_counts();
		harness_ask(e, &r, &a);
		c = late_counts();
		ck_assert_uint_eq(c.overlapped, N_TOK - 1);
		ck_assert_int_eq(a.n_judged, 1);
		ck_assert_uint_eq(c.asked, n_white(&a) + 2);
		n_at_once += n_white(&a) == 0;
		n_later += n_white(&a) > 0;
		harness_free(&a);
	}
	ck_assert_int_gt(n_at_once, 5);
	ck_assert_int_gt(n_later, 2);
	engine_free(e);
}
END_TEST

START_TEST(twenty_most_likely_come_with_each_token_of_steps_that_overlap)
{
	static struct answer one, other;
	struct engine *e = harness_open(&model, NULL),
		      *cpu = harness_open(&model, &(struct engine_options){.backend = "cpu"});
	uint32_t random = 5, ids[20];
	struct engine_request r;
	struct late_counts c;

	harness_ids(&random, ids, 20);
	r = harness_request(&one, ids, 20);
	r.ignore_eos = true;
	r.logprobs = true;
	r.n_top_logprobs = ENGINE_LOGPROBS_MAX;
	r.max_tokens = 20;
	harness_ask(cpu, &r, &one);
	r.arg = memset(&other, 0, sizeof(other));
	late_counts();
	harness_ask(e, &r, &other);
	c = late_counts();
	ck_assert_uint_eq(c.asked, 20);
	ck_assert_uint_eq(c.overlapped, 19);
	ck_assert_uint_eq(one.n_each, 1 + ENGINE_LOGPROBS_MAX);
	ck_assert_uint_eq(one.n_logprobs, 20);
	ck_assert_uint_eq(other.n_logprobs, 20);
	ck_assert_mem_eq(one.logprobs, other.logprobs, sizeof(one.logprobs));
	engine_free(e);
	engine_free(cpu);
	harness_free(&one);
	harness_free(&other);
}
END_TEST

/* A judge that wants log-probabilities, of a model whose third step and all later give this. */
static struct engine *open_spoilt(float with)
{
	struct engine *e;

	late_ways = (struct late_ways){.spoilt_from = 3, .spoilt_with = with};
	e = harness_open(&model, NULL);
	late_ways = (struct late_ways){0};
	return e;
}

static void ask_spoilt(struct engine *e, struct answer *a)
{
	uint32_t random = 5, ids[20];
	struct engine_request r;

	harness_ids(&random, ids, 20);
	r = harness_request(a, ids, 20);
	r.ignore_eos = true;
	r.logprobs = true;
	r.n_top_logprobs = 3;
	r.candidates = words;
	r.n_candidates = 4;
	r.max_tokens = 10;
	harness_ask(e, &r, a);
}

START_TEST(a_row_without_a_number_has_no_probabilities_and_ends_the_answer)
{
	static const float spoilt[] = {NAN, -INFINITY};
	static struct answer a;

	for (int k = 0; k < 2; k++) {
		struct engine *e = open_spoilt(spoilt[k]);

		for (int i = 0; i < 2; i++) { /* the second finds no number at once */
			ask_spoilt(e, &a);
			ck_assert_int_eq(a.status, -EIO);
			ck_assert_str_eq(
				a.sentence, "the model gave no number that could be sampled");
			ck_assert_uint_eq(a.n_logprobs, i == 0 ? 2 : 0);
			ck_assert_int_eq(a.n_judged, i == 0);
			ck_assert_int_eq(a.n_ends, 1);
			harness_free(&a);
		}
		engine_free(e);
	}
}
END_TEST

START_TEST(a_row_without_an_end_has_no_probabilities_and_the_answer_goes_on)
{
	struct engine *e = open_spoilt(INFINITY);
	static struct answer a;

	for (int i = 0; i < 2; i++) {
		ask_spoilt(e, &a);
		ck_assert_int_eq(a.status, 0);
		ck_assert_uint_eq(a.usage.output_tok, 10);
		ck_assert_uint_eq(a.n_logprobs, i == 0 ? 2 : 0);
		ck_assert_int_eq(a.n_judged, i == 0);
		harness_free(&a);
	}
	engine_free(e);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/facts");
	TCase *t = tcase_create("facts");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, a_judge_runs_ahead_and_asks_until_it_is_known_where_its_answer_begins);
	tcase_add_test(t, twenty_most_likely_come_with_each_token_of_steps_that_overlap);
	tcase_add_test(t, a_row_without_a_number_has_no_probabilities_and_ends_the_answer);
	tcase_add_test(t, a_row_without_an_end_has_no_probabilities_and_the_answer_goes_on);
	suite_add_tcase(s, t);
	return run_suite(s);
}
