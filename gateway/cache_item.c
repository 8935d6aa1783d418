/* SPDX-License-Identifier: Apache-2.0 */
/* One object for those that keep an answer (L2, L3), so that none of them waits for, or copies
 * from, the other. */
#include "gateway/cache_item.h"

#include <stdlib.h>

struct cache_item *cache_item_new(void)
{
	struct cache_item *i = calloc(1, sizeof *i);
	if (i)
		atomic_init(&i->refs, 1);
	return i;
}

struct cache_item *cache_item_ref(struct cache_item *i)
{
	atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
	return i;
}

struct cache_item *cache_item_put(struct cache_item *i)
{
	if (!i || atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	text_put(i->answer.text);
	text_put(i->prompt);
	buf_free(&i->key);
	buf_free(&i->scope);
	free(i->vector);
	free(i);
	return NULL;
}

size_t cache_item_bytes(const struct cache_item *i)
{
	static const size_t others = 400; /* heads and keys of three records */
	return others + i->key.len + i->answer.text->len +
	       (i->dim ? i->scope.len + i->prompt->len + i->dim * sizeof(float) : 0);
}
