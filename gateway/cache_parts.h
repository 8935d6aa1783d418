/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_PARTS_H
#define GATEWAY_CACHE_PARTS_H

/* The cache object, for cache.c (requests) and cache_views.c. */

#include "gateway/cache.h"
#include "gateway/cache_disk.h"
#include "gateway/cache_flight.h"
#include "gateway/cache_memory.h"
#include "gateway/cache_semantic.h"
#include "gateway/cache_settings.h"
#include "gateway/cache_shelf.h"
#include "gateway/embedding.h"
#include "gateway/money.h"

enum { CACHE_FLUSHES_KEPT = 32 };

struct cache_flushed {
	uint64_t below;
	char user[TEXT_NAME_SIZE];
};

/* Each counted with the lock held. */
struct cache_numbers {
	uint64_t hits[CACHE_FLIGHT + 1], misses, stored, passed;
	uint64_t embeddings_failed, embedding_tok;
	money saved;
};

struct cache {
	struct gateway *g; /* borrowed */

	pthread_mutex_t setting_lock; /* one setting after another, with all it does */
	pthread_mutex_t lock;         /* guards down to `numbers` */
	struct cache_settings settings;
	struct cache_memory *memory;
	uint64_t last_serial, last_flush; /* serials */
	/* What is stored for a request with a serial below these is thrown away: of everybody, and
	 * of the users that were flushed last. */
	uint64_t flushed_all;
	struct cache_flushed flushed[CACHE_FLUSHES_KEPT];
	size_t n_flushed;
	struct cache_numbers numbers;

	struct cache_disk *disk;
	struct cache_semantic *semantic;

	struct cache_flights *flights; /* the loop's */
	bool embedding_reported;       /* the loop's */
};

/* With the lock held. Greater than all before, also those of earlier runs, unless the clock went
 * back. */
uint64_t cache_serial(struct cache *c);
/* The scope of a semantic hit, whole: that of an ask (scope_len bytes of its key), with the model
 * and whose it is. 0 or -ENOMEM. */
int cache_near_scope(struct buf *out, const char *scope, size_t len, const char *model,
	const struct cache_key *key);

#endif
