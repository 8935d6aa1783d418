/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_SEMANTIC_H
#define GATEWAY_CACHE_SEMANTIC_H

/* L3: which stored prompt is near enough to another one, and agrees with it. It knows prompts and
 * where their answers are, not the answers. Any thread, but for what it says. */

#include "gateway/cache_item.h"
#include "gateway/cache_known.h"
#include "gateway/cache_record.h"
#include "gateway/core.h"

struct cache_semantic;
struct cache_search;

/* Longer prompts have no vector that says what is at their end. */
#define CACHE_PROMPT_MAX ((size_t)2000)

/* new *out; begins without a model. Borrows g. */
int cache_semantic_new(struct cache_semantic **out, struct gateway *g, struct err *err);
/* Ends its thread. Accepts NULL, returns NULL. */
struct cache_semantic *cache_semantic_free(struct cache_semantic *s);

/* Another embedding model ("": none): what is known is forgotten. At most n_max prompts. */
void cache_semantic_model(struct cache_semantic *s, const char *model);
void cache_semantic_limit(struct cache_semantic *s, size_t n_max);

/* Learns the prompt, in the place of one with the same id, some time soon, on a thread of its own;
 * takes a reference. */
void cache_semantic_add(struct cache_semantic *s, struct cache_prompt *prompt);
/* Learns what L2 has. On L2's thread. */
void cache_semantic_load(
	struct cache_semantic *s, const struct cache_id *id, const struct cache_record *record);
/* It has no answer any more. */
void cache_semantic_drop(struct cache_semantic *s, const struct cache_id *id, uint64_t serial);
/* Forgets what user (NULL: everybody) stored with a serial below that one. Not at once: on its
 * thread. What it finds meanwhile has no answer. */
void cache_semantic_flush(struct cache_semantic *s, const char *user, uint64_t below);

/* Those of the scope that are so near and agree, best first, at most CACHE_NEAR_MAX: done comes on
 * the loop. new *out until then; takes vector (malloc'ed) and scope (a buf's) over, reads prompt
 * only for the call. On the loop. -ENOMEM. */
typedef void cache_search_done_fn(void *arg, const struct cache_near *near, size_t n);
int cache_semantic_search(struct cache_semantic *s, struct buf *scope, const char *prompt,
	size_t prompt_len, float *vector, size_t dim, double threshold, cache_search_done_fn *done,
	void *arg, struct cache_search **out);
/* done does not come. On the loop. Accepts NULL, returns NULL. */
struct cache_search *cache_search_cancel(struct cache_search *q);

/* For a person: cache_known_nearest. */
size_t cache_semantic_nearest(struct cache_semantic *s, const struct buf *scope,
	const struct cache_key *owner, const char *prompt, size_t prompt_len, const float *vector,
	size_t dim, struct cache_neighbour *out, size_t n_max);

void cache_semantic_count(struct cache_semantic *s, struct cache_known_counts *out);
/* For tests: waits until what was added is known. Not on the loop. */
void cache_semantic_settle(struct cache_semantic *s);

#endif
