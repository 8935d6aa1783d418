/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of sessions: made, forked, found and removed by name. A session is in the store as soon
 * as it is in the table, and out of both before its name is free again. Unlisted
 * ones, of channels and of front ends whose requests bring their conversation, are in neither.
 *
 * Lock: gateway->lock guards the table and is outside of the sessions' locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/ask_errors.h"
#include "gateway/session.h"

/* Sessions of a user. With the lock held. */
static uint32_t sessions_of(const struct gateway *g, uid_t uid)
{
	uint32_t n = 0;
	for (size_t i = 0; i < g->sessions.n; i++) {
		struct session *s = g->sessions.rows[i].object;
		struct session_attr a;
		session_attr(s, &a);
		n += a.uid == uid;
	}
	return n;
}

/* With the lock held. Steals nothing: the table takes a reference of its own. */
static int list_session(struct gateway *g, struct session *s, struct err *err)
{
	uint32_t most = g->options.max_sessions_per_user;
	if (table_find(&g->sessions, s->id))
		return err_set(err, -EEXIST, "session %s exists", s->id);
	if (sessions_of(g, s->attr.uid) >= most)
		return err_set(err, -EDQUOT, "a user may have %u sessions", (unsigned)most);
	int r = table_add(&g->sessions, s->id, s);
	if (r < 0)
		return err_set(err, r, "out of memory");
	session_ref(s);
	pthread_mutex_lock(&s->lock);
	store_begin(g->store);
	session_store_all(s);
	store_end(g->store);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Not listed yet: nobody else has s. 0 or -ENOMEM. */
static int copy_session(struct session *s, struct session *from)
{
	pthread_mutex_lock(&from->lock);
	settings_copy(&s->settings, &from->settings);
	int r = conversation_copy(&s->conversation, &from->conversation);
	pthread_mutex_unlock(&from->lock);
	return r;
}

/* from may be NULL. new reference in *out (may be NULL). */
static int create_session(struct gateway *g, const char *id, const struct session_attr *attr,
	struct session *from, struct session **out, struct err *err)
{
	int r = gateway_check_name("session", id, err);
	r = r ? r : gateway_accepts(g, err);
	if (r < 0)
		return r;
	struct session *s = session_make(g, id, false);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->attr.uid = attr->uid;
	s->attr.gid = attr->gid;
	s->attr.mode = attr->mode & 0700;
	if (from && copy_session(s, from) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0) {
		pthread_mutex_lock(&g->lock);
		r = list_session(g, s, err);
		pthread_mutex_unlock(&g->lock);
	}
	if (r == 0) {
		store_await_groups(g->store);
		gateway_tell_change(g, GATEWAY_CHANGE_SESSIONS, id, NULL);
	}
	if (r == 0 && out)
		*out = s;
	else
		session_put(s);
	return r;
}

int gateway_session_create(struct gateway *g, const char *id, uid_t uid, gid_t gid, mode_t mode,
	struct session **out, struct err *err)
{
	const struct session_attr attr = {.uid = uid, .gid = gid, .mode = mode};
	return create_session(g, id, &attr, NULL, out, err);
}

int gateway_session_fork(
	struct session *from, const char *id, uid_t uid, gid_t gid, struct err *err)
{
	const struct session_attr attr = {.uid = uid, .gid = gid, .mode = 0700};
	return create_session(from->g, id, &attr, from, NULL, err);
}

int gateway_session_remove(struct gateway *g, const char *id, struct err *err)
{
	if (!strcmp(id, "main"))
		return err_set(err, -EBUSY, "session main always exists");
	pthread_mutex_lock(&g->lock);
	struct session *s = table_remove(&g->sessions, id);
	if (s) { /* under the tables' lock, so that a new one of that name is stored after this */
		pthread_mutex_lock(&s->lock);
		session_cancel_all(s, "the session was removed");
		store_begin(g->store);
		session_unstore(s);
		store_end(g->store);
		s->removed = true;
		session_poke(
			s, SESSION_NEWEST_CHANGED | SESSION_CHAT_CHANGED | SESSION_EVENTS_CHANGED);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&g->lock);
	if (!s)
		return err_set(err, -ENOENT, "there is no session %s", id);
	session_put(s);
	store_await_groups(g->store);
	gateway_tell_change(g, GATEWAY_CHANGE_SESSIONS, id, NULL);
	return 0;
}

struct session *gateway_session_find(struct gateway *g, const char *id)
{
	pthread_mutex_lock(&g->lock);
	struct session *s = table_find(&g->sessions, id);
	if (s)
		session_ref(s);
	pthread_mutex_unlock(&g->lock);
	return s;
}

char **gateway_session_names(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	char **names = table_names(&g->sessions);
	pthread_mutex_unlock(&g->lock);
	return names;
}

const char *gateway_channel_name(enum gateway_channel channel)
{
	static const char *const names[] = {
		[GATEWAY_ASK] = "ask",
		[GATEWAY_EMBED] = "embed",
		[GATEWAY_GUARD_TEST] = "test",
		[GATEWAY_EXPLAIN] = "explain",
		[GATEWAY_LOOKUP] = "lookup",
	};
	return names[channel];
}

int gateway_channel_error(struct gateway *g, enum gateway_channel channel, uid_t uid,
	struct buf *out, uint64_t *changed_ns)
{
	return ask_errors_render(g->ask_errors, ASK_ERRORS_OF(channel), uid, out, changed_ns);
}

/* In no table. m (NULL: none) is its model. new *out. */
static int open_unlisted(struct gateway *g, const char *id, struct model *m, uid_t uid,
	struct session **out, struct err *err)
{
	struct session *s = session_make(g, id, true);
	int r = s ? 0 : err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && m)
		r = settings_set(
			&s->settings, SETTING_MODEL, model_name(m), strlen(model_name(m)), err);
	if (r == 0) {
		s->attr.uid = uid;
		*out = s;
	} else {
		session_put(s);
	}
	return r;
}

int gateway_channel_open(struct gateway *g, enum gateway_channel channel, const char *model,
	uid_t uid, struct session **out, struct err *err)
{
	bool of_model = channel == GATEWAY_ASK || channel == GATEWAY_EMBED;
	struct model *m = of_model ? gateway_model_find(g, model) : NULL;
	if (of_model && !m)
		return err_set(err, -ENOENT, "there is no model %s", model);
	int r = open_unlisted(g, gateway_channel_name(channel), m, uid, out, err);
	if (r == 0) {
		(*out)->alone = true;
		(*out)->channel = channel;
		(*out)->asked = m ? model_serial(m) : 0;
	}
	model_put(m);
	return r;
}

int gateway_chat_open(
	struct gateway *g, const char *model, uid_t uid, struct session **out, struct err *err)
{
	struct model *m = gateway_model_find(g, model);
	if (!m)
		return err_set(err, -ENOENT, "there is no model %s", model);
	int r = open_unlisted(g, "http", m, uid, out, err);
	model_put(m);
	return r;
}

struct session **gateway_all_sessions(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	struct session **list = calloc(g->sessions.n + 1, sizeof *list);
	for (size_t i = 0; list && i < g->sessions.n; i++)
		list[i] = session_ref(g->sessions.rows[i].object);
	pthread_mutex_unlock(&g->lock);
	return list;
}

void gateway_put_sessions(struct session **list)
{
	for (size_t i = 0; list && list[i]; i++)
		session_put(list[i]);
	free(list);
}
