/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampler. Its work is proportional to the vocabulary with a small factor, as it runs once per
 * token of every sequence in the batch: exponentials and sums go four at a time, top-k keeps a heap
 * of k, and top-p does not sort at all. Its trick: tokens less likely than (1 - top_p) / n_vocab
 * have together less than 1 - top_p, so the set asked for lies within the others; among these few
 * the place where the share is reached is found as quickselect finds a median.
 *
 * Weights are exp((logit - greatest) / temperature), in (0, 1], so nothing overflows. They are
 * summed in float within groups of SUM_GROUP, the groups in double, always in the same order: the
 * same row gives the same token.
 *
 * The random number is a hash of (seed, position), not a state that advances: a sequence that is
 * preempted and recomputed, or runs in other company, draws the same numbers.
 */
#include "engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SUM_GROUP 256 /* multiple of 4 */
#define SEARCH_GROUP 1024u

typedef float vec __attribute__((vector_size(16), may_alias));
typedef int32_t veci __attribute__((vector_size(16), may_alias));

struct candidate {
	float logit;
	float weight;
	uint32_t id;
};

struct sampler {
	uint32_t n_vocab;
	float *weights;        /* [n_vocab rounded up to SUM_GROUP] */
	double *groups;        /* [groups of SUM_GROUP] their sums */
	struct candidate *set; /* [n_vocab + 1] */
};

static uint32_t n_groups(uint32_t n_vocab)
{
	return n_vocab / SUM_GROUP + (n_vocab % SUM_GROUP != 0);
}

struct sampler *sampler_new(uint32_t n_vocab)
{
	struct sampler *s = calloc(1, sizeof(*s));
	size_t padded = (size_t)n_groups(n_vocab) * SUM_GROUP;

	if (!s)
		return NULL;
	s->n_vocab = n_vocab;
	s->weights = aligned_alloc(64, padded * sizeof(*s->weights));
	s->groups = calloc(n_groups(n_vocab), sizeof(*s->groups));
	s->set = calloc((size_t)n_vocab + 1, sizeof(*s->set));
	if (!s->weights || !s->groups || !s->set)
		return sampler_free(s);
	return s;
}

struct sampler *sampler_free(struct sampler *s)
{
	if (!s)
		return NULL;
	free(s->weights);
	free(s->groups);
	free(s->set);
	free(s);
	return NULL;
}

uint32_t sampler_size(const struct sampler *s)
{
	return s->n_vocab;
}

int sampler_check(const struct engine_sampling *how, struct err *err)
{
	if (!(how->temperature >= 0 && how->temperature <= 100))
		return err_set(err, -EINVAL, "temperature must be a number from 0 to 100");
	if (!(how->top_p >= 0 && how->top_p <= 1))
		return err_set(err, -EINVAL, "top_p must be a number from 0 to 1");
	if (!(how->min_p >= 0 && how->min_p <= 1))
		return err_set(err, -EINVAL, "min_p must be a number from 0 to 1");
	return 0;
}

static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

double sampler_random(uint64_t seed, uint64_t position)
{
	uint64_t x = scramble(seed + 0x9E3779B97F4A7C15u);

	x = scramble(x ^ (position * 0xD1342543DE82EF95u + 0x2545F4914F6CDD1Du));
	return (double)(x >> 11) * 0x1p-53;
}

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

/* The greatest value; -INFINITY when there is none. NaN is passed over. */
static float greatest_value(const float *logits, uint32_t n)
{
	vec a = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
	vec b = a, c = a, d = a, x;
	float best = -INFINITY;
	uint32_t i = 0;

	for (; i + 16 <= n; i += 16) {
		x = load_vec(logits + i);
		a = select_vec(x > a, x, a);
		x = load_vec(logits + i + 4);
		b = select_vec(x > b, x, b);
		x = load_vec(logits + i + 8);
		c = select_vec(x > c, x, c);
		x = load_vec(logits + i + 12);
		d = select_vec(x > d, x, d);
	}
	a = select_vec(a > b, a, b);
	c = select_vec(c > d, c, d);
	a = select_vec(a > c, a, c);
	for (int k = 0; k < 4; k++)
		best = a[k] > best ? a[k] : best;
	for (; i < n; i++)
		best = logits[i] > best ? logits[i] : best;
	return best;
}

uint32_t sampler_greatest(const float *logits, uint32_t n)
{
	float best = -INFINITY;
	uint32_t at = 0;

	/* In groups, so that only one of them is searched for the place. */
	for (uint32_t i = 0; i < n; i += SEARCH_GROUP) {
		float group =
			greatest_value(logits + i, n - i < SEARCH_GROUP ? n - i : SEARCH_GROUP);

		if (group > best) {
			best = group;
			at = i;
		}
	}
	if (best == -INFINITY)
		return SAMPLER_NONE;
	while (logits[at] != best)
		at++;
	return at;
}

/* exp of four numbers <= 0, relative error below 3e-7; 0 below -87 and for NaN. */
static vec exp_vec(vec x)
{
	const vec magic = {12582912.0f, 12582912.0f, 12582912.0f, 12582912.0f}; /* 1.5 * 2^23 */
	const vec least = {-87.0f, -87.0f, -87.0f, -87.0f};
	veci keep = x > least;
	vec n, r, p;
	veci scale;

	x = select_vec(keep, x, least);
	n = x * 1.44269504f + magic; /* its low bits are round(x / ln 2) */
	scale = ((veci)n - (veci)magic) << 23;
	n -= magic;
	r = x - n * 0.693359375f + n * 2.12194440e-4f;
	p = 1.0f / 5040 * r + 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	return (vec)((veci)((vec)((veci)p + scale)) & keep);
}

/* Fills weights and groups; their sum. `best` is the greatest logit, finite. */
static double weigh_all(struct sampler *s, const float *logits, float best, float temperature)
{
	uint32_t n = s->n_vocab;
	double total = 0;

	for (uint32_t g = 0; g * SUM_GROUP < n; g++) {
		float *w = s->weights + (size_t)g * SUM_GROUP;
		vec sum = {0, 0, 0, 0};

		for (uint32_t k = 0; k < SUM_GROUP; k += 4) {
			uint32_t i = g * SUM_GROUP + k;
			vec x = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, e;

			if (i + 4 <= n)
				x = load_vec(logits + i);
			else if (i < n)
				memcpy(&x, logits + i, (n - i) * sizeof(float));
			e = exp_vec((x - best) / temperature);
			memcpy(w + k, &e, sizeof(e));
			sum += e;
		}
		s->groups[g] = (double)sum[0] + sum[1] + sum[2] + sum[3];
		total += s->groups[g];
	}
	return total;
}

bool sampler_probabilities(
	struct sampler *s, const float *logits, const uint32_t *ids, size_t n, float *p)
{
	float best = greatest_value(logits, s->n_vocab);
	double total;

	if (!isfinite(best))
		return false;
	total = weigh_all(s, logits, best, 1);
	for (size_t i = 0; i < n; i++)
		p[i] = (float)((double)s->weights[ids[i]] / total);
	return true;
}

/* Draws from all weights in order of id. */
static uint32_t draw_from_all(const struct sampler *s, double total, double random)
{
	double target = random * total;
	uint32_t last = SAMPLER_NONE;

	for (uint32_t g = 0; g * SUM_GROUP < s->n_vocab; g++) {
		const float *w = s->weights + (size_t)g * SUM_GROUP;

		if (target >= s->groups[g] && (g + 1) * SUM_GROUP < s->n_vocab) {
			target -= s->groups[g];
			continue;
		}
		for (uint32_t k = 0; k < SUM_GROUP; k++) {
			if (w[k] <= 0)
				continue;
			last = g * SUM_GROUP + k;
			target -= (double)w[k];
			if (target < 0)
				return last;
		}
		/* Here only when rounding left a hair: the last one of the group takes it. */
		if (last != SAMPLER_NONE)
			return last;
	}
	for (uint32_t i = s->n_vocab; i-- > 0;)
		if (s->weights[i] > 0)
			return i;
	return SAMPLER_NONE;
}

static bool better(const struct candidate *a, const struct candidate *b)
{
	return (a->logit > b->logit) | ((a->logit == b->logit) & (a->id < b->id));
}

/* A heap with the worst on top. */
static void sift_down(struct candidate *heap, uint32_t n, uint32_t i)
{
	struct candidate moved = heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && better(&heap[child], &heap[child + 1]))
			child++;
		if (!better(&moved, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

static void heapify(struct candidate *heap, uint32_t n)
{
	for (uint32_t i = n / 2; i-- > 0;)
		sift_down(heap, n, i);
}

/* Puts the k best logits into the set, in no order; how many there are. */
static uint32_t select_top_k(struct sampler *s, const float *logits, uint32_t k)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_vocab; i++) {
		struct candidate c = {.logit = logits[i], .id = i};

		if (!(c.logit > -INFINITY))
			continue;
		if (n < k) {
			s->set[n++] = c;
			if (n == k)
				heapify(s->set, n);
		} else if (c.logit > s->set[0].logit) { /* an equal one has the higher id */
			s->set[0] = c;
			sift_down(s->set, n, 0);
		}
	}
	return n;
}

/* Puts the tokens with at least this weight into the set. */
static uint32_t select_weight(struct sampler *s, const float *logits, double least)
{
	uint32_t n = 0;

	if (least > 1) /* by rounding only: the best weighs 1 */
		least = 1;
	/* Without branches: what is not kept is written over. */
	for (uint32_t i = 0; i < s->n_vocab; i++) {
		float w = s->weights[i];

		s->set[n] = (struct candidate){logits[i], w, i};
		n += (w > 0) & ((double)w >= least);
	}
	return n;
}

static double weigh_set(struct sampler *s, uint32_t n, float best, float temperature)
{
	double total = 0;

	for (uint32_t i = 0; i < n; i += 4) {
		vec x = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};

		for (uint32_t k = 0; k < 4 && i + k < n; k++)
			x[k] = s->set[i + k].logit;
		x = exp_vec((x - best) / temperature);
		for (uint32_t k = 0; k < 4 && i + k < n; k++) {
			s->set[i + k].weight = x[k];
			total += (double)x[k];
		}
	}
	return total;
}

static void swap(struct candidate *a, struct candidate *b)
{
	struct candidate c = *a;

	*a = *b;
	*b = c;
}

/* Of the first, middle and last of set[from .. to) the one between the others. */
static struct candidate middle_one(const struct candidate *set, uint32_t from, uint32_t to)
{
	const struct candidate *a = &set[from], *b = &set[from + (to - from) / 2],
			       *c = &set[to - 1];

	if (better(b, a) == better(c, b))
		return *b;
	return better(b, a) == better(a, c) ? *a : *c;
}

/* Orders set[from .. to) so that the ones better than `pivot`, a member, come first; how many;
 * *weight: theirs. */
static uint32_t partition(struct candidate *set, uint32_t from, uint32_t to,
	const struct candidate *pivot, double *weight)
{
	uint32_t at = from;
	double sum = 0;

	for (uint32_t i = from; i < to; i++) {
		if (!better(&set[i], pivot))
			continue;
		sum += (double)set[i].weight;
		swap(&set[i], &set[at++]);
	}
	*weight = sum;
	return at - from;
}

/* Puts the best whose weights reach `needed`, at least one, to the front of the set; how many.
 * O(n): looks for the one that reaches it, as quickselect does, without sorting. */
static uint32_t keep_top_p(struct candidate *set, uint32_t n, double needed)
{
	uint32_t from = 0, to = n;

	while (to - from > 1) {
		struct candidate pivot = middle_one(set, from, to);
		double weight;
		uint32_t n_better = partition(set, from, to, &pivot, &weight);

		if (n_better > 0 && weight >= needed) {
			to = from + n_better;
			continue;
		}
		/* The pivot belongs to it. Then it is the last one, or the rest begins behind it.
		 */
		needed -= weight;
		from += n_better;
		for (uint32_t i = from; i < to; i++)
			if (set[i].id == pivot.id)
				swap(&set[i], &set[from]);
		from++;
		needed -= (double)pivot.weight;
		if (needed <= 0)
			return from;
	}
	return to;
}

/* Draws from set[0 .. n), of these only the ones of at least min_p (the best has weight 1). */
static uint32_t draw_from_set(const struct sampler *s, uint32_t n, float min_p, double random)
{
	double total = 0;
	uint32_t last = SAMPLER_NONE;

	for (uint32_t i = 0; i < n; i++)
		if (s->set[i].weight >= min_p)
			total += (double)s->set[i].weight;
	total *= random;
	for (uint32_t i = 0; i < n; i++) {
		if (s->set[i].weight < min_p || s->set[i].weight <= 0)
			continue;
		last = s->set[i].id;
		total -= (double)s->set[i].weight;
		if (total < 0)
			break;
	}
	return last;
}

uint32_t sampler_pick(struct sampler *s, const float *logits, const struct engine_sampling *how,
	uint64_t position)
{
	uint32_t n = sampler_greatest(logits, s->n_vocab);
	double random, total;
	float best;

	/* An infinite logit leaves nothing to weigh. */
	if (how->temperature <= 0 || n == SAMPLER_NONE || !isfinite(logits[n]))
		return n;
	best = logits[n];
	random = sampler_random(how->seed, position);
	if (how->top_k > 0 && how->top_k < s->n_vocab) {
		n = select_top_k(s, logits, how->top_k);
		total = weigh_set(s, n, best, how->temperature);
	} else {
		double rest = 1 - (double)how->top_p;

		total = weigh_all(s, logits, best, how->temperature);
		if (how->top_p >= 1 && how->min_p <= 0)
			return draw_from_all(s, total, random);
		n = select_weight(
			s, logits, how->top_p < 1 ? rest * total / s->n_vocab : (double)how->min_p);
	}
	if (how->top_p < 1)
		n = keep_top_p(s->set, n, (double)how->top_p * total);
	return draw_from_set(s, n, how->min_p, random);
}
