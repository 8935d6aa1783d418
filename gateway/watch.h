/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_WATCH_H
#define GATEWAY_WATCH_H

/* Who waits for what: readers parked on answers, drafts and texts, told once, named by ids that are
 * never used twice. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "gateway/gateway.h"

struct watch_table;

/* new; NULL when memory is out. */
struct watch_table *watch_table_new(void);
struct watch_table *watch_table_free(struct watch_table *t); /* accepts NULL, returns NULL */

/*
 * Adds a waiter to a list (a list_init'ed head that lives until its waiters are gone). It is told
 * by the first watch_fire with a level above `bytes`. The caller holds whatever lock makes "it is
 * not there yet" true until this returns. 0 and *id; -ENOMEM.
 */
int watch_add(struct watch_table *t, struct list *list, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id);
/* True: forgotten. False: it was told, or is being told, or never existed. O(1). */
bool watch_remove(struct watch_table *t, gateway_waiter id);
/* Tells those with bytes < level. On the loop, without locks. */
void watch_fire(struct watch_table *t, struct list *list, uint64_t level);
#define WATCH_ALL UINT64_MAX
/* Tells everyone in every list. */
void watch_fire_all(struct watch_table *t);
/* Whether anyone is in the list. */
bool watch_any(struct watch_table *t, const struct list *list);

#endif
