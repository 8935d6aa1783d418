/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways to the same result. A word of a few letters is kept in an array, the best pair is found
 * by looking at all of them, and the array closes up: quadratic, and the fastest there is for five
 * letters. A long word (a megabyte without a space is one) goes through a heap over a linked list.
 * A heap entry is not taken out when its pair is gone: it is recognised when it comes up, because a
 * piece only ever grows, so the lengths it remembers no longer add up.
 */
#include "engine/merge.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SHORT_WORD 48

struct candidate {
	uint32_t id;  /* what the pair becomes, or MERGE_NONE */
	uint32_t key; /* UINT32_MAX when there is none */
};

/* ---- short words ---- */

static struct candidate look_up(const struct merge_piece *left, const struct merge_piece *right,
	merge_pair_fn *pair, const void *arg)
{
	struct candidate c = {.key = UINT32_MAX};

	c.id = pair(arg, left, right, &c.key);
	return c;
}

static long merge_short(struct merge_piece *p, size_t n, merge_pair_fn *pair, const void *arg)
{
	struct candidate c[SHORT_WORD]; /* c[i]: p[i] with p[i + 1] */

	for (size_t i = 0; i + 1 < n; i++)
		c[i] = look_up(&p[i], &p[i + 1], pair, arg);
	while (n > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			if (c[i].id != MERGE_NONE &&
				(c[best].id == MERGE_NONE || c[i].key < c[best].key))
				best = i;
		if (c[best].id == MERGE_NONE)
			break;
		p[best].id = c[best].id;
		p[best].len += p[best + 1].len;
		n--;
		memmove(&p[best + 1], &p[best + 2], (n - best - 1) * sizeof(*p));
		if (best + 1 < n) {
			memmove(&c[best + 1], &c[best + 2], (n - best - 2) * sizeof(*c));
			c[best] = look_up(&p[best], &p[best + 1], pair, arg);
		}
		if (best > 0)
			c[best - 1] = look_up(&p[best - 1], &p[best], pair, arg);
	}
	return (long)n;
}

/* ---- long words ---- */

struct entry {
	uint32_t key, left, id;
	uint32_t len; /* of both pieces together, when the entry was made */
};

struct heap {
	struct entry *entries;
	size_t n, cap;
};

struct word {
	struct merge_piece *pieces; /* len 0: gone */
	uint32_t *previous, *next;  /* [n]; MERGE_NONE at the ends */
	merge_pair_fn *pair;
	const void *arg;
	struct heap heap;
};

static bool before(const struct entry *a, const struct entry *b)
{
	return a->key != b->key ? a->key < b->key : a->left < b->left;
}

static int heap_push(struct heap *h, struct entry e)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 256;
		struct entry *entries = realloc(h->entries, cap * sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		h->entries = entries;
		h->cap = cap;
	}
	size_t i = h->n++;
	while (i > 0 && before(&e, &h->entries[(i - 1) / 2])) {
		h->entries[i] = h->entries[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->entries[i] = e;
	return 0;
}

static struct entry heap_pop(struct heap *h)
{
	struct entry top = h->entries[0], last = h->entries[--h->n];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && before(&h->entries[child + 1], &h->entries[child]))
			child++;
		if (!before(&h->entries[child], &last))
			break;
		h->entries[i] = h->entries[child];
		i = child;
	}
	h->entries[i] = last;
	return top;
}

static int consider(struct word *w, uint32_t left)
{
	uint32_t right = left == MERGE_NONE ? MERGE_NONE : w->next[left];

	if (right == MERGE_NONE)
		return 0;
	struct candidate c = look_up(&w->pieces[left], &w->pieces[right], w->pair, w->arg);
	if (c.id == MERGE_NONE)
		return 0;
	struct entry e = {c.key, left, c.id, w->pieces[left].len + w->pieces[right].len};
	return heap_push(&w->heap, e);
}

static int join(struct word *w, const struct entry *e)
{
	struct merge_piece *left = &w->pieces[e->left];
	uint32_t right = w->next[e->left];

	if (left->len == 0 || right == MERGE_NONE || left->len + w->pieces[right].len != e->len)
		return 0; /* the pair is gone */
	left->id = e->id;
	left->len = e->len;
	w->pieces[right].len = 0;
	w->next[e->left] = w->next[right];
	if (w->next[right] != MERGE_NONE)
		w->previous[w->next[right]] = e->left;
	int r = consider(w, w->previous[e->left]);
	return r ? r : consider(w, e->left);
}

static int merge_all(struct word *w, size_t n)
{
	int r = 0;

	for (uint32_t i = 0; i < n; i++) {
		w->previous[i] = i ? i - 1 : MERGE_NONE;
		w->next[i] = i + 1 < n ? i + 1 : MERGE_NONE;
	}
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = consider(w, i);
	while (w->heap.n > 0 && r == 0) {
		struct entry e = heap_pop(&w->heap);

		r = join(w, &e);
	}
	return r;
}

static long merge_long(struct merge_piece *p, size_t n, merge_pair_fn *pair, const void *arg)
{
	struct word w = {.pieces = p, .pair = pair, .arg = arg};
	long kept = 0;
	int r = -ENOMEM;

	w.previous = malloc(n * sizeof(*w.previous));
	w.next = malloc(n * sizeof(*w.next));
	if (w.previous && w.next)
		r = merge_all(&w, n);
	free(w.previous);
	free(w.next);
	free(w.heap.entries);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (p[i].len > 0)
			p[kept++] = p[i];
	return kept;
}

long merge_word(struct merge_piece *pieces, size_t n, merge_pair_fn *pair, const void *arg)
{
	if (n < 2)
		return (long)n;
	return n <= SHORT_WORD ? merge_short(pieces, n, pair, arg)
			       : merge_long(pieces, n, pair, arg);
}
