/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users who have requests that wait stand in a ring, each with a queue of them. A place that
 * becomes free goes to the first queue's first request; the queue then goes to the end of the ring,
 * or, when it is empty, away. So each user waits for at most one request of each other user, and
 * entering and leaving cost the same however many wait: a queue is found by its user's number in a
 * table of chains, which are short unless hundreds of users wait at once.
 *
 * Invariant: while anybody waits, no place is free.
 *
 * Lock: gate->lock; inside it only what `come` takes.
 */
#include "gateway/gate.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

enum { N_CHAINS = 256 };

struct queue { /* the requests of one user that wait; never empty */
	struct list link, chain, requests;
	uid_t uid;
};

struct gate {
	pthread_mutex_t lock;
	uint64_t running_max, waiting_max, n_running, n_waiting;
	struct list ring; /* struct queue: whose turn it is, first */
	struct list chains[N_CHAINS];
};

struct gate *gate_new(void)
{
	struct gate *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	pthread_mutex_init(&g->lock, NULL);
	list_init(&g->ring);
	for (size_t i = 0; i < N_CHAINS; i++)
		list_init(&g->chains[i]);
	return g;
}

struct gate *gate_free(struct gate *g)
{
	if (!g)
		return NULL;
	list_for_each (link, &g->ring)
		free(list_entry(link, struct queue, link));
	pthread_mutex_destroy(&g->lock);
	free(g);
	return NULL;
}

/* Numbers of users are often neighbours, or multiples of something: multiplied, then the top bits.
 */
static struct list *chain_of(struct gate *g, uid_t uid)
{
	return &g->chains[((uint32_t)uid * 2654435769u) >> 24];
}

/* NULL when memory is out. */
static struct queue *queue_of(struct gate *g, uid_t uid)
{
	struct list *chain = chain_of(g, uid);
	list_for_each (link, chain) {
		struct queue *q = list_entry(link, struct queue, chain);
		if (q->uid == uid)
			return q;
	}
	struct queue *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->uid = uid;
	list_init(&q->requests);
	list_append(&g->ring, &q->link);
	list_append(chain, &q->chain);
	return q;
}

/* One of its requests waits no more. */
static void leave_queue(struct gate *g, struct gate_user *u)
{
	struct queue *q = u->queue;
	list_remove(&u->link);
	u->queue = NULL;
	u->waiting = false;
	g->n_waiting--;
	if (!list_empty(&q->requests))
		return;
	list_remove(&q->link);
	list_remove(&q->chain);
	free(q);
}

static void let_in(struct gate *g)
{
	while (g->n_running < g->running_max && !list_empty(&g->ring)) {
		struct queue *q = list_entry(g->ring.next, struct queue, link);
		struct gate_user *u = list_entry(q->requests.next, struct gate_user, link);
		list_remove(&q->link);
		list_append(&g->ring, &q->link);
		leave_queue(g, u);
		u->running = true;
		g->n_running++;
		u->come(u);
	}
}

void gate_set(struct gate *g, uint64_t running_max, uint64_t waiting_max)
{
	pthread_mutex_lock(&g->lock);
	g->running_max = running_max;
	g->waiting_max = waiting_max;
	let_in(g);
	pthread_mutex_unlock(&g->lock);
}

static int check_locked(const struct gate *g, struct err *err)
{
	if (g->n_running < g->running_max || g->n_waiting < g->waiting_max)
		return 0;
	return err_set(err, -EAGAIN,
		"%" PRIu64 " requests run and %" PRIu64 " wait already: requests_max is %" PRIu64
		", queue_max is %" PRIu64,
		g->n_running, g->n_waiting, g->running_max, g->waiting_max);
}

int gate_check(struct gate *g, struct err *err)
{
	pthread_mutex_lock(&g->lock);
	int r = check_locked(g, err);
	pthread_mutex_unlock(&g->lock);
	return r;
}

int gate_enter(struct gate *g, struct gate_user *u, struct err *err)
{
	pthread_mutex_lock(&g->lock);
	int r = check_locked(g, err);
	if (r == 0 && g->n_running < g->running_max) {
		u->running = true;
		g->n_running++;
	} else if (r == 0) {
		struct queue *q = queue_of(g, u->uid);
		r = q ? 1 : err_set(err, -EAGAIN, "out of memory");
		if (q) {
			list_append(&q->requests, &u->link);
			u->queue = q;
			u->waiting = true;
			g->n_waiting++;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return r;
}

void gate_leave(struct gate *g, struct gate_user *u)
{
	pthread_mutex_lock(&g->lock);
	if (u->running) {
		u->running = false;
		g->n_running--;
		let_in(g);
	} else if (u->waiting) {
		leave_queue(g, u);
	}
	pthread_mutex_unlock(&g->lock);
}

void gate_count(struct gate *g, uint64_t *running, uint64_t *waiting)
{
	pthread_mutex_lock(&g->lock);
	*running = g->n_running;
	*waiting = g->n_waiting;
	pthread_mutex_unlock(&g->lock);
}
