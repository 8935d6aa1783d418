/* SPDX-License-Identifier: Apache-2.0 */
/* Judges on a random model. What it thinks of a text is nonsense but certain, so that it is known
 * beforehand, from the provider itself, and thresholds can be put on either side of it. */
#include "gateway/judge.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/model.h"
#include "gateway/pieces.h"
#include "tests/engine/tiny_llama.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

/* With time enough for a busy machine, unless the lines say how much. */
__attribute__((format(printf, 1, 2))) static struct moderation *moderation(const char *format, ...)
{
	struct guard_fault fault;
	struct moderation *m;
	char text[512];
	va_list args;
	va_start(args, format);
	size_t n = (size_t)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (!strstr(text, "timeout_ms"))
		snprintf(text + n, sizeof text - n, "\ntimeout_ms 200000\n");
	int r = moderation_parse(&m, text, strlen(text), &fault);
	ck_assert_msg(r == 0, "%s", fault.reason);
	return m;
}

/* ---- one who asks ---- */

struct asker {
	sem_t told;
	struct judge *judge;
	struct judge_verdict verdict;
	atomic_int n_told;
	atomic_bool gone;    /* judge_cancel has returned */
	bool cancels_itself; /* within done */
	struct gateway *g;
};

static void done(void *arg, const struct judge_verdict *v)
{
	struct asker *a = arg;
	ck_assert(!atomic_load(&a->gone));
	ck_assert(loop_inside(a->g->loop));
	a->verdict = *v;
	if (a->cancels_itself)
		a->judge = judge_cancel(a->judge);
	atomic_fetch_add(&a->n_told, 1);
	sem_post(&a->told);
}

static int try_ask(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent, struct err *err)
{
	struct text *t = text_new(user, strlen(user));
	memset(a, 0, sizeof *a);
	sem_init(&a->told, 0, 0);
	a->g = h.g;
	const struct judge_job job = {
		.g = h.g,
		.moderation = m,
		.stage = stage,
		.user = t,
		.agent = agent,
		.agent_len = agent ? strlen(agent) : 0,
		.done = done,
		.arg = a,
	};
	int r = judge_begin(&a->judge, &job, err);
	text_put(t);
	return r;
}

static void ask(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent)
{
	struct err err = {0};
	int r = try_ask(a, m, stage, user, agent, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void await(struct asker *a)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 120;
	ck_assert_msg(sem_timedwait(&a->told, &until) == 0, "no verdict within two minutes");
}

static void let_go(struct asker *a)
{
	a->judge = judge_cancel(a->judge);
	atomic_store(&a->gone, true);
	ck_assert_int_le(atomic_load(&a->n_told), 1);
}

/* Asks, waits, lets go. */
static struct judge_verdict verdict(
	struct moderation *m, enum guard_stage stage, const char *user, const char *agent)
{
	static struct asker a;
	ask(&a, m, stage, user, agent);
	await(&a);
	let_go(&a);
	ck_assert_int_eq(atomic_load(&a.n_told), 1);
	return a.verdict;
}

/* While it is held the loop's thread does nothing, so that no judge gets any further. */
struct hold {
	struct loop_work work;
	sem_t end;
};

static void wait_for_end(struct loop_work *work)
{
	struct hold *hold = list_entry(work, struct hold, work);
	while (sem_wait(&hold->end) < 0)
		;
}

static void hold_loop(struct hold *hold)
{
	list_init(&hold->work.link);
	hold->work.run = wait_for_end;
	sem_init(&hold->end, 0, 0);
	ck_assert(loop_post(h.g->loop, &hold->work));
}

/* All judges have gone, within some seconds. */
static void assert_idle(void)
{
	uint64_t running = 1, waiting = 1;
	for (int i = 0; i < 60000 && running + waiting > 0; i++) {
		gate_count(h.g->judges, &running, &waiting);
		usleep(1000);
	}
	ck_assert_uint_eq(running + waiting, 0);
}

/* ---- the same without judges ---- */

enum { MAX_PIECES = 64 };

struct expected {
	size_t n;
	double p[MAX_PIECES], share[MAX_PIECES]; /* share: of both words */
};

struct said {
	sem_t end;
	float p[2];
	struct buf text;
	uint64_t cached_tok;
};

static void hear(void *arg, const struct provider_event *e)
{
	struct said *s = arg;
	if (e->kind == PROVIDER_TEXT)
		buf_append(&s->text, e->text, e->len);
	if (e->kind != PROVIDER_END)
		return;
	memcpy(s->p, e->candidate_p, sizeof s->p);
	s->cached_tok = e->usage.cached_tok;
	sem_post(&s->end);
}

static void say(void *handle, const struct provider_prompt *prompt, uint64_t salt, struct said *s)
{
	static const char *const words[] = {"safe", "unsafe"};
	struct provider_request q = {.prompt = prompt,
		.top_p = 1,
		.max_tokens = 64,
		.salt = salt,
		.candidates = words,
		.n_candidates = 2,
		.event = hear,
		.arg = s};
	struct err err;
	uint64_t id;
	memset(s, 0, sizeof *s);
	sem_init(&s->end, 0, 0);
	ck_assert_int_eq(local_provider.submit(handle, &q, &id, &err), 0);
	while (sem_wait(&s->end) < 0)
		;
}

static void *load(const char *path)
{
	struct provider_config config = {.path = path, .n_threads = 1, .kv_bytes = 16 << 20};
	struct err err = {0};
	void *handle = NULL;
	int r = local_provider.load(&handle, &config, NULL, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return handle;
}

static struct expected expect(void *handle, struct moderation *m, enum guard_stage stage,
	const char *user, const char *agent)
{
	struct pieces pieces = {.moderation = m,
		.stage = stage,
		.user = user,
		.user_len = strlen(user),
		.agent = agent ? agent : "",
		.agent_len = agent ? strlen(agent) : 0};
	struct expected e = {0};
	struct provider_prompt prompt;
	struct err err = {0};
	int r;
	for (; (r = pieces_next(&pieces, &local_provider, handle, &prompt, &err)) == 0; e.n++) {
		struct said s;
		ck_assert_uint_lt(e.n, MAX_PIECES);
		say(handle, &prompt, 99, &s);
		e.share[e.n] = (double)s.p[0] + (double)s.p[1];
		e.p[e.n] = (double)s.p[1] / e.share[e.n];
		buf_free(&s.text);
		free(prompt.data);
	}
	ck_assert_msg(r == 1, "%s", err.text);
	return e;
}

static struct expected expect_of(
	const char *path, enum guard_stage stage, const char *user, const char *agent)
{
	struct moderation *m = moderation("model tiny");
	void *handle = load(path);
	struct expected e = expect(handle, m, stage, user, agent);
	local_provider.unload(handle);
	moderation_put(m);
	return e;
}

/* n words, some 5 bytes each. */
static char *long_text(size_t n)
{
	struct buf text = {0};
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%zu%s ", i * 7919 % 1000, i % 3 ? "tea" : "x");
	return text.data;
}

/* ---- verdicts ---- */

static void assert_verdict(double threshold, enum guard_stage stage, const char *user,
	const char *agent, bool unsafe, double p)
{
	struct moderation *m = moderation("model tiny\nthreshold %.17f\n", threshold);
	struct judge_verdict v = verdict(m, stage, user, agent);
	ck_assert_msg(v.status == 0, "%s", v.err.text);
	ck_assert_int_eq(v.unsafe, unsafe);
	ck_assert_msg(fabs(v.p - p) < 1e-12, "%.17g is not %.17g", v.p, p);
	moderation_put(m);
}

START_TEST(a_text_is_unsafe_when_the_first_word_is_so_likely)
{
	struct expected e = expect_of(h.model, GUARD_INPUT, "is this fine?", NULL);
	ck_assert_uint_eq(e.n, 1);
	ck_assert(e.p[0] > 0.001 && e.p[0] < 0.999);
	assert_verdict(e.p[0] - 1e-6, GUARD_INPUT, "is this fine?", NULL, true, e.p[0]);
	assert_verdict(e.p[0] + 1e-6, GUARD_INPUT, "is this fine?", NULL, false, e.p[0]);
	e = expect_of(h.model, GUARD_OUTPUT, "is this fine?", "it is");
	assert_verdict(e.p[0] - 1e-6, GUARD_OUTPUT, "is this fine?", "it is", true, e.p[0]);
	assert_verdict(e.p[0] + 1e-6, GUARD_OUTPUT, "is this fine?", "it is", false, e.p[0]);
	assert_idle();
}
END_TEST

/* A model of its own seed, loaded beside the gateway too: new handle. */
static void *add_model(const char *name, uint64_t seed, uint32_t n_vocab)
{
	struct tiny_llama p = {.n_vocab = n_vocab, .seed = seed};
	struct err err;
	char path[160];
	snprintf(path, sizeof path, "%s/%s.gguf", h.dir, name);
	tiny_llama_write(&p, path);
	ck_assert_int_eq(gateway_model_create(h.g, name, &err), 0);
	struct model *model = gateway_model_find(h.g, name);
	ck_assert_int_eq(model_setting_set(model, "path", path, strlen(path), &err), 0);
	model_put(model);
	return load(path);
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
		say(handle, &prompt, 99, &s);
		free(prompt.data);
		local_provider.unload(handle);
		moderation_categories(m, s.text.data, s.text.len, true, want, sizeof want);
		if (*want)
			v = verdict(m, GUARD_INPUT, "x", NULL);
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
	char *text = long_text(2000);
	struct expected e = expect_of(h.model, GUARD_INPUT, text, NULL);
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
	e = expect_of(h.model, GUARD_OUTPUT, "why?", text);
	ck_assert_uint_gt(e.n, 4);
	most = 0;
	for (size_t i = 0; i < e.n; i++)
		most = e.p[i] > most ? e.p[i] : most;
	assert_verdict(most - 1e-7, GUARD_OUTPUT, "why?", text, true, most);
	assert_verdict(most + 1e-7, GUARD_OUTPUT, "why?", text, false, most);
	free(text);
	assert_idle();
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
		struct moderation *m = moderation("model %s", name);
		struct expected e = expect(handle, m, GUARD_INPUT, "x", NULL);
		local_provider.unload(handle);
		struct judge_verdict v = verdict(m, GUARD_INPUT, "x", NULL);
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
	assert_idle();
}
END_TEST

START_TEST(judges_share_their_beginning_and_nobody_else_finds_it)
{
	struct moderation *m = moderation("model tiny");
	struct provider_prompt prompt;
	struct err err;
	struct said s;
	verdict(m, GUARD_INPUT, "a text of one user", NULL);
	assert_idle();
	struct model *model = gateway_model_find(h.g, "tiny");
	struct loaded *l = model_peek(model);
	ck_assert_ptr_nonnull(l);
	struct pieces p = {
		.moderation = m, .user = "words of another", .user_len = 16, .agent = ""};
	ck_assert_int_eq(pieces_next(&p, l->provider, l->handle, &prompt, &err), 0);
	say(l->handle, &prompt, (getuid() + 1ull) * 0x9E3779B97F4A7C15u, &s);
	ck_assert_uint_eq(s.cached_tok, 0);
	buf_free(&s.text);
	say(l->handle, &prompt, 0, &s);
	ck_assert_uint_gt(s.cached_tok, prompt.n_tok / 2); /* the rest of the form is behind it */
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
	struct moderation *m = moderation("model nobody");
	struct err err;
	struct judge_verdict v = verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(v.err.text, "nobody"));
	ck_assert_int_eq(gateway_model_create(h.g, "nobody", &err), 0);
	v = verdict(m, GUARD_INPUT, "x", NULL); /* it has no path */
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	struct model *model = gateway_model_find(h.g, "nobody");
	ck_assert_int_eq(model_setting_set(model, "path", path, strlen(path), &err), 0);
	v = verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert_int_eq(v.status, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(v.err.text, path));
	char garbage[128];
	snprintf(garbage, sizeof garbage, "%s/garbage.gguf", h.dir);
	FILE *f = fopen(garbage, "w");
	fputs("GGUF, or so it says, and a little more of it than a header", f);
	fclose(f);
	ck_assert_int_eq(model_setting_set(model, "path", garbage, strlen(garbage), &err), 0);
	v = verdict(m, GUARD_INPUT, "x", NULL);
	ck_assert(v.status == -EBADMSG || v.status == -ENOTSUP);
	model_put(model);
	moderation_put(m);
	assert_idle();
}
END_TEST

START_TEST(what_is_not_to_be_judged_is_refused)
{
	struct moderation *m = moderation("model tiny\nstages output"), *off = moderation("# off");
	struct asker a;
	struct err err;
	ck_assert_int_eq(try_ask(&a, m, GUARD_INPUT, "x", NULL, &err), -EINVAL);
	ck_assert_ptr_null(a.judge);
	ck_assert_int_eq(try_ask(&a, off, GUARD_OUTPUT, "x", "y", &err), -EINVAL);
	ck_assert_ptr_null(judge_cancel(NULL));
	moderation_put(m);
	moderation_put(off);
}
END_TEST

/* Prompts of 15,000 tokens: seconds of work. */
static struct moderation *slow_judge(unsigned timeout_ms, char **text)
{
	*text = long_text(4000);
	return moderation("model long\nthreshold 0.999999\ntimeout_ms %u\n", timeout_ms);
}

START_TEST(a_slow_judge_is_told_in_time_and_the_next_is_not_disturbed)
{
	char *text;
	struct moderation *m = slow_judge(60, &text), *other = moderation("model long");
	verdict(other, GUARD_INPUT, "loads it", NULL);
	uint64_t start = clock_mono_ns();
	struct judge_verdict v = verdict(m, GUARD_INPUT, text, NULL);
	uint64_t ms = (clock_mono_ns() - start) / 1000000;
	ck_assert_int_eq(v.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(v.err.text, "within 60 ms"));
	ck_assert_uint_ge(ms, 60);
	ck_assert_uint_lt(ms, 10000);
	v = verdict(other, GUARD_INPUT, "short", NULL);
	ck_assert_int_eq(v.status, 0);
	free(text);
	moderation_put(m);
	moderation_put(other);
	assert_idle();
}
END_TEST

START_TEST(those_that_wait_are_told_in_time_too)
{
	enum { N = JUDGE_RUNNING_MAX + 40 };
	static struct asker askers[N];
	char *text;
	struct moderation *m = slow_judge(300, &text);
	uint64_t start = clock_mono_ns();
	for (int i = 0; i < N; i++)
		ask(&askers[i], m, GUARD_INPUT, text, NULL);
	for (int i = 0; i < N; i++) {
		await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, -ETIMEDOUT);
	}
	ck_assert_uint_lt((clock_mono_ns() - start) / 1000000, 10000);
	assert_idle();
	for (int i = 0; i < N; i++)
		let_go(&askers[i]);
	free(text);
	moderation_put(m);
}
END_TEST

START_TEST(more_than_may_wait_are_refused_and_counted_out_again)
{
	enum { N = JUDGE_RUNNING_MAX + JUDGE_WAITING_MAX + 100 };
	struct asker *askers = calloc(N, sizeof *askers);
	struct moderation *m = moderation("model long\ntimeout_ms 600000");
	struct err err;
	int n = 0, r = 0;
	char *text = long_text(4000);
	struct text *t = text_new(text, strlen(text));
	for (; n < N; n++) {
		askers[n].g = h.g;
		sem_init(&askers[n].told, 0, 0);
		const struct judge_job job = {.g = h.g,
			.moderation = m,
			.stage = GUARD_INPUT,
			.user = t,
			.done = done,
			.arg = &askers[n]};
		r = judge_begin(&askers[n].judge, &job, &err);
		if (r < 0)
			break;
	}
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_int_ge(n, JUDGE_WAITING_MAX);
	for (int i = 0; i < n; i++)
		let_go(&askers[i]);
	assert_idle();
	m = moderation_put(m);
	m = moderation("model tiny");
	ck_assert_int_eq(verdict(m, GUARD_INPUT, "and now", NULL).status, 0);
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
	struct moderation *m = slow_judge(60000, &text);
	struct err err;
	for (int round = 0; round < 2; round++) {
		struct model *model = gateway_model_find(h.g, "long");
		for (int i = 0; i < N; i++)
			ask(&askers[i], m, GUARD_INPUT, i % 2 ? text : "short", NULL);
		usleep(round * 200000);
		if (round == 0)
			ck_assert_int_eq(model_ctl(model, "unload", 6, &err), 0);
		else
			ck_assert_int_eq(gateway_model_remove(h.g, "long", &err), 0);
		for (int i = 0; i < N; i++) {
			await(&askers[i]);
			int status = askers[i].verdict.status;
			ck_assert_msg(
				status == 0 || status == -ECANCELED || status == -EHOSTUNREACH,
				"%d", status);
			/* Whether those of round 0 began before the unload is chance. */
			if (round == 1 && i % 2)
				ck_assert_int_ne(status, 0);
			let_go(&askers[i]);
		}
		model_put(model);
	}
	ck_assert_int_eq(verdict(m, GUARD_INPUT, "x", NULL).status, -EHOSTUNREACH);
	free(text);
	moderation_put(m);
	assert_idle();
}
END_TEST

/* ---- many, cancels, the end ---- */

START_TEST(a_hundred_at_once_get_what_each_gets_alone)
{
	enum { N = 100 };
	static struct asker askers[N];
	static struct expected want[N];
	struct session *s = harness_session(&h, "other", "200");
	void *handle = load(h.model);
	char user[N][32];
	static struct hold hold;
	uint64_t running, waiting;
	int n_unsafe = 0, status;
	double mean = 0;
	struct moderation *any = moderation("model tiny");
	for (int i = 0; i < N; i++) {
		snprintf(user[i], sizeof user[i], "question %d", i * i);
		want[i] = expect(handle, any, GUARD_INPUT, user[i], NULL);
		mean += want[i].p[0] / N;
	}
	struct moderation *m = moderation("model tiny\nthreshold %.17f", mean);
	local_provider.unload(handle);
	harness_say(s, "something else in the same batch\n");
	hold_loop(&hold);
	for (int i = 0; i < N; i++)
		ask(&askers[i], m, GUARD_INPUT, user[i], NULL);
	gate_count(h.g->judges, &running, &waiting);
	ck_assert_uint_eq(running, JUDGE_RUNNING_MAX);
	ck_assert_uint_eq(waiting, N - JUDGE_RUNNING_MAX);
	sem_post(&hold.end);
	for (int i = 0; i < N; i++) {
		gate_count(h.g->judges, &running, &waiting);
		ck_assert_uint_le(running, JUDGE_RUNNING_MAX);
		await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, 0);
		ck_assert(fabs(askers[i].verdict.p - want[i].p[0]) < 1e-12);
		ck_assert_int_eq(askers[i].verdict.unsafe, want[i].p[0] >= m->threshold);
		n_unsafe += askers[i].verdict.unsafe;
		let_go(&askers[i]);
	}
	ck_assert(n_unsafe > 0 && n_unsafe < N);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, 0);
	session_put(s);
	moderation_put(any);
	moderation_put(m);
	assert_idle();
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

START_TEST(a_user_with_one_text_does_not_wait_for_all_of_another_user)
{
	enum { N = 2 * JUDGE_RUNNING_MAX + 100 };
	static struct asker askers[N + 1];
	static struct hold hold;
	struct moderation *m = moderation("model tiny\ntimeout_ms 600000");
	struct text *t = text_new("hello", 5);
	struct err err;
	atomic_store(&order, 0);
	hold_loop(&hold);
	for (int i = 0; i <= N; i++) {
		memset(&askers[i], 0, sizeof askers[i]);
		sem_init(&askers[i].told, 0, 0);
		askers[i].cancels_itself = i == N;
		const struct judge_job job = {.g = h.g,
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
		await(&askers[i]);
		ck_assert_int_eq(askers[i].verdict.status, 0);
		askers[i].judge = judge_cancel(askers[i].judge);
	}
	/* Those that ran already come before it, and as many that were let in beside it. */
	ck_assert_int_le(place_of_late_user, 2 * JUDGE_RUNNING_MAX);
	text_put(t);
	moderation_put(m);
	assert_idle();
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

static struct judge_verdict paid_verdict(struct moderation *m, const char *user)
{
	static const struct judge_payer payer = {purse_asked, purse_took};
	static struct asker a;
	struct err err;
	struct text *t = text_new(user, strlen(user));
	memset(&a, 0, sizeof a);
	sem_init(&a.told, 0, 0);
	a.g = h.g;
	const struct judge_job job = {.g = h.g,
		.moderation = m,
		.stage = GUARD_INPUT,
		.user = t,
		.done = done,
		.arg = &a,
		.payer = &payer,
		.payer_arg = &purse};
	ck_assert_int_eq(judge_begin(&a.judge, &job, &err), 0);
	await(&a);
	let_go(&a);
	text_put(t);
	return a.verdict;
}

START_TEST(each_piece_is_paid_for_before_it_is_asked_and_told_what_it_took)
{
	struct moderation *m = moderation("model tiny\nthreshold 1");
	char *text = long_text(1500);
	purse = (struct purse){.n_left = 1};
	ck_assert_int_eq(paid_verdict(m, "hello").status, 0);
	ck_assert_int_eq(purse.n_asked, 1);
	ck_assert_int_eq(purse.n_took, 1);
	ck_assert_str_eq(purse.model, "tiny");
	ck_assert_uint_eq(purse.took.prompt, purse.most_tok);
	ck_assert_uint_ge(purse.took.output, 1);
	uint64_t before = metrics_sum(h.g->metrics, METRICS_JUDGE_PROMPT_TOK);
	purse = (struct purse){.n_left = 1000};
	ck_assert_int_eq(paid_verdict(m, text).status, 0);
	ck_assert_int_gt(purse.n_asked, 1);
	ck_assert_int_eq(purse.n_took, purse.n_asked);
	ck_assert_uint_eq(
		metrics_sum(h.g->metrics, METRICS_JUDGE_PROMPT_TOK) - before, purse.took.prompt);
	moderation_put(m);
	free(text);
	assert_idle();
}
END_TEST

START_TEST(an_empty_purse_is_no_verdict_and_nothing_is_asked)
{
	struct moderation *m = moderation("model tiny\nthreshold 1\non_error allow");
	purse = (struct purse){0};
	struct judge_verdict v = paid_verdict(m, "hello");
	ck_assert_int_eq(v.status, -EDQUOT);
	ck_assert(v.unpaid);
	ck_assert_str_eq(v.err.text, "the purse is empty");
	ck_assert_int_eq(purse.n_took, 0);
	moderation_put(m);
	assert_idle();
}
END_TEST

START_TEST(cancelled_at_any_moment_it_tells_nothing_afterwards)
{
	struct moderation *m = moderation("model tiny\nthreshold 0.5");
	char *text = long_text(1500);
	unsigned seed = 4;
	int n_told = 0, n = 0;
	for (; n < 400; n++) {
		static struct asker askers[4];
		for (int i = 0; i < 4; i++)
			ask(&askers[i], m, i % 2 ? GUARD_INPUT : GUARD_OUTPUT, i == 3 ? text : "x",
				i == 2 ? text : "y");
		if (n % 100 == 10)
			await(&askers[3]); /* some are told, however slow they are */
		usleep(rand_r(&seed) % (n % 20 ? 3000 : 200000));
		for (int i = 0; i < 4; i++) {
			let_go(&askers[i]);
			n_told += atomic_load(&askers[i].n_told);
		}
		if (n % 100 == 50) {
			struct model *model = gateway_model_find(h.g, "tiny");
			model_ctl(model, "unload", 6, NULL);
			model_put(model);
		}
	}
	assert_idle();
	ck_assert_int_gt(n_told, 0);
	ck_assert_int_lt(n_told, 4 * n);
	free(text);
	moderation_put(m);
}
END_TEST

START_TEST(done_may_let_go_of_its_own_judge)
{
	struct moderation *m = moderation("model tiny");
	static struct asker askers[8];
	static struct hold hold;
	hold_loop(&hold);
	for (int i = 0; i < 8; i++) {
		ask(&askers[i], m, GUARD_INPUT, "x", NULL);
		askers[i].cancels_itself = true;
	}
	sem_post(&hold.end);
	for (int i = 0; i < 8; i++) {
		await(&askers[i]);
		ck_assert_ptr_null(askers[i].judge);
		ck_assert_int_eq(askers[i].verdict.status, 0);
	}
	assert_idle();
	moderation_put(m);
}
END_TEST

START_TEST(the_gateways_stop_ends_all_that_run_and_wait)
{
	enum { N = 150 };
	static struct asker askers[N];
	char *text;
	struct moderation *m = slow_judge(600000, &text);
	struct asker late;
	struct err err;
	for (int i = 0; i < N; i++)
		ask(&askers[i], m, GUARD_INPUT, text, NULL);
	usleep(300000); /* some are rendered, some computed, some wait */
	uint64_t start = clock_mono_ns();
	gateway_stop(h.g);
	ck_assert_int_eq(try_ask(&late, m, GUARD_INPUT, "x", NULL, &err), -ESHUTDOWN);
	for (int i = 0; i < N; i++) {
		await(&askers[i]);
		ck_assert_int_lt(askers[i].verdict.status, 0);
		if (i % 2)
			let_go(&askers[i]);
	}
	/* Others are let go of when the gateway is gone. */
	harness_close(&h);
	ck_assert_uint_lt((clock_mono_ns() - start) / 1000000, 10000);
	for (int i = 0; i < N; i += 2)
		let_go(&askers[i]);
	free(text);
	moderation_put(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("judge");
	TCase *t = tcase_create("judge");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 280);
	tcase_add_test(t, a_text_is_unsafe_when_the_first_word_is_so_likely);
	tcase_add_test(t, categories_are_those_that_the_model_names);
	tcase_add_test(t, a_text_longer_than_the_context_is_unsafe_when_a_piece_is);
	tcase_add_test(t, a_model_that_says_neither_word_gives_no_verdict);
	tcase_add_test(t, judges_share_their_beginning_and_nobody_else_finds_it);
	tcase_add_test(t, a_judge_that_is_missing_or_broken_is_told_as_such);
	tcase_add_test(t, what_is_not_to_be_judged_is_refused);
	tcase_add_test(t, a_slow_judge_is_told_in_time_and_the_next_is_not_disturbed);
	tcase_add_test(t, those_that_wait_are_told_in_time_too);
	tcase_add_test(t, more_than_may_wait_are_refused_and_counted_out_again);
	tcase_add_test(t, unloading_or_removing_the_model_ends_its_judges);
	tcase_add_test(t, a_hundred_at_once_get_what_each_gets_alone);
	tcase_add_test(t, a_user_with_one_text_does_not_wait_for_all_of_another_user);
	tcase_add_test(t, each_piece_is_paid_for_before_it_is_asked_and_told_what_it_took);
	tcase_add_test(t, an_empty_purse_is_no_verdict_and_nothing_is_asked);
	tcase_add_test(t, cancelled_at_any_moment_it_tells_nothing_afterwards);
	tcase_add_test(t, done_may_let_go_of_its_own_judge);
	tcase_add_test(t, the_gateways_stop_ends_all_that_run_and_wait);
	suite_add_tcase(s, t);
	return run_suite(s);
}
