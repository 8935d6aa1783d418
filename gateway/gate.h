/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATE_H
#define GATEWAY_GATE_H

/*
 * So many requests at a time on one model, and so many that wait. Fair between users: whoever has a
 * free place next is the user whose turn it is, not who has asked most; each user's own requests
 * come in their order. Any thread; a leaf but for what `come` takes.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"

struct gate;

struct gate_user {
	struct list link; /* list_init before gate_enter */
	uid_t uid;
	/* It may run now. With the gate's lock held: note it and post. */
	void (*come)(struct gate_user *user);
	bool running, waiting; /* the gate's */
	void *queue;           /* the gate's */
};

struct gate *gate_new(void);
struct gate *gate_free(struct gate *gate); /* nobody is in it; accepts NULL, returns NULL */
/* May let some in. */
void gate_set(struct gate *gate, uint64_t running_max, uint64_t waiting_max);
/* 0: it runs; 1: it waits, `come` comes; -EAGAIN: too many wait, the sentence has the numbers. */
int gate_enter(struct gate *gate, struct gate_user *user, struct err *err);
/* Whether gate_enter would say -EAGAIN now. */
int gate_check(struct gate *gate, struct err *err);
/* It has run, or waits no more. Harmless when it is not in it. */
void gate_leave(struct gate *gate, struct gate_user *user);
void gate_count(struct gate *gate, uint64_t *running, uint64_t *waiting);

#endif
