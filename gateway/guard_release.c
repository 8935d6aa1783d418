/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be seen of a text: its bytes up to a limit behind which matches may still begin, with
 * redactions carried out. A redaction that ends behind the limit may grow together with a later
 * match, so the text is held back from its beginning on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

static int by_place(const void *x, const void *y)
{
	const struct guard_cut *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return (a->rank > b->rank) - (a->rank < b->rank);
}

int guard_release_add(struct guard_release *r, const struct guard_hits *hits, size_t first)
{
	size_t before = r->n;

	for (size_t i = first; i < hits->n; i++) {
		const struct guard_hit *h = &hits->hit[i];
		if (h->rule->action != GUARD_REDACT || h->b == h->a)
			continue;
		if (r->n == r->cap) {
			size_t cap = r->cap ? 2 * r->cap : 8;
			struct guard_cut *c = realloc(r->cuts, cap * sizeof(*c));
			if (!c)
				return -ENOMEM;
			r->cuts = c;
			r->cap = cap;
		}
		r->cuts[r->n++] = (struct guard_cut){h->a, h->b, h->rank, h->rule->name};
	}
	if (r->n > before)
		qsort(r->cuts, r->n, sizeof(*r->cuts), by_place);
	return 0;
}

static int give(
	struct guard_release *r, const struct guard_view *view, size_t limit, struct buf *out)
{
	int error = 0;

	if (limit > r->until) {
		error = buf_append(out, view->bytes + (r->until - view->base), limit - r->until);
		r->until = limit;
	}
	return error;
}

int guard_release_run(
	struct guard_release *r, const struct guard_view *view, size_t limit, struct buf *out)
{
	size_t i = 0, next;
	int error = 0;

	for (; i < r->n && error == 0; i = next) {
		size_t b = r->cuts[i].b;
		for (next = i + 1; next < r->n && r->cuts[next].a < b; next++)
			if (r->cuts[next].b > b)
				b = r->cuts[next].b;
		if (b > limit)
			break;
		error = give(r, view, r->cuts[i].a, out);
		if (error == 0)
			error = buf_printf(out, "[%s]", r->cuts[i].name);
		r->until = b;
	}
	if (i < r->n && r->cuts[i].a < limit)
		limit = r->cuts[i].a;
	if (error == 0)
		error = give(r, view, limit, out);
	r->n -= i;
	if (i > 0)
		memmove(r->cuts, r->cuts + i, r->n * sizeof(*r->cuts));
	return error;
}
