/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request moves through its stages on the loop's thread:
 *
 *	QUEUED -> JUDGE -> CACHE -> GATE -> MODEL -> RENDER -> GENERATE -> STORE -> RELEASED
 *	                     |       ^                           |
 *	                     |       +---------- NEXT <----------+
 *	                     +-> FOLLOW -> STORE
 *
 * Where router/ names models to be asked, CLASS is before GATE, and WEIGH between GENERATE and what
 * follows it.
 *
 * Each stage begins something and returns; whoever ends it (the judge, the cache, the loader, the
 *thread for texts, the engine, the store) notes it in the inbox and posts the request, and the
 *machine looks again. It lets go when nobody can write into the inbox any more.
 *
 * NEXT is where a request goes whose model could not: fallback, or a cascade's next step
 *(routing.c).
 *
 * When the conversation is rendered, the claim is made exact (it may be refused here, after the
 *write that was only an estimate), and then started: its record is on its way to the store while
 *the prompt is computed. Text goes through the outlet, which releases it once its tokens are
 *leased.
 *
 * A turn is stored when it starts, now and then while it is generated (as far as readers got it),
 * and when it is settled; the end of an answer is told once that is written.
 */
#include "gateway/stages.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/attempt.h"
#include "gateway/caching.h"
#include "gateway/channels.h"
#include "gateway/classing.h"
#include "gateway/judge.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/prompt_judge.h"
#include "gateway/routing.h"
#include "gateway/session.h"

void stages_post(struct request *r)
{
	request_ref(r);
	if (!loop_post(r->g->loop, &r->work))
		request_put(r);
}

/* ---- ends ---- */

static void settle(struct request *r, enum request_state state, int code, const char *sentence)
{
	pthread_mutex_lock(&r->session->lock);
	request_settle(r, state, code, sentence, true);
	pthread_mutex_unlock(&r->session->lock);
}

void stages_fail(struct request *r, int code, const struct err *err)
{
	enum request_state state = code == -ECANCELED ? REQUEST_CANCELLED
				   : code == -EPERM   ? REQUEST_BLOCKED
						      : REQUEST_FAILED;
	settle(r, state, code, err->text);
}

void stages_refuse(struct request *r, int code, const struct err *err)
{
	pthread_mutex_lock(&r->session->lock);
	r->refused = true;
	pthread_mutex_unlock(&r->session->lock);
	stages_fail(r, code, err);
}

bool stages_is_over(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	pthread_mutex_unlock(&r->session->lock);
	return over;
}

struct guards_subject stages_subject(const struct request *r)
{
	return (struct guards_subject){r->uid, r->user, r->session->id, r->id};
}

/* ---- STORE ---- */

static void stored(struct store_waiter *w, int status)
{
	struct request *r = list_entry(w, struct request, after);
	pthread_mutex_lock(&r->inbox->lock);
	r->inbox->news.stored = true;
	r->inbox->news.stored_status = status;
	pthread_mutex_unlock(&r->inbox->lock);
	stages_post(r);
	request_put(r);
}

/* It is as good as done: from now on no cancel ends it. False: one has. */
static bool finish_it(struct request *r, const char *finish, bool *store)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	if (!over) {
		r->finish = finish;
		r->finishing = true;
		*store = (r->in_turn && session_is_stored(r->session)) || r->claim;
		r->state = REQUEST_DONE; /* what the turn becomes */
		request_charge(r, "done");
		request_settle_turn(r);
		request_count(r); /* in the same write */
		r->state = *store ? REQUEST_GENERATING : REQUEST_DONE;
	}
	pthread_mutex_unlock(&r->session->lock);
	return !over;
}

void stages_after_store(struct request *r, struct store_waiter *w)
{
	request_ref(r);
	store_after(r->g->store, w);
	loop_post(r->g->loop, &r->g->stored_work);
}

void stages_store(struct request *r, const char *finish)
{
	bool store = false;
	struct err err;
	if (answer_is_short(r->answer)) {
		stages_fail(r, answer_fault(-EBADE, &err), &err);
		return;
	}
	if (!finish_it(r, finish, &store))
		return;
	answer_set_finish(r->answer, finish);
	caching_land(r, finish);
	if (store) {
		r->stage = STAGE_STORE;
		r->with_store = true;
		stages_after_store(r, &r->after);
	} else {
		settle(r, REQUEST_DONE, 0, "");
	}
}

static void store_ended(struct request *r, int status)
{
	struct err err = {0};
	if (status == 0) {
		settle(r, REQUEST_DONE, 0, "");
		return;
	}
	if (store_state(r->g->store, &err) == 0)
		err_set(&err, status, "the answer could not be stored");
	settle(r, REQUEST_FAILED, status, err.text);
}

void stages_answer(struct request *r, const char *text, size_t len)
{
	if (answer_append(r->answer, text, len) < 0) {
		struct err err;
		stages_fail(r, err_set(&err, -ENOMEM, "out of memory"), &err);
		return;
	}
	stages_store(r, "stop");
}

/* ---- the machine ---- */

/* What the inbox had when the machine looked. */
static void take_inbox(struct request *r, struct request_news *out)
{
	struct request_inbox *box = r->inbox;
	pthread_mutex_lock(&box->lock);
	*out = box->news;
	box->news.text = (struct buf){0};
	box->news.told = box->news.leased = box->news.admitted = false;
	pthread_mutex_unlock(&box->lock);
	r->with_texts = r->with_texts && !out->rendered;
	r->with_provider = r->with_provider && !out->ended;
	r->with_store = r->with_store && !out->stored;
	if (out->leased)
		paying_leased(r, out);
}

static void advance(struct request *r, struct request_news *box)
{
	switch (r->stage) {
	case STAGE_GATE:
	case STAGE_MODEL:
	case STAGE_RENDER:
	case STAGE_GENERATE:
		attempt_advance(r, box);
		break;
	case STAGE_CACHE:
		if (r->asks_again)
			caching_begin(r);
		break;
	case STAGE_CHANNEL:
		channels_advance(r, box);
		break;
	case STAGE_STORE:
		if (box->stored)
			store_ended(r, box->stored_status);
		break;
	case STAGE_NEXT:
	case STAGE_QUEUED:
	case STAGE_JUDGE:
	case STAGE_CLASS:
	case STAGE_WEIGH:
	case STAGE_FOLLOW:
	case STAGE_RELEASED:
		break;
	}
	if (r->stage == STAGE_NEXT && !stages_is_over(r))
		routing_advance(r);
}

/* The model that it was assigned to by a split. new reference, or NULL. */
static struct model *arm_of(struct request *r)
{
	const struct router_decision *d = r->decision;
	return d && *d->arm ? gateway_model_find(r->g, d->arm) : NULL;
}

/* With the session's lock held. */
static void record(struct request *r, struct model *arm)
{
	struct trace_record c = {
		.id = r->id,
		.real_ns = clock_real_ns(),
		.uid = r->uid,
		.status = request_state_word(r),
		.finish = r->finish,
		.code = r->code,
		.times = r->times,
		.usage = r->usage,
		.cost = r->cost,
	};
	memcpy(c.session, r->session->id, sizeof c.session);
	memcpy(c.model, r->model_name, sizeof c.model);
	trace_add(r->g->trace, &c);
	metrics_add(r->g->metrics, &c);
	if (arm)
		model_arm_add(arm, &c);
}

/* Lets go of everything but what views show. */
static void release(struct request *r)
{
	struct session *s = r->session;
	struct gateway *g = gateway_ref(r->g);
	r->stage = STAGE_RELEASED;
	r->judge = judge_cancel(r->judge);
	r->moderation = moderation_put(r->moderation);
	classing_leave(r);
	r->embedding = embedding_cancel(r->embedding);
	attempt_leave(r, request_state_word(r), r->code);
	struct model *arm = arm_of(r);
	pthread_mutex_lock(&s->lock);
	if (!channels_is_dry(s->channel))
		record(r, arm);
	r->inbox = request_inbox_free(r->inbox);
	settings_clear(&r->settings);
	if (!r->refused || r->prompt->len > REQUEST_KEPT_MAX)
		r->prompt = text_put(r->prompt);
	r->session = NULL;
	pthread_mutex_unlock(&s->lock);
	model_put(arm);
	session_put(s);
	gateway_idle(g);
	gateway_put(g);
}

/* It is over, or its text has ended before the model: whoever works for it may stop. */
static void stop_others(struct request *r)
{
	int code;
	struct err err;
	bool over = stages_is_over(r);
	bool ended = over || (r->outlet && outlet_ended(r->outlet, &code, &err));
	if (over) {
		r->judge = judge_cancel(r->judge);
		r->embedding = embedding_cancel(r->embedding);
		r->outlet = outlet_free(r->outlet);
		caching_leave(r);
	}
	if (ended)
		attempt_stop(r);
	if (over && !r->with_store && !r->with_leader && !attempt_is_busy(r))
		release(r);
}

static void run(struct loop_work *work)
{
	struct request *r = list_entry(work, struct request, work);
	struct store *store = r->g->store;
	store_begin(store); /* what this step changes is one group */
	if (r->stage != STAGE_RELEASED) {
		struct request_news box;
		take_inbox(r, &box);
		if (!stages_is_over(r))
			advance(r, &box);
		stop_others(r);
		buf_free(&box.text);
	}
	request_put(r);
	store_end(store);
}

void stages_init(struct request *r)
{
	r->after.done = stored;
	r->work.run = run;
	list_init(&r->work.link);
	attempt_init(r);
	paying_init(r);
}

void stages_judged(struct request *r)
{
	if (r->session->channel == GATEWAY_EMBED)
		channels_begin(r);
	else
		caching_begin(r);
}

void stages_start(struct request *r)
{
	pthread_mutex_lock(&r->session->lock);
	bool over = r->over;
	r->times.started_ns = clock_mono_ns();
	r->checkpoint_ns = r->times.started_ns;
	pthread_mutex_unlock(&r->session->lock);
	if (over)
		return;
	if (channels_is_dry(r->session->channel))
		channels_begin(r);
	else
		prompt_judge_begin(r);
}
