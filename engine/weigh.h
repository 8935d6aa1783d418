/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_WEIGH_H
#define ENGINE_WEIGH_H

/*
 * What the sampler does with whole rows of logits, four numbers at a time: finding the greatest,
 * turning logits into chances (engine/chance.h), finding those above a bound. O(n) each.
 */

#include <stddef.h>
#include <stdint.h>

#define WEIGH_GROUP 256u

/* Groups of a row of n. */
static inline uint32_t weigh_groups(uint32_t n)
{
	return n / WEIGH_GROUP + (n % WEIGH_GROUP != 0);
}

/* The greatest number; -INFINITY when there is none. NaN is passed over. */
float weigh_greatest(const float *x, uint32_t n);

/* The first i >= from with x[i] > bound, n if there is none. */
uint32_t weigh_next(const float *x, uint32_t from, uint32_t n, float bound);

/* Writes down, in order, all i with x[i] >= least; how many. ids has room for n + 1. */
uint32_t weigh_above(const float *x, uint32_t n, float least, uint32_t *ids);

/*
 * weights[i] = chance_exp2(chance_log2(logits[i], best, scale)), 0 from n up to whole groups;
 * groups[g] = the sum of chance_fixed() of the weights of group g; the sum of all. weights is
 * aligned to 16 bytes and has room for whole groups.
 */
uint64_t weigh_all(
	const float *logits, uint32_t n, float best, float scale, float *weights, uint64_t *groups);

#endif
