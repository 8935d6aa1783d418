/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only file mappings. A page that vanishes reads as zeros (base/bus_guard.h). Whoever computes
 * with the bytes asks mapping_damaged() afterwards and throws the result away.
 *
 * A file that is written over in place changes under the mapping. The descriptor is kept for that:
 * size and time of the file are compared with those of when it was opened. Where another machine
 * has the file, only those ask who may wait for it; others are told what they were told.
 */
#include "engine/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bus_guard.h"
#include "base/local_fs.h"

struct mapping {
	void *bytes; /* NULL when size is 0 */
	size_t size;
	int fd;
	bool local;
	struct stat opened;
	_Atomic int last;        /* enum mapping_file, as mapping_file() said */
	struct bus_guard *guard; /* NULL when size is 0 */
};

static int check_kind(const struct stat *st, const char *path, dev_t forbidden, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, -EINVAL, "%.200s is not a regular file", path);
	if (forbidden && st->st_dev == forbidden)
		return err_set(err, -EINVAL,
			"%.200s lies inside this mount; a model must be a file outside of it",
			path);
	return 0;
}

/* An open descriptor of a permitted file, and what it is. */
static int open_checked(const char *path, dev_t forbidden, struct stat *opened, struct err *err)
{
	struct stat st;
	int fd, r;

	/* Looked at before it is opened, because opening a device can do things. */
	if (stat(path, &st))
		return err_set(err, -errno, "%.200s cannot be opened: %m", path);
	r = check_kind(&st, path, forbidden, err);
	if (r)
		return r;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_set(err, -errno, "%.200s cannot be opened: %m", path);
	if (fstat(fd, &st))
		r = err_set(err, -errno, "%.200s: %m", path);
	else
		r = check_kind(&st, path, forbidden, err);
	if (r) {
		close(fd);
		return r;
	}
	*opened = st;
	return fd;
}

int mapping_open(struct mapping **out, const char *path, dev_t forbidden_device, struct err *err)
{
	struct mapping *m = calloc(1, sizeof(*m));
	int fd, r = 0;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	fd = open_checked(path, forbidden_device, &m->opened, err);
	if (fd < 0) {
		free(m);
		return fd;
	}
	m->fd = fd;
	m->size = (size_t)m->opened.st_size;
	m->local = local_fs_has(fd);
	if (m->size > 0) {
		m->bytes = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m->bytes == MAP_FAILED) {
			m->bytes = NULL;
			r = err_set(err, -errno, "%.200s cannot be mapped: %m", path);
		}
	}
	if (r == 0 && m->size > 0) {
		r = bus_guard_new(&m->guard, m->bytes, m->size, PROT_READ);
		if (r)
			r = err_set(err, r, "%.200s cannot be guarded against truncation", path);
	}
	if (r)
		m = mapping_close(m);
	*out = m;
	return r;
}

struct mapping *mapping_close(struct mapping *m)
{
	if (!m)
		return NULL;
	bus_guard_free(m->guard);
	if (m->bytes)
		munmap(m->bytes, m->size);
	close(m->fd);
	free(m);
	return NULL;
}

const void *mapping_bytes(const struct mapping *m)
{
	return m->bytes;
}

size_t mapping_size(const struct mapping *m)
{
	return m->size;
}

void mapping_forget(const struct mapping *m, const void *bytes, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *base = m->bytes;
	size_t from = (size_t)((const char *)bytes - base);
	size_t first = (from + page - 1) / page * page, end = (from + n) / page * page;

	if (first < end) /* advice: it may fail */
		madvise(base + first, end - first, MADV_DONTNEED);
}

bool mapping_damaged(const struct mapping *m)
{
	return bus_guard_hit(m->guard);
}

static enum mapping_file look(const struct mapping *m)
{
	const struct stat *was = &m->opened;
	struct stat is;

	if (mapping_damaged(m))
		return MAPPING_SHRANK;
	if (fstat(m->fd, &is)) /* of a file system that is gone: reading says more */
		return MAPPING_SAME;
	if (is.st_size < was->st_size)
		return MAPPING_SHRANK;
	if (is.st_size != was->st_size || is.st_mtim.tv_sec != was->st_mtim.tv_sec ||
		is.st_mtim.tv_nsec != was->st_mtim.tv_nsec)
		return MAPPING_WRITTEN;
	return is.st_nlink < was->st_nlink ? MAPPING_REPLACED : MAPPING_SAME;
}

enum mapping_file mapping_file(struct mapping *m)
{
	enum mapping_file file = look(m);

	atomic_store(&m->last, (int)file);
	return file;
}

enum mapping_file mapping_file_now(struct mapping *m)
{
	return m->local ? look(m) : (enum mapping_file)atomic_load(&m->last);
}
