/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search goes over the heads of all groups of the scope. Where a bound reaches what is asked for,
 * or the k-th best so far, it reads the vector's tail, and where that bound does too, the vector.
 * The order in which this happens does not show: a bound is never below the score, and of equal
 * scores the smaller id is first.
 */
#include <math.h>

#include "gateway/vectors_parts.h"

/* The best so far, in order. */
struct best {
	struct vectors_hit *hits;
	size_t n, k;
	float least; /* what a score must reach to be taken */
};

/* In this order of sums on every processor. */
static float product(const float *a, const float *b, uint32_t n)
{
	float parts[16] = {0}, sum = 0;
	uint32_t i = 0;

	for (; i + 16 <= n; i += 16) {
		for (uint32_t k = 0; k < 16; k++)
			parts[k] += a[i + k] * b[i + k];
	}
	for (uint32_t k = 0; i < n; i++, k++)
		parts[k] += a[i] * b[i];
	for (uint32_t k = 0; k < 16; k++)
		sum += parts[k];
	return sum;
}

static bool is_before(const struct vectors_hit *a, const struct vectors_hit *b)
{
	return a->score > b->score || (a->score == b->score && a->id < b->id);
}

static void consider(const struct vectors *v, const float *query, uint32_t row, struct best *best)
{
	const struct vectors_hit hit = {
		vectors_row(v, row)->id, product(query, vectors_numbers(v, row), v->shape.dim)};
	size_t i = best->n;

	if (!(hit.score >= best->least) ||
		(best->n == best->k && !is_before(&hit, &best->hits[best->k - 1])))
		return;
	if (best->n == best->k)
		i--;
	else
		best->n++;
	for (; i > 0 && is_before(&hit, &best->hits[i - 1]); i--)
		best->hits[i] = best->hits[i - 1];
	best->hits[i] = hit;
	if (best->n == best->k)
		best->least = best->hits[best->k - 1].score;
}

/* The groups of one chunk, the first of which is the scope's `first`th. */
static void scan(const struct vectors *v, const struct vectors_scope *s, uint32_t first, uint32_t n,
	const float *query, const struct sketch_query *sketch, struct best *best)
{
	const struct vectors_chunk *c = &s->chunks[first / CHUNK_GROUPS];
	float bounds[SKETCH_LANES];
	uint32_t mask;
	size_t i = 0;

	while ((i = v->path->next(sketch, c->heads, c->lanes, i, n, best->least, &mask, bounds)) <
		n) {
		const uint32_t group = first + (uint32_t)i++;
		const struct sketch_group g = vectors_group(v, s, group);
		for (; mask; mask &= mask - 1) {
			const uint32_t lane = (uint32_t)__builtin_ctz(mask);
			if (sketch_bound(sketch, v->path, &g, lane, bounds[lane]) >= best->least)
				consider(v, query, s->rows[group * SKETCH_LANES + lane], best);
		}
	}
}

size_t vectors_search(const struct vectors *v, uint64_t scope, const float *query, float min_score,
	size_t k, struct vectors_hit *hits)
{
	struct best best = {.hits = hits, .k = k, .least = min_score};
	const struct vectors_scope *s = vectors_scope(v, scope);

	if (!s || !k)
		return 0;
	for (uint32_t i = 0; i < v->shape.dim; i++) {
		if (!isfinite(query[i]))
			return 0;
	}
	const uint32_t n_groups = s->n / SKETCH_LANES;
	if (n_groups) {
		struct sketch_query sketch;
		sketch_query_init(&sketch, &v->shape, query);
		for (uint32_t g = 0; g < n_groups; g += CHUNK_GROUPS)
			scan(v, s, g, n_groups - g < CHUNK_GROUPS ? n_groups - g : CHUNK_GROUPS,
				query, &sketch, &best);
	}
	for (uint32_t i = n_groups * SKETCH_LANES; i < s->n; i++)
		consider(v, query, s->rows[i], &best);
	return best.n;
}
