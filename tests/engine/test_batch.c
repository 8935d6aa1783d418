/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's promises, through the door, on a tiny random model. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/engine/engine_harness.h"
#include "tests/run_suite.h"

#define N_SEQS 64
#define LONGEST 160

static const struct tiny_llama model = {.n_kv_heads = 2, .seed = 3};

struct job {
	uint32_t ids[LONGEST];
	size_t n_ids;
	uint32_t max_tokens;
	float temperature;
	bool cancelled;
	struct answer alone, together;
};

/* Jobs of many lengths; every fourth begins with the same 50 tokens. */
static void make_jobs(struct job *jobs, uint32_t *random)
{
	for (int i = 0; i < N_SEQS; i++) {
		struct job *j = &jobs[i];
		uint32_t shared = 77;

		j->n_ids = 1 + harness_random(random) % (LONGEST - 1);
		harness_ids(random, j->ids, j->n_ids);
		if (i % 4 == 0 && j->n_ids > 50)
			harness_ids(&shared, j->ids, 50);
		j->max_tokens = 1 + harness_random(random) % 80;
		j->temperature = i % 2;
		j->cancelled = i % 7 == 3;
	}
}

static struct engine_request request_of(const struct job *j, struct answer *a, uint64_t seed)
{
	struct engine_request r = harness_request(a, j->ids, j->n_ids);

	r.max_tokens = j->max_tokens;
	r.sampling.temperature = j->temperature;
	r.sampling.seed = seed;
	return r;
}

/* b broke off: its text is how a's begins, but for a U+FFFD in place of half a sequence. */
static void check_beginning(const struct answer *a, const struct answer *b)
{
	size_t n = b->text.len;

	if (n >= 3 && !memcmp(b->text.data + n - 3, "\xEF\xBF\xBD", 3))
		n -= 3;
	ck_assert_uint_le(n, a->text.len);
	ck_assert(n == 0 || !memcmp(a->text.data, b->text.data, n));
}

static void check_answers(struct job *jobs)
{
	for (int i = 0; i < N_SEQS; i++) {
		struct job *j = &jobs[i];
		struct answer *a = &j->alone, *b = &j->together;

		ck_assert_int_eq(b->n_ends, 1);
		ck_assert(!b->disorder);
		if (b->status == -ECANCELED) {
			ck_assert(j->cancelled);
			ck_assert_int_eq(b->finish, ENGINE_FINISH_CANCEL);
			check_beginning(a, b);
			continue;
		}
		ck_assert_int_eq(b->status, 0);
		ck_assert_int_eq(b->finish, a->finish);
		ck_assert_uint_eq(b->usage.output_tok, a->usage.output_tok);
		ck_assert_msg(a->text.len == b->text.len &&
				      (a->text.len == 0 ||
					      !memcmp(a->text.data, b->text.data, a->text.len)),
			"answer %d differs", i);
	}
}

/* One round: everything alone, then together on an engine with these options. */
static void compare_rounds(
	const struct engine_options *together, uint32_t seed, uint32_t *n_preempted)
{
	static struct job jobs[N_SEQS];
	struct engine *e = harness_open(&model, NULL);
	struct engine_stats stats;

	memset(jobs, 0, sizeof(jobs));
	make_jobs(jobs, &seed);
	for (int i = 0; i < N_SEQS; i++) {
		struct engine_request r = request_of(&jobs[i], &jobs[i].alone, i);

		r.salt = i; /* nothing shared: each is computed from scratch */
		harness_ask(e, &r, &jobs[i].alone);
	}
	engine_free(e);
	e = harness_open(&model, together);
	for (int i = 0; i < N_SEQS; i++) {
		struct engine_request r = request_of(&jobs[i], &jobs[i].together, i);

		harness_submit(e, &r, &jobs[i].together);
		if (harness_random(&seed) % 4 == 0)
			usleep(harness_random(&seed) % 3000);
		if (i > 3 && jobs[i - 3].cancelled)
			engine_cancel(e, jobs[i - 3].together.id);
	}
	for (int i = 0; i < N_SEQS; i++)
		harness_wait(&jobs[i].together);
	check_answers(jobs);
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.waiting, 0);
	*n_preempted += (uint32_t)stats.preemptions;
	engine_free(e);
	for (int i = 0; i < N_SEQS; i++) {
		harness_free(&jobs[i].alone);
		harness_free(&jobs[i].together);
	}
}

START_TEST(sixty_four_at_once_answer_as_each_answers_alone)
{
	uint32_t n_preempted = 0;
	struct engine_options o = {.max_sequences = N_SEQS, .n_threads = 2};

	compare_rounds(&o, 1, &n_preempted);
	ck_assert_uint_eq(n_preempted, 0);
}
END_TEST

START_TEST(preempted_and_recomputed_they_answer_the_same)
{
	/* 40 blocks of 16 for 64 sequences of up to 15 blocks each. */
	struct engine_options o = {.max_sequences = N_SEQS, .n_threads = 2, .kv_blocks = 40};
	uint32_t n_preempted = 0;

	/* More rounds where so few come at once that there is room for them. */
	for (uint32_t seed = 2; seed < 5 || (seed < 30 && n_preempted <= 10); seed++)
		compare_rounds(&o, seed, &n_preempted);
	ck_assert_uint_gt(n_preempted, 10);
}
END_TEST

START_TEST(small_step_budgets_answer_the_same)
{
	struct engine_options o = {
		.max_sequences = 8, .n_threads = 1, .step_budget_tok = 19, .kv_blocks = 33};
	uint32_t n_preempted = 0;

	compare_rounds(&o, 5, &n_preempted);
}
END_TEST

START_TEST(every_request_has_its_events_once_and_in_order_among_a_thousand_cancels)
{
	enum { N = 1000 };
	static struct answer answers[N];
	struct engine *e = harness_open(&model, &(struct engine_options){.kv_blocks = 64});
	uint32_t random = 9, ids[40], n_cancelled = 0;

	for (int i = 0; i < N; i++) {
		struct engine_request r;

		harness_ids(&random, ids, 40);
		r = harness_request(&answers[i], ids, 1 + harness_random(&random) % 40);
		r.max_tokens = 1 + harness_random(&random) % 12;
		harness_submit(e, &r, &answers[i]);
		if (harness_random(&random) % 2) {
			/* One of all, most of them over, or this one, hardly begun. */
			uint32_t other = harness_random(&random) % (i + 1);

			engine_cancel(e, answers[i % 8 ? other : (uint32_t)i].id);
		}
		if (harness_random(&random) % 16 == 0)
			usleep(500);
	}
	for (int i = 0; i < N; i++)
		harness_wait(&answers[i]);
	for (int i = 0; i < N; i++) {
		engine_cancel(e, answers[i].id); /* over: without effect */
		n_cancelled += answers[i].status == -ECANCELED;
	}
	e = engine_free(e);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(answers[i].n_ends, 1);
		ck_assert_int_le(answers[i].n_started, 1);
		ck_assert(!answers[i].disorder);
		ck_assert(answers[i].status == 0 || answers[i].status == -ECANCELED);
		harness_free(&answers[i]);
	}
	ck_assert_uint_gt(n_cancelled, 10);
	ck_assert_uint_lt(n_cancelled, N - 10);
}
END_TEST

struct submitter {
	struct engine *e;
	uint32_t random;
	struct answer answers[150];
};

static void *submit_and_cancel(void *arg)
{
	struct submitter *s = arg;
	uint32_t ids[60];

	for (int i = 0; i < 150; i++) {
		struct answer *a = &s->answers[i];
		struct engine_stats stats;
		struct engine_request r;
		uint64_t id;

		harness_ids(&s->random, ids, 60);
		r = harness_request(a, ids, 1 + harness_random(&s->random) % 60);
		r.max_tokens = 1 + harness_random(&s->random) % 20;
		r.sampling.temperature = 1;
		if (engine_submit(s->e, &r, &id, NULL) < 0)
			abort();
		a->id = id;
		/* One's own, and ones that others may have, or nobody any more. */
		if (harness_random(&s->random) % 3 == 0)
			engine_cancel(s->e, id);
		engine_cancel(s->e, id - ((uint64_t)(harness_random(&s->random) % 8) << 32));
		engine_stats(s->e, &stats);
	}
	return NULL;
}

START_TEST(many_threads_submit_and_cancel_and_the_engine_is_freed_among_it)
{
	static struct submitter submitters[4];
	pthread_t threads[4];

	for (int round = 0; round < 4; round++) {
		struct engine *e = harness_open(&model, &(struct engine_options){.kv_blocks = 50});

		for (int i = 0; i < 4; i++) {
			submitters[i].e = e;
			submitters[i].random = 10 * round + i;
			ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_and_cancel,
						 &submitters[i]),
				0);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		engine_free(e); /* while the last ones run */
		for (int i = 0; i < 4; i++)
			for (int k = 0; k < 150; k++) {
				struct answer *a = &submitters[i].answers[k];

				ck_assert_int_eq(a->n_ends, 1);
				ck_assert(!a->disorder);
				ck_assert(a->status == 0 || a->status == -ECANCELED);
				harness_free(a);
			}
	}
}
END_TEST

START_TEST(requests_start_in_the_order_they_came)
{
	enum { N = 20 };
	static struct answer answers[N];
	struct engine *e = harness_open(&model, &(struct engine_options){.max_sequences = 2});
	uint32_t random = 4, ids[30];

	for (int i = 0; i < N; i++) {
		struct engine_request r;

		harness_ids(&random, ids, 30);
		r = harness_request(&answers[i], ids, 1 + harness_random(&random) % 30);
		r.max_tokens = 5;
		harness_submit(e, &r, &answers[i]);
	}
	for (int i = 0; i < N; i++)
		harness_wait(&answers[i]);
	for (int i = 1; i < N; i++)
		ck_assert_uint_gt(answers[i].start_order, answers[i - 1].start_order);
	engine_free(e);
	for (int i = 0; i < N; i++)
		harness_free(&answers[i]);
}
END_TEST

/* Whether a short prompt that was submitted behind a long one was answered before it. */
static bool is_overtaken(struct engine *e, uint64_t salt)
{
	static uint32_t ids[1900];
	struct answer longer, shorter;
	struct engine_request r;
	uint32_t random = 8;

	harness_ids(&random, ids, 1900);
	r = harness_request(&longer, ids, 1900);
	r.ignore_eos = true;
	r.max_tokens = 20;
	r.salt = salt;
	harness_submit(e, &r, &longer);
	r = harness_request(&shorter, ids + 100, 20);
	r.ignore_eos = true;
	r.max_tokens = 20;
	r.salt = salt;
	harness_submit(e, &r, &shorter);
	harness_wait(&longer);
	harness_wait(&shorter);
	ck_assert_uint_lt(longer.start_order, shorter.start_order);
	bool is = shorter.text_order < longer.text_order;
	harness_free(&longer);
	harness_free(&shorter);
	return is;
}

START_TEST(a_short_prompt_does_not_wait_behind_a_long_one)
{
	struct engine *e = harness_open(&model, &(struct engine_options){.step_budget_tok = 64});
	uint64_t tries = 1; /* on a busy machine the long one may be done before the other comes */

	while (!is_overtaken(e, tries))
		ck_assert_uint_lt(++tries, 10);
	engine_free(e);
}
END_TEST

START_TEST(a_cancelled_sequence_frees_its_blocks)
{
	const struct tiny_llama roomy = {.n_kv_heads = 2, .seed = 3, .context_tok = 65536};
	struct engine *e = harness_open(&roomy, NULL); /* an answer far from its end */
	struct answer a;
	uint32_t ids[100], random = 3;
	struct engine_request r;
	struct engine_stats stats;

	harness_ids(&random, ids, 100);
	r = harness_request(&a, ids, 100);
	r.ignore_eos = true;
	harness_submit(e, &r, &a);
	harness_wait_text(&a);
	engine_cancel(e, a.id);
	harness_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert_str_ne(a.sentence, "");
	harness_await_idle(e);
	engine_stats(e, &stats);
	ck_assert_uint_gt(stats.kv_blocks_cached, 0);
	engine_free(e);
	harness_free(&a);
}
END_TEST

START_TEST(a_pool_too_small_for_the_context_shortens_it_and_everything_ends)
{
	struct engine *e =
		harness_open(&model, &(struct engine_options){.kv_blocks = 3, .max_sequences = 4});
	static struct answer answers[6];
	uint32_t ids[40], random = 3;
	uint64_t id;
	struct engine_request r;

	ck_assert_uint_eq(engine_info(e)->context_tok, 48);
	for (int i = 0; i < 6; i++) {
		harness_ids(&random, ids, 40);
		r = harness_request(&answers[i], ids, 1 + 7 * i);
		r.ignore_eos = true;
		harness_submit(e, &r, &answers[i]);
	}
	for (int i = 0; i < 6; i++) {
		harness_wait(&answers[i]);
		ck_assert_int_eq(answers[i].finish, ENGINE_FINISH_LENGTH);
		ck_assert_uint_eq(answers[i].usage.prompt_tok + answers[i].usage.output_tok, 48);
		harness_free(&answers[i]);
	}
	r.n_ids = 48;
	ck_assert_int_eq(engine_submit(e, &r, &id, NULL), -EMSGSIZE);
	engine_free(e);
}
END_TEST

/* Seconds of computing in a third of a second, in which nothing is asked. */
static double idle_seconds(void)
{
	struct timespec before, after;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	return (double)(after.tv_sec - before.tv_sec) +
	       (double)(after.tv_nsec - before.tv_nsec) * 1e-9;
}

START_TEST(an_idle_engine_sleeps)
{
	struct engine *e = harness_open(&model, NULL);
	struct answer a;
	uint32_t ids[3] = {1, 2, 3};
	struct engine_request r = harness_request(&a, ids, 3);

	r.max_tokens = 3;
	harness_ask(e, &r, &a);
	for (int left = 10; idle_seconds() >= 0.02; left--) /* once it has come to that */
		ck_assert_int_gt(left, 0);
	engine_free(e);
	harness_free(&a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/batch");
	TCase *t = tcase_create("batch");

	tcase_set_timeout(t, 600);
	tcase_add_test(t, sixty_four_at_once_answer_as_each_answers_alone);
	tcase_add_test(t, preempted_and_recomputed_they_answer_the_same);
	tcase_add_test(t, small_step_budgets_answer_the_same);
	tcase_add_test(t, every_request_has_its_events_once_and_in_order_among_a_thousand_cancels);
	tcase_add_test(t, many_threads_submit_and_cancel_and_the_engine_is_freed_among_it);
	tcase_add_test(t, requests_start_in_the_order_they_came);
	tcase_add_test(t, a_short_prompt_does_not_wait_behind_a_long_one);
	tcase_add_test(t, a_cancelled_sequence_frees_its_blocks);
	tcase_add_test(t, a_pool_too_small_for_the_context_shortens_it_and_everything_ends);
	tcase_add_test(t, an_idle_engine_sleeps);
	suite_add_tcase(s, t);
	return run_suite(s);
}
