/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry is one allocation with its key behind it, and a reference of the answer's text, which is
 * the one that its conversation and its readers hold. So a hit is a look-up, a comparison of the
 * key and a reference.
 */
#include "gateway/cache_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cache_shelf.h"

struct entry {
	struct cache_node node;
	struct cache_answer answer;
	size_t key_len;
	char key[]; /* [key_len] */
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
	text_put(e->answer.text);
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

static bool give(
	struct cache_memory *m, struct entry *e, uint64_t not_before_s, struct cache_answer *out)
{
	if (e->node.stored_s < not_before_s) {
		m->expired++;
		drop(m, e);
		return false;
	}
	cache_shelf_bump(&m->shelf, &e->node);
	*out = e->answer;
	text_ref(out->text);
	return true;
}

bool cache_memory_find(struct cache_memory *m, const struct cache_key *key, uint64_t not_before_s,
	struct cache_answer *out)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, &key->id, node))) {
		struct entry *e = entry_of(node);
		if (cache_key_is(key, e->key, e->key_len))
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
		if (!cache_key_is(key, e->key, e->key_len))
			continue;
		*out = e->answer;
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
		*out = entry_of(node)->answer;
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

void cache_memory_put(struct cache_memory *m, const struct cache_id *id, const char *whole,
	size_t whole_len, const char *user, const struct cache_answer *answer)
{
	struct cache_node *node = NULL;
	while ((node = cache_shelf_find(&m->shelf, id, node))) {
		struct entry *old = entry_of(node);
		if (old->key_len != whole_len || memcmp(old->key, whole, whole_len))
			continue;
		drop(m, old);
		break;
	}
	size_t bytes = sizeof(struct entry) + whole_len + sizeof *answer->text + answer->text->len;
	struct entry *e = bytes <= m->max_bytes / 4 ? malloc(sizeof *e + whole_len) : NULL;
	if (!e)
		return;
	e->answer = *answer;
	text_ref(e->answer.text);
	e->key_len = whole_len;
	memcpy(e->key, whole, whole_len);
	e->node = (struct cache_node){
		.id = *id, .serial = answer->serial, .stored_s = answer->stored_s, .bytes = bytes};
	if (cache_shelf_add(&m->shelf, &e->node, user) < 0)
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
