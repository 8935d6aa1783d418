/* SPDX-License-Identifier: Apache-2.0 */
/* Many judges at once: fair between users, paid piece by piece, cancelled at any moment. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/model.h"
#include "tests/gateway/asker_fixture.h"
#include "tests/run_suite.h"

/* ---- many, cancels, the end ---- */

START_TEST(a_hundred_at_once_get_what_each_gets_alone)
{
	enum { N = 100 };
	static struct asker askers[N];
	static struct expected want[N];
	struct session *s = harness_session(&asker_h, "other", "200");
	void *handle = asker_load(asker_h.model);
	char user[N][32];
	static struct hold hold;
	uint64_t running, waiting;
	int n_unsafe = 0, status;
	double mean = 0;
	struct moderation *any = asker_moderation("model tiny");
	for (int i = 0; i < N; i++) {
		snprintf(user[i], sizeof user[i], "question %d", i * i);
		want[i] = asker_expect(handle, any, GUARD_INPUT, user[i], NULL);
		mean += want[i].p[0] / N;
	}
	struct moderation *m = asker_moderation("model tiny\nthreshold %.17f", mean);
	local_provider.unload(handle);
	harness_say(s, "something else in the same batch\n");
	asker_hold_loop(&hold);
	for (int i = 0; i < N; i++)
		asker_ask(&askers[i], m, GUARD_INPUT, user[i], NULL);
	gate_count(asker_h.g->judges, &running, &waiting);
	ck_assert_uint_eq(running, JUDGE_RUNNING_MAX);
	ck_assert_uint_eq(waiting, N - JUDGE_RUNNING_MAX);
	sem_post(&hold.end);
	for (int i = 0; i < N; i++) {
		gate_count(asker_h.g->judges, &running, &waiting);
		ck_assert_uint_le(running, JUDGE_RUNNING_MAX);
		asker_await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, 0);
		ck_assert(fabs(askers[i].verdict.p - want[i].p[0]) < 1e-12);
		ck_assert_int_eq(askers[i].verdict.unsafe, want[i].p[0] >= m->threshold);
		n_unsafe += askers[i].verdict.unsafe;
		asker_let_go(&askers[i]);
	}
	ck_assert(n_unsafe > 0 && n_unsafe < N);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
	moderation_put(any);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

/* ---- fair between users ---- */

static atomic_int order; /* counts verdicts */
static int place_of_late_user;

static void note_place(void *arg, const struct judge_verdict *v)
{
	int place = atomic_fetch_add(&order, 1);
	struct asker *a = arg;
	a->verdict = *v;
	if (a->cancels_itself) /* stands for: of the late user */
		place_of_late_user = place;
	sem_post(&a->told);
}

/* How many of another user's texts were told of before the one of the late user. */
static int late_users_place(struct moderation *m)
{
	enum { N = 2 * JUDGE_RUNNING_MAX + 100 };
	static struct asker askers[N + 1];
	static struct hold hold;
	struct text *t = text_new("hello", 5);
	struct err err;
	atomic_store(&order, 0);
	asker_hold_loop(&hold);
	for (int i = 0; i <= N; i++) {
		memset(&askers[i], 0, sizeof askers[i]);
		sem_init(&askers[i].told, 0, 0);
		askers[i].cancels_itself = i == N;
		const struct judge_job job = {.g = asker_h.g,
			.moderation = m,
			.stage = GUARD_INPUT,
			.user = t,
			.uid = i == N ? 1001 : 1000,
			.done = note_place,
			.arg = &askers[i]};
		ck_assert_int_eq(judge_begin(&askers[i].judge, &job, &err), 0);
	}
	sem_post(&hold.end);
	for (int i = 0; i <= N; i++) {
		asker_await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, 0);
		askers[i].judge = judge_cancel(askers[i].judge);
	}
	text_put(t);
	return place_of_late_user;
}

/* Those that ran already come before it, and as many that were let in beside it. Not at each try,
 * as the thread that has to read its text may be the one that does not run for a while; but one
 * that stands in line behind all others never comes that early but by such a chance. */
START_TEST(a_user_with_one_text_does_not_wait_for_all_of_another_user)
{
	enum { TRIES = 9 };
	struct moderation *m = asker_moderation("model tiny\ntimeout_ms 600000");
	int early = 0;
	for (int i = 0; i < TRIES; i++)
		early += late_users_place(m) <= 2 * JUDGE_RUNNING_MAX;
	ck_assert_int_gt(early, TRIES / 2);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

/* ---- who pays ---- */

static struct purse {
	int n_asked, n_took, n_left; /* n_left: so many more are granted */
	uint64_t most_tok;
	struct money_tokens took;
	char model[TEXT_NAME_SIZE];
} purse;

static int purse_asked(void *arg, const struct book_judge *most, struct err *err)
{
	struct purse *p = arg;
	p->n_asked++;
	p->most_tok = most->prompt_tok;
	snprintf(p->model, sizeof p->model, "%s", most->model);
	return p->n_left-- > 0 ? 0 : err_set(err, -EDQUOT, "the purse is empty");
}

static void purse_took(void *arg, const struct money_tokens *t)
{
	struct purse *p = arg;
	p->n_took++;
	p->took.prompt += t->prompt;
	p->took.cached += t->cached;
	p->took.output += t->output;
}

static struct judge_verdict paid_verdict_of(struct moderation *m, const char *user, uid_t uid)
{
	static const struct judge_payer payer = {purse_asked, purse_took};
	static struct asker a;
	struct err err;
	struct text *t = text_new(user, strlen(user));
	memset(&a, 0, sizeof a);
	sem_init(&a.told, 0, 0);
	a.g = asker_h.g;
	const struct judge_job job = {.g = asker_h.g,
		.moderation = m,
		.stage = GUARD_INPUT,
		.user = t,
		.uid = uid,
		.done = asker_done,
		.arg = &a,
		.payer = &payer,
		.payer_arg = &purse};
	ck_assert_int_eq(judge_begin(&a.judge, &job, &err), 0);
	asker_await(&a);
	asker_let_go(&a);
	text_put(t);
	return a.verdict;
}

static struct judge_verdict paid_verdict(struct moderation *m, const char *user)
{
	return paid_verdict_of(m, user, 0);
}

/* How many tokens of a text were known is told to whoever pays: only what that one has asked may
 * show in it. */
START_TEST(what_was_known_of_a_text_does_not_tell_what_another_user_has_asked)
{
	struct moderation *m = asker_moderation("model tiny\nthreshold 1");
	char *text = asker_long_text(100);
	purse = (struct purse){.n_left = 9};
	ck_assert_int_eq(paid_verdict_of(m, text, 1).status, 0);
	ck_assert_uint_eq(purse.took.cached, 0);
	purse.took = (struct money_tokens){0};
	ck_assert_int_eq(paid_verdict_of(m, text, 1).status, 0);
	ck_assert_uint_gt(purse.took.cached, purse.took.prompt / 2);
	purse.took = (struct money_tokens){0};
	ck_assert_int_eq(paid_verdict_of(m, text, 2).status, 0);
	ck_assert_uint_gt(purse.took.prompt, 0);
	ck_assert_uint_eq(purse.took.cached, 0);
	free(text);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

START_TEST(each_piece_is_paid_for_before_it_is_asked_and_told_what_it_took)
{
	struct moderation *m = asker_moderation("model tiny\nthreshold 1");
	char *text = asker_long_text(1500);
	purse = (struct purse){.n_left = 1};
	ck_assert_int_eq(paid_verdict(m, "hello").status, 0);
	ck_assert_int_eq(purse.n_asked, 1);
	ck_assert_int_eq(purse.n_took, 1);
	ck_assert_str_eq(purse.model, "tiny");
	ck_assert_uint_eq(purse.took.prompt, purse.most_tok);
	ck_assert_uint_ge(purse.took.output, 1);
	uint64_t before = metrics_sum(asker_h.g->metrics, METRICS_JUDGE_PROMPT_TOK);
	purse = (struct purse){.n_left = 1000};
	ck_assert_int_eq(paid_verdict(m, text).status, 0);
	ck_assert_int_gt(purse.n_asked, 1);
	ck_assert_int_eq(purse.n_took, purse.n_asked);
	ck_assert_uint_eq(metrics_sum(asker_h.g->metrics, METRICS_JUDGE_PROMPT_TOK) - before,
		purse.took.prompt);
	moderation_put(m);
	free(text);
	asker_assert_idle();
}
END_TEST

START_TEST(an_empty_purse_is_no_verdict_and_nothing_is_asked)
{
	struct moderation *m = asker_moderation("model tiny\nthreshold 1\non_error allow");
	purse = (struct purse){0};
	struct judge_verdict v = paid_verdict(m, "hello");
	ck_assert_int_eq(v.status, -EDQUOT);
	ck_assert(v.unpaid);
	ck_assert_str_eq(v.err.text, "the purse is empty");
	ck_assert_int_eq(purse.n_took, 0);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

START_TEST(cancelled_at_any_moment_it_tells_nothing_afterwards)
{
	struct moderation *m = asker_moderation("model tiny\nthreshold 0.5");
	char *text = asker_long_text(1500);
	unsigned seed = 4;
	int n_told = 0, n = 0;
	for (; n < 400; n++) {
		static struct asker askers[4];
		for (int i = 0; i < 4; i++)
			asker_ask(&askers[i], m, i % 2 ? GUARD_INPUT : GUARD_OUTPUT,
				i == 3 ? text : "x", i == 2 ? text : "y");
		if (n % 100 == 10)
			asker_await(&askers[3]); /* some are told, however slow they are */
		usleep(rand_r(&seed) % (n % 20 ? 3000 : 200000));
		for (int i = 0; i < 4; i++) {
			asker_let_go(&askers[i]);
			n_told += atomic_load(&askers[i].n_told);
		}
		if (n % 100 == 50) {
			struct model *model = gateway_model_find(asker_h.g, "tiny");
			model_ctl(model, "unload", 6, NULL);
			model_put(model);
		}
	}
	asker_assert_idle();
	ck_assert_int_gt(n_told, 0);
	ck_assert_int_lt(n_told, 4 * n);
	free(text);
	moderation_put(m);
}
END_TEST

START_TEST(done_may_let_go_of_its_own_judge)
{
	struct moderation *m = asker_moderation("model tiny");
	static struct asker askers[8];
	static struct hold hold;
	asker_hold_loop(&hold);
	for (int i = 0; i < 8; i++) {
		asker_ask(&askers[i], m, GUARD_INPUT, "x", NULL);
		askers[i].cancels_itself = true;
	}
	sem_post(&hold.end);
	for (int i = 0; i < 8; i++) {
		asker_await(&askers[i]);
		ck_assert_ptr_null(askers[i].judge);
		ck_assert_int_eq(askers[i].verdict.status, 0);
	}
	asker_assert_idle();
	moderation_put(m);
}
END_TEST

START_TEST(the_gateways_stop_ends_all_that_run_and_wait)
{
	enum { N = 150 };
	static struct asker askers[N];
	char *text;
	struct moderation *m = asker_slow_judge(600000, &text);
	struct asker late;
	struct err err;
	for (int i = 0; i < N; i++)
		asker_ask(&askers[i], m, GUARD_INPUT, text, NULL);
	usleep(300000); /* some are rendered, some computed, some wait */
	uint64_t start = clock_mono_ns();
	gateway_stop(asker_h.g);
	ck_assert_int_eq(asker_try(&late, m, GUARD_INPUT, "x", NULL, &err), -ESHUTDOWN);
	for (int i = 0; i < N; i++) {
		asker_await(&askers[i]);
		ck_assert_int_lt(askers[i].verdict.status, 0);
		if (i % 2)
			asker_let_go(&askers[i]);
	}
	/* Others are let go of when the gateway is gone. */
	harness_close(&asker_h);
	ck_assert_uint_lt((clock_mono_ns() - start) / 1000000, 10000);
	for (int i = 0; i < N; i += 2)
		asker_let_go(&askers[i]);
	free(text);
	moderation_put(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("judge_many");
	TCase *t = tcase_create("judge_many");
	tcase_add_checked_fixture(t, asker_open, asker_close);
	tcase_set_timeout(t, 280);
	tcase_add_test(t, a_hundred_at_once_get_what_each_gets_alone);
	tcase_add_test(t, a_user_with_one_text_does_not_wait_for_all_of_another_user);
	tcase_add_test(t, what_was_known_of_a_text_does_not_tell_what_another_user_has_asked);
	tcase_add_test(t, each_piece_is_paid_for_before_it_is_asked_and_told_what_it_took);
	tcase_add_test(t, an_empty_purse_is_no_verdict_and_nothing_is_asked);
	tcase_add_test(t, cancelled_at_any_moment_it_tells_nothing_afterwards);
	tcase_add_test(t, done_may_let_go_of_its_own_judge);
	tcase_add_test(t, the_gateways_stop_ends_all_that_run_and_wait);
	suite_add_tcase(s, t);
	return run_suite(s);
}
