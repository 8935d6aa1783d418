/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file is replaced by writing a temporary one beside it, fsync, rename. Temporary files begin
 * with a dot and have a name per thread, so that two writers never share one; one that a crash left
 * is never taken for configuration, is in nobody's way, and goes at the next start.
 */
#include "fs/tree_file.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tree_file_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int tree_file_dir_make(int at, const char *name)
{
	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return tree_file_dir(at, name);
}

static int read_all(int fd, size_t max, struct buf *out)
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
		if (out->len - before > max)
			return -EFBIG;
	}
}

int tree_file_read(int at, const char *name, size_t max, struct buf *out)
{
	int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EINVAL : -errno;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	size_t before = out->len;
	if (r == 0)
		r = read_all(fd, max, out);
	if (r < 0 && out->data)
		out->data[out->len = before] = '\0';
	close(fd);
	return r;
}

bool tree_file_is_young(const struct stat *st)
{
	uint64_t ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
	uint64_t now = clock_real_ns();
	return ns <= now && now - ns < (uint64_t)TREE_FILE_YOUNG_MS * 1000000u;
}

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

#define BESIDE_MARK ".llmfs-"

void tree_file_name_beside(const char *name, char beside[TREE_FILE_BESIDE])
{
	snprintf(beside, TREE_FILE_BESIDE, ".%s" BESIDE_MARK "%d", name, (int)gettid());
}

/* The number in the name of one; NULL: it is none. */
static const char *writer_of(const char *name)
{
	/* The last one: a name may have the mark in it, too. */
	const char *mark = NULL;
	for (const char *at = name; (at = strstr(at, BESIDE_MARK)); at++)
		mark = at;
	const char *id = mark ? mark + strlen(BESIDE_MARK) : "";
	bool is = *name == '.' && mark > name + 1 && *id && !id[strspn(id, "0123456789")];
	return is ? id : NULL;
}

bool tree_file_is_beside(const char *name)
{
	return writer_of(name);
}

/* Of another process than this one, which may be writing it now. */
static bool is_anothers(const char *writer)
{
	char *end;
	errno = 0;
	long id = strtol(writer, &end, 10);
	if (errno || id <= 0 || id > INT_MAX || tgkill(getpid(), (pid_t)id, 0) == 0)
		return false;
	return kill((pid_t)id, 0) == 0 || errno != ESRCH;
}

int tree_file_list(int dir, DIR **out)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*out = copy >= 0 ? fdopendir(copy) : NULL;
	if (*out)
		return 0;
	int r = -errno;
	if (copy >= 0)
		close(copy);
	return r;
}

int tree_file_sweep(int dir, bool all)
{
	DIR *d;
	int r = tree_file_list(dir, &d);
	if (r < 0)
		return r;
	for (struct dirent *e; (e = readdir(d));) {
		const char *writer = writer_of(e->d_name);
		if (writer && (all || !is_anothers(writer)))
			unlinkat(dir, e->d_name, 0); /* no directory: those are models */
	}
	closedir(d);
	return 0;
}

static int write_beside(
	int at, const char *name, const char *text, size_t len, char beside[TREE_FILE_BESIDE])
{
	tree_file_name_beside(name, beside);
	unlinkat(at, beside, 0);
	int fd = openat(at, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, text, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		unlinkat(at, beside, 0);
	return r;
}

int tree_file_write(
	struct tree_file_write *w, int dir, const char *name, const char *text, size_t len)
{
	*w = (struct tree_file_write){.dir = dir, .name = name};
	int r = text ? write_beside(dir, name, text, len, w->beside) : 0;
	if (r < 0)
		close(dir);
	return r;
}

int tree_file_write_take(struct tree_file_write *w)
{
	if (!*w->beside)
		return w->dir < 0 ? 0 : tree_file_remove(w->dir, w->name);
	int r = renameat(w->dir, w->beside, w->dir, w->name) < 0 ? -errno : 0;
	if (r == 0)
		*w->beside = '\0';
	return r;
}

void tree_file_write_end(struct tree_file_write *w)
{
	if (w->dir < 0)
		return;
	if (*w->beside)
		tree_file_remove(w->dir, w->beside);
	else
		fsync(w->dir);
	close(w->dir);
}

int tree_file_remove(int at, const char *name)
{
	return unlinkat(at, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}
