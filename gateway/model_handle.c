/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a handle of a provider comes to be. A local model is loaded on the loader's thread. An
 * upstream takes no time: its handle is made where it is asked for, with the model's lock held
 * (memory, and a timer on the loop); only when its key or its certificates are in a file is it made
 * on the loader's thread, too. What an upstream's handle was made from may change: then it is
 * stale, the next request has another one made, and those under way end on the one they have.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/model_parts.h"
#include "gateway/plain_file.h"
#include "gateway/protocol.h"
#include "gateway/secrets.h"
#include "gateway/upstream.h"

enum { CA_BYTES = 4 << 20 /* of a file of certificates */ };

/* ---- references ---- */

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

struct loaded *loaded_ref(struct loaded *l)
{
	if (l)
		atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

/* An empty one for what is going to be loaded; NULL when memory is out. */
static struct loaded *loaded_new(struct gateway *g, const struct provider *provider)
{
	struct loaded *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	atomic_init(&l->refs, 1);
	l->g = g;
	l->provider = provider;
	list_init(&l->work.link);
	l->work.run = free_handle;
	return l;
}

/* It is loaded, or (r < 0) could not be. Steals l. */
static int loaded_finish(struct loaded *l, int r, struct loaded **out)
{
	if (r < 0) {
		free(l);
		return r;
	}
	gateway_ref(l->g);
	gateway_busy(l->g);
	l->provider->limits(l->handle, &l->limits);
	*out = l;
	return 0;
}

/* ---- two kinds ---- */

static void progress(void *arg, double fraction)
{
	struct model *m = arg;
	unsigned percent = fraction <= 0 ? 0 : fraction >= 1 ? 100 : (unsigned)(fraction * 100);
	atomic_store_explicit(&m->percent, percent, memory_order_relaxed);
}

bool model_begins_with_name(const char *sentence, const char *name)
{
	size_t n = strlen(name);
	return !strncmp(sentence, "models/", 7) && !strncmp(sentence + 7, name, n) &&
	       (sentence[7 + n] == ':' || sentence[7 + n] == '/');
}

/* A sentence about a load begins with the model, and with its file (NULL: there is none), once. */
static void say_whose(const struct model *m, const char *path, struct err *err)
{
	const struct err why = *err;
	if (model_begins_with_name(why.text, m->name))
		return;
	bool named = !path || !*path || !strncmp(why.text, path, strnlen(path, 200));
	err_set(err, 0, "models/%s: %.150s%s%s", m->name, named ? "" : path, named ? "" : ": ",
		why.text);
}

static void print_file(struct loaded *l, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return;
	const uint64_t file[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size,
		(uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec};
	digest_of(&l->print.file, file, sizeof file, "", 0);
}

static int print_made(struct loaded *l, struct err *err)
{
	struct buf made = {0};
	int r = l->provider->identity(l->handle, &made);
	if (r == 0)
		digest_of(&l->print.made, made.data, made.len, "", 0);
	else
		l->provider->unload(l->handle);
	buf_free(&made);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int load_local(
	struct model *m, const struct model_settings *s, struct loaded **out, struct err *err)
{
	const struct gateway_options *o = &m->g->options;
	const struct provider_config config = {
		.path = model_settings_text(s, MODEL_PATH),
		.chat_family = model_settings_is_set(s, MODEL_TEMPLATE)
				       ? model_settings_text(s, MODEL_TEMPLATE)
				       : NULL,
		.backend = model_settings_is_set(s, MODEL_BACKEND)
				   ? model_settings_text(s, MODEL_BACKEND)
				   : NULL,
		.gpu = (uint32_t)model_settings_integer(s, MODEL_GPU),
		.fp8 = model_settings_is_on(s, MODEL_FP8),
		.kv_fp8 = model_settings_is_on(s, MODEL_KV_FP8),
		.memory_share = model_settings_real(s, MODEL_MEMORY_SHARE),
		.n_threads = o->n_threads,
		.kv_bytes = o->kv_bytes,
		.forbidden_device = m->g->mount_device,
		.progress = progress,
		.progress_arg = m,
	};
	struct loaded *l = loaded_new(m->g, &local_provider);
	if (!l)
		return err_set(err, -ENOMEM, "models/%s: out of memory", m->name);
	print_file(l, config.path);
	int r = local_provider.load(&l->handle, &config, &m->stop, err);
	r = r ? r : print_made(l, err);
	if (r < 0)
		say_whose(m, config.path, err);
	return loaded_finish(l, r, out);
}

static const char *set_or_null(const struct model_settings *s, enum model_setting i)
{
	return model_settings_is_set(s, i) ? model_settings_text(s, i) : NULL;
}

static void configure(
	const struct model *m, const struct model_settings *s, struct upstream_config *c)
{
	const char *protocol = set_or_null(s, MODEL_PROTOCOL);
	const char *remote = set_or_null(s, MODEL_REMOTE_NAME);
	const char *proxy = set_or_null(s, MODEL_PROXY);
	protocol = protocol ? protocol : "openai";
	c->model = m->name;
	c->protocol = protocol_find(protocol, strlen(protocol));
	c->remote_name = remote ? remote : m->name;
	c->proxy = proxy && !strcmp(proxy, "none") ? "" : proxy;
	c->connect_ms = model_settings_integer(s, MODEL_CONNECT_TIMEOUT_MS);
	c->first_ms = model_settings_integer(s, MODEL_FIRST_BYTE_TIMEOUT_MS);
	c->idle_ms = model_settings_integer(s, MODEL_IDLE_TIMEOUT_MS);
	c->total_ms = model_settings_integer(s, MODEL_TIMEOUT_MS);
	c->breaker_failures = (uint32_t)model_settings_integer(s, MODEL_BREAKER_FAILURES);
	c->breaker_successes = (uint32_t)model_settings_integer(s, MODEL_BREAKER_SUCCESSES);
	c->breaker_open_ms = model_settings_integer(s, MODEL_BREAKER_OPEN_MS);
	c->retries = (uint32_t)model_settings_integer(s, MODEL_RETRIES);
	c->retry_ratio = model_settings_real(s, MODEL_RETRY_RATIO);
	c->health_ms = model_settings_integer(s, MODEL_HEALTH_INTERVAL_MS);
	c->context_tok = (uint32_t)model_settings_integer(s, MODEL_CONTEXT);
	c->http = m->g->http;
	c->loop = m->g->loop;
}

/* The certificates of ca_file: new *out, NULL where none is set. */
static int read_ca(struct model *m, const struct model_settings *s, bool may_read, char **out,
	size_t *len, struct err *err)
{
	const char *path = set_or_null(s, MODEL_CA_FILE);
	struct stat st;
	*out = NULL;
	if (!path || !may_read)
		return path ? -EAGAIN : 0;
	int fd = plain_file_open(AT_FDCWD, path, 0, m->g->mount_device, &st);
	char *bytes = fd < 0 ? NULL : malloc(CA_BYTES + 2);
	ssize_t n = fd < 0 ? fd : bytes ? plain_file_read(fd, bytes, CA_BYTES + 1) : -ENOMEM;
	if (fd >= 0)
		close(fd);
	if (n >= 0)
		bytes[n] = '\0';
	if (n >= 0 && n <= CA_BYTES && strstr(bytes, "-----BEGIN ")) {
		char *fits = realloc(bytes, (size_t)n + 1);
		*out = fits ? fits : bytes;
		*len = (size_t)n;
		return 0;
	}
	free(bytes);
	if (n > CA_BYTES)
		return err_set(err, -EFBIG, "models/%s/ca_file: %s: more than %d bytes", m->name,
			path, CA_BYTES);
	if (n >= 0)
		return err_set(err, -EINVAL, "models/%s/ca_file: %s: no certificates in PEM",
			m->name, path);
	return err_set(
		err, (int)n, "models/%s/ca_file: %s: %s", m->name, path, plain_file_words((int)n));
}

/* -EAGAIN: a file has to be read for it, which may_read does not allow. */
static int load_upstream(struct model *m, const struct model_settings *s, bool may_read,
	struct loaded **out, struct err *err)
{
	const struct text *endpoint = s->value[MODEL_ENDPOINT];
	struct upstream_config c = {0};
	const struct provider_config config = {.upstream = &c};
	char *urls = NULL, *key = NULL, *ca = NULL;
	configure(m, s, &c);
	int r = upstream_endpoints_parse(
		endpoint->bytes, endpoint->len, &urls, c.endpoints, &c.n_endpoints, err);
	if (r == 0 && !c.protocol)
		r = err_set(err, -EINVAL, "there is no such protocol");
	r = r ? r : secrets_get(m->g->secrets, m->name, may_read, &key, err);
	r = r ? r : read_ca(m, s, may_read, &ca, &c.ca_len, err);
	c.key = key;
	c.ca = ca;
	struct loaded *l = r == 0 ? loaded_new(m->g, &upstream_provider) : NULL;
	if (r == 0 && !l)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = loaded_finish(
			l, upstream_provider.load(&l->handle, &config, &m->stop, err), out);
	if (r < 0 && r != -EAGAIN)
		say_whose(m, NULL, err);
	secrets_wipe(key);
	free(ca);
	free(urls);
	return r;
}

/* ---- loading ---- */

/* The errno that requests get when a load failed. */
static int request_errno(int r)
{
	return r == -EBADMSG || r == -ENOTSUP || r == -ENOMEM || r == -ECANCELED ? r
										 : -EHOSTUNREACH;
}

static void fail(struct model *m, int r, const struct err *err)
{
	m->state = MODEL_FAILED;
	m->failure = *err;
	m->failure_code = request_errno(r);
}

static void loading_failed(struct model *m, int r, const struct err *err)
{
	if (m->unload_wanted || m->retired) {
		m->state = MODEL_UNLOADED;
		model_tell_all(&m->waiting, -ECANCELED, "the model was unloaded");
		return;
	}
	fail(m, r, err);
	model_tell_all(&m->waiting, m->failure_code, err->text);
}

/* Hands what was loaded to those who wait. Steals l. */
static void loading_done(struct model *m, struct loaded *l)
{
	m->state = MODEL_READY;
	m->loaded = l;
	m->is_known = l->provider == &local_provider && !m->outdated; /* of the file that is set */
	m->answers = l->limits.answers;
	m->embeds = l->limits.embeds;
	m->used_ns = clock_mono_ns();
	list_for_each (link, &m->waiting) {
		struct model_user *u = list_entry(link, struct model_user, link);
		list_remove(link);
		list_append(&m->active, link);
		u->loaded = loaded_ref(l);
		u->told(u, 0, "");
	}
}

void model_start_loading(struct model *m)
{
	m->state = MODEL_LOADING;
	m->unload_wanted = false;
	__atomic_store_n(&m->stop, false, __ATOMIC_RELAXED);
	atomic_store_explicit(&m->percent, 0, memory_order_relaxed);
	model_ref(m);
	gateway_busy(m->g);
	runner_post(m->g->loader, &m->load_work);
}

void model_load(struct loop_work *work)
{
	struct model *m = list_entry(work, struct model, load_work);
	struct model_settings s;
	struct err err = {0};
	struct loaded *l = NULL;
	pthread_mutex_lock(&m->lock);
	model_settings_copy(&s, &m->settings);
	m->stale = m->outdated = false;
	bool upstream = model_is_upstream(m);
	pthread_mutex_unlock(&m->lock);
	int r = upstream ? load_upstream(m, &s, true, &l, &err) : load_local(m, &s, &l, &err);
	model_settings_clear(&s);

	pthread_mutex_lock(&m->lock);
	if (r == 0 && !m->unload_wanted && !m->retired) {
		loading_done(m, l);
		l = NULL;
	} else if (r == -ECANCELED && !m->unload_wanted && !m->retired) {
		model_start_loading(m); /* wanted again while it was being stopped */
	} else {
		loading_failed(m, r, &err);
	}
	bool failed = m->state == MODEL_FAILED;
	pthread_mutex_unlock(&m->lock);
	if (failed)
		log_warn("%s", err.text);
	loaded_put(l);
	gateway_idle(m->g);
	model_put(m);
}

int model_unconfigured(const struct model *m, int code, struct err *err)
{
	return err_set(err, code,
		"model %s has neither path nor endpoint: write that of a GGUF file to its file "
		"path, or the URL of a server to its file endpoint",
		m->name);
}

bool model_is_current(const struct model *m)
{
	if (m->state != MODEL_READY)
		return false;
	bool upstream = m->loaded->provider == &upstream_provider;
	return upstream == model_is_upstream(m) && !(upstream && m->stale);
}

int model_make_current(struct model *m, struct loaded **old, struct err *err)
{
	*old = NULL;
	if (m->state == MODEL_LOADING)
		return 1;
	if (model_is_current(m))
		return 0;
	*old = m->loaded;
	m->loaded = NULL;
	m->state = MODEL_UNLOADED;
	if (!model_is_upstream(m))
		return 1;
	struct err why = {0};
	m->stale = false;
	int r = load_upstream(m, &m->settings, false, &m->loaded, &why);
	if (r == -EAGAIN)
		return 1;
	if (r == 0) {
		m->state = MODEL_READY;
		m->used_ns = clock_mono_ns();
		return 0;
	}
	fail(m, r, &why);
	return err_set(err, r == -ENOMEM ? r : -EHOSTUNREACH, "%s", why.text);
}
