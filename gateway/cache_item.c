/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One object for those that keep an answer (L1, L2), so that none of them waits for, or copies
 * from, the other. It is all that a request leaves in memory, so it is small and in one piece: a
 * page that is touched for the first time costs more than all that the cache does for a request.
 */
#include "gateway/cache_item.h"

#include <stdlib.h>
#include <string.h>

struct cache_item *cache_item_new(const struct cache_id *id, const char *key, size_t key_len,
	const char *rest, size_t rest_len, const char *user, const struct cache_answer *answer)
{
	size_t user_len = strlen(user);
	struct cache_item *i = malloc(sizeof *i + key_len + rest_len + user_len + 1);
	if (!i)
		return NULL;
	atomic_init(&i->refs, 1);
	i->id = *id;
	i->answer = *answer;
	text_ref(i->answer.text);
	i->key_len = key_len + rest_len;
	if (key_len)
		memcpy(i->key, key, key_len);
	if (rest_len)
		memcpy(i->key + key_len, rest, rest_len);
	memcpy(i->key + i->key_len, user, user_len + 1);
	i->user = i->key + i->key_len;
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
	free(i);
	return NULL;
}

size_t cache_item_bytes(const struct cache_item *i)
{
	return sizeof *i + i->key_len + sizeof *i->answer.text + i->answer.text->len;
}

size_t cache_item_disk_bytes(const struct cache_item *i, const struct cache_prompt *p)
{
	static const size_t others = 400; /* heads and keys of three records */
	return others + i->key_len + i->answer.text->len +
	       (p ? p->scope.len + p->text->len + p->dim * sizeof(float) : 0);
}

struct cache_prompt *cache_prompt_new(struct cache_item *i)
{
	struct cache_prompt *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	p->item = cache_item_ref(i);
	return p;
}

struct cache_prompt *cache_prompt_ref(struct cache_prompt *p)
{
	if (p)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

struct cache_prompt *cache_prompt_put(struct cache_prompt *p)
{
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	cache_item_put(p->item);
	text_put(p->text);
	buf_free(&p->scope);
	free(p->vector);
	free(p);
	return NULL;
}
