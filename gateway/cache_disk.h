/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_DISK_H
#define GATEWAY_CACHE_DISK_H

/* L2: answers in a LevelDB of their own, read and written by a thread of its own. What is in it is
 * known in memory, so that what is not costs no read. Any thread, but for what it says. */

#include "gateway/cache_item.h"
#include "gateway/cache_record.h"
#include "gateway/core.h"

struct cache_disk;
struct cache_disk_read;

/* Told on the disk's thread, without locks, of each prompt with a vector that is kept. */
typedef void cache_disk_near_fn(
	void *arg, const struct cache_id *id, const struct cache_record *record);

struct cache_disk_limits {
	size_t max_n, max_bytes; /* either 0: it keeps nothing */
	uint64_t ttl_s;          /* 0: for ever */
};

/* new *out. Opens the database later, in its thread: what is asked meanwhile waits for it. Borrows
 * g. -ENOMEM, -EAGAIN: no thread. */
int cache_disk_open(struct cache_disk **out, struct gateway *g, const char *dir,
	const struct cache_disk_limits *limits, cache_disk_near_fn *near, void *arg,
	struct err *err);
/* Writes what is queued, ends the thread. Accepts NULL, returns NULL. */
struct cache_disk *cache_disk_free(struct cache_disk *d);

/* 1: done(arg, record) comes on the loop, with the record of the answer that has that id (and
 * serial, unless 0), or NULL; new *out until then. 0: there is none, as far as is known, or it is
 * older than the limit. On the loop. */
typedef void cache_disk_done_fn(void *arg, const struct cache_record *record);
int cache_disk_find(struct cache_disk *d, const struct cache_id *id, uint64_t serial,
	cache_disk_done_fn *done, void *arg, struct cache_disk_read **out);
/* done does not come. On the loop. Accepts NULL, returns NULL. */
struct cache_disk_read *cache_disk_cancel(struct cache_disk_read *r);

/* Whether it is there now. serial 0: any. */
bool cache_disk_has(
	struct cache_disk *d, const struct cache_id *id, uint64_t serial, uint64_t *stored_s);
/* Keeps it, and its prompt (or NULL), in the place of what has the same id, some time soon; takes
 * references. False: too much waits, or it does not work. */
bool cache_disk_put(struct cache_disk *d, struct cache_item *item, struct cache_prompt *prompt);
/* Nothing that user (NULL: everybody) stored with a serial below that one is found from now on;
 * it is deleted some time soon. */
void cache_disk_flush(struct cache_disk *d, const char *user, uint64_t below);
/* Writes that down, so that it outlives a kill. Does I/O. */
void cache_disk_mark_flush(struct cache_disk *d, const char *user, uint64_t below);
void cache_disk_limit(struct cache_disk *d, const struct cache_disk_limits *limits);
/* Tells `near` of all again. */
void cache_disk_tell_near(struct cache_disk *d);

struct cache_disk_counts {
	size_t n, bytes;
	uint64_t evicted, expired;
	uint64_t dropped; /* not written: too much waited, or it did not work */
	uint64_t damaged; /* were read, and were not what had been written */
	uint64_t newest;  /* the greatest serial that was found in it */
	bool ready;       /* it is open */
	bool telling;     /* prompts with vectors are being read */
};
void cache_disk_count(struct cache_disk *d, struct cache_disk_counts *out);

/* For tests, and the end: waits until all that was queued is done. Not on the loop. */
void cache_disk_settle(struct cache_disk *d);

#endif
