/* SPDX-License-Identifier: Apache-2.0 */
/*
 * API keys as front ends see them: those of a filesystem make, set and remove them; one that is
 * shown a secret asks whose it is and what it grants. The keys themselves are api_keys.c's.
 *
 * Nothing that is said here names a secret, or what was shown as one.
 */
#include "gateway/gateway_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/api_keys.h"
#include "gateway/core.h"
#include "gateway/verbs.h"

/* ---- which there are ---- */

int gateway_api_key_create(struct gateway *g, const char *name, struct err *err)
{
	int r = gateway_check_name("API key", name, err);
	r = r ? r : api_keys_create(g->api_keys, name, err);
	if (r == 0)
		gateway_tell_change(g, GATEWAY_CHANGE_KEYS, name, NULL);
	return r;
}

int gateway_api_key_remove(struct gateway *g, const char *name, struct err *err)
{
	int r = api_keys_remove(g->api_keys, name, err);
	if (r == 0)
		gateway_tell_change(g, GATEWAY_CHANGE_KEYS, name, NULL);
	return r;
}

int gateway_api_key_forget(struct gateway *g, const char *name, struct err *err)
{
	return api_keys_forget(g->api_keys, name, err);
}

bool gateway_api_key_has_left(struct gateway *g, const char *name)
{
	return api_keys_has_left(g->api_keys, name);
}

char **gateway_api_key_names_left(struct gateway *g)
{
	return api_keys_names_left(g->api_keys);
}

struct api_key *gateway_api_key_find(struct gateway *g, const char *name)
{
	return api_keys_find(g->api_keys, name);
}

char **gateway_api_key_names(struct gateway *g)
{
	return api_keys_names(g->api_keys);
}

struct api_key *api_key_ref(struct api_key *k)
{
	atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
	return k;
}

struct api_key *api_key_put(struct api_key *k)
{
	if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	struct gateway *g = k->g;
	api_grant_free(&k->grant);
	free(k);
	gateway_put(g);
	return NULL;
}

const char *api_key_name(const struct api_key *k)
{
	return k->name;
}

/* ---- settings ---- */

const char *const *api_key_setting_names(void)
{
	return api_grant_names();
}

int api_key_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	struct api_grant_value v;
	int r = api_grant_read(&v, file, value, len, err);
	api_grant_value_free(&v);
	return r;
}

bool api_key_setting_is_hopeless(const char *file, const char *value, size_t len)
{
	return api_grant_is_hopeless(file, value, len);
}

int api_key_setting_set(
	struct api_key *k, const char *file, const char *value, size_t len, struct err *err)
{
	struct api_grant_value v;
	int r = api_grant_read(&v, file, value, len, err);
	if (r < 0)
		return r;
	api_keys_lock(k->g->api_keys);
	api_grant_take(&k->grant, &v);
	api_keys_unlock(k->g->api_keys);
	api_grant_value_free(&v);
	gateway_tell_change(k->g, GATEWAY_CHANGE_KEY, k->name, file);
	return 0;
}

void api_key_setting_fail(struct api_key *k, const char *file)
{
	int i = api_grant_find(file, NULL);
	if (i < 0)
		return;
	api_keys_lock(k->g->api_keys);
	k->grant.broken[i] = true;
	api_keys_unlock(k->g->api_keys);
}

int api_key_setting_get(struct api_key *k, const char *file, struct buf *out)
{
	int i = api_grant_find(file, NULL);
	if (i < 0)
		return i;
	api_keys_lock(k->g->api_keys);
	const char *text = k->grant.values[i].text;
	int r = text ? buf_append_str(out, text) : 0;
	api_keys_unlock(k->g->api_keys);
	return r;
}

/* ---- verbs ---- */

enum { NEW, REVOKE };

static const struct verbs_row verbs[] = {
	[NEW] = {.name = "new"}, [REVOKE] = {.name = "revoke"}, {0}};

int api_key_ctl(struct api_key *k, const char *line, size_t len, char secret[API_KEY_SECRET],
	struct err *err)
{
	struct verbs_argument none;
	int verb = verbs_find(verbs, line, len, &none, err);
	if (verb < 0)
		return verb;
	if (verb == REVOKE && secret)
		explicit_bzero(secret, API_KEY_SECRET);
	if (verb == REVOKE) {
		log_info("keys/%s: revoked", k->name);
		return api_keys_revoke(k->g->api_keys, k, NULL, err);
	}
	if (!secret)
		return err_set(err, -EINVAL,
			"new: its secret is read once, from where it was asked for: exec 3<>ctl; "
			"echo new >&3; cat <&3; exec 3>&-");
	int r = api_keys_new_secret(k->g->api_keys, k, secret, err);
	if (r == 0)
		log_info("keys/%s: a new secret", k->name);
	return r;
}

bool api_key_ctl_is_hopeless(const char *line, size_t len, bool reads)
{
	size_t n = len;
	while (n && (line[n - 1] == ' ' || line[n - 1] == '\r'))
		n--;
	if (!reads && n == strlen(verbs[NEW].name) && !memcmp(line, verbs[NEW].name, n))
		return true;
	return verbs_is_hopeless(verbs, line, len);
}

int api_key_unread(struct api_key *k, const char *secret, struct err *err)
{
	return api_keys_revoke(k->g->api_keys, k, secret, err);
}

/* ---- texts ---- */

/* Under the lock: why it lets nobody in, as `state` has it; NULL: it does. *file: of "broken". */
static const char *closed_by(const struct api_key *k, const char **file)
{
	*file = api_grant_broken(&k->grant);
	return *file                                                                   ? "broken"
	       : !k->grant.values[API_GRANT_USER].text                                 ? "no user"
	       : !k->has_secret                                                        ? "no secret"
	       : api_grant_is_over(&k->grant, (int64_t)(clock_real_ns() / 1000000000)) ? "expired"
										       : NULL;
}

static int render_state(struct api_key *k, struct buf *out)
{
	const char *file;
	api_keys_lock(k->g->api_keys);
	const char *why = closed_by(k, &file);
	api_keys_unlock(k->g->api_keys);
	return file ? buf_printf(out, "broken: %s\n", file)
		    : buf_printf(out, "%s\n", why ? why : "ready");
}

static int render_used(struct api_key *k, struct buf *out)
{
	char text[32];
	struct tm t;
	api_keys_lock(k->g->api_keys);
	time_t used_s = (time_t)k->used_min * 60;
	api_keys_unlock(k->g->api_keys);
	if (!used_s || !gmtime_r(&used_s, &t))
		return 0;
	size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ\n", &t);
	return buf_append(out, text, n);
}

int api_key_render(struct api_key *k, enum api_key_view view, struct buf *out)
{
	return view == API_KEY_STATE ? render_state(k, out) : render_used(k, out);
}

/* ---- for who is shown one ---- */

/* Under the lock: lets in whoever has shown it, or says why not. */
static int let_in(struct api_keys *keys, struct api_key *k, uid_t *uid, struct err *err)
{
	const char *file, *why = closed_by(k, &file);
	if (file)
		return err_set(err, -EACCES,
			"API key %s lets nobody in: its file %s holds no value", k->name, file);
	if (why)
		return err_set(err, -EACCES, "API key %s lets nobody in: %s", k->name, why);
	*uid = k->grant.values[API_GRANT_USER].uid;
	api_keys_note_use(keys, k, (int64_t)(clock_real_ns() / 60000000000));
	return 0;
}

int gateway_api_key_check(struct gateway *g, const char *secret, size_t len, struct api_key **out,
	uid_t *uid, struct err *err)
{
	struct api_keys *keys = g->api_keys;
	struct api_digest digest;
	api_secret_digest(secret, len, &digest);
	api_keys_lock(keys);
	struct api_key *k = api_keys_shown(keys, &digest);
	int r = k ? let_in(keys, k, uid, err) : err_set(err, -EACCES, "no API key is that");
	if (r == 0)
		*out = api_key_ref(k);
	api_keys_unlock(keys);
	return r;
}

int api_key_allows(struct api_key *k, enum api_scope what, const char *model, struct err *err)
{
	api_keys_lock(k->g->api_keys);
	int r = api_grant_allows(&k->grant, what, model, err);
	api_keys_unlock(k->g->api_keys);
	return r;
}
