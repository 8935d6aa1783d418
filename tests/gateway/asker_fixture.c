/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/asker_fixture.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/model.h"
#include "gateway/pieces.h"

struct harness asker_h;

void asker_open(void)
{
	harness_make(&asker_h, 0);
	harness_open(&asker_h);
}

void asker_close(void)
{
	harness_end(&asker_h);
}

struct moderation *asker_moderation(const char *format, ...)
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

void asker_done(void *arg, const struct judge_verdict *v)
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

int asker_try(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent, struct err *err)
{
	struct text *t = text_new(user, strlen(user));
	memset(a, 0, sizeof *a);
	sem_init(&a->told, 0, 0);
	a->g = asker_h.g;
	const struct judge_job job = {
		.g = asker_h.g,
		.moderation = m,
		.stage = stage,
		.user = t,
		.agent = agent,
		.agent_len = agent ? strlen(agent) : 0,
		.done = asker_done,
		.arg = a,
	};
	int r = judge_begin(&a->judge, &job, err);
	text_put(t);
	return r;
}

void asker_ask(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent)
{
	struct err err = {0};
	int r = asker_try(a, m, stage, user, agent, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

void asker_await(struct asker *a)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 120;
	ck_assert_msg(sem_timedwait(&a->told, &until) == 0, "no verdict within two minutes");
}

void asker_let_go(struct asker *a)
{
	a->judge = judge_cancel(a->judge);
	atomic_store(&a->gone, true);
	ck_assert_int_le(atomic_load(&a->n_told), 1);
}

struct judge_verdict asker_verdict(
	struct moderation *m, enum guard_stage stage, const char *user, const char *agent)
{
	static struct asker a;
	asker_ask(&a, m, stage, user, agent);
	asker_await(&a);
	asker_let_go(&a);
	ck_assert_int_eq(atomic_load(&a.n_told), 1);
	return a.verdict;
}

static void wait_for_end(struct loop_work *work)
{
	struct hold *hold = list_entry(work, struct hold, work);
	while (sem_wait(&hold->end) < 0)
		;
}

void asker_hold_loop(struct hold *hold)
{
	list_init(&hold->work.link);
	hold->work.run = wait_for_end;
	sem_init(&hold->end, 0, 0);
	ck_assert(loop_post(asker_h.g->loop, &hold->work));
}

static uint64_t all_in_gates(void)
{
	uint64_t running, waiting, n = 0;
	struct gate *const gates[] = {asker_h.g->judges, asker_h.g->questions[QUESTION_QUALITY],
		asker_h.g->questions[QUESTION_CLASS]};
	for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
		gate_count(gates[i], &running, &waiting);
		n += running + waiting;
	}
	return n;
}

void asker_assert_idle(void)
{
	for (int i = 0; i < 60000 && all_in_gates() > 0; i++)
		usleep(1000);
	ck_assert_uint_eq(all_in_gates(), 0);
}

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

void asker_say(void *handle, const struct provider_prompt *prompt, uint64_t salt, struct said *s)
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

void *asker_load(const char *path)
{
	struct provider_config config = {.path = path, .n_threads = 1, .kv_bytes = 16 << 20};
	struct err err = {0};
	void *handle = NULL;
	int r = local_provider.load(&handle, &config, NULL, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return handle;
}

struct expected asker_expect(void *handle, struct moderation *m, enum guard_stage stage,
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
		ck_assert_uint_lt(e.n, ASKER_PIECES_MAX);
		asker_say(handle, &prompt, 99, &s);
		e.share[e.n] = (double)s.p[0] + (double)s.p[1];
		e.p[e.n] = (double)s.p[1] / e.share[e.n];
		buf_free(&s.text);
		free(prompt.data);
	}
	ck_assert_msg(r == 1, "%s", err.text);
	return e;
}

char *asker_long_text(size_t n)
{
	struct buf text = {0};
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%zu%s ", i * 7919 % 1000, i % 3 ? "tea" : "x");
	return text.data;
}

struct moderation *asker_slow_judge(unsigned timeout_ms, char **text)
{
	*text = asker_long_text(4000);
	return asker_moderation("model long\nthreshold 0.999999\ntimeout_ms %u\n", timeout_ms);
}
