/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that the cache may answer is one whose answer is determined: temperature 0, or a
 * session that says `all`. Its key has the conversation, the settings, what the model is, and the
 * fingerprint of the output guards: what is stored has passed exactly the guards that are in force,
 * so a hit needs no second pass, and when a rule changes nothing that was stored before is served.
 *
 * A request that is like one under way follows it: it reads the leader's answer as a reader does.
 * When the leader breaks off, the follower asks again and perhaps computes; what it has shown
 * already must then come out the same (answer_repeat), because no text is sent twice.
 */
#include "gateway/caching.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/digest.h"
#include "gateway/guards.h"
#include "gateway/outlet.h"
#include "gateway/paying.h"
#include "gateway/routing.h"
#include "gateway/session.h"
#include "gateway/stages.h"

/* A conversation that is longer is not looked for: its key would be hashed on the loop. */
static const size_t most_key_bytes = 256 << 10;
enum { KEY_ROOM = 2000 }; /* beside the prompt; most often enough, so that nothing is copied */

/* ---- the key ---- */

static int add_settings(struct buf *to, const struct settings *s)
{
	static const enum setting used[] = {SETTING_SYSTEM, SETTING_TEMPERATURE, SETTING_TOP_P,
		SETTING_TOP_K, SETTING_MIN_P, SETTING_REPETITION_PENALTY, SETTING_PRESENCE_PENALTY,
		SETTING_FREQUENCY_PENALTY, SETTING_MAX_TOKENS, SETTING_STOP, SETTING_SEED,
		SETTING_FORMAT, SETTING_IGNORE_EOS, SETTING_TRUNCATE, SETTING_MAX_COST,
		SETTING_PROMPT_BUDGET, SETTING_MAX_LATENCY_MS};
	int e = 0;
	for (size_t i = 0; e == 0 && i < sizeof used / sizeof *used; i++) {
		size_t len;
		const char *value = settings_get(s, used[i], &len);
		e = cache_key_field(to, settings_name(used[i]), value, len);
	}
	return e;
}

/* What a model is: a digest, as models/auto is all models, which would be most of each key. It is
 * the daemon's user who says what models are: nobody gains by two that have the same. 1: all of
 * that is not known, and what is was added. */
static int add_identity(struct buf *to, const char *name, struct model *m, const struct session *s)
{
	size_t at = to->len;
	struct digest d;
	int known = model_identity(m, s->id, to); /* behind the key, and off again */
	if (known >= 0)
		digest_of(&d, to->data + at, to->len - at, "", 0);
	to->len = at;
	int e = known < 0 ? known : cache_key_field(to, name, (const char *)&d, sizeof d);
	return e ? e : known;
}

/* Why it is not known what the model's name stands for. 1. */
static int say_unknown(const char *name, const struct model *m, struct err *why)
{
	if (m)
		return err_set(why, 1,
			"the model %s is not loaded: what would answer is not known yet",
			model_name(m));
	if (!strcmp(name, "default"))
		return err_set(why, 1, "models/default names no model that is there");
	return err_set(why, 1, "there is no model %s", name);
}

/* What the model's name stands for now; 1: that is not known. */
static int add_model(
	struct buf *to, const struct session *s, const struct settings *settings, struct err *why)
{
	size_t len;
	const char *name = settings_get(settings, SETTING_MODEL, &len);
	struct model *m = gateway_model_find(s->g, name);
	int e = m ? add_identity(to, "model", m, s) : 1;
	if (e == 1)
		say_unknown(name, m, why);
	model_put(m);
	return e;
}

/* The judge of answers, as its name may stand for another one by now. */
static int add_judge(struct buf *to, const struct session *s, struct err *why)
{
	struct moderation *judge = NULL;
	int e = guards_judge(s->g->guards, GUARD_OUTPUT, &judge, why) < 0 ? 1 : 0;
	struct model *m = e == 0 && judge ? gateway_model_find(s->g, judge->model) : NULL;
	if (e == 0)
		e = m ? add_identity(to, "judge", m, s) : cache_key_field(to, "judge", "", 0);
	if (m && e == 1)
		e = 0; /* it is loaded when it is asked; what it was set to is in the key */
	model_put(m);
	moderation_put(judge);
	return e;
}

static int add_turns(struct buf *to, struct session *s, bool *alone)
{
	int e = 0;
	pthread_mutex_lock(&s->lock);
	const struct conversation *c = &s->conversation;
	*alone = true;
	for (size_t i = 0; e == 0 && !s->ask && i < c->n; i++) {
		const struct turn *t = &c->turns[i];
		if (t->state == TURN_RUNNING)
			continue; /* its own */
		*alone = false;
		e = cache_key_field(to, "user", t->user->bytes, t->user->len);
		if (e == 0 && t->assistant)
			e = cache_key_field(
				to, "assistant", t->assistant->bytes, t->assistant->len);
	}
	pthread_mutex_unlock(&s->lock);
	return e;
}

/* Only what is determined is, unless the session says that it may be any. */
static bool is_cached(const struct settings *s)
{
	size_t len;
	const char *use = settings_get(s, SETTING_CACHE, &len);
	return strcmp(use, "off") &&
	       (!strcmp(use, "all") || settings_real(s, SETTING_TEMPERATURE) <= 0);
}

bool caching_is_near(const struct session *s)
{
	return is_cached(&s->settings) && (s->ask || !s->conversation.n);
}

int caching_ask(struct cache_ask *out, struct session *s, const struct settings *settings,
	struct text *prompt, const char *user, uid_t uid, uint64_t guards_age, struct err *why)
{
	size_t system_len;
	*out = (struct cache_ask){0};
	settings_get(settings, SETTING_SYSTEM, &system_len);
	pthread_mutex_lock(&s->lock);
	size_t bytes = s->ask ? prompt->len : s->conversation.settled_bytes + prompt->len;
	pthread_mutex_unlock(&s->lock);
	if (!is_cached(settings))
		return err_set(why, 1, "such answers are drawn anew each time");
	if (bytes + system_len > most_key_bytes)
		return err_set(why, 1, "it is too long: more than %zu KiB", most_key_bytes >> 10);
	int e = buf_reserve(&out->key, prompt->len + KEY_ROOM);
	e = e ? e
	      : cache_key_field(&out->key, "guards", (const char *)&guards_age, sizeof guards_age);
	e = e ? e : add_settings(&out->key, settings);
	e = e ? e : add_model(&out->key, s, settings, why);
	e = e ? e : add_judge(&out->key, s, why);
	e = e ? e : add_turns(&out->key, s, &out->semantic);
	out->scope_len = out->key.len;
	e = e ? e : cache_key_field(&out->key, "prompt", prompt->bytes, prompt->len);
	out->user = user;
	out->uid = uid;
	out->prompt = prompt->bytes;
	out->prompt_len = prompt->len;
	out->store = true;
	return e;
}

bool caching_knows(struct session *s, struct text *prompt, const char *user, uid_t uid)
{
	struct cache_ask ask = {0};
	struct settings settings = {0};
	struct err err;
	uint64_t guards_age;
	if (guards_stage(s->g->guards, GUARD_OUTPUT, NULL, NULL, &guards_age, &err) < 0)
		return false;
	pthread_mutex_lock(&s->lock);
	settings_copy(&settings, &s->settings);
	pthread_mutex_unlock(&s->lock);
	bool knows = caching_ask(&ask, s, &settings, prompt, user, uid, guards_age, NULL) == 0 &&
		     cache_knows(s->g->cache, &ask);
	cache_ask_free(&ask);
	settings_clear(&settings);
	return knows;
}

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
	if (stages_is_over(r) || (is_cached(&r->settings) && caching_wait_begin(r)))
		return;
	struct err err;
	int e = guards_stage(r->g->guards, GUARD_OUTPUT, NULL, NULL, &r->guards_age, &err);
	if (e < 0) { /* closed: what was stored is not served either */
		routing_begin(r);
		return;
	}
	e = caching_ask(
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
