/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel believes that a rename moved the inode, while here a setting keeps its own: the entry
 * of a scratch file is never kept by the kernel, and the new name of a copied setting is
 * invalidated.
 */
#include "fs/rename.h"

#include "fs/attr.h"
#include "fs/notify.h"
#include "fs/scratch.h"
#include "fs/setting.h"
#include "fs/sync.h"

#include "base/buf.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Appends what a scratch file holds. */
static int content(struct scratch *scratch, struct buf *out)
{
	int r = buf_reserve(out, SCRATCH_MAX_BYTES);
	if (r == 0) {
		out->len += scratch_read(scratch, 0, out->data + out->len, SCRATCH_MAX_BYTES);
		out->data[out->len] = '\0';
	}
	return r;
}

static int scratch_over_setting(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const struct node *to)
{
	struct buf text = {0};
	int r = content(from->object->scratch, &text);
	if (r == 0)
		r = setting_store(fs, to, text.data, text.len);
	buf_free(&text);
	if (r == 0) {
		node_scratch_remove(fs->nodes, dir, name);
		notify_inode(fs->notify, node_ino(to));
	}
	return r;
}

static int scratch_over_link(
	struct fs *fs, const struct node *dir, const struct node *from, const char *name)
{
	struct buf target = {0};
	int r = content(from->object->scratch, &target);
	if (r == 0)
		r = sync_default_set(fs, target.data, NULL);
	buf_free(&target);
	if (r == 0)
		node_scratch_remove(fs->nodes, dir, name);
	return r;
}

static int setting_to_copy(
	struct fs *fs, const struct node *dir, const struct node *from, const char *new_name)
{
	struct stat st;
	attr_stat(fs, from, &st);
	struct scratch *scratch = scratch_new(st.st_mode, st.st_uid, st.st_gid);
	if (!scratch)
		return -ENOMEM;
	struct buf text = {0};
	struct node copy;
	int r = setting_text(fs, from, &text);
	if (r == 0)
		r = scratch_write(scratch, 0, text.data ? text.data : "", text.len);
	buf_free(&text);
	if (r < 0) {
		scratch_free(scratch);
		return r;
	}
	node_scratch_remove(fs->nodes, dir, new_name);
	r = node_scratch_add(fs->nodes, dir, new_name, scratch, &copy);
	if (r < 0)
		return r;
	node_put(fs->nodes, &copy);
	notify_entry(fs->notify, node_ino(dir), new_name);
	return 0;
}

static int rename_to(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const struct node *to, const char *new_name, unsigned flags)
{
	enum table_kind kind = from->row->kind;
	bool is_link = kind == TABLE_SCRATCH && S_ISLNK(scratch_mode(from->object->scratch));
	if (to->object && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (kind == TABLE_SCRATCH && (!to->object || to->row->kind == TABLE_SCRATCH))
		return is_link && strcmp(new_name, "default") == 0
			       ? scratch_over_link(fs, dir, from, name)
			       : node_scratch_rename(fs->nodes, dir, name, new_name, false);
	if (is_link && to->row->kind == TABLE_LINK)
		return scratch_over_link(fs, dir, from, name);
	if (kind == TABLE_SCRATCH && !is_link && to->row->kind == TABLE_SETTING)
		return scratch_over_setting(fs, dir, from, name, to);
	if (kind == TABLE_SETTING && (!to->object || to->row->kind == TABLE_SCRATCH))
		return setting_to_copy(fs, dir, from, new_name);
	return -EPERM;
}

int rename_any(struct fs *fs, const struct node *dir, const char *name, const struct node *new_dir,
	const char *new_name, unsigned flags)
{
	struct node from, to = {0};
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	if (strlen(new_name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	int r = node_child(fs->nodes, dir, name, &from);
	if (r < 0)
		return r;
	if (from.row->kind == TABLE_DIR)
		r = -EPERM;
	else if (node_ino(dir) != node_ino(new_dir))
		r = -EXDEV;
	if (r == 0) {
		r = node_child(fs->nodes, new_dir, new_name, &to);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && to.object && node_ino(&to) == node_ino(&from))
		r = 0;
	else if (r == 0)
		r = rename_to(fs, dir, &from, name, &to, new_name, flags);
	node_put(fs->nodes, &to);
	node_put(fs->nodes, &from);
	return r;
}
