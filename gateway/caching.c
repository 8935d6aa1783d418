/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was stored has passed the guards that are in force (caching_key.c), and is given as it is.
 *
 * A request that is like one under way follows it: it reads the leader's answer as a reader does.
 * When the leader breaks off, the follower asks again and perhaps computes; what it has shown
 * already must then come out the same (answer_repeat), because no text is sent twice.
 */
#include "gateway/caching.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/caching_key.h"
#include "gateway/guards.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"

/* ---- an answer that is there ---- */

/* What the answer would cost now. */
static void count_saved(struct request *r, const struct cache_found *found)
{
	size_t len;
	struct money_price price;
	struct model *m = gateway_model_find(r->g, settings_get(&r->settings, SETTING_MODEL, &len));
	if (!m)
		return;
	model_price(m, &price);
	model_put(m);
	cache_saved(
		r->g->cache, money_cost(&price, &(struct money_tokens){.prompt = found->prompt_tok,
							.output = found->output_tok}));
}

static void serve(struct request *r, const struct cache_found *found)
{
	struct err err;
	pthread_mutex_lock(&r->session->lock);
	r->served_by = found->level;
	r->times.running_ns = r->times.first_ns = r->times.released_ns = clock_mono_ns();
	r->times.generated_ns = r->times.first_ns;
	pthread_mutex_unlock(&r->session->lock);
	paying_start_free(r);
	count_saved(r, found);
	int e = answer_append(r->answer, found->text->bytes, found->text->len);
	if (e < 0)
		stages_fail(r, answer_fault(e, &err), &err);
	else
		stages_store(r, *found->finish == 'l' ? "length" : "stop");
}

/* ---- an answer that is under way ---- */

/* On the loop: the leader's answer has grown. */
static void leader_woke(void *arg)
{
	struct request *r = arg;
	r->with_leader = false;
	if (r->stage == STAGE_FOLLOW && !stages_is_over(r))
		caching_follow(r);
	stages_post(r);
	request_put(r);
}

static void stop_following(struct request *r)
{
	if (r->with_leader && answer_unwait(r->leader, r->leader_id)) {
		r->with_leader = false;
		request_put(r);
	}
	r->leader = answer_put(r->leader);
}

static bool is_only_the_leaders(int code)
{
	return code == -ECANCELED || code == -EDQUOT || code == -EBUSY || code == -ENOMEM ||
	       code == -EIO;
}

/* The leader's answer broke off. What was a fault of the prompt, or of all models, is the
 * follower's fate too; a leader that was cancelled, or could not pay, is only replaced. */
static void leader_ended(struct request *r, int code)
{
	struct err err;
	const char *finish = answer_finish(r->leader);
	stop_following(r);
	r->ticket = cache_drop(r->ticket);
	if (code == 0) {
		stages_store(r, finish);
	} else if (is_only_the_leaders(code)) {
		/* Its machine, which is posted too, lets go of its ticket first. */
		answer_repeat(r->answer);
		r->stage = STAGE_CACHE;
		r->asks_again = true;
		stages_post(r);
	} else {
		err_set(&err, code,
			"an equal request, whose answer this one was to share, ended so: %s",
			strerror(-code));
		stages_fail(r, code, &err);
	}
}

/* What it has shown is not how the leader's answer begins. */
static void differs(struct request *r, int code)
{
	struct err err;
	stop_following(r);
	r->ticket = cache_drop(r->ticket);
	stages_fail(r, answer_fault(code, &err), &err);
}

/* 1: it has more to come; else how it ended. *fault: it could not be taken. */
static int take_more(struct request *r, int *fault)
{
	char bytes[16384];
	size_t n = 0;
	int code;
	while ((code = answer_peek(r->leader, r->leader_at, bytes, sizeof bytes, &n)) == 0 && n) {
		pthread_mutex_lock(&r->session->lock);
		if (!r->times.first_ns)
			r->times.first_ns = r->times.released_ns = clock_mono_ns();
		pthread_mutex_unlock(&r->session->lock);
		r->leader_at += n;
		*fault = answer_append(r->answer, bytes, n);
		if (*fault < 0)
			return 0;
	}
	return code;
}

void caching_follow(struct request *r)
{
	int code, fault = 0;
	while ((code = take_more(r, &fault)) == 1) {
		/* Registered until it has grown; or it has meanwhile. */
		if (answer_wait(r->leader, r->leader_at, leader_woke, request_ref(r),
			    &r->leader_id) == 0) {
			r->with_leader = true;
			pthread_mutex_lock(&r->session->lock);
			session_poke(r->session, SESSION_CHAT_GREW);
			pthread_mutex_unlock(&r->session->lock);
			return;
		}
		request_put(r);
	}
	if (fault < 0)
		differs(r, fault);
	else
		leader_ended(r, code);
}

static void follow(struct request *r, const struct cache_found *found)
{
	pthread_mutex_lock(&r->session->lock);
	r->served_by = CACHE_FLIGHT;
	r->times.running_ns = clock_mono_ns();
	if (r->state == REQUEST_QUEUED && !r->over) {
		r->state = REQUEST_GENERATING;
		session_event(r->session, "generating", r);
	}
	pthread_mutex_unlock(&r->session->lock);
	paying_start_free(r);
	r->stage = STAGE_FOLLOW;
	r->leader = found->leader;
	/* What this one has shown already came from the leader before. */
	bool ended;
	r->leader_at = 0;
	if (answer_size(r->answer, &ended))
		answer_repeat(r->answer);
	caching_follow(r);
}

/* ---- looking ---- */

static void found(struct request *r, const struct cache_found *f)
{
	switch (f->outcome) {
	case CACHE_HIT:
		serve(r, f);
		text_put(f->text);
		break;
	case CACHE_FOLLOW:
		follow(r, f);
		break;
	case CACHE_MISS:
		pthread_mutex_lock(&r->session->lock);
		r->served_by = 0;
		pthread_mutex_unlock(&r->session->lock);
		routing_begin(r);
		break;
	}
}

/* On the loop, later. */
static void found_later(void *arg, const struct cache_found *f)
{
	struct request *r = arg;
	if (stages_is_over(r)) {
		text_put(f->text);
		answer_put(f->leader);
	} else {
		found(r, f);
	}
	stages_post(r);
}

/* For the ledger and the trace, should the cache answer. */
static void name_model(struct request *r)
{
	size_t len;
	struct model *m = gateway_model_find(r->g, settings_get(&r->settings, SETTING_MODEL, &len));
	if (!m)
		return;
	pthread_mutex_lock(&r->session->lock);
	memcpy(r->model_name, model_name(m), strlen(model_name(m)) + 1);
	pthread_mutex_unlock(&r->session->lock);
	model_put(m);
}

void caching_begin(struct request *r)
{
	struct cache_ask ask;
	struct cache_found f = {0};
	r->stage = STAGE_CACHE;
	r->asks_again = false;
	if (stages_is_over(r) || (caching_key_is_wanted(&r->settings) && caching_wait_begin(r)))
		return;
	struct err err;
	int e = guards_stage(r->g->guards, GUARD_OUTPUT, NULL, NULL, &r->guards_age, &err);
	if (e < 0) { /* closed: what was stored is not served either */
		routing_begin(r);
		return;
	}
	e = caching_key_make(
		&ask, r->session, &r->settings, r->prompt, r->user, r->uid, r->guards_age, NULL);
	if (e != 0) {
		cache_ask_free(&ask);
		routing_begin(r);
		return;
	}
	name_model(r);
	ask.payer = &paying_lookups;
	ask.payer_arg = r;
	e = cache_begin(&r->ticket, r->g->cache, &ask, r->answer, &f, found_later, r);
	cache_ask_free(&ask);
	if (e == 0)
		found(r, &f);
}

/* ---- its end ---- */

/* Whether another request of this key may have this answer: not one that is what was left after a
 * failure, nor one that a judge has changed or not seen. */
static bool is_of_its_key(const struct request *r)
{
	return !r->served_by && !r->is_makeshift && !(r->outlet && outlet_is_makeshift(r->outlet));
}

void caching_land(struct request *r, const char *finish)
{
	struct text *text = r->ticket && is_of_its_key(r) ? answer_seal(r->answer, false) : NULL;
	if (text)
		r->ticket = cache_land(
			r->ticket, text, finish, r->usage.prompt_tok, r->usage.output_tok);
	else
		r->ticket = cache_drop(r->ticket);
	text_put(text);
}

void caching_check_guards(struct request *r)
{
	if (r->ticket && r->outlet && outlet_guards(r->outlet) != r->guards_age)
		r->ticket = cache_drop(r->ticket);
}

void caching_leave(struct request *r)
{
	caching_wait_end(r);
	stop_following(r);
	r->ticket = cache_drop(r->ticket);
}
