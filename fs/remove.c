/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unlinking a setting resets it; unlinking what is live succeeds without effect, so that `rm -r` of
 * a session or a model works. Both are there again at once, but to who has unlinked them (again.h).
 */
#include "fs/remove.h"

#include "fs/again.h"
#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/guards.h"
#include "fs/keys.h"
#include "fs/notify.h"
#include "fs/rename.h"
#include "fs/rules.h"
#include "fs/setting.h"
#include "fs/stray_pass.h"
#include "fs/sync.h"

#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- directories ---- */

static int remove_dir(struct fs *fs, const struct node *dir, const char *name)
{
	struct node node;
	int r = node_child(fs->nodes, dir, name, &node);
	if (r < 0)
		return r;
	bool is_dir = node.row->kind == TABLE_DIR;
	uint64_t first, last;
	node_inos(&node, &first, &last);
	node_put(fs->nodes, &node);
	if (!is_dir)
		return -ENOTDIR;
	const struct collection *c = collection_at(node_inside(dir));
	if (c)
		r = sync_remove(fs, c, name, NULL);
	else
		r = node_inside(dir) == TABLE_SESSIONS
			    ? gateway_session_remove(fs->gateway, name, NULL)
			    : -EPERM;
	if (r == 0) {
		node_unlist(fs->nodes, c ? c->kind : OBJECT_SESSION, name);
		again_forget(first, last);
	}
	return r;
}

void remove_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node dir;
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0) {
		r = remove_dir(fs, &dir, name);
		node_put(fs->nodes, &dir);
	}
	fuse_reply_err(req, -r);
}

/* ---- files ---- */

/* Of a text with a fault nothing is in force: what was noted before stays. */
static int remove_rules(struct fs *fs, const struct node *node, pid_t pid)
{
	char file[TREE_GUARDS_NAME];
	struct buf text = {0}, old = {0};
	snprintf(file, sizeof file, "%s", node_rules_file(node));
	bool is_good = !guards_has_fault(file) && rules_text(fs, node, &text) == 0 && text.len;
	int r = guards_delete(fs, file);
	if (r == 0 && is_good) {
		again_made(pid, again_name(file), &old);
		again_unlinked(pid, again_name(file), &text);
	}
	buf_free(&old);
	buf_free(&text);
	return r;
}

/* What is there again at once is gone to who has unlinked it, see again.c. */
static int removed(pid_t pid, const struct node *node, int r)
{
	if (r == 0)
		again_unlinked(pid, node_ino(node), NULL);
	return r;
}

static int reset(struct fs *fs, const struct node *node, pid_t pid)
{
	struct buf before = {0};
	if (!setting_is_messages(node->row))
		setting_text_set(fs, node, &before);
	int r = setting_reset(fs, node);
	if (r == 0)
		again_unlinked(pid, node_ino(node), &before);
	buf_free(&before);
	return r;
}

static bool has(struct model *m, const char *file)
{
	struct buf value = {0};
	bool is = model_setting_get(m, file, &value) == 0 && value.len;
	buf_free(&value);
	return is;
}

/* Whether its model would be none without it. */
static bool makes_model(const struct node *node)
{
	const char *file = node->row->name;
	const char *other = !strcmp(file, "path")       ? "endpoint"
			    : !strcmp(file, "endpoint") ? "path"
							: NULL;
	return other && has(node->object->model, file) && !has(node->object->model, other);
}

/* `rm -r` of the model that serves when none is named fails at the directory, and too late: what
 * makes it a model would be gone by then, with its key, which nobody can read, and its prices. So
 * it is refused the former, and whoever was goes on without the rest. -EBUSY. */
static int keeps_default(struct fs *fs, const struct node *dir, const struct node *node, pid_t pid)
{
	const char *file = node->row->name;
	if (node->row->place != TABLE_MODEL ||
		!sync_is_default(fs, model_name(node->object->model)))
		return 0;
	bool needed = node->row->kind == TABLE_SETTING && makes_model(node);
	if (needed)
		again_refused(pid, node_ino(dir));
	else if (!again_goes_on(pid, node_ino(dir)) ||
		 (node->row->kind == TABLE_SETTING && !has(node->object->model, file)))
		return 0;
	struct err err = {{0}};
	const char *name = model_name(node->object->model);
	int r = err_set(&err, -EBUSY,
		"%s: models/default points to %s, which would be %s without it: turn that first",
		file, name, needed ? "no model" : "another");
	faults_note(fs, node, r, &err);
	return r;
}

static int remove_file(struct fs *fs, const struct node *dir, const char *name, pid_t pid)
{
	struct node node;
	int r = node_child(fs->nodes, dir, name, &node);
	if (r < 0)
		return r;
	if (again_is_gone(pid, node_ino(&node))) {
		node_put(fs->nodes, &node);
		return -ENOENT;
	}
	switch (node.row->kind) {
	case TABLE_DIR:
		r = -EISDIR;
		break;
	case TABLE_SCRATCH:
		r = rename_drop_scratch(fs, dir, name, &node);
		stray_pass_wake(fs, dir, name);
		break;
	case TABLE_RULES:
		r = remove_rules(fs, &node, pid);
		break;
	case TABLE_LINK:
		r = sync_default_set(fs, NULL, NULL);
		break;
	case TABLE_KEY:
		r = keeps_default(fs, dir, &node, pid);
		r = r ? r : removed(pid, &node, keys_set(fs, node.object->model, "", 0, NULL));
		break;
	case TABLE_SETTING:
		r = keeps_default(fs, dir, &node, pid);
		r = r ? r : reset(fs, &node, pid);
		notify_inode(fs->notify, node_ino(&node));
		break;
	default:
		r = node.object->kind != OBJECT_FIXED ? removed(pid, &node, 0) : -EPERM;
		break;
	}
	node_put(fs->nodes, &node);
	return r;
}

void remove_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node dir;
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0) {
		r = remove_file(fs, &dir, name, fuse_req_ctx(req)->pid);
		node_put(fs->nodes, &dir);
	}
	fuse_reply_err(req, -r);
}
