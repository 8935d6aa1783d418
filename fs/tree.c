/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All access to TREE goes through one directory descriptor and tree_file.h, which opens nothing
 * that is not a regular file, follows no symlink below TREE and never blocks on what it opens. What
 * is here is the same for all collections.
 */
#include "fs/tree.h"

#include "fs/collection.h"
#include "fs/names.h"
#include "fs/table.h"
#include "fs/tree_file.h"
#include "fs/value.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tree {
	int fd;
	char *path;
};

struct tree *tree_free(struct tree *t)
{
	if (!t)
		return NULL;
	if (t->fd >= 0)
		close(t->fd);
	free(t->path);
	free(t);
	return NULL;
}

static bool others_can_write(const struct stat *st)
{
	return st->st_uid != 0 || (st->st_mode & S_IWOTH) ||
	       ((st->st_mode & S_IWGRP) && st->st_gid != 0);
}

/* A file or directory below TREE, "" for TREE itself. Only root has something to lose to others. */
static int check_trust(const struct tree *t, const char *below, struct err *err)
{
	struct stat st;
	if (geteuid() != 0 || fstatat(t->fd, below, &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISLNK(st.st_mode) || !others_can_write(&st))
		return 0;
	return err_set(err, -EPERM,
		"%s%s%s can be written by a user other than root (owner %u, mode %04o): "
		"a daemon run by root does not take its configuration from there",
		t->path, *below ? "/" : "", below, (unsigned)st.st_uid,
		(unsigned)(st.st_mode & 07777));
}

const char *tree_path(const struct tree *t)
{
	return t->path;
}

int tree_fd(const struct tree *t)
{
	return t->fd;
}

int tree_trusted(const struct tree *t, const char *below, struct err *err)
{
	char dir[512];
	snprintf(dir, sizeof dir, "%s", below);
	char *slash = strrchr(dir, '/');
	int r = 0;
	if (slash) {
		*slash = '\0';
		r = check_trust(t, dir, err);
	}
	return r < 0 ? r : check_trust(t, below, err);
}

int tree_name_ok(const struct collection *c, const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= 64 &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       n &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !(c->default_is_link && strcmp(name, "default") == 0);
}

/* ---- reading ---- */

/* The directory of one, or -errno. */
static int one_open(const struct tree *t, const struct collection *c, const char *name)
{
	if (c->single)
		return tree_file_dir(t->fd, c->dir);
	if (!tree_name_ok(c, name))
		return -ENOENT;
	int all = tree_file_dir(t->fd, c->dir);
	if (all < 0)
		return all;
	int fd = tree_file_dir(all, name);
	close(all);
	return fd;
}

/* Whether that is how to open the directory of all of them fails where there are none. */
static bool no_directory(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

int tree_readme(const struct tree *t, struct buf *out)
{
	return tree_file_read(t->fd, "README", TREE_MAX_BYTES, out);
}

int tree_dir_check(const struct tree *t, const struct collection *c)
{
	struct stat st;
	int fd = tree_file_dir(t->fd, c->dir), r = fd < 0 ? fd : 0;
	/* A list of names may be read where none of them may be looked up. */
	if (fd >= 0 && fstatat(fd, ".", &st, 0) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r == -ENOTDIR || r == -ELOOP || r == -EACCES ? r : 0;
}

struct tree_place tree_place_open(const struct tree *t, const struct collection *c)
{
	struct stat st;
	struct tree_place in = {.fd = tree_file_dir(t->fd, c->dir)};
	if (in.fd < 0)
		return in;
	if (fstat(in.fd, &st) < 0) {
		int r = -errno;
		close(in.fd);
		in.fd = r;
		return in;
	}
	in.dev = st.st_dev;
	in.ino = st.st_ino;
	return in;
}

void tree_place_close(struct tree_place *in)
{
	if (in->fd >= 0)
		close(in->fd);
	in->fd = -EBADF;
}

int tree_has(const struct tree *t, const struct collection *c, const char *name)
{
	struct stat st;
	int all = tree_file_dir(t->fd, c->dir);
	if (all < 0)
		return no_directory(all) ? 0 : all;
	int r = fstatat(all, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : S_ISDIR(st.st_mode);
	close(all);
	return r == -ENOENT ? 0 : r;
}

int tree_has_gone(const struct tree_place *in, const char *name)
{
	struct stat st;
	if (in->fd < 0)
		return in->fd;
	if (fstatat(in->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return errno == ENOENT ? 1 : -errno;
}

/* Adds an entry if it is of that type. One that went between the two looks is none. */
static int add_entry(struct names *names, int dir, const char *name, mode_t type)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return (st.st_mode & S_IFMT) == type ? names_add(names, name) : 0;
}

/* Entries of the directory of all of them that are directories, or symlinks; of these none of ours,
 * on its way to be `default`. */
static char **entries(const struct tree *t, const struct collection *c, mode_t type)
{
	struct names names = {0};
	int fd = tree_file_dir(t->fd, c->dir), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !dir)
		close(fd);
	/* What cannot be read now is not what has gone. */
	if (!dir && !no_directory(fd))
		r = fd < 0 ? fd : -ENOMEM;
	errno = 0;
	for (struct dirent *e; r == 0 && dir && (e = readdir(dir)); errno = 0)
		if (tree_name_ok(c, e->d_name) &&
			(type != S_IFLNK || !tree_file_is_beside(e->d_name)))
			r = add_entry(&names, dirfd(dir), e->d_name, type);
	if (r == 0 && dir)
		r = -errno;
	if (dir)
		closedir(dir);
	return names_take(&names, r);
}

char **tree_names(const struct tree *t, const struct collection *c)
{
	return entries(t, c, S_IFDIR);
}

char **tree_links(const struct tree *t, const struct collection *c)
{
	return entries(t, c, S_IFLNK);
}

int tree_open(struct tree **out, const char *path, struct err *err)
{
	struct tree *t = calloc(1, sizeof *t);
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->fd = -1;
	int r = 0;
	t->path = realpath(path, NULL);
	if (t->path)
		t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->fd < 0) {
		r = err_set(err, -errno, "TREE %s: %s", path, strerror(errno));
	} else {
		/* A file below that others can write is not taken, see tree_trusted. */
		r = check_trust(t, "", err);
		for (size_t i = 0; r == 0 && collections[i]; i++)
			r = check_trust(t, collections[i]->dir, err);
		if (r == 0)
			r = check_trust(t, "guards", err);
	}
	if (r < 0) {
		tree_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int tree_setting_get(const struct tree *t, const struct collection *c, const char *name,
	const char *file, struct buf *out)
{
	int dir = one_open(t, c, name);
	if (dir < 0)
		return dir;
	size_t before = out->len;
	int r = tree_file_read(dir, file, TREE_MAX_BYTES, out);
	close(dir);
	if (r == 0 && out->len > before) {
		const struct table_row *row = table_row_named(c->inside, file);
		const char *value = out->data + before;
		size_t len = value_clean(out->data + before, out->len - before);
		if (row && !row->lines)
			len = value_trim(&value, len);
		memmove(out->data + before, value, len);
		out->len = before + len;
		out->data[out->len] = '\0';
	}
	return r;
}

int tree_setting_stat(const struct tree *t, const struct collection *c, const char *name,
	const char *file, struct stat *out)
{
	int dir = one_open(t, c, name);
	if (dir < 0)
		return dir;
	int r = fstatat(dir, file, out, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	close(dir);
	return r;
}

int tree_resolve(const struct tree *t, const struct collection *c, const char *name,
	const char *file, const char *text, size_t len, struct buf *out)
{
	int r = 0;
	if (collection_is_path(c, file) && len && *text != '/')
		r = buf_printf(out, "%s/%s/%s/", t->path, c->dir, name);
	return r < 0 ? r : buf_append(out, text, len);
}

/* ---- writing ---- */

int tree_setting_write(struct tree_file_write *w, const struct tree *t, const struct collection *c,
	const char *name, const char *file, const char *text, size_t len)
{
	struct buf line = {0};
	int r = len ? buf_append(&line, text, len) : 0;
	if (r == 0 && len)
		r = buf_append(&line, "\n", 1);
	int dir = c->single && len ? tree_file_dir_make(t->fd, c->dir) : one_open(t, c, name);
	if (r == 0 && dir < 0 && !(c->single && !len && dir == -ENOENT))
		r = dir;
	if (r == 0)
		r = tree_file_write(w, dir, file, line.data, line.len);
	else if (dir >= 0)
		close(dir);
	buf_free(&line);
	return r;
}

int tree_setting_set(const struct tree *t, const struct collection *c, const char *name,
	const char *file, const char *text, size_t len)
{
	struct tree_file_write w;
	int r = tree_setting_write(&w, t, c, name, file, text, len);
	if (r < 0)
		return r;
	r = tree_file_write_take(&w);
	tree_file_write_end(&w);
	return r;
}

int tree_make(const struct tree *t, const struct collection *c, const char *name)
{
	if (!tree_name_ok(c, name))
		return -EINVAL;
	int all = tree_file_dir_make(t->fd, c->dir);
	if (all < 0)
		return all;
	int r = mkdirat(all, name, 0755) < 0 ? -errno : 0;
	if (r == 0)
		fsync(all);
	close(all);
	return r;
}

static bool is_known(const struct collection *c, const char *file)
{
	const char *const *settings = c->settings();
	for (size_t i = 0; settings[i]; i++)
		if (strcmp(settings[i], file) == 0)
			return true;
	return c->key && strcmp(c->key, file) == 0;
}

static int only_known(const struct collection *c, int dir)
{
	DIR *d;
	int r = tree_file_list(dir, &d);
	if (r < 0)
		return r;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			!is_known(c, e->d_name) && !tree_file_is_beside(e->d_name))
			r = -ENOTEMPTY;
	closedir(d);
	return r;
}

static int remove_known(const struct collection *c, int dir)
{
	const char *const *settings = c->settings();
	int r = 0;
	for (size_t i = 0; r == 0 && settings[i]; i++)
		r = tree_file_remove(dir, settings[i]);
	if (r == 0 && c->key)
		r = tree_file_remove(dir, c->key);
	return r ? r : tree_file_sweep(dir, true);
}

/* 1: something has come into it meanwhile. */
static int remove_dir(const struct collection *c, int all, int dir, const char *name)
{
	int r = only_known(c, dir);
	/* Or its settings would go, limits among them, and it would stay. */
	if (r == 0 && faccessat(all, ".", W_OK | X_OK, AT_EACCESS) < 0)
		r = -errno;
	r = r ? r : remove_known(c, dir);
	if (r == 0 && unlinkat(all, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = errno == ENOTEMPTY || errno == EEXIST ? 1 : -errno;
	return r;
}

/* Texts that are being written beside settings are in the way of their directory's end. Each writer
 * writes one before it waits for its turn (turn.h), and there are not so many of them. */
enum { REMOVE_TRIES = 100 };

int tree_remove(const struct tree *t, const struct collection *c, const char *name)
{
	int dir = one_open(t, c, name);
	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return dir;
	int all = tree_file_dir(t->fd, c->dir), r = all < 0 ? all : 1;
	for (int left = REMOVE_TRIES; r == 1 && left; left--)
		r = remove_dir(c, all, dir, name);
	close(dir);
	if (all >= 0)
		close(all);
	return r == 1 ? -ENOTEMPTY : r;
}

static void sweep(int at, const char *below)
{
	int dir = tree_file_dir(at, below);
	if (dir < 0)
		return;
	tree_file_sweep(dir, false);
	close(dir);
}

/* Each of a collection. */
static void sweep_all(const struct tree *t, const struct collection *c)
{
	char **names = tree_names(t, c);
	int all = tree_file_dir(t->fd, c->dir);
	for (size_t i = 0; all >= 0 && names && names[i]; i++)
		sweep(all, names[i]);
	if (all >= 0)
		close(all);
	names_free(names);
}

void tree_sweep(const struct tree *t)
{
	for (size_t i = 0; collections[i]; i++) {
		sweep(t->fd, collections[i]->dir);
		if (!collections[i]->single)
			sweep_all(t, collections[i]);
	}
	int guards = tree_file_dir(t->fd, "guards");
	if (guards < 0)
		return;
	tree_file_sweep(guards, false);
	sweep(guards, "input");
	sweep(guards, "output");
	close(guards);
}
