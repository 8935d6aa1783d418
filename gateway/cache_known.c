/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a stored prompt: its vector, what it says in signs (agree.h), its scope, and
 * which answer it has. A scope is everything that must be equal: the other settings, the system
 * prompt, the embedding model, whose it is. Scopes are compared as whole texts and get numbers of
 * their own, so that no two share one by accident; a search sees the vectors of one number only.
 *
 * Near is not enough: "the capital of Austria" is near "the capital of Australia". So what is near
 * must also agree.
 */
#include "gateway/cache_known.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cache_shelf.h"
#include "gateway/vectors.h"

enum { N_BUCKETS = 1024, N_HITS = 16, N_SCOPES_SHOWN = 256 };

struct scope {
	struct scope *next;
	struct cache_id id;
	uint64_t number;
	size_t n; /* prompts in it */
	size_t len;
	char text[]; /* [len] */
};

struct prompt {
	struct cache_node node; /* first */
	struct scope *scope;
	struct agree_sign *sign;
	struct text *prompt;
	size_t slot; /* its vector's id */
};

struct cache_known {
	size_t n_max, dim;
	struct vectors *vectors; /* NULL until the first one is there */
	struct cache_shelf shelf;
	struct scope *scopes[N_BUCKETS];
	uint64_t last_scope;
	size_t n_scopes;
	struct prompt **slots; /* [n_slots] */
	size_t *free_slots;    /* [n_slots], the first n_free of them */
	size_t n_slots, n_free;
	uint64_t refused;
};

/* ---- scopes ---- */

static struct scope **scope_at(struct cache_known *s, const char *text, size_t len)
{
	struct cache_id id;
	cache_key_digest(&id, text, len, "", 0);
	struct scope **at = &s->scopes[id.a % N_BUCKETS];
	while (*at &&
		!((*at)->id.b == id.b && (*at)->len == len && !memcmp((*at)->text, text, len)))
		at = &(*at)->next;
	return at;
}

/* Makes it when there is none; NULL when memory is out. */
static struct scope *scope_make(struct cache_known *s, const char *text, size_t len)
{
	struct scope **at = scope_at(s, text, len);
	if (*at)
		return *at;
	struct scope *fresh = calloc(1, sizeof *fresh + len);
	if (!fresh)
		return NULL;
	cache_key_digest(&fresh->id, text, len, "", 0);
	fresh->number = ++s->last_scope;
	fresh->len = len;
	memcpy(fresh->text, text, len);
	*at = fresh;
	s->n_scopes++;
	return fresh;
}

static void scope_drop_empty(struct cache_known *s, struct scope *scope)
{
	if (scope->n)
		return;
	struct scope **at = &s->scopes[scope->id.a % N_BUCKETS];
	while (*at != scope)
		at = &(*at)->next;
	*at = scope->next;
	s->n_scopes--;
	free(scope);
}

/* ---- prompts ---- */

static void prompt_free(struct prompt *k)
{
	agree_sign_free(k->sign);
	text_put(k->prompt);
	free(k);
}

/* It is off the shelf already. */
static void unlearn(struct cache_known *s, struct prompt *k)
{
	vectors_remove(s->vectors, k->slot);
	s->slots[k->slot] = NULL;
	s->free_slots[s->n_free++] = k->slot;
	k->scope->n--;
	scope_drop_empty(s, k->scope);
	prompt_free(k);
}

static void forget(struct cache_known *s, struct prompt *k)
{
	cache_shelf_remove(&s->shelf, &k->node);
	unlearn(s, k);
}

static void forget_chain(struct cache_known *s, struct cache_node *chain)
{
	while (chain) {
		struct prompt *k = list_entry(chain, struct prompt, node);
		chain = chain->next;
		unlearn(s, k);
	}
}

void cache_known_forget_all(struct cache_known *s)
{
	forget_chain(s, cache_shelf_take(&s->shelf, NULL, UINT64_MAX));
	s->vectors = vectors_free(s->vectors);
	s->dim = 0;
}

static void forget_beyond(struct cache_known *s, size_t n)
{
	while (s->shelf.n > n)
		forget(s, list_entry(cache_shelf_oldest(&s->shelf), struct prompt, node));
}

static int take_slot(struct cache_known *s, struct prompt *k)
{
	if (!s->n_free) {
		size_t more = s->n_slots ? 2 * s->n_slots : 256;
		struct prompt **slots = realloc(s->slots, more * sizeof *slots);
		if (slots)
			s->slots = slots;
		size_t *free_slots =
			slots ? realloc(s->free_slots, more * sizeof *free_slots) : NULL;
		if (!free_slots)
			return -ENOMEM;
		s->free_slots = free_slots;
		while (s->n_slots < more)
			free_slots[s->n_free++] = s->n_slots++;
	}
	k->slot = s->free_slots[--s->n_free];
	s->slots[k->slot] = k;
	return 0;
}

static int add_vector(struct cache_known *s, const struct prompt *k, const float *vector)
{
	int r = vectors_add(s->vectors, k->scope->number, k->slot, vector);
	while (r == -ENOSPC && s->shelf.n) {
		forget_beyond(s, s->shelf.n - 1);
		r = vectors_add(s->vectors, k->scope->number, k->slot, vector);
	}
	return r;
}

static struct prompt *prompt_new(const struct cache_known_prompt *p)
{
	struct prompt *k = calloc(1, sizeof *k);
	if (!k)
		return NULL;
	k->node = (struct cache_node){.id = p->id,
		.serial = p->serial,
		.stored_s = p->stored_s,
		.bytes = sizeof *k + p->text->len};
	k->prompt = text_ref(p->text);
	k->sign = agree_sign_new(p->text->bytes, p->text->len);
	if (!k->sign) {
		prompt_free(k);
		k = NULL;
	}
	return k;
}

/* Steals k. */
static void learn(struct cache_known *s, struct prompt *k, const struct cache_known_prompt *p)
{
	k->scope = scope_make(s, p->scope, p->scope_len);
	if (!k->scope) {
		prompt_free(k);
		return;
	}
	k->scope->n++; /* so that it stays while others go */
	int r = take_slot(s, k);
	if (r == 0 && (r = add_vector(s, k, p->vector)) < 0) {
		s->slots[k->slot] = NULL;
		s->free_slots[s->n_free++] = k->slot;
	}
	if (r == 0 && (r = cache_shelf_add(&s->shelf, &k->node, p->user)) < 0) {
		unlearn(s, k);
		return;
	}
	if (r < 0) {
		k->scope->n--;
		scope_drop_empty(s, k->scope);
		prompt_free(k);
	}
}

void cache_known_learn(struct cache_known *s, const struct cache_known_prompt *p, bool replaces)
{
	struct cache_node *old = cache_shelf_find(&s->shelf, &p->id, NULL);
	bool other = s->vectors && s->dim != p->dim;
	if ((old && old->serial >= p->serial) || !p->dim || p->dim > VECTORS_DIM_MAX || !s->n_max ||
		(!replaces && (other || s->shelf.n >= s->n_max)))
		return;
	if (other)
		cache_known_forget_all(s);
	else if (old)
		forget(s, list_entry(old, struct prompt, node));
	if (!s->vectors)
		s->vectors = vectors_new((uint32_t)p->dim, VECTORS_MAX, SIZE_MAX);
	struct prompt *k = s->vectors ? prompt_new(p) : NULL;
	if (!k)
		return;
	s->dim = p->dim;
	forget_beyond(s, s->n_max - 1);
	learn(s, k, p);
}

void cache_known_forget(struct cache_known *s, const struct cache_id *id, uint64_t serial)
{
	struct cache_node *node = cache_shelf_find(&s->shelf, id, NULL);
	if (node && node->serial == serial)
		forget(s, list_entry(node, struct prompt, node));
}

void cache_known_flush(struct cache_known *s, const char *user, uint64_t below)
{
	forget_chain(s, cache_shelf_take(&s->shelf, user, below));
}

void cache_known_limit(struct cache_known *s, size_t n_max)
{
	s->n_max = n_max < VECTORS_MAX ? n_max : VECTORS_MAX;
	forget_beyond(s, s->n_max);
}

/* ---- searching ---- */

size_t cache_known_search(struct cache_known *s, const struct buf *scope,
	const struct agree_sign *sign, const float *vector, size_t dim, double threshold,
	struct cache_near near[CACHE_NEAR_MAX])
{
	struct vectors_hit hits[N_HITS];
	const struct scope *at = *scope_at(s, scope->data, scope->len);
	size_t n_near = 0;
	if (!at || !s->vectors || dim != s->dim)
		return 0;
	size_t n = vectors_search(s->vectors, at->number, vector, (float)threshold, N_HITS, hits);
	for (size_t i = 0; i < n && n_near < CACHE_NEAR_MAX; i++) {
		struct prompt *k = s->slots[hits[i].id];
		if (agree_compare(sign, k->sign) != AGREE_OK)
			continue;
		near[n_near++] =
			(struct cache_near){k->node.id, k->node.serial, (double)hits[i].score};
		cache_shelf_bump(&s->shelf, &k->node);
	}
	if (n && !n_near)
		s->refused++;
	return n_near;
}

/* One more into the list of the best; n are there. The new n. */
static size_t insert(
	struct cache_neighbour *out, size_t n, size_t n_max, const struct cache_neighbour *one)
{
	size_t at = n;
	while (at && out[at - 1].near.score < one->near.score)
		at--;
	if (at == n_max)
		return n;
	if (n == n_max)
		text_put(out[--n].prompt);
	memmove(out + at + 1, out + at, (n - at) * sizeof *out);
	out[at] = *one;
	text_ref(one->prompt);
	return n + 1;
}

struct looking {
	const struct agree_sign *sign;
	const float *vector;
	struct cache_neighbour *out;
	size_t n, n_max;
};

static void look_in_scope(
	struct cache_known *s, const struct scope *scope, bool same, struct looking *l)
{
	struct vectors_hit hits[N_HITS];
	size_t n = vectors_search(s->vectors, scope->number, l->vector, -1,
		l->n_max < N_HITS ? l->n_max : N_HITS, hits);
	for (size_t i = 0; i < n; i++) {
		const struct prompt *k = s->slots[hits[i].id];
		struct cache_neighbour one = {
			.near = {k->node.id, k->node.serial, (double)hits[i].score},
			.same_scope = same,
			.reason = agree_compare(l->sign, k->sign),
			.prompt = k->prompt,
		};
		snprintf(one.user, sizeof one.user, "%s", cache_shelf_user(&k->node));
		l->n = insert(l->out, l->n, l->n_max, &one);
	}
}

size_t cache_known_nearest(struct cache_known *s, const struct buf *scope,
	const struct cache_key *owner, const struct agree_sign *sign, const float *vector,
	size_t dim, struct cache_neighbour *out, size_t n_max)
{
	struct looking l = {sign, vector, out, 0, n_max};
	size_t seen = 0;
	for (size_t b = 0; s->vectors && s->dim == dim && b < N_BUCKETS; b++)
		for (const struct scope *at = s->scopes[b]; at; at = at->next)
			if (seen < N_SCOPES_SHOWN && cache_key_is_owned(owner, at->text, at->len)) {
				bool same = at->len == scope->len &&
					    !memcmp(at->text, scope->data, at->len);
				look_in_scope(s, at, same, &l);
				seen++;
			}
	return l.n;
}

/* ---- the object ---- */

void cache_known_count(const struct cache_known *s, struct cache_known_counts *out)
{
	struct vectors_stats stats = {0};
	if (s->vectors)
		vectors_count(s->vectors, &stats);
	*out = (struct cache_known_counts){
		s->shelf.n, s->n_scopes, s->shelf.bytes + stats.bytes, s->refused};
}

struct cache_known *cache_known_new(void)
{
	struct cache_known *s = calloc(1, sizeof *s);
	if (s && cache_shelf_init(&s->shelf) < 0) {
		free(s);
		s = NULL;
	}
	if (s)
		s->n_max = VECTORS_MAX;
	return s;
}

struct cache_known *cache_known_free(struct cache_known *s)
{
	if (!s)
		return NULL;
	cache_known_forget_all(s);
	cache_shelf_end(&s->shelf);
	free(s->slots);
	free(s->free_slots);
	free(s);
	return NULL;
}
