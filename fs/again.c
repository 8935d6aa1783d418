/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that unlink one file after another, and what each was told a moment ago.
 *
 * A setting that is unlinked is there again at once, with its default. tar(1) does not expect that:
 * it creates files anew, finds one there, unlinks it, and does so for ever, as each unlink
 * succeeds. So after a few of them the same process is told ENOENT, which ends that, and is what
 * any other file would have said at once. Who unlinks a file and then its directory never meets it.
 *
 * A few unlinks are all that is kept: such a loop has one file at a time. Of more loops than there
 * are places those that were noted first come to their end first, and make room: the newest of
 * those that were seen least gives way, or each would be forgotten before it is seen twice.
 *
 * `rm -r` goes on after a refusal and leaves a directory that it may not remove with nothing in it.
 * So whoever was refused what makes a model, which stands first in its directory, is known for as
 * long as it goes on there.
 *
 * The lock is a leaf, held for a look at them.
 */
#include "fs/again.h"

#include <pthread.h>
#include <stddef.h>

#include "base/clock.h"

enum { KEPT = 64, REFUSED = 16 };
static const uint64_t within_ns = 1000000000;

struct unlinked {
	uint64_t ino; /* 0: none */
	uint64_t at_ns;
	pid_t pid;
	unsigned times;
};

static struct unlinked kept[KEPT], refused[REFUSED];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_same(const struct unlinked *u, pid_t pid, uint64_t ino, uint64_t now_ns)
{
	return u->ino == ino && u->pid == pid && now_ns - u->at_ns < within_ns;
}

/* Where another one is noted: of those that no loop needs any more, else of the least seen. */
static struct unlinked *place(uint64_t now_ns)
{
	struct unlinked *least = &kept[0];
	for (struct unlinked *u = kept; u < kept + KEPT; u++) {
		if (!u->ino || u->times > AGAIN_MOST || now_ns - u->at_ns >= within_ns)
			return u;
		if (u->times < least->times ||
			(u->times == least->times && u->at_ns > least->at_ns))
			least = u;
	}
	return least;
}

bool again_unlinked(pid_t pid, uint64_t ino)
{
	uint64_t now_ns = clock_mono_ns();
	pthread_mutex_lock(&lock);
	struct unlinked *u = kept;
	while (u < kept + KEPT && !is_same(u, pid, ino, now_ns))
		u++;
	if (u == kept + KEPT) {
		u = place(now_ns);
		*u = (struct unlinked){.ino = ino, .pid = pid};
	}
	u->at_ns = now_ns;
	bool again = u->times++ >= AGAIN_MOST;
	pthread_mutex_unlock(&lock);
	return again;
}

void again_opened(uint64_t ino)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < KEPT; i++)
		if (kept[i].ino == ino)
			kept[i].ino = 0;
	pthread_mutex_unlock(&lock);
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
