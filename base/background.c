/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that nobody waits for shall not make anybody wait: a thread that writes behind, or sweeps,
 * gives way to those that carry requests. Three things do that, and none needs a privilege.
 * SCHED_BATCH: one that wakes does not take the processor away from whoever has it. A nice value:
 * who is woken beside it has its turn sooner, and a larger share. And in a daemon that was started
 * with a real-time policy, where threads inherit that, the priority below.
 *
 * Not all background work can stand that. A database's flushes and compactions are waited for when
 * they are far behind: then writes wait, by a millisecond each or until one has ended. With
 * LevelDB's thread nicer by 5, two busy programs beside it and 64 requests at once, one in a
 * hundred waited for 2 s instead of 0.3; with a real-time priority below that of requests that
 * follow one another, it had no turn at all until writes took 1 ms each (docs/bench.md). So it
 * keeps its share, and only does not preempt: background_batch.
 *
 * For the same reason nothing is SCHED_IDLE: with all processors busy, as they are when an engine
 * computes, such a thread gets 3 parts in 1,000 of one, and may hold a lock meanwhile.
 */
#include "base/background.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

/* The policy, without its flag; real-time threads have a priority in *param. < 0: -errno. */
static int policy_now(struct sched_param *param)
{
	int policy = sched_getscheduler(0);
	if (policy < 0 || sched_getparam(0, param) < 0)
		return -errno;
	return policy & ~SCHED_RESET_ON_FORK;
}

static bool is_real_time(int policy)
{
	return policy == SCHED_FIFO || policy == SCHED_RR;
}

int background_batch(void)
{
	struct sched_param param;
	int policy = policy_now(&param);
	if (policy < 0 || is_real_time(policy) || policy == SCHED_IDLE)
		return policy < 0 ? policy : 0;
	return sched_setscheduler(0, SCHED_BATCH, &param) < 0 ? -errno : 0;
}

/* Its nice value higher by so much, with an ordinary policy. */
static int fall_behind(void)
{
	const struct sched_param none = {0};
	errno = 0;
	int nice_now = getpriority(PRIO_PROCESS, (id_t)gettid());
	if (nice_now == -1 && errno)
		return -errno;
	int nice_then = nice_now + BACKGROUND_NICE < 19 ? nice_now + BACKGROUND_NICE : 19;
	if (sched_setscheduler(0, SCHED_BATCH, &none) < 0 ||
		setpriority(PRIO_PROCESS, (id_t)gettid(), nice_then) < 0)
		return -errno;
	return 0;
}

int background_begin(void)
{
	struct sched_param param;
	int policy = policy_now(&param);
	if (policy < 0 || policy == SCHED_IDLE)
		return policy < 0 ? policy : 0;
	if (!is_real_time(policy) || param.sched_priority <= sched_get_priority_min(policy))
		return fall_behind();
	param.sched_priority--;
	return sched_setscheduler(0, policy, &param) < 0 ? -errno : 0;
}
