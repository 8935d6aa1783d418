/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_ITEM_H
#define GATEWAY_CACHE_ITEM_H

/* An answer on its way to where it is kept: immutable, reference counted, any thread. */

#include "gateway/cache_key.h"
#include "gateway/cache_memory.h"

struct cache_item {
	atomic_uint refs;
	struct cache_id id;
	struct cache_answer answer; /* a reference of its text */
	char user[TEXT_NAME_SIZE];  /* who asked */
	struct buf key;             /* whole */
	/* What it is found by when another prompt is near; dim 0: by nothing. */
	struct buf scope; /* whole: with the owner and the model */
	char model[TEXT_NAME_SIZE];
	struct text *prompt;
	float *vector; /* [dim] */
	size_t dim;
};

struct cache_item *cache_item_new(void); /* zeroed, to be filled in; NULL when memory is out */
struct cache_item *cache_item_ref(struct cache_item *i);
struct cache_item *cache_item_put(struct cache_item *i); /* accepts NULL, returns NULL */
/* What it counts as on disk. */
size_t cache_item_bytes(const struct cache_item *i);

#endif
