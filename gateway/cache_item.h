/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_ITEM_H
#define GATEWAY_CACHE_ITEM_H

/* An answer as the levels of the cache keep it: immutable, reference counted, any thread. */

#include "gateway/cache_key.h"

struct cache_answer {
	struct text *text;
	char finish[8];
	uint64_t prompt_tok, output_tok;
	uint64_t serial, stored_s;
};

/* One allocation, as there is one of each answer in memory for as long as it is kept. */
struct cache_item {
	atomic_uint refs;
	struct cache_id id;
	struct cache_answer answer; /* a reference of its text */
	size_t key_len;
	const char *user; /* who asked: a C string behind the key */
	char key[];       /* [key_len], whole */
};

/* What it is found by when another prompt is near. Its own, as it is not kept where answers are. */
struct cache_prompt {
	atomic_uint refs;
	struct cache_item *item; /* a reference */
	struct buf scope;        /* whole: with the owner and the model */
	char model[TEXT_NAME_SIZE];
	struct text *text; /* a reference */
	float *vector;     /* [dim] */
	size_t dim;
};

/* The key is `key` and behind it `rest`. New references of *answer's text; NULL when memory is
 * out. */
struct cache_item *cache_item_new(const struct cache_id *id, const char *key, size_t key_len,
	const char *rest, size_t rest_len, const char *user, const struct cache_answer *answer);
struct cache_item *cache_item_ref(struct cache_item *i);
struct cache_item *cache_item_put(struct cache_item *i); /* accepts NULL, returns NULL */
/* What it counts as in memory, and on disk with its prompt (NULL: it has none). */
size_t cache_item_bytes(const struct cache_item *i);
size_t cache_item_disk_bytes(const struct cache_item *i, const struct cache_prompt *p);

/* Of that item (a new reference), the rest zeroed, to be filled in; NULL when memory is out. */
struct cache_prompt *cache_prompt_new(struct cache_item *i);
struct cache_prompt *cache_prompt_ref(struct cache_prompt *p); /* accepts NULL */
struct cache_prompt *cache_prompt_put(struct cache_prompt *p); /* accepts NULL, returns NULL */

#endif
