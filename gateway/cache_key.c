/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key is fields, each with its name and both lengths before it, so that no two lists of fields
 * make the same bytes. Whose it is is the last field, and of another name when it is everybody's:
 * what was one user's does not become everybody's when `scope` is changed, nor the other way round.
 *
 * The digest finds entries; it does not decide: the whole key is compared. So a collision that
 * somebody computes costs an entry its place, and nothing else.
 */
#include "gateway/cache_key.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "gateway/cache.h"
#include "gateway/digest.h"

atomic_uint_least64_t cache_key_mask = UINT64_MAX;

int cache_key_field(struct buf *to, const char *name, const char *value, size_t len)
{
	uint32_t lens[2] = {(uint32_t)strlen(name), (uint32_t)len};
	if (len > UINT32_MAX)
		return -EFBIG;
	int r = buf_reserve(to, sizeof lens + lens[0] + len);
	if (r < 0)
		return r;
	buf_append(to, lens, sizeof lens);
	buf_append(to, name, lens[0]);
	return len ? buf_append(to, value, len) : 0;
}

void cache_key_digest(
	struct cache_id *out, const char *one, size_t one_len, const char *two, size_t two_len)
{
	struct digest d;
	digest_of(&d, one, one_len, two, two_len);
	uint64_t mask = atomic_load_explicit(&cache_key_mask, memory_order_relaxed);
	*out = (struct cache_id){d.a & mask, d.b & mask};
}

/* ---- whose ---- */

void cache_key_make(struct cache_key *k, const char *body, size_t body_len, const char *user)
{
	const char *name = user ? "owner" : "everybody";
	uint32_t lens[2] = {(uint32_t)strlen(name), user ? (uint32_t)strlen(user) : 0};
	if (lens[1] > TEXT_NAME_MAX)
		lens[1] = TEXT_NAME_MAX; /* names of accounts are never longer */
	k->body = body;
	k->body_len = body_len;
	memcpy(k->owner, lens, sizeof lens);
	memcpy(k->owner + sizeof lens, name, lens[0]);
	if (user)
		memcpy(k->owner + sizeof lens + lens[0], user, lens[1]);
	k->owner_len = sizeof lens + lens[0] + lens[1];
	cache_key_digest(&k->id, body, body_len, k->owner, k->owner_len);
}

bool cache_key_is(const struct cache_key *k, const char *whole, size_t len)
{
	return len == k->body_len + k->owner_len &&
	       (!k->body_len || !memcmp(whole, k->body, k->body_len)) &&
	       !memcmp(whole + k->body_len, k->owner, k->owner_len);
}

bool cache_key_is_same(const struct cache_key *a, const struct cache_key *b)
{
	return a->body_len == b->body_len && a->owner_len == b->owner_len &&
	       (!a->body_len || !memcmp(a->body, b->body, a->body_len)) &&
	       !memcmp(a->owner, b->owner, a->owner_len);
}

bool cache_key_is_owned(const struct cache_key *k, const char *whole, size_t len)
{
	return len >= k->owner_len && !memcmp(whole + len - k->owner_len, k->owner, k->owner_len);
}
