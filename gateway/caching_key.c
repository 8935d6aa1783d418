/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that the cache may answer is one whose answer is determined: temperature 0, or a
 * session that says `all`. Its key has the conversation, the settings, what the model is, and the
 * fingerprint of the output guards: what is stored has passed exactly the guards that are in force,
 * so a hit needs no second pass, and when a rule changes nothing that was stored before is served.
 */
#include "gateway/caching_key.h"

#include <errno.h>
#include <string.h>

#include "gateway/digest.h"
#include "gateway/guards.h"
#include "gateway/session.h"

/* A conversation that is longer is not looked for: its key would be hashed on the loop. */
static const size_t most_key_bytes = 256 << 10;
enum { KEY_ROOM = 2000 }; /* beside the prompt; most often enough, so that nothing is copied */

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
static int add_identity(struct buf *to, const char *name, struct model *m, const char *arm)
{
	size_t at = to->len;
	struct digest d;
	int known = model_identity(m, arm, to); /* behind the key, and off again */
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
static int add_model(struct buf *to, const struct session *s, const struct settings *settings,
	const char *arm, struct err *why)
{
	size_t len;
	const char *name = settings_get(settings, SETTING_MODEL, &len);
	struct model *m = gateway_model_find(s->g, name);
	int e = m ? add_identity(to, "model", m, arm) : 1;
	if (e == 1)
		say_unknown(name, m, why);
	model_put(m);
	return e;
}

/* The judge of answers, as its name may stand for another one by now. */
static int add_judge(struct buf *to, const struct session *s, const char *arm, struct err *why)
{
	struct moderation *judge = NULL;
	int e = guards_judge(s->g->guards, GUARD_OUTPUT, &judge, why) < 0 ? 1 : 0;
	struct model *m = e == 0 && judge ? gateway_model_find(s->g, judge->model) : NULL;
	if (e == 0)
		e = m ? add_identity(to, "judge", m, arm) : cache_key_field(to, "judge", "", 0);
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
	for (size_t i = 0; e == 0 && !s->alone && i < c->n; i++) {
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

bool caching_key_is_wanted(const struct settings *s)
{
	size_t len;
	const char *use = settings_get(s, SETTING_CACHE, &len);
	return strcmp(use, "off") &&
	       (!strcmp(use, "all") || settings_real(s, SETTING_TEMPERATURE) <= 0);
}

bool caching_key_allows_near(const struct session *s)
{
	return caching_key_is_wanted(&s->settings) && (s->alone || !s->conversation.n);
}

int caching_key_make(struct cache_ask *out, struct session *s, const struct settings *settings,
	struct text *prompt, const char *user, uid_t uid, uint64_t guards_age, struct err *why)
{
	size_t system_len;
	char arm[TEXT_NAME_SIZE];
	*out = (struct cache_ask){0};
	settings_get(settings, SETTING_SYSTEM, &system_len);
	pthread_mutex_lock(&s->lock);
	size_t bytes = s->alone ? prompt->len : s->conversation.settled_bytes + prompt->len;
	pthread_mutex_unlock(&s->lock);
	if (!caching_key_is_wanted(settings))
		return err_set(why, 1, "such answers are drawn anew each time");
	if (bytes + system_len > most_key_bytes)
		return err_set(why, 1, "it is too long: more than %zu KiB", most_key_bytes >> 10);
	session_arm(s, prompt, arm);
	int e = buf_reserve(&out->key, prompt->len + KEY_ROOM);
	e = e ? e
	      : cache_key_field(&out->key, "guards", (const char *)&guards_age, sizeof guards_age);
	e = e ? e : add_settings(&out->key, settings);
	e = e ? e : add_model(&out->key, s, settings, arm, why);
	e = e ? e : add_judge(&out->key, s, arm, why);
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

bool caching_key_is_known(struct session *s, struct text *prompt, const char *user, uid_t uid)
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
	bool knows =
		caching_key_make(&ask, s, &settings, prompt, user, uid, guards_age, NULL) == 0 &&
		cache_knows(s->g->cache, &ask);
	cache_ask_free(&ask);
	settings_clear(&settings);
	return knows;
}
