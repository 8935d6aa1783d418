/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring under one mutex, with a condition variable for threads and an eventfd for loops. The
 * eventfd is written when the queue becomes non-empty and drained when it becomes empty, both under
 * the mutex, so that "readable" and "has items" never differ; a push into a non-empty queue costs
 * no system call.
 */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	size_t item_size, capacity, head, count;
	bool closed;
	int fd;
	char *ring; /* [capacity][item_size] */
};

struct queue *queue_new(size_t item_size, size_t capacity)
{
	struct queue *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->filled, NULL);
	q->item_size = item_size;
	q->capacity = capacity;
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->ring = calloc(capacity, item_size);
	if (q->fd < 0 || !q->ring)
		return queue_free(q);
	return q;
}

struct queue *queue_free(struct queue *q)
{
	if (!q)
		return NULL;
	if (q->fd >= 0)
		close(q->fd);
	free(q->ring);
	pthread_cond_destroy(&q->filled);
	pthread_mutex_destroy(&q->lock);
	free(q);
	return NULL;
}

static void set_readable(struct queue *q)
{
	uint64_t one = 1;
	ssize_t ignored = write(q->fd, &one, sizeof one);
	(void)ignored;
}

static void set_unreadable(struct queue *q)
{
	uint64_t count;
	ssize_t ignored = read(q->fd, &count, sizeof count);
	(void)ignored;
}

int queue_push(struct queue *q, const void *item)
{
	int r = 0;
	pthread_mutex_lock(&q->lock);
	if (q->closed) {
		r = -ESHUTDOWN;
	} else if (q->count == q->capacity) {
		r = -EAGAIN;
	} else {
		size_t tail = (q->head + q->count) % q->capacity;
		memcpy(q->ring + tail * q->item_size, item, q->item_size);
		if (q->count++ == 0)
			set_readable(q);
		pthread_cond_signal(&q->filled);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int pop_locked(struct queue *q, void *item)
{
	if (!q->count)
		return q->closed ? -ESHUTDOWN : -EAGAIN;
	memcpy(item, q->ring + q->head * q->item_size, q->item_size);
	q->head = (q->head + 1) % q->capacity;
	if (--q->count == 0 && !q->closed)
		set_unreadable(q);
	return 0;
}

int queue_pop(struct queue *q, void *item)
{
	pthread_mutex_lock(&q->lock);
	int r = pop_locked(q, item);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int queue_pop_wait(struct queue *q, void *item)
{
	pthread_mutex_lock(&q->lock);
	int r;
	while ((r = pop_locked(q, item)) == -EAGAIN)
		pthread_cond_wait(&q->filled, &q->lock);
	pthread_mutex_unlock(&q->lock);
	return r;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	set_readable(q);
	pthread_cond_broadcast(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

int queue_fd(const struct queue *q)
{
	return q->fd;
}
