/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway object: opening and ending it. Its tables are gateway_sessions.c's and
 * gateway_models.c's.
 *
 * The end comes in two steps. gateway_stop refuses new work, cancels what runs and wakes everybody;
 * gateway_free then waits until no request and no loaded model is left, ends the threads in the
 * order of their dependence (loader, texts, loop, store) and lets go. Sessions, models and answers
 * that others still hold keep the gateway's memory, not its threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/api_keys.h"
#include "gateway/ask_errors.h"
#include "gateway/audit.h"
#include "gateway/book.h"
#include "gateway/cache.h"
#include "gateway/guards.h"
#include "gateway/http.h"
#include "gateway/judge.h"
#include "gateway/opinions.h"
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
	api_keys_free(g->api_keys);
	loop_free(g->loop);
	store_free(g->store);
	watch_table_free(g->watch);
	metrics_free(g->metrics);
	trace_free(g->trace);
	ask_errors_free(g->ask_errors);
	gate_free(g->judges);
	for (size_t i = 0; i < QUESTION_KINDS; i++)
		gate_free(g->questions[i]);
	router_free(g->router);
	opinions_free(g->opinions);
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

int gateway_check_name(const char *what, const char *name, struct err *err)
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

/* An odd multiplier keeps the salts apart. */
uint64_t gateway_salt(uid_t uid)
{
	return ((uint64_t)uid + 1) * 0x9E3779B97F4A7C15u;
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

static void tell_stored(struct loop_work *work)
{
	store_tell(list_entry(work, struct gateway, stored_work)->store);
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
	r = session_restore_queued(g, err);
	uint64_t last = book_last_request(g->book), audited = audit_last_request(g->audit);
	last = audited > last ? audited : last;
	if (atomic_load(&g->next_request) < last)
		atomic_store(&g->next_request, last);
	return r;
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

static int open_api_keys(struct gateway *g, const char *state_dir, struct err *err)
{
	char *dir = NULL;
	if (asprintf(&dir, "%s/api_keys", state_dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = api_keys_open(&g->api_keys, g, dir, err);
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

static int open_gates(struct gateway *g, struct err *err)
{
	g->judges = gate_new();
	if (!g->judges)
		return err_set(err, -ENOMEM, "out of memory");
	gate_set(g->judges, JUDGE_RUNNING_MAX, JUDGE_WAITING_MAX);
	for (size_t i = 0; i < QUESTION_KINDS; i++) {
		g->questions[i] = gate_new();
		if (!g->questions[i])
			return err_set(err, -ENOMEM, "out of memory");
		gate_set(g->questions[i], JUDGE_QUESTIONS_MAX, JUDGE_QUESTIONS_WAITING_MAX);
	}
	return 0;
}

static int start(struct gateway *g, const char *state_dir, struct err *err)
{
	g->watch = watch_table_new();
	g->metrics = metrics_new();
	g->trace = trace_new();
	g->ask_errors = ask_errors_new();
	g->users = users_new();
	g->guards = guards_new(g);
	g->router = router_new();
	g->opinions = opinions_new();
	if (!g->watch || !g->metrics || !g->trace || !g->ask_errors || !g->users || !g->guards ||
		!g->router || !g->opinions)
		return err_set(err, -ENOMEM, "out of memory");
	int r = open_gates(g, err);
	r = r ? r : store_open(&g->store, state_dir, err);
	r = r ? r : open_secrets(g, state_dir, err);
	r = r ? r : loop_new(&g->loop, err);
	r = r ? r : http_new(&g->http, g->loop, err);
	r = r ? r : runner_new(&g->loader, "loader", err);
	r = r ? r : runner_new(&g->texts, "texts", err);
	r = r ? r : gateway_add_virtual(g, err);
	r = r ? r : open_cache(g, state_dir, err);
	r = r ? r : audit_open(&g->audit, state_dir, g->loop, g->watch, err);
	/* All of these read the store, before anything is written. */
	r = r ? r : open_api_keys(g, state_dir, err);
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
	list_init(&g->routes_due);
	list_init(&g->routes_timer.link);
	g->routes_timer.run = session_routes_run;
	list_init(&g->stored_work.link);
	g->stored_work.run = tell_stored;
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
	session_store_rest(g);
	/* Whoever still holds a session finds an empty store behind it: nothing is written any
	 * more. */
	api_keys_close(g->api_keys);
	store_close(g->store);
	drop_tables(g);
	return gateway_put(g);
}

void gateway_set_mount_device(struct gateway *g, dev_t device)
{
	g->mount_device = device;
	secrets_forbid(g->secrets, device);
}
