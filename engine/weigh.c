/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of logits, with vectors of four, which every processor we run on has. The arithmetic is that
 * of engine/chance.h operation by operation; tests compare the two to the bit.
 *
 * A chance becomes an integer by way of doubles: 1.5 * 2^13 + w has its last bit at 2^-39, so its
 * bits less those of 1.5 * 2^13 are w in units of 2^-39, rounded to the nearest, of two the even
 * one, as in chance_fixed(). The subtraction is done once for a whole group.
 */
#include "engine/weigh.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/chance.h"

#define FIXED_MAGIC 12288.0 /* 1.5 * 2^(52 - CHANCE_BITS) */

typedef float vec __attribute__((vector_size(16), may_alias));
typedef int32_t veci __attribute__((vector_size(16), may_alias));
typedef float pair __attribute__((vector_size(8), may_alias));
typedef double pair_f64 __attribute__((vector_size(16), may_alias));
typedef uint64_t pair_u64 __attribute__((vector_size(16), may_alias));

static vec select_vec(veci mask, vec yes, vec no)
{
	return (vec)((mask & (veci)yes) | (~mask & (veci)no));
}

static vec load_vec(const float *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

float weigh_greatest(const float *x, uint32_t n)
{
	vec a = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
	vec b = a, c = a, d = a, v;
	float best = -INFINITY;
	uint32_t i = 0;

	for (; i + 16 <= n; i += 16) {
		v = load_vec(x + i);
		a = select_vec(v > a, v, a);
		v = load_vec(x + i + 4);
		b = select_vec(v > b, v, b);
		v = load_vec(x + i + 8);
		c = select_vec(v > c, v, c);
		v = load_vec(x + i + 12);
		d = select_vec(v > d, v, d);
	}
	a = select_vec(a > b, a, b);
	c = select_vec(c > d, c, d);
	a = select_vec(a > c, a, c);
	for (int k = 0; k < 4; k++)
		best = a[k] > best ? a[k] : best;
	for (; i < n; i++)
		best = x[i] > best ? x[i] : best;
	return best;
}

/* Whether any of the four is not 0. */
static bool any_vec(veci mask)
{
	pair_u64 bits = (pair_u64)mask;

	return (bits[0] | bits[1]) != 0;
}

uint32_t weigh_next(const float *x, uint32_t from, uint32_t n, float bound)
{
	uint32_t i = from;

	for (; i + 16 <= n; i += 16)
		if (any_vec((load_vec(x + i) > bound) | (load_vec(x + i + 4) > bound) |
			    (load_vec(x + i + 8) > bound) | (load_vec(x + i + 12) > bound)))
			break;
	while (i < n && !(x[i] > bound))
		i++;
	return i;
}

uint32_t weigh_above(const float *x, uint32_t n, float least, uint32_t *ids)
{
	uint32_t n_ids = 0, end;

	for (uint32_t i = 0; i < n; i = end) {
		end = i + 16 <= n ? i + 16 : n;
		if (end - i == 16 &&
			!any_vec((load_vec(x + i) >= least) | (load_vec(x + i + 4) >= least) |
				 (load_vec(x + i + 8) >= least) | (load_vec(x + i + 12) >= least)))
			continue;
		/* Without branches: what is not kept is written over. */
		for (uint32_t k = i; k < end; k++) {
			ids[n_ids] = k;
			n_ids += x[k] >= least;
		}
	}
	return n_ids;
}

static vec exp2_vec(vec y)
{
	veci keep = y > CHANCE_FLOOR;
	vec n = y + CHANCE_MAGIC;
	vec f = y - (n - CHANCE_MAGIC);
	vec p = CHANCE_C6 * f + CHANCE_C5;

	p = p * f + CHANCE_C4;
	p = p * f + CHANCE_C3;
	p = p * f + CHANCE_C2;
	p = p * f + CHANCE_C1;
	p = p * f + 1.0f;
	return (vec)(((veci)p + ((veci)n << 23)) & keep);
}

/* Bits of FIXED_MAGIC + w for two of the four. */
static pair_u64 fixed_pair(float w0, float w1)
{
	pair_f64 d = __builtin_convertvector(((pair){w0, w1}), pair_f64);

	return (pair_u64)(d + FIXED_MAGIC);
}

/* The chances of WEIGH_GROUP logits; the sum of them as integers. */
static uint64_t weigh_group(const float *logits, float best, float scale, float *weights)
{
	const pair_f64 magic = {FIXED_MAGIC, FIXED_MAGIC};
	pair_u64 sum = {0, 0}, more = {0, 0};

	for (uint32_t i = 0; i < WEIGH_GROUP; i += 4) {
		vec e = exp2_vec((load_vec(logits + i) - best) * scale);

		memcpy(weights + i, &e, sizeof(e));
		sum += fixed_pair(e[0], e[1]);
		more += fixed_pair(e[2], e[3]);
	}
	sum += more - (pair_u64)magic * WEIGH_GROUP / 2;
	return sum[0] + sum[1];
}

uint64_t weigh_all(
	const float *logits, uint32_t n, float best, float scale, float *weights, uint64_t *groups)
{
	uint32_t whole = n / WEIGH_GROUP, rest = n % WEIGH_GROUP;
	uint64_t total = 0;

	for (uint32_t g = 0; g < whole; g++) {
		size_t at = (size_t)g * WEIGH_GROUP;

		groups[g] = weigh_group(logits + at, best, scale, weights + at);
		total += groups[g];
	}
	if (rest > 0) {
		float last[WEIGH_GROUP];
		size_t at = (size_t)whole * WEIGH_GROUP;

		for (uint32_t i = 0; i < WEIGH_GROUP; i++)
			last[i] = i < rest ? logits[at + i] : -INFINITY;
		groups[whole] = weigh_group(last, best, scale, weights + at);
		total += groups[whole];
	}
	return total;
}
