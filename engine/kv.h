/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

/*
 * Who holds which block of the KV pool, and which blocks already hold the keys and values of a
 * given prefix. Only numbers are kept here; the rows themselves belong to the model. Every function
 * is O(1) (expected, where it looks something up). One thread at a time.
 */

#include <stdint.h>

#include "engine/model.h"

#define KV_NONE UINT32_MAX

struct kv;

/* Hash of a full block: the hash of the block before it, its token ids, the salt. */
typedef uint64_t kv_hash_fn(uint64_t parent, const uint32_t ids[KV_BLOCK_TOK], uint64_t salt);

/* new; NULL when memory is out. hash NULL: the built-in one, with a random start. n_blocks >= 1.
 * Memory that no block has used yet costs nothing. */
struct kv *kv_new(uint32_t n_blocks, kv_hash_fn *hash);
/* Accepts NULL, returns NULL. */
struct kv *kv_free(struct kv *kv);

/* A block to write to, with one reference; its earlier content can no longer be found. Blocks
 * without content go first, then the findable one that was let go longest ago. KV_NONE when every
 * block is in use. */
uint32_t kv_alloc(struct kv *kv);

/* The block that holds these ids after `parent` (KV_NONE: at position 0), with one more reference;
 * KV_NONE when there is none. Equal means equal ids after the very same parent under the same salt:
 * a hash alone is never believed. The caller holds `parent`. */
uint32_t kv_find(struct kv *kv, uint32_t parent, const uint32_t ids[KV_BLOCK_TOK], uint64_t salt);

/*
 * All rows of `block`, got from kv_alloc, are written: from now on kv_find finds it. Returns the
 * block the caller holds from now on. This is another one when an equal block was published
 * meanwhile; `block` was then released. The caller holds `parent`, which was published before.
 */
uint32_t kv_publish(struct kv *kv, uint32_t block, uint32_t parent,
	const uint32_t ids[KV_BLOCK_TOK], uint64_t salt);

/* Gives the references to blocks[0..n) back, the last one first, so that of a sequence the tail is
 * reused first. Content stays findable until the block is needed. O(n). */
void kv_release(struct kv *kv, const uint32_t *blocks, uint32_t n);

uint32_t kv_n_total(const struct kv *kv);
uint32_t kv_n_used(const struct kv *kv);   /* with a reference */
uint32_t kv_n_cached(const struct kv *kv); /* free, content findable */

#endif
