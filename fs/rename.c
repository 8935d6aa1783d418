/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel believes that a rename moved the inode, while here a setting keeps its own: the entry
 * of a scratch file is never kept by the kernel, and the new name of a copied setting is
 * invalidated.
 *
 * A rule file does move: away from its name it is a scratch file in the mount, and TREE keeps the
 * text under the new name too, so that neither a crash nor `mv x.rules x.off` loses it. That file
 * goes when the scratch file does.
 */
#include "fs/rename.h"

#include "fs/again.h"
#include "fs/attr.h"
#include "fs/guards.h"
#include "fs/notify.h"
#include "fs/scratch.h"
#include "fs/setting.h"
#include "fs/stray_pass.h"
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
	const char *name, const struct node *to, const struct buf *unlinked)
{
	struct buf text = {0};
	int r = content(from->object->scratch, &text);
	if (r == 0)
		r = setting_store_over(fs, to, &text, unlinked);
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
	attr_stat(fs, from, fs->uid, &st);
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

/* ---- rule files ---- */

int rename_drop_scratch(
	struct fs *fs, const struct node *dir, const char *name, const struct node *scratch)
{
	struct buf kept = {0};
	int r = scratch_kept(scratch->object->scratch, &kept);
	if (r == 0)
		r = node_scratch_remove(fs->nodes, dir, name);
	if (r == 0 && kept.len)
		tree_guards_remove(fs->tree, kept.data);
	buf_free(&kept);
	return r;
}

static int scratch_over_rules(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const char *file)
{
	struct buf text = {0}, kept = {0};
	int r = content(from->object->scratch, &text);
	if (r == 0)
		r = scratch_kept(from->object->scratch, &kept);
	if (r == 0 && text.len > TREE_GUARDS_MAX)
		r = -EFBIG;
	if (r == 0 && kept.len)
		r = guards_put_back(fs, kept.data, file, text.data, text.len);
	if ((r == 0 && !kept.len) || r == -ESTALE || r == -ECANCELED || r == -ENOENT)
		r = guards_save(fs, file, text.data, text.len, NULL, NULL);
	buf_free(&text);
	buf_free(&kept);
	if (r < 0)
		return r;
	rename_drop_scratch(fs, dir, name, from);
	return 0;
}

/* What TREE keeps, into memory. */
static int fill(struct fs *fs, struct scratch *scratch, const char *kept)
{
	struct buf text = {0};
	int r = tree_guards_get(fs->tree, kept, &text);
	if (r == 0)
		r = scratch_write(scratch, 0, text.data ? text.data : "", text.len);
	if (r >= 0)
		r = scratch_keep(scratch, kept);
	buf_free(&text);
	return r == -EINVAL ? -EIO : r;
}

/* The text is in memory for who looks for it under its new name, and in TREE for good. */
static int rules_to_scratch(struct fs *fs, const struct node *dir, const struct node *from,
	const struct node *to, const char *new_name)
{
	const char *file = node_rules_file(from);
	char kept[TREE_GUARDS_NAME];
	struct node copy = {0};
	struct scratch *scratch = scratch_new(S_IFREG | 0644, fs->uid, fs->gid);
	if (!scratch)
		return -ENOMEM;
	if (to->object)
		rename_drop_scratch(fs, dir, new_name, to);
	int r = node_scratch_add(fs->nodes, dir, new_name, scratch, &copy);
	if (r < 0)
		return r;
	r = guards_put_aside(fs, file, new_name, kept);
	if (r == 0) {
		r = fill(fs, scratch, kept);
		if (r < 0)
			tree_guards_rename(fs->tree, kept, file); /* the next pass sets it */
	}
	if (r < 0)
		node_scratch_remove(fs->nodes, dir, new_name);
	node_put(fs->nodes, &copy);
	return r;
}

/* In a directory of rules. 1: nothing to do with them. */
static int rename_rules(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const struct node *to, const char *new_name)
{
	enum table_kind kind = from->row->kind;
	char file[TREE_GUARDS_NAME];
	int named = guards_file((enum table_place)dir->row->view, new_name, file);
	bool is_text = kind == TABLE_SCRATCH && S_ISREG(scratch_mode(from->object->scratch));
	if (named == -EINVAL)
		return -EPERM; /* EINVAL of a rename means another thing */
	if (named == 0 && is_text)
		return scratch_over_rules(fs, dir, from, name, file);
	if (named == 0 && kind == TABLE_RULES)
		return guards_rename(fs, node_rules_file(from), file);
	if (kind == TABLE_RULES && (!to->object || to->row->kind == TABLE_SCRATCH))
		return rules_to_scratch(fs, dir, from, to, new_name);
	return 1;
}

static int rename_scratch(struct fs *fs, const struct node *dir, const char *name,
	const struct node *to, const char *new_name)
{
	struct buf kept = {0};
	if (to->object)
		scratch_kept(to->object->scratch, &kept);
	int r = node_scratch_rename(fs->nodes, dir, name, new_name, false);
	if (r == 0 && kept.len)
		tree_guards_remove(fs->tree, kept.data);
	buf_free(&kept);
	return r;
}

static int rename_to(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const struct node *to, const char *new_name, unsigned flags,
	const struct buf *unlinked)
{
	enum table_kind kind = from->row->kind;
	bool is_link = kind == TABLE_SCRATCH && S_ISLNK(scratch_mode(from->object->scratch));
	if (to->object && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	int r = rename_rules(fs, dir, from, name, to, new_name);
	if (r != 1)
		return r;
	if (kind == TABLE_SCRATCH && (!to->object || to->row->kind == TABLE_SCRATCH))
		return is_link && strcmp(new_name, "default") == 0
			       ? scratch_over_link(fs, dir, from, name)
			       : rename_scratch(fs, dir, name, to, new_name);
	if (is_link && to->row->kind == TABLE_LINK)
		return scratch_over_link(fs, dir, from, name);
	if (kind == TABLE_SCRATCH && !is_link && to->row->kind == TABLE_SETTING)
		return scratch_over_setting(fs, dir, from, name, to, unlinked);
	if (kind == TABLE_SETTING && (!to->object || to->row->kind == TABLE_SCRATCH))
		return setting_to_copy(fs, dir, from, new_name);
	return -EPERM;
}

/* To who has just unlinked what has that name nothing has it, and now something does: again.h. */
static int rename_over(struct fs *fs, const struct node *dir, const struct node *from,
	const char *name, const struct node *to, const char *new_name, unsigned flags, pid_t pid)
{
	struct buf before = {0};
	bool anew = to->object && again_made(pid, node_ino(to), &before);
	if (anew)
		flags &= ~(unsigned)RENAME_NOREPLACE;
	int r = rename_to(fs, dir, from, name, to, new_name, flags, &before);
	if (r < 0 && anew && to->row->kind == TABLE_SETTING)
		setting_put_back(fs, to, &before);
	if (r == 0 && to->object)
		again_written(node_ino(to));
	buf_free(&before);
	return r;
}

int rename_any(struct fs *fs, const struct node *dir, const char *name, const struct node *new_dir,
	const char *new_name, unsigned flags, pid_t pid)
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
		r = rename_over(fs, dir, &from, name, &to, new_name, flags, pid);
	if (r == 0) {
		stray_pass_wake(fs, dir, name);
		stray_pass_wake(fs, dir, new_name);
	}
	node_put(fs->nodes, &to);
	node_put(fs->nodes, &from);
	return r;
}
