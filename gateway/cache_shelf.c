/* SPDX-License-Identifier: Apache-2.0 */
/* The bookkeeping that the levels have in common. Buckets are chosen by the digest times a random
 * odd number: digests have a fixed key, so somebody may compute many that end alike. */
#include "gateway/cache_shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

struct cache_owner {
	struct list nodes;
	char name[];
};

enum { FIRST_BUCKETS = 256 };

int cache_shelf_init(struct cache_shelf *s)
{
	*s = (struct cache_shelf){.n_buckets = FIRST_BUCKETS};
	list_init(&s->used);
	if (getrandom(&s->salt, sizeof s->salt, 0) < 0)
		s->salt = (uintptr_t)s;
	s->salt |= 1;
	s->buckets = calloc(s->n_buckets, sizeof(struct cache_node *));
	return s->buckets ? 0 : -ENOMEM;
}

void cache_shelf_end(struct cache_shelf *s)
{
	for (size_t i = 0; i < s->owners.n; i++)
		free(s->owners.rows[i].object);
	table_free(&s->owners);
	free(s->buckets);
	*s = (struct cache_shelf){0};
}

static struct cache_node **bucket(const struct cache_shelf *s, const struct cache_id *id)
{
	uint64_t mixed = (id->a ^ (id->b >> 7)) * s->salt;
	return &s->buckets[(mixed >> 32) & (s->n_buckets - 1)];
}

/* Twice as many buckets; what cannot be had is only slower. */
static void grow(struct cache_shelf *s)
{
	struct cache_node **old = s->buckets, **more = calloc(2 * s->n_buckets, sizeof *more);
	size_t n = s->n_buckets;
	if (!more)
		return;
	s->buckets = more;
	s->n_buckets = 2 * n;
	for (size_t i = 0; i < n; i++)
		for (struct cache_node *node = old[i], *next; node; node = next) {
			struct cache_node **at = bucket(s, &node->id);
			next = node->next;
			node->next = *at;
			*at = node;
		}
	free(old);
}

static struct cache_owner *owner_of(struct cache_shelf *s, const char *user)
{
	struct cache_owner *o = table_find(&s->owners, user);
	if (o)
		return o;
	size_t n = strlen(user) + 1;
	o = malloc(sizeof *o + n);
	if (!o)
		return NULL;
	list_init(&o->nodes);
	memcpy(o->name, user, n);
	if (table_add(&s->owners, o->name, o) < 0) {
		free(o);
		return NULL;
	}
	return o;
}

int cache_shelf_add(struct cache_shelf *s, struct cache_node *node, const char *user)
{
	node->owner = owner_of(s, user);
	if (!node->owner)
		return -ENOMEM;
	if (s->n >= s->n_buckets)
		grow(s);
	struct cache_node **at = bucket(s, &node->id);
	node->next = *at;
	*at = node;
	list_init(&node->used);
	list_init(&node->owned);
	list_append(&s->used, &node->used);
	list_append(&node->owner->nodes, &node->owned);
	s->n++;
	s->bytes += node->bytes;
	return 0;
}

void cache_shelf_remove(struct cache_shelf *s, struct cache_node *node)
{
	struct cache_node **at = bucket(s, &node->id);
	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	node->next = NULL;
	list_remove(&node->used);
	list_remove(&node->owned);
	if (list_empty(&node->owner->nodes)) {
		table_remove(&s->owners, node->owner->name);
		free(node->owner);
	}
	node->owner = NULL;
	s->n--;
	s->bytes -= node->bytes;
}

void cache_shelf_bump(struct cache_shelf *s, struct cache_node *node)
{
	list_remove(&node->used);
	list_append(&s->used, &node->used);
}

struct cache_node *cache_shelf_find(
	const struct cache_shelf *s, const struct cache_id *id, const struct cache_node *after)
{
	struct cache_node *node = after ? after->next : *bucket(s, id);
	while (node && (node->id.a != id->a || node->id.b != id->b))
		node = node->next;
	return node;
}

struct cache_node *cache_shelf_oldest(const struct cache_shelf *s)
{
	return list_empty(&s->used) ? NULL : list_entry(s->used.next, struct cache_node, used);
}

const char *cache_shelf_user(const struct cache_node *node)
{
	return node->owner->name;
}

static struct cache_node *take(
	struct cache_shelf *s, struct cache_node *node, struct cache_node *taken)
{
	cache_shelf_remove(s, node);
	node->next = taken;
	return node;
}

struct cache_node *cache_shelf_take(struct cache_shelf *s, const char *user, uint64_t below)
{
	struct cache_node *taken = NULL;
	struct cache_owner *o = user ? table_find(&s->owners, user) : NULL;
	if (!user) {
		list_for_each (link, &s->used) {
			struct cache_node *node = list_entry(link, struct cache_node, used);
			if (node->serial < below)
				taken = take(s, node, taken);
		}
		return taken;
	}
	/* The owner goes with its last node. */
	for (struct list *link = o ? o->nodes.next : NULL; link && link != &o->nodes;) {
		struct cache_node *node = list_entry(link, struct cache_node, owned);
		bool last = link->next == &o->nodes;
		link = link->next;
		if (node->serial < below)
			taken = take(s, node, taken);
		if (last)
			break;
	}
	return taken;
}

uint64_t cache_shelf_not_before_s(uint64_t ttl_s)
{
	uint64_t now_s = clock_real_ns() / 1000000000u;
	return ttl_s && ttl_s < now_s ? now_s - ttl_s : 0;
}
