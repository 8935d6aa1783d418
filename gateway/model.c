/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model is a name, some settings and at most one loaded handle. Its state moves
 *
 *	unloaded -> loading -> ready -> unloaded
 *	               \-> failed -> (the next request or `load`) loading
 *
 * Loading happens on the loader's thread, one model at a time; requests that need it wait in
 * `waiting` and are told. Unloading lets go of the handle and tells its users, which end with
 * -ECANCELED; the last to let go sends the handle to the loader's thread to be freed, so nothing is
 * ever freed under somebody's feet. An upstream (a model with an endpoint) is ready as soon as it
 *is asked for: model_handle.c.
 *
 * Lock: model->lock, inside a session's, around a request's inbox and the leaves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/model_parts.h"
#include "gateway/routing.h"
#include "gateway/verbs.h"

/* ---- the object ---- */

void model_set_gate(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	uint64_t running = model_settings_integer(&m->settings, MODEL_REQUESTS_MAX);
	uint64_t waiting = model_settings_integer(&m->settings, MODEL_QUEUE_MAX);
	pthread_mutex_unlock(&m->lock);
	gate_set(m->gate, running, waiting);
}

struct model *model_make(struct gateway *g, const char *name)
{
	static atomic_uint_least64_t last;
	struct model *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->metrics = metrics_new();
	m->gate = gate_new();
	if (!m->metrics || !m->gate) {
		metrics_free(m->metrics);
		gate_free(m->gate);
		free(m);
		return NULL;
	}
	atomic_init(&m->refs, 1);
	m->g = gateway_ref(g);
	m->serial = atomic_fetch_add(&last, 1) + 1;
	memcpy(m->name, name, strnlen(name, TEXT_NAME_MAX));
	m->is_virtual = model_name_is_virtual(name);
	latency_init(&m->latency, LATENCY_HALF_LIFE);
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->waiting);
	list_init(&m->active);
	list_init(&m->load_work.link);
	m->load_work.run = model_load;
	list_init(&m->look_work.link);
	m->look_work.run = model_look_now;
	model_set_gate(m);
	return m;
}

struct model *model_ref(struct model *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

struct model *model_put(struct model *m)
{
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	model_settings_clear(&m->settings);
	loaded_put(m->loaded);
	metrics_free(m->metrics);
	metrics_free(m->arm);
	gate_free(m->gate);
	latency_destroy(&m->latency);
	pthread_mutex_destroy(&m->lock);
	gateway_put(m->g);
	free(m);
	return NULL;
}

const char *model_name(const struct model *m)
{
	return m->name;
}

uint64_t model_serial(const struct model *m)
{
	return m->serial;
}

struct metrics *model_metrics(struct model *m)
{
	return m->metrics;
}

struct gate *model_gate(struct model *m)
{
	return m->gate;
}

bool model_is_upstream(const struct model *m)
{
	return model_settings_is_set(&m->settings, MODEL_ENDPOINT);
}

void model_make_anew(struct model *m)
{
	m->stale = true;
	if (m->state == MODEL_FAILED)
		m->state = MODEL_UNLOADED;
}

/* ---- users ---- */

void model_tell_all(struct list *users, int status, const char *sentence)
{
	list_for_each (link, users) {
		struct model_user *u = list_entry(link, struct model_user, link);
		list_remove(link);
		u->told(u, status, sentence);
	}
}

/* With the lock held. */
static int check_locked(struct model *m, struct err *err)
{
	if (m->retired)
		return err_set(err, -EHOSTUNREACH, "model %s was removed", m->name);
	if (m->is_virtual)
		return err_set(err, -EHOSTUNREACH,
			"models/%s is the router's: here a model is needed that has a path or an "
			"endpoint",
			m->name);
	if (!model_settings_is_set(&m->settings, MODEL_PATH) && !model_is_upstream(m) &&
		!model_is_current(m))
		return model_unconfigured(m, -EHOSTUNREACH, err);
	return 0;
}

int model_check(struct model *m, struct err *err)
{
	if (m->is_virtual)
		return routing_check(m->g, err);
	pthread_mutex_lock(&m->lock);
	int r = check_locked(m, err);
	pthread_mutex_unlock(&m->lock);
	return r;
}

/* With the lock held; what it returns is to be put without it. */
static struct loaded *unload_locked(struct model *m, int status, const char *why)
{
	struct loaded *l = m->loaded;
	m->loaded = NULL;
	if (m->state == MODEL_LOADING) {
		m->unload_wanted = true;
		__atomic_store_n(&m->stop, true, __ATOMIC_RELAXED);
	} else {
		m->state = MODEL_UNLOADED;
	}
	model_tell_all(&m->active, status, why);
	return l;
}

/* The same, and it failed. Of one that is ready. */
static struct loaded *break_locked(struct model *m, int status, const char *sentence)
{
	struct loaded *l = unload_locked(m, status, sentence);
	m->state = MODEL_FAILED;
	m->failure_code = status;
	err_set(&m->failure, 0, "%s", sentence);
	return l;
}

int model_file_locked(const struct model *m, struct err *err)
{
	if (m->state != MODEL_READY || !m->loaded->provider->file)
		return 0;
	return m->loaded->provider->file(m->loaded->handle, err);
}

/* It is no good, as its file is not what it was: those that use it end. With the lock held; *old is
 * to be put without it. 0: it is as it was; else why, as model_file_locked's. */
static int drop_written_locked(struct model *m, struct loaded **old, struct err *err)
{
	struct err why;
	int r = model_file_locked(m, NULL);
	if (r >= 0)
		return 0;
	err_set(&why, 0,
		"the model's file%s%.120s was %s while it was loaded: `echo load > models/%s/ctl` "
		"loads it again; replace model files with mv",
		m->outdated ? "" : " ",
		m->outdated ? "" : model_settings_text(&m->settings, MODEL_PATH),
		r == -EIO ? "written to" : "truncated", m->name);
	*old = break_locked(m, r, why.text);
	return err_set(err, r, "%s", why.text);
}

int model_use(struct model *m, struct model_user *user, struct err *err)
{
	struct loaded *old = NULL;
	pthread_mutex_lock(&m->lock);
	int r = check_locked(m, err);
	r = r ? r : drop_written_locked(m, &old, err);
	r = r ? r : model_make_current(m, &old, err);
	if (r == 0) {
		user->loaded = loaded_ref(m->loaded);
		list_append(&m->active, &user->link);
		m->used_ns = clock_mono_ns();
	} else if (r == 1) {
		if (m->state != MODEL_LOADING)
			model_start_loading(m);
		m->unload_wanted = false;
		list_append(&m->waiting, &user->link);
	}
	pthread_mutex_unlock(&m->lock);
	loaded_put(old);
	return r;
}

void model_unuse(struct model *m, struct model_user *user)
{
	pthread_mutex_lock(&m->lock);
	list_remove(&user->link);
	m->used_ns = clock_mono_ns();
	struct loaded *l = user->loaded;
	user->loaded = NULL;
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

struct loaded *model_peek_locked(struct model *m, struct loaded **old)
{
	*old = NULL;
	if (model_is_upstream(m) && !m->retired && m->state != MODEL_FAILED)
		model_make_current(m, old, NULL);
	return loaded_ref(m->loaded);
}

struct loaded *model_peek(struct model *m)
{
	struct loaded *old;
	pthread_mutex_lock(&m->lock);
	struct loaded *l = model_peek_locked(m, &old);
	pthread_mutex_unlock(&m->lock);
	loaded_put(old);
	return l;
}

void model_look_at_file(struct model *m, struct err *err)
{
	struct loaded *old = NULL;
	pthread_mutex_lock(&m->lock);
	drop_written_locked(m, &old, err);
	pthread_mutex_unlock(&m->lock);
	loaded_put(old);
}

void model_retire(struct model *m, const char *why)
{
	pthread_mutex_lock(&m->lock);
	m->retired = true;
	struct loaded *l = unload_locked(m, -ECANCELED, why);
	model_tell_all(&m->waiting, -ECANCELED, why);
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

void model_broke(struct model *m, int status, const char *sentence)
{
	pthread_mutex_lock(&m->lock);
	struct loaded *l = m->state == MODEL_READY ? break_locked(m, status, sentence) : NULL;
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

void model_unload_idle(struct model *m, uint64_t since_ns)
{
	pthread_mutex_lock(&m->lock);
	struct loaded *l = NULL;
	if (m->state == MODEL_READY && m->loaded->provider == &local_provider &&
		list_empty(&m->active) && m->used_ns < since_ns)
		l = unload_locked(m, -ECANCELED, "");
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

/* ---- verbs ---- */

enum { LOAD, UNLOAD, RESET };

static const struct verbs_row verbs[] = {
	[LOAD] = {.name = "load"}, [UNLOAD] = {.name = "unload"}, [RESET] = {.name = "reset"}, {0}};

/* With the lock held; *old as model_make_current's. What goes wrong is in the state. */
static int load(struct model *m, struct loaded **old, struct err *err)
{
	if (m->retired || atomic_load(&m->g->stopping))
		return err_set(err, -ESHUTDOWN, "the model is going away");
	if (check_locked(m, NULL) < 0)
		return model_unconfigured(m, -ENOENT, err);
	m->unload_wanted = false;
	if (drop_written_locked(m, old, NULL) < 0) {
		model_start_loading(m);
		return 0;
	}
	if (model_make_current(m, old, NULL) == 1 && m->state != MODEL_LOADING)
		model_start_loading(m);
	return 0;
}

bool model_ctl_is_hopeless(const char *line, size_t len)
{
	return verbs_is_hopeless(verbs, line, len);
}

int model_ctl(struct model *m, const char *line, size_t len, struct err *err)
{
	struct verbs_argument none;
	struct loaded *l = NULL;
	if (m->is_virtual)
		return model_is_the_routers(m, err);
	int verb = verbs_find(verbs, line, len, &none, err), r = verb < 0 ? verb : 0;
	pthread_mutex_lock(&m->lock);
	if (verb == LOAD)
		r = load(m, &l, err);
	else if (verb == UNLOAD)
		l = unload_locked(m, -ECANCELED, "the model was unloaded");
	else if (verb == RESET)
		model_make_anew(m); /* with breakers that are closed */
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
	return r;
}
