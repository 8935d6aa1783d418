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

/* A descriptor that the loop looks after. Only from the loop's thread, or when it has ended. */
struct loop_fd {
	int fd; /* -1: not watched */
	/* events: EPOLLIN, EPOLLOUT ... as epoll(7) has them; perhaps of before the last
	 * loop_watch. May watch and unwatch any loop_fd. */
	void (*ready)(struct loop_fd *fd, uint32_t events);
	bool watched; /* the loop's own */
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
/* The same, but one that is armed for that time or an earlier one stays as it is. */
bool loop_arm_earlier(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
/* True: it was armed and will not run. */
bool loop_disarm(struct loop *loop, struct loop_timer *timer);

/* Watches fd->fd for events, level triggered, or changes which. 0, -ENOMEM, -ENOSPC ... */
int loop_watch(struct loop *loop, struct loop_fd *fd, uint32_t events);
/* Watches it no more: `ready` is not called again, and fd->fd is -1. The caller closes the
 * descriptor, after this. Harmless when it was not watched. */
void loop_unwatch(struct loop *loop, struct loop_fd *fd);
/* The same where the descriptor was closed already, and its number may be another's. */
void loop_forget(struct loop *loop, struct loop_fd *fd);

/* True on the loop's thread. */
bool loop_inside(const struct loop *loop);

#endif
