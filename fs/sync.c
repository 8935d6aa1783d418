/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TREE is the truth about what is configured, the gateway is what runs. One pass compares all of
 * both, so it does not matter which event caused it, in which order events come, or whether one was
 * lost. There are a handful of models with two small files each; a pass costs microseconds. It
 * compares with what the gateway has and not with what an earlier pass did.
 *
 * A change through the mount stores in TREE and tells the gateway in one turn (turn.h), and what a
 * pass has read before it never comes into force after it (sync_pass.c, docs/adr/0017). So when a
 * write has returned, what it says is in force, and of two changes TREE and gateway have the later
 * one. Who has a turn keeps only those waiting who change the same thing; and what takes its time
 * of the most frequent change, to write a setting's text and to make it last, comes before and
 * after the turn.
 *
 * In a turn TREE is first. What it cannot store the gateway is not told; what the gateway refuses,
 * although it had nothing against the value itself, TREE is given back.
 */
#include "fs/sync.h"

#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/fs.h"
#include "fs/guards.h"
#include "fs/keys.h"
#include "fs/stray_pass.h"
#include "fs/sync_pass.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "fs/turn.h"

#include "gateway/gateway_models.h"

#include <errno.h>
#include <string.h>

bool sync_all(struct fs *fs, char *const *deleted)
{
	bool again = false;
	for (size_t i = 0; collections[i]; i++)
		again = sync_pass(fs, i) || again;
	again = keys_pass(fs) || again;
	again = stray_pass(fs) || again;
	return guards_pass(fs, deleted) || again;
}

/* ---- changes through the mount: objects ---- */

/* In its turn. */
static int make(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (collection_is_configured(c, fs->gateway, name))
		return err_set(err, -EEXIST, "%s %s exists", c->one, name);
	int made = tree_make(fs->tree, c, name);
	if (made < 0 && made != -EEXIST)
		return err_set(err, made, "TREE: %s", strerror(-made));
	int r = c->secret && made == 0 ? keys_new_one(fs, c, name, err) : 0;
	r = r ? r : c->create(fs->gateway, name, err);
	if (r < 0 && made == 0)
		tree_remove(fs->tree, c, name);
	return r;
}

int sync_make(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (collection_is_fixed(c, fs->gateway, name))
		return err_set(err, -EEXIST, "%s %s exists", c->one, name);
	if (!tree_name_ok(c, name))
		return err_set(err, -EINVAL, "%s is not a name of a %s", name, c->one);
	int r = c->name_check ? c->name_check(name, err) : 0;
	if (r < 0)
		return r;
	turn_begin(turn_of(c, name));
	r = make(fs, c, name, err);
	turn_end(turn_of(c, name));
	return r;
}

bool sync_is_default(struct fs *fs, const char *name)
{
	struct buf link = {0};
	bool is = gateway_default(fs->gateway, &link) == 0 && link.len && !strcmp(link.data, name);
	buf_free(&link);
	return is;
}

/* In its turn. Whoever has turned models/default to it since came after the removal. */
static int remove_one(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (c->default_is_link && sync_is_default(fs, name))
		return err_set(err, -EBUSY, "%s/default points to %s", c->dir, name);
	int r = tree_remove(fs->tree, c, name);
	if (r < 0)
		return err_set(err, r, "TREE: %s", strerror(-r));
	/* With its secret, or the next one of that name would have it. */
	faults_forget(fs, c, name);
	r = c->secret ? keys_remove_one(fs, c, name, err) : sync_pass_remove(fs, c, name, err);
	return r == -ENOENT ? 0 : r;
}

int sync_remove(struct fs *fs, const struct collection *c, const char *name, struct err *err)
{
	if (c->always && strcmp(name, c->always) == 0)
		return err_set(err, -EBUSY, "%s/%s is always there", c->dir, name);
	if (collection_is_fixed(c, fs->gateway, name))
		return err_set(err, -EPERM, "%s/%s is always there", c->dir, name);
	turn_begin(turn_of(c, name));
	int r = remove_one(fs, c, name, err);
	turn_end(turn_of(c, name));
	return r;
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
	turn_begin(turn_of_default());
	r = tree_default_set(fs->tree, name);
	if (r < 0)
		err_set(err, r, "TREE: %s", strerror(-r));
	else
		r = gateway_default_set(fs->gateway, name, err);
	turn_end(turn_of_default());
	return r;
}

/* ---- changes through the mount: settings ---- */

static const char *text_of(const struct buf *text)
{
	return text->data ? text->data : "";
}

/* A setting that is being changed. */
struct change {
	struct fs *fs;
	const struct collection *c;
	void *it;
	const char *file, *value;
	size_t len;
	struct buf real; /* what the gateway is told */
	bool is_made;    /* its directory in TREE was, for this */
	bool is_written; /* w is to be ended */
	struct tree_file_write w;
};

static bool is_always(const struct change *k)
{
	return k->c->always && strcmp(k->c->name(k->it), k->c->always) == 0;
}

static int write_text(struct change *k, struct err *err)
{
	int r = tree_setting_write(
		&k->w, k->fs->tree, k->c, k->c->name(k->it), k->file, k->value, k->len);
	k->is_written = r == 0;
	return r < 0 ? err_set(err, r, "TREE: %s", strerror(-r)) : 0;
}

/* Makes one that the gateway has by itself a configured one, TREE first. */
static int configure(struct change *k, struct err *err)
{
	const char *name = k->c->name(k->it);
	int r = tree_make(k->fs->tree, k->c, name);
	k->is_made = r == 0;
	if (r < 0 && r != -EEXIST)
		return err_set(err, r, "TREE: %s", strerror(-r));
	r = k->c->create(k->fs->gateway, name, err);
	return r == -EEXIST ? 0 : r;
}

/* Gives it default's text of a setting, if that is one. */
static int copy_setting(struct change *k, const char *file, struct err *err)
{
	struct buf text = {0};
	int r = tree_setting_get(k->fs->tree, k->c, k->c->always, file, &text);
	if (r == 0 && text.len && k->c->check(file, text.data, text.len, NULL) == 0) {
		r = tree_setting_set(
			k->fs->tree, k->c, k->c->name(k->it), file, text.data, text.len);
		if (r < 0)
			err_set(err, r, "TREE: %s", strerror(-r));
		else
			r = k->c->set(k->it, file, text.data, text.len, err);
	} else if (r == -ENOENT || r == -EINVAL || r == -EFBIG) {
		r = 0;
	} else if (r < 0) {
		err_set(err, r, "%s/%s/%s in TREE: %s", k->c->dir, k->c->always, file,
			strerror(-r));
	}
	buf_free(&text);
	return r;
}

/* One that followed default so far becomes one with settings of its own: it begins with default's,
 * so that to give a user one limit does not take the others away. But for the one that is being
 * set. */
static int copy_default(struct change *k, struct err *err)
{
	const char *const *settings = k->c->settings();
	int r = 0;
	for (size_t i = 0; r == 0 && settings[i]; i++)
		if (strcmp(settings[i], k->file) != 0)
			r = copy_setting(k, settings[i], err);
	return r;
}

/* In its turn: one that may have no directory in TREE yet is given one. */
static int write_first_text(struct change *k, struct err *err)
{
	bool follows_default = !k->c->is_configured(k->it) && !is_always(k);
	int r = configure(k, err);
	if (r == 0 && follows_default)
		r = copy_default(k, err);
	return r ? r : write_text(k, err);
}

/* In its turn: what was written. */
static int take_text(struct change *k, struct err *err)
{
	const char *name = k->c->name(k->it);
	struct buf before = {0};
	tree_setting_get(k->fs->tree, k->c, name, k->file, &before);
	int r = tree_file_write_take(&k->w);
	if (r < 0)
		err_set(err, r, "TREE: %s", strerror(-r));
	else if ((r = k->c->set(k->it, k->file, text_of(&k->real), k->real.len, err)) < 0)
		tree_setting_set(k->fs->tree, k->c, name, k->file, text_of(&before), before.len);
	buf_free(&before);
	return r;
}

/* In its turn. */
static int put_in_force(struct change *k, struct err *err)
{
	if (!collection_has(k->c, k->fs->gateway, k->it))
		return err_set(err, -ENOENT, "the %s has gone", k->c->one);
	int r = k->is_written ? 0 : write_first_text(k, err);
	if (r == 0)
		r = take_text(k, err);
	if (r < 0 && k->is_made && !is_always(k)) {
		/* It follows default again: with some of its limits only it must not stay. */
		tree_remove(k->fs->tree, k->c, k->c->name(k->it));
		k->c->remove(k->fs->gateway, k->c->name(k->it), NULL);
	}
	return r;
}

static int set(struct change *k, struct err *err)
{
	struct turn *t = turn_of(k->c, k->c->name(k->it));
	int r = tree_resolve(
		k->fs->tree, k->c, k->c->name(k->it), k->file, k->value, k->len, &k->real);
	if (r == 0)
		r = k->c->check(k->file, text_of(&k->real), k->real.len, err);
	if (r < 0)
		return r;
	if (k->c->is_configured(k->it))
		r = write_text(k, err);
	/* Without a directory so far. */
	if (r < 0 && !(r == -ENOENT && is_always(k)))
		return r;
	turn_begin(t);
	r = put_in_force(k, err);
	turn_end(t);
	if (k->is_written)
		tree_file_write_end(&k->w);
	return r;
}

int sync_setting_set(struct fs *fs, const struct collection *c, const char *name, const char *file,
	const char *value, size_t len, struct err *err)
{
	struct change k = {.fs = fs, .c = c, .file = file, .value = value, .len = len};
	k.it = c->find(fs->gateway, name);
	if (!k.it)
		return err_set(err, -ENOENT, "no %s %s", c->one, name);
	/* Of one that has set nothing nothing can be reset. */
	int r = !len && !c->is_configured(k.it) && !is_always(&k) ? 0 : set(&k, err);
	buf_free(&k.real);
	c->put(k.it);
	return r;
}
