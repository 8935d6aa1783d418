/* SPDX-License-Identifier: Apache-2.0 */
/* A queue with a counter. Who waits longest is next; nobody overtakes, so nobody waits for ever.
 *
 * Lock: around what `come` needs, which is an inbox and the loop's. */
#include "gateway/lane.h"

#include <pthread.h>
#include <stdlib.h>

struct lane {
	pthread_mutex_t lock;
	struct list waiting; /* of lane_user.link */
	size_t n_running, n_waiting, running_max, waiting_max;
};

struct lane *lane_new(size_t running_max, size_t waiting_max)
{
	struct lane *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->waiting);
	l->running_max = running_max;
	l->waiting_max = waiting_max;
	return l;
}

struct lane *lane_free(struct lane *l)
{
	if (!l)
		return NULL;
	pthread_mutex_destroy(&l->lock);
	free(l);
	return NULL;
}

/* With the lock held. */
static void let_in(struct lane *l)
{
	while (l->n_running < l->running_max && l->n_waiting > 0) {
		struct lane_user *u = list_entry(l->waiting.next, struct lane_user, link);
		list_remove(&u->link);
		l->n_waiting--;
		l->n_running++;
		u->running = true;
		u->come(u);
	}
}

bool lane_enter(struct lane *l, struct lane_user *u)
{
	pthread_mutex_lock(&l->lock);
	bool room = l->n_running < l->running_max || l->n_waiting < l->waiting_max;
	if (room) {
		list_append(&l->waiting, &u->link);
		l->n_waiting++;
		let_in(l);
	}
	pthread_mutex_unlock(&l->lock);
	return room;
}

void lane_leave(struct lane *l, struct lane_user *u)
{
	pthread_mutex_lock(&l->lock);
	list_remove(&u->link);
	if (u->running)
		l->n_running--;
	else
		l->n_waiting--;
	let_in(l);
	pthread_mutex_unlock(&l->lock);
}

void lane_count(struct lane *l, size_t *running, size_t *waiting)
{
	pthread_mutex_lock(&l->lock);
	*running = l->n_running;
	*waiting = l->n_waiting;
	pthread_mutex_unlock(&l->lock);
}
