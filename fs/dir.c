/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking up and listing. A listing is a snapshot of names, taken when it is read from its start,
 * so what is made or removed meanwhile neither hides nor doubles others; offsets are positions in
 * that snapshot.
 */
#include "fs/dir.h"

#include "fs/again.h"
#include "fs/attr.h"
#include "fs/collection.h"
#include "fs/guards.h"
#include "fs/names.h"
#include "fs/node.h"
#include "fs/scratch.h"

#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <pthread.h>

/* One open directory. */
struct listing {
	pthread_mutex_t lock;
	struct node dir;
	struct names names; /* "." and ".." first */
};

/* ---- look-ups ---- */

void dir_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node dir, node = {0};
	int r = node_of_ino(fs->nodes, parent, &dir);
	if (r == 0) {
		r = node_child(fs->nodes, &dir, name, &node);
		node_put(fs->nodes, &dir);
	}
	if (r == 0 && again_is_gone(fuse_req_ctx(req)->pid, node_ino(&node))) {
		node_put(fs->nodes, &node);
		r = -ENOENT;
	}
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	struct fuse_entry_param entry;
	attr_entry(fs, &node, fuse_req_ctx(req)->uid, &entry);
	node_looked_up(fs->nodes, &node);
	if (fuse_reply_entry(req, &entry) < 0)
		node_forget(fs->nodes, entry.ino, 1);
	node_put(fs->nodes, &node);
}

void dir_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	node_forget(fs_of(req)->nodes, ino, n);
	fuse_reply_none(req);
}

void dir_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(fs_of(req)->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- listings ---- */

/* Those that have no row of their own. Steals names. */
static int add_all(struct listing *l, char **names)
{
	enum table_place place = (enum table_place)l->dir.row->view;
	int r = names ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && names[i]; i++)
		if (!table_row_named(place, names[i]))
			r = names_add(&l->names, names[i]);
	names_free(names);
	return r;
}

static void dir_end(struct fs *fs, struct listing *l)
{
	node_put(fs->nodes, &l->dir);
	names_free(l->names.list);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static int snapshot(struct fs *fs, struct listing *l)
{
	names_free(l->names.list);
	l->names = (struct names){0};
	enum table_place place = (enum table_place)l->dir.row->view;
	int r = names_add(&l->names, ".");
	if (r == 0)
		r = names_add(&l->names, "..");
	for (size_t i = 0; r == 0 && i < table_n_rows; i++)
		if (table_rows[i].place == place && !table_rows[i].pattern)
			r = names_add(&l->names, table_rows[i].name);
	const char *const *numbers = gateway_metric_names();
	for (size_t i = 0; r == 0 && place == TABLE_METRICS && numbers[i]; i++)
		r = names_add(&l->names, numbers[i]);
	if (r == 0 && place == TABLE_SESSIONS)
		r = add_all(l, gateway_session_names(fs->gateway));
	const struct collection *c = collection_at(place);
	if (r == 0 && c)
		r = add_all(l, c->names(fs->gateway));
	if (r == 0 && guards_at(place))
		r = add_all(l, guards_names(fs, place));
	if (r == 0 && node_has_scratch(&l->dir))
		r = add_all(l, node_scratch_names(fs->nodes, &l->dir));
	return r;
}

/* "." or "..": the kernel takes number and type only. */
static void dots(const struct listing *l, size_t i, struct stat *st)
{
	const struct table_row *row = l->dir.row;
	st->st_ino = i == 0 ? node_ino(&l->dir) : node_fixed_ino(table_root());
	if (i == 1 && row->place != TABLE_ROOT && row->place != TABLE_NOWHERE)
		st->st_ino = node_fixed_ino(table_dir_of(row->place));
	st->st_mode = S_IFDIR;
}

/* Adds entry i to buf; the bytes it took, 0: skipped (it has gone), more than room: no room. */
static size_t emit(
	fuse_req_t req, const struct listing *l, size_t i, char *buf, size_t room, bool plus)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param entry = {0};
	struct node node = {0};
	if (i < 2)
		dots(l, i, &entry.attr);
	else if (node_child(fs->nodes, &l->dir, l->names.list[i], &node) < 0)
		return 0;
	if (node.object && again_is_gone(fuse_req_ctx(req)->pid, node_ino(&node))) {
		node_put(fs->nodes, &node);
		return 0;
	}
	size_t used;
	off_t next = (off_t)i + 1;
	if (!plus) {
		if (node.object) {
			entry.attr.st_ino = node_ino(&node);
			entry.attr.st_mode = node.object->kind == OBJECT_SCRATCH
						     ? scratch_mode(node.object->scratch)
						     : node.row->mode;
		}
		used = fuse_add_direntry(req, buf, room, l->names.list[i], &entry.attr, next);
	} else {
		if (node.object)
			attr_entry(fs, &node, fuse_req_ctx(req)->uid, &entry);
		used = fuse_add_direntry_plus(req, buf, room, l->names.list[i], &entry, next);
		if (used <= room && node.object)
			node_looked_up(fs->nodes, &node);
	}
	node_put(fs->nodes, &node);
	return used;
}

static void readdir_any(
	fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;
	char *buf = malloc(size);
	size_t used = 0;
	pthread_mutex_lock(&l->lock);
	int r = buf ? 0 : -ENOMEM;
	if (r == 0 && (offset == 0 || !l->names.n))
		r = snapshot(fs_of(req), l);
	for (size_t i = (size_t)offset; r == 0 && i < l->names.n; i++) {
		size_t took = emit(req, l, i, buf + used, size - used, plus);
		if (took > size - used)
			break;
		used += took;
	}
	pthread_mutex_unlock(&l->lock);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
}

void dir_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct listing *l = calloc(1, sizeof *l);
	int r = l ? node_of_ino(fs->nodes, ino, &l->dir) : -ENOMEM;
	if (r < 0) {
		free(l);
		fuse_reply_err(req, -r);
		return;
	}
	pthread_mutex_init(&l->lock, NULL);
	fi->fh = (uintptr_t)l;
	if (fuse_reply_open(req, fi) < 0)
		dir_end(fs, l);
}

void dir_op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	readdir_any(req, size, offset, fi, false);
}

void dir_op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	readdir_any(req, size, offset, fi, true);
}

void dir_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	dir_end(fs_of(req), (struct listing *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}
