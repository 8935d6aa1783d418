/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry is a reference of an item, whose text is the one that its conversation and its readers
 * hold. So a hit is a look-up, a comparison of the key and a reference.
 */
#include "gateway/cache_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cache_shelf.h"

struct entry {
	struct cache_node node;
	struct cache_item *item;
};

struct cache_memory {
	struct cache_shelf shelf;
	size_t max_bytes;
	uint64_t evicted, expired;
};

static struct entry *entry_of(struct cache_node *node)
{
	return list_entry(node, struct entry, node);
}

static void entry_free(struct entry *e)
{
	cache_item_put(e->item);
	free(e);
}

struct cache_memory *cache_memory_new(size_t max_bytes)
{
	struct cache_memory *m = calloc(1, sizeof *m);
	if (m && cache_shelf_init(&m->shelf) < 0) {
		free(m);
		m = NULL;
	}
	if (m)
		m->max_bytes = max_bytes;
	return m;
}

struct cache_memory *cache_memory_free(struct cache_memory *m)
{
	if (!m)
		return NULL;
	cache_memory_flush(m, NULL, UINT64_MAX);
	cache_shelf_end(&m->shelf);
	free(m);
	return NULL;
}

static void drop(struct cache_memory *m, struct entry *e)
{
	cache_shelf_remove(&m->shelf, &e->node);
	entry_free(e);
}

static bool is_of(const struct entry *e, const struct cache_key *key)
{
	return cache_key_is(key, e->item->key, e->item->key_len);
}

static bool give(
	struct cache_memory *m, struct entry *e, uint64_t not_before_s, struct cache_answer *out)
{
	if (e->node.stored_s < not_before_s) {
		m->expired++;
		drop(m, e);
		return false;
	}
	cache_shelf_bump(&m->shelf, &e->node);
	*out = e->item->answer;
	text_ref(out->text);
	return true;
}

bool cache_memory_find(struct cache_memory *m, const struct cache_key *key, uint64_t not_before_s,
	struct cache_answer *out)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, &key->id, node))) {
		struct entry *e = entry_of(node);
		if (is_of(e, key))
			return give(m, e, not_before_s, out);
	}
	return false;
}

bool cache_memory_find_serial(struct cache_memory *m, const struct cache_id *id, uint64_t serial,
	uint64_t not_before_s, struct cache_answer *out)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, id, node)))
		if (node->serial == serial)
			return give(m, entry_of(node), not_before_s, out);
	return false;
}

bool cache_memory_peek(
	const struct cache_memory *m, const struct cache_key *key, struct cache_answer *out)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, &key->id, node))) {
		const struct entry *e = entry_of(node);
		if (!is_of(e, key))
			continue;
		*out = e->item->answer;
		return true;
	}
	return false;
}

bool cache_memory_peek_serial(const struct cache_memory *m, const struct cache_id *id,
	uint64_t serial, struct cache_answer *out)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, id, node))) {
		if (node->serial != serial)
			continue;
		*out = entry_of(node)->item->answer;
		return true;
	}
	return false;
}

static void evict(struct cache_memory *m)
{
	while (m->shelf.bytes > m->max_bytes) {
		m->evicted++;
		drop(m, entry_of(cache_shelf_oldest(&m->shelf)));
	}
}

void cache_memory_put(struct cache_memory *m, struct cache_item *item)
{
	const struct cache_id *id = &item->id;
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, id, node))) {
		struct entry *old = entry_of(node);
		if (old->item->key_len != item->key_len ||
			memcmp(old->item->key, item->key, item->key_len))
			continue;
		drop(m, old);
		break;
	}
	size_t bytes = sizeof(struct entry) + cache_item_bytes(item);
	struct entry *e = bytes <= m->max_bytes / 4 ? malloc(sizeof *e) : NULL;
	if (!e)
		return;
	e->item = cache_item_ref(item);
	e->node = (struct cache_node){.id = *id,
		.serial = item->answer.serial,
		.stored_s = item->answer.stored_s,
		.bytes = bytes};
	if (cache_shelf_add(&m->shelf, &e->node, item->user) < 0)
		entry_free(e);
	evict(m);
}

void cache_memory_limit(struct cache_memory *m, size_t max_bytes)
{
	m->max_bytes = max_bytes;
	evict(m);
}

void cache_memory_flush(struct cache_memory *m, const char *user, uint64_t below)
{
	struct cache_node *node = cache_shelf_take(&m->shelf, user, below);
	while (node) {
		struct entry *e = entry_of(node);
		node = node->next;
		entry_free(e);
	}
}

void cache_memory_count(const struct cache_memory *m, struct cache_memory_counts *out)
{
	*out = (struct cache_memory_counts){
		.n = m->shelf.n,
		.bytes = m->shelf.bytes,
		.evicted = m->evicted,
		.expired = m->expired,
	};
}
