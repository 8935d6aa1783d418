/* SPDX-License-Identifier: Apache-2.0 */
/* A question of the router's to a local model: weighed by the probabilities of its words. */
#include "gateway/judge.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/model.h"
#include "tests/engine/tiny_llama.h"
#include "tests/gateway/asker_fixture.h"
#include "tests/run_suite.h"

static struct text *ask_about(const char *prompt)
{
	struct buf out = {.max = QUESTION_BYTES};
	ck_assert_int_eq(question_quality(prompt, strlen(prompt), "It is.", 6, &out), 0);
	struct text *t = text_new(out.data, out.len);
	buf_free(&out);
	return t;
}

static struct judge_verdict verdict_within(
	enum question_kind kind, const char *model, struct text *text, unsigned timeout_ms)
{
	static struct asker a;
	struct err err = {0};
	const struct judge_question q = {kind, model, timeout_ms, text};
	const struct judge_job job = {
		.g = asker_h.g, .question = &q, .done = asker_done, .arg = &a};
	memset(&a, 0, sizeof a);
	sem_init(&a.told, 0, 0);
	a.g = asker_h.g;
	int r = judge_begin(&a.judge, &job, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	asker_await(&a);
	asker_let_go(&a);
	ck_assert_int_eq(atomic_load(&a.n_told), 1);
	return a.verdict;
}

static struct judge_verdict verdict(const char *model, struct text *text)
{
	return verdict_within(QUESTION_QUALITY, model, text, 200000);
}

/* ---- the same without a judge ---- */

static float heard[QUESTION_WORDS_MAX];
static sem_t heard_end;

static void hear(void *arg, const struct provider_event *e)
{
	if (e->kind != PROVIDER_END)
		return;
	memcpy(heard, e->candidate_p, e->n_candidates * sizeof *heard);
	sem_post(&heard_end);
}

static void say(void *handle, enum question_kind kind, const struct text *text)
{
	const struct provider_message message = {PROVIDER_USER, text->bytes, text->len};
	struct provider_prompt prompt = {0};
	struct err err;
	uint64_t id;
	struct provider_request q = {
		.prompt = &prompt, .top_p = 1, .max_tokens = 64, .salt = 99, .event = hear};
	q.candidates = question_words(kind, &q.n_candidates);
	sem_init(&heard_end, 0, 0);
	ck_assert_int_eq(local_provider.render(handle, &message, 1, &prompt, &err), 0);
	ck_assert_int_eq(local_provider.submit(handle, &q, &id, &err), 0);
	while (sem_wait(&heard_end) < 0)
		;
	free(prompt.data);
}

START_TEST(the_shares_are_those_that_the_model_gives_its_words)
{
	void *handle = asker_load(asker_h.model);
	const char *const prompts[] = {"is this so?", "and that?", ""};
	for (size_t i = 0; i < 3; i++) {
		struct text *t = ask_about(prompts[i]);
		say(handle, QUESTION_QUALITY, t);
		double yes = (double)heard[0] + (double)heard[2];
		double no = (double)heard[1] + (double)heard[3];
		ck_assert(yes + no > 1e-4);
		struct judge_verdict v = verdict("tiny", t);
		ck_assert_msg(v.status == 0, "%s", v.err.text);
		ck_assert_double_eq_tol(v.said.share[QUESTION_YES], yes / (yes + no), 1e-9);
		ck_assert_uint_eq(v.said.choice, yes < no);
		v = verdict_within(QUESTION_CLASS, "tiny", t, 200000);
		ck_assert_int_eq(v.status, 0);
		ck_assert_double_eq_tol(
			v.said.share[0] + v.said.share[1] + v.said.share[2], 1, 1e-9);
		text_put(t);
	}
	local_provider.unload(handle);
	asker_assert_idle();
}
END_TEST

/* 16,000 words: four of them have about one in 4,000, and sometimes less than one in 10,000. What
 * it writes then is none of them. */
START_TEST(a_model_that_says_something_else_gives_no_verdict)
{
	struct text *t = ask_about("x");
	for (int seed = 5, seen = 0; seen != 3; seed++) {
		struct tiny_llama p = {.n_vocab = 16000, .seed = (uint64_t)seed};
		struct err err;
		char name[16], path[160];
		ck_assert_int_lt(seed, 200);
		snprintf(name, sizeof name, "m%d", seed);
		snprintf(path, sizeof path, "%s/%s.gguf", asker_h.dir, name);
		tiny_llama_write(&p, path);
		ck_assert_int_eq(gateway_model_create(asker_h.g, name, &err), 0);
		struct model *model = gateway_model_find(asker_h.g, name);
		ck_assert_int_eq(model_setting_set(model, "path", path, strlen(path), &err), 0);
		model_put(model);
		void *handle = asker_load(path);
		say(handle, QUESTION_QUALITY, t);
		local_provider.unload(handle);
		double all =
			(double)heard[0] + (double)heard[1] + (double)heard[2] + (double)heard[3];
		struct judge_verdict v = verdict(name, t);
		if (all < 0.99e-4) {
			ck_assert_int_eq(v.status, -EIO);
			ck_assert_ptr_nonnull(strstr(v.err.text, "neither yes nor no"));
			seen |= 1;
		} else if (all > 1.01e-4) {
			ck_assert_msg(v.status == 0, "%s", v.err.text);
			seen |= 2;
		}
		ck_assert_int_eq(gateway_model_remove(asker_h.g, name, &err), 0);
	}
	text_put(t);
	asker_assert_idle();
}
END_TEST

START_TEST(a_question_that_does_not_fit_is_not_asked_in_pieces)
{
	char *prompt = asker_long_text(3000);
	struct text *t = ask_about(prompt);
	struct judge_verdict v = verdict("tiny", t); /* 2,048 tokens of context */
	ck_assert_int_eq(v.status, -EMSGSIZE);
	ck_assert_ptr_nonnull(strstr(v.err.text, "context of 2048 tokens is too short"));
	v = verdict("long", t);
	ck_assert_int_eq(v.status, 0);
	text_put(t);
	free(prompt);
	asker_assert_idle();
}
END_TEST

START_TEST(who_is_not_there_or_the_routers_own_is_told_as_such)
{
	struct text *t = ask_about("x");
	struct judge_verdict v = verdict("nobody", t);
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(v.err.text, "model nobody: there is no such model"));
	v = verdict("auto", t);
	ck_assert_int_eq(v.status, -EINVAL);
	ck_assert_ptr_nonnull(strstr(v.err.text, "the router's own"));
	text_put(t);
	asker_assert_idle();
}
END_TEST

/* ---- models that are busy ---- */

static sem_t place_has_come;

static void place_came(struct gate_user *u)
{
	(void)u;
	sem_post(&place_has_come);
}

/* The only place of that model, until gate_leave. */
static struct model *take_the_place(const char *name, struct gate_user *u)
{
	struct err err = {0};
	struct model *m = gateway_model_find(asker_h.g, name);
	ck_assert_ptr_nonnull(m);
	ck_assert_int_eq(model_setting_set(m, "requests_max", "1", 1, &err), 0);
	*u = (struct gate_user){.come = place_came, .uid = 77};
	list_init(&u->link);
	ck_assert_int_eq(gate_enter(model_gate(m), u, &err), 0);
	return m;
}

static void begin(struct asker *a, enum question_kind kind, struct text *t, unsigned timeout_ms)
{
	struct err err = {0};
	const struct judge_question q = {kind, "long", timeout_ms, t};
	const struct judge_job job = {.g = asker_h.g, .question = &q, .done = asker_done, .arg = a};
	memset(a, 0, sizeof *a);
	sem_init(&a->told, 0, 0);
	a->g = asker_h.g;
	int r = judge_begin(&a->judge, &job, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static uint64_t waits_at(struct gate *gate)
{
	uint64_t running, waiting;
	gate_count(gate, &running, &waiting);
	return waiting;
}

START_TEST(a_question_takes_a_place_of_its_model_or_waits_for_one_in_its_time)
{
	static struct asker a;
	struct gate_user other;
	struct text *t = ask_about("x");
	struct model *m = take_the_place("long", &other);
	begin(&a, QUESTION_QUALITY, t, 100);
	asker_await(&a);
	ck_assert_int_eq(a.verdict.status, -ETIMEDOUT);
	asker_let_go(&a);
	begin(&a, QUESTION_QUALITY, t, 200000);
	while (!waits_at(model_gate(m)))
		usleep(1000);
	ck_assert_int_eq(atomic_load(&a.n_told), 0);
	gate_leave(model_gate(m), &other);
	asker_await(&a);
	ck_assert_int_eq(a.verdict.status, 0);
	asker_let_go(&a);
	asker_assert_idle();
	uint64_t running = 1, waiting;
	for (int i = 0; i < 60000 && running; i++, usleep(1000))
		gate_count(model_gate(m), &running, &waiting);
	ck_assert_uint_eq(running, 0); /* it has left */
	model_put(m);
	text_put(t);
}
END_TEST

/* As many as may be of one kind, to a model that says nothing. */
START_TEST(questions_that_hang_keep_neither_the_guards_nor_the_other_kind_waiting)
{
	enum { N = JUDGE_QUESTIONS_MAX + JUDGE_QUESTIONS_WAITING_MAX };
	static struct asker askers[N], one_more;
	struct gate_user other;
	struct err err = {0};
	struct text *t = ask_about("x");
	struct moderation *moderation = asker_moderation("model tiny");
	struct model *m = take_the_place("long", &other);
	for (int i = 0; i < N; i++)
		begin(&askers[i], QUESTION_CLASS, t, 600000);
	const struct judge_question q = {QUESTION_CLASS, "long", 600000, t};
	const struct judge_job job = {
		.g = asker_h.g, .question = &q, .done = asker_done, .arg = &one_more};
	ck_assert_int_eq(judge_begin(&one_more.judge, &job, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "wait for a model already"));
	ck_assert_int_eq(asker_verdict(moderation, GUARD_INPUT, "hello", NULL).status, 0);
	ck_assert_int_eq(verdict("tiny", t).status, 0);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(atomic_load(&askers[i].n_told), 0);
		asker_let_go(&askers[i]);
	}
	gate_leave(model_gate(m), &other);
	asker_assert_idle();
	model_put(m);
	moderation_put(moderation);
	text_put(t);
}
END_TEST

START_TEST(it_is_told_in_time)
{
	char *prompt = asker_long_text(800);
	struct text *t = ask_about(prompt);
	static struct hold hold;
	struct text *other = ask_about("x");
	verdict("long", other); /* loads it, and knows nothing of the long one */
	text_put(other);
	asker_hold_loop(&hold);
	static struct asker a;
	struct err err;
	const struct judge_question q = {QUESTION_QUALITY, "long", 1, t};
	const struct judge_job job = {
		.g = asker_h.g, .question = &q, .done = asker_done, .arg = &a};
	memset(&a, 0, sizeof a);
	sem_init(&a.told, 0, 0);
	a.g = asker_h.g;
	ck_assert_int_eq(judge_begin(&a.judge, &job, &err), 0);
	uint64_t until = clock_mono_ns() + 5000000;
	while (clock_mono_ns() < until)
		;
	sem_post(&hold.end);
	asker_await(&a);
	asker_let_go(&a);
	ck_assert_int_eq(a.verdict.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(a.verdict.err.text, "within 1 ms"));
	text_put(t);
	free(prompt);
	asker_assert_idle();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("judge_question");
	TCase *t = tcase_create("judge_question");
	tcase_add_checked_fixture(t, asker_open, asker_close);
	tcase_set_timeout(t, 280);
	tcase_add_test(t, the_shares_are_those_that_the_model_gives_its_words);
	tcase_add_test(t, a_model_that_says_something_else_gives_no_verdict);
	tcase_add_test(t, a_question_that_does_not_fit_is_not_asked_in_pieces);
	tcase_add_test(t, who_is_not_there_or_the_routers_own_is_told_as_such);
	tcase_add_test(t, a_question_takes_a_place_of_its_model_or_waits_for_one_in_its_time);
	tcase_add_test(t, questions_that_hang_keep_neither_the_guards_nor_the_other_kind_waiting);
	tcase_add_test(t, it_is_told_in_time);
	suite_add_tcase(s, t);
	return run_suite(s);
}
