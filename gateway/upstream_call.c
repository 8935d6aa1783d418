/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call: one request or one batch of embeddings, from the moment it is asked to its one end.
 *
 *	submit -> try -> (no byte of the answer: wait -> try ...) -> end
 *
 * It is made on any thread and carried on the loop's. What other threads want of it (that it
 *begins, that it is cancelled) is a flag and posted work; so are ends that are found inside a
 *callback of http, where no other request may be begun. The table of calls holds a reference until
 *the end is told, and each posted work another, so that work that is still queued then finds memory
 *and sees `over`.
 *
 * Telling the end is the last thing that a call does with its handle: whoever hears it may let go
 *of the handle.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/upstream_call.h"

enum {
	CALLS_MAX = 100000,
	MAX_CANDIDATES = 4,
};

/* ---- the object ---- */

struct upstream_call *upstream_call_ref(struct upstream_call *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

/* Without a look at the handle, which may be gone. */
void upstream_call_put(struct upstream_call *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	buf_free(&c->body);
	buf_free(&c->text);
	buf_free(&c->reply);
	free(c->texts);
	free(c);
}

void upstream_call_post(struct upstream_call *c)
{
	upstream_call_ref(c);
	if (!loop_post(c->u->loop, &c->work))
		upstream_call_put(c);
}

static struct list *chain_of(struct upstream *u, uint64_t id)
{
	return &u->calls[id % UPSTREAM_CHAINS];
}

static uint64_t draw(struct upstream *u)
{
	u->random ^= u->random << 13;
	u->random ^= u->random >> 7;
	u->random ^= u->random << 17;
	return u->random >> 11;
}

/* ---- the end ---- */

static struct trace_usage usage_so_far(const struct upstream_call *c, bool *estimated)
{
	struct trace_usage usage = c->answer.usage;
	*estimated = false;
	/* Who is told of candidates may go away at once, and pays for the prompt. */
	if (!c->text_bytes && !c->told_candidates && !c->answer.has_usage)
		return usage;
	if (!c->answer.has_usage || !usage.prompt_tok) {
		usage.prompt_tok = c->n_prompt_tok;
		*estimated = true;
	}
	/* Until its end, an upstream says little or nothing of these. */
	bool known = c->answer.complete && c->answer.has_usage && usage.output_tok;
	if (!known && usage.output_tok < c->text_tok) {
		usage.output_tok = c->text_tok;
		*estimated = true;
	}
	return usage;
}

static void tell(
	struct upstream_call *c, enum provider_event_kind kind, const struct upstream_ending *end)
{
	bool estimated;
	struct provider_event e = {
		.kind = kind,
		.finish = "",
		.usage = usage_so_far(c, &estimated),
		.candidate_p = c->answer.candidate_p,
		.n_candidates = c->request.n_candidates,
		.mean_logprob = NAN,
	};
	if (kind == PROVIDER_TEXT) {
		e.text = c->text.data;
		e.len = c->text.len;
	} else if (kind == PROVIDER_END) {
		e.status = end->code;
		e.text = end->err.text;
		e.len = strlen(end->err.text);
		e.finish = c->cut ? "length" : c->answer.finish;
		e.retryable = end->code && (end->retryable || end->elsewhere) && !c->text_bytes;
		e.retry_after_ms = end->retry_after_ms;
		e.estimated = estimated;
		if (c->answer.n_logprob)
			e.mean_logprob =
				(float)(c->answer.sum_logprob / (double)c->answer.n_logprob);
	}
	c->request.event(c->request.arg, &e);
}

void upstream_call_tell(struct upstream_call *c, enum provider_event_kind kind)
{
	tell(c, kind, NULL);
}

/* Gives the replica back. hold_ms: it asked all to leave it alone for so long. */
static void leave_replica(
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

static void no_answer(struct upstream_call *c)
{
	c->answer = (struct protocol_answer){.finish = ""};
	for (size_t i = 0; i < MAX_CANDIDATES; i++)
		c->answer.candidate_p[i] = NAN;
}

static void drop_try(struct upstream_call *c)
{
	c->http = http_cancel(c->http);
	c->reader = c->u->protocol->reader_free(c->reader);
	c->broke = false;
	buf_clear(&c->text);
	buf_clear(&c->reply);
}

/* Out of the table: nobody finds it any more. */
static void unlist(struct upstream_call *c)
{
	pthread_mutex_lock(&c->u->lock);
	list_remove(&c->link);
	c->u->n_calls--;
	pthread_mutex_unlock(&c->u->lock);
}

/* vectors: NULL unless they were asked for and are there. */
static void end_call(struct upstream_call *c, const struct upstream_ending *end,
	const float *vectors, size_t dim, const struct trace_usage *usage)
{
	static const struct trace_usage nothing;
	if (c->over)
		return;
	c->over = true;
	loop_disarm(c->u->loop, &c->timer);
	leave_replica(c, end, 0);
	drop_try(c);
	unlist(c);
	if (c->embeds)
		c->embed.done(c->embed.arg, end->code, end->err.text, vectors, dim,
			usage ? usage : &nothing);
	else
		tell(c, PROVIDER_END, end);
	upstream_call_put(c);
}

void upstream_call_finish(struct upstream_call *c, const struct upstream_ending *end)
{
	end_call(c, end, NULL, 0, NULL);
}

void upstream_call_give(
	struct upstream_call *c, const float *vectors, size_t dim, const struct trace_usage *usage)
{
	const struct upstream_ending end = {.outcome = UPSTREAM_OK, .end = BREAKER_SUCCESS};
	end_call(c, &end, vectors, dim, usage);
}

static void finish_cancelled(struct upstream_call *c)
{
	struct upstream_ending end = {
		.code = -ECANCELED, .outcome = UPSTREAM_CANCELLED, .end = BREAKER_NEITHER};
	err_set(&end.err, 0, "cancelled");
	upstream_call_finish(c, &end);
}

/* Servers that had not a word for what another one has answered. */
static void blame_silent(struct upstream_call *c)
{
	static const char reason[] = "it ended an answer without a word that another server had";
	struct upstream *u = c->u;
	uint64_t now = clock_mono_ns();
	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < u->replicas.n; i++) {
		if (!(c->silent & 1u << i) || i == c->pick.replica)
			continue;
		breaker_leave(&u->replicas.list[i].breaker, BREAKER_ADMITTED, BREAKER_FAILURE, now);
		memcpy(u->servers[i].failure, reason, sizeof reason);
	}
	pthread_mutex_unlock(&u->lock);
}

void upstream_call_done(struct upstream_call *c)
{
	const struct upstream_ending end = {.outcome = UPSTREAM_OK, .end = BREAKER_SUCCESS};
	if (c->silent && !c->over)
		blame_silent(c);
	upstream_call_finish(c, &end);
}

/* ---- failures ---- */

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
	uint64_t left_ms = c->deadline_ns == UINT64_MAX ? UINT64_MAX
			   : c->deadline_ns > now       ? (c->deadline_ns - now) / 1000000
							: 0;
	int r = -ECANCELED;
	if (!(c->last.retryable || c->last.another) || c->text_bytes || c->n_retries >= u->retries)
		return r;
	pthread_mutex_lock(&u->lock);
	bool another = has_another(c, now);
	/* Of one whose breaker has just opened there is no use, nor in waiting once more as long
	 * for the same server. */
	uint64_t then = now + c->last.retry_after_ms * 1000000;
	bool same = c->last.retryable && c->last.outcome != UPSTREAM_TIMEOUT;
	if (another || (same && replicas_can(&u->replicas, then)))
		r = retry_wait(c->n_retries, draw(u), another ? 0 : c->last.retry_after_ms, left_ms,
			wait_ms, why);
	if (r == 0 && !retry_budget_take(&u->budget, now))
		r = err_set(why, -EBUSY, "too many requests are being tried again already");
	if (r == 0)
		u->n_retries++;
	pthread_mutex_unlock(&u->lock);
	return r;
}

/* This try has failed, as c->last says. */
void upstream_call_failed(struct upstream_call *c)
{
	uint64_t wait_ms = 0;
	struct err why = {0}, sentence = c->last.err;
	uint64_t hold_ms = c->last.retryable ? c->last.retry_after_ms : 0;
	leave_replica(c, &c->last, hold_ms < RETRY_AFTER_MAX_MS ? hold_ms : RETRY_AFTER_MAX_MS);
	drop_try(c);
	if (may_retry(c, &wait_ms, &why) == 0) {
		c->n_retries++;
		no_answer(c);
		if (loop_arm(c->u->loop, &c->timer, clock_mono_ns() + wait_ms * 1000000))
			return;
		err_set(&why, 0, "llmfs is stopping");
	}
	if (*why.text)
		err_set(&c->last.err, 0, "%s; %s", sentence.text, why.text);
	upstream_call_finish(c, &c->last);
}

/* ---- trying ---- */

static uint64_t left_ms(const struct upstream_call *c)
{
	uint64_t now = clock_mono_ns();
	if (c->deadline_ns == UINT64_MAX)
		return 0;
	return c->deadline_ns > now + 1000000 ? (c->deadline_ns - now) / 1000000 : 1;
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
		.total_ms = left_ms(c),
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

static void try(struct upstream_call *c)
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
	if (!c->started && !c->embeds)
		upstream_call_tell(c, PROVIDER_STARTED);
	c->started = true;
}

static void begin(struct upstream_call *c)
{
	uint64_t now = clock_mono_ns();
	c->begun = true;
	c->deadline_ns = c->u->total_ms ? now + c->u->total_ms * 1000000 : UINT64_MAX;
	pthread_mutex_lock(&c->u->lock);
	retry_budget_request(&c->u->budget, now);
	pthread_mutex_unlock(&c->u->lock);
	try(c);
}

static void run(struct loop_work *work)
{
	struct upstream_call *c = list_entry(work, struct upstream_call, work);
	bool cancelled = false;
	if (!c->over) {
		pthread_mutex_lock(&c->u->lock);
		cancelled = c->cancelled;
		pthread_mutex_unlock(&c->u->lock);
		if (cancelled)
			finish_cancelled(c);
		else if (!c->begun)
			begin(c);
		else if (c->broke)
			upstream_call_failed(c);
		else if (c->cut)
			upstream_call_done(c);
	}
	upstream_call_put(c);
}

/* The back-off is over; or the answer is complete and the server does not hang up. */
static void timer_is_due(struct loop_timer *timer)
{
	struct upstream_call *c = list_entry(timer, struct upstream_call, timer);
	upstream_call_ref(c);
	if (c->answer.complete)
		upstream_call_done(c);
	else
		try(c);
	upstream_call_put(c);
}

/* ---- the door ---- */

static struct upstream_call *make(struct upstream *u)
{
	struct upstream_call *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->u = u;
	list_init(&c->link);
	list_init(&c->work.link);
	c->work.run = run;
	list_init(&c->timer.link);
	c->timer.run = timer_is_due;
	no_answer(c);
	return c;
}

/* Steals c, which has a body. */
static int list_call(struct upstream_call *c, uint64_t *id, struct err *err)
{
	struct upstream *u = c->u;
	pthread_mutex_lock(&u->lock);
	bool room = u->n_calls < CALLS_MAX;
	if (room) {
		c->id = ++u->next_id;
		*id = c->id;
		list_append(chain_of(u, c->id), &c->link);
		u->n_calls++;
	}
	/* Under the lock: from then on it may end, and be freed. */
	bool posted = room && loop_post(u->loop, &upstream_call_ref(c)->work);
	if (room && !posted) {
		list_remove(&c->link);
		u->n_calls--;
		upstream_call_put(c);
	}
	pthread_mutex_unlock(&u->lock);
	if (posted)
		return 0;
	upstream_call_put(c);
	return room ? err_set(err, -ESHUTDOWN, "llmfs is stopping")
		    : err_set(err, -EAGAIN, "%d requests are under way already", CALLS_MAX);
}

/* One block for all of them: pointers, then bytes. */
static int copy_texts(struct upstream_call *c, const struct provider_request *q)
{
	size_t n = q->n_stop + q->n_candidates, bytes = 0;
	for (size_t i = 0; i < n; i++)
		bytes += strlen(i < q->n_stop ? q->stop[i] : q->candidates[i - q->n_stop]) + 1;
	c->texts = malloc((n + 1) * sizeof *c->texts + bytes);
	if (!c->texts)
		return -ENOMEM;
	char *at = (char *)(c->texts + n + 1);
	for (size_t i = 0; i < n; i++) {
		const char *from = i < q->n_stop ? q->stop[i] : q->candidates[i - q->n_stop];
		size_t len = strlen(from) + 1;
		c->texts[i] = memcpy(at, from, len);
		at += len;
	}
	c->request.stop = c->texts;
	c->request.candidates = c->texts + q->n_stop;
	return 0;
}

int upstream_submit(void *handle, const struct provider_request *q, uint64_t *id, struct err *err)
{
	struct upstream *u = handle;
	const struct upstream_prompt *prompt = q->prompt->data;
	struct upstream_call *c = make(u);
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->request = *q;
	c->request.prompt = NULL;
	c->affinity = prompt->affinity;
	c->n_prompt_tok = prompt->n_tok;
	const struct protocol_ask ask = {.model = u->remote_name,
		.messages = prompt->json,
		.request = q,
		.wants_logprobs = q->wants_logprob || q->n_candidates};
	c->body.max = (size_t)256 << 20;
	int r = copy_texts(c, q);
	if (r < 0)
		err_set(err, r, "out of memory");
	r = r ? r : u->protocol->chat_body(&c->body, &ask, err);
	if (r < 0) {
		upstream_call_put(c);
		return r;
	}
	return list_call(c, id, err);
}

void upstream_cancel(void *handle, uint64_t id)
{
	struct upstream *u = handle;
	pthread_mutex_lock(&u->lock);
	list_for_each (link, chain_of(u, id)) {
		struct upstream_call *c = list_entry(link, struct upstream_call, link);
		if (c->id != id)
			continue;
		c->cancelled = true;
		upstream_call_post(c);
		break;
	}
	pthread_mutex_unlock(&u->lock);
}

int upstream_embed(void *handle, const struct provider_embed *q, uint64_t *id, struct err *err)
{
	struct upstream *u = handle;
	if (!u->protocol->embed_path)
		return err_set(err, -ENOTSUP, "models/%s: protocol %s has no embeddings", u->model,
			u->protocol->name);
	struct upstream_call *c = make(u);
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->embeds = true;
	c->embed = *q;
	c->embed.texts = NULL;
	c->embed.lens = NULL;
	c->body.max = (size_t)256 << 20;
	for (size_t i = 0; i < q->n; i++)
		c->n_prompt_tok += protocol_estimate_tok(q->texts[i], q->lens[i]);
	int r = u->protocol->embed_body(&c->body, u->remote_name, q, err);
	if (r < 0) {
		upstream_call_put(c);
		return r;
	}
	return list_call(c, id, err);
}
