/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_KNOWN_H
#define GATEWAY_CACHE_KNOWN_H

/* Stored prompts by their meaning. Not locked, and the answers are elsewhere. */

#include "gateway/agree.h"
#include "gateway/cache_key.h"

struct cache_known;

struct cache_known_prompt { /* borrowed for the call, but for a reference of text */
	struct cache_id id;
	uint64_t serial, stored_s;
	const char *user, *scope;
	size_t scope_len;
	struct text *text;
	const float *vector; /* [dim], of unit length */
	size_t dim;
};

struct cache_near { /* where the answer is */
	struct cache_id id;
	uint64_t serial;
	double score;
};
enum { CACHE_NEAR_MAX = 4 };

struct cache_neighbour { /* for a person */
	struct cache_near near;
	bool same_scope;
	enum agree_reason reason;
	char user[TEXT_NAME_SIZE];
	struct text *prompt; /* new reference */
};

struct cache_known_counts {
	size_t n, n_scopes, bytes;
	uint64_t refused; /* searches that found what was near enough, but did not agree */
};

struct cache_known *cache_known_new(void);                   /* NULL when memory is out */
struct cache_known *cache_known_free(struct cache_known *s); /* accepts NULL, returns NULL */

/* In the place of an older one with the same id, of those that were not used longest when there are
 * too many, and of all when their vectors have another dimension; if not `replaces`, only into
 * room that is there. */
void cache_known_learn(struct cache_known *s, const struct cache_known_prompt *p, bool replaces);
void cache_known_forget(struct cache_known *s, const struct cache_id *id, uint64_t serial);
void cache_known_flush(struct cache_known *s, const char *user, uint64_t below);
void cache_known_forget_all(struct cache_known *s);
void cache_known_limit(struct cache_known *s, size_t n_max);

/* Those of the scope that are so near and agree, best first; they count as used. How many. */
size_t cache_known_search(struct cache_known *s, const struct buf *scope,
	const struct agree_sign *sign, const float *vector, size_t dim, double threshold,
	struct cache_near near[CACHE_NEAR_MAX]);
/* The nearest of an owner's, whatever their scope, best first. How many. */
size_t cache_known_nearest(struct cache_known *s, const struct buf *scope,
	const struct cache_key *owner, const struct agree_sign *sign, const float *vector,
	size_t dim, struct cache_neighbour *out, size_t n_max);
void cache_known_count(const struct cache_known *s, struct cache_known_counts *out);

#endif
