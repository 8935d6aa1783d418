/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tries of a call, one after another: a server is chosen, the request sent to it, and, where
 * nothing of an answer came, it is decided whether there is another try, when, and at which server;
 * the call's timer is that wait. Which servers were asked is remembered for the whole call, what
 * came of one only until the next begins.
 *
 * What comes back of a try is upstream_answer.c's; how long is waited, and how many may be tried
 * again, are retry.c's.
 *
 * Thread: the loop's. The handle's lock is held for what all calls share: replicas and counts.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/upstream_call.h"

enum { MAX_CANDIDATES = 4 };

/* ---- the beginning ---- */

/* Until its deadline; UINT64_MAX: it has none. */
static uint64_t left_ms(const struct upstream_call *c, uint64_t now)
{
	if (c->deadline_ns == UINT64_MAX)
		return UINT64_MAX;
	return c->deadline_ns > now ? (c->deadline_ns - now) / 1000000 : 0;
}

/* The same as http has it, for which 0 is none. */
static uint64_t total_ms(const struct upstream_call *c)
{
	uint64_t left = left_ms(c, clock_mono_ns());
	return left == UINT64_MAX ? 0 : left ? left : 1;
}

static void body_released(void *arg)
{
	upstream_call_put(arg);
}

static int begin_http(struct upstream_call *c, struct err *err)
{
	const struct upstream *u = c->u;
	const struct upstream_server *s = &u->servers[c->pick.replica];
	const struct http_request q = {
		.url = c->embeds ? s->embed_url : s->chat_url,
		.method = "POST",
		.headers = u->headers,
		.body = c->body.data,
		.body_len = c->body.len,
		.released = body_released,
		.connect_ms = u->connect_ms,
		.first_ms = u->first_ms,
		.idle_ms = u->idle_ms,
		.total_ms = total_ms(c),
		.max_bytes = upstream_answer_most(c),
		.proxy = u->proxy,
		.ca = u->ca,
		.data = upstream_answer_data,
		.done = upstream_answer_done,
		.arg = c,
	};
	int r = http_begin(&c->http, u->http, &q, err);
	if (r == 0) /* its body is lent; longer than the call may be */
		upstream_call_ref(c);
	return r;
}

/* No server can be asked: what the last try said, if there was one. */
static void nobody(struct upstream_call *c, int code, uint64_t wait_ms, const struct err *why)
{
	if (!c->last.code) {
		upstream_answer_set_last(c, code,
			code == -EBUSY ? UPSTREAM_BUSY : UPSTREAM_UNREACHABLE, BREAKER_NEITHER,
			true);
		c->last.retry_after_ms = wait_ms;
		c->last.err = *why;
	}
	upstream_call_finish(c, &c->last);
}

void upstream_try(struct upstream_call *c)
{
	struct upstream *u = c->u;
	struct err err = {0};
	uint64_t now = clock_mono_ns(), wait_ms = 0;
	int r = 0;
	pthread_mutex_lock(&u->lock);
	c->picked = replicas_choose(&u->replicas, c->affinity, c->tried, now, &c->pick) == 0;
	if (c->picked)
		u->n_flying++;
	else
		r = upstream_why_not(u, now, &wait_ms, &err);
	pthread_mutex_unlock(&u->lock);
	if (!c->picked) {
		nobody(c, r, wait_ms, &err);
		return;
	}
	c->tried |= 1u << c->pick.replica;
	r = begin_http(c, &err);
	if (r < 0) { /* of ours: a URL that is none, no memory, no descriptors */
		c->http = NULL;
		upstream_answer_set_last(c, r == -ENOMEM ? r : -EHOSTUNREACH, UPSTREAM_UNREACHABLE,
			BREAKER_NEITHER, false);
		c->last.elsewhere = r != -ENOMEM;
		err_set(&c->last.err, 0, "models/%s: %s", u->model, err.text);
		upstream_call_finish(c, &c->last);
		return;
	}
	if (!c->embeds)
		upstream_call_tell(c, PROVIDER_STARTED);
}

void upstream_try_first(struct upstream_call *c)
{
	uint64_t now = clock_mono_ns();
	c->begun = true;
	c->deadline_ns = c->u->total_ms ? now + c->u->total_ms * 1000000 : UINT64_MAX;
	pthread_mutex_lock(&c->u->lock);
	retry_budget_request(&c->u->budget, now);
	pthread_mutex_unlock(&c->u->lock);
	upstream_try(c);
}

/* ---- what is left of one ---- */

void upstream_try_leave(
	struct upstream_call *c, const struct upstream_ending *how, uint64_t hold_ms)
{
	struct upstream *u = c->u;
	struct upstream_server *s = &u->servers[c->pick.replica];
	if (!c->picked)
		return;
	c->picked = false;
	pthread_mutex_lock(&u->lock);
	uint64_t now = clock_mono_ns();
	replicas_done(&u->replicas, &c->pick, how->end, now);
	if (hold_ms)
		replicas_hold(&u->replicas, c->pick.replica, now + hold_ms * 1000000);
	s->outcomes[how->outcome]++;
	if (how->end == BREAKER_FAILURE)
		memcpy(s->failure, how->reason, sizeof s->failure);
	u->n_flying--;
	pthread_mutex_unlock(&u->lock);
}

void upstream_try_clear(struct upstream_call *c)
{
	c->answer = (struct protocol_answer){.finish = ""};
	c->json = (struct upstream_json){0};
	c->no_json = false;
	for (size_t i = 0; i < MAX_CANDIDATES; i++)
		c->answer.candidate_p[i] = NAN;
}

void upstream_try_drop(struct upstream_call *c)
{
	c->http = http_cancel(c->http);
	c->reader = c->u->protocol->reader_free(c->reader);
	c->broke = false;
	buf_clear(&c->text);
	buf_clear(&c->reply);
}

/* ---- again, or the end ---- */

static uint64_t draw(struct upstream *u)
{
	u->random ^= u->random << 13;
	u->random ^= u->random >> 7;
	u->random ^= u->random << 17;
	return u->random >> 11;
}

/* Whether a server that this request was not sent to could take it. */
static bool has_another(const struct upstream_call *c, uint64_t now)
{
	const struct replicas *r = &c->u->replicas;
	for (size_t i = 0; i < r->n; i++)
		if (!(c->tried & 1u << i) && replicas_can_take(&r->list[i], now))
			return true;
	return false;
}

/* 0 and when; or why not: < 0 with a sentence, or without one. */
static int may_retry(struct upstream_call *c, uint64_t *wait_ms, struct err *why)
{
	struct upstream *u = c->u;
	uint64_t now = clock_mono_ns();
	int r = -ECANCELED;
	if (!(c->last.retryable || c->last.another) || c->given_bytes || c->n_retries >= u->retries)
		return r;
	pthread_mutex_lock(&u->lock);
	bool another = has_another(c, now);
	/* Of one whose breaker has just opened there is no use, nor in waiting once more as long
	 * for the same server. */
	uint64_t then = now + c->last.retry_after_ms * 1000000;
	bool same = c->last.retryable && c->last.outcome != UPSTREAM_TIMEOUT;
	if (another || (same && replicas_can(&u->replicas, then)))
		r = retry_wait(c->n_retries, draw(u), another ? 0 : c->last.retry_after_ms,
			left_ms(c, now), wait_ms, why);
	if (r == 0 && !retry_budget_take(&u->budget, now))
		r = err_set(why, -EBUSY, "too many requests are being tried again already");
	if (r == 0)
		u->n_retries++;
	pthread_mutex_unlock(&u->lock);
	return r;
}

void upstream_try_failed(struct upstream_call *c)
{
	uint64_t wait_ms = 0;
	struct err why = {0}, sentence = c->last.err;
	uint64_t hold_ms = c->last.retryable ? c->last.retry_after_ms : 0;
	upstream_try_leave(
		c, &c->last, hold_ms < RETRY_AFTER_MAX_MS ? hold_ms : RETRY_AFTER_MAX_MS);
	upstream_try_drop(c);
	if (may_retry(c, &wait_ms, &why) == 0) {
		c->n_retries++;
		upstream_try_clear(c);
		if (loop_arm(c->u->loop, &c->timer, clock_mono_ns() + wait_ms * 1000000))
			return;
		err_set(&why, 0, "llmfs is stopping");
	}
	if (*why.text)
		err_set(&c->last.err, 0, "%s; %s", sentence.text, why.text);
	upstream_call_finish(c, &c->last);
}
