/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call: one request or one batch of embeddings, from the moment it is asked to its one end.
 *
 *	submit -> try -> (no byte of the answer: wait -> try ...) -> end
 *
 * It is made on any thread and carried on the loop's, by upstream_try.c. What other threads want of
 * it (that it begins, that it is cancelled) is a flag and posted work; so are ends that are found
 * inside a callback of http, where no other request may be begun. The table of calls holds a
 * reference until the end is told, and each posted work another, so that work that is still queued
 * then finds memory and sees `over`.
 *
 * Telling the end is the last thing that a call does with its handle: whoever hears it may let go
 * of the handle.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/upstream_call.h"

enum { CALLS_MAX = 100000 };

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
	uint64_t text_tok = known ? 0 : upstream_answer_tok(c);
	if (usage.output_tok < text_tok) {
		usage.output_tok = text_tok;
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
		e.retryable = end->code && (end->retryable || end->elsewhere) && !c->given_bytes;
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
	upstream_try_leave(c, end, 0);
	upstream_try_drop(c);
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
	if (!c->over && !upstream_answer_is_good(c)) {
		upstream_try_failed(c);
		return;
	}
	if (c->silent && !c->over)
		blame_silent(c);
	upstream_call_finish(c, &end);
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
			upstream_try_first(c);
		else if (c->broke)
			upstream_try_failed(c);
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
		upstream_try(c);
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
	upstream_try_clear(c);
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
