/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_KEY_H
#define GATEWAY_CACHE_KEY_H

/* What an entry is found by: a text of fields, whose it is, and a digest of both. The fields
 * themselves are appended with cache_key_field (cache.h). */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/text.h"

/* Longer ones are not worth the loop's time: such requests go past the cache. */
#define CACHE_KEY_MAX ((size_t)256 << 10)
#define CACHE_OWNER_SIZE (TEXT_NAME_SIZE + 32)

struct cache_id {
	uint64_t a, b;
};

/* The whole key is body and then owner. */
struct cache_key {
	const char *body; /* borrowed */
	size_t body_len, owner_len;
	char owner[CACHE_OWNER_SIZE];
	struct cache_id id;
};

/* user NULL: everybody's. */
void cache_key_make(struct cache_key *k, const char *body, size_t body_len, const char *user);
/* Whether that is the whole key of *k. */
bool cache_key_is(const struct cache_key *k, const char *whole, size_t len);
/* Whether they are the same, whole. */
bool cache_key_is_same(const struct cache_key *a, const struct cache_key *b);
/* Whether that whole key belongs to the owner of *k. */
bool cache_key_is_owned(const struct cache_key *k, const char *whole, size_t len);
/* A digest of two texts, one behind the other. */
void cache_key_digest(
	struct cache_id *out, const char *one, size_t one_len, const char *two, size_t two_len);

/* Bits of digests that count: all. A test clears them, so that all keys have the same. */
extern atomic_uint_least64_t cache_key_mask;

#endif
