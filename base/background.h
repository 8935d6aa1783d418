/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BACKGROUND_H
#define BASE_BACKGROUND_H

/*
 * This thread works behind the others from now on: for work that nobody waits for. It becomes
 * SCHED_BATCH with a nice value higher by BACKGROUND_NICE (19 at most). One with a real-time policy
 * keeps that at the priority below, if there is one; one that is SCHED_IDLE stays as it is. Threads
 * that it starts inherit that. There is no way back without privileges. 0 or -errno: the kernel has
 * refused, and the thread goes on as it was.
 */
enum { BACKGROUND_NICE = 5 };
int background_begin(void);

/*
 * For work that somebody waits for in the end, if it is not done: SCHED_BATCH, with the share of
 * the processor that it had; real-time and idle threads stay as they are. Else as background_begin.
 */
int background_batch(void);

#endif
