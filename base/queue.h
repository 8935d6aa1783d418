/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stddef.h>

/*
 * A bounded first-in first-out queue of fixed-size items between threads: many producers, many
 * consumers. Items are copied in and out; a pointer inside an item is stolen by the queue and
 * handed on to the consumer. With an eventfd (queue_fd) an epoll loop can wait for it beside other
 * things.
 */
struct queue;

/* new; NULL when memory or descriptors are out. `capacity` items of `item_size` bytes. */
struct queue *queue_new(size_t item_size, size_t capacity);
/* Items still inside are dropped: drain first if they own anything. Accepts NULL, returns NULL. */
struct queue *queue_free(struct queue *q);

/* 0; -EAGAIN when full; -ESHUTDOWN after queue_close. Never waits. */
int queue_push(struct queue *q, const void *item);
/* 0; -EAGAIN when empty; -ESHUTDOWN when empty and closed. Never waits. */
int queue_pop(struct queue *q, void *item);
/* Like queue_pop, but waits for an item or the close. 0 or -ESHUTDOWN. */
int queue_pop_wait(struct queue *q, void *item);
/* No more pushes; waiting consumers get what is left and then -ESHUTDOWN. */
void queue_close(struct queue *q);

/* borrows: a descriptor that is readable while the queue has items or is closed. Level triggered;
 * do not read it. */
int queue_fd(const struct queue *q);

#endif
