/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session is settings, a conversation, and requests that run one after another in the order of
 * their commit. What a person sees of "the last request" (out, status, error, usage, trace) is one
 * object, session->newest: a request that was submitted, or one that was refused before it began.
 *
 * Verbs take effect before their call returns, also when an engine is still busy with what they
 * ended. Everybody who waits is told by the loop, through session->work.
 *
 * Idle sessions are cheap: no thread, no buffer, no value that was never set.
 *
 * Lock: session->lock, inside the gateway's tables, around model, answer, inbox and the leaves.
 */
#include "gateway/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/ask_errors.h"
#include "gateway/caching.h"
#include "gateway/draft.h"
#include "gateway/guards.h"
#include "gateway/messages.h"
#include "gateway/stages.h"
#include "gateway/users.h"
#include "gateway/worst.h"

enum { EVENTS_MAX = 8192, EVENTS_KEEP = 6144 };

static void look_after(struct loop_work *work);

/* ---- the object ---- */

struct session *session_make(struct gateway *g, const char *id, bool ask)
{
	struct session *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->g = gateway_ref(g);
	memcpy(s->id, id, strnlen(id, TEXT_NAME_MAX));
	s->ask = ask;
	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->queue);
	list_init(&s->drafts);
	list_init(&s->newest_watch);
	list_init(&s->chat_watch);
	list_init(&s->events_watch);
	list_init(&s->work.link);
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
	request_put(s->newest);
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
	return s->removed ? err_set(err, -ENOENT, "session %s was removed", s->id) : 0;
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
	struct conversation *c = &s->conversation;
	struct turn *last = conversation_last(c);
	if (last && (conversation_unanswered(last) || r->retry))
		session_take_turn(s, &r->replaced);
	int e = conversation_add(c, r->prompt, r->answer, TURN_RUNNING, NULL, NULL, true);
	if (e < 0)
		return e;
	r->in_turn = true;
	session_store_turn(s, conversation_last(c));
	session_poke(s, SESSION_CHAT_CHANGED);
	return 0;
}

/* The next request, when it is time for one. With the lock held. new reference. */
static struct request *next_request(struct session *s)
{
	while (!s->running && !list_empty(&s->queue)) {
		struct request *r = list_entry(s->queue.next, struct request, link);
		list_remove(&r->link);
		s->n_queued--;
		s->running = r;
		if (!s->ask && session_begin_turn(s, r) < 0) {
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
	store_begin(store); /* its turn, its claim: one write, one wake */
	pthread_mutex_lock(&s->lock);
	struct request *r = next_request(s);
	unsigned flags = s->flags;
	s->flags = 0;
	uint64_t chat_bytes = conversation_chat_bytes(&s->conversation);
	uint64_t events_bytes = s->events.len;
	pthread_mutex_unlock(&s->lock);
	fire(s, flags, chat_bytes, events_bytes);
	if (r)
		stages_start(r);
	request_put(r);
	session_put(s);
	store_end(store);
}

/* ---- what others of this folder do to it ---- */

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

static void trim_events(struct session *s, unsigned *flags)
{
	if (s->events.len <= EVENTS_MAX)
		return;
	size_t from = s->events.len - EVENTS_KEEP;
	char *line = memchr(s->events.data + from, '\n', s->events.len - from);
	buf_consume(&s->events, line ? (size_t)(line + 1 - s->events.data) : s->events.len);
	*flags = SESSION_EVENTS_CHANGED;
}

void session_event(struct session *s, const char *event, const struct request *r)
{
	size_t before = s->events.len;
	uint64_t ms = clock_real_ns() / 1000000;
	int e = buf_printf(&s->events, "{\"time\": %" PRIu64 ".%03u, \"event\": \"%s\"", ms / 1000,
		(unsigned)(ms % 1000), event);
	if (e == 0 && r)
		e = buf_printf(&s->events, ", \"request\": %" PRIu64, r->id);
	if (e == 0 && r && r->code)
		e = buf_printf(&s->events, ", \"errno\": %d", -r->code);
	if (e == 0 && r && r->error) {
		e = buf_append_str(&s->events, ", \"error\": ");
		e = e ? e : text_append_json(&s->events, r->error->bytes, r->error->len);
	}
	e = e ? e : buf_append_str(&s->events, "}\n");
	if (e < 0) {
		s->events.len = before;
		return;
	}
	unsigned flags = SESSION_EVENTS_GREW;
	trim_events(s, &flags);
	session_poke(s, flags);
}

void session_tell_asker(struct session *s, const struct request *r)
{
	bool asks = s->channel == GATEWAY_ASK;
	if (!s->ask || (!asks && s->channel != GATEWAY_EMBED))
		return;
	ask_errors_note(s->g->ask_errors, s->asked, r->uid, asks ? "ask" : "embed",
		r->error  ? r->error->bytes
		: r->code ? strerror(-r->code)
			  : NULL);
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
	s->view_ns[SESSION_ERROR] = clock_real_ns();
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
	list_append(&s->queue, &r->link);
	s->n_queued++;
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

void session_refuse(
	struct session *s, uint64_t id, uid_t uid, int code, const char *sentence, uint64_t serial)
{
	atomic_fetch_add(&s->g->refusals[kind_of_refusal(code)], 1);
	enum request_state state = code == -EPERM ? REQUEST_BLOCKED : REQUEST_FAILED;
	struct request *r = request_over(s->g, id, state, code, sentence, NULL, uid);
	if (!r)
		return;
	pthread_mutex_lock(&s->lock);
	if (!s->removed) {
		session_event(s, "refused", r);
		session_tell_asker(s, r);
		session_set_newest(s, request_ref(r), serial);
	}
	pthread_mutex_unlock(&s->lock);
	request_put(r);
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

/* ---- owner, mode, settings ---- */

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
	if (r == 0 && !s->ask)
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
	if (r == 0 && !s->ask)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, NULL);
	return r;
}

const char *const *session_setting_names(void)
{
	return settings_names();
}

/* The name of a model must be one that is there, so that a person who mistypes it hears at once. */
static int check_model_exists(
	struct session *s, enum setting i, const char *value, size_t len, struct err *err)
{
	char name[TEXT_NAME_SIZE] = "";
	if (i != SETTING_MODEL || settings_check(i, value, len, NULL) < 0)
		return 0;
	memcpy(name, value, len);
	struct model *m = strcmp(name, "default") ? gateway_model_find(s->g, name) : NULL;
	bool there = m || !strcmp(name, "default");
	model_put(m);
	if (there)
		return 0;
	char list[200] = "";
	char **names = gateway_model_names(s->g);
	for (size_t n = 0; names && names[n]; n++) {
		size_t used = strlen(list);
		snprintf(list + used, sizeof list - used, ", %s", names[n]);
		free(names[n]);
	}
	free(names);
	return err_set(
		err, -EINVAL, "model: there is no model %s; there are default%s", name, list);
}

static uid_t owner(struct session *s)
{
	struct session_attr a;
	session_attr(s, &a);
	return a.uid;
}

/* Text that comes to a session by another way than its prompts passes the input rules too. Without
 * the lock. */
static int guard_text(struct session *s, uid_t uid, uint64_t request, const char *text, size_t len,
	struct buf *out, struct err *err)
{
	char user[TEXT_NAME_SIZE];
	users_name(s->g->users, uid, user);
	const struct guards_subject who = {uid, user, s->id, request};
	return guards_text(s->g->guards, &who, text, len, out, err);
}

/* *text becomes what passes the rules. */
static int guard_one(
	struct session *s, uid_t uid, uint64_t request, struct text **text, struct err *err)
{
	struct buf clean = {0};
	int r = *text ? guard_text(s, uid, request, (*text)->bytes, (*text)->len, &clean, err) : 0;
	bool changed = r == 0 && *text &&
		       (clean.len != (*text)->len ||
			       (clean.len && memcmp(clean.data, (*text)->bytes, clean.len)));
	struct text *fresh = changed ? text_new(clean.data, clean.len) : NULL;
	if (changed && !fresh)
		r = err_set(err, -ENOMEM, "out of memory");
	if (fresh) {
		text_put(*text);
		*text = fresh;
	}
	buf_free(&clean);
	return r;
}

/* With the lock held. */
static void setting_changed(struct session *s, enum setting i)
{
	/* What fits may have changed: the window over the conversation is placed anew. */
	if (i == SETTING_MODEL || i == SETTING_TRUNCATE || i == SETTING_SYSTEM)
		s->conversation.head = s->conversation.first = 0;
	session_set_note(s, NULL);
	session_store_setting(s, i);
	session_touch(s);
}

int session_setting_set(
	struct session *s, const char *file, const char *value, size_t len, struct err *err)
{
	struct err own = {0};
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return err_set(err, -ENOENT, "a session has no setting %s", file);
	struct buf clean = {0};
	int r = check_model_exists(s, i, value, len, &own);
	if (r == 0 && !s->ask)
		r = gateway_accepts(s->g, &own);
	if (r == 0 && i == SETTING_SYSTEM) {
		r = guard_text(s, owner(s), 0, value, len, &clean, &own);
		value = clean.data ? clean.data : "";
		len = clean.len;
	}
	pthread_mutex_lock(&s->lock);
	r = r ? r : session_alive(s, &own);
	r = r ? r : settings_set(&s->settings, i, value, len, &own);
	if (r == 0)
		setting_changed(s, i);
	else
		session_set_note(s, own.text);
	pthread_mutex_unlock(&s->lock);
	buf_free(&clean);
	if (r < 0)
		return err_set(err, r, "%s", own.text);
	if (!s->ask)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, file);
	return 0;
}

int session_setting_reset(struct session *s, const char *file)
{
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return -ENOENT;
	pthread_mutex_lock(&s->lock);
	int r = session_alive(s, NULL);
	if (r == 0) {
		settings_reset(&s->settings, i);
		setting_changed(s, i);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0 && !s->ask)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, file);
	return r;
}

int session_setting_get(struct session *s, const char *file, struct buf *out)
{
	enum setting i = settings_find(file);
	if (i == N_SETTINGS)
		return -ENOENT;
	size_t len;
	pthread_mutex_lock(&s->lock);
	const char *value = settings_get(&s->settings, i, &len);
	int r = buf_append(out, value, len);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* ---- verbs ---- */

struct said { /* one line at ctl */
	uid_t uid;
	gid_t gid;
	const char *argument;
	char user[TEXT_NAME_SIZE];
};

static int busy(const struct session *s, struct err *err)
{
	if (s->running || !list_empty(&s->queue))
		return err_set(err, -EBUSY, "an answer is under way; cancel it first");
	return 0;
}

static int do_cancel(struct session *s, const struct said *said, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	session_cancel_all(s, "cancelled");
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int do_clear(struct session *s, const struct said *said, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	int r = busy(s, err);
	if (r == 0) {
		store_begin(s->g->store);
		while (s->conversation.n)
			session_drop_turn(s);
		session_set_newest(s, NULL, 0);
		session_event(s, "cleared", NULL);
		session_poke(s, SESSION_CHAT_CHANGED);
		session_touch(s);
		store_end(s->g->store);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* With the lock held. */
static size_t last_prompt_bytes(struct session *s)
{
	const struct turn *last = conversation_last(&s->conversation);
	return last ? last->user->len : 0;
}

/* The turn that is asked again, or why none is. With the lock held. */
static int find_retry(struct session *s, struct turn **out, struct err *err)
{
	int r = session_alive(s, err);
	r = r ? r : busy(s, err);
	if (r < 0)
		return r;
	struct turn *last = *out = conversation_last(&s->conversation);
	if (last && last->state != TURN_DONE)
		return 0;
	return err_set(err, -ENOENT,
		last ? "nothing to retry: the last answer is complete" : "nothing to retry");
}

/* The turn's prompt, `was`, goes as `prompt`: what the rules of now have let through of it. With
 * the lock held. Takes the claim when it succeeds. */
static int retry_locked(struct session *s, const struct said *said, uint64_t id,
	const struct text *was, struct text *prompt, struct book_claim *claim, struct err *err)
{
	struct turn *last;
	int r = find_retry(s, &last, err);
	if (r == 0 && last->user != was)
		r = err_set(err, -EBUSY, "the conversation has just changed");
	if (r < 0)
		return r;
	struct request *q = request_new(s->g, id, prompt, &s->settings, said->uid, said->user);
	if (!q)
		return err_set(err, -ENOMEM, "out of memory");
	q->retry = true;
	r = session_submit(s, q, false, 0, err);
	if (r < 0)
		request_put(q);
	else
		q->claim = claim;
	return r;
}

/* What the request may cost: as a prompt's first write does. */
static int claim_retry(
	struct session *s, const struct said *said, struct book_claim **out, struct err *err)
{
	char name[TEXT_NAME_SIZE] = "";
	struct book_worst worst;
	struct turn *last;
	size_t len;
	pthread_mutex_lock(&s->lock);
	int r = find_retry(s, &last, err);
	const char *value = settings_get(&s->settings, SETTING_MODEL, &len);
	memcpy(name, value, len);
	pthread_mutex_unlock(&s->lock);
	struct model *m = r == 0 ? gateway_model_find(s->g, name) : NULL;
	if (r == 0 && !m)
		r = err_set(err, -EHOSTUNREACH, "there is no model %s", name);
	struct loaded *l = m ? model_peek(m) : NULL;
	if (r == 0) {
		struct money_price price;
		model_price(m, &price);
		pthread_mutex_lock(&s->lock);
		size_t bytes = last_prompt_bytes(s);
		worst_estimate(&worst, s, &price, l, bytes / 4);
		bool near = caching_is_near(s);
		pthread_mutex_unlock(&s->lock);
		worst.judges = money_add(worst_judges(s->g, GUARD_INPUT, bytes, 0),
			worst_judges(s->g, GUARD_OUTPUT, bytes, worst.output_tok));
		if (near)
			worst.lookup = worst_lookup(s->g, bytes);
		r = worst_claim(out, s->g, said->user, &worst, err);
	}
	loaded_put(l);
	model_put(m);
	return r;
}

static int do_retry(struct session *s, const struct said *said, struct err *err)
{
	struct book_claim *claim = NULL;
	struct text *was = NULL, *prompt = NULL;
	struct turn *last;
	uint64_t id = request_next_id(s->g);
	int r = gateway_accepts(s->g, err);
	pthread_mutex_lock(&s->lock);
	r = r ? r : find_retry(s, &last, err);
	if (r == 0)
		was = text_ref(last->user);
	pthread_mutex_unlock(&s->lock);
	r = r ? r : claim_retry(s, said, &claim, err);
	prompt = text_ref(was);
	r = r ? r : guard_one(s, said->uid, id, &prompt, err);
	pthread_mutex_lock(&s->lock);
	r = r ? r : retry_locked(s, said, id, was, prompt, claim, err);
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		book_claim_return(claim);
	text_put(was);
	text_put(prompt);
	return r;
}

static int do_fork(struct session *s, const struct said *said, struct err *err)
{
	if (s->ask)
		return err_set(err, -EINVAL, "a channel has no conversation to fork");
	return gateway_session_fork(s, said->argument, said->uid, said->gid, err);
}

static int do_submit(struct session *s, const struct said *said, struct err *err)
{
	return draft_submit_all(s, err);
}

struct verb {
	const char *name;
	bool has_argument;
	int (*run)(struct session *s, const struct said *said, struct err *err);
};

static const struct verb verbs[] = {
	{"submit", false, do_submit},
	{"cancel", false, do_cancel},
	{"clear", false, do_clear},
	{"retry", false, do_retry},
	{"fork", true, do_fork},
};

static const struct verb *find_verb(const char *line, size_t len, const char **argument)
{
	const char *space = memchr(line, ' ', len);
	size_t n = space ? (size_t)(space - line) : len;
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		const struct verb *v = &verbs[i];
		if (strlen(v->name) != n || memcmp(v->name, line, n) || v->has_argument != !!space)
			continue;
		*argument = space ? space + 1 : "";
		return v;
	}
	return NULL;
}

/* Why find_verb found none: what the line has is no verb, or one whose argument is missing. */
static int refuse_verb(const char *line, size_t len, struct err *err)
{
	static const char fork[] = "fork";
	size_t n = strlen(fork);
	if (len == n && !memcmp(line, fork, n))
		return err_set(err, -EINVAL, "fork: the ID is missing, as in: fork b");
	return err_set(err, -EINVAL,
		"%.*s: not a verb; they are submit, cancel, clear, retry and fork ID",
		len < 40 ? (int)len : 40, line);
}

int session_ctl(
	struct session *s, uid_t uid, gid_t gid, const char *line, size_t len, struct err *err)
{
	char copy[128];
	struct said said = {.uid = uid, .gid = gid};
	struct err own = {0};
	const struct verb *v = NULL;
	if (len < sizeof copy && !memchr(line, '\0', len)) {
		memcpy(copy, line, len);
		copy[len] = '\0';
		v = find_verb(copy, len, &said.argument);
	}
	users_name(s->g->users, uid, said.user);
	int r = v ? v->run(s, &said, &own) : refuse_verb(line, len, &own);
	if (r < 0) {
		pthread_mutex_lock(&s->lock);
		session_set_note(s, own.text);
		pthread_mutex_unlock(&s->lock);
		err_set(err, r, "%s", own.text);
	}
	return r;
}

static int guard_messages(struct session *s, struct messages *m, struct err *err)
{
	uid_t uid = owner(s);
	int r = guard_one(s, uid, 0, &m->system, err);
	for (size_t i = 0; r == 0 && i < m->turns.n; i++) {
		r = guard_one(s, uid, 0, &m->turns.turns[i].user, err);
		r = r ? r : guard_one(s, uid, 0, &m->turns.turns[i].assistant, err);
	}
	if (r == 0)
		conversation_recount(&m->turns);
	return r;
}

/* The conversation becomes the one that was read. Takes what is in m. With the lock held. */
static void replace(struct session *s, struct messages *m)
{
	store_begin(s->g->store);
	while (s->conversation.n)
		session_drop_turn(s);
	m->turns.next_serial += s->conversation.next_serial;
	for (size_t i = 0; i < m->turns.n; i++)
		m->turns.turns[i].serial += s->conversation.next_serial;
	conversation_free(&s->conversation);
	s->conversation = m->turns;
	m->turns = (struct conversation){0};
	if (m->system) {
		text_put(s->settings.value[SETTING_SYSTEM]);
		s->settings.value[SETTING_SYSTEM] = text_ref(m->system);
	}
	session_set_newest(s, NULL, 0);
	session_event(s, "replaced", NULL);
	session_poke(s, SESSION_CHAT_CHANGED);
	session_store_all(s);
	store_end(s->g->store);
}

int session_messages_set(struct session *s, const char *json, size_t len, struct err *err)
{
	struct err own = {0};
	struct messages m = {.turns = {.next_serial = 1}};
	int r = gateway_accepts(s->g, &own);
	r = r ? r : messages_parse(&m, json, len, &own);
	r = r ? r : guard_messages(s, &m, &own);
	pthread_mutex_lock(&s->lock);
	r = r ? r : session_alive(s, &own);
	r = r ? r : busy(s, &own);
	if (r == 0)
		replace(s, &m);
	else
		session_set_note(s, own.text);
	pthread_mutex_unlock(&s->lock);
	if (r == 0 && m.system && !s->ask)
		gateway_tell_change(s->g, GATEWAY_CHANGE_SESSION, s->id, "system");
	messages_free(&m);
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
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
