/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampler. Its work is proportional to the vocabulary with a small factor, as it runs once per
 * token of every sequence in the batch: exponentials and sums go four at a time (engine/weigh.c),
 * top-k keeps a heap of k, and top-p does not sort at all. Its trick: if the sum asked for leaves
 * out `rest`, tokens of a chance up to rest / n_vocab have together no more than that, so the set
 * asked for lies within the others. Of these a histogram over the likelihood tells where about the
 * sum is reached, and quickselect where exactly.
 *
 * Order is by logit, not by chance, which is its rounded image and may fall by a unit where the
 * logit rises. Sums are of integers, so any order of adding gives the same token; only the draw has
 * an order, by id.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chance.h"
#include "engine/weigh.h"

#define SEARCH_GROUP 1024u

struct candidate {
	uint64_t key; /* chance_key */
	uint64_t chance;
};

struct sampler {
	uint32_t n_vocab;
	float *weights;         /* [n_vocab rounded up to WEIGH_GROUP] */
	uint64_t *groups;       /* [groups of WEIGH_GROUP] their sums */
	uint32_t *ids;          /* [n_vocab + 1] */
	struct candidate *set;  /* [n_vocab] in order of id */
	struct candidate *work; /* [n_vocab + 1] in no order */
	uint64_t *heap;         /* [n_vocab] keys, the worst on top */
	uint16_t *seen;         /* [n_vocab] all 0 between calls */
	float *copy;            /* [n_vocab] */
};

struct sampler *sampler_new(uint32_t n_vocab)
{
	struct sampler *s = calloc(1, sizeof(*s));
	uint32_t n_groups = weigh_groups(n_vocab);

	if (!s)
		return NULL;
	s->n_vocab = n_vocab;
	s->weights = aligned_alloc(64, (size_t)n_groups * WEIGH_GROUP * sizeof(*s->weights));
	s->groups = calloc(n_groups, sizeof(*s->groups));
	s->ids = calloc((size_t)n_vocab + 1, sizeof(*s->ids));
	s->set = calloc(n_vocab, sizeof(*s->set));
	s->work = calloc((size_t)n_vocab + 1, sizeof(*s->work));
	s->heap = calloc(n_vocab, sizeof(*s->heap));
	s->seen = calloc(n_vocab, sizeof(*s->seen));
	s->copy = calloc(n_vocab, sizeof(*s->copy));
	if (!s->copy || !s->weights || !s->groups || !s->ids || !s->set || !s->work || !s->heap ||
		!s->seen)
		return sampler_free(s);
	return s;
}

struct sampler *sampler_free(struct sampler *s)
{
	if (!s)
		return NULL;
	free(s->weights);
	free(s->groups);
	free(s->ids);
	free(s->set);
	free(s->work);
	free(s->heap);
	free(s->seen);
	free(s->copy);
	free(s);
	return NULL;
}

const float *sampler_copy(struct sampler *s, const float *logits)
{
	return memcpy(s->copy, logits, s->n_vocab * sizeof(*logits));
}

void sampler_adjust(struct sampler *s, float *logits, const struct engine_sampling *how,
	const struct sampler_history *history)
{
	float repetition = how->repetition_penalty > 0 ? how->repetition_penalty : 1;

	for (size_t i = 0; i < history->n_bias; i++)
		logits[history->bias[i].id] += history->bias[i].bias;
	if (repetition == 1 && how->presence_penalty == 0 && how->frequency_penalty == 0)
		return;
	for (uint32_t i = 0; i < history->n_tok; i++) {
		uint16_t *seen = &s->seen[history->ids[i]];

		if (i < history->n_prompt)
			*seen = CHANCE_IN_PROMPT;
		else if ((*seen & CHANCE_MOST_COUNT) < CHANCE_MOST_COUNT)
			(*seen)++;
	}
	for (uint32_t i = 0; i < history->n_tok; i++) {
		uint32_t id = history->ids[i];

		if (s->seen[id])
			logits[id] = chance_adjust(logits[id], s->seen[id], repetition,
				how->presence_penalty, how->frequency_penalty);
		s->seen[id] = 0;
	}
}

double sampler_random(uint64_t seed, uint64_t position)
{
	return (double)(chance_random(seed, position) >> 11) * 0x1p-53;
}

uint32_t sampler_greatest(const float *logits, uint32_t n)
{
	float best = -INFINITY;
	uint32_t at = 0;

	/* In groups, so that only one of them is searched for the place. */
	for (uint32_t i = 0; i < n; i += SEARCH_GROUP) {
		float group =
			weigh_greatest(logits + i, n - i < SEARCH_GROUP ? n - i : SEARCH_GROUP);

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

static double log_probability(const struct sampler_mass *mass, float logit)
{
	return (double)logit - (double)mass->best - log((double)mass->total / (double)CHANCE_ONE);
}

float sampler_logprob(const struct sampler_mass *mass, float logit)
{
	return isnan(logit) ? -INFINITY : (float)log_probability(mass, logit);
}

float sampler_share(const struct sampler_mass *mass, float logit)
{
	return isnan(logit) ? 0 : (float)exp(log_probability(mass, logit));
}

/* Draws from all weights. */
static uint32_t draw_from_all(const struct sampler *s, uint64_t total, uint64_t random)
{
	uint64_t place = chance_draw(total, random);
	uint32_t i = 0;

	for (const uint64_t *group = s->groups; place >= *group; group++) {
		place -= *group;
		i += WEIGH_GROUP;
	}
	for (;; i++) {
		uint64_t chance = chance_fixed(s->weights[i]);

		if (place < chance)
			return i;
		place -= chance;
	}
}

/* A heap with the least on top. */
static void sift_down(uint64_t *heap, uint32_t n, uint32_t i)
{
	uint64_t moved = heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= moved)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

/* Puts the k > 0 best logits into the heap; how many there are. */
static uint32_t find_top_k(struct sampler *s, const float *logits, uint32_t k)
{
	uint32_t n = 0, i = 0;

	for (; n < k; i++) {
		i = weigh_next(logits, i, s->n_vocab, -INFINITY);
		if (i == s->n_vocab)
			break;
		s->heap[n++] = chance_key(logits[i], i);
	}
	for (uint32_t h = n / 2; h-- > 0;)
		sift_down(s->heap, n, h);
	/* One that is equal to the worst has the higher id. */
	while (i < s->n_vocab && (i = weigh_next(logits, i, s->n_vocab,
					  logits[chance_id(s->heap[0])])) < s->n_vocab) {
		s->heap[0] = chance_key(logits[i], i);
		sift_down(s->heap, n, 0);
		i++;
	}
	return n;
}

/* The n greatest logits. */
static void list_most_likely(
	struct sampler *s, const float *logits, uint32_t n, struct sampler_facts *facts)
{
	facts->n_top = n > 0 ? find_top_k(s, logits, n) : 0;
	for (uint32_t left = facts->n_top; left > 0; left--) {
		uint32_t id = chance_id(s->heap[0]);

		facts->top_ids[left - 1] = id;
		facts->top[left - 1] = logits[id];
		s->heap[0] = s->heap[left - 1];
		sift_down(s->heap, left - 1, 0);
	}
}

void sampler_look(struct sampler *s, const float *logits, const struct sampler_asked *asked,
	struct sampler_facts *facts)
{
	struct sampler_mass *mass = &facts->mass;

	facts->best_id = sampler_greatest(logits, s->n_vocab);
	mass->best = facts->best_id == SAMPLER_NONE ? -INFINITY : logits[facts->best_id];
	mass->total = isfinite(mass->best) ? weigh_all(logits, s->n_vocab, mass->best,
						     chance_scale(1), s->weights, s->groups)
					   : 0;
	facts->picked = -INFINITY;
	list_most_likely(s, logits, asked->n_top, facts);
	for (uint32_t i = 0; i < asked->n_candidates; i++)
		facts->candidates[i] = logits[asked->candidates[i]];
}

/* Puts the k best logits into the set; how many there are. *total: their chances. */
static uint32_t select_top_k(struct sampler *s, const float *logits, uint32_t k, float best,
	float scale, uint64_t *total)
{
	uint32_t n = find_top_k(s, logits, k), n_ids, kept = 0;
	uint64_t worst = s->heap[0];

	*total = 0;
	n_ids = weigh_above(logits, s->n_vocab, logits[chance_id(worst)], s->ids);
	for (uint32_t i = 0; i < n_ids && kept < n; i++) {
		uint32_t id = s->ids[i];
		struct candidate c = {
			chance_key(logits[id], id), chance_of(logits[id], best, scale)};

		if (c.key < worst)
			continue;
		s->set[kept++] = c;
		*total += c.chance;
	}
	return kept;
}

/* Puts the tokens of this weight or more into the set. */
static uint32_t select_weight(struct sampler *s, const float *logits, float least)
{
	uint32_t n = weigh_above(s->weights, s->n_vocab, least, s->ids);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = s->ids[i];

		s->set[i] = (struct candidate){
			chance_key(logits[id], id), chance_fixed(s->weights[id])};
	}
	return n;
}

static void swap(struct candidate *a, struct candidate *b)
{
	struct candidate c = *a;

	*a = *b;
	*b = c;
}

/* Of the keys of the first, middle and last of set[from .. to) the one between the others. */
static uint64_t middle_key(const struct candidate *set, uint32_t from, uint32_t to)
{
	uint64_t a = set[from].key, b = set[from + (to - from) / 2].key, c = set[to - 1].key;

	if ((b > a) == (c > b))
		return b;
	return (b > a) == (a > c) ? a : c;
}

/* Orders set[from .. to) so that the greater than `pivot`, a member, come first, and then it
 * itself; how many are greater; *sum: their chances. */
static uint32_t partition(
	struct candidate *set, uint32_t from, uint32_t to, uint64_t pivot, uint64_t *sum)
{
	uint32_t at = from;

	*sum = 0;
	for (uint32_t i = from; i < to; i++) {
		if (set[i].key <= pivot)
			continue;
		*sum += set[i].chance;
		swap(&set[i], &set[at++]);
	}
	for (uint32_t i = at; i < to; i++) {
		if (set[i].key == pivot) {
			swap(&set[i], &set[at]);
			break;
		}
	}
	return at - from;
}

/* Of set[n], ordered with the best first, the key of the one with which the sum of chances reaches
 * `needed`: at least 1, at most all of it. Looks for it as quickselect does, without sorting. */
static uint64_t quick_reaching(struct candidate *set, uint32_t n, uint64_t needed)
{
	uint32_t from = 0, to = n;

	while (to - from > 1) {
		uint64_t pivot = middle_key(set, from, to), sum;
		uint32_t n_better = partition(set, from, to, pivot, &sum);

		if (sum >= needed) {
			to = from + n_better;
			continue;
		}
		needed -= sum;
		from += n_better;
		if (set[from].chance >= needed)
			return pivot;
		needed -= set[from++].chance;
	}
	return set[from].key;
}

/* The same of s->set, by bins of likelihood first: only the one where the sum is reached is looked
 * at more closely. O(n). */
static uint64_t find_reaching(struct sampler *s, const float *logits, uint32_t n, float best,
	float scale, uint64_t needed)
{
	uint64_t bins[CHANCE_BINS] = {0};
	uint32_t bin = 0, n_work = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = chance_id(s->set[i].key);

		s->ids[i] = chance_bin(chance_log2(logits[id], best, scale));
		bins[s->ids[i]] += s->set[i].chance;
	}
	for (; bins[bin] < needed; bin++)
		needed -= bins[bin];
	for (uint32_t i = 0; i < n; i++) {
		s->work[n_work] = s->set[i];
		n_work += s->ids[i] == bin;
	}
	return quick_reaching(s->work, n_work, needed);
}

/* The chance of one that has a key from `last` and a chance of `least` or more, else 0. No branch:
 * what comes next cannot be guessed. */
static uint64_t kept_chance(const struct candidate *c, uint64_t last, uint64_t least)
{
	return c->chance & -(uint64_t)((c->chance >= least) & (c->key >= last));
}

/* Draws from set[0 .. n), of these only what is kept. */
static uint32_t draw_from_set(
	const struct sampler *s, uint32_t n, uint64_t last, uint64_t least, uint64_t random)
{
	uint64_t total = 0, place;

	for (uint32_t i = 0; i < n; i++)
		total += kept_chance(&s->set[i], last, least);
	place = chance_draw(total, random);
	for (const struct candidate *c = s->set;; c++) {
		uint64_t chance = kept_chance(c, last, least);

		if (place < chance)
			return chance_id(c->key);
		place -= chance;
	}
}

uint32_t sampler_pick(struct sampler *s, const float *logits, const struct engine_sampling *how,
	uint64_t position)
{
	uint32_t n = sampler_greatest(logits, s->n_vocab), share = chance_share(how->top_p);
	uint64_t random, total, needed, last = 0, least = chance_least(how->min_p);
	float best, scale;

	/* An infinite logit leaves nothing to weigh. */
	if (how->temperature <= 0 || n == SAMPLER_NONE || !isfinite(logits[n]))
		return n;
	best = logits[n];
	random = chance_random(how->seed, position);
	scale = chance_scale(how->temperature);
	if (how->top_k > 0 && how->top_k < s->n_vocab) {
		n = select_top_k(s, logits, how->top_k, best, scale, &total);
		needed = chance_needed(total, share);
	} else {
		uint64_t bound;

		total = weigh_all(logits, s->n_vocab, best, scale, s->weights, s->groups);
		if (share == CHANCE_NO_SHARE && least == 1)
			return draw_from_all(s, total, random);
		needed = chance_needed(total, share);
		bound = share == CHANCE_NO_SHARE ? least - 1 : (total - needed) / s->n_vocab;
		/* All chances above it, and what may come before them in order of logits. */
		n = select_weight(s, logits,
			(bound > 0 ? (float)bound : 0.5f) * (0.999f / (float)CHANCE_ONE));
	}
	if (share != CHANCE_NO_SHARE)
		last = find_reaching(s, logits, n, best, scale, needed);
	return draw_from_set(s, n, last, least, random);
}
