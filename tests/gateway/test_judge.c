/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts, and what is told when there is none. */
#include "gateway/judge.h"

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
#include "gateway/pieces.h"
#include "tests/engine/tiny_llama.h"
#include "tests/gateway/asker_fixture.h"
#include "tests/run_suite.h"

/* ---- the same without judges ---- */

static struct expected expect_of(
	const char *path, enum guard_stage stage, const char *user, const char *agent)
{
	struct moderation *m = asker_moderation("model tiny");
	void *handle = asker_load(path);
	struct expected e = asker_expect(handle, m, stage, user, agent);
	local_provider.unload(handle);
	moderation_put(m);
	return e;
}

/* ---- verdicts ---- */

static void assert_verdict(double threshold, enum guard_stage stage, const char *user,
	const char *agent, bool unsafe, double p)
{
	struct moderation *m = asker_moderation("model tiny\nthreshold %.17f\n", threshold);
	struct judge_verdict v = asker_verdict(m, stage, user, agent);
	ck_assert_msg(v.status == 0, "%s", v.err.text);
	ck_assert_int_eq(v.unsafe, unsafe);
	ck_assert_msg(fabs(v.p - p) < 1e-12, "%.17g is not %.17g", v.p, p);
	moderation_put(m);
}

START_TEST(a_text_is_unsafe_when_the_first_word_is_so_likely)
{
	struct expected e = expect_of(asker_h.model, GUARD_INPUT, "is this fine?", NULL);
	ck_assert_uint_eq(e.n, 1);
	ck_assert(e.p[0] > 0.001 && e.p[0] < 0.999);
	assert_verdict(e.p[0] - 1e-6, GUARD_INPUT, "is this fine?", NULL, true, e.p[0]);
	assert_verdict(e.p[0] + 1e-6, GUARD_INPUT, "is this fine?", NULL, false, e.p[0]);
	e = expect_of(asker_h.model, GUARD_OUTPUT, "is this fine?", "it is");
	assert_verdict(e.p[0] - 1e-6, GUARD_OUTPUT, "is this fine?", "it is", true, e.p[0]);
	assert_verdict(e.p[0] + 1e-6, GUARD_OUTPUT, "is this fine?", "it is", false, e.p[0]);
	asker_assert_idle();
}
END_TEST

/* A model of its own seed, loaded beside the gateway too: new handle. */
static void *add_model(const char *name, uint64_t seed, uint32_t n_vocab)
{
	struct tiny_llama p = {.n_vocab = n_vocab, .seed = seed};
	struct err err;
	char path[160];
	snprintf(path, sizeof path, "%s/%s.gguf", asker_h.dir, name);
	tiny_llama_write(&p, path);
	ck_assert_int_eq(gateway_model_create(asker_h.g, name, &err), 0);
	struct model *model = gateway_model_find(asker_h.g, name);
	ck_assert_int_eq(model_setting_set(model, "path", path, strlen(path), &err), 0);
	model_put(model);
	return asker_load(path);
}

START_TEST(categories_are_those_that_the_model_names)
{
	/* Called like what a model may babble, single letters: one that does so is looked for. */
	struct judge_verdict v = {0};
	struct buf file = {0};
	char want[64] = "", name[16];
	for (int seed = 1; !*want; seed++) {
		struct provider_prompt prompt;
		struct guard_fault fault;
		struct moderation *m;
		struct err err;
		struct said s;
		ck_assert_int_lt(seed, 200);
		snprintf(name, sizeof name, "m%d", seed);
		void *handle = add_model(name, (uint64_t)seed, 0);
		buf_clear(&file);
		buf_printf(&file, "model %s\nthreshold 0.000001\ntimeout_ms 200000\n", name);
		for (char c = 'a'; c <= 'z'; c++)
			buf_printf(
				&file, "category %c Letter\ncategory %c Big\n", c, c - 'a' + 'A');
		ck_assert_int_eq(moderation_parse(&m, file.data, file.len, &fault), 0);
		struct pieces p = {.moderation = m, .user = "x", .user_len = 1, .agent = ""};
		ck_assert_int_eq(pieces_next(&p, &local_provider, handle, &prompt, &err), 0);
		asker_say(handle, &prompt, 99, &s);
		free(prompt.data);
		local_provider.unload(handle);
		moderation_categories(m, s.text.data, s.text.len, true, want, sizeof want);
		if (*want)
			v = asker_verdict(m, GUARD_INPUT, "x", NULL);
		buf_free(&s.text);
		moderation_put(m);
	}
	ck_assert_int_eq(v.status, 0);
	ck_assert(v.unsafe);
	ck_assert_str_eq(v.categories, want);
	buf_free(&file);
}
END_TEST

/* On the loop or off it. */
START_TEST(a_text_longer_than_the_context_is_unsafe_when_a_piece_is)
{
	char *text = asker_long_text(2000);
	struct expected e = expect_of(asker_h.model, GUARD_INPUT, text, NULL);
	double most = 0;
	size_t at = 0;
	ck_assert_uint_gt(e.n, 4);
	for (size_t i = 0; i < e.n; i++)
		if (e.p[i] > most)
			most = e.p[at = i];
	assert_verdict(most - 1e-7, GUARD_INPUT, text, NULL, true, most);
	assert_verdict(most + 1e-7, GUARD_INPUT, text, NULL, false, most);
	/* The first one that is unsafe decides. */
	assert_verdict(e.p[0] - 1e-7, GUARD_INPUT, text, NULL, true, e.p[0]);
	e = expect_of(asker_h.model, GUARD_OUTPUT, "why?", text);
	ck_assert_uint_gt(e.n, 4);
	most = 0;
	for (size_t i = 0; i < e.n; i++)
		most = e.p[i] > most ? e.p[i] : most;
	assert_verdict(most - 1e-7, GUARD_OUTPUT, "why?", text, true, most);
	assert_verdict(most + 1e-7, GUARD_OUTPUT, "why?", text, false, most);
	free(text);
	asker_assert_idle();
}
END_TEST

/* 16,000 words: each has about one in 16,000. */
START_TEST(a_model_that_says_neither_word_gives_no_verdict)
{
	for (int seed = 5, seen = 0; seen != 3; seed++) {
		char name[16];
		ck_assert_int_lt(seed, 40);
		snprintf(name, sizeof name, "m%d", seed);
		void *handle = add_model(name, (uint64_t)seed, 16000);
		struct moderation *m = asker_moderation("model %s", name);
		struct expected e = asker_expect(handle, m, GUARD_INPUT, "x", NULL);
		local_provider.unload(handle);
		struct judge_verdict v = asker_verdict(m, GUARD_INPUT, "x", NULL);
		if (e.share[0] < 0.99e-4) {
			ck_assert_int_eq(v.status, -EIO);
			ck_assert_ptr_nonnull(strstr(v.err.text, "neither safe nor unsafe"));
			seen |= 1;
		} else if (e.share[0] > 1.01e-4) {
			ck_assert_int_eq(v.status, 0);
			seen |= 2;
		}
		moderation_put(m);
	}
	asker_assert_idle();
}
END_TEST

START_TEST(a_users_judges_share_their_beginning_and_no_other_user_finds_it)
{
	struct moderation *m = asker_moderation("model tiny");
	struct provider_prompt prompt;
	struct err err;
	struct said s;
	asker_verdict(m, GUARD_INPUT, "a text of one user", NULL);
	asker_assert_idle();
	struct model *model = gateway_model_find(asker_h.g, "tiny");
	struct loaded *l = model_peek(model);
	ck_assert_ptr_nonnull(l);
	struct pieces p = {
		.moderation = m, .user = "words of another", .user_len = 16, .agent = ""};
	ck_assert_int_eq(pieces_next(&p, l->provider, l->handle, &prompt, &err), 0);
	asker_say(l->handle, &prompt, 0, &s);
	ck_assert_uint_eq(s.cached_tok, 0);
	buf_free(&s.text);
	asker_say(l->handle, &prompt, gateway_salt(1), &s);
	ck_assert_uint_eq(s.cached_tok, 0);
	buf_free(&s.text);
	asker_say(l->handle, &prompt, gateway_salt(0), &s); /* whose texts an asker's are */
	ck_assert_uint_gt(s.cached_tok, prompt.n_tok / 2);  /* the rest of the form is behind it */
	buf_free(&s.text);
	free(prompt.data);
	loaded_put(l);
	model_put(model);
	moderation_put(m);
}
END_TEST

/* ---- when there is none ---- */

START_TEST(a_judge_that_is_missing_or_broken_is_told_as_such)
{
	static const char path[] = "/nowhere/at/all.gguf";
	struct moderation *m = asker_moderation("model nobody");
	struct err err;
	struct judge_verdict v = asker_verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(v.err.text, "nobody"));
	ck_assert_int_eq(gateway_model_create(asker_h.g, "nobody", &err), 0);
	v = asker_verdict(m, GUARD_INPUT, "x", NULL); /* it has no path */
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	struct model *model = gateway_model_find(asker_h.g, "nobody");
	ck_assert_int_eq(model_setting_set(model, "path", path, strlen(path), &err), 0);
	v = asker_verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(v.err.text, path));
	char garbage[128];
	snprintf(garbage, sizeof garbage, "%s/garbage.gguf", asker_h.dir);
	FILE *f = fopen(garbage, "w");
	fputs("GGUF, or so it says, and a little more of it than a header", f);
	fclose(f);
	ck_assert_int_eq(model_setting_set(model, "path", garbage, strlen(garbage), &err), 0);
	v = asker_verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert(v.status == -EBADMSG || v.status == -ENOTSUP);
	model_put(model);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

START_TEST(what_is_not_to_be_judged_is_refused)
{
	struct moderation *m = asker_moderation("model tiny\nstages output"),
			  *off = asker_moderation("# off");
	struct asker a;
	struct err err;
	ck_assert_int_eq(asker_try(&a, m, GUARD_INPUT, "x", NULL, &err), -EINVAL);
	ck_assert_ptr_null(a.judge);
	ck_assert_int_eq(asker_try(&a, off, GUARD_OUTPUT, "x", "y", &err), -EINVAL);
	ck_assert_ptr_null(judge_cancel(NULL));
	moderation_put(m);
	moderation_put(off);
}
END_TEST

START_TEST(a_slow_judge_is_told_in_time_and_the_next_is_not_disturbed)
{
	char *text;
	struct moderation *m = asker_slow_judge(60, &text), *other = asker_moderation("model long");
	asker_verdict(other, GUARD_INPUT, "loads it", NULL);
	uint64_t start = clock_mono_ns();
	struct judge_verdict v = asker_verdict(m, GUARD_INPUT, text, NULL);
	uint64_t ms = (clock_mono_ns() - start) / 1000000;
	ck_assert_int_eq(v.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(v.err.text, "within 60 ms"));
	ck_assert_uint_ge(ms, 60);
	ck_assert_uint_lt(ms, 10000);
	v = asker_verdict(other, GUARD_INPUT, "short", NULL);
	ck_assert_int_eq(v.status, 0);
	free(text);
	moderation_put(m);
	moderation_put(other);
	asker_assert_idle();
}
END_TEST

START_TEST(those_that_wait_are_told_in_time_too)
{
	enum { N = JUDGE_RUNNING_MAX + 40 };
	static struct asker askers[N];
	char *text;
	struct moderation *m = asker_slow_judge(300, &text);
	uint64_t start = clock_mono_ns();
	for (int i = 0; i < N; i++)
		asker_ask(&askers[i], m, GUARD_INPUT, text, NULL);
	for (int i = 0; i < N; i++) {
		asker_await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, -ETIMEDOUT);
	}
	ck_assert_uint_lt((clock_mono_ns() - start) / 1000000, 10000);
	asker_assert_idle();
	for (int i = 0; i < N; i++)
		asker_let_go(&askers[i]);
	free(text);
	moderation_put(m);
}
END_TEST

START_TEST(more_than_may_wait_are_refused_and_counted_out_again)
{
	enum { N = JUDGE_RUNNING_MAX + JUDGE_WAITING_MAX + 100 };
	struct asker *askers = calloc(N, sizeof *askers);
	struct moderation *m = asker_moderation("model long\ntimeout_ms 600000");
	struct err err;
	int n = 0, r = 0;
	char *text = asker_long_text(4000);
	struct text *t = text_new(text, strlen(text));
	for (; n < N; n++) {
		askers[n].g = asker_h.g;
		sem_init(&askers[n].told, 0, 0);
		const struct judge_job job = {.g = asker_h.g,
			.moderation = m,
			.stage = GUARD_INPUT,
			.user = t,
			.done = asker_done,
			.arg = &askers[n]};
		r = judge_begin(&askers[n].judge, &job, &err);
		if (r < 0)
			break;
	}
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_int_ge(n, JUDGE_WAITING_MAX);
	for (int i = 0; i < n; i++)
		asker_let_go(&askers[i]);
	asker_assert_idle();
	m = moderation_put(m);
	m = asker_moderation("model tiny");
	ck_assert_int_eq(asker_verdict(m, GUARD_INPUT, "and now", NULL).status, 0);
	moderation_put(m);
	text_put(t);
	free(text);
	free(askers);
}
END_TEST

START_TEST(unloading_or_removing_the_model_ends_its_judges)
{
	enum { N = 20 };
	static struct asker askers[N];
	char *text;
	struct moderation *m = asker_slow_judge(600000, &text);
	struct err err;
	for (int round = 0; round < 2; round++) {
		struct model *model = gateway_model_find(asker_h.g, "long");
		for (int i = 0; i < N; i++)
			asker_ask(&askers[i], m, GUARD_INPUT, i % 2 ? text : "short", NULL);
		usleep(round * 200000);
		if (round == 0)
			ck_assert_int_eq(model_ctl(model, "unload", 6, &err), 0);
		else
			ck_assert_int_eq(gateway_model_remove(asker_h.g, "long", &err), 0);
		for (int i = 0; i < N; i++) {
			asker_await(&askers[i]);
			int status = askers[i].verdict.status;
			ck_assert_msg(
				status == 0 || status == -ECANCELED || status == -EHOSTUNREACH,
				"%d", status);
			/* Whether those of round 0 began before the unload is chance. */
			if (round == 1 && i % 2)
				ck_assert_int_ne(status, 0);
			asker_let_go(&askers[i]);
		}
		model_put(model);
	}
	ck_assert_int_eq(asker_verdict(m, GUARD_INPUT, "x", NULL).status, -EHOSTUNREACH);
	free(text);
	moderation_put(m);
	asker_assert_idle();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("judge");
	TCase *t = tcase_create("judge");
	tcase_add_checked_fixture(t, asker_open, asker_close);
	tcase_set_timeout(t, 280);
	tcase_add_test(t, a_text_is_unsafe_when_the_first_word_is_so_likely);
	tcase_add_test(t, categories_are_those_that_the_model_names);
	tcase_add_test(t, a_text_longer_than_the_context_is_unsafe_when_a_piece_is);
	tcase_add_test(t, a_model_that_says_neither_word_gives_no_verdict);
	tcase_add_test(t, a_users_judges_share_their_beginning_and_no_other_user_finds_it);
	tcase_add_test(t, a_judge_that_is_missing_or_broken_is_told_as_such);
	tcase_add_test(t, what_is_not_to_be_judged_is_refused);
	tcase_add_test(t, a_slow_judge_is_told_in_time_and_the_next_is_not_disturbed);
	tcase_add_test(t, those_that_wait_are_told_in_time_too);
	tcase_add_test(t, more_than_may_wait_are_refused_and_counted_out_again);
	tcase_add_test(t, unloading_or_removing_the_model_ends_its_judges);
	suite_add_tcase(s, t);
	return run_suite(s);
}
