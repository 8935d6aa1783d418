/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All access to TREE goes through one directory descriptor, opens nothing that is not a regular
 * file, follows no symlink below TREE and never blocks on what it opens. A file is replaced by
 * writing a temporary one beside it, fsync, rename: a reader sees the old text or the new one, also
 * after a crash.
 */
#include "fs/tree.h"

#include "fs/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The files of a model that are configuration. */
static const char *const settings[] = {"path", "template"};
#define N_SETTINGS (sizeof settings / sizeof *settings)

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

int tree_trusted(const struct tree *t, const char *name, const char *file, struct err *err)
{
	char below[160];
	snprintf(below, sizeof below, "models/%s", name);
	int r = check_trust(t, below, err);
	if (r == 0 && file) {
		snprintf(below, sizeof below, "models/%s/%s", name, file);
		r = check_trust(t, below, err);
	}
	return r;
}

int tree_name_ok(const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= 64 &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       n &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "default") != 0;
}

/* ---- reading ---- */

static int dir_open(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int model_open(const struct tree *t, const char *name)
{
	if (!tree_name_ok(name))
		return -ENOENT;
	int models = dir_open(t->fd, "models");
	if (models < 0)
		return models;
	int fd = dir_open(models, name);
	close(models);
	return fd;
}

static int read_all(int fd, struct buf *out)
{
	size_t before = out->len;
	for (;;) {
		int r = buf_reserve(out, 4096);
		if (r < 0)
			return r;
		ssize_t n = read(fd, out->data + out->len, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		if (out->len - before > TREE_MAX_BYTES)
			return -EFBIG;
	}
}

static int file_read(int at, const char *name, struct buf *out)
{
	int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? -EINVAL : -errno;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	size_t before = out->len;
	if (r == 0)
		r = read_all(fd, out);
	if (r < 0 && out->data)
		out->data[out->len = before] = '\0';
	close(fd);
	return r;
}

int tree_readme(const struct tree *t, struct buf *out)
{
	return file_read(t->fd, "README", out);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **tree_models(const struct tree *t)
{
	size_t n = 0, cap = 8;
	char **names = calloc(cap + 1, sizeof *names);
	int fd = dir_open(t->fd, "models");
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !dir)
		close(fd);
	/* What cannot be read now is not what has gone. */
	bool unreadable = !dir && fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP;
	for (struct dirent *e; names && dir && (e = readdir(dir));) {
		struct stat st;
		if (!tree_name_ok(e->d_name) ||
			fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISDIR(st.st_mode))
			continue;
		if (n == cap) {
			char **more = realloc(names, (2 * cap + 1) * sizeof *names);
			unreadable = unreadable || !more;
			if (!more)
				break;
			names = more;
			cap *= 2;
		}
		names[n] = strdup(e->d_name);
		unreadable = unreadable || !names[n];
		if (names[n])
			n++;
		names[n] = NULL;
	}
	if (dir)
		closedir(dir);
	if (unreadable)
		return names_free(names);
	if (names)
		qsort(names, n, sizeof *names, compare);
	return names;
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
		if (r == 0)
			r = check_trust(t, "models", err);
	}
	if (r < 0) {
		tree_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int tree_setting_get(const struct tree *t, const char *name, const char *file, struct buf *out)
{
	int dir = model_open(t, name);
	if (dir < 0)
		return dir;
	int r = file_read(dir, file, out);
	close(dir);
	if (r == 0 && out->len && out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	return r;
}

int tree_setting_stat(const struct tree *t, const char *name, const char *file, struct stat *out)
{
	int dir = model_open(t, name);
	if (dir < 0)
		return dir;
	int r = fstatat(dir, file, out, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	close(dir);
	return r;
}

int tree_default_get(const struct tree *t, struct buf *out)
{
	char target[80];
	ssize_t n = readlinkat(t->fd, "models/default", target, sizeof target - 1);
	if (n < 0)
		return errno == ENOENT || errno == EINVAL ? 0 : -errno;
	target[n] = '\0';
	return tree_name_ok(target) ? buf_append_str(out, target) : 0;
}

int tree_resolve(
	const struct tree *t, const char *name, const char *text, size_t len, struct buf *out)
{
	int r = 0;
	if (len && *text != '/')
		r = buf_printf(out, "%s/models/%s/", t->path, name);
	return r < 0 ? r : buf_append(out, text, len);
}

/* ---- writing ---- */

static int write_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t done = write(fd, bytes, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		n -= (size_t)done;
	}
	return 0;
}

static int file_replace(int dir, const char *name, const char *text, size_t len)
{
	/* A name per thread, so that two writers never share a temporary file. */
	char temporary[80];
	snprintf(temporary, sizeof temporary, ".%s.llmfs-%d", name, (int)gettid());
	unlinkat(dir, temporary, 0);
	int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, text, len);
	if (r == 0)
		r = write_all(fd, "\n", 1);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r == 0 && renameat(dir, temporary, dir, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, temporary, 0);
	else
		fsync(dir);
	return r;
}

int tree_setting_set(
	const struct tree *t, const char *name, const char *file, const char *text, size_t len)
{
	int dir = model_open(t, name);
	if (dir < 0)
		return dir;
	int r;
	if (len)
		r = file_replace(dir, file, text, len);
	else
		r = unlinkat(dir, file, 0) < 0 && errno != ENOENT ? -errno : 0;
	close(dir);
	return r;
}

int tree_model_make(const struct tree *t, const char *name)
{
	if (!tree_name_ok(name))
		return -EINVAL;
	if (mkdirat(t->fd, "models", 0755) < 0 && errno != EEXIST)
		return -errno;
	int models = dir_open(t->fd, "models");
	if (models < 0)
		return models;
	int r = mkdirat(models, name, 0755) < 0 ? -errno : 0;
	if (r == 0)
		fsync(models);
	close(models);
	return r;
}

static bool is_setting(const char *file)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (strcmp(settings[i], file) == 0)
			return true;
	return false;
}

static int only_settings(int dir)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	if (!d) {
		int r = -errno;
		if (copy >= 0)
			close(copy);
		return r;
	}
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			!is_setting(e->d_name))
			r = -ENOTEMPTY;
	closedir(d);
	return r;
}

int tree_model_remove(const struct tree *t, const char *name)
{
	int dir = model_open(t, name);
	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return dir;
	int r = only_settings(dir);
	for (size_t i = 0; r == 0 && i < N_SETTINGS; i++)
		if (unlinkat(dir, settings[i], 0) < 0 && errno != ENOENT)
			r = -errno;
	close(dir);
	if (r < 0)
		return r;
	int models = dir_open(t->fd, "models");
	if (models < 0)
		return models;
	if (unlinkat(models, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	close(models);
	return r;
}

int tree_default_set(const struct tree *t, const char *name)
{
	if (name && !tree_name_ok(name))
		return -EINVAL;
	if (mkdirat(t->fd, "models", 0755) < 0 && errno != EEXIST)
		return -errno;
	int models = dir_open(t->fd, "models");
	if (models < 0)
		return models;
	int r = 0;
	char temporary[48];
	snprintf(temporary, sizeof temporary, ".default.llmfs-%d", (int)gettid());
	if (!name) {
		r = unlinkat(models, "default", 0) < 0 && errno != ENOENT ? -errno : 0;
	} else {
		unlinkat(models, temporary, 0);
		if (symlinkat(name, models, temporary) < 0)
			r = -errno;
		else if (renameat(models, temporary, models, "default") < 0)
			r = -errno;
		if (r < 0)
			unlinkat(models, temporary, 0);
	}
	fsync(models);
	close(models);
	return r;
}
