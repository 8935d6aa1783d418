/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever shows a secret is found by its SHA-256, in a table of lists: there is no walk over all
 * keys, and what the look-up takes depends on digests, which nobody can choose. A digest is
 * compared as a whole and in constant time.
 *
 * Digests are kept as keys of models are, by secrets.h, in a directory of their own: synced before
 * anybody is told of a new secret, so that one that a person has read lets him in whatever happens
 * next. The other way round a secret that is revoked goes from the table first, and is out of force
 * even where its file cannot be removed; that is told, and may be tried again. When a key was used
 * is in the store, put there behind: a minute of it may be lost.
 *
 * A key that was removed, but whose secret nobody has said to forget yet, is `left`: it lets nobody
 * in, and the next one of its name takes its secret over. All that a start finds are such: the
 * front end makes those that it has, and has the others forgotten when their time is over.
 *
 * Locks: `changing` is held across the I/O of a change, so that files and table change in the same
 * order; no check ever waits for it. `lock` guards the table and what is in the keys, for moments;
 * the store's is below it.
 */
#include "gateway/api_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/core.h"
#include "gateway/secrets.h"
#include "gateway/store.h"

enum { LISTS = 4096 /* a power of two: two keys a list, if there are all that may be */ };
static const char store_prefix[] = "k/";

struct api_keys {
	pthread_mutex_t changing, lock;
	struct gateway *g; /* borrowed: it is the gateway's own */
	struct secrets *digests;
	struct table names, left; /* those that are listed, and others; each with a reference */
	bool closed;
	struct api_key *lists[LISTS]; /* of all with a secret */
};

void api_keys_lock(struct api_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
}

void api_keys_unlock(struct api_keys *keys)
{
	pthread_mutex_unlock(&keys->lock);
}

/* ---- by digest; under the lock ---- */

static struct api_key **list_of(struct api_keys *keys, const struct api_digest *digest)
{
	size_t i = digest->bytes[0] | (size_t)digest->bytes[1] << 8;
	return &keys->lists[i % LISTS];
}

struct api_key *api_keys_shown(struct api_keys *keys, const struct api_digest *digest)
{
	struct api_key *found = NULL;
	for (struct api_key *k = *list_of(keys, digest); k; k = k->next)
		if (api_secret_same(&k->digest, digest) && k->listed)
			found = k;
	return found;
}

static void take_out(struct api_keys *keys, struct api_key *k)
{
	if (!k->has_secret)
		return;
	struct api_key **at = list_of(keys, &k->digest);
	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	k->next = NULL;
	k->has_secret = false;
	k->digest = (struct api_digest){{0}};
}

static void put_in(struct api_keys *keys, struct api_key *k, const struct api_digest *digest)
{
	take_out(keys, k);
	struct api_key **at = list_of(keys, digest);
	k->digest = *digest;
	k->has_secret = true;
	k->next = *at;
	*at = k;
}

/* ---- when one was used; under the lock ---- */

enum { STORE_NAME = sizeof store_prefix + TEXT_NAME_SIZE };

static void store_name(const char *name, char key[STORE_NAME])
{
	snprintf(key, STORE_NAME, "%s%s", store_prefix, name);
}

void api_keys_note_use(struct api_keys *keys, struct api_key *k, int64_t now_min)
{
	char key[STORE_NAME], value[TEXT_NUMBER_MAX + 1];
	if (k->used_min == now_min || !k->listed)
		return;
	k->used_min = now_min;
	store_name(k->name, key);
	store_put_later(keys->g->store, key, value, (size_t)(text_signed(value, now_min) - value));
}

/* ---- by name ---- */

/* new, with a reference on the gateway; NULL when memory is out. */
static struct api_key *make(struct api_keys *keys, const char *name)
{
	struct api_key *k = calloc(1, sizeof *k);
	if (!k)
		return NULL;
	atomic_init(&k->refs, 1);
	snprintf(k->name, sizeof k->name, "%s", name);
	k->g = gateway_ref(keys->g);
	return k;
}

/* Under the lock. new *out is the table's, and borrowed. */
static int add(struct api_keys *keys, const char *name, struct api_key **out, struct err *err)
{
	if (table_find(&keys->names, name))
		return err_set(err, -EEXIST, "API key %s exists", name);
	if (keys->closed)
		return err_set(err, -ESHUTDOWN, "llmfs is stopping");
	if (keys->names.n >= API_KEYS_MAX)
		return err_set(err, -EDQUOT, "there may be %d API keys", API_KEYS_MAX);
	struct api_key *k = make(keys, name);
	if (!k || table_add(&keys->names, k->name, k) < 0) {
		api_key_put(k);
		return err_set(err, -ENOMEM, "out of memory");
	}
	k->listed = true;
	*out = k;
	return 0;
}

/* Under the lock. steals before, may be NULL: of that name, and left. */
static void take_over(struct api_keys *keys, struct api_key *k, struct api_key *before)
{
	if (!before)
		return;
	if (before->has_secret)
		put_in(keys, k, &before->digest);
	k->used_min = before->used_min;
	take_out(keys, before);
	api_key_put(before);
}

int api_keys_create(struct api_keys *keys, const char *name, struct err *err)
{
	struct api_key *k = NULL;
	pthread_mutex_lock(&keys->changing);
	pthread_mutex_lock(&keys->lock);
	int r = add(keys, name, &k, err);
	if (r == 0)
		take_over(keys, k, table_remove(&keys->left, name));
	pthread_mutex_unlock(&keys->lock);
	pthread_mutex_unlock(&keys->changing);
	return r;
}

struct api_key *api_keys_find(struct api_keys *keys, const char *name)
{
	pthread_mutex_lock(&keys->lock);
	struct api_key *k = table_find(&keys->names, name);
	k = k ? api_key_ref(k) : NULL;
	pthread_mutex_unlock(&keys->lock);
	return k;
}

char **api_keys_names(struct api_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	char **names = table_names(&keys->names);
	pthread_mutex_unlock(&keys->lock);
	return names;
}

/* ---- changes of secrets; in `changing` ---- */

/* The sentence of secrets.h is about keys of models. */
static int say_stored(const struct api_key *k, int r, struct err *err)
{
	return err_set(err, r,
		"the state directory cannot be written: the secret of keys/%s is as "
		"it was there: %s",
		k->name, strerror(-r));
}

/* Out of force, then out of the state directory. */
static int forget(struct api_keys *keys, struct api_key *k, struct err *err)
{
	pthread_mutex_lock(&keys->lock);
	take_out(keys, k);
	pthread_mutex_unlock(&keys->lock);
	int r = secrets_set(keys->digests, k->name, "", 0, NULL);
	return r < 0 ? say_stored(k, r, err) : 0;
}

/* It stops being listed in `changing` only. */
static int check_listed(struct api_keys *keys, struct api_key *k, struct err *err)
{
	pthread_mutex_lock(&keys->lock);
	bool listed = k->listed;
	pthread_mutex_unlock(&keys->lock);
	return listed ? 0 : err_set(err, -ENOENT, "API key %s is gone", k->name);
}

static int new_secret(
	struct api_keys *keys, struct api_key *k, char secret[API_KEY_SECRET], struct err *err)
{
	struct api_digest digest;
	char stored[API_SECRET_STORED];
	int r = check_listed(keys, k, err);
	r = r ? r : api_secret_make(secret, err);
	if (r < 0)
		return r;
	api_secret_digest(secret, API_SECRET_LEN, &digest);
	api_secret_print(&digest, stored);
	r = secrets_set(keys->digests, k->name, stored, strlen(stored), NULL);
	if (r < 0) {
		explicit_bzero(secret, API_KEY_SECRET);
		return say_stored(k, r, err);
	}
	pthread_mutex_lock(&keys->lock);
	put_in(keys, k, &digest);
	pthread_mutex_unlock(&keys->lock);
	return 0;
}

int api_keys_new_secret(
	struct api_keys *keys, struct api_key *k, char secret[API_KEY_SECRET], struct err *err)
{
	pthread_mutex_lock(&keys->changing);
	int r = new_secret(keys, k, secret, err);
	pthread_mutex_unlock(&keys->changing);
	return r;
}

static bool is_secret_of(struct api_keys *keys, struct api_key *k, const char *secret)
{
	struct api_digest digest;
	api_secret_digest(secret, strlen(secret), &digest);
	pthread_mutex_lock(&keys->lock);
	bool is = k->has_secret && api_secret_same(&digest, &k->digest);
	pthread_mutex_unlock(&keys->lock);
	return is;
}

int api_keys_revoke(struct api_keys *keys, struct api_key *k, const char *only, struct err *err)
{
	pthread_mutex_lock(&keys->changing);
	int r = check_listed(keys, k, err);
	if (r == 0 && only && !is_secret_of(keys, k, only))
		r = 1;
	r = r ? r : forget(keys, k, err);
	pthread_mutex_unlock(&keys->changing);
	return r;
}

/* ---- removed, and then forgotten ---- */

bool api_keys_has_left(struct api_keys *keys, const char *name)
{
	pthread_mutex_lock(&keys->lock);
	bool has = table_find(&keys->left, name);
	pthread_mutex_unlock(&keys->lock);
	return has;
}

char **api_keys_names_left(struct api_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	char **names = table_names(&keys->left);
	pthread_mutex_unlock(&keys->lock);
	return names;
}

/* In `changing`. */
static int forget_left(struct api_keys *keys, const char *name, struct err *err)
{
	char key[STORE_NAME];
	pthread_mutex_lock(&keys->lock);
	struct api_key *k = table_find(&keys->left, name);
	pthread_mutex_unlock(&keys->lock);
	int r = k ? forget(keys, k, err) : 0;
	if (!k || r < 0)
		return r;
	store_name(name, key);
	pthread_mutex_lock(&keys->lock);
	table_remove(&keys->left, name);
	store_delete(keys->g->store, key);
	pthread_mutex_unlock(&keys->lock);
	api_key_put(k); /* the table's */
	return 0;
}

int api_keys_forget(struct api_keys *keys, const char *name, struct err *err)
{
	pthread_mutex_lock(&keys->changing);
	int r = forget_left(keys, name, err);
	pthread_mutex_unlock(&keys->changing);
	return r;
}

int api_keys_remove(struct api_keys *keys, const char *name, struct err *err)
{
	pthread_mutex_lock(&keys->changing);
	pthread_mutex_lock(&keys->lock);
	struct api_key *k = table_find(&keys->names, name);
	int r = k ? table_add(&keys->left, k->name, k)
		  : err_set(err, -ENOENT, "there is no API key %s", name);
	if (r == 0) {
		table_remove(&keys->names, name);
		k->listed = false;
	}
	bool too_many = keys->left.n > API_KEYS_MAX;
	pthread_mutex_unlock(&keys->lock);
	if (r == 0 && too_many)
		r = forget_left(keys, name, err);
	pthread_mutex_unlock(&keys->changing);
	return r;
}

/* ---- the time before ---- */

/* borrows; NULL when memory is out. */
static struct api_key *find_or_leave(struct api_keys *keys, const char *name)
{
	struct api_key *k = table_find(&keys->left, name);
	if (k)
		return k;
	k = make(keys, name);
	return k && table_add(&keys->left, k->name, k) == 0 ? k : api_key_put(k);
}

static int restore_use(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct api_keys *keys = arg;
	const size_t own = sizeof store_prefix - 1;
	char name[TEXT_NAME_SIZE], digits[TEXT_NUMBER_MAX + 2], *end;
	if (!text_is_name(key + own, key_len - own) || !value_len || value_len >= sizeof digits)
		return store_skip(key, key_len);
	snprintf(name, sizeof name, "%.*s", (int)(key_len - own), key + own);
	snprintf(digits, sizeof digits, "%.*s", (int)value_len, value);
	long long minutes = strtoll(digits, &end, 10);
	if (*end)
		return store_skip(key, key_len);
	struct api_key *k = find_or_leave(keys, name);
	if (k)
		k->used_min = minutes;
	return k ? 0 : -ENOMEM;
}

static int restore_secret(struct api_keys *keys, const char *name)
{
	struct api_digest digest;
	char *stored = NULL;
	struct api_key *k = find_or_leave(keys, name);
	int r = k ? secrets_get(keys->digests, name, false, &stored, NULL) : -ENOMEM;
	if (r == -ENOMEM)
		return r;
	if (stored && api_secret_read(stored, &digest))
		put_in(keys, k, &digest);
	else
		log_warn("keys/%s: what is stored of its secret is damaged: it has none", name);
	secrets_wipe(stored);
	return 0;
}

static int restore(struct api_keys *keys, struct err *err)
{
	char **names = secrets_names(keys->digests);
	int r = names ? 0 : -ENOMEM;
	for (size_t i = 0; names && names[i]; i++) {
		r = r ? r : restore_secret(keys, names[i]);
		free(names[i]);
	}
	free(names);
	r = r ? r : store_scan(keys->g->store, store_prefix, restore_use, keys);
	return r < 0 ? err_set(err, r, "API keys of the state directory: %s", strerror(-r)) : 0;
}

/* ---- the object ---- */

int api_keys_open(struct api_keys **out, struct gateway *g, const char *dir, struct err *err)
{
	struct api_keys *keys = calloc(1, sizeof *keys);
	if (!keys)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&keys->changing, NULL);
	pthread_mutex_init(&keys->lock, NULL);
	keys->g = g;
	*out = keys; /* also of a half one: its keys hold the gateway, whose end is api_keys_close
		      */
	int r = secrets_open(&keys->digests, dir, err);
	return r ? r : restore(keys, err);
}

/* Under the lock. The gateway that they hold has others to hold it. */
static void drop_all(struct api_keys *keys, struct table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		struct api_key *k = table->rows[i].object;
		take_out(keys, k);
		k->listed = false;
		api_key_put(k);
	}
	table_free(table);
}

void api_keys_close(struct api_keys *keys)
{
	if (!keys)
		return;
	pthread_mutex_lock(&keys->changing);
	pthread_mutex_lock(&keys->lock);
	keys->closed = true;
	drop_all(keys, &keys->names);
	drop_all(keys, &keys->left);
	pthread_mutex_unlock(&keys->lock);
	pthread_mutex_unlock(&keys->changing);
}

struct api_keys *api_keys_free(struct api_keys *keys)
{
	if (!keys)
		return NULL;
	secrets_free(keys->digests);
	table_free(&keys->names);
	pthread_mutex_destroy(&keys->changing);
	pthread_mutex_destroy(&keys->lock);
	free(keys);
	return NULL;
}
