/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory is the daemon's that holds the lock on the file `lock` in it, which has its
 * pid for the sentence that another one says. The kernel gives the lock back however the daemon
 * ends, so nothing is ever stale. A database has only text to say why it cannot be written; a small
 * file beside it has an errno.
 */
#include "gateway/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_directory(const char *dir, struct err *err)
{
	char *path = strdup(dir);
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = 0;
	for (char *p = path + 1; r == 0; p++) {
		char c = *p;
		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST && (errno != EROFS || !c))
			r = err_set(err, -errno, "state directory %s: %s", path, strerror(errno));
		*p = c;
		if (!c)
			break;
	}
	struct stat st;
	if (r == 0 && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
		r = err_set(err, -ENOTDIR, "state directory %s is not a directory", path);
	free(path);
	return r;
}

static int lock_directory(struct state_dir *d, struct err *err)
{
	char *path = NULL;
	if (asprintf(&path, "%s/lock", d->path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int e = errno;
	free(path);
	if (d->lock_fd < 0)
		return err_set(err, -e, "state directory %s: %s", d->path, strerror(e));
	char pid[32];
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		e = errno;
		ssize_t n = pread(d->lock_fd, pid, sizeof pid - 1, 0);
		pid[n > 0 ? n : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		if (e != EWOULDBLOCK)
			return err_set(err, -e, "state directory %s: %s", d->path, strerror(e));
		return err_set(err, -EBUSY,
			"state directory %s is in use by another llmfs, process %s (after "
			"umount -l it ends with its last open file); -o state=DIR names another "
			"one",
			d->path, *pid ? pid : "unknown");
	}
	int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, pid, (size_t)n, 0) != n)
		return err_set(err, errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO,
			"state directory %s: %s", d->path, strerror(errno));
	return 0;
}

int state_dir_open(struct state_dir *d, const char *path, struct err *err)
{
	d->lock_fd = -1;
	d->path = strdup(path);
	if (!d->path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = make_directory(d->path, err);
	return r ? r : lock_directory(d, err);
}

void state_dir_close(struct state_dir *d)
{
	if (d->path && d->lock_fd >= 0)
		close(d->lock_fd);
	free(d->path);
	*d = (struct state_dir){0};
}

int state_dir_probe(const struct state_dir *d)
{
	char *path = NULL;
	if (asprintf(&path, "%s/probe", d->path) < 0)
		return -EIO;
	static const char zeros[8192];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = 0;
	if (fd < 0 || write(fd, zeros, sizeof zeros) != (ssize_t)sizeof zeros || fsync(fd) < 0)
		r = errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO;
	if (fd >= 0)
		close(fd);
	unlink(path);
	free(path);
	return r;
}
