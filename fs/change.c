/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be made where: directories in sessions/ and collections, rule files in guards/, symlinks
 * in models/, scratch files beside settings. What a program has unlinked and makes anew (again.h)
 * is opened as it is, and empty.
 */
#include "fs/change.h"

#include "fs/again.h"
#include "fs/attr.h"
#include "fs/collection.h"
#include "fs/faults.h"
#include "fs/guards.h"
#include "fs/handle.h"
#include "fs/rename.h"
#include "fs/scratch.h"
#include "fs/setting.h"
#include "fs/stray_pass.h"
#include "fs/sync.h"
#include "fs/tree.h"
#include "fs/tree_guards.h"

#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

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
	if (node_inside(dir) == TABLE_SESSIONS)
		return gateway_session_create(
			fs->gateway, name, who->uid, who->gid, mode & 0777, NULL, NULL);
	const struct collection *c = collection_at(node_inside(dir));
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

/* ---- files ---- */

static int make_scratch(
	fuse_req_t req, const struct node *dir, const char *name, mode_t mode, struct node *out)
{
	const struct fuse_ctx *who = fuse_req_ctx(req);
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!node_has_scratch(dir) || node_inside(dir) == TABLE_MODELS || !S_ISREG(mode))
		return -EPERM;
	/* Beside a key it may be one: who renames it onto `key` is refused, and it stays. */
	mode_t most = node_inside(dir) == TABLE_MODEL ? 0700 : 0777;
	struct scratch *scratch = scratch_new(S_IFREG | (mode & most), who->uid, who->gid);
	if (!scratch)
		return -ENOMEM;
	int r = node_scratch_add(fs_of(req)->nodes, dir, name, scratch, out);
	if (r == 0)
		stray_pass_wake(fs_of(req), dir, name);
	return r;
}

/* Who has just unlinked it and makes it anew writes it as others do: until then its rules stay in
 * force, and after a fault, too. git(1), which is told of that by its close, unlinks the file and
 * tries once more: the rules are noted still. */
static int make_rules(struct fs *fs, const char *file, pid_t pid)
{
	struct buf before = {0};
	bool anew = again_made(pid, again_name(file), &before);
	int r = guards_create(fs, file, anew ? &before : NULL);
	if (anew)
		again_unlinked(pid, again_name(file), &before);
	return r;
}

/* A rule file, or a scratch file. */
static int make_file(
	fuse_req_t req, const struct node *dir, const char *name, mode_t mode, struct node *out)
{
	struct fs *fs = fs_of(req);
	char file[TREE_GUARDS_NAME];
	int r = strlen(name) > FS_NAME_MAX ? -ENAMETOOLONG
					   : guards_file(node_inside(dir), name, file);
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
		r = make_rules(fs, file, fuse_req_ctx(req)->pid);
	return r < 0 ? r : node_child(fs->nodes, dir, name, out);
}

/* What one has of a file that was made by CREATE. */
struct made {
	bool is_new, anew; /* it was not there; it was, but gone to that thread (again.h) */
	struct buf before; /* anew: what stood in it */
};

/* The file `name`, which is there if somebody else was quicker, and may be nevertheless `exclusive`
 * where it is gone to that thread. */
static int make_or_find(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	bool exclusive, struct node *out, struct made *made)
{
	struct fs *fs = fs_of(req);
	struct node dir;
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r < 0)
		return r;
	r = node_child(fs->nodes, &dir, name, out);
	if (r == 0)
		made->anew = again_made(fuse_req_ctx(req)->pid, node_ino(out), &made->before);
	if (r == 0 && exclusive && !made->anew) {
		node_put(fs->nodes, out);
		r = -EEXIST;
	} else if (r == -ENOENT) {
		r = make_file(req, &dir, name, mode, out);
		made->is_new = r == 0;
	}
	node_put(fs->nodes, &dir);
	return r;
}

void change_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct node node = {0};
	struct made made = {0};
	int r = make_or_find(req, parent, name, mode, true, &node, &made);
	buf_free(&made.before);
	if (r == 0 && made.anew && !S_ISREG(mode)) {
		node_put(fs_of(req)->nodes, &node);
		r = -EPERM;
	}
	reply_node(req, &node, r);
}

void change_op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	struct node node = {0};
	struct handle *h = NULL;
	struct made made = {0};
	int r = make_or_find(req, parent, name, S_IFREG | (mode & 07777), (fi->flags & O_EXCL) != 0,
		&node, &made);
	/* One that is new is empty, as one that is truncated. */
	if (r == 0)
		r = handle_open(&h, fs, &node, fi->flags | (made.is_new || made.anew ? O_TRUNC : 0),
			who->uid, who->gid);
	if (r == 0)
		again_written(node_ino(&node));
	if (r == 0 && made.anew && node.row->kind == TABLE_SETTING)
		setting_made_anew(h, &made.before);
	buf_free(&made.before);
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

void change_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

/* ---- symlinks ---- */

/* `ln -sfn` makes the link under a name of its own and renames it over `default`; until then it is
 * a scratch file. */
static int make_link(fuse_req_t req, const struct node *dir, const char *name, const char *path,
	struct node *out)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	char target[FS_NAME_MAX + 1];
	size_t len = tree_target_length(path);
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (node_inside(dir) != TABLE_MODELS)
		return -EPERM;
	if (len > FS_NAME_MAX)
		return -EINVAL;
	memcpy(target, path, len);
	target[len] = '\0';
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
		r = rename_any(fs, &dir, name, &new_dir, new_name, flags, fuse_req_ctx(req)->pid);
	node_put(fs->nodes, &new_dir);
	node_put(fs->nodes, &dir);
	fuse_reply_err(req, -r);
}
