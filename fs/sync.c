/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TREE is the truth about what is configured, the gateway is what runs. One pass compares all of
 * both, so it does not matter which event caused it, in which order events come, or whether one was
 * lost. There are a handful of models with two small files each; a pass costs microseconds.
 *
 * The pass compares with what the gateway has and not with what an earlier pass did. A change
 * through the mount that is overtaken by a pass with the old text is therefore repaired by the
 * next pass, which the very rename that stored the new text has caused.
 */
#include "fs/sync.h"

#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/fs.h"
#include "fs/guards.h"
#include "fs/keys.h"
#include "fs/names.h"
#include "fs/stray_pass.h"
#include "fs/tree.h"
#include "fs/tree_file.h"

#include "base/log.h"
#include "gateway/gateway_models.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one pass ---- */

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

/* What the gateway is told for a setting's text: paths are made absolute. */
static int effective(struct fs *fs, const struct collection *c, const char *name, const char *file,
	const char *text, size_t len, struct buf *out)
{
	for (size_t i = 0; c->paths && c->paths[i]; i++)
		if (strcmp(file, c->paths[i]) == 0)
			return tree_resolve(fs->tree, c, name, text, len, out);
	return buf_append(out, text, len);
}

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

/* always: also one that the gateway has already. 0 or -errno; 1: ask again soon. */
static int pass_setting(struct fs *fs, const struct collection *c, void *it, const char *file,
	bool always, struct err *err)
{
	const char *name = c->name(it);
	struct buf text = {0}, want = {0}, have = {0};
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
		r = effective(fs, c, name, file, text.data ? text.data : "", text.len, &want);
	if (r == 0)
		r = c->get(it, file, &have);
	if (r == 0 && (always || !same(&want, &have)))
		r = c->set(it, file, want.data ? want.data : "", want.len, err);
	buf_free(&text);
	buf_free(&want);
	buf_free(&have);
	return r;
}

/* Settings that had a fault in the pass before, by their paths: when it has ended they are set even
 * to what the gateway has, because it was told that its file says nothing. */
static struct names faulty; /* the passes', which never run at the same time */

/* True: ask again soon. */
static bool pass_settings(struct fs *fs, const struct collection *c, void *it)
{
	bool again = false;
	const char *name = c->name(it), *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++) {
		struct err err = {{0}};
		char path[COLLECTION_PATH];
		collection_path(c, name, settings[i], path);
		bool was_faulty = names_has(faulty.list, path);
		int r = pass_setting(fs, c, it, settings[i], was_faulty, &err);
		if (r == 1) {
			again = true;
			continue;
		}
		names_drop(&faulty, path);
		report(fs, c, name, settings[i], r < 0 ? &err : NULL);
		if (r < 0 && c->fail) {
			names_add(&faulty, path);
			c->fail(it, settings[i]);
		}
	}
	return again;
}

/* True: ask again soon. */
static bool pass_one(struct fs *fs, const struct collection *c, const char *name)
{
	struct err err = {{0}};
	bool again = false;
	int r = 0;
	void *it = c->find(fs->gateway, name);
	if (!it || !c->is_configured(it)) {
		r = c->create(fs->gateway, name, &err);
		if (r == -EEXIST)
			r = 0;
		if (it)
			c->put(it);
		it = c->find(fs->gateway, name);
	}
	report(fs, c, name, "", r < 0 ? &err : NULL);
	again = it && pass_settings(fs, c, it);
	if (it)
		c->put(it);
	return again;
}

static void pass_default(struct fs *fs)
{
	struct buf want = {0}, have = {0};
	struct err err = {{0}};
	tree_default_get(fs->tree, &want);
	gateway_default(fs->gateway, &have);
	if (!same(&want, &have) &&
		gateway_default_set(fs->gateway, want.len ? want.data : NULL, &err) < 0)
		log_warn("models/default in TREE: %s", err.text);
	buf_free(&want);
	buf_free(&have);
}

static bool is_fixed(struct fs *fs, const struct collection *c, const char *name)
{
	void *it = c->is_fixed ? c->find(fs->gateway, name) : NULL;
	bool is = it && c->is_fixed(it);
	if (it)
		c->put(it);
	return is;
}

/* What TREE has, and what is there without it. */
static char **wanted(struct fs *fs, const struct collection *c)
{
	char **names = tree_names(fs->tree, c);
	size_t n = 0;
	for (size_t i = 0; names && names[i]; i++) {
		char *name = names[i];
		names[i] = NULL;
		if (is_fixed(fs, c, name))
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
	return more;
}

static void remove_gone(struct fs *fs, const struct collection *c, const char *name)
{
	struct err err = {{0}};
	faults_forget(fs, c, name);
	int r = c->remove(fs->gateway, name, &err);
	if (r == -EBUSY && c->default_is_link) {
		/* The link in TREE dangles, which is the user's right. */
		struct buf link = {0};
		gateway_default(fs->gateway, &link);
		gateway_default_set(fs->gateway, NULL, NULL);
		r = c->remove(fs->gateway, name, &err);
		gateway_default_set(fs->gateway, link.len ? link.data : NULL, NULL);
		buf_free(&link);
	}
	if (r < 0 && r != -ENOENT)
		log_warn("%s/%s has gone from TREE: %s", c->dir, name, err.text);
}

static bool is_configured(struct fs *fs, const struct collection *c, const char *name)
{
	void *it = c->find(fs->gateway, name);
	bool is = it && c->is_configured(it);
	if (it)
		c->put(it);
	return is;
}

/* Those that TREE no longer has. Asked of TREE after the gateway: mkdir through the mount makes the
 * directory first, so one that is being made is never taken for one that has gone. */
static void pass_gone(struct fs *fs, const struct collection *c)
{
	char **known = c->names(fs->gateway);
	char **names = wanted(fs, c);
	if (!names)
		known = names_free(known);
	for (size_t i = 0; known && known[i]; i++)
		if (!names_has(names, known[i]) && is_configured(fs, c, known[i]))
			remove_gone(fs, c, known[i]);
	names_free(names);
	names_free(known);
}

/* What was reported of one goes with it; *before are the names of the pass before. Steals names. */
static void pass_reports(struct fs *fs, const struct collection *c, char ***before, char **names)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; *before && (*before)[i]; i++) {
		if (names_has(names, (*before)[i]))
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

bool sync_all(struct fs *fs, char *const *deleted)
{
	static char **before[COLLECTIONS], **links[COLLECTIONS]; /* passes run one at a time */
	bool again = false;
	for (size_t i = 0; collections[i]; i++) {
		const struct collection *c = collections[i];
		if (c->single) {
			again = pass_settings(fs, c, c->find(fs->gateway, "")) || again;
			continue;
		}
		pass_dir(fs, c);
		char **names = wanted(fs, c);
		if (!names)
			continue;
		for (size_t k = 0; names[k]; k++)
			again = pass_one(fs, c, names[k]) || again;
		if (c->default_is_link)
			pass_default(fs);
		pass_gone(fs, c);
		pass_reports(fs, c, &before[i], names);
		/* Last: a symlink's fault has the key of the directory that stood there before. */
		pass_links(fs, c, names, &links[i]);
	}
	again = keys_pass(fs) || again;
	again = stray_pass(fs) || again;
	return guards_pass(fs, deleted) || again;
}

/* ---- changes through the mount ---- */

int sync_make(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (is_configured(fs, c, name) || is_fixed(fs, c, name))
		return err_set(err, -EEXIST, "%s %s exists", c->one, name);
	if (!tree_name_ok(c, name))
		return err_set(err, -EINVAL, "%s is not a name of a %s", name, c->one);
	/* Before there is a directory in TREE, which a pass might see. */
	int made = c->name_check ? c->name_check(name, err) : 0;
	if (made < 0)
		return made;
	made = tree_make(fs->tree, c, name);
	if (made < 0 && made != -EEXIST)
		return err_set(err, made, "TREE: %s", strerror(-made));
	int r = c->key && made == 0 ? keys_new_model(fs, name, err) : 0;
	r = r ? r : c->create(fs->gateway, name, err);
	if (r == -EEXIST && made == 0)
		r = 0; /* a pass has seen the new directory before we came here */
	if (r < 0 && made == 0)
		tree_remove(fs->tree, c, name);
	return r;
}

bool sync_is_default(struct fs *fs, const char *name)
{
	struct buf link = {0};
	bool is = gateway_default(fs->gateway, &link) == 0 && link.len && !strcmp(link.data, name);
	buf_free(&link);
	return is;
}

int sync_remove(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (c->default_is_link && sync_is_default(fs, name) && !is_fixed(fs, c, name))
		return err_set(err, -EBUSY, "%s/default points to %s", c->dir, name);
	if (c->always && strcmp(name, c->always) == 0)
		return err_set(err, -EBUSY, "%s/%s is always there", c->dir, name);
	if (is_fixed(fs, c, name))
		return err_set(err, -EPERM, "%s/%s is always there", c->dir, name);
	int r = tree_remove(fs->tree, c, name);
	if (r < 0)
		return err_set(err, r, "TREE: %s", strerror(-r));
	/* With its key, or the next one of that name would have it. */
	faults_forget(fs, c, name);
	r = c->key ? keys_remove_model(fs, name, err) : c->remove(fs->gateway, name, err);
	return r == -ENOENT ? 0 : r;
}

int sync_default_set(struct fs *fs, const char *name, struct err *err)
{
	if (name && !tree_name_ok(&collection_models, name))
		return err_set(err, -EINVAL, "default must point to the bare name of a sibling");
	struct err why = {{0}};
	int r = name ? gateway_default_check(fs->gateway, name, &why) : 0;
	if (name)
		faults_note_default(fs, name, r, &why);
	if (r < 0)
		return err_set(err, r, "%s", why.text);
	r = tree_default_set(fs->tree, name);
	if (r < 0)
		return err_set(err, r, "TREE: %s", strerror(-r));
	return gateway_default_set(fs->gateway, name, err);
}

/* Makes one that the gateway has by itself a configured one, TREE first. */
static int configure(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	int r = tree_make(fs->tree, c, name);
	if (r < 0 && r != -EEXIST)
		return err_set(err, r, "TREE: %s", strerror(-r));
	r = c->create(fs->gateway, name, err);
	return r == -EEXIST ? 0 : r;
}

/* One that followed default so far becomes one with settings of its own: it begins with default's,
 * so that to give a user one limit does not take the others away. But for `file`, which is being
 * set. */
static void copy_default(struct fs *fs, const struct collection *c, void *it, const char *file)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++) {
		struct buf text = {0};
		bool same_file = strcmp(settings[i], file) == 0;
		if (!same_file &&
			tree_setting_get(fs->tree, c, c->always, settings[i], &text) == 0 &&
			text.len && c->set(it, settings[i], text.data, text.len, NULL) == 0)
			tree_setting_set(
				fs->tree, c, c->name(it), settings[i], text.data, text.len);
		buf_free(&text);
	}
}

int sync_setting_set(struct fs *fs, const struct collection *c, const char *name, const char *file,
	const char *value, size_t len, struct err *err)
{
	void *it = c->find(fs->gateway, name);
	if (!it)
		return err_set(err, -ENOENT, "no %s %s", c->one, name);
	bool configured = c->is_configured(it);
	bool always = c->always && strcmp(name, c->always) == 0;
	if (!configured && !always && len == 0) {
		c->put(it);
		return 0; /* nothing was set that could be reset */
	}
	struct buf text = {0};
	int r = effective(fs, c, name, file, value, len, &text);
	const char *real = text.data ? text.data : "";
	if (r == 0)
		r = c->check(file, real, text.len, err);
	if (r == 0 && (!configured || always))
		r = configure(fs, c, name, err);
	if (r == 0 && !configured && !always)
		copy_default(fs, c, it, file);
	struct buf before = {0};
	tree_setting_get(fs->tree, c, name, file, &before);
	if (r == 0) {
		r = tree_setting_set(fs->tree, c, name, file, value, len);
		if (r < 0)
			err_set(err, r, "TREE: %s", strerror(-r));
	}
	if (r == 0) {
		r = c->set(it, file, real, text.len, err);
		if (r < 0) /* what is refused changes nothing */
			tree_setting_set(fs->tree, c, name, file, before.data ? before.data : "",
				before.len);
	}
	buf_free(&before);
	buf_free(&text);
	c->put(it);
	return r;
}
