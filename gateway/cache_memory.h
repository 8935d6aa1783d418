/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_MEMORY_H
#define GATEWAY_CACHE_MEMORY_H

/* L1: answers in memory, up to so many bytes. Not locked: the cache's lock guards it. */

#include "gateway/cache_item.h"

struct cache_memory;

struct cache_memory_counts {
	size_t n, bytes;
	uint64_t evicted, expired;
};

struct cache_memory *cache_memory_new(size_t max_bytes);        /* NULL when memory is out */
struct cache_memory *cache_memory_free(struct cache_memory *m); /* accepts NULL, returns NULL */

/* True: *out, with a new reference of the text; it counts as used. One that was stored before
 * not_before_s is removed. Allocates nothing. */
bool cache_memory_find(struct cache_memory *m, const struct cache_key *key, uint64_t not_before_s,
	struct cache_answer *out);
/* The one that was stored with that serial. */
bool cache_memory_find_serial(struct cache_memory *m, const struct cache_id *id, uint64_t serial,
	uint64_t not_before_s, struct cache_answer *out);
/* As cache_memory_find, but that it leaves no trace; the text is not referenced. */
bool cache_memory_peek(
	const struct cache_memory *m, const struct cache_key *key, struct cache_answer *out);
bool cache_memory_peek_serial(const struct cache_memory *m, const struct cache_id *id,
	uint64_t serial, struct cache_answer *out);
/* Keeps it (a new reference), in the place of one with the same key. What is larger than a quarter
 * of the whole is not kept. */
void cache_memory_put(struct cache_memory *m, struct cache_item *item);
void cache_memory_limit(struct cache_memory *m, size_t max_bytes);
/* What user (NULL: everybody) stored with a serial below that one. */
void cache_memory_flush(struct cache_memory *m, const char *user, uint64_t below);
void cache_memory_count(const struct cache_memory *m, struct cache_memory_counts *out);

#endif
