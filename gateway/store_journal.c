/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring has groups, each a head and then changes:
 *
 *	head	the run, the group's number, the length of its changes, a digest of them, the run
 *		and the number: 8 bytes each
 *	change	length of the key, length of the value or ~0 for a deletion: 4 bytes each; key and
 *		value; zeros up to 8 bytes
 *
 * all in this machine's byte order and at places divisible by 8; what does not fit before the end
 * goes on at the beginning. The group behind a mark is at the beginning of the next half of the
 * ring, if there is so much room: so the same few pages are used again and again, unless much comes
 * at once (what is touched seldom is dear: base/heap.c). A group is valid whose run and number are
 * the expected ones and whose digest is right: so one that was half written when the process was
 * killed does not count, nor does what is left of an earlier lap or of an earlier journal, and
 * after a power cut nothing that the disk has only parts of. A head may lie on two pages, of which
 * the disk has one as it is and one of an earlier lap: so the digest is not of the changes alone.
 * The run is random and known to the database only, so that no text of a user can pass for a group.
 *
 * The database says up to where it has the changes (store_journal_mark): what is behind that is
 * replayed at a start. So numbers must not skip a change. One that does not fit (the ring is full,
 * or a page cannot be written to) is known to the database's queue only: from then on nothing gets
 * in until the store has taken that queue; the number of the group after it leaves one out, so that
 * no replay goes past the hole, and what gets in counts as safe only when the queue is written
 * (`lags`). Its mark is behind the hole.
 *
 * The kernel may have to be asked for a page when it is written to for the first time since it
 * went to the disk, and that may take long. So the store's thread does that in advance.
 */
#include "gateway/store_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bus_guard.h"
#include "base/local_fs.h"
#include "gateway/digest.h"

enum { SIZE = 4 << 20, PARTS = 4, WORD = 8 };

struct head {
	uint64_t run, group, len, digest;
};

struct change {
	uint32_t key_len, value_len;
};

static const uint32_t deletion = UINT32_MAX;

/* ---- marks ---- */

void store_journal_mark_put(const struct store_journal_mark *m, char out[STORE_JOURNAL_MARK_SIZE])
{
	memcpy(out, m, STORE_JOURNAL_MARK_SIZE);
}

bool store_journal_mark_get(struct store_journal_mark *m, const char *bytes, size_t len)
{
	if (len != STORE_JOURNAL_MARK_SIZE)
		return false;
	memcpy(m, bytes, len);
	return true;
}

/* ---- the ring ---- */

static uint64_t padded(uint64_t n)
{
	return (n + WORD - 1) / WORD * WORD;
}

static void ring_put(char *ring, uint64_t at, const void *bytes, size_t n)
{
	size_t place = at % SIZE, first = n < SIZE - place ? n : SIZE - place;
	if (first)
		memcpy(ring + place, bytes, first);
	if (n > first)
		memcpy(ring, (const char *)bytes + first, n - first);
}

static void ring_get(const char *ring, uint64_t at, void *bytes, size_t n)
{
	size_t place = at % SIZE, first = n < SIZE - place ? n : SIZE - place;
	memcpy(bytes, ring + place, first);
	memcpy((char *)bytes + first, ring, n - first);
}

/* Where the half of the ring begins that is not before that place. */
static uint64_t next_half(uint64_t at)
{
	const uint64_t half = SIZE / 2;
	return (at + half - 1) / half * half;
}

/* Of the changes of that group of that run, which begin at `at`. */
static uint64_t group_digest(const char *ring, uint64_t run, uint64_t group, uint64_t at, size_t n)
{
	size_t place = at % SIZE, first = n < SIZE - place ? n : SIZE - place;
	const uint64_t odd = 0x9E3779B97F4A7C15u;
	struct digest d;
	digest_of(&d, ring + place, first, ring, n - first);
	return d.a ^ run ^ group * odd;
}

/* ---- replay ---- */

struct reader {
	char *ring;
	store_journal_entry_fn *entry;
	void *arg;
};

/* A change at that place, `left` bytes before its group's end. Its length, or < 0. */
static int64_t replay_change(const struct reader *r, uint64_t at, uint64_t left)
{
	struct change c;
	if (left < sizeof c)
		return -EBADMSG;
	ring_get(r->ring, at, &c, sizeof c);
	uint64_t value_len = c.value_len == deletion ? 0 : c.value_len;
	uint64_t n = c.key_len + value_len;
	if (padded(sizeof c + n) > left)
		return -EBADMSG;
	char *both = malloc(n + 1);
	if (!both)
		return -ENOMEM;
	ring_get(r->ring, at + sizeof c, both, n);
	const char *value = c.value_len == deletion ? NULL : both + c.key_len;
	int e = r->entry(r->arg, both, c.key_len, value, value_len);
	free(both);
	return e < 0 ? e : (int64_t)padded(sizeof c + n);
}

static int replay_group(const struct reader *r, uint64_t at, uint64_t len)
{
	for (int64_t n; len; at += (uint64_t)n, len -= (uint64_t)n) {
		n = replay_change(r, at, len);
		if (n < 0)
			return (int)n;
	}
	return 0;
}

/* The group of that run and number at that place, `left` bytes before the end of what may be. */
static bool find_group(const struct reader *r, uint64_t run, uint64_t group, uint64_t at,
	uint64_t left, struct head *h)
{
	ring_get(r->ring, at, h, sizeof *h);
	return h->run == run && h->group == group && h->len <= SIZE && h->len % WORD == 0 &&
	       sizeof *h + h->len <= left &&
	       h->digest == group_digest(r->ring, run, group, at + sizeof *h, h->len);
}

static int replay(const struct reader *r, const struct store_journal_mark *m)
{
	const uint64_t end = m->at + SIZE;
	uint64_t at = m->at;
	for (uint64_t group = m->group;; group++) {
		struct head h;
		if (!find_group(r, m->run, group, at, end - at, &h)) {
			at = next_half(at);
			if (at >= end || !find_group(r, m->run, group, at, end - at, &h))
				return 0;
		}
		int e = replay_group(r, at + sizeof h, h.len);
		if (e < 0)
			return e;
		at += sizeof h + h.len;
	}
}

/* new: DIR/journal. NULL: no memory. */
static char *path_in(const char *dir)
{
	char *path = NULL;
	return asprintf(&path, "%s/journal", dir) < 0 ? NULL : path;
}

static int read_ring(int fd, char *ring)
{
	for (size_t n = 0; n < SIZE;) {
		ssize_t got = pread(fd, ring + n, SIZE - n, (off_t)n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -EIO;
		if (got == 0) /* it was never made whole: it has nothing behind the mark */
			break;
		n += (size_t)got;
	}
	return 0;
}

int store_journal_replay(const char *dir, const struct store_journal_mark *m,
	store_journal_entry_fn *entry, void *arg, struct err *err)
{
	char *path = path_in(dir);
	struct reader r = {calloc(1, SIZE), entry, arg};
	int e = path && r.ring ? 0 : err_set(err, -ENOMEM, "out of memory");
	int fd = e ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (e == 0 && fd < 0 && errno != ENOENT)
		e = err_set(err, -EIO, "%s cannot be read: %s", path, strerror(errno));
	if (fd >= 0) {
		e = read_ring(fd, r.ring);
		e = e ? e : replay(&r, m);
		if (e < 0)
			err_set(err, e, "%s cannot be read: %s", path, strerror(-e));
		close(fd);
	}
	free(r.ring);
	free(path);
	return e;
}

/* ---- opening ---- */

/* Zeros, and not only a length: a page that is written to later must have its place on the disk. */
static int fill(int fd)
{
	static const char zeros[64 << 10];
	if (ftruncate(fd, 0) < 0)
		return -errno;
	for (size_t n = 0; n < SIZE;) {
		ssize_t put = pwrite(fd, zeros, sizeof zeros, (off_t)n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		n += (size_t)put;
	}
	return 0;
}

static int map(struct store_journal *j, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int r = fd < 0 || fchmod(fd, 0600) < 0 ? -errno : local_fs_has(fd) ? fill(fd) : -EOPNOTSUPP;
	if (r == 0) {
		void *bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		r = bytes == MAP_FAILED ? -errno : 0;
		j->bytes = bytes == MAP_FAILED ? NULL : bytes;
	}
	if (r == 0)
		r = bus_guard_new(&j->guard, j->bytes, SIZE, PROT_READ | PROT_WRITE);
	if (r < 0 && fd >= 0 && ftruncate(fd, 0) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

int store_journal_open(struct store_journal *j, const char *dir, struct err *err)
{
	*j = (struct store_journal){0};
	char *path = path_in(dir);
	if (!path || getrandom(&j->run, sizeof j->run, 0) != sizeof j->run) {
		free(path);
		return err_set(err, -ENOMEM, "out of memory");
	}
	int r = map(j, path);
	if (r < 0) {
		err_set(err, r, "%s: %s", path, strerror(-r));
		store_journal_close(j);
	}
	free(path);
	return r;
}

void store_journal_close(struct store_journal *j)
{
	j->guard = bus_guard_free(j->guard);
	if (j->bytes)
		munmap(j->bytes, SIZE);
	*j = (struct store_journal){0};
}

/* ---- writing ---- */

/* Whether what is written to the bytes gets into the file. */
static bool is_there(const struct store_journal *j)
{
	return j->bytes && !bus_guard_hit(j->guard);
}

void store_journal_put(struct store_journal *j, const char *key, size_t key_len, const char *value,
	size_t value_len)
{
	const struct change c = {(uint32_t)key_len, value ? (uint32_t)value_len : deletion};
	uint64_t at = j->at > j->end ? j->at : j->end + sizeof(struct head);
	size_t n = sizeof c + key_len + (value ? value_len : 0);
	if (!is_there(j) || j->refused || value_len >= deletion ||
		at + padded(n) - j->begin > SIZE) {
		j->refused = true;
		return;
	}
	static const char zeros[WORD] = "";
	ring_put(j->bytes, at, &c, sizeof c);
	ring_put(j->bytes, at + sizeof c, key, key_len);
	if (value)
		ring_put(j->bytes, at + sizeof c + key_len, value, value_len);
	ring_put(j->bytes, at + n, zeros, padded(n) - n);
	j->at = at + padded(n);
}

void store_journal_refuse(struct store_journal *j)
{
	j->refused = true;
}

void store_journal_commit(struct store_journal *j)
{
	if (j->refused)
		j->at = j->end;
	if (j->at <= j->end)
		return;
	uint64_t from = j->end + sizeof(struct head), len = j->at - from;
	const struct head h = {
		j->run, j->group, len, group_digest(j->bytes, j->run, j->group, from, len)};
	ring_put(j->bytes, j->end, &h, sizeof h);
	if (!is_there(j)) {
		j->refused = true;
		j->at = j->end;
		return;
	}
	j->end = j->at;
	j->group++;
}

bool store_journal_is_safe(const struct store_journal *j)
{
	return is_there(j) && !j->refused && !j->lags;
}

bool store_journal_fills(const struct store_journal *j)
{
	return j->end - j->taken > SIZE / PARTS;
}

/* With nothing new, the mark stays the one that the database has: the ring begins there. */
static void begin_half(struct store_journal *j)
{
	uint64_t next = next_half(j->end);
	if (j->end > j->taken && next - j->begin <= SIZE / 2)
		j->at = j->end = next;
}

void store_journal_take(struct store_journal *j, struct store_journal_mark *m)
{
	store_journal_commit(j);
	if (j->refused) {
		j->refused = false;
		j->lags = true;
		j->group++; /* no replay goes past here */
	}
	begin_half(j);
	j->taken = j->end;
	*m = (struct store_journal_mark){j->run, j->group, j->end % SIZE};
}

void store_journal_written(struct store_journal *j)
{
	j->begin = j->taken;
	j->lags = false;
}

void store_journal_prepare(const struct store_journal *j, uint64_t end)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), place = end % SIZE / page * page;
	size_t n = 2 * SIZE / PARTS, first = n < SIZE - place ? n : SIZE - place;
	if (!j->bytes)
		return; /* advice: it may fail */
	madvise(j->bytes + place, first, MADV_POPULATE_WRITE);
	if (n > first)
		madvise(j->bytes, n - first, MADV_POPULATE_WRITE);
}
