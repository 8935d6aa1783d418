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
 * one. Where its directory has gone from TREE, what was TREE's reference goes with that; of a key
 * that was written to the mount see keys_seen.c.
 *
 * TREE and the gateway change together in the turn of the model (turn.h): a pass that has read TREE
 * before a key was written does not set the old reference after it, and a key that is written while
 * its model is removed comes before that or not at all. The memory here has a lock, keys_lock,
 * after the turn; nothing of TREE is asked under it.
 */
#include "fs/keys.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/keys_seen.h"
#include "fs/names.h"
#include "fs/sync_pass.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/turn.h"

#include "base/buf.h"
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

/* What TREE has said of its key is over. In its turn. */
static void forget_known(struct fs *fs, const char *name)
{
	pthread_mutex_lock(&keys_lock);
	struct known *k = find(name);
	if (k) {
		report(fs, name, NULL);
		forget(k);
	}
	pthread_mutex_unlock(&keys_lock);
}

/* ---- a pass ---- */

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

/* In its turn, under keys_lock. */
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

/* What the look of a pass has found, in the turn of its model. */
static void follow(struct fs *fs, struct model *m, int r, struct buf *text, struct err *err)
{
	pthread_mutex_lock(&keys_lock);
	if (r == 0)
		r = take(m, model_name(m), text, err);
	report(fs, model_name(m), r < 0 ? err : NULL);
	pthread_mutex_unlock(&keys_lock);
}

/* Of one that is there. True: ask again soon. */
static bool pass_model(struct fs *fs, struct model *m)
{
	struct err err = {{0}};
	struct buf text = {0};
	const char *name = model_name(m);
	struct turn *t = turn_of(models, name);
	uint64_t n_changes = turn_count(t);
	int r = wanted(fs, name, &text, &err);
	/* A setting may change without end, and be no other reference. */
	if (!turn_begin_if(t, n_changes)) {
		turn_begin_overtaken(t);
		buf_wipe(&text);
		r = wanted(fs, name, &text, &err);
	}
	if (r != 1 && collection_has(models, fs->gateway, m))
		follow(fs, m, r, &text, &err);
	turn_end(t);
	buf_wipe(&text);
	return r == 1;
}

/* True: ask again soon. */
static bool pass_one(struct fs *fs, const char *name)
{
	struct model *m = gateway_model_find(fs->gateway, name);
	bool again = m && !model_is_virtual(m) && pass_model(fs, m);
	model_put(m);
	return again;
}

/* What TREE's was goes with its directory; what was written to the mount stays. True: ask again
 * soon. */
static bool let_go(struct fs *fs, const char *name)
{
	struct err err = {{0}};
	struct turn *t = turn_of(models, name);
	uint64_t n_changes = turn_count(t);
	if (tree_has(fs->tree, models, name) != 0)
		return false;
	if (!turn_begin_if(t, n_changes))
		return true;
	pthread_mutex_lock(&keys_lock);
	bool has = reference_of(name);
	pthread_mutex_unlock(&keys_lock);
	if (has && gateway_model_key_forget(fs->gateway, name, &err) < 0)
		log_warn("%s", err.text);
	forget_known(fs, name);
	turn_end(t);
	return false;
}

/* new: as names_take. */
static char **names_of_known(void)
{
	struct names names = {0};
	int r = 0;
	pthread_mutex_lock(&keys_lock);
	for (size_t i = 0; r == 0 && i < n_known; i++)
		r = names_add(&names, known[i].name);
	pthread_mutex_unlock(&keys_lock);
	return names_take(&names, r);
}

bool keys_pass(struct fs *fs)
{
	bool again = false;
	char **names = tree_names(fs->tree, models), **of_tree = names_of_known();
	for (size_t i = 0; names && names[i]; i++)
		again = pass_one(fs, names[i]) || again;
	for (size_t i = 0; names && of_tree && of_tree[i]; i++)
		if (!names_has(names, of_tree[i]))
			again = let_go(fs, of_tree[i]) || again;
	again = keys_seen_pass(fs) || again;
	names_free(of_tree);
	names_free(names);
	return again;
}

/* ---- through the mount ---- */

/* In its turn. */
static int store(struct fs *fs, struct model *m, const char *value, size_t len, struct err *err)
{
	const char *name = model_name(m);
	struct buf before = {0};
	if (!collection_has(models, fs->gateway, m))
		return err_set(err, -ENOENT, "the model has gone");
	bool has = tree_setting_get(fs->tree, models, name, models->key, &before) != -ENOENT;
	int r = has ? tree_setting_set(fs->tree, models, name, models->key, "", 0) : 0;
	if (r == -ENOENT)
		r = 0; /* the model has gone from TREE */
	if (r < 0)
		err_set(err, r, "TREE: %s", strerror(-r));
	else if ((r = model_key_set(m, value, len, err)) < 0 && before.len)
		tree_setting_set(fs->tree, models, name, models->key, before.data, before.len);
	buf_wipe(&before);
	return r;
}

int keys_set(struct fs *fs, struct model *m, const char *value, size_t len, struct err *err)
{
	const char *name = model_name(m);
	turn_begin(turn_of(models, name));
	int r = store(fs, m, value, len, err);
	if (r == 0) {
		keys_seen_new_key(name);
		forget_known(fs, name);
	}
	turn_end(turn_of(models, name));
	return r;
}

int keys_new_one(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	int r = c->forget_secret(fs->gateway, name, err);
	if (r < 0)
		return r;
	keys_seen_forget(c, name);
	if (c == models)
		forget_known(fs, name);
	return 0;
}

int keys_remove_one(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	struct err why = {{0}};
	int r = sync_pass_remove(fs, c, name, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (c->forget_secret(fs->gateway, name, &why) < 0)
		log_warn("%s", why.text);
	if (c == models)
		forget_known(fs, name);
	return r;
}
