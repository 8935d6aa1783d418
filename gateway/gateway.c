/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway object: opening and ending it, the tables of sessions and models.
 *
 * The end comes in two steps. gateway_stop refuses new work, cancels what runs and wakes everybody;
 * gateway_free then waits until no request and no loaded model is left, ends the threads in the
 * order of their dependence (loader, texts, loop, store) and lets go. Sessions, models and answers
 * that others still hold keep the gateway's memory, not its threads.
 *
 * Lock: gateway->lock guards the tables and is outside of the sessions' and models' locks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/ask_errors.h"
#include "gateway/audit.h"
#include "gateway/book.h"
#include "gateway/cache.h"
#include "gateway/guards.h"
#include "gateway/http.h"
#include "gateway/judge.h"
#include "gateway/router.h"
#include "gateway/secrets.h"
#include "gateway/session.h"
#include "gateway/users.h"

/* ---- references and business ---- */

struct gateway *gateway_ref(struct gateway *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

struct gateway *gateway_put(struct gateway *g)
{
	if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	while (g->reports) {
		struct report *r = g->reports;
		g->reports = r->next;
		free(r);
	}
	table_free(&g->sessions);
	table_free(&g->models);
	book_free(g->book);
	guards_free(g->guards);
	audit_free(g->audit);
	users_free(g->users);
	http_free(g->http);
	secrets_free(g->secrets);
	loop_free(g->loop);
	store_free(g->store);
	watch_table_free(g->watch);
	metrics_free(g->metrics);
	trace_free(g->trace);
	ask_errors_free(g->ask_errors);
	gate_free(g->judges);
	router_free(g->router);
	pthread_cond_destroy(&g->idle);
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->busy_lock);
	free(g);
	return NULL;
}

void gateway_busy(struct gateway *g)
{
	pthread_mutex_lock(&g->busy_lock);
	g->n_busy++;
	pthread_mutex_unlock(&g->busy_lock);
}

void gateway_idle(struct gateway *g)
{
	pthread_mutex_lock(&g->busy_lock);
	if (--g->n_busy == 0)
		pthread_cond_broadcast(&g->idle);
	pthread_mutex_unlock(&g->busy_lock);
}

int gateway_accepts(struct gateway *g, struct err *err)
{
	if (atomic_load(&g->stopping))
		return err_set(err, -ESHUTDOWN, "llmfs is stopping");
	return store_state(g->store, err);
}

struct change {
	struct loop_work work;
	struct gateway *g;
	struct gateway_change change;
	char name[TEXT_NAME_SIZE], file[32];
};

static void tell_change(struct loop_work *work)
{
	struct change *c = list_entry(work, struct change, work);
	c->g->options.changed(c->g->options.changed_arg, &c->change);
	free(c);
}

void gateway_tell_change(
	struct gateway *g, enum gateway_change_kind kind, const char *name, const char *file)
{
	struct change *c = g->options.changed ? calloc(1, sizeof *c) : NULL;
	if (!c)
		return;
	list_init(&c->work.link);
	c->work.run = tell_change;
	c->g = g;
	snprintf(c->name, sizeof c->name, "%s", name);
	snprintf(c->file, sizeof c->file, "%s", file ? file : "");
	c->change = (struct gateway_change){kind, c->name, file ? c->file : NULL};
	if (!loop_post(g->loop, &c->work))
		free(c);
}

/* ---- opening ---- */

static void fill_options(struct gateway_options *o)
{
	o->state_dir = NULL;
	o->max_sessions_per_user = o->max_sessions_per_user ? o->max_sessions_per_user : 1000;
	o->max_queued = o->max_queued ? o->max_queued : 64;
	o->max_prompt_bytes = o->max_prompt_bytes ? o->max_prompt_bytes : 16u << 20;
}

static uint64_t idle_interval_ns(const struct gateway *g)
{
	uint64_t s = g->options.idle_unload_s / 4;
	return (s < 1 ? 1 : s > 30 ? 30 : s) * 1000000000u;
}

struct model **gateway_all_models(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	struct model **list = calloc(g->models.n + 1, sizeof *list);
	for (size_t i = 0; list && i < g->models.n; i++)
		list[i] = model_ref(g->models.rows[i].object);
	pthread_mutex_unlock(&g->lock);
	return list;
}

void gateway_put_models(struct model **list)
{
	for (size_t i = 0; list && list[i]; i++)
		model_put(list[i]);
	free(list);
}

static void unload_idle(struct loop_timer *timer)
{
	struct gateway *g = list_entry(timer, struct gateway, idle_timer);
	uint64_t now = clock_mono_ns(), limit = (uint64_t)g->options.idle_unload_s * 1000000000u;
	struct model **list = gateway_all_models(g);
	for (size_t i = 0; now > limit && list && list[i]; i++)
		model_unload_idle(list[i], now - limit);
	gateway_put_models(list);
	if (!atomic_load(&g->stopping))
		loop_arm(g->loop, timer, now + idle_interval_ns(g));
}

static void wake_everybody(struct loop_work *work)
{
	struct gateway *g = list_entry(work, struct gateway, stop_work);
	watch_fire_all(g->watch);
}

static void account_changed(
	void *arg, enum gateway_change_kind kind, const char *name, const char *file)
{
	gateway_tell_change(arg, kind, name, file);
}

/* The last of those who scan the store: it may write. */
static int open_book(struct gateway *g, struct err *err)
{
	int r = book_open(&g->book, g->store, g->watch, g->loop, err);
	if (r < 0)
		return r;
	book_on_change(g->book, account_changed, g);
	struct book_crash crash;
	for (size_t i = 0; book_crash(g->book, i, &crash); i++)
		session_crashed(g, &crash);
	uint64_t last = book_last_request(g->book), audited = audit_last_request(g->audit);
	last = audited > last ? audited : last;
	if (atomic_load(&g->next_request) < last)
		atomic_store(&g->next_request, last);
	return 0;
}

static int open_secrets(struct gateway *g, const char *state_dir, struct err *err)
{
	char *dir = NULL;
	if (asprintf(&dir, "%s/keys", state_dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = secrets_open(&g->secrets, dir, err);
	free(dir);
	return r;
}

static int open_cache(struct gateway *g, const char *state_dir, struct err *err)
{
	char *dir = NULL;
	if (asprintf(&dir, "%s/cache", state_dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = cache_open(&g->cache, g, dir, err);
	free(dir);
	return r;
}

/* models/auto and models/cascade. */
static int add_virtual(struct gateway *g, struct err *err)
{
	static const char *const names[] = {"auto", "cascade"};
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof names / sizeof *names; i++) {
		struct model *m = model_make(g, names[i]);
		r = m ? table_add(&g->models, model_name(m), m) : -ENOMEM;
		if (r < 0)
			model_put(m);
	}
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int start(struct gateway *g, const char *state_dir, struct err *err)
{
	g->watch = watch_table_new();
	g->metrics = metrics_new();
	g->trace = trace_new();
	g->ask_errors = ask_errors_new();
	g->users = users_new();
	g->guards = guards_new(g);
	g->judges = gate_new();
	g->router = router_new();
	if (!g->watch || !g->metrics || !g->trace || !g->ask_errors || !g->users || !g->guards ||
		!g->judges || !g->router)
		return err_set(err, -ENOMEM, "out of memory");
	gate_set(g->judges, JUDGE_RUNNING_MAX, JUDGE_WAITING_MAX);
	int r = store_open(&g->store, state_dir, err);
	r = r ? r : open_secrets(g, state_dir, err);
	r = r ? r : loop_new(&g->loop, err);
	r = r ? r : http_new(&g->http, g->loop, err);
	r = r ? r : runner_new(&g->loader, "loader", err);
	r = r ? r : runner_new(&g->texts, "texts", err);
	r = r ? r : add_virtual(g, err);
	r = r ? r : open_cache(g, state_dir, err);
	r = r ? r : audit_open(&g->audit, state_dir, g->loop, g->watch, err);
	/* All of these read the store, before anything is written. */
	r = r ? r : guards_restore(g->guards, err);
	r = r ? r : session_restore_all(g, err);
	r = r ? r : open_book(g, err);
	if (r < 0)
		return r;
	struct session *s = gateway_session_find(g, "main");
	session_put(s);
	if (!s)
		r = gateway_session_create(
			g, "main", g->options.daemon_uid, g->options.daemon_gid, 0700, NULL, err);
	if (r == 0 && g->options.idle_unload_s)
		loop_arm(g->loop, &g->idle_timer, clock_mono_ns() + idle_interval_ns(g));
	return r;
}

int gateway_open(struct gateway **out, const struct gateway_options *options, struct err *err)
{
	struct gateway *g = calloc(1, sizeof *g);
	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	atomic_init(&g->refs, 1);
	g->options = *options;
	fill_options(&g->options);
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->busy_lock, NULL);
	pthread_cond_init(&g->idle, NULL);
	g->started_ns = clock_real_ns();
	list_init(&g->idle_timer.link);
	g->idle_timer.run = unload_idle;
	list_init(&g->stop_work.link);
	g->stop_work.run = wake_everybody;
	int r = start(g, options->state_dir, err);
	if (r < 0)
		gateway_free(g);
	else
		*out = g;
	return r;
}

/* ---- the end ---- */

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

void gateway_stop(struct gateway *g)
{
	static const char why[] = "llmfs was stopped";
	if (atomic_exchange(&g->stopping, true))
		return;
	if (g->audit)
		audit_stop(g->audit);
	if (g->book)
		book_stop(g->book);
	struct session **sessions = gateway_all_sessions(g);
	for (size_t i = 0; sessions && sessions[i]; i++) {
		pthread_mutex_lock(&sessions[i]->lock);
		session_cancel_all(sessions[i], why);
		pthread_mutex_unlock(&sessions[i]->lock);
	}
	gateway_put_sessions(sessions);
	/* Channels are in no table: their requests end with their models. */
	struct model **models = gateway_all_models(g);
	for (size_t i = 0; models && models[i]; i++)
		model_retire(models[i], why);
	gateway_put_models(models);
	if (g->loop)
		loop_post(g->loop, &g->stop_work);
}

static void drop_tables(struct gateway *g)
{
	for (size_t i = 0; i < g->sessions.n; i++)
		session_put(g->sessions.rows[i].object);
	for (size_t i = 0; i < g->models.n; i++)
		model_put(g->models.rows[i].object);
	table_free(&g->sessions);
	table_free(&g->models);
}

struct gateway *gateway_free(struct gateway *g)
{
	if (!g)
		return NULL;
	gateway_stop(g);
	pthread_mutex_lock(&g->busy_lock);
	while (g->n_busy)
		pthread_cond_wait(&g->idle, &g->busy_lock);
	pthread_mutex_unlock(&g->busy_lock);
	guards_stop(g->guards);
	g->loader = runner_free(g->loader);
	g->texts = runner_free(g->texts);
	audit_close(g->audit);
	if (g->loop)
		loop_close(g->loop);
	g->http = http_free(g->http);
	/* Nobody asks it any more, and what it has to write is written. */
	g->cache = cache_free(g->cache);
	/* Whoever still holds a session finds an empty store behind it: nothing is written any
	 * more. */
	store_close(g->store);
	drop_tables(g);
	return gateway_put(g);
}

void gateway_set_mount_device(struct gateway *g, dev_t device)
{
	g->mount_device = device;
	secrets_forbid(g->secrets, device);
}

/* ---- sessions ---- */

static int check_name(const char *what, const char *name, struct err *err)
{
	size_t len = strlen(name);
	if (len > TEXT_NAME_MAX)
		return err_set(err, -ENAMETOOLONG, "the name of a %s has at most %d bytes", what,
			TEXT_NAME_MAX);
	if (!text_is_name(name, len))
		return err_set(
			err, -EINVAL, "the name of a %s consists of A-Z a-z 0-9 . _ -", what);
	return 0;
}

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
	int r = check_name("session", id, err);
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
	if (r == 0)
		gateway_tell_change(g, GATEWAY_CHANGE_SESSIONS, id, NULL);
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

int gateway_channel_open(struct gateway *g, enum gateway_channel channel, const char *model,
	uid_t uid, struct session **out, struct err *err)
{
	static const char *const names[] = {
		[GATEWAY_ASK] = "ask",
		[GATEWAY_EMBED] = "embed",
		[GATEWAY_GUARD_TEST] = "test",
		[GATEWAY_EXPLAIN] = "explain",
		[GATEWAY_LOOKUP] = "lookup",
	};
	bool of_model = channel == GATEWAY_ASK || channel == GATEWAY_EMBED;
	struct model *m = of_model ? gateway_model_find(g, model) : NULL;
	if (of_model && !m)
		return err_set(err, -ENOENT, "there is no model %s", model);
	struct session *s = session_make(g, names[channel], true);
	int r = s ? 0 : err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && m)
		r = settings_set(
			&s->settings, SETTING_MODEL, model_name(m), strlen(model_name(m)), err);
	if (r == 0 && m)
		s->asked = model_serial(m);
	model_put(m);
	if (r == 0) {
		s->channel = channel;
		s->attr.uid = uid;
		*out = s;
	} else {
		session_put(s);
	}
	return r;
}

/* ---- models ---- */

int model_name_check(const char *name, struct err *err)
{
	int r = check_name("model", name, err);
	if (r == 0 && !strcmp(name, "default"))
		r = err_set(err, -EINVAL, "the name %s is reserved", name);
	if (r == 0 && model_name_is_virtual(name))
		r = err_set(err, -EEXIST, "models/%s is the router's", name);
	return r;
}

int gateway_model_create(struct gateway *g, const char *name, struct err *err)
{
	int r = model_name_check(name, err);
	if (r < 0)
		return r;
	struct model *m = model_make(g, name);
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&g->lock);
	r = atomic_load(&g->stopping) ? -ESHUTDOWN : table_add(&g->models, model_name(m), m);
	pthread_mutex_unlock(&g->lock);
	if (r < 0) {
		model_put(m);
		return err_set(err, r, "model %s: %s", name, strerror(-r));
	}
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, name, NULL);
	return 0;
}

int gateway_model_remove(struct gateway *g, const char *name, struct err *err)
{
	struct model *m = NULL;
	int r = 0;
	pthread_mutex_lock(&g->lock);
	if (model_name_is_virtual(name))
		r = err_set(err, -EPERM, "models/%s is the router's", name);
	else if (!strcmp(g->default_model, name) && table_find(&g->models, name))
		r = err_set(err, -EBUSY, "models/default points to %s", name);
	else
		m = table_remove(&g->models, name);
	pthread_mutex_unlock(&g->lock);
	if (r == 0 && !m)
		r = err_set(err, -ENOENT, "there is no model %s", name);
	if (r < 0)
		return r;
	model_retire(m, "the model was removed");
	ask_errors_forget(g->ask_errors, model_serial(m));
	model_put(m);
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, name, NULL);
	return 0;
}

int gateway_model_key_forget(struct gateway *g, const char *name, struct err *err)
{
	return secrets_has(g->secrets, name) ? secrets_set(g->secrets, name, "", 0, err) : 0;
}

char **gateway_model_key_names(struct gateway *g)
{
	return secrets_names(g->secrets);
}

struct model *gateway_model_find(struct gateway *g, const char *name)
{
	pthread_mutex_lock(&g->lock);
	if (!strcmp(name, "default"))
		name = g->default_model;
	struct model *m = table_find(&g->models, name);
	if (m)
		model_ref(m);
	pthread_mutex_unlock(&g->lock);
	return m;
}

char **gateway_model_names(struct gateway *g)
{
	pthread_mutex_lock(&g->lock);
	char **names = table_names(&g->models);
	pthread_mutex_unlock(&g->lock);
	return names;
}

int gateway_default_set(struct gateway *g, const char *name, struct err *err)
{
	if (name && (!text_is_name(name, strlen(name)) || !strcmp(name, "default")))
		return err_set(
			err, -EINVAL, "default points to the bare name of a model beside it");
	pthread_mutex_lock(&g->lock);
	snprintf(g->default_model, sizeof g->default_model, "%s", name ? name : "");
	pthread_mutex_unlock(&g->lock);
	gateway_tell_change(g, GATEWAY_CHANGE_MODELS, "default", NULL);
	return 0;
}

int gateway_default(struct gateway *g, struct buf *name)
{
	pthread_mutex_lock(&g->lock);
	int r = buf_append_str(name, g->default_model);
	pthread_mutex_unlock(&g->lock);
	return r;
}
