/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for the database for a second is mostly written anew by each request: an account, a
 * session. Only the last of each counts, and the database need not see the others. Their order does
 * not matter any more when each key is there once.
 */
#include "gateway/store_group.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/digest.h"

struct change {
	const char *key, *value; /* borrowed from the batch; value NULL: a deletion */
	size_t key_len, value_len;
};

struct latest {
	struct change *places; /* [cap], by the key's hash; key NULL: free */
	size_t cap;            /* a power of two; more than there are changes */
};

static uint64_t hash(const char *bytes, size_t n)
{
	struct digest d;
	digest_of(&d, bytes, n, "", 0);
	return d.a;
}

static void note(struct latest *l, const struct change *c)
{
	size_t i = hash(c->key, c->key_len) & (l->cap - 1);
	for (const struct change *at = &l->places[i]; at->key; at = &l->places[i]) {
		if (at->key_len == c->key_len && !memcmp(at->key, c->key, c->key_len))
			break;
		i = (i + 1) & (l->cap - 1);
	}
	l->places[i] = *c;
}

static void note_put(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	note(arg, &(struct change){key, value, key_len, value_len});
}

static void note_deletion(void *arg, const char *key, size_t key_len)
{
	note(arg, &(struct change){key, NULL, key_len, 0});
}

static void count_put(void *n, const char *key, size_t key_len, const char *value, size_t value_len)
{
	++*(size_t *)n;
}

static void count_deletion(void *n, const char *key, size_t key_len)
{
	++*(size_t *)n;
}

void store_group_latest(leveldb_writebatch_t *to, const leveldb_writebatch_t *all)
{
	size_t n = 0;
	struct latest l = {.cap = 16};
	leveldb_writebatch_iterate(all, &n, count_put, count_deletion);
	while (l.cap < 2 * n)
		l.cap *= 2;
	l.places = calloc(l.cap, sizeof *l.places);
	if (!l.places) {
		leveldb_writebatch_append(to, all);
		return;
	}
	leveldb_writebatch_iterate(all, &l, note_put, note_deletion);
	for (size_t i = 0; i < l.cap; i++) {
		const struct change *c = &l.places[i];
		if (c->key && c->value)
			leveldb_writebatch_put(to, c->key, c->key_len, c->value, c->value_len);
		else if (c->key)
			leveldb_writebatch_delete(to, c->key, c->key_len);
	}
	free(l.places);
}
