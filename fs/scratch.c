/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte array, an owner and a time. What all scratch files hold together is bounded by one
 * counter, so a loop that fills directories ends with ENOSPC and not with the daemon's memory.
 */
#include "fs/scratch.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct scratch {
	pthread_mutex_t lock;
	char *bytes;
	size_t len, cap;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime, ctime;
	char *kept;
};

static _Atomic size_t total;

static struct timespec now(void)
{
	uint64_t ns = clock_real_ns();
	return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

struct scratch *scratch_new(mode_t mode, uid_t uid, gid_t gid)
{
	struct scratch *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->mode = mode;
	s->uid = uid;
	s->gid = gid;
	s->mtime = s->ctime = now();
	return s;
}

struct scratch *scratch_free(struct scratch *s)
{
	if (!s)
		return NULL;
	atomic_fetch_sub(&total, s->cap);
	pthread_mutex_destroy(&s->lock);
	free(s->bytes);
	free(s->kept);
	free(s);
	return NULL;
}

size_t scratch_read(struct scratch *s, uint64_t offset, char *bytes, size_t size)
{
	size_t n = 0;
	pthread_mutex_lock(&s->lock);
	if (offset < s->len) {
		n = s->len - (size_t)offset;
		if (n > size)
			n = size;
		memcpy(bytes, s->bytes + offset, n);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* Makes the array hold `len` bytes, new ones zero. */
static int resize(struct scratch *s, uint64_t len)
{
	if (len > SCRATCH_MAX_BYTES)
		return -EFBIG;
	if (len > s->cap) {
		size_t cap = s->cap ? s->cap : 256;
		while (cap < len)
			cap *= 2;
		size_t more = cap - s->cap;
		if (atomic_fetch_add(&total, more) + more > SCRATCH_MAX_TOTAL) {
			atomic_fetch_sub(&total, more);
			return -ENOSPC;
		}
		char *bytes = realloc(s->bytes, cap);
		if (!bytes) {
			atomic_fetch_sub(&total, more);
			return -ENOMEM;
		}
		s->bytes = bytes;
		s->cap = cap;
	}
	if (len > s->len)
		memset(s->bytes + s->len, 0, (size_t)len - s->len);
	s->len = (size_t)len;
	s->mtime = s->ctime = now();
	return 0;
}

int scratch_write(struct scratch *s, uint64_t offset, const char *bytes, size_t size)
{
	if (offset > SCRATCH_MAX_BYTES || size > SCRATCH_MAX_BYTES)
		return -EFBIG;
	pthread_mutex_lock(&s->lock);
	uint64_t end = offset + size;
	int r = resize(s, end > s->len ? end : s->len);
	if (r == 0 && size)
		memcpy(s->bytes + offset, bytes, size);
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? r : (int)size;
}

int scratch_truncate(struct scratch *s, uint64_t size)
{
	pthread_mutex_lock(&s->lock);
	int r = resize(s, size);
	pthread_mutex_unlock(&s->lock);
	return r;
}

void scratch_stat(struct scratch *s, struct stat *out)
{
	pthread_mutex_lock(&s->lock);
	out->st_mode = s->mode;
	out->st_uid = s->uid;
	out->st_gid = s->gid;
	out->st_size = (off_t)s->len;
	out->st_atim = out->st_mtim = s->mtime;
	out->st_ctim = s->ctime;
	pthread_mutex_unlock(&s->lock);
}

mode_t scratch_mode(struct scratch *s)
{
	struct stat st = {0};
	scratch_stat(s, &st);
	return st.st_mode;
}

void scratch_chmod(struct scratch *s, mode_t mode)
{
	pthread_mutex_lock(&s->lock);
	s->mode = (s->mode & S_IFMT) | (mode & 0777);
	s->ctime = now();
	pthread_mutex_unlock(&s->lock);
}

void scratch_chown(struct scratch *s, uid_t uid, gid_t gid)
{
	pthread_mutex_lock(&s->lock);
	if (uid != (uid_t)-1)
		s->uid = uid;
	if (gid != (gid_t)-1)
		s->gid = gid;
	s->ctime = now();
	pthread_mutex_unlock(&s->lock);
}

void scratch_utime(struct scratch *s, const struct timespec *mtime)
{
	pthread_mutex_lock(&s->lock);
	s->mtime = *mtime;
	s->ctime = now();
	pthread_mutex_unlock(&s->lock);
}

int scratch_keep(struct scratch *s, const char *name)
{
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&s->lock);
	free(s->kept);
	s->kept = copy;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int scratch_kept(struct scratch *s, struct buf *out)
{
	pthread_mutex_lock(&s->lock);
	int r = s->kept ? buf_append_str(out, s->kept) : 0;
	pthread_mutex_unlock(&s->lock);
	return r;
}
