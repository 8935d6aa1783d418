/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which windows of the prefilter are looked for together.
 *
 * A bucket is met where each of the first four bytes is one that some window of it has there. So a
 * window goes where it adds least to how often that is in ordinary text. Frequencies are rough
 * (guard_filter_weight), and what is chosen first is not chosen again: a poor choice costs time and
 * nothing else.
 */
#include <string.h>

#include "gateway/guard_parts.h"

/* How often a bucket is met, and how often with one more window. */
struct bucket {
	struct guard_window united;
	double weight[4], frequency;
};

static double frequency_with(const struct bucket *b, const struct guard_window *w, double weight[4])
{
	double product = 1;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t more[4];
		for (unsigned j = 0; j < 4; j++)
			more[j] = w->byte[i][j] & ~b->united.byte[i][j];
		weight[i] = b->weight[i] + guard_filter_weight(more);
		product *= weight[i] / 1e6;
	}
	return product;
}

static void put_into(struct bucket *b, const struct guard_window *w)
{
	b->frequency = frequency_with(b, w, b->weight);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < 4; j++)
			b->united.byte[i][j] |= w->byte[i][j];
}

/* Numbers the buckets by how often they are met, so that those that often are come together. */
static void sort_buckets(const struct bucket *buckets, uint32_t *bucket, size_t n)
{
	uint32_t number[GUARD_BUCKETS] = {0};

	for (unsigned a = 0; a < GUARD_BUCKETS; a++)
		for (unsigned b = 0; b < GUARD_BUCKETS; b++)
			number[a] += buckets[b].frequency < buckets[a].frequency ||
				     (buckets[b].frequency == buckets[a].frequency && b < a);
	for (size_t i = 0; i < n; i++)
		bucket[i] = number[bucket[i]];
}

void guard_buckets_fill(const struct guard_window *const *windows, size_t n, uint32_t *bucket)
{
	struct bucket buckets[GUARD_BUCKETS];
	uint32_t used = 0;

	memset(buckets, 0, sizeof(buckets));
	for (size_t i = 0; i < n; i++) {
		double least = 1e300, weight[4];
		uint32_t best = used;
		for (uint32_t b = 0; b < used; b++) {
			double more = frequency_with(&buckets[b], windows[i], weight) -
				      buckets[b].frequency;
			if (more < least) {
				least = more;
				best = b;
			}
		}
		if (least > 0 && used < GUARD_BUCKETS)
			best = used++;
		put_into(&buckets[best], windows[i]);
		bucket[i] = best;
	}
	sort_buckets(buckets, bucket, n);
}
