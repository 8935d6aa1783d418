/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that overlap, without a GPU: engines on the late back end beside engines on the processor,
 * which has one step at a time. What each request is answered must be the same to the byte.
 * tests/engine/test_batch.c and others run on the late back end too.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/engine/engine_harness.h"
#include "tests/engine/late_backend.h"
#include "tests/run_suite.h"

#define N_JOBS 64
#define LONGEST 160

static const struct tiny_llama model = {.n_kv_heads = 2, .seed = 3};
static const char *const words[] = {"safe", "unsafe", "(", "\xC3\xA9"};

/* A request, and what comes of it alone on the processor and together on the late back end. */
struct job {
	uint32_t ids[LONGEST];
	char stop[16];
	const char *stops[1];
	struct engine_bias bias[3];
	struct engine_request request; /* but for event and arg */
	bool cancelled;
	struct answer alone, together;
};

static struct job jobs[N_JOBS];

static void ask_alone(struct engine *e, struct job *j)
{
	struct engine_request r = harness_request(&j->alone, j->ids, j->request.n_ids);

	j->request.event = r.event;
	j->request.arg = r.arg;
	harness_ask(e, &j->request, &j->alone);
}

/* A piece of the answer's midst, whole characters, becomes what ends it. */
static void make_stop(struct job *j)
{
	const struct buf *t = &j->alone.text;
	size_t from = t->len / 2, n;

	while (from < t->len && (t->data[from] & 0xC0) == 0x80)
		from++;
	for (n = from + 2; n < t->len && (t->data[n] & 0xC0) == 0x80; n++)
		;
	if (n >= t->len || n - from >= sizeof(j->stop) || memchr(t->data + from, 0, n - from))
		return;
	memcpy(j->stop, t->data + from, n - from);
	j->stops[0] = j->stop;
	j->request.stop = j->stops;
	j->request.n_stop = 1;
}

/* Greedy and drawn, plain, JSON, with candidates, penalties, biases, log-probabilities, without end
 * tokens; every fourth begins like the
 * others; every third is stopped by a string of its answer. */
static void make_jobs(uint32_t *random)
{
	struct engine *e = harness_open(&model, &(struct engine_options){.backend = "cpu"});

	memset(jobs, 0, sizeof(jobs));
	for (uint32_t i = 0; i < N_JOBS; i++) {
		struct job *j = &jobs[i];
		struct engine_request *r = &j->request;
		uint32_t shared = 77;

		r->n_ids = 1 + harness_random(random) % (LONGEST - 1);
		harness_ids(random, j->ids, r->n_ids);
		if (i % 4 == 0 && r->n_ids > 50)
			harness_ids(&shared, j->ids, 50);
		r->ids = j->ids;
		r->max_tokens = 1 + harness_random(random) % 80;
		r->sampling = (struct engine_sampling){
			.temperature = (float)(i % 2) * 0.9f,
			.top_p = i % 3 ? 1 : 0.8f,
			.top_k = i % 5 ? 0 : 30,
			.min_p = i % 7 ? 0 : 0.05f,
			.seed = i,
		};
		if (i % 4 == 3) {
			r->sampling.repetition_penalty = 1 + (float)(i % 3) * 0.4f;
			r->sampling.presence_penalty = i % 2 ? 0.8f : 0;
			r->sampling.frequency_penalty = 0.3f;
		}
		if (i % 9 == 4) {
			for (uint32_t k = 0; k < 3; k++)
				j->bias[k] = (struct engine_bias){60 + 7 * k + i, 3 - (float)k * 2};
			r->bias = j->bias;
			r->n_bias = 3;
		}
		r->logprobs = i % 10 == 3;
		r->n_top_logprobs = i % 20 == 3 ? 5 : 0;
		r->json = i % 6 == 1;
		r->ignore_eos = i % 5 == 2;
		if (i % 8 == 5) {
			r->candidates = words;
			r->n_candidates = 4;
		}
		r->salt = 1000 + i; /* alone: each is computed from scratch */
		ask_alone(e, j);
		if (i % 3 == 0 && !r->json) {
			make_stop(j);
			harness_free(&j->alone);
			r->salt = 2000 + i;
			ask_alone(e, j);
		}
		r->salt = 0;
		j->cancelled = i % 7 == 3;
	}
	engine_free(e);
}

static void check_job(const struct job *j, int i)
{
	const struct answer *a = &j->alone, *b = &j->together;
	size_t n = b->text.len;

	ck_assert_int_eq(b->n_ends, 1);
	ck_assert(!b->disorder);
	if (b->status == -ECANCELED) {
		ck_assert(j->cancelled);
		if (n >= 3 && !memcmp(b->text.data + n - 3, "\xEF\xBF\xBD", 3))
			n -= 3; /* in place of half a character */
		ck_assert_uint_le(n, a->text.len);
		ck_assert(n == 0 || !memcmp(a->text.data, b->text.data, n));
		return;
	}
	ck_assert_msg(b->status == a->status && b->finish == a->finish, "answer %d: %d %s", i,
		b->status, b->sentence);
	ck_assert_msg(n == a->text.len && (n == 0 || !memcmp(a->text.data, b->text.data, n)),
		"answer %d differs", i);
	ck_assert_uint_eq(b->usage.output_tok, a->usage.output_tok);
	ck_assert_uint_eq(b->usage.prompt_tok, a->usage.prompt_tok);
	ck_assert_int_eq(b->n_judged, a->n_judged);
	ck_assert_uint_eq(b->n_candidates, a->n_candidates);
	ck_assert_uint_eq(b->n_logprobs, a->n_logprobs);
	ck_assert_mem_eq(b->logprobs, a->logprobs, sizeof(a->logprobs));
	for (size_t k = 0; k < a->n_candidates; k++)
		ck_assert_mem_eq(&a->candidate_p[k], &b->candidate_p[k], sizeof(float));
}

/* All jobs together on a late engine with these options. */
static void compare_round(
	const struct engine_options *options, uint32_t seed, bool cancels, uint32_t *n_preempted)
{
	struct engine_stats stats;
	struct engine *e;

	make_jobs(&seed);
	e = harness_open(&model, options);
	ck_assert_str_eq(engine_info(e)->backend, "cuda/late");
	for (int i = 0; i < N_JOBS; i++) {
		struct job *j = &jobs[i];
		struct engine_request r = harness_request(&j->together, j->ids, j->request.n_ids);

		j->request.event = r.event;
		j->request.arg = r.arg;
		harness_submit(e, &j->request, &j->together);
		if (harness_random(&seed) % 4 == 0)
			usleep(harness_random(&seed) % 3000);
		if (cancels && i > 3 && jobs[i - 3].cancelled)
			engine_cancel(e, jobs[i - 3].together.id);
	}
	for (int i = 0; i < N_JOBS; i++)
		harness_wait(&jobs[i].together);
	harness_await_idle(e);
	engine_stats(e, &stats);
	*n_preempted += (uint32_t)stats.preemptions;
	engine_free(e);
	for (int i = 0; i < N_JOBS; i++) {
		check_job(&jobs[i], i);
		harness_free(&jobs[i].alone);
		harness_free(&jobs[i].together);
	}
}

START_TEST(overlapping_steps_answer_as_single_ones_do)
{
	struct engine_options o = {.max_sequences = N_JOBS, .n_threads = 2};
	struct late_counts c;
	uint32_t n_preempted = 0;

	late_counts();
	compare_round(&o, 1, false, &n_preempted);
	ck_assert_uint_eq(n_preempted, 0);
	c = late_counts();
	ck_assert_uint_gt(c.overlapped, c.steps / 2);
	ck_assert_uint_gt(c.followed, 500);
	ck_assert_uint_gt(c.asked, 7); /* of those with candidates, and not of many more */
	ck_assert_uint_lt(c.asked, 200);
}
END_TEST

START_TEST(preempted_and_cancelled_at_random_they_answer_the_same)
{
	struct engine_options o = {.max_sequences = N_JOBS, .n_threads = 2, .kv_blocks = 40};
	uint32_t n_preempted = 0;

	for (uint32_t seed = 2; seed < 6 || (seed < 30 && n_preempted <= 20); seed++)
		compare_round(&o, seed, true, &n_preempted);
	ck_assert_uint_gt(n_preempted, 20);
}
END_TEST

START_TEST(with_few_rows_a_step_they_answer_the_same)
{
	struct engine_options o = {
		.max_sequences = 8, .n_threads = 1, .step_budget_tok = 19, .kv_blocks = 33};
	uint32_t n_preempted = 0;

	compare_round(&o, 7, true, &n_preempted);
}
END_TEST

START_TEST(one_reader_has_the_next_step_begun_before_the_last_is_looked_at)
{
	struct engine *e = harness_open(&model, NULL);
	uint32_t random = 5, ids[20];
	struct answer a;
	struct engine_request r;
	struct late_counts c;

	harness_ids(&random, ids, 20);
	r = harness_request(&a, ids, 20);
	r.ignore_eos = true;
	r.max_tokens = 40;
	late_counts();
	harness_ask(e, &r, &a);
	c = late_counts();
	ck_assert_uint_eq(a.usage.output_tok, 40);
	ck_assert_uint_eq(c.steps, 40); /* the end by max_tokens is foreseen */
	ck_assert_uint_eq(c.overlapped, 39);
	ck_assert_uint_eq(c.followed, 39);
	ck_assert_uint_eq(c.asked, 0);
	engine_free(e);
	harness_free(&a);
}
END_TEST

START_TEST(json_waits_for_each_token)
{
	struct engine *e = harness_open(&model, NULL);
	uint32_t random = 5, ids[20];
	struct answer a;
	struct engine_request r;
	struct late_counts c;

	harness_ids(&random, ids, 20);
	r = harness_request(&a, ids, 20);
	r.json = true;
	r.max_tokens = 40;
	late_counts();
	harness_ask(e, &r, &a);
	c = late_counts();
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(c.steps, a.usage.output_tok);
	ck_assert_uint_eq(c.overlapped, 0);
	engine_free(e);
	harness_free(&a);
}
END_TEST

/* Asks the same twice; the tokens found in the cache the second time. */
static uint32_t cached_of_a_second_turn(const char *backend)
{
	struct engine *e =
		harness_open(&model, &(struct engine_options){.backend = backend, .n_threads = 1});
	uint32_t random = 21, ids[37], n = 37, cached;
	struct answer a, b;
	struct engine_request r;

	harness_ids(&random, ids, n);
	r = harness_request(&a, ids, n);
	r.ignore_eos = true;
	r.max_tokens = 60;
	harness_ask(e, &r, &a);
	r = harness_request(&b, ids, n);
	r.ignore_eos = true;
	r.max_tokens = 60;
	harness_ask(e, &r, &b);
	ck_assert(a.text.len == b.text.len && !memcmp(a.text.data, b.text.data, a.text.len));
	cached = b.usage.cached_tok;
	engine_free(e);
	harness_free(&a);
	harness_free(&b);
	return cached;
}

START_TEST(as_much_is_found_again_as_with_single_steps)
{
	uint32_t cached = cached_of_a_second_turn("cpu");

	ck_assert_uint_eq(cached, 32);
	ck_assert_uint_eq(cached_of_a_second_turn("cuda"), cached);
}
END_TEST

/* ---- the device fails ---- */

static void fail_and_look(struct late_ways ways)
{
	enum { N = 12 };
	static struct answer answers[N];
	struct engine_request r;
	uint32_t random = 6, ids[30];
	struct err err = {""};
	struct engine *e;
	uint64_t id;
	int n_failed = 0;

	late_ways = ways;
	e = harness_open(&model, &(struct engine_options){.max_sequences = 4});
	late_ways = (struct late_ways){0};
	for (int i = 0; i < N; i++) {
		harness_ids(&random, ids, 30);
		r = harness_request(&answers[i], ids, 30);
		r.ignore_eos = true;
		r.max_tokens = 200;
		if (engine_submit(e, &r, &id, &err) < 0)
			break; /* it has failed already */
		n_failed++;
	}
	for (int i = 0; i < n_failed; i++)
		harness_wait(&answers[i]);
	for (int i = 0; i < n_failed; i++) {
		ck_assert_int_eq(answers[i].n_ends, 1);
		ck_assert_int_eq(answers[i].status, -EIO);
		ck_assert_int_eq(answers[i].finish, ENGINE_FINISH_ERROR);
		ck_assert_str_eq(answers[i].sentence, LATE_FAULT);
		harness_free(&answers[i]);
	}
	ck_assert_int_gt(n_failed, 0);
	while (engine_submit(e, &r, &id, &err) == 0)
		usleep(1000); /* until the worker has noted it */
	ck_assert_int_eq(engine_submit(e, &r, &id, &err), -EIO);
	ck_assert_str_eq(err.text, LATE_FAULT);
	err.text[0] = '\0';
	ck_assert_int_eq(engine_fault(e, &err), -EIO);
	ck_assert_str_eq(err.text, LATE_FAULT);
	engine_free(e);
}

START_TEST(a_fault_of_the_device_ends_all_and_refuses_more_with_its_sentence)
{
	fail_and_look((struct late_ways){.fails_at = 1});
	fail_and_look((struct late_ways){.fails_at = 9});
	fail_and_look((struct late_ways){.begin_fails_at = 1});
	fail_and_look((struct late_ways){.begin_fails_at = 10});
}
END_TEST

START_TEST(an_engine_is_freed_with_steps_under_way)
{
	enum { N = 8 };
	static struct answer answers[N];
	uint32_t random = 6, ids[30];

	for (int round = 0; round < 10; round++) {
		struct engine *e = harness_open(&model, NULL);

		for (int i = 0; i < N; i++) {
			struct engine_request r;

			harness_ids(&random, ids, 30);
			r = harness_request(&answers[i], ids, 30);
			r.ignore_eos = true;
			harness_submit(e, &r, &answers[i]);
		}
		harness_wait_text(&answers[round % N]);
		engine_free(e);
		for (int i = 0; i < N; i++) {
			ck_assert_int_eq(answers[i].n_ends, 1);
			ck_assert_int_eq(answers[i].status, -ECANCELED);
			ck_assert(!answers[i].disorder);
			harness_free(&answers[i]);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/sched");
	TCase *t = tcase_create("sched");

	tcase_set_timeout(t, 600);
	tcase_add_test(t, overlapping_steps_answer_as_single_ones_do);
	tcase_add_test(t, preempted_and_cancelled_at_random_they_answer_the_same);
	tcase_add_test(t, with_few_rows_a_step_they_answer_the_same);
	tcase_add_test(t, one_reader_has_the_next_step_begun_before_the_last_is_looked_at);
	tcase_add_test(t, json_waits_for_each_token);
	tcase_add_test(t, as_much_is_found_again_as_with_single_steps);
	tcase_add_test(t, a_fault_of_the_device_ends_all_and_refuses_more_with_its_sentence);
	tcase_add_test(t, an_engine_is_freed_with_steps_under_way);
	suite_add_tcase(s, t);
	return run_suite(s);
}
