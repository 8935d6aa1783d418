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
 * ever freed under somebody's feet.
 *
 * Lock: model->lock, inside a session's, around a request's inbox and the leaves.
 */
#include "gateway/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

enum state { UNLOADED, LOADING, READY, FAILED };

enum model_setting {
	MODEL_PATH,
	MODEL_TEMPLATE,
	MODEL_PRICE_INPUT,
	MODEL_PRICE_CACHED,
	MODEL_PRICE_OUTPUT,
	N_MODEL_SETTINGS
};

struct model {
	atomic_uint refs;
	struct gateway *g;
	struct metrics *metrics;
	char name[TEXT_NAME_SIZE];

	pthread_mutex_t lock;
	struct text *settings[N_MODEL_SETTINGS];
	enum state state;
	struct loaded *loaded; /* READY */
	struct err failure;    /* FAILED */
	int failure_code;
	struct list waiting, active; /* struct model_user */
	uint64_t used_ns;            /* CLOCK_MONOTONIC */
	bool retired, unload_wanted; /* unload_wanted: while LOADING */

	atomic_uint percent;
	volatile bool stop;
	struct loop_work load_work;
};

/* ---- handles ---- */

static void free_handle(struct loop_work *work)
{
	struct loaded *l = list_entry(work, struct loaded, work);
	struct gateway *g = l->g;
	l->provider->unload(l->handle);
	free(l);
	gateway_idle(g);
	gateway_put(g);
}

struct loaded *loaded_put(struct loaded *l)
{
	if (l && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1)
		runner_post(l->g->loader, &l->work);
	return NULL;
}

static struct loaded *loaded_ref(struct loaded *l)
{
	if (l)
		atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

/* ---- the object ---- */

static void load(struct loop_work *work);

struct model *model_make(struct gateway *g, const char *name)
{
	struct model *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->metrics = metrics_new();
	if (!m->metrics) {
		free(m);
		return NULL;
	}
	atomic_init(&m->refs, 1);
	m->g = gateway_ref(g);
	memcpy(m->name, name, strnlen(name, TEXT_NAME_MAX));
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->waiting);
	list_init(&m->active);
	list_init(&m->load_work.link);
	m->load_work.run = load;
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
	for (size_t i = 0; i < N_MODEL_SETTINGS; i++)
		text_put(m->settings[i]);
	loaded_put(m->loaded);
	metrics_free(m->metrics);
	pthread_mutex_destroy(&m->lock);
	gateway_put(m->g);
	free(m);
	return NULL;
}

const char *model_name(const struct model *m)
{
	return m->name;
}

struct metrics *model_metrics(struct model *m)
{
	return m->metrics;
}

/* ---- settings ---- */

struct setting_row {
	const char *name, *allowed;
	bool (*fits)(const char *value, size_t len);
};

static bool fits_path(const char *value, size_t len)
{
	return len < 4096 && value[0] == '/' && !memchr(value, '\0', len) &&
	       !memchr(value, '\n', len);
}

static bool fits_template(const char *value, size_t len)
{
	static const char *const families[] = {
		"chatml", "llama2", "llama3", "mistral", "zephyr", "gemma", "plain"};
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (strlen(families[i]) == len && !memcmp(families[i], value, len))
			return true;
	return false;
}

static bool fits_price(const char *value, size_t len)
{
	money m;
	return money_parse(value, len, &m) == 0;
}

#define PRICE "dollars per million tokens: at most 1000000000, with at most 9 decimals, or nothing"

static const struct setting_row setting_rows[N_MODEL_SETTINGS] = {
	[MODEL_PATH] = {"path", "the path of a GGUF file", fits_path},
	[MODEL_TEMPLATE] = {"template",
		"chatml, llama2, llama3, mistral, zephyr, gemma, plain, or nothing (as the file "
		"says)",
		fits_template},
	[MODEL_PRICE_INPUT] = {"price_input", PRICE " (0)", fits_price},
	[MODEL_PRICE_CACHED] = {"price_cached", PRICE " (as price_input)", fits_price},
	[MODEL_PRICE_OUTPUT] = {"price_output", PRICE " (0)", fits_price},
};

static const char *const setting_names[N_MODEL_SETTINGS + 1] = {
	"path", "template", "price_input", "price_cached", "price_output", NULL};

const char *const *model_setting_names(void)
{
	return setting_names;
}

static int find_setting(const char *file, struct err *err)
{
	for (int i = 0; i < N_MODEL_SETTINGS; i++)
		if (!strcmp(setting_rows[i].name, file))
			return i;
	return err_set(err, -ENOENT, "a model has no setting %s", file);
}

int model_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	int i = find_setting(file, err);
	if (i < 0)
		return i;
	if (len && !setting_rows[i].fits(value, len))
		return err_set(err, -EINVAL, "%s: must be %s", file, setting_rows[i].allowed);
	return 0;
}

int model_setting_set(
	struct model *m, const char *file, const char *value, size_t len, struct err *err)
{
	int i = find_setting(file, err), r = model_setting_check(file, value, len, err);
	if (r < 0)
		return r;
	struct text *t = len ? text_new(value, len) : NULL;
	if (len && !t)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&m->lock);
	struct text *old = m->settings[i];
	m->settings[i] = t;
	/* What a load depends on: it may go well now. */
	if (m->state == FAILED && (i == MODEL_PATH || i == MODEL_TEMPLATE))
		m->state = UNLOADED;
	pthread_mutex_unlock(&m->lock);
	text_put(old);
	gateway_tell_change(m->g, GATEWAY_CHANGE_MODEL, m->name, file);
	return 0;
}

int model_setting_get(struct model *m, const char *file, struct buf *out)
{
	int i = find_setting(file, NULL);
	if (i < 0)
		return i;
	pthread_mutex_lock(&m->lock);
	struct text *t = text_ref(m->settings[i]);
	pthread_mutex_unlock(&m->lock);
	int r = t ? buf_append(out, t->bytes, t->len) : 0;
	text_put(t);
	return r;
}

/* With the lock held. */
static money price_of(const struct model *m, enum model_setting i, money otherwise)
{
	money price = otherwise;
	if (m->settings[i])
		money_parse(m->settings[i]->bytes, m->settings[i]->len, &price);
	return price;
}

void model_price(struct model *m, struct money_price *out)
{
	pthread_mutex_lock(&m->lock);
	out->input = price_of(m, MODEL_PRICE_INPUT, 0);
	out->cached = price_of(m, MODEL_PRICE_CACHED, out->input);
	out->output = price_of(m, MODEL_PRICE_OUTPUT, 0);
	pthread_mutex_unlock(&m->lock);
}

/* ---- loading ---- */

static void progress(void *arg, double fraction)
{
	struct model *m = arg;
	unsigned percent = fraction <= 0 ? 0 : fraction >= 1 ? 100 : (unsigned)(fraction * 100);
	atomic_store_explicit(&m->percent, percent, memory_order_relaxed);
}

/* Tells everyone in a list and empties it. With the lock held. */
static void tell_all(struct list *users, int status, const char *sentence)
{
	list_for_each (link, users) {
		struct model_user *u = list_entry(link, struct model_user, link);
		list_remove(link);
		u->told(u, status, sentence);
	}
}

/* A handle for what was loaded; NULL (and unloaded again) when memory is out. */
static struct loaded *wrap(struct gateway *g, const struct provider *provider, void *handle)
{
	struct loaded *l = calloc(1, sizeof *l);
	if (!l) {
		provider->unload(handle);
		return NULL;
	}
	atomic_init(&l->refs, 1);
	l->g = gateway_ref(g);
	gateway_busy(g);
	l->provider = provider;
	l->handle = handle;
	provider->limits(handle, &l->limits);
	list_init(&l->work.link);
	l->work.run = free_handle;
	return l;
}

/* The errno that requests get when a load failed. */
static int request_errno(int r)
{
	return r == -EBADMSG || r == -ENOTSUP || r == -ENOMEM || r == -ECANCELED ? r
										 : -EHOSTUNREACH;
}

static void loading_failed(struct model *m, int r, const struct err *err)
{
	m->state = m->unload_wanted || m->retired ? UNLOADED : FAILED;
	m->failure = *err;
	m->failure_code = request_errno(r);
	if (m->state == UNLOADED)
		tell_all(&m->waiting, -ECANCELED, "the model was unloaded");
	else
		tell_all(&m->waiting, m->failure_code, err->text);
}

/* Hands what was loaded to those who wait. Steals l. */
static void loading_done(struct model *m, struct loaded *l)
{
	m->state = READY;
	m->loaded = l;
	m->used_ns = clock_mono_ns();
	list_for_each (link, &m->waiting) {
		struct model_user *u = list_entry(link, struct model_user, link);
		list_remove(link);
		list_append(&m->active, link);
		u->loaded = loaded_ref(l);
		u->told(u, 0, "");
	}
}

/* With the lock held. */
static void start_loading(struct model *m)
{
	m->state = LOADING;
	m->unload_wanted = false;
	__atomic_store_n(&m->stop, false, __ATOMIC_RELAXED);
	atomic_store_explicit(&m->percent, 0, memory_order_relaxed);
	model_ref(m);
	gateway_busy(m->g);
	runner_post(m->g->loader, &m->load_work);
}

/* On the loader's thread; the model's reference was taken by start_loading. */
static void load(struct loop_work *work)
{
	struct model *m = list_entry(work, struct model, load_work);
	pthread_mutex_lock(&m->lock);
	struct text *path = text_ref(m->settings[MODEL_PATH]);
	struct text *family = text_ref(m->settings[MODEL_TEMPLATE]);
	pthread_mutex_unlock(&m->lock);

	const struct gateway_options *o = &m->g->options;
	struct provider_config config = {
		.path = path ? path->bytes : "",
		.chat_family = family ? family->bytes : NULL,
		.n_threads = o->n_threads,
		.kv_bytes = o->kv_bytes,
		.forbidden_device = m->g->mount_device,
		.progress = progress,
		.progress_arg = m,
	};
	struct err err = {0};
	void *handle = NULL;
	struct loaded *l = NULL;
	int r = local_provider.load(&handle, &config, &m->stop, &err);
	if (r == 0) {
		l = wrap(m->g, &local_provider, handle);
		r = l ? 0 : err_set(&err, -ENOMEM, "out of memory");
	}
	text_put(path);
	text_put(family);

	pthread_mutex_lock(&m->lock);
	if (r == 0 && !m->unload_wanted && !m->retired) {
		loading_done(m, l);
		l = NULL;
	} else if (r == -ECANCELED && !m->unload_wanted && !m->retired) {
		start_loading(m); /* wanted again while it was being stopped */
	} else {
		loading_failed(m, r, &err);
	}
	bool failed = m->state == FAILED;
	pthread_mutex_unlock(&m->lock);
	if (failed)
		log_warn("model %s: %s", m->name, err.text);
	loaded_put(l);
	gateway_idle(m->g);
	model_put(m);
}

static int no_path(const struct model *m, int code, struct err *err)
{
	return err_set(err, code,
		"model %s has no path: write that of a GGUF file to its file path", m->name);
}

/* With the lock held. */
static int check_locked(struct model *m, struct err *err)
{
	if (m->retired)
		return err_set(err, -EHOSTUNREACH, "model %s was removed", m->name);
	if (!m->settings[MODEL_PATH] && m->state != READY)
		return no_path(m, -EHOSTUNREACH, err);
	return 0;
}

int model_check(struct model *m, struct err *err)
{
	pthread_mutex_lock(&m->lock);
	int r = check_locked(m, err);
	pthread_mutex_unlock(&m->lock);
	return r;
}

int model_use(struct model *m, struct model_user *user, struct err *err)
{
	pthread_mutex_lock(&m->lock);
	int r = check_locked(m, err);
	if (r == 0 && m->state == READY) {
		user->loaded = loaded_ref(m->loaded);
		list_append(&m->active, &user->link);
		m->used_ns = clock_mono_ns();
	} else if (r == 0) {
		if (m->state != LOADING)
			start_loading(m);
		m->unload_wanted = false;
		list_append(&m->waiting, &user->link);
		r = 1;
	}
	pthread_mutex_unlock(&m->lock);
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

struct loaded *model_peek(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	struct loaded *l = loaded_ref(m->loaded);
	pthread_mutex_unlock(&m->lock);
	return l;
}

/* With the lock held; what it returns is to be put without it. */
static struct loaded *unload_locked(struct model *m, int status, const char *why)
{
	struct loaded *l = m->loaded;
	m->loaded = NULL;
	if (m->state == LOADING) {
		m->unload_wanted = true;
		__atomic_store_n(&m->stop, true, __ATOMIC_RELAXED);
	} else {
		m->state = UNLOADED;
	}
	tell_all(&m->active, status, why);
	return l;
}

void model_retire(struct model *m, const char *why)
{
	pthread_mutex_lock(&m->lock);
	m->retired = true;
	struct loaded *l = unload_locked(m, -ECANCELED, why);
	tell_all(&m->waiting, -ECANCELED, why);
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

void model_broke(struct model *m, int status, const char *sentence)
{
	pthread_mutex_lock(&m->lock);
	struct loaded *l = NULL;
	if (m->state == READY) {
		l = unload_locked(m, status, sentence);
		m->state = FAILED;
		m->failure_code = status;
		err_set(&m->failure, 0, "%s", sentence);
	}
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

void model_unload_idle(struct model *m, uint64_t since_ns)
{
	pthread_mutex_lock(&m->lock);
	struct loaded *l = NULL;
	if (m->state == READY && list_empty(&m->active) && m->used_ns < since_ns)
		l = unload_locked(m, -ECANCELED, "");
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
}

/* ---- verbs and views ---- */

static bool is_verb(const char *verb, size_t len, const char *name)
{
	return strlen(name) == len && !memcmp(name, verb, len);
}

int model_ctl(struct model *m, const char *verb, size_t len, struct err *err)
{
	int r = 0;
	struct loaded *l = NULL;
	pthread_mutex_lock(&m->lock);
	if (is_verb(verb, len, "load")) {
		if (m->retired || atomic_load(&m->g->stopping))
			r = err_set(err, -ESHUTDOWN, "the model is going away");
		else if (m->state != READY && !m->settings[MODEL_PATH])
			r = no_path(m, -ENOENT, err);
		else if (m->state == LOADING)
			m->unload_wanted = false;
		else if (m->state != READY)
			start_loading(m);
	} else if (is_verb(verb, len, "unload")) {
		l = unload_locked(m, -ECANCELED, "the model was unloaded");
	} else if (is_verb(verb, len, "reset")) {
		m->state = m->state == FAILED ? UNLOADED : m->state;
	} else {
		r = err_set(err, -EINVAL, "%.*s: not a verb; they are load, unload and reset",
			len < 64 ? (int)len : 64, verb);
	}
	pthread_mutex_unlock(&m->lock);
	loaded_put(l);
	return r;
}

static int render_state(struct model *m, struct buf *out)
{
	pthread_mutex_lock(&m->lock);
	enum state state = m->state;
	struct err failure = m->failure;
	pthread_mutex_unlock(&m->lock);
	switch (state) {
	case LOADING:
		return buf_printf(out, "loading %u%%\n", atomic_load(&m->percent));
	case READY:
		return buf_append_str(out, "ready\n");
	case FAILED:
		return buf_printf(out, "failed: %s\n", failure.text);
	case UNLOADED:
		break;
	}
	return buf_append_str(out, "unloaded\n");
}

static int render_info(struct model *m, struct buf *out)
{
	static const char *const words[] = {"unloaded", "loading", "ready", "failed"};
	pthread_mutex_lock(&m->lock);
	struct text *path = text_ref(m->settings[MODEL_PATH]);
	struct loaded *l = loaded_ref(m->loaded);
	enum state state = m->state;
	pthread_mutex_unlock(&m->lock);
	int r = buf_printf(out,
		"{\n  \"name\": \"%s\",\n  \"state\": \"%s\",\n  \"path\": ", m->name,
		words[state]);
	size_t valid = path ? utf8_valid_prefix(path->bytes, path->len) : 0;
	r = r ? r : text_append_json(out, path ? path->bytes : "", valid);
	r = r || !l ? r : l->provider->info(l->handle, out);
	r = r ? r : buf_append_str(out, "\n}\n");
	text_put(path);
	loaded_put(l);
	return r;
}

void model_stats(struct model *m, struct provider_stats *out, bool *is_loaded)
{
	struct loaded *l = model_peek(m);
	*out = (struct provider_stats){0};
	*is_loaded = l;
	if (l)
		l->provider->stats(l->handle, out);
	loaded_put(l);
}

int model_render(struct model *m, enum model_view view, struct buf *out)
{
	const char *name = m->name;
	switch (view) {
	case MODEL_STATE:
		return render_state(m, out);
	case MODEL_INFO:
		return render_info(m, out);
	case MODEL_METRICS:
		break;
	}
	return metrics_render(&m->metrics, &name, 1, out);
}
