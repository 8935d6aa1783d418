/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be made where: directories in sessions/ and collections, rule files in guards/, symlinks
 * in models/, scratch files beside settings. Unlinking a setting resets it; unlinking what is live
 * succeeds without effect, so that `rm -r` of a session or a model works.
 */
#include "fs/change.h"

#include "fs/again.h"
#include "fs/attr.h"
#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/guards.h"
#include "fs/handle.h"
#include "fs/keys.h"
#include "fs/notify.h"
#include "fs/rename.h"
#include "fs/scratch.h"
#include "fs/setting.h"
#include "fs/sync.h"
#include "fs/tree.h"
#include "fs/tree_guards.h"

#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

static enum table_place inside(const struct node *dir)
{
	return dir->row->kind == TABLE_DIR ? (enum table_place)dir->row->view : TABLE_NOWHERE;
}

/* The reply to what made `name`: its node, or -errno. */
static void reply_node(fuse_req_t req, struct node *node, int r)
{
	struct fs *fs = fs_of(req);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	struct fuse_entry_param entry;
	attr_entry(fs, node, fuse_req_ctx(req)->uid, &entry);
	node_looked_up(fs->nodes, node);
	if (fuse_reply_entry(req, &entry) < 0)
		node_forget(fs->nodes, entry.ino, 1);
	node_put(fs->nodes, node);
}

/* ---- directories ---- */

static int make_dir(fuse_req_t req, const struct node *dir, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (inside(dir) == TABLE_SESSIONS)
		return gateway_session_create(
			fs->gateway, name, who->uid, who->gid, mode & 0777, NULL, NULL);
	const struct collection *c = collection_at(inside(dir));
	return c ? sync_make(fs, c, name, NULL) : -EPERM;
}

void change_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	struct node dir, node = {0};
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0) {
		r = make_dir(req, &dir, name, mode);
		if (r == 0)
			r = node_child(fs->nodes, &dir, name, &node);
		node_put(fs->nodes, &dir);
	}
	reply_node(req, &node, r);
}

static int remove_dir(struct fs *fs, const struct node *dir, const char *name)
{
	struct node node;
	int r = node_child(fs->nodes, dir, name, &node);
	if (r < 0)
		return r;
	bool is_dir = node.row->kind == TABLE_DIR;
	node_put(fs->nodes, &node);
	if (!is_dir)
		return -ENOTDIR;
	const struct collection *c = collection_at(inside(dir));
	if (c)
		r = sync_remove(fs, c, name, NULL);
	else
		r = inside(dir) == TABLE_SESSIONS ? gateway_session_remove(fs->gateway, name, NULL)
						  : -EPERM;
	if (r == 0)
		node_unlist(fs->nodes, c ? c->kind : OBJECT_SESSION, name);
	return r;
}

void change_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
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

static int make_scratch(
	fuse_req_t req, const struct node *dir, const char *name, mode_t mode, struct node *out)
{
	const struct fuse_ctx *who = fuse_req_ctx(req);
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!node_has_scratch(dir) || inside(dir) == TABLE_MODELS || !S_ISREG(mode))
		return -EPERM;
	struct scratch *scratch = scratch_new(S_IFREG | (mode & 0777), who->uid, who->gid);
	if (!scratch)
		return -ENOMEM;
	return node_scratch_add(fs_of(req)->nodes, dir, name, scratch, out);
}

/* A rule file, or a scratch file. */
static int make_file(
	fuse_req_t req, const struct node *dir, const char *name, mode_t mode, struct node *out)
{
	struct fs *fs = fs_of(req);
	char file[TREE_GUARDS_NAME];
	int r = strlen(name) > FS_NAME_MAX ? -ENAMETOOLONG : guards_file(inside(dir), name, file);
	if (r == -ENOENT)
		return make_scratch(req, dir, name, mode, out);
	if (r == -EINVAL) {
		struct err err = {{0}};
		err_set(&err, r, "%s", TREE_GUARDS_BAD_NAME);
		faults_note_guard(fs, file, r, &err);
	}
	if (r == 0 && !S_ISREG(mode))
		r = -EPERM;
	if (r == 0)
		r = guards_create(fs, file);
	return r < 0 ? r : node_child(fs->nodes, dir, name, out);
}

/* The file `name`, which is there if somebody else was quicker; *made (may be NULL): it was not. */
static int make_or_find(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	bool exclusive, struct node *out, bool *made)
{
	struct fs *fs = fs_of(req);
	struct node dir;
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r < 0)
		return r;
	r = node_child(fs->nodes, &dir, name, out);
	if (r == 0 && exclusive) {
		node_put(fs->nodes, out);
		r = -EEXIST;
	} else if (r == -ENOENT) {
		r = make_file(req, &dir, name, mode, out);
		if (made)
			*made = r == 0;
	}
	node_put(fs->nodes, &dir);
	return r;
}

void change_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct node node = {0};
	int r = make_or_find(req, parent, name, mode, true, &node, NULL);
	reply_node(req, &node, r);
}

void change_op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	struct node node = {0};
	struct handle *h = NULL;
	bool made = false;
	int r = make_or_find(req, parent, name, S_IFREG | (mode & 07777), (fi->flags & O_EXCL) != 0,
		&node, &made);
	/* One that is new is empty, as one that is truncated. */
	if (r == 0)
		r = handle_open(
			&h, fs, &node, fi->flags | (made ? O_TRUNC : 0), who->uid, who->gid);
	if (r < 0) {
		node_put(fs->nodes, &node);
		fuse_reply_err(req, -r);
		return;
	}
	struct fuse_entry_param entry;
	attr_entry(fs, &node, who->uid, &entry);
	node_looked_up(fs->nodes, &node);
	node_put(fs->nodes, &node);
	h->pid = who->pid;
	fi->fh = (uintptr_t)h;
	fi->direct_io = h->ops->direct;
	if (fuse_reply_create(req, &entry, fi) < 0) {
		node_forget(fs->nodes, entry.ino, 1);
		handle_put(h);
	}
}

/* What is there again at once is unlinked as often as anybody likes, but see again.c. */
static int removed(pid_t pid, const struct node *node, int r)
{
	return r == 0 && again_unlinked(pid, node_ino(node)) ? -ENOENT : r;
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
	switch (node.row->kind) {
	case TABLE_DIR:
		r = -EISDIR;
		break;
	case TABLE_SCRATCH:
		r = rename_drop_scratch(fs, dir, name, &node);
		break;
	case TABLE_RULES:
		r = guards_delete(fs, node_rules_file(&node));
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
		r = r ? r : removed(pid, &node, setting_reset(fs, &node));
		notify_inode(fs->notify, node_ino(&node));
		break;
	default:
		r = node.object->kind != OBJECT_FIXED ? removed(pid, &node, 0) : -EPERM;
		break;
	}
	node_put(fs->nodes, &node);
	return r;
}

void change_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
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

void change_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

/* ---- symlinks ---- */

/* `ln -sfn` makes the link under a name of its own and renames it over `default`; until then it is
 * a scratch file. */
static int make_link(fuse_req_t req, const struct node *dir, const char *name, const char *target,
	struct node *out)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (inside(dir) != TABLE_MODELS)
		return -EPERM;
	if (!tree_name_ok(&collection_models, target))
		return -EINVAL;
	int r = node_child(fs->nodes, dir, name, out);
	if (r == 0) {
		node_put(fs->nodes, out);
		return -EEXIST;
	}
	if (strcmp(name, "default") == 0) {
		r = sync_default_set(fs, target, NULL);
		return r < 0 ? r : node_child(fs->nodes, dir, name, out);
	}
	struct scratch *scratch = scratch_new(S_IFLNK | 0777, who->uid, who->gid);
	if (!scratch)
		return -ENOMEM;
	r = scratch_write(scratch, 0, target, strlen(target));
	if (r < 0) {
		scratch_free(scratch);
		return r;
	}
	return node_scratch_add(fs->nodes, dir, name, scratch, out);
}

void change_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node dir, node = {0};
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0) {
		r = make_link(req, &dir, name, target, &node);
		node_put(fs->nodes, &dir);
	}
	reply_node(req, &node, r);
}

void change_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct node node;
	char target[FS_NAME_MAX + 1] = "";
	int r = node_of_ino(fs->nodes, ino, &node);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (node.row->kind == TABLE_LINK) {
		struct buf name = {0};
		r = gateway_default(fs->gateway, &name);
		if (r == 0 && (name.len == 0 || name.len > FS_NAME_MAX))
			r = -ENOENT;
		if (r == 0)
			memcpy(target, name.data, name.len + 1);
		buf_free(&name);
	} else if (node.row->kind == TABLE_SCRATCH) {
		target[scratch_read(node.object->scratch, 0, target, FS_NAME_MAX)] = '\0';
	} else {
		r = -EINVAL;
	}
	node_put(fs->nodes, &node);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target);
}

void change_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct fs *fs = fs_of(req);
	struct node dir, new_dir = {0};
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0)
		r = node_of_ino(fs->nodes, new_parent, &new_dir);
	if (r == 0)
		r = rename_any(fs, &dir, name, &new_dir, new_name, flags);
	node_put(fs->nodes, &new_dir);
	node_put(fs->nodes, &dir);
	fuse_reply_err(req, -r);
}
