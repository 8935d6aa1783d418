/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_STORE_H
#define GATEWAY_CACHE_STORE_H

/* The database of L2: opened, written in groups, read in order, and what becomes of it when it does
 * not work. For the thread of L2 alone. */

#include "gateway/cache_disk_parts.h"

enum { CACHE_STORE_KEY_LEN = 17 };

void cache_store_key(
	char key[CACHE_STORE_KEY_LEN], enum cache_record_kind kind, const struct cache_id *id);

/* Opens it, fills the index, and deletes what is too old, too much, or was flushed. True: disk->db
 * is there. False: it was said, and is to be tried again at disk->retry_ns. */
bool cache_store_open(struct cache_disk *d, bool may_set_aside);
void cache_store_close(struct cache_disk *d); /* the index is empty afterwards */

/* NULL: all is well again. */
void cache_store_report(struct cache_disk *d, const char *sentence);
/* Whether a message of LevelDB says that the database, not the disk or our rights, is at fault. */
bool cache_store_is_damage(const char *message);
/* It does not work: closed and said. */
void cache_store_broke(struct cache_disk *d, const char *why);
/* It is damaged: out of the way, and a new one begun. */
void cache_store_set_aside(struct cache_disk *d, const char *why);

/* From the first record of a kind. */
leveldb_iterator_t *cache_store_iterate(struct cache_disk *d, enum cache_record_kind kind);
/* The record where it stands, with its id; false at the end. *good: it can be believed. */
bool cache_store_next(leveldb_iterator_t *it, enum cache_record_kind kind, struct cache_id *id,
	struct cache_record *record, bool *good);

/* Zeroed: an empty one. */
struct cache_store_group {
	leveldb_writebatch_t *batch;
	size_t bytes, n;
};

void cache_store_add(
	struct cache_store_group *g, const struct cache_item *i, const struct cache_prompt *p);
/* Perhaps in several groups: large ones are written at once. */
void cache_store_add_deletes(
	struct cache_disk *d, struct cache_store_group *g, const struct cache_node *chain);
/* Writes it and empties it; a fault is seen to. */
void cache_store_write(struct cache_disk *d, struct cache_store_group *g);
/* Deletes and frees the chain. */
void cache_store_delete(struct cache_disk *d, struct cache_node *chain);

/* What that flush, perhaps those before it too, had to delete is deleted. */
void cache_store_end_flushes(struct cache_disk *d, uint64_t below, bool and_before);

#endif
