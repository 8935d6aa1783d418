/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_LOOP_H
#define GATEWAY_LOOP_H

/* The gateway's thread: runs posted work and timers, one after another. Work and timers are part of
 * the objects they are for, so posting needs no memory and cannot fail. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

struct loop_work {
	struct list link; /* list_init before the first post */
	void (*run)(struct loop_work *work);
	bool queued; /* under the loop's lock */
};

struct loop_timer {
	struct list link; /* list_init before it is armed */
	uint64_t at_ns;
	void (*run)(struct loop_timer *timer);
};

/* new *out; the thread is running. -ENOMEM, -EMFILE ... */
int loop_new(struct loop **out, struct err *err);
/* Runs what is posted until nothing is left, then ends the thread. Later posts are refused. Not
 * from the loop. */
void loop_close(struct loop *loop);
/* Closes first if need be. Accepts NULL, returns NULL. */
struct loop *loop_free(struct loop *loop);

/* Any thread. True: it will be run once. False: it was queued already, or the loop is closed: the
 * caller keeps whatever reference it took for the run. */
bool loop_post(struct loop *loop, struct loop_work *work);

/* Any thread. Runs once at about at_ns (CLOCK_MONOTONIC); arming an armed one moves it. False: the
 * loop is closed. */
bool loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
/* True: it was armed and will not run. */
bool loop_disarm(struct loop *loop, struct loop_timer *timer);

/* True on the loop's thread. */
bool loop_inside(const struct loop *loop);

#endif
