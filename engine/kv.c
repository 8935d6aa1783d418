/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The book of KV blocks.
 *
 * A block is in one of four states: fresh (never used; index >= n_fresh_from), blank (free, nothing
 * worth finding), used (refs > 0), or cached (refs == 0, but published: its content can be found).
 * Blank blocks are a stack, cached ones a list ordered by the time they were let go.
 *
 * A published block is known by its parent's serial number, its ids and its salt. Serial numbers
 * are never used twice, so a block whose parent was evicted can never be taken for the continuation
 * of whatever the parent's place holds now. The hash only chooses the bucket.
 *
 * Invariant: who holds a published block also holds its parent (kv_publish hands out the one
 * published copy, kv_find starts from a parent that is held). As references are given back tail
 * first, a parent is let go after its children and stands behind them in the list: what is evicted
 * never has a findable child.
 *
 * Belongs to the engine's worker thread.
 */
#include "engine/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct block {
	uint64_t hash;
	uint64_t salt;
	uint64_t serial; /* > 0 while published; 0 otherwise */
	uint64_t parent_serial;
	uint32_t ids[KV_BLOCK_TOK];
	uint32_t refs;
	uint32_t chain;      /* next in its bucket */
	uint32_t prev, next; /* cached: neighbours in the list; blank: next in the stack */
};

struct kv {
	struct block *blocks;
	uint32_t *buckets;
	uint32_t n_blocks, n_buckets; /* n_buckets is a power of two */
	uint32_t n_fresh_from;        /* blocks from here on were never used */
	uint32_t n_used, n_cached;
	uint32_t blank;          /* top of the stack of blank blocks */
	uint32_t oldest, newest; /* ends of the list of cached blocks */
	uint64_t last_serial;
	uint64_t root_hash;
	kv_hash_fn *hash;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ b) * 0x9E3779B97F4A7C15u;

	return x ^ (x >> 29) ^ (a << 17 | a >> 47);
}

static uint64_t hash_block(uint64_t parent, const uint32_t ids[KV_BLOCK_TOK], uint64_t salt)
{
	uint64_t h = mix(parent, salt);

	for (int i = 0; i < KV_BLOCK_TOK; i += 2)
		h = mix(h, (uint64_t)ids[i] << 32 | ids[i + 1]);
	return mix(h, h >> 31);
}

struct kv *kv_new(uint32_t n_blocks, kv_hash_fn *hash)
{
	struct kv *kv = calloc(1, sizeof(*kv));

	if (!kv)
		return NULL;
	kv->n_buckets = 16;
	while (kv->n_buckets < n_blocks && kv->n_buckets < 1u << 31)
		kv->n_buckets *= 2;
	kv->n_blocks = n_blocks;
	kv->blocks = calloc(n_blocks, sizeof(*kv->blocks));
	/* A bucket holds index + 1, so that untouched zero pages are empty buckets. */
	kv->buckets = calloc(kv->n_buckets, sizeof(*kv->buckets));
	if (!kv->blocks || !kv->buckets)
		return kv_free(kv);
	kv->blank = kv->oldest = kv->newest = KV_NONE;
	kv->hash = hash ? hash : hash_block;
	/* Nobody outside can choose texts that meet in one bucket. Without randomness it still
	 * works. */
	if (getrandom(&kv->root_hash, sizeof(kv->root_hash), GRND_NONBLOCK) < 0)
		kv->root_hash = 0;
	return kv;
}

struct kv *kv_free(struct kv *kv)
{
	if (!kv)
		return NULL;
	free(kv->blocks);
	free(kv->buckets);
	free(kv);
	return NULL;
}

static uint32_t *bucket_of(struct kv *kv, uint64_t hash)
{
	return &kv->buckets[hash & (kv->n_buckets - 1)];
}

static void list_out(struct kv *kv, uint32_t i)
{
	struct block *b = &kv->blocks[i];

	if (b->prev != KV_NONE)
		kv->blocks[b->prev].next = b->next;
	else
		kv->oldest = b->next;
	if (b->next != KV_NONE)
		kv->blocks[b->next].prev = b->prev;
	else
		kv->newest = b->prev;
	kv->n_cached--;
}

static void list_in(struct kv *kv, uint32_t i)
{
	struct block *b = &kv->blocks[i];

	b->prev = kv->newest;
	b->next = KV_NONE;
	if (kv->newest != KV_NONE)
		kv->blocks[kv->newest].next = i;
	else
		kv->oldest = i;
	kv->newest = i;
	kv->n_cached++;
}

/* Its content can no longer be found. */
static void unpublish(struct kv *kv, uint32_t i)
{
	struct block *b = &kv->blocks[i];
	uint32_t *at = bucket_of(kv, b->hash);

	while (*at != i + 1)
		at = &kv->blocks[*at - 1].chain;
	*at = b->chain;
	b->serial = 0;
}

uint32_t kv_alloc(struct kv *kv)
{
	uint32_t i;

	if (kv->blank != KV_NONE) {
		i = kv->blank;
		kv->blank = kv->blocks[i].next;
	} else if (kv->n_fresh_from < kv->n_blocks) {
		i = kv->n_fresh_from++;
	} else if (kv->oldest != KV_NONE) {
		i = kv->oldest;
		list_out(kv, i);
		unpublish(kv, i);
	} else {
		return KV_NONE;
	}
	kv->blocks[i].refs = 1;
	kv->n_used++;
	return i;
}

static uint64_t parent_hash(const struct kv *kv, uint32_t parent)
{
	return parent == KV_NONE ? kv->root_hash : kv->blocks[parent].hash;
}

static uint64_t parent_serial(const struct kv *kv, uint32_t parent)
{
	return parent == KV_NONE ? 0 : kv->blocks[parent].serial;
}

/* The published block of this content, or KV_NONE. Takes no reference. */
static uint32_t look_up(struct kv *kv, uint64_t hash, uint32_t parent,
	const uint32_t ids[KV_BLOCK_TOK], uint64_t salt)
{
	for (uint32_t at = *bucket_of(kv, hash); at; at = kv->blocks[at - 1].chain) {
		const struct block *b = &kv->blocks[at - 1];

		if (b->hash == hash && b->parent_serial == parent_serial(kv, parent) &&
			b->salt == salt && !memcmp(b->ids, ids, sizeof(b->ids)))
			return at - 1;
	}
	return KV_NONE;
}

static void take(struct kv *kv, uint32_t i)
{
	if (kv->blocks[i].refs++ == 0) {
		list_out(kv, i);
		kv->n_used++;
	}
}

static void release_one(struct kv *kv, uint32_t i)
{
	struct block *b = &kv->blocks[i];

	assert(b->refs > 0);
	if (--b->refs)
		return;
	kv->n_used--;
	if (b->serial) {
		list_in(kv, i);
	} else {
		b->next = kv->blank;
		kv->blank = i;
	}
}

uint32_t kv_find(struct kv *kv, uint32_t parent, const uint32_t ids[KV_BLOCK_TOK], uint64_t salt)
{
	uint64_t hash = kv->hash(parent_hash(kv, parent), ids, salt);
	uint32_t i = look_up(kv, hash, parent, ids, salt);

	if (i != KV_NONE)
		take(kv, i);
	return i;
}

uint32_t kv_publish(struct kv *kv, uint32_t block, uint32_t parent,
	const uint32_t ids[KV_BLOCK_TOK], uint64_t salt)
{
	uint64_t hash = kv->hash(parent_hash(kv, parent), ids, salt);
	struct block *b = &kv->blocks[block];
	uint32_t other = look_up(kv, hash, parent, ids, salt);
	uint32_t *bucket = bucket_of(kv, hash);

	assert(b->refs == 1 && !b->serial);
	assert(parent == KV_NONE || kv->blocks[parent].serial);
	if (other != KV_NONE) {
		take(kv, other);
		release_one(kv, block);
		return other;
	}
	b->hash = hash;
	b->salt = salt;
	b->serial = ++kv->last_serial;
	b->parent_serial = parent_serial(kv, parent);
	memcpy(b->ids, ids, sizeof(b->ids));
	b->chain = *bucket;
	*bucket = block + 1;
	return block;
}

void kv_release(struct kv *kv, const uint32_t *blocks, uint32_t n)
{
	while (n > 0)
		release_one(kv, blocks[--n]);
}

uint32_t kv_n_total(const struct kv *kv)
{
	return kv->n_blocks;
}

uint32_t kv_n_used(const struct kv *kv)
{
	return kv->n_used;
}

uint32_t kv_n_cached(const struct kv *kv)
{
	return kv->n_cached;
}
