/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rules have found in a text, and what is told of it.
 *
 * A hit is certain as soon as it is added. It is told, as a finding, once no rule can find anything
 * before it: so findings are in the order of where they begin (of equals: of the rules), whatever
 * the pieces of the text were. A block comes last, because nothing is found behind it.
 *
 * Of very many findings the first say enough; the block is told in any case.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { TOLD_MAX = 10000 };

int guard_hits_add(struct guard_hits *h, const struct guard_hit *hit)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 16;
		struct guard_hit *p = realloc(h->hit, cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		h->hit = p;
		h->cap = cap;
	}
	h->hit[h->n++] = *hit;
	return 0;
}

static int by_place(const void *x, const void *y)
{
	const struct guard_hit *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return (a->rank > b->rank) - (a->rank < b->rank);
}

const struct guard_hit *guard_hits_blocking(const struct guard_hits *h)
{
	const struct guard_hit *first = NULL;

	for (size_t i = 0; i < h->n; i++)
		if (h->hit[i].blocks && (!first || by_place(&h->hit[i], first) < 0))
			first = &h->hit[i];
	return first;
}

struct guard_finding guard_hits_finding(const struct guard_hit *h, bool block)
{
	return (struct guard_finding){
		.action = block ? GUARD_BLOCK : h->rule->action,
		.file = h->rule->file,
		.rule = h->rule->name,
		.why = h->why,
		.offset = h->a,
		.len = h->b - h->a,
	};
}

static int tell_one(struct guard_told *t, const struct guard_hit *h, bool block)
{
	if (t->n >= TOLD_MAX && !block)
		return 0;
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 4;
		struct guard_finding *f = realloc(t->finding, cap * sizeof(*f));
		if (!f)
			return -ENOMEM;
		t->finding = f;
		t->cap = cap;
	}
	t->finding[t->n++] = guard_hits_finding(h, block);
	return 0;
}

int guard_hits_tell(struct guard_hits *h, size_t until, struct guard_told *t)
{
	size_t n = 0;
	int r = 0;

	if (!h->n)
		return 0;
	qsort(h->hit, h->n, sizeof(*h->hit), by_place);
	for (; n < h->n && h->hit[n].a < until && r == 0; n++)
		r = tell_one(t, &h->hit[n], false);
	h->n -= n;
	memmove(h->hit, h->hit + n, h->n * sizeof(*h->hit));
	return r;
}

int guard_hits_tell_block(struct guard_hits *h, struct guard_told *t)
{
	struct guard_hit last = *guard_hits_blocking(h);
	size_t n = 0;
	int r;

	for (size_t i = 0; i < h->n; i++)
		if (!h->hit[i].blocks)
			h->hit[n++] = h->hit[i];
	h->n = n;
	r = guard_hits_tell(h, SIZE_MAX, t);
	if (r == 0)
		r = tell_one(t, &last, true);
	return r < 0 ? r : 1;
}
