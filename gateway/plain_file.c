/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looked at before it is opened, because opening a device can do things, and again afterwards,
 * because it may have been another file then. O_NONBLOCK is for what became a FIFO in between; it
 * means nothing to regular files.
 */
#include "gateway/plain_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int check(const struct stat *st, dev_t forbidden)
{
	if (!S_ISREG(st->st_mode))
		return -EINVAL;
	return forbidden && st->st_dev == forbidden ? -EXDEV : 0;
}

int plain_file_open(int dir_fd, const char *path, int flags, dev_t forbidden, struct stat *st)
{
	if (fstatat(dir_fd, path, st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) < 0)
		return -errno;
	int r = check(st, forbidden);
	if (r < 0)
		return r;
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
	if (fd < 0)
		return -errno;
	r = fstat(fd, st) < 0 ? -errno : check(st, forbidden);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

ssize_t plain_file_read(int fd, char *to, size_t size)
{
	size_t len = 0;
	while (len < size) {
		ssize_t n = read(fd, to + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* -EAGAIN means something else to who asked */
			return errno == EAGAIN ? -EIO : -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

const char *plain_file_words(int error)
{
	switch (error) {
	case -EINVAL:
		return "not a regular file";
	case -EXDEV:
		return "it lies inside this mount; it must be outside of it";
	case -ENOENT:
		return "there is no such file";
	default:
		return strerror(-error);
	}
}
