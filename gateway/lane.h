/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_LANE_H
#define GATEWAY_LANE_H

/* So many at a time, the others in the order in which they came, and no more than that wait. */

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

struct lane;

struct lane_user { /* part of the object that waits; list_init(&link) first */
	struct list link;
	/* Its turn has come. With the lock of the lane held: note it and post. */
	void (*come)(struct lane_user *u);
	bool running; /* under the lock */
};

struct lane *lane_new(size_t running_max, size_t waiting_max); /* NULL when memory is out */
struct lane *lane_free(struct lane *l);                        /* accepts NULL, returns NULL */

/* Any thread. come may be called within. False: too many wait, and nothing was done. */
bool lane_enter(struct lane *l, struct lane_user *u);
/* It needs its turn no longer, whether or not that came; the next one's may come within. Once. */
void lane_leave(struct lane *l, struct lane_user *u);
void lane_count(struct lane *l, size_t *running, size_t *waiting);

#endif
