/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files beside the database of L2. A flush is in force in memory when its caller returns; that it
 * stays so when the daemon is killed before the last entry is deleted is what the flush files are
 * for: flush-SERIAL, with the user's name in it, made by the caller and removed by the thread once
 * it is done.
 */
#include "gateway/cache_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static const char flush_prefix[] = "flush-";

static int make(const char *path, struct err *err)
{
	struct stat st;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (stat(path, &st) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "%s is not a directory", path);
	if (st.st_uid == geteuid() && (st.st_mode & 077))
		chmod(path, 0700);
	if (access(path, R_OK | W_OK | X_OK) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

int cache_place_make(const char *dir, struct err *err)
{
	char db[4096];
	int r = make(dir, err);
	if (r < 0 || (size_t)snprintf(db, sizeof db, "%s/db", dir) >= sizeof db)
		return r < 0 ? r : err_set(err, -ENAMETOOLONG, "%s: the name is too long", dir);
	return make(db, err);
}

/* ---- what is damaged ---- */

/* A directory of files and of directories of files: LevelDB's. */
static void remove_all(const char *path, int depth)
{
	char name[4096];
	struct dirent *e;
	DIR *d = depth ? opendir(path) : NULL;
	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if ((size_t)snprintf(name, sizeof name, "%s/%s", path, e->d_name) >= sizeof name)
			continue;
		if (unlink(name) < 0)
			remove_all(name, depth - 1);
	}
	if (d)
		closedir(d);
	if (rmdir(path) < 0)
		unlink(path);
}

static void remove_aside(const char *dir)
{
	char parent[4096], base[256], name[4096];
	const char *slash = strrchr(dir, '/');
	if (!slash || (size_t)snprintf(base, sizeof base, "%s.bad-", slash + 1) >= sizeof base ||
		(size_t)(slash - dir) >= sizeof parent)
		return;
	snprintf(parent, sizeof parent, "%.*s/", (int)(slash - dir), dir);
	struct dirent *e;
	DIR *d = opendir(parent);
	while (d && (e = readdir(d))) {
		int n = snprintf(name, sizeof name, "%s%s", parent, e->d_name);
		if (!strncmp(e->d_name, base, strlen(base)) && (size_t)n < sizeof name)
			remove_all(name, 3);
	}
	if (d)
		closedir(d);
}

int cache_place_set_aside(const char *dir, char *aside, size_t size, struct err *err)
{
	uint64_t now = clock_real_ns();
	remove_aside(dir);
	if ((size_t)snprintf(aside, size, "%s.bad-%" PRIu64, dir, now / 1000000000u) >= size)
		return err_set(err, -ENAMETOOLONG, "%s: the name is too long", dir);
	if (rename(dir, aside) < 0)
		return err_set(err, -errno, "%s cannot be set aside: %s", dir, strerror(errno));
	return 0;
}

/* ---- flushes ---- */

static bool flush_path(const char *dir, uint64_t below, char path[4096])
{
	return snprintf(path, 4096, "%s/%s%" PRIu64, dir, flush_prefix, below) < 4096;
}

int cache_place_flush(const char *dir, const char *user, uint64_t below)
{
	char path[4096];
	if (!flush_path(dir, below, path))
		return -ENAMETOOLONG;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* One that cannot be written is empty: everybody's, which is the safe way to be wrong. */
	size_t n = strlen(user);
	int r = n && write(fd, user, n) != (ssize_t)n ? -EIO : 0;
	if (r < 0 && ftruncate(fd, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

void cache_place_flushed(const char *dir, uint64_t below)
{
	char path[4096];
	if (flush_path(dir, below, path))
		unlink(path);
}

static bool read_name(const char *dir, uint64_t below, char name[TEXT_NAME_SIZE])
{
	char path[4096];
	int fd = flush_path(dir, below, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (fd < 0)
		return false;
	ssize_t n = read(fd, name, TEXT_NAME_MAX);
	close(fd);
	name[n > 0 ? n : 0] = '\0';
	return true;
}

void cache_place_flushes(
	const char *dir, void (*each)(void *arg, const char *user, uint64_t below), void *arg)
{
	const size_t n = sizeof flush_prefix - 1;
	char name[TEXT_NAME_SIZE], *end;
	struct dirent *e;
	DIR *d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, flush_prefix, n))
			continue;
		uint64_t below = strtoull(e->d_name + n, &end, 10);
		if (*end == '\0' && end != e->d_name + n && read_name(dir, below, name))
			each(arg, name, below);
	}
	if (d)
		closedir(d);
}
