/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions in the store, by their keys (store.h names them all):
 *
 *	s/ID          a line of numbers: uid gid mode created_ns changed_ns requests prompt cached
 *	              output cost
 *	c/ID/FILE     the value of a setting that was set
 *	t/ID/SERIAL   a turn, with the numbers of its request (conversation_encode)
 *	q/ID/SERIAL   a prompt that waits behind another: a line with its request and uid, its text
 *
 * and those of session_last.c and session_events.c.
 *
 * A prompt that waits has no turn yet, and was accepted: a crash must not lose it. Its record goes
 * in the group that its turn comes in.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/session.h"

enum { KEY_SIZE = 2 + TEXT_NAME_SIZE + 32 };

bool session_is_stored(const struct session *s)
{
	return !s->unlisted && !s->removed;
}

void session_store(struct session *s)
{
	if (!session_is_stored(s))
		return;
	char key[KEY_SIZE], value[256];
	const struct session_attr *a = &s->attr;
	const uint64_t numbers[] = {a->created_ns, a->changed_ns, s->sums.requests,
		s->sums.prompt_tok, s->sums.cached_tok, s->sums.output_tok};
	stpcpy(stpcpy(key, "s/"), s->id);
	int n = snprintf(value, sizeof value, "%u %u %o ", (unsigned)a->uid, (unsigned)a->gid,
		(unsigned)a->mode);
	char *p = value + n;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		p = text_number(p, numbers[i]);
		*p++ = ' ';
	}
	p = text_signed(p, s->sums.cost);
	store_put(s->g->store, key, value, (size_t)(p - value));
}

static void setting_key(char key[KEY_SIZE], const struct session *s, enum setting i)
{
	snprintf(key, KEY_SIZE, "c/%s/%s", s->id, settings_name(i));
}

static void turn_key(char key[KEY_SIZE], const struct session *s, uint64_t serial)
{
	text_serial(stpcpy(stpcpy(stpcpy(key, "t/"), s->id), "/"), serial);
}

void session_store_setting(struct session *s, enum setting i)
{
	if (!session_is_stored(s))
		return;
	char key[KEY_SIZE];
	size_t len;
	setting_key(key, s, i);
	const char *value = settings_get(&s->settings, i, &len);
	if (settings_is_set(&s->settings, i))
		store_put(s->g->store, key, value, len);
	else
		store_delete(s->g->store, key);
}

void session_store_turn(struct session *s, const struct turn *t)
{
	if (!session_is_stored(s))
		return;
	char key[KEY_SIZE];
	struct buf value = {0};
	turn_key(key, s, t->serial);
	if (conversation_encode(t, &value) == 0)
		store_put(s->g->store, key, value.data, value.len);
	else
		log_error("session %s: out of memory: a turn is not stored", s->id);
	buf_free(&value);
}

static void queued_key(char key[KEY_SIZE], const struct session *s, const struct request *r)
{
	text_serial(stpcpy(stpcpy(stpcpy(key, "q/"), s->id), "/"), r->queued_serial);
}

void session_store_queued(struct session *s, struct request *r)
{
	if (!session_is_stored(s))
		return;
	char key[KEY_SIZE];
	struct buf value = {0};
	int e = buf_printf(&value, "%" PRIu64 " %u\n", r->id, (unsigned)r->uid);
	e = e ? e : buf_append(&value, r->prompt->bytes, r->prompt->len);
	if (e == 0) {
		r->queued_serial = ++s->queued_serial;
		queued_key(key, s, r);
		store_put(s->g->store, key, value.data, value.len);
	} else {
		log_error("session %s: out of memory: a prompt that waits is not stored", s->id);
	}
	buf_free(&value);
}

void session_unstore_queued(struct session *s, struct request *r)
{
	char key[KEY_SIZE];
	if (!r->queued_serial)
		return;
	queued_key(key, s, r);
	r->queued_serial = 0;
	store_delete(s->g->store, key);
}

void session_drop_turn(struct session *s)
{
	char key[KEY_SIZE];
	turn_key(key, s, conversation_drop_last(&s->conversation));
	if (session_is_stored(s))
		store_delete(s->g->store, key);
}

void session_drop_turns(struct session *s)
{
	while (s->conversation.n)
		session_drop_turn(s);
	session_unstore_last(s);
}

void session_take_turn(struct session *s, struct turn *out)
{
	char key[KEY_SIZE];
	turn_key(key, s, conversation_take_last(&s->conversation, out));
	if (session_is_stored(s))
		store_delete(s->g->store, key);
}

void session_put_turn_back(struct session *s, struct turn *t)
{
	if (conversation_put_back(&s->conversation, t) == 0)
		session_store_turn(s, conversation_last(&s->conversation));
}

int session_add_turn(struct session *s, struct request *r, struct answer *answer)
{
	struct conversation *c = &s->conversation;
	struct turn *last = conversation_last(c);
	if (last && (conversation_unanswered(last) || r->retry))
		session_take_turn(s, &r->replaced);
	struct text *error = answer ? NULL : r->error;
	int e = conversation_add(c, r->prompt, answer, TURN_FAILED, NULL, error, true);
	if (e < 0)
		return e; /* not where one has just left its place */
	if (r->replaced.user)
		conversation_stand_in(c, &r->replaced);
	session_store_turn(s, conversation_last(c));
	session_unstore_queued(s, r);
	return 0;
}

void session_store_all(struct session *s)
{
	for (int i = 0; i < N_SETTINGS; i++)
		if (settings_is_set(&s->settings, (enum setting)i))
			session_store_setting(s, (enum setting)i);
	for (size_t i = 0; i < s->conversation.n; i++)
		session_store_turn(s, &s->conversation.turns[i]);
	session_touch(s);
}

void session_unstore(struct session *s)
{
	char key[KEY_SIZE];
	session_drop_turns(s);
	for (int i = 0; i < N_SETTINGS; i++) {
		setting_key(key, s, (enum setting)i);
		if (settings_is_set(&s->settings, (enum setting)i))
			store_delete(s->g->store, key);
	}
	session_events_unstore(s);
	snprintf(key, sizeof key, "s/%s", s->id);
	store_delete(s->g->store, key);
}

void session_await_stored(struct session *s)
{
	if (!s->unlisted)
		store_await_groups(s->g->store);
}

void session_store_ended(struct session *s, struct request *r)
{
	store_begin(s->g->store);
	session_store_last(s, r);
	session_events_store(s);
	store_end(s->g->store);
}

void session_store_rest(struct gateway *g)
{
	if (!g->store)
		return;
	store_begin(g->store);
	for (size_t i = 0; i < g->sessions.n; i++) {
		struct session *s = g->sessions.rows[i].object;
		pthread_mutex_lock(&s->lock);
		session_store_route(s);
		session_events_store(s);
		pthread_mutex_unlock(&s->lock);
	}
	store_end(g->store);
	session_routes_drop(g);
}
