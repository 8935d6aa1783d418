/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway keeps keys, and nobody can ask it what they are. So unlike other passes this one
 * compares TREE not with what is in force but with the reference that TREE had when it was set
 * last; it is all that is remembered here, and it is no secret. A key that was written to the mount
 * ends such a reference, in TREE too: it is the newer word.
 *
 * After a restart nothing is remembered, and a reference that went while no daemon was running
 * stays in force until the key is removed in the mount.
 *
 * Who removes a model means its key too, or the next one of that name would have it, whatever
 * server that is at. In the mount that is known at once, and who makes a model there means a new
 * one. A directory that has gone from TREE may be
 * back in a moment, as in a git checkout: so its key, if it was written to the mount, is kept for a
 * minute; what was TREE's reference goes with the directory.
 *
 * A secret that is forgotten by mistake cannot be had again. So it goes only with a directory that
 * this daemon has seen, and that is known not to be there: where models/ cannot be read, or is not
 * there itself, or something else has the name, nothing has gone. Of keys that a start finds
 * without their models nothing is known (TREE may be another one), and they stay.
 *
 * keys_lock makes TREE, the memory and the gateway change together: a pass that has read TREE
 * before a key was written must not set the old reference after it, and a key that is written while
 * its model is removed comes before that or not at all. I/O happens under it, and only who writes a
 * key or removes a model ever waits for it.
 */
#include "fs/keys.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/gateway_models.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct collection *const models = &collection_models;

static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- what is remembered; under keys_lock ---- */

/* A model whose key is TREE's, or has a fault there. */
struct known {
	char *name;
	char *reference; /* that was set last; NULL: none */
	bool reported;
};
static struct known *known;
static size_t n_known;

static struct known *find(const char *name)
{
	for (size_t i = 0; i < n_known; i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

/* The one of that name, made if need be; NULL when memory is out. */
static struct known *find_or_add(const char *name)
{
	struct known *k = find(name);
	struct known *more = k ? NULL : realloc(known, (n_known + 1) * sizeof *known);
	if (!more)
		return k;
	known = more;
	k = &known[n_known];
	*k = (struct known){.name = strdup(name)};
	if (!k->name)
		return NULL;
	n_known++;
	return k;
}

static void forget(struct known *k)
{
	free(k->name);
	free(k->reference);
	*k = known[--n_known];
}

static const char *reference_of(const char *name)
{
	const struct known *k = find(name);
	return k ? k->reference : NULL;
}

/* ---- models that were seen in TREE; under keys_lock ---- */

struct seen {
	char *name;
	dev_t dev; /* the directory that it was seen in last */
	ino_t ino;
	uint64_t gone_ns; /* when it had gone, or later: from then on its key is kept; 0: it is
			     there */
};
static struct seen *seen;
static size_t n_seen;
static uint64_t keep_ns = KEYS_GONE_MS * (uint64_t)1000000;

static struct seen *find_seen(const char *name)
{
	for (size_t i = 0; i < n_seen; i++)
		if (strcmp(seen[i].name, name) == 0)
			return &seen[i];
	return NULL;
}

static void drop_seen(struct seen *s)
{
	free(s->name);
	*s = seen[--n_seen];
}

/* One that cannot be noted for want of memory keeps its key. */
static void note_seen(const struct tree_place *in, const char *name)
{
	if (tree_has_gone(in, name) != 0)
		return; /* meanwhile */
	struct seen *s = find_seen(name);
	struct seen *more = s ? NULL : realloc(seen, (n_seen + 1) * sizeof *seen);
	if (s) {
		s->gone_ns = 0;
		s->dev = in->dev;
		s->ino = in->ino;
	}
	if (!more)
		return;
	seen = more;
	seen[n_seen] = (struct seen){.name = strdup(name), .dev = in->dev, .ino = in->ino};
	n_seen += seen[n_seen].name != NULL;
}

static bool is_over(const struct seen *s)
{
	return s->gone_ns && clock_mono_ns() - s->gone_ns >= keep_ns;
}

static void forget_key(struct fs *fs, struct seen *s)
{
	struct err err = {{0}};
	if (gateway_model_key_forget(fs->gateway, s->name, &err) < 0) {
		log_warn("models/%s has gone from TREE, but not its key: %s", s->name, err.text);
		s->gone_ns = clock_mono_ns();
		return;
	}
	log_info("models/%s has gone from TREE, and its key with it", s->name);
	drop_seen(s);
}

/* TREE is asked again: since its names were read the model may have come back, with another key.
 * Where another directory is called models now, as when one that is a mount is not mounted, nothing
 * is known. What cannot be found out or done now is due again after as long a time. */
static void pass_gone(struct fs *fs, struct seen *s, const struct tree_place *in, bool has_key)
{
	int gone = tree_has_gone(in, s->name);
	if (gone > 0 && (in->dev != s->dev || in->ino != s->ino))
		gone = -ESTALE;
	if (gone > 0 && !has_key)
		drop_seen(s);
	else if (gone > 0 && is_over(s))
		forget_key(fs, s);
	else if (gone == 0)
		s->gone_ns = 0;
	else if (gone > 0 ? !s->gone_ns : is_over(s))
		s->gone_ns = clock_mono_ns();
}

/* there: the models of TREE; NULL: they cannot be read. */
static void pass_seen(struct fs *fs, char *const *there)
{
	char **with_key = there ? gateway_model_key_names(fs->gateway) : NULL;
	struct tree_place in = tree_place_open(fs->tree, models);
	for (size_t i = 0; there && there[i]; i++)
		note_seen(&in, there[i]);
	for (size_t i = n_seen; i-- > 0;) {
		if (with_key && !names_has(there, seen[i].name))
			pass_gone(fs, &seen[i], &in, names_has(with_key, seen[i].name));
		else if (is_over(&seen[i]))
			seen[i].gone_ns = clock_mono_ns();
	}
	tree_place_close(&in);
	names_free(with_key);
}

int keys_due_ms(void)
{
	uint64_t now = clock_mono_ns(), first = UINT64_MAX;
	pthread_mutex_lock(&keys_lock);
	for (size_t i = 0; i < n_seen; i++)
		if (seen[i].gone_ns && seen[i].gone_ns + keep_ns < first)
			first = seen[i].gone_ns + keep_ns;
	pthread_mutex_unlock(&keys_lock);
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000000) + 1;
}

void keys_keep(unsigned ms)
{
	pthread_mutex_lock(&keys_lock);
	keep_ns = ms * (uint64_t)1000000;
	pthread_mutex_unlock(&keys_lock);
}

/* ---- faults ---- */

/* err NULL: there is none (any more). */
static void report(struct fs *fs, const char *name, const struct err *err)
{
	char path[COLLECTION_PATH], key[COLLECTION_PATH + 8], sentence[512];
	struct known *k = err ? find_or_add(name) : find(name);
	if (!k || (!err && !k->reported))
		return;
	collection_path(models, name, models->key, path);
	snprintf(key, sizeof key, "tree:%s", path);
	snprintf(sentence, sizeof sentence, "%s: %s", path, err ? err->text : "");
	if (err && !k->reported && !fs->starting)
		log_warn("%s", sentence);
	gateway_report(fs->gateway, key, err ? sentence : NULL);
	k->reported = err != NULL;
}

/* ---- a pass; under keys_lock ---- */

static void buf_wipe(struct buf *text)
{
	if (text->data)
		explicit_bzero(text->data, text->cap);
	buf_free(text);
}

/* The reference that TREE has; nothing where it has none. 0; 1: it cannot be told yet; -errno and
 * the sentence. */
static int wanted(struct fs *fs, const char *name, struct buf *text, struct err *err)
{
	struct stat st;
	char path[COLLECTION_PATH];
	collection_path(models, name, models->key, path);
	int r = tree_setting_get(fs->tree, models, name, models->key, text);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_set(
			err, r, "%s in TREE", r == -EINVAL ? "not a regular file" : strerror(-r));
	if (text->len == 0)
		return tree_setting_stat(fs->tree, models, name, models->key, &st) == 0 &&
				       tree_file_is_young(&st)
			       ? 1
			       : 0;
	r = tree_trusted(fs->tree, path, err);
	if (r == 0 && !model_key_is_reference(text->data, text->len))
		r = err_set(err, -EPERM,
			"a secret does not belong in TREE: write it to the mount, or put "
			"env:NAME or file:PATH there");
	return r;
}

static int take(struct model *m, const char *name, const struct buf *text, struct err *err)
{
	const char *now = reference_of(name);
	if (text->len == 0 && !now)
		return 0;
	if (text->len && now && strcmp(now, text->data) == 0)
		return 0;
	struct known *k = find_or_add(name);
	char *copy = text->len ? strdup(text->data) : NULL;
	int r = k && (copy || !text->len) ? 0 : err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = model_key_set(m, text->len ? text->data : "", text->len, err);
	if (r < 0) {
		free(copy);
		return r;
	}
	free(k->reference);
	k->reference = copy;
	return 0;
}

static bool pass_one(struct fs *fs, const char *name)
{
	struct err err = {{0}};
	struct buf text = {0};
	int r = 0;
	pthread_mutex_lock(&keys_lock);
	struct model *m = gateway_model_find(fs->gateway, name);
	if (m && !model_is_virtual(m)) {
		r = wanted(fs, name, &text, &err);
		if (r == 0)
			r = take(m, name, &text, &err);
		if (r <= 0)
			report(fs, name, r < 0 ? &err : NULL);
	}
	pthread_mutex_unlock(&keys_lock);
	model_put(m);
	buf_wipe(&text);
	return r == 1;
}

/* What TREE's was goes with its directory; what was written to the mount stays. */
static void let_go(struct fs *fs, struct known *k)
{
	struct err err = {{0}};
	if (k->reference && gateway_model_key_forget(fs->gateway, k->name, &err) < 0)
		log_warn("%s", err.text);
	report(fs, k->name, NULL);
	forget(k);
}

bool keys_pass(struct fs *fs)
{
	bool again = false;
	char **names = tree_names(fs->tree, models);
	for (size_t i = 0; names && names[i]; i++)
		again = pass_one(fs, names[i]) || again;
	pthread_mutex_lock(&keys_lock);
	for (size_t i = n_known; names && i-- > 0;) {
		if (!names_has(names, known[i].name))
			let_go(fs, &known[i]);
	}
	pass_seen(fs, names);
	pthread_mutex_unlock(&keys_lock);
	names_free(names);
	return again;
}

/* ---- through the mount ---- */

/* Another one of that name may be there. */
static bool is_there(struct fs *fs, const struct model *m)
{
	struct model *now = gateway_model_find(fs->gateway, model_name(m));
	model_put(now);
	return now == m;
}

int keys_set(struct fs *fs, struct model *m, const char *value, size_t len, struct err *err)
{
	const char *name = model_name(m);
	struct buf before = {0};
	pthread_mutex_lock(&keys_lock);
	if (!is_there(fs, m)) {
		pthread_mutex_unlock(&keys_lock);
		return err_set(err, -ENOENT, "the model has gone");
	}
	bool has = tree_setting_get(fs->tree, models, name, models->key, &before) != -ENOENT;
	int r = has ? tree_setting_set(fs->tree, models, name, models->key, "", 0) : 0;
	if (r == -ENOENT)
		r = 0; /* the model has gone from TREE */
	if (r < 0)
		err_set(err, r, "TREE: %s", strerror(-r));
	else if ((r = model_key_set(m, value, len, err)) < 0 && before.len)
		tree_setting_set(fs->tree, models, name, models->key, before.data, before.len);
	struct known *k = r == 0 ? find(name) : NULL;
	if (k) {
		report(fs, name, NULL);
		forget(k);
	}
	struct seen *s = r == 0 ? find_seen(name) : NULL;
	if (s)
		s->gone_ns = 0; /* a key that is new has a minute of its own */
	pthread_mutex_unlock(&keys_lock);
	buf_wipe(&before);
	return r;
}

int keys_new_model(struct fs *fs, const char *name, struct err *err)
{
	pthread_mutex_lock(&keys_lock);
	int r = gateway_model_key_forget(fs->gateway, name, err);
	struct seen *s = find_seen(name);
	struct known *k = find(name);
	if (r == 0 && s)
		drop_seen(s);
	if (r == 0 && k) {
		report(fs, name, NULL);
		forget(k);
	}
	pthread_mutex_unlock(&keys_lock);
	return r;
}

int keys_remove_model(struct fs *fs, const char *name, struct err *err)
{
	struct err why = {{0}};
	pthread_mutex_lock(&keys_lock);
	int r = models->remove(fs->gateway, name, err);
	if (r == 0 || r == -ENOENT) {
		if (gateway_model_key_forget(fs->gateway, name, &why) < 0)
			log_warn("%s", why.text);
		struct known *k = find(name);
		if (k) {
			report(fs, name, NULL);
			forget(k);
		}
	}
	pthread_mutex_unlock(&keys_lock);
	return r;
}
