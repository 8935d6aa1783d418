/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_DISK_PARTS_H
#define GATEWAY_CACHE_DISK_PARTS_H

/* What cache_disk.c (the queue and what is known in memory) and cache_disk_thread.c (LevelDB)
 * share.
 *
 * Lock: disk->lock, inside the cache's, a leaf otherwise; it is not held across I/O. */

#include <leveldb/c.h>

#include "gateway/cache_disk.h"
#include "gateway/cache_shelf.h"

struct cache_disk_flush { /* not done yet */
	struct cache_disk_flush *next;
	uint64_t below;
	char user[TEXT_NAME_SIZE]; /* "": everybody's */
};

enum cache_disk_kind { CACHE_DISK_READ, CACHE_DISK_PUT, CACHE_DISK_REMOVE, CACHE_DISK_FLUSH };

struct cache_disk_job {
	struct list link;
	enum cache_disk_kind kind;
	struct cache_item *item;     /* PUT */
	struct cache_prompt *prompt; /* PUT; may be NULL */
	struct cache_node
		*nodes; /* PUT, REMOVE, FLUSH: are in the index no more; chained by next */
	uint64_t below; /* FLUSH */
	bool all;
};

struct cache_disk_read {
	struct cache_disk_job job; /* first */
	struct cache_disk *disk;
	struct loop_work work;
	struct cache_id id;
	cache_disk_done_fn *done; /* the loop's; NULL: cancelled */
	void *arg;
	char *bytes; /* LevelDB's */
	size_t len;
};

enum cache_disk_state { CACHE_DISK_OPENING, CACHE_DISK_READY, CACHE_DISK_BROKEN };

struct cache_disk {
	struct gateway *g;
	char *dir, *database_dir;
	cache_disk_near_fn *near;
	void *near_arg;

	pthread_mutex_t lock; /* guards down to `counts` */
	pthread_cond_t filled, settled;
	struct list jobs;
	size_t queued_bytes;
	struct loop_timer put_timer; /* for what was put and the thread not woken for */
	bool closing, working, near_wanted;
	enum cache_disk_state state;
	struct cache_disk_limits limits;
	struct cache_shelf index; /* plain struct cache_node, malloc'ed */
	struct cache_disk_flush *flushes;
	struct cache_disk_counts counts;

	pthread_t thread;
	bool started;

	/* The thread's. */
	leveldb_options_t *options;
	leveldb_readoptions_t *checked;
	leveldb_writeoptions_t *plain;
	leveldb_t *db;
	leveldb_iterator_t *near_it;
	uint64_t retry_ns, pause_ns, sweep_ns;
	size_t sweep_bucket;
	char aside[512]; /* where a damaged one was put, "" */
};

void *cache_disk_main(void *disk);
/* With the lock held: those that are beyond the limits, out of the index and before `chain`. */
struct cache_node *cache_disk_evict(struct cache_disk *d, struct cache_node *chain);
void cache_disk_free_nodes(struct cache_node *chain);
/* With the lock held: empties the index. */
void cache_disk_forget(struct cache_disk *d);
struct cache_disk_job *cache_disk_job_free(struct cache_disk_job *job); /* not of a READ */
/* With the lock held: the node with that id and serial (0: any), or NULL. */
struct cache_node *cache_disk_node(
	const struct cache_disk *d, const struct cache_id *id, uint64_t serial);
/* Lets the loop have what was read. */
void cache_disk_answer(struct cache_disk_read *r);
/* With the lock held. */
void cache_disk_note_flush(struct cache_disk *d, const char *user, uint64_t below);

#endif
