/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners, bits, sizes and times. Bits of a session's files are its directory's, less what the table
 * does not grant; so chmod and chown of the directory share or close all of it, and chmod of a
 * single file succeeds without effect (`chmod -R`, editors that put back the mode they found).
 *
 * What an account has spent is its user's business: those files belong to him, and the daemon's
 * group, so that its user may read them as well, is let in; not root's, who needs no bits.
 */
#include "fs/attr.h"

#include "fs/again.h"
#include "fs/handle.h"
#include "fs/out.h"
#include "fs/rules.h"
#include "fs/rules.h"
#include "fs/scratch.h"
#include "fs/setting.h"
#include "fs/view.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <string.h>

static struct timespec time_of(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

static void set_times(struct stat *st, uint64_t ns)
{
	st->st_atim = st->st_mtim = st->st_ctim = time_of(ns);
}

/* Owner and bits by the session that the node is or lies in. */
static void session_stat(const struct node *node, struct stat *st)
{
	struct session_attr attr;
	session_attr(node->object->session, &attr);
	st->st_uid = attr.uid;
	st->st_gid = attr.gid;
	set_times(st, attr.changed_ns);
	if (node->row->kind == TABLE_DIR)
		st->st_mode = S_IFDIR | (attr.mode & 07777);
	else
		st->st_mode = node->row->mode & (S_IFMT | (attr.mode & 0666));
}

static void account_stat(const struct node *node, struct stat *st)
{
	uid_t uid;
	bool is_private = (node->row->mode & 0777) == 0400; /* what is written stays the daemon's */
	/* `error` is about what the daemon's user wrote. */
	if (!is_private || node->row->view == TABLE_FAULT ||
		!account_uid(node->object->account, &uid) || uid == st->st_uid)
		return;
	if (st->st_uid != 0)
		st->st_mode |= 040;
	st->st_uid = uid;
}

static void size_and_time(struct fs *fs, const struct node *node, uid_t asker, struct stat *st)
{
	uint64_t bytes = 0, ns = 0;
	switch (node->row->kind) {
	case TABLE_VIEW:
	case TABLE_LOG:
		view_size(fs, node, asker, &bytes, &ns);
		break;
	case TABLE_SETTING:
		setting_size(fs, node, &bytes, &ns);
		break;
	case TABLE_RULES:
		rules_size(fs, node, &bytes, &ns);
		break;
	case TABLE_OUT:
		bytes = out_size(node->object->session);
		break;
	case TABLE_LINK: {
		struct buf name = {0};
		gateway_default(fs->gateway, &name);
		bytes = name.len;
		buf_free(&name);
		break;
	}
	default:
		break;
	}
	st->st_size = (off_t)bytes;
	if (ns)
		set_times(st, ns);
}

void attr_stat(struct fs *fs, const struct node *node, uid_t asker, struct stat *out)
{
	memset(out, 0, sizeof *out);
	out->st_ino = node_ino(node);
	out->st_mode = node->row->mode;
	out->st_uid = fs->uid;
	out->st_gid = fs->gid;
	out->st_nlink = 1;
	out->st_blksize = 4096;
	set_times(out, node->object->created_ns);
	if (node->object->kind == OBJECT_SCRATCH) {
		scratch_stat(node->object->scratch, out);
	} else {
		if (node->object->kind == OBJECT_SESSION)
			session_stat(node, out);
		else if (node->object->kind == OBJECT_ACCOUNT)
			account_stat(node, out);
		size_and_time(fs, node, asker, out);
	}
	out->st_blocks = (out->st_size + 511) / 512;
}

static bool is_kept(const struct table_row *row)
{
	switch (row->kind) {
	case TABLE_DIR:
	case TABLE_LINK:
	case TABLE_SCRATCH:
		return true;
	case TABLE_SETTING:
		return !setting_is_messages(row);
	default:
		return false;
	}
}

double attr_timeout(const struct table_row *row)
{
	return is_kept(row) ? FS_CACHE_S : 0;
}

double attr_entry_timeout(const struct table_row *row)
{
	/* After a rename the kernel moves a scratch file's entry to the setting's name: it must ask
	 * again. Likewise the link and rule files, which come and go in TREE. */
	return row->kind == TABLE_SCRATCH || row->kind == TABLE_LINK || row->kind == TABLE_RULES
		       ? 0
		       : FS_CACHE_S;
}

void attr_entry(struct fs *fs, const struct node *node, uid_t asker, struct fuse_entry_param *out)
{
	memset(out, 0, sizeof *out);
	out->ino = node_ino(node);
	attr_stat(fs, node, asker, &out->attr);
	out->attr_timeout = attr_timeout(node->row);
	/* Where it is gone to one thread it is to be asked for by each. */
	out->entry_timeout = again_is_gone_to_any(out->ino) ? 0 : attr_entry_timeout(node->row);
}

void attr_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;
	int r = node_of_ino(fs->nodes, ino, &node);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	struct stat st;
	attr_stat(fs, &node, fuse_req_ctx(req)->uid, &st);
	if (fi)
		rules_size_written((struct handle *)(uintptr_t)fi->fh, &st);
	fuse_reply_attr(req, &st, attr_timeout(node.row));
	node_put(fs->nodes, &node);
}

static int set_scratch(struct scratch *s, const struct stat *attr, int to_set)
{
	if (to_set & FUSE_SET_ATTR_MODE)
		scratch_chmod(s, attr->st_mode);
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		scratch_chown(s, to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1);
	if ((to_set & FUSE_SET_ATTR_MTIME) && !(to_set & FUSE_SET_ATTR_MTIME_NOW))
		scratch_utime(s, &attr->st_mtim);
	return 0;
}

static int set_owner(const struct node *node, const struct stat *attr, int to_set)
{
	int r = 0;
	if (to_set & FUSE_SET_ATTR_MODE)
		r = session_chmod(node->object->session, attr->st_mode & 0777);
	if (r == 0 && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		r = session_chown(node->object->session,
			to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1);
	return r;
}

/* The fixed tree and models are as the table says; saying the same is no error. */
static int same_owner(struct fs *fs, const struct node *node, const struct stat *attr, int to_set)
{
	struct stat st;
	attr_stat(fs, node, fs->uid, &st);
	if (((to_set & FUSE_SET_ATTR_MODE) && (attr->st_mode & 07777) != (st.st_mode & 07777)) ||
		((to_set & FUSE_SET_ATTR_UID) && attr->st_uid != st.st_uid) ||
		((to_set & FUSE_SET_ATTR_GID) && attr->st_gid != st.st_gid))
		return -EPERM;
	return 0;
}

static int set_size(
	struct fs *fs, const struct node *node, uint64_t size, struct fuse_file_info *fi)
{
	const struct file_ops *ops = handle_ops(node->row->kind);
	if (!ops || !ops->write)
		return -EACCES;
	if (!ops->truncate)
		return 0;
	return ops->truncate(fs, node, fi ? (struct handle *)(uintptr_t)fi->fh : NULL, size);
}

void attr_op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node node;
	int r = node_of_ino(fs->nodes, ino, &node);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(fs, &node, (uint64_t)attr->st_size, fi);
	if (r == 0 && node.object->kind == OBJECT_SCRATCH)
		r = set_scratch(node.object->scratch, attr, to_set);
	else if (r == 0 && node.row->kind == TABLE_DIR)
		r = node.object->kind == OBJECT_SESSION ? set_owner(&node, attr, to_set)
							: same_owner(fs, &node, attr, to_set);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		struct stat st;
		attr_stat(fs, &node, fuse_req_ctx(req)->uid, &st);
		fuse_reply_attr(req, &st, attr_timeout(node.row));
	}
	node_put(fs->nodes, &node);
}
