/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that unlink a file in order to make it anew, and what each was told a moment ago.
 *
 * A setting that is unlinked is there again at once, with its default. mv(1) from another file
 * system, install(1), cp --remove-destination, git and tar do not expect that: each unlinks what is
 * in its way and then makes the file with O_EXCL, which fails with EEXIST; tar unlinks it once
 * more, for ever. The kernel does not say of a look-up what it is for, and decides by its answer.
 * So for a second the file is gone to the thread that has unlinked it, as any other file would be,
 * unless it, or somebody else, makes or writes it before. To all others it is there. Until then
 * what stood in it is kept: a value that is refused must not have changed anything, also where it
 * took the place of one that was unlinked.
 *
 * No thread has more than OWN places, so that whoever removes a tree leaves some to others, and
 * those of a directory go with it. When all are taken none is forgotten in its first moments,
 * rather the next one not noted: of very many loops at once those that were noted end, and make
 * room for the others.
 *
 * `rm -r` goes on after a refusal and leaves a directory that it may not remove with nothing in it.
 * So whoever was refused what makes a model, which stands first in its directory, is known for as
 * long as it goes on there.
 *
 * The lock is a leaf, held for a look at them. Look-ups take it only in the second after an unlink.
 */
#include "fs/again.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/hash.h"

enum { KEPT = 512, OWN = 8, REFUSED = 16 };
static const uint64_t within_ns = 1000000000, safe_ns = 200000000;

struct unlinked {
	uint64_t ino; /* 0: none */
	uint64_t at_ns;
	pid_t pid;
	struct buf before;
};

static struct unlinked kept[KEPT], refused[REFUSED];
static size_t kept_bytes;        /* of all that stood before */
static _Atomic uint64_t last_ns; /* of the last that was noted in `kept`; 0: none ever */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_same(const struct unlinked *u, pid_t pid, uint64_t ino, uint64_t now_ns)
{
	return u->ino == ino && u->pid == pid && now_ns - u->at_ns < within_ns;
}

static bool is_any(uint64_t now_ns)
{
	uint64_t last = last_ns;
	return last && (now_ns < last || now_ns - last < within_ns);
}

static struct unlinked *find(pid_t pid, uint64_t ino, uint64_t now_ns)
{
	for (struct unlinked *u = kept; u < kept + KEPT; u++)
		if (is_same(u, pid, ino, now_ns))
			return u;
	return NULL;
}

static void drop(struct unlinked *u)
{
	kept_bytes -= u->before.len;
	buf_free(&u->before);
	*u = (struct unlinked){0};
}

static struct unlinked *older(struct unlinked *a, struct unlinked *b)
{
	return a && a->at_ns <= b->at_ns ? a : b;
}

/* Where another one of that thread is noted, a free place; NULL: nowhere. Drops what is over. */
static struct unlinked *place(pid_t pid, uint64_t now_ns)
{
	struct unlinked *none = NULL, *oldest = NULL, *oldest_own = NULL;
	unsigned own = 0;
	for (struct unlinked *u = kept; u < kept + KEPT; u++) {
		if (u->ino && now_ns - u->at_ns >= within_ns)
			drop(u);
		if (!u->ino) {
			none = none ? none : u;
			continue;
		}
		oldest = older(oldest, u);
		if (u->pid == pid) {
			own++;
			oldest_own = older(oldest_own, u);
		}
	}
	if (own < OWN && none)
		return none;
	struct unlinked *gives = own < OWN ? oldest : oldest_own;
	if (own < OWN && now_ns - gives->at_ns < safe_ns)
		return NULL;
	drop(gives);
	return gives;
}

void again_unlinked(pid_t pid, uint64_t ino, struct buf *before)
{
	struct buf text = {0};
	if (before) {
		text = *before;
		*before = (struct buf){0};
	}
	uint64_t now_ns = clock_mono_ns();
	pthread_mutex_lock(&lock);
	struct unlinked *u = pid > 0 ? find(pid, ino, now_ns) : NULL;
	/* What stood in it before the first unlink is what comes back. */
	if (!u && pid > 0 && (u = place(pid, now_ns))) {
		*u = (struct unlinked){.ino = ino, .pid = pid};
		if (text.len <= AGAIN_MOST_BYTES - kept_bytes) {
			kept_bytes += text.len;
			u->before = text;
			text = (struct buf){0};
		}
	}
	if (u)
		last_ns = u->at_ns = now_ns;
	pthread_mutex_unlock(&lock);
	buf_free(&text);
}

void again_forget(uint64_t first, uint64_t last)
{
	pthread_mutex_lock(&lock);
	for (struct unlinked *u = kept; u < kept + KEPT; u++)
		if (u->ino && u->ino >= first && u->ino <= last)
			drop(u);
	pthread_mutex_unlock(&lock);
}

void again_written(uint64_t ino)
{
	if (is_any(clock_mono_ns()))
		again_forget(ino, ino);
}

bool again_is_gone(pid_t pid, uint64_t ino)
{
	uint64_t now_ns = clock_mono_ns();
	if (!is_any(now_ns))
		return false;
	pthread_mutex_lock(&lock);
	bool is = find(pid, ino, now_ns);
	pthread_mutex_unlock(&lock);
	return is;
}

bool again_made(pid_t pid, uint64_t ino, struct buf *before)
{
	uint64_t now_ns = clock_mono_ns();
	if (!is_any(now_ns))
		return false;
	pthread_mutex_lock(&lock);
	struct unlinked *u = find(pid, ino, now_ns);
	if (u) {
		*before = u->before;
		kept_bytes -= u->before.len;
		*u = (struct unlinked){0};
	}
	pthread_mutex_unlock(&lock);
	return u;
}

bool again_is_gone_to_any(uint64_t ino)
{
	uint64_t now_ns = clock_mono_ns();
	bool is = false;
	if (!is_any(now_ns))
		return false;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; !is && i < KEPT; i++)
		is = kept[i].ino == ino && now_ns - kept[i].at_ns < within_ns;
	pthread_mutex_unlock(&lock);
	return is;
}

uint64_t again_name(const char *file)
{
	return hash_text(HASH_BEGIN, file) | (uint64_t)1 << 63;
}

/* ---- who was refused ---- */

static struct unlinked *refusal_of(pid_t pid, uint64_t dir, uint64_t now_ns)
{
	for (size_t i = 0; i < REFUSED; i++)
		if (is_same(&refused[i], pid, dir, now_ns))
			return &refused[i];
	return NULL;
}

void again_refused(pid_t pid, uint64_t dir)
{
	uint64_t now_ns = clock_mono_ns();
	pthread_mutex_lock(&lock);
	struct unlinked *u = refusal_of(pid, dir, now_ns);
	for (size_t i = 0; !u && i < REFUSED; i++)
		if (!refused[i].ino || now_ns - refused[i].at_ns >= within_ns)
			u = &refused[i];
	u = u ? u : &refused[0];
	*u = (struct unlinked){.ino = dir, .at_ns = now_ns, .pid = pid};
	pthread_mutex_unlock(&lock);
}

bool again_goes_on(pid_t pid, uint64_t dir)
{
	uint64_t now_ns = clock_mono_ns();
	pthread_mutex_lock(&lock);
	struct unlinked *u = refusal_of(pid, dir, now_ns);
	if (u)
		u->at_ns = now_ns;
	pthread_mutex_unlock(&lock);
	return u;
}
