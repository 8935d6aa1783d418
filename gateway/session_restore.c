/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions as a start finds them in the store, where session_store.c, session_last.c and
 * session_events.c have put them.
 *
 * A prompt that waited has failed; until the store may be written those stand in the session's
 * queue, over as they are. So has what was under way: that is said in `events` and stored, once.
 *
 * An entry that cannot be read is skipped with a warning; the rest of its session lives.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/session.h"

/* Cuts "x/ID/REST" into id and rest (NULL when there is no second slash). */
static bool cut_key(const char *key, size_t len, char id[TEXT_NAME_SIZE], char rest[32])
{
	const char *name = key + 2, *slash = memchr(name, '/', len - 2);
	size_t id_len = slash ? (size_t)(slash - name) : len - 2;
	size_t rest_len = slash ? len - 2 - id_len - 1 : 0;
	if (!text_is_name(name, id_len) || rest_len >= 32)
		return false;
	memcpy(id, name, id_len);
	id[id_len] = '\0';
	if (slash)
		memcpy(rest, slash + 1, rest_len);
	rest[rest_len] = '\0';
	return true;
}

/* Cuts "x/ID/SERIAL". */
static bool is_serial_key(const char *key, size_t len, char id[TEXT_NAME_SIZE], char serial[32])
{
	return cut_key(key, len, id, serial) && strlen(serial) == 16 &&
	       strspn(serial, "0123456789abcdef") == 16;
}

static int restore_session(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct gateway *g = arg;
	char id[TEXT_NAME_SIZE], rest[32], line[256];
	unsigned uid, gid, mode;
	struct session_attr a = {0};
	struct session_sums sums = {0};
	if (!cut_key(key, key_len, id, rest) || *rest || value_len >= sizeof line)
		return store_skip(key, key_len);
	memcpy(line, value, value_len);
	line[value_len] = '\0';
	if (sscanf(line,
		    "%u %u %o %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		    " %" SCNd64,
		    &uid, &gid, &mode, &a.created_ns, &a.changed_ns, &sums.requests,
		    &sums.prompt_tok, &sums.cached_tok, &sums.output_tok, &sums.cost) < 9)
		return store_skip(key, key_len);
	a.uid = uid;
	a.gid = gid;
	a.mode = mode & 07777;
	struct session *s = session_make(g, id, false);
	if (!s)
		return -ENOMEM;
	s->attr = a;
	s->sums = sums;
	for (size_t i = 0; i < N_SESSION_VIEWS; i++)
		s->view_ns[i] = a.changed_ns;
	int r = table_add(&g->sessions, s->id, s);
	if (r < 0)
		session_put(s);
	return r;
}

static int restore_setting(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct gateway *g = arg;
	char id[TEXT_NAME_SIZE], file[32];
	bool fits = cut_key(key, key_len, id, file);
	struct session *s = fits ? table_find(&g->sessions, id) : NULL;
	enum setting i = fits ? settings_find(file) : N_SETTINGS;
	if (!s || i == N_SETTINGS || settings_set(&s->settings, i, value, value_len, NULL) < 0)
		return store_skip(key, key_len);
	return 0;
}

static int restore_turn(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct gateway *g = arg;
	char id[TEXT_NAME_SIZE], serial[32];
	struct session *s =
		is_serial_key(key, key_len, id, serial) ? table_find(&g->sessions, id) : NULL;
	if (!s)
		return store_skip(key, key_len);
	int r = conversation_decode(&s->conversation, strtoull(serial, NULL, 16), value, value_len);
	return r == -EBADMSG ? store_skip(key, key_len) : r;
}

/* One that waited when the daemon was killed, and is over: session_restore_queued adds its turn. */
static int restore_queued(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct gateway *g = arg;
	char id[TEXT_NAME_SIZE], serial[32], line[64];
	uint64_t number;
	unsigned uid;
	const char *end = memchr(value, '\n', value_len);
	size_t n = end ? (size_t)(end - value) : sizeof line;
	struct session *s =
		is_serial_key(key, key_len, id, serial) ? table_find(&g->sessions, id) : NULL;
	if (!s || n >= sizeof line)
		return store_skip(key, key_len);
	memcpy(line, value, n);
	line[n] = '\0';
	if (sscanf(line, "%" SCNu64 " %u", &number, &uid) != 2)
		return store_skip(key, key_len);
	struct request *r =
		request_over(g, number, REQUEST_FAILED, -EIO, "daemon restarted", NULL, (uid_t)uid);
	if (r)
		r->prompt = text_new(end + 1, value_len - n - 1);
	if (!r || !r->prompt) {
		request_put(r);
		return -ENOMEM;
	}
	r->queued_serial = strtoull(serial, NULL, 16);
	list_append(&s->queue, &r->link);
	if (atomic_load(&g->next_request) < number)
		atomic_store(&g->next_request, number);
	return 0;
}

struct events_restoring {
	struct gateway *g;
	struct session_events_place at;
};

static int restore_events(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct events_restoring *all = arg;
	char id[TEXT_NAME_SIZE], slot[32];
	struct session *s =
		cut_key(key, key_len, id, slot) ? table_find(&all->g->sessions, id) : NULL;
	int r = s ? session_events_restore(s, &all->at, value, value_len) : -EBADMSG;
	return r == -EBADMSG ? store_skip(key, key_len) : r;
}

static int restore_last(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct gateway *g = arg;
	char id[TEXT_NAME_SIZE], rest[32];
	struct session *s =
		cut_key(key, key_len, id, rest) && !*rest ? table_find(&g->sessions, id) : NULL;
	int r = s ? session_restore_last(s, value, value_len) : -EBADMSG;
	return r == -EBADMSG ? store_skip(key, key_len) : r;
}

/* The last turn is the newest request again, if it was one. */
static int restore_newest(struct session *s)
{
	const struct turn *t = conversation_last(&s->conversation);
	if (!t || !t->asked)
		return 0;
	enum request_state state = t->state == TURN_CANCELLED ? REQUEST_CANCELLED
				   : t->state == TURN_FAILED  ? REQUEST_FAILED
				   : t->state == TURN_BLOCKED ? REQUEST_BLOCKED
							      : REQUEST_DONE;
	int code = state == REQUEST_CANCELLED ? -ECANCELED
		   : state == REQUEST_FAILED  ? -EIO
		   : state == REQUEST_BLOCKED ? -EPERM
					      : 0;
	const char *why = t->error ? t->error->bytes : code ? "cancelled" : NULL;
	s->newest = request_over(s->g, 0, state, code, why, t->assistant, s->attr.uid);
	if (!s->newest)
		return -ENOMEM;
	s->newest->cost = t->cost;
	trace_unpack(&t->trace, &s->newest->times, &s->newest->usage, &s->newest->finish);
	return 0;
}

int session_restore_all(struct gateway *g, struct err *err)
{
	int r = store_scan(g->store, "s/", restore_session, g);
	r = r ? r : store_scan(g->store, "c/", restore_setting, g);
	r = r ? r : store_scan(g->store, "t/", restore_turn, g);
	r = r ? r : store_scan(g->store, "q/", restore_queued, g);
	struct events_restoring all = {.g = g};
	r = r ? r : store_scan(g->store, "e/", restore_events, &all);
	for (size_t i = 0; r == 0 && i < g->sessions.n; i++) {
		session_events_restored(g->sessions.rows[i].object);
		r = restore_newest(g->sessions.rows[i].object);
	}
	r = r ? r : store_scan(g->store, "r/", restore_last, g);
	return r ? err_set(err, r, "the sessions cannot be restored: %s", strerror(-r)) : 0;
}

/* Which request it was that the kill cut off, the last turn: the book knows. With the lock held. */
static void name_killed(struct session *s, const struct turn *t, const struct book_crash *crash)
{
	struct request *r = s->newest;
	size_t n = strlen(crash->model);
	if (!t->killed)
		return;
	r->id = crash->request;
	r->turn_serial = t->serial;
	if (text_is_name(crash->model, n))
		memcpy(r->model_name, crash->model, n + 1);
	session_store_last(s, r);
}

void session_crashed(struct gateway *g, const struct book_crash *crash)
{
	struct session *s = gateway_session_find(g, crash->session);
	if (!s)
		return; /* it was a channel's, or has gone */
	pthread_mutex_lock(&s->lock);
	s->sums.requests++;
	s->sums.prompt_tok += crash->tokens.prompt;
	s->sums.output_tok += crash->tokens.output;
	s->sums.cost += crash->cost;
	struct turn *last = conversation_last(&s->conversation);
	if (s->newest && last && last->asked && last->state == TURN_FAILED && !last->cost) {
		last->cost = s->newest->cost = crash->cost;
		s->newest->usage.prompt_tok = crash->tokens.prompt;
		s->newest->usage.output_tok = crash->tokens.output;
		name_killed(s, last, crash);
		last->trace.prompt_tok = (uint32_t)crash->tokens.prompt;
		last->trace.output_tok = (uint32_t)crash->tokens.output;
		session_store_turn(s, last);
	}
	session_store(s);
	pthread_mutex_unlock(&s->lock);
	session_put(s);
}

/* It becomes the last turn, and the newest request. Steals r. With the lock held. */
static int fail_queued(struct session *s, struct request *r)
{
	int e = session_add_turn(s, r, NULL);
	if (e == 0) {
		s->sums.requests++;
		r->prompt = text_put(r->prompt);
		request_put(s->newest);
		s->newest = request_ref(r);
		session_events_add(s, "failed", r);
	}
	conversation_turn_end(&r->replaced);
	request_put(r);
	return e;
}

/* The last turn, if it was under way when the daemon was killed: it has failed, and that is stored
 * and said once. With the lock held. */
static void fail_killed(struct session *s)
{
	struct turn *t = conversation_last(&s->conversation);
	if (!t || !t->killed)
		return;
	t->killed = false;
	session_store_turn(s, t);
	if (s->newest)
		session_events_add(s, "failed", s->newest);
}

int session_restore_queued(struct gateway *g, struct err *err)
{
	int e = 0;
	store_begin(g->store);
	for (size_t i = 0; i < g->sessions.n; i++) {
		struct session *s = g->sessions.rows[i].object;
		bool any = !list_empty(&s->queue);
		pthread_mutex_lock(&s->lock);
		fail_killed(s);
		while (e == 0 && !list_empty(&s->queue)) {
			struct request *r = list_entry(s->queue.next, struct request, link);
			list_remove(&r->link);
			e = fail_queued(s, r);
		}
		if (any)
			session_store(s);
		session_events_store(s);
		pthread_mutex_unlock(&s->lock);
	}
	store_end(g->store);
	return e ? err_set(err, e, "the sessions cannot be restored: %s", strerror(-e)) : 0;
}
