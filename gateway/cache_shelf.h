/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_SHELF_H
#define GATEWAY_CACHE_SHELF_H

/* Entries by their digest, by how long ago they were used, and by whose they are. Not locked, and
 * it owns no entry: struct cache_node is a part of what is kept. */

#include "base/list.h"
#include "gateway/cache_key.h"
#include "gateway/table.h"

struct cache_owner;

struct cache_node {
	struct cache_node *next;   /* of the same bucket */
	struct list used, owned;   /* by use; of its owner */
	struct cache_owner *owner; /* who stored it */
	struct cache_id id;
	uint64_t serial;   /* of the request that it was stored for: never twice */
	uint64_t stored_s; /* since 1970 */
	size_t bytes;      /* what it counts as */
};

struct cache_shelf {
	struct cache_node **buckets; /* [n_buckets], a power of two */
	size_t n_buckets, n, bytes;
	uint64_t salt;
	struct list used; /* least recently used first */
	struct table owners;
};

/* 0 or -ENOMEM. */
int cache_shelf_init(struct cache_shelf *s);
/* It must be empty, or its nodes be the caller's to free. */
void cache_shelf_end(struct cache_shelf *s);

/* Adds a node with id, serial, stored_s and bytes filled in, as the one used last. 0 or -ENOMEM. */
int cache_shelf_add(struct cache_shelf *s, struct cache_node *node, const char *user);
void cache_shelf_remove(struct cache_shelf *s, struct cache_node *node);
void cache_shelf_bump(struct cache_shelf *s, struct cache_node *node);
/* The first one with that digest, or the next behind `after`; NULL. */
struct cache_node *cache_shelf_find(
	const struct cache_shelf *s, const struct cache_id *id, const struct cache_node *after);
/* The one that was not used longest, or NULL. */
struct cache_node *cache_shelf_oldest(const struct cache_shelf *s);
const char *cache_shelf_user(const struct cache_node *node); /* borrows, until it is removed */
/* Takes all nodes of a user (NULL: all) with a serial below that one off, chained by `next`. */
struct cache_node *cache_shelf_take(struct cache_shelf *s, const char *user, uint64_t below);

/* What was stored before that is too old now. ttl 0: nothing is. */
uint64_t cache_shelf_not_before_s(uint64_t ttl_s);

#endif
