/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting that is unlinked is there again at once, with its default. tar(1) does not expect that:
 * it creates files anew, finds one there, unlinks it, and does so for ever, as each unlink
 * succeeds. So after a few of them the same process is told ENOENT, which ends that, and is what
 * any other file would have said at once. Who unlinks a file and then its directory never meets it.
 *
 * The last few unlinks are all that is needed: such a loop has one file at a time. The lock is a
 * leaf, held for a look at them.
 */
#include "fs/again.h"

#include <pthread.h>
#include <stddef.h>

#include "base/clock.h"

enum { KEPT = 16 };
static const uint64_t within_ns = 1000000000;

struct unlinked {
	uint64_t ino; /* 0: none */
	uint64_t at_ns;
	pid_t pid;
	unsigned times;
};

static struct unlinked kept[KEPT];
static size_t next;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_same(const struct unlinked *u, pid_t pid, uint64_t ino, uint64_t now_ns)
{
	return u->ino == ino && u->pid == pid && now_ns - u->at_ns < within_ns;
}

bool again_unlinked(pid_t pid, uint64_t ino)
{
	uint64_t now_ns = clock_mono_ns();
	size_t i = 0;
	pthread_mutex_lock(&lock);
	while (i < KEPT && !is_same(&kept[i], pid, ino, now_ns))
		i++;
	if (i == KEPT) {
		i = next;
		next = (next + 1) % KEPT;
		kept[i] = (struct unlinked){.ino = ino, .pid = pid};
	}
	kept[i].at_ns = now_ns;
	bool again = kept[i].times++ >= AGAIN_MOST;
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
