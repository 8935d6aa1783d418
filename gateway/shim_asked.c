/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompts asked over HTTP, and their answers, whole or as a stream of events. Each choice of each
 * prompt is a run of its own; all begin at once, and their texts come as they come.
 *
 * The head of a stream waits for its first event, so that what is refused, blocked or cannot be
 * reached is told by a status as it is without a stream. What goes wrong after that is an event,
 * and no end is told. An answer that a guard has cut ends with "content_filter", where there was
 * any of it.
 *
 * A stream is made when libmicrohttpd asks for bytes: of each run all that is there, one event,
 * until a few pages are full. So a client that reads slowly holds a few pages and a place in each
 * answer, and nobody else.
 *
 * In the thread of the call's connection.
 */
#include "gateway/shim_asked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/shim_asked_parts.h"
#include "gateway/shim_refuse.h"

enum { RUNS_MAX = 256 };

/* ---- asking ---- */

static int open_session(struct shim_call *c, const struct shim_asked *a, unsigned choice,
	struct session **out, struct err *err)
{
	struct session *s = NULL;
	int r = gateway_chat_open(c->shim->g, a->model, c->uid, &s, err);
	/* Who brings the conversation cuts it as well. Without one (a system text is one turn) what
	 * a session has is kept, so that it shares cached answers with those. */
	if (r == 0 && a->ask.n_turns > 1)
		r = session_setting_set(s, "truncate", "off", 3, err);
	for (size_t i = 0; r == 0 && i < a->ask.n_settings; i++) {
		const struct shim_setting *set = &a->ask.settings[i];
		char seed[24];
		const char *value = set->value;
		size_t len = set->len;
		if (choice && strcmp(set->file, "seed") == 0) {
			snprintf(seed, sizeof seed, "%" PRIu64,
				((uint64_t)strtoull(value, NULL, 10) + choice) & INT64_MAX);
			value = seed;
			len = strlen(seed);
		}
		r = session_setting_set(s, set->file, value, len, err);
	}
	if (r == 0 && a->ask.n_turns)
		r = session_turns_set(s, a->ask.turns, a->ask.n_turns, err);
	if (r < 0)
		s = session_put(s);
	*out = s;
	return r;
}

static int ask_one(struct shim_call *c, struct shim_asked *a, size_t i, struct err *err)
{
	const struct shim_text *prompt = &a->ask.prompts[i / a->ask.n];
	struct session *s;
	int r = open_session(c, a, (unsigned)(i % a->ask.n), &s, err);
	return r ? r : shim_run_ask(&a->runs[i].run, c, s, prompt->text, prompt->len, err);
}

/* 1: all are asked; 0: one was refused, and a reply is queued. */
static int ask_all(struct shim_call *c, struct shim_asked *a)
{
	struct err err = {0};
	int r = 0;
	size_t i;
	for (i = 0; r == 0 && i < a->n; i++)
		r = ask_one(c, a, i, &err);
	if (r < 0) {
		shim_asked_note(c, &a->runs[i - 1].run);
		return shim_call_fail(c, r, err.text);
	}
	return 1;
}

void shim_asked_note(struct shim_call *c, const struct shim_run *r)
{
	if (!c->request_id)
		c->request_id = r->outcome.id;
	if (r->outcome.retry_ms)
		c->retry_ms = r->outcome.retry_ms;
}

/* ---- its life ---- */

static int step(struct shim_call *c)
{
	struct shim_asked *a = c->state;
	return a->ask.stream ? shim_asked_stream(c, a) : shim_asked_whole(c, a);
}

static void end(struct shim_call *c)
{
	struct shim_asked *a = c->state;
	for (size_t i = 0; i < a->n; i++)
		shim_run_end(&a->runs[i].run);
}

static void free_asked(void *state)
{
	struct shim_asked *a = state;
	for (size_t i = 0; i < a->n; i++) {
		shim_run_free(&a->runs[i].run);
		buf_free(&a->runs[i].text);
	}
	free(a->runs);
	free(a->resolved);
	buf_free(&a->out);
	shim_ask_free(&a->ask);
	free(a);
}

static const struct shim_work work = {step, end, free_asked};

/* What is the same in all that is said of it. */
static void begin_head(struct shim_call *c, struct shim_asked *a, enum shim_kind kind)
{
	struct session_outcome o = {0};
	session_outcome(a->runs[0].run.session, &o);
	c->request_id = o.id;
	snprintf(a->id, sizeof a->id, "%s-%" PRIu64, kind == SHIM_CHAT ? "chatcmpl" : "cmpl", o.id);
	a->head = (struct shim_head){
		kind, a->id, a->ask.model, (int64_t)(clock_real_ns() / 1000000000ULL)};
}

/* 0; 1: a reply is queued; < 0. */
static int prepare(struct shim_call *c, struct shim_asked *a)
{
	int r = shim_refuse_model(c, a->ask.model, &a->model, &a->resolved);
	if (r)
		return r;
	size_t n = a->ask.n_prompts * a->ask.n;
	if (n > RUNS_MAX) {
		r = shim_call_fail(c, -EINVAL,
			"prompts times n are more than 256 choices: ask in several requests");
		return r < 0 ? r : 1;
	}
	r = shim_refuse_many(c, n);
	if (r)
		return r;
	a->runs = calloc(n, sizeof *a->runs);
	a->n = a->runs ? n : 0;
	return a->runs ? 0 : -ENOMEM;
}

static int begin(struct shim_call *c, enum shim_kind kind)
{
	struct shim_fault fault = {0};
	struct shim_asked *a = calloc(1, sizeof *a);
	if (!a)
		return -ENOMEM;
	c->work = &work;
	c->state = a;
	const char *json = c->body.data ? c->body.data : "";
	int r = kind == SHIM_CHAT ? shim_request_chat(&a->ask, json, c->body.len, &fault)
				  : shim_request_completion(&a->ask, json, c->body.len, &fault);
	if (r == -EINVAL)
		return shim_refuse_fault(c, &fault);
	r = r ? r : prepare(c, a);
	if (r)
		return r < 0 ? r : 0;
	r = ask_all(c, a);
	if (r == 1)
		begin_head(c, a, kind);
	return r;
}

int shim_asked_chat(struct shim_call *c)
{
	return begin(c, SHIM_CHAT);
}

int shim_asked_completion(struct shim_call *c)
{
	return begin(c, SHIM_COMPLETION);
}
