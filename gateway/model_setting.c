/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is set of a model: its settings by the names of their files, its key, and the few values
 * that others ask for. A change is in force for the next request: what a handle is made from makes
 * it stale, or, of a file that is loaded, outdated, until it is loaded again.
 *
 * Any thread; model->lock is held for a look or a change. Which values are allowed:
 * model_settings.c.
 */
#include <errno.h>
#include <string.h>

#include "gateway/model_parts.h"
#include "gateway/route.h"
#include "gateway/routing.h"
#include "gateway/secrets.h"

const char *const *model_setting_names(void)
{
	return model_settings_names();
}

static int find_setting(const char *file, struct err *err)
{
	enum model_setting i = model_settings_find(file);
	return i < N_MODEL_SETTINGS ? (int)i
				    : err_set(err, -ENOENT, "a model has no setting %s", file);
}

int model_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	int i = find_setting(file, err);
	return i < 0 ? i : model_settings_check((enum model_setting)i, value, len, err);
}

bool model_setting_is_hopeless(const char *file, const char *value, size_t len)
{
	enum model_setting i = model_settings_find(file);
	return i < N_MODEL_SETTINGS && model_settings_is_hopeless(i, value, len);
}

static bool is_same(const struct text *a, const struct text *b)
{
	return a == b || (a && b && a->len == b->len && !memcmp(a->bytes, b->bytes, a->len));
}

int model_setting_set(
	struct model *m, const char *file, const char *value, size_t len, struct err *err)
{
	int i = find_setting(file, err), r = model_setting_check(file, value, len, err);
	if (r < 0)
		return r;
	if (m->is_virtual)
		return model_is_the_routers(m, err);
	if (i == MODEL_FALLBACK && route_fallback_has(value, len, m->name))
		return err_set(err, -EINVAL, "fallback: %s is this model itself", m->name);
	struct text *t = len ? text_new(value, len) : NULL;
	if (len && !t)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&m->lock);
	struct text *old = m->settings.value[i];
	m->settings.value[i] = t;
	model_settings_price(&m->settings, &m->price);
	if (model_settings_reloads((enum model_setting)i))
		model_make_anew(m);
	if (model_settings_is_of_a_load((enum model_setting)i) && !is_same(old, t))
		m->outdated = true;
	if (i == MODEL_PATH && !is_same(old, t)) {
		m->is_known = m->looked = false;
		m->look_ns = 0;
	}
	pthread_mutex_unlock(&m->lock);
	text_put(old);
	if (i == MODEL_REQUESTS_MAX || i == MODEL_QUEUE_MAX)
		model_set_gate(m);
	gateway_tell_change(m->g, GATEWAY_CHANGE_MODEL, m->name, file);
	return 0;
}

/* new reference, or NULL. */
static struct text *value_of(struct model *m, enum model_setting i)
{
	pthread_mutex_lock(&m->lock);
	struct text *t = text_ref(m->settings.value[i]);
	pthread_mutex_unlock(&m->lock);
	return t;
}

int model_setting_get(struct model *m, const char *file, struct buf *out)
{
	int i = find_setting(file, NULL);
	if (i < 0 || m->is_virtual)
		return i < 0 ? i : -EPERM;
	struct text *t = value_of(m, (enum model_setting)i);
	int r = t ? buf_append(out, t->bytes, t->len) : 0;
	text_put(t);
	return r;
}

/* ---- what is asked for ---- */

void model_price(struct model *m, struct money_price *out)
{
	if (m->is_virtual) {
		routing_price(m->g, out);
		return;
	}
	pthread_mutex_lock(&m->lock);
	*out = m->price;
	pthread_mutex_unlock(&m->lock);
}

struct text *model_fallback(struct model *m)
{
	return value_of(m, MODEL_FALLBACK);
}

uint32_t model_max_tokens(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	uint64_t tok = model_settings_integer(&m->settings, MODEL_MAX_TOKENS);
	pthread_mutex_unlock(&m->lock);
	return tok < UINT32_MAX ? (uint32_t)tok : UINT32_MAX;
}

uint64_t model_queue_timeout_ms(struct model *m)
{
	pthread_mutex_lock(&m->lock);
	uint64_t ms = model_settings_integer(&m->settings, MODEL_QUEUE_TIMEOUT_MS);
	pthread_mutex_unlock(&m->lock);
	return ms;
}

/* ---- the key ---- */

int model_key_set(struct model *m, const char *value, size_t len, struct err *err)
{
	if (m->is_virtual)
		return model_is_the_routers(m, err);
	int r = secrets_set(m->g->secrets, m->name, value, len, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->lock);
	model_make_anew(m);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

int model_key_check(const char *value, size_t len, struct err *err)
{
	return secrets_check(value, len, err);
}

bool model_key_is_hopeless(const char *value, size_t len)
{
	return secrets_is_hopeless(value, len);
}

bool model_key_is_reference(const char *value, size_t len)
{
	return secrets_is_reference(value, len);
}

void model_key_refused(struct model *m)
{
	char *key = NULL;
	struct err err;
	bool in_file = secrets_get(m->g->secrets, m->name, false, &key, &err) == -EAGAIN;
	secrets_wipe(key);
	if (!in_file)
		return;
	pthread_mutex_lock(&m->lock);
	m->stale = true;
	pthread_mutex_unlock(&m->lock);
}
