/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots in blocks that never move; an id is a slot's number and how often the slot was used. A
 * waiter that was told, and one that was withdrawn, leave the same trace: their id no longer fits
 * its slot. So completion and interrupt may race, and exactly one of them wins.
 *
 * Lock: table->lock, a leaf, guards every list and slot. It is not held while somebody is told: the
 * waiters of one watch_fire are moved out first, so that one who waits again at once is not told
 * twice by the same event.
 */
#include "gateway/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { BLOCK_SLOTS = 256, FIRE_BATCH = 64 };

struct slot {
	struct list link; /* in a waiters' list, or in `free` */
	uint64_t bytes;
	gateway_wake_fn *wake; /* NULL: free */
	void *arg;
	uint32_t index, generation;
};

struct watch_table {
	pthread_mutex_t lock;
	struct slot **blocks; /* [n_blocks][BLOCK_SLOTS] */
	size_t n_blocks;
	struct list free;
};

struct watch_table *watch_table_new(void)
{
	struct watch_table *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	list_init(&t->free);
	return t;
}

struct watch_table *watch_table_free(struct watch_table *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_blocks; i++)
		free(t->blocks[i]);
	free(t->blocks);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return NULL;
}

static int add_block(struct watch_table *t)
{
	if (t->n_blocks >= UINT32_MAX / BLOCK_SLOTS)
		return -ENOMEM;
	struct slot **blocks = realloc(t->blocks, (t->n_blocks + 1) * sizeof *blocks);
	if (!blocks)
		return -ENOMEM;
	t->blocks = blocks;
	struct slot *block = calloc(BLOCK_SLOTS, sizeof *block);
	if (!block)
		return -ENOMEM;
	for (uint32_t i = 0; i < BLOCK_SLOTS; i++) {
		block[i].index = (uint32_t)t->n_blocks * BLOCK_SLOTS + i;
		block[i].generation = 1;
		list_append(&t->free, &block[i].link);
	}
	t->blocks[t->n_blocks++] = block;
	return 0;
}

int watch_add(struct watch_table *t, struct list *list, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id)
{
	int r = 0;
	pthread_mutex_lock(&t->lock);
	if (list_empty(&t->free))
		r = add_block(t);
	if (r == 0) {
		struct slot *s = list_entry(t->free.next, struct slot, link);
		list_remove(&s->link);
		s->bytes = bytes;
		s->wake = wake;
		s->arg = arg;
		list_append(list, &s->link);
		*id = (uint64_t)s->generation << 32 | s->index;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

static void release(struct watch_table *t, struct slot *s)
{
	s->wake = NULL;
	if (++s->generation == 0)
		s->generation = 1;
	list_remove(&s->link);
	list_prepend(&t->free, &s->link);
}

bool watch_remove(struct watch_table *t, gateway_waiter id)
{
	uint32_t index = (uint32_t)id, generation = (uint32_t)(id >> 32);
	bool found = false;
	pthread_mutex_lock(&t->lock);
	if (index / BLOCK_SLOTS < t->n_blocks) {
		struct slot *s = &t->blocks[index / BLOCK_SLOTS][index % BLOCK_SLOTS];
		found = s->wake && s->generation == generation;
		if (found)
			release(t, s);
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

struct told {
	gateway_wake_fn *wake;
	void *arg;
};

static void tell(const struct told *told, size_t n)
{
	for (size_t i = 0; i < n; i++)
		told[i].wake(told[i].arg);
}

/* Tells all of `due`, which nobody adds to. A waiter in it can still be withdrawn. Called with the
 * lock held; returns without it. */
static void tell_due(struct watch_table *t, struct list *due)
{
	struct told told[FIRE_BATCH];
	for (;;) {
		size_t n = 0;
		while (n < FIRE_BATCH && !list_empty(due)) {
			struct slot *s = list_entry(due->next, struct slot, link);
			told[n++] = (struct told){s->wake, s->arg};
			release(t, s);
		}
		pthread_mutex_unlock(&t->lock);
		if (!n)
			return;
		tell(told, n);
		pthread_mutex_lock(&t->lock);
	}
}

void watch_fire(struct watch_table *t, struct list *list, uint64_t level)
{
	struct list due;
	list_init(&due);
	pthread_mutex_lock(&t->lock);
	list_for_each (link, list) {
		struct slot *s = list_entry(link, struct slot, link);
		if (s->bytes < level || level == WATCH_ALL) {
			list_remove(&s->link);
			list_append(&due, &s->link);
		}
	}
	tell_due(t, &due);
}

void watch_fire_all(struct watch_table *t)
{
	struct list due;
	list_init(&due);
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n_blocks * BLOCK_SLOTS; i++) {
		struct slot *s = &t->blocks[i / BLOCK_SLOTS][i % BLOCK_SLOTS];
		if (s->wake) {
			list_remove(&s->link);
			list_append(&due, &s->link);
		}
	}
	tell_due(t, &due);
}

bool watch_any(struct watch_table *t, const struct list *list)
{
	pthread_mutex_lock(&t->lock);
	bool any = !list_empty(list);
	pthread_mutex_unlock(&t->lock);
	return any;
}
