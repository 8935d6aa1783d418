/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session is settings, a conversation, and requests that run one after another in the order of
 * their commit. What a person sees of "the last request" (out, status, error, usage, trace) is one
 * object, session->newest: a request that was submitted, or one that was refused before it began.
 *
 * Everybody who waits is told by the loop, through session->work. What is written to a session
 * beside its prompts is session_edit.c's, its verbs are session_verbs.c's.
 *
 * Idle sessions are cheap: no thread, no buffer, no value that was never set.
 *
 * Lock: session->lock, inside the gateway's tables, around model, answer, inbox and the leaves.
 */
#include "gateway/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/channels.h"
#include "gateway/draft.h"
#include "gateway/stages.h"

static void look_after(struct loop_work *work);

/* ---- the object ---- */

struct session *session_make(struct gateway *g, const char *id, bool unlisted)
{
	struct session *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->g = gateway_ref(g);
	memcpy(s->id, id, strnlen(id, TEXT_NAME_MAX));
	s->unlisted = unlisted;
	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->queue);
	list_init(&s->drafts);
	list_init(&s->newest_watch);
	list_init(&s->chat_watch);
	list_init(&s->events_watch);
	list_init(&s->work.link);
	list_init(&s->due);
	s->work.run = look_after;
	s->conversation.next_serial = 1;
	s->attr.created_ns = s->attr.changed_ns = clock_real_ns();
	for (size_t i = 0; i < N_SESSION_VIEWS; i++)
		s->view_ns[i] = s->attr.created_ns;
	return s;
}

struct session *session_ref(struct session *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

struct session *session_put(struct session *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	list_for_each (link, &s->queue) { /* only of a gateway that could not be opened */
		list_remove(link);
		request_put(list_entry(link, struct request, link));
	}
	request_put(s->newest);
	request_put(s->routed);
	settings_clear(&s->settings);
	conversation_free(&s->conversation);
	text_put(s->note);
	buf_free(&s->events);
	pthread_mutex_destroy(&s->lock);
	gateway_put(s->g);
	free(s);
	return NULL;
}

int session_alive(const struct session *s, struct err *err)
{
	if (s->removed && s->unlisted)
		return err_set(err, -ENOENT, "who asked has left");
	return s->removed ? err_set(err, -ENOENT, "session %s was removed", s->id) : 0;
}

static bool has_requests(const struct session *s)
{
	return s->running || !list_empty(&s->queue);
}

int session_is_free(const struct session *s, struct err *err)
{
	if (has_requests(s))
		return err_set(err, -EBUSY, "an answer is under way; cancel it first");
	if (draft_order_comes(s))
		return err_set(err, -EBUSY, "a prompt was just closed; cancel it first");
	return 0;
}

/* ---- the loop's part ---- */

void session_poke(struct session *s, unsigned flags)
{
	uint64_t now = clock_real_ns();
	if (flags & (SESSION_CHAT_CHANGED | SESSION_CHAT_GREW))
		s->view_ns[SESSION_CHAT] = s->view_ns[SESSION_MESSAGES] = now;
	if (flags & (SESSION_EVENTS_GREW | SESSION_EVENTS_CHANGED))
		s->view_ns[SESSION_EVENTS] = now;
	s->flags |= flags;
	session_ref(s);
	if (!loop_post(s->g->loop, &s->work))
		session_put(s);
}

static void fire(struct session *s, unsigned flags, uint64_t chat_bytes, uint64_t events_bytes)
{
	struct watch_table *t = s->g->watch;
	if (flags & SESSION_NEWEST_CHANGED)
		watch_fire(t, &s->newest_watch, WATCH_ALL);
	if (flags & (SESSION_CHAT_CHANGED | SESSION_CHAT_GREW))
		watch_fire(
			t, &s->chat_watch, flags & SESSION_CHAT_CHANGED ? WATCH_ALL : chat_bytes);
	if (flags & (SESSION_EVENTS_GREW | SESSION_EVENTS_CHANGED))
		watch_fire(t, &s->events_watch,
			flags & SESSION_EVENTS_CHANGED ? WATCH_ALL : events_bytes);
}

int session_begin_turn(struct session *s, struct request *r)
{
	store_begin(s->g->store);
	int e = session_add_turn(s, r, r->answer);
	if (e == 0) {
		r->in_turn = true;
		r->turn_serial = conversation_last(&s->conversation)->serial;
		session_poke(s, SESSION_CHAT_CHANGED);
	}
	store_end(s->g->store);
	return e;
}

/* The next request, when it is time for one. With the lock held. new reference. */
static struct request *next_request(struct session *s)
{
	while (!s->running && !list_empty(&s->queue)) {
		struct request *r = list_entry(s->queue.next, struct request, link);
		list_remove(&r->link);
		s->running = r;
		session_count_running(s, 1);
		session_count_queued(s, -1);
		if (!s->alone && session_begin_turn(s, r) < 0) {
			request_settle(r, REQUEST_FAILED, -ENOMEM, "out of memory", true);
			continue;
		}
		session_event(s, "started", r);
		return request_ref(r);
	}
	return NULL;
}

static void look_after(struct loop_work *work)
{
	struct session *s = list_entry(work, struct session, work);
	struct store *store = s->g->store;
	store_begin(store); /* its turn, its claim: one group */
	pthread_mutex_lock(&s->lock);
	struct request *r = next_request(s);
	unsigned flags = s->flags;
	s->flags = 0;
	uint64_t chat_bytes = conversation_chat_bytes(&s->conversation);
	uint64_t events_bytes = s->events.len;
	pthread_mutex_unlock(&s->lock);
	fire(s, flags, chat_bytes, events_bytes);
	if (flags & SESSION_ROUTE_DUE)
		session_route_due(s);
	if (r)
		stages_start(r);
	request_put(r);
	session_put(s);
	store_end(store);
}

/* ---- what others of this folder do to it ---- */

static void count(struct session *s, atomic_uint_least64_t *sum, int by)
{
	if (!channels_is_dry(s->channel))
		atomic_fetch_add_explicit(sum, (uint64_t)by, memory_order_relaxed);
}

void session_count_queued(struct session *s, int by)
{
	s->n_queued += (uint32_t)by;
	count(s, &s->g->n_queued, by);
}

void session_count_running(struct session *s, int by)
{
	count(s, &s->g->n_running, by);
}

static void stamp_views(struct session *s, uint64_t now_ns)
{
	s->view_ns[SESSION_STATUS] = s->view_ns[SESSION_ERROR] = now_ns;
	s->view_ns[SESSION_USAGE] = s->view_ns[SESSION_TRACE] = now_ns;
}

void session_stamp_views(struct session *s)
{
	stamp_views(s, clock_real_ns());
}

void session_touch(struct session *s)
{
	s->attr.changed_ns = clock_real_ns();
	stamp_views(s, s->attr.changed_ns);
	session_store(s);
}

void session_set_newest(struct session *s, struct request *r, uint64_t serial)
{
	if (r && !serial)
		serial = ++s->flush_serial;
	if (!r || serial > s->note_serial)
		session_set_note(s, NULL);
	if (r && serial < s->newest_serial) {
		request_put(r);
		return;
	}
	request_put(s->newest);
	s->newest = r;
	s->newest_serial = serial;
	s->view_ns[SESSION_STATUS] = s->view_ns[SESSION_ERROR] = clock_real_ns();
	session_poke(s, SESSION_NEWEST_CHANGED);
}

void session_set_note(struct session *s, const char *sentence)
{
	text_put(s->note);
	s->note = sentence ? text_new(sentence, strlen(sentence)) : NULL;
	s->note_serial = sentence ? ++s->flush_serial : 0;
	s->note_withdrawn = false;
	s->view_ns[SESSION_ERROR] = clock_real_ns();
}

void session_withdraw_note(struct session *s, bool is_withdrawn)
{
	if (s->note_withdrawn != is_withdrawn)
		s->view_ns[SESSION_ERROR] = clock_real_ns();
	s->note_withdrawn = is_withdrawn;
}

/* The close of a prompt is told late and by any thread, so what counts is what was begun. */
int session_take_place(struct session *s, struct err *err)
{
	int e = session_alive(s, err);
	if (e == 0 && s->n_queued + s->n_places >= s->g->options.max_queued)
		e = err_set(err, -EBUSY, "%u requests of this session are queued already",
			(unsigned)(s->n_queued + s->n_places));
	s->n_places += e == 0;
	return e;
}

void session_leave_place(struct session *s)
{
	s->n_places--;
}

int session_submit(
	struct session *s, struct request *r, bool placed, uint64_t serial, struct err *err)
{
	int e = placed ? session_alive(s, err) : session_take_place(s, err);
	if (e < 0)
		return e;
	session_leave_place(s);
	r->session = session_ref(s);
	gateway_busy(s->g);
	if (has_requests(s))
		session_store_queued(s, r);
	list_append(&s->queue, &r->link);
	session_count_queued(s, 1);
	session_event(s, "submitted", r);
	session_set_newest(s, request_ref(r), serial);
	return 0;
}

static enum refusal kind_of_refusal(int code)
{
	return code == -EAGAIN   ? REFUSED_RATE
	       : code == -EDQUOT ? REFUSED_BUDGET
	       : code == -EPERM  ? REFUSED_GUARD
	       : code == -EBUSY  ? REFUSED_BUSY
				 : REFUSED_OTHER;
}

void session_refuse(struct session *s, const struct session_refusal *what)
{
	if (!what->messages)
		atomic_fetch_add(&s->g->refusals[kind_of_refusal(what->code)], 1);
	enum request_state state = what->code == -EPERM ? REQUEST_BLOCKED : REQUEST_FAILED;
	struct request *r =
		request_over(s->g, what->id, state, what->code, what->sentence, NULL, what->uid);
	if (!r)
		return;
	r->refused = !what->messages;
	r->messages = what->messages;
	r->retry_ms = what->retry_ms;
	r->prompt = text_ref(what->prompt);
	pthread_mutex_lock(&s->lock);
	if (!s->removed) {
		struct request *before = session_refused(s);
		session_event(s, "refused", r);
		session_tell_asker(s, r);
		if (what->messages && before)
			r->behind = request_ref(before);
		/* What is under way is no failure of theirs: they have the note. */
		if (!what->messages || !has_requests(s))
			session_set_newest(s, request_ref(r), what->serial);
	}
	pthread_mutex_unlock(&s->lock);
	request_put(r);
}

struct request *session_refused(struct session *s)
{
	struct request *r = s->newest && s->newest->behind ? s->newest->behind : s->newest;
	return r && r->refused ? r : NULL;
}

void session_refused_prompt(struct session *s, uint64_t id, struct text *prompt)
{
	pthread_mutex_lock(&s->lock);
	struct request *r = session_refused(s);
	if (r && r->id == id) {
		text_put(r->prompt);
		r->prompt = text_ref(prompt);
	}
	pthread_mutex_unlock(&s->lock);
}

void session_cancel_all(struct session *s, const char *why)
{
	/* The one under way first: each becomes the conversation's last turn as it is settled. */
	if (s->running)
		request_settle(s->running, REQUEST_CANCELLED, -ECANCELED, why, false);
	list_for_each (link, &s->queue)
		request_settle(list_entry(link, struct request, link), REQUEST_CANCELLED,
			-ECANCELED, why, false);
}

/* ---- owner and mode ---- */

void session_attr(struct session *s, struct session_attr *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->attr;
	pthread_mutex_unlock(&s->lock);
}

int session_chown(struct session *s, uid_t uid, gid_t gid)
{
	pthread_mutex_lock(&s->lock);
	int r = session_alive(s, NULL);
	if (r == 0) {
		s->attr.uid = uid == (uid_t)-1 ? s->attr.uid : uid;
		s->attr.gid = gid == (gid_t)-1 ? s->attr.gid : gid;
		session_store(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		session_await_stored(s);
	if (r == 0 && !s->unlisted)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, NULL);
	return r;
}

int session_chmod(struct session *s, mode_t mode)
{
	pthread_mutex_lock(&s->lock);
	int r = session_alive(s, NULL);
	if (r == 0) {
		s->attr.mode = mode & 07777;
		session_store(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		session_await_stored(s);
	if (r == 0 && !s->unlisted)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, NULL);
	return r;
}

/* ---- the newest answer ---- */

int session_newest(struct session *s, struct answer **out, gateway_wake_fn *wake, void *arg,
	gateway_waiter *id)
{
	int r = 0;
	*out = NULL;
	pthread_mutex_lock(&s->lock);
	if (s->n_pending && !atomic_load(&s->g->stopping)) {
		r = watch_add(s->g->watch, &s->newest_watch, 0, wake, arg, id);
		r = r ? r : 1;
	} else if (s->newest) {
		*out = answer_ref(s->newest->answer);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int session_watch(struct session *s, enum session_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id)
{
	bool chat = view == SESSION_CHAT;
	pthread_mutex_lock(&s->lock);
	uint64_t now = chat ? conversation_chat_bytes(&s->conversation) : s->events.len;
	int r = 1;
	if (now <= bytes && !s->removed && !atomic_load(&s->g->stopping))
		r = watch_add(s->g->watch, chat ? &s->chat_watch : &s->events_watch, bytes, wake,
			arg, id);
	pthread_mutex_unlock(&s->lock);
	return r;
}

bool session_unwatch(struct session *s, gateway_waiter id)
{
	return watch_remove(s->g->watch, id);
}
