/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain and lookup show what would become of a prompt that a session with all defaults asks: they
 * decide and look with the same functions as a request, and stop there.
 *
 * A vector is a model's work like an answer: it is paid for by the tokens of its text. What these
 * can be at most is claimed while the text is written, and started when the model is asked; the
 * vector is held (request.held) until that is stored, and then what the model says that it used is
 * charged. When it cannot say so any more, because it was given up, all that was claimed is. That
 * of lookup, like that by which the cache looks for a prompt, is a part of the claim
 * (paying_lookups).
 */
#include "gateway/channels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/caching_key.h"
#include "gateway/guards.h"
#include "gateway/paying.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"
#include "gateway/verdict.h"

static const uint64_t embedding_timeout_ms = 60000;

bool channels_is_dry(enum gateway_channel channel)
{
	return channel == GATEWAY_GUARD_TEST || channel == GATEWAY_EXPLAIN ||
	       channel == GATEWAY_LOOKUP;
}

/* Ends the request with that text, or with the status. Frees out. */
static void answer(struct request *r, struct buf *out, int e)
{
	if (e == 0)
		e = answer_append(r->answer, out->data, out->len);
	buf_free(out);
	pthread_mutex_lock(&r->session->lock);
	if (e == 0)
		request_settle(r, REQUEST_DONE, 0, "", true);
	else
		request_settle(r, REQUEST_FAILED, e, "out of memory", true);
	pthread_mutex_unlock(&r->session->lock);
	stages_post(r);
}

/* ---- embed ---- */

static int render_vector(const float *vector, size_t dim, struct buf *out)
{
	int e = buf_append_str(out, "[");
	for (size_t i = 0; e == 0 && i < dim; i++)
		e = buf_printf(out, "%s%.9g", i ? ", " : "", (double)vector[i]);
	return e ? e : buf_append_str(out, "]\n");
}

/* The vector is there and paid for. */
static void show_vector(struct request *r)
{
	struct buf out = r->held;
	r->held = (struct buf){0};
	pthread_mutex_lock(&r->session->lock);
	r->times.released_ns = clock_mono_ns();
	pthread_mutex_unlock(&r->session->lock);
	stages_answer(r, out.data, out.len);
	buf_free(&out);
}

/* On the loop, as the model is asked. */
static int embedding_begins(void *arg, struct model *m, uint64_t tok, struct err *err)
{
	struct request *r = arg;
	pthread_mutex_lock(&r->session->lock);
	r->times.running_ns = clock_mono_ns();
	pthread_mutex_unlock(&r->session->lock);
	return paying_start_embedding(r, m, tok, err);
}

/* What is charged is what the model said; nothing when it could not; but when it was given up, what
 * was claimed: it may have been computed. With the session's lock held. */
static void take_usage(struct request *r, int status, const struct trace_usage *usage)
{
	bool given_up = status == -ETIMEDOUT || status == -ECANCELED;
	if (!r->over && (usage->prompt_tok || !given_up))
		r->usage = r->attempt_usage = *usage;
	r->times.first_ns = r->times.generated_ns = clock_mono_ns();
}

static void embedded(void *arg, int status, const char *sentence, const float *vector, size_t dim,
	const struct trace_usage *usage)
{
	struct request *r = arg;
	struct err err;
	r->embedding = embedding_cancel(r->embedding);
	pthread_mutex_lock(&r->session->lock);
	take_usage(r, status, usage);
	pthread_mutex_unlock(&r->session->lock);
	if (stages_is_over(r)) {
		stages_post(r);
	} else if (status < 0) {
		err_set(&err, status, "%s", sentence);
		/* A provider's full queue is told as a model's full gate is. */
		stages_fail(r, status == -EAGAIN ? -EBUSY : status, &err);
	} else if (render_vector(vector, dim, &r->held) < 0) {
		stages_fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
	} else if (!r->with_lease) {
		show_vector(r);
	}
}

void channels_advance(struct request *r, const struct request_news *box)
{
	struct err err = {0};
	if (!box->leased)
		return;
	if (box->leased_status < 0) {
		paying_why_not_leased(r, &err);
		stages_fail(r, box->leased_status, &err);
	} else if (r->held.len) {
		show_vector(r);
	}
}

static void embed(struct request *r)
{
	struct err err;
	size_t len;
	const char *name = settings_get(&r->settings, SETTING_MODEL, &len);
	r->stage = STAGE_CHANNEL;
	pthread_mutex_lock(&r->session->lock);
	memcpy(r->model_name, name, len);
	r->model_name[len] = '\0';
	pthread_mutex_unlock(&r->session->lock);
	const struct embedding_ask ask = {
		.model = r->model_name,
		.text = r->prompt->bytes,
		.len = r->prompt->len,
		.uid = r->uid,
		.timeout_ms = embedding_timeout_ms,
		.begins = embedding_begins,
		.done = embedded,
		.arg = r,
	};
	int e = embedding_begin(&r->embedding, r->g, &ask, &err);
	if (e < 0)
		stages_fail(r, e, &err);
}

/* ---- explain ---- */

static void explain(struct request *r)
{
	struct router_decision *d = NULL;
	struct buf out = {0};
	struct err err = {0};
	char arm[TEXT_NAME_SIZE];
	session_arm(r->session, r->prompt, arm);
	struct router_ask ask = {
		.model = ROUTER_AUTO,
		.text = r->prompt->bytes,
		.len = r->prompt->len,
		.prompt_tok = r->prompt->len / 4 + 16,
		.max_tokens = settings_integer(&r->settings, SETTING_MAX_TOKENS),
		.capabilities = ROUTER_CHAT,
		.session = arm, /* as models/auto/ask and HTTP have it */
	};
	int e = routing_decide_for(r, &ask, explain, &d, &err);
	if (e == 1)
		return;
	if (d)
		e = router_decision_json(d, &out);
	router_decision_free(d);
	answer(r, &out, e);
}

/* ---- lookup ---- */

static void look(struct request *r, const float *vector, size_t dim, const char *why)
{
	struct cache_ask ask;
	struct buf out = {0};
	struct err not_cached = {0};
	uint64_t age = guards_fingerprint(r->g->guards, GUARD_OUTPUT);
	int e = caching_key_make(
		&ask, r->session, &r->settings, r->prompt, r->user, r->uid, age, &not_cached);
	if (e >= 0)
		e = e ? cache_lookup(r->g->cache, NULL, NULL, 0, not_cached.text, &out)
		      : cache_lookup(r->g->cache, &ask, vector, dim, why, &out);
	cache_ask_free(&ask);
	answer(r, &out, e);
}

static void looked_up(void *arg, int status, const char *sentence, const float *vector, size_t dim,
	const struct trace_usage *usage)
{
	struct request *r = arg;
	r->embedding = embedding_cancel(r->embedding);
	cache_count_embedding(r->g->cache, usage->prompt_tok);
	paying_lookups.took(r, status, usage);
	if (stages_is_over(r))
		stages_post(r);
	else
		look(r, status == 0 ? vector : NULL, dim, sentence);
}

static void lookup(struct request *r)
{
	struct buf model = {0};
	struct err err = {0};
	r->stage = STAGE_CHANNEL;
	paying_start_ticket(r);
	int e = cache_setting_get(r->g->cache, "embedding_model", &model);
	e = e ? e : buf_append(&model, "", 1);
	const struct embedding_ask ask = {
		.model = model.data,
		.text = r->prompt->bytes,
		.len = r->prompt->len,
		.uid = r->uid,
		.timeout_ms = embedding_timeout_ms,
		.begins = paying_lookups.begins,
		.done = looked_up,
		.arg = r,
	};
	if (e == 0 && *model.data)
		e = embedding_begin(&r->embedding, r->g, &ask, &err);
	else
		e = err_set(&err, -ENOENT, "cache/embedding_model is not set");
	buf_free(&model);
	if (e < 0)
		look(r, NULL, 0, err.text);
}

void channels_begin(struct request *r)
{
	switch (r->session->channel) {
	case GATEWAY_GUARD_TEST:
		verdict_begin(r);
		break;
	case GATEWAY_EXPLAIN:
		explain(r);
		break;
	case GATEWAY_LOOKUP:
		lookup(r);
		break;
	case GATEWAY_EMBED:
		embed(r);
		break;
	case GATEWAY_ASK:
		break;
	}
}
