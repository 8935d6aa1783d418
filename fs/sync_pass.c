/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over a collection: what TREE says comes into force, thing by thing: is there an object
 * of that name, what does its setting say, where does models/default point.
 *
 * Of each thing TREE is asked while nobody waits for it, and what it has said is old when it is
 * known: a change through the mount may have stored another text meanwhile and told the gateway. So
 * the changes are counted before TREE is asked, and in its turn (turn.h) the pass does nothing if
 * there are more by then. In its turn it asks the gateway alone, but for what follows. Lists of
 * names only say what there is to be looked at.
 *
 * A setting that was skipped is looked at once more, in its turn: others of the same object may
 * change without end. All else that was skipped, and what cannot be believed yet, is looked at
 * again by the pass after this one, which is asked for.
 */
#include "fs/sync_pass.h"

#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/turn.h"

#include "base/log.h"
#include "gateway/gateway_models.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults ---- */

/* Faults by their keys, so that the log has each once. */
static struct names reported; /* the passes', which never run at the same time */

static void report(struct fs *fs, const struct collection *c, const char *name, const char *file,
	const struct err *err)
{
	char path[COLLECTION_PATH], key[COLLECTION_PATH + 8];
	collection_path(c, name, file, path);
	snprintf(key, sizeof key, "tree:%s", path);
	if (err) {
		char sentence[sizeof path + sizeof err->text + 16];
		snprintf(sentence, sizeof sentence, "%s in TREE: %s", path, err->text);
		if (!names_has(reported.list, key)) {
			if (!fs->starting)
				log_warn("%s", sentence);
			names_add(&reported, key);
		}
		gateway_report(fs->gateway, key, sentence);
	} else {
		names_drop(&reported, key);
		gateway_report(fs->gateway, key, NULL);
	}
}

/* ---- an object ---- */

int sync_pass_remove(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	int r = c->remove(fs->gateway, name, err);
	if (r != -EBUSY || !c->default_is_link)
		return r;
	struct buf link = {0};
	turn_begin(turn_of_default());
	gateway_default(fs->gateway, &link);
	gateway_default_set(fs->gateway, NULL, NULL);
	r = c->remove(fs->gateway, name, err);
	gateway_default_set(fs->gateway, link.len ? link.data : NULL, NULL);
	turn_end(turn_of_default());
	buf_free(&link);
	return r;
}

void sync_pass_look(
	struct fs *fs, const struct collection *c, const char *name, struct sync_pass_sight *sight)
{
	*sight = (struct sync_pass_sight){.n_changes = turn_count(turn_of(c, name))};
	sight->r = c->always && !strcmp(name, c->always) ? 1 : tree_has(fs->tree, c, name);
}

static void remove_gone(struct fs *fs, const struct collection *c, const char *name)
{
	struct err err = {{0}};
	faults_forget(fs, c, name);
	int r = sync_pass_remove(fs, c, name, &err);
	if (r < 0 && r != -ENOENT)
		log_warn("%s/%s has gone from TREE: %s", c->dir, name, err.text);
}

int sync_pass_follow(
	struct fs *fs, const struct collection *c, const char *name, struct sync_pass_sight *sight)
{
	struct turn *t = turn_of(c, name);
	int r = 0;
	if (sight->r < 0)
		return 0; /* nobody knows now */
	if (!turn_begin_if(t, sight->n_changes))
		return 1;
	bool configured = collection_is_configured(c, fs->gateway, name);
	if (sight->r == 0 && configured)
		remove_gone(fs, c, name);
	if (sight->r == 1 && !configured)
		r = c->create(fs->gateway, name, &sight->err);
	turn_end(t);
	return r;
}

/* ---- a setting ---- */

static bool same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static int trusted(struct fs *fs, const struct collection *c, const char *name, const char *file,
	struct err *err)
{
	char below[COLLECTION_PATH];
	collection_path(c, name, file, below);
	return tree_trusted(fs->tree, below, err);
}

/* An empty file that may only be on its way to a value. */
static bool is_undecided(
	struct fs *fs, const struct collection *c, const char *name, const char *file)
{
	struct stat st;
	return tree_setting_stat(fs->tree, c, name, file, &st) == 0 && tree_file_is_young(&st);
}

/* 0; 1: it cannot be told yet; -errno and the sentence. */
static int read_setting(struct fs *fs, const struct collection *c, const char *name,
	const char *file, struct buf *out, struct err *err)
{
	struct buf text = {0};
	int r = tree_setting_get(fs->tree, c, name, file, &text);
	if (r == -ENOENT)
		r = 0;
	else if (r == 0 && text.len == 0 && is_undecided(fs, c, name, file))
		r = 1;
	else if (r < 0)
		err_set(err, r, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	else if (r == 0)
		r = trusted(fs, c, name, file, err);
	if (r == 0)
		r = tree_resolve(
			fs->tree, c, name, file, text.data ? text.data : "", text.len, out);
	buf_free(&text);
	return r;
}

void sync_pass_look_setting(struct fs *fs, const struct collection *c, const char *name,
	const char *file, struct sync_pass_sight *sight)
{
	*sight = (struct sync_pass_sight){.n_changes = turn_count(turn_of(c, name))};
	sight->r = read_setting(fs, c, name, file, &sight->text, &sight->err);
}

/* In its turn. */
static int follow_setting(struct fs *fs, const struct collection *c, void *it, const char *file,
	bool always, struct sync_pass_sight *sight)
{
	struct buf have = {0}, *want = &sight->text;
	int r = sight->r;
	/* One that has gone may have left what the gateway has by itself. */
	if (!collection_has(c, fs->gateway, it) || !c->is_configured(it))
		return 0;
	if (r == 0)
		r = c->get(it, file, &have);
	if (r == 0 && (always || !same(want, &have)))
		r = c->set(it, file, want->data ? want->data : "", want->len, &sight->err);
	if (r < 0 && c->fail)
		c->fail(it, file);
	buf_free(&have);
	return r;
}

int sync_pass_follow_setting(struct fs *fs, const struct collection *c, void *it, const char *file,
	bool always, struct sync_pass_sight *sight)
{
	struct turn *t = turn_of(c, c->name(it));
	if (sight->r == 1 || !turn_begin_if(t, sight->n_changes))
		return 1;
	int r = follow_setting(fs, c, it, file, always, sight);
	turn_end(t);
	return r;
}

/* Both steps at once. */
static int pass_overtaken(struct fs *fs, const struct collection *c, void *it, const char *file,
	bool always, struct sync_pass_sight *sight)
{
	struct turn *t = turn_of(c, c->name(it));
	*sight = (struct sync_pass_sight){0};
	turn_begin_overtaken(t);
	int r = sight->r = read_setting(fs, c, c->name(it), file, &sight->text, &sight->err);
	if (r != 1)
		r = follow_setting(fs, c, it, file, always, sight);
	turn_end(t);
	return r;
}

/* ---- models/default ---- */

void sync_pass_look_default(struct fs *fs, struct sync_pass_sight *sight)
{
	*sight = (struct sync_pass_sight){.n_changes = turn_count(turn_of_default())};
	sight->r = tree_default_get(fs->tree, &sight->text);
}

int sync_pass_follow_default(struct fs *fs, struct sync_pass_sight *sight)
{
	struct buf have = {0}, *want = &sight->text;
	int r = 0;
	if (sight->r < 0)
		return 0; /* nobody knows now */
	if (!turn_begin_if(turn_of_default(), sight->n_changes))
		return 1;
	gateway_default(fs->gateway, &have);
	if (!same(want, &have))
		r = gateway_default_set(fs->gateway, want->len ? want->data : NULL, &sight->err);
	turn_end(turn_of_default());
	buf_free(&have);
	return r;
}

/* ---- all of them ---- */

/* Settings that had a fault in the pass before, by their paths: when it has ended they are set even
 * to what the gateway has, because it was told that its file says nothing. */
static struct names faulty; /* the passes', which never run at the same time */

/* True: ask again soon. */
static bool pass_setting(struct fs *fs, const struct collection *c, void *it, const char *file)
{
	struct sync_pass_sight sight;
	const char *name = c->name(it);
	char path[COLLECTION_PATH];
	collection_path(c, name, file, path);
	bool always = names_has(faulty.list, path);
	sync_pass_look_setting(fs, c, name, file, &sight);
	int r = sync_pass_follow_setting(fs, c, it, file, always, &sight);
	buf_free(&sight.text);
	if (r == 1 && sight.r != 1)
		r = pass_overtaken(fs, c, it, file, always, &sight);
	buf_free(&sight.text);
	if (r == 1)
		return true;
	names_drop(&faulty, path);
	report(fs, c, name, file, r < 0 ? &sight.err : NULL);
	if (r < 0 && c->fail)
		names_add(&faulty, path);
	return false;
}

/* A user database that is not there yet when the daemon starts says what one says that has no such
 * user. */
int sync_pass_due_ms(void)
{
	for (size_t i = 0; i < faulty.n; i++)
		for (size_t k = 0; collections[k]; k++) {
			const struct collection *c = collections[k];
			size_t n = strlen(c->dir);
			const char *path = faulty.list[i];
			if (c->asks_system && !strncmp(path, c->dir, n) && path[n] == '/')
				return SYNC_PASS_ASK_MS;
		}
	return -1;
}

/* True: ask again soon. */
static bool pass_settings(struct fs *fs, const struct collection *c, void *it)
{
	bool again = false;
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		again = pass_setting(fs, c, it, settings[i]) || again;
	return again;
}

/* Whether the gateway is in line with what a list said of that name; true: ask again soon. */
static bool pass_object(struct fs *fs, const struct collection *c, const char *name, bool there)
{
	struct sync_pass_sight sight;
	int r = 0;
	if (collection_is_configured(c, fs->gateway, name) != there) {
		sync_pass_look(fs, c, name, &sight);
		r = sync_pass_follow(fs, c, name, &sight);
	}
	if (r != 1 && there)
		report(fs, c, name, "", r < 0 ? &sight.err : NULL);
	return r == 1;
}

/* True: ask again soon. */
static bool pass_one(struct fs *fs, const struct collection *c, const char *name)
{
	bool again = pass_object(fs, c, name, true);
	void *it = c->find(fs->gateway, name);
	again = (it && pass_settings(fs, c, it)) || again;
	if (it)
		c->put(it);
	return again;
}

/* True: ask again soon. */
static bool pass_default(struct fs *fs)
{
	struct sync_pass_sight sight;
	sync_pass_look_default(fs, &sight);
	int r = sync_pass_follow_default(fs, &sight);
	if (r < 0)
		log_warn("models/default in TREE: %s", sight.err.text);
	buf_free(&sight.text);
	return r == 1;
}

/* What TREE has, and what is there without it; sorted. */
static char **wanted(struct fs *fs, const struct collection *c)
{
	char **names = tree_names(fs->tree, c);
	size_t n = 0;
	for (size_t i = 0; names && names[i]; i++) {
		char *name = names[i];
		names[i] = NULL;
		if (collection_is_fixed(c, fs->gateway, name))
			free(name);
		else
			names[n++] = name;
	}
	if (!names || !c->always || names_has(names, c->always))
		return names;
	char **more = realloc(names, (n + 2) * sizeof *more);
	if (!more)
		return names_free(names);
	more[n] = strdup(c->always);
	more[n + 1] = NULL;
	qsort(more, names_count(more), sizeof *more, names_order);
	return more;
}

/* Those that TREE no longer has. True: ask again soon. */
static bool pass_gone(struct fs *fs, const struct collection *c, char *const *names)
{
	bool again = false;
	size_t n = names_count(names);
	char **known = c->names(fs->gateway);
	for (size_t i = 0; known && known[i]; i++)
		if (!names_has_sorted(names, n, known[i]))
			again = pass_object(fs, c, known[i], false) || again;
	names_free(known);
	return again;
}

/* What was reported of one goes with it; *before are the names of the pass before. Steals names. */
static void pass_reports(struct fs *fs, const struct collection *c, char ***before, char **names)
{
	const char *const *settings = c->settings();
	size_t n = names_count(names);
	for (size_t i = 0; *before && (*before)[i]; i++) {
		if (names_has_sorted(names, n, (*before)[i]))
			continue;
		report(fs, c, (*before)[i], "", NULL);
		for (size_t j = 0; settings[j]; j++) {
			char path[COLLECTION_PATH];
			collection_path(c, (*before)[i], settings[j], path);
			names_drop(&faulty, path);
			report(fs, c, (*before)[i], settings[j], NULL);
		}
	}
	names_free(*before);
	*before = names;
}

/* A directory of all of them that is none has nothing in it, and of one that cannot be read what it
 * had stays: for both there is a reason to be told. */
static void pass_dir(struct fs *fs, const struct collection *c)
{
	char key[32], sentence[96];
	int r = tree_dir_check(fs->tree, c);
	snprintf(key, sizeof key, "tree:%s", c->dir);
	snprintf(sentence, sizeof sentence, "%s in TREE %s", c->dir,
		r == -EACCES ? TREE_NO_ACCESS : TREE_NO_DIR);
	gateway_report(fs->gateway, key, r < 0 ? sentence : NULL);
}

/* The same of symlinks beside its directories; *before are those of the pass before. */
static void pass_links(
	struct fs *fs, const struct collection *c, char *const *names, char ***before)
{
	const struct err err = {TREE_LINK};
	char **links = tree_links(fs->tree, c);
	for (size_t i = 0; links && links[i]; i++)
		report(fs, c, links[i], "", &err);
	for (size_t i = 0; links && *before && (*before)[i]; i++)
		if (!names_has(links, (*before)[i]) && !names_has(names, (*before)[i]))
			report(fs, c, (*before)[i], "", NULL);
	if (!links)
		return;
	names_free(*before);
	*before = links;
}

bool sync_pass(struct fs *fs, size_t i)
{
	static char **before[COLLECTIONS], **links[COLLECTIONS]; /* passes run one at a time */
	const struct collection *c = collections[i];
	bool again = false;
	if (c->single)
		return pass_settings(fs, c, c->find(fs->gateway, ""));
	pass_dir(fs, c);
	char **names = wanted(fs, c);
	if (!names)
		return false;
	for (size_t k = 0; names[k]; k++)
		again = pass_one(fs, c, names[k]) || again;
	if (c->default_is_link)
		again = pass_default(fs) || again;
	again = pass_gone(fs, c, names) || again;
	pass_reports(fs, c, &before[i], names);
	/* Last: a symlink's fault has the key of the directory that stood there before. */
	pass_links(fs, c, names, &links[i]);
	return again;
}
