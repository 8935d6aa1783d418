/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chance.h"
#include "engine/weigh.h"
#include "tests/run_suite.h"

#define MOST 64

/* Draws `draws` tokens at different positions and counts them. */
static void draw(const float *logits, uint32_t n, struct engine_sampling how, uint32_t draws,
	uint32_t count[MOST])
{
	struct sampler *s = sampler_new(n);

	memset(count, 0, MOST * sizeof(*count));
	for (uint32_t i = 0; i < draws; i++) {
		uint32_t id = sampler_pick(s, logits, &how, i);

		ck_assert_uint_lt(id, n);
		count[id]++;
	}
	sampler_free(s);
}

/* Which tokens can come at all, as a bit mask. */
static uint64_t support(const float *logits, uint32_t n, struct engine_sampling how)
{
	uint32_t count[MOST];
	uint64_t mask = 0;

	draw(logits, n, how, 20000, count);
	for (uint32_t i = 0; i < n; i++)
		mask |= (uint64_t)(count[i] > 0) << i;
	return mask;
}

/* Pearson's statistic against the probabilities p (sum 1). */
static double chi_square(const uint32_t *count, const double *p, uint32_t n, uint32_t draws)
{
	double x = 0;

	for (uint32_t i = 0; i < n; i++) {
		double expected = p[i] * draws;

		if (p[i] > 0)
			x += (count[i] - expected) * (count[i] - expected) / expected;
		else
			ck_assert_uint_eq(count[i], 0);
	}
	return x;
}

START_TEST(greedy_takes_the_greatest_and_of_equals_the_lowest_id)
{
	float logits[19];
	struct engine_sampling how = {0};
	struct sampler *s = sampler_new(19);

	for (int i = 0; i < 19; i++)
		logits[i] = -3;
	logits[4] = logits[11] = logits[18] = 2;
	ck_assert_uint_eq(sampler_pick(s, logits, &how, 0), 4);
	logits[18] = 2.5f;
	ck_assert_uint_eq(sampler_pick(s, logits, &how, 0), 18);
	logits[0] = NAN;
	ck_assert_uint_eq(sampler_pick(s, logits, &how, 0), 18);
	sampler_free(s);
}
END_TEST

START_TEST(nothing_to_sample_is_said)
{
	float logits[5] = {NAN, -INFINITY, -INFINITY, NAN, -INFINITY};
	struct sampler *s = sampler_new(5);

	for (int k = 0; k < 4; k++) {
		struct engine_sampling how = {
			.temperature = k > 0, .top_p = k > 1 ? 0.5f : 1, .top_k = k > 2 ? 2 : 0};

		ck_assert_uint_eq(sampler_pick(s, logits, &how, 1), SAMPLER_NONE);
	}
	sampler_free(s);
}
END_TEST

START_TEST(banned_tokens_and_nan_never_come)
{
	float logits[6] = {1, -INFINITY, 1, NAN, 1, -INFINITY};

	ck_assert_uint_eq(
		support(logits, 6, (struct engine_sampling){.temperature = 1, .top_p = 1}), 0x15);
	ck_assert_uint_eq(
		support(logits, 6,
			(struct engine_sampling){.temperature = 1, .top_p = 0.999f, .top_k = 5}),
		0x15);
	ck_assert_uint_eq(
		support(logits, 6, (struct engine_sampling){.temperature = 50, .top_p = 0.9999f}),
		0x15);
}
END_TEST

/* p = 0.5 0.25 0.125 0.0625 0.0625, in mixed order */
static const float five[5] = {-1.3862944f, -0.6931472f, -2.7725887f, -2.0794415f, -2.7725887f};
/* ids by likelihood: 1 (1/2), 0 (1/4), 3 (1/8), 2 (1/16), 4 (1/16) */

START_TEST(top_k_keeps_the_k_most_likely_and_the_lower_id_of_equals)
{
	struct engine_sampling how = {.temperature = 1, .top_p = 1};
	static const uint64_t expected[6] = {0x1F, 0x02, 0x03, 0x0B, 0x0F, 0x1F};

	for (uint32_t k = 0; k <= 5; k++) {
		how.top_k = k;
		ck_assert_uint_eq(support(five, 5, how), expected[k]);
	}
}
END_TEST

START_TEST(top_p_keeps_the_smallest_set_that_reaches_it)
{
	struct engine_sampling how = {.temperature = 1};
	static const struct {
		float top_p;
		uint64_t set;
	} rows[] = {{0, 0x02}, {0.3f, 0x02}, {0.49f, 0x02}, {0.51f, 0x03}, {0.74f, 0x03},
		{0.76f, 0x0B}, {0.88f, 0x0F}, {0.93f, 0x0F}, {0.94f, 0x1F}, {1, 0x1F}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		how.top_p = rows[i].top_p;
		ck_assert_msg(support(five, 5, how) == rows[i].set, "top_p %g", rows[i].top_p);
	}
}
END_TEST

START_TEST(min_p_is_relative_to_the_most_likely)
{
	struct engine_sampling how = {.temperature = 1, .top_p = 1};
	static const struct {
		float min_p;
		uint64_t set;
	} rows[] = {{0.1f, 0x1F}, {0.13f, 0x0B}, {0.24f, 0x0B}, {0.26f, 0x03}, {0.49f, 0x03},
		{0.51f, 0x02}, {1, 0x02}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		how.min_p = rows[i].min_p;
		ck_assert_msg(support(five, 5, how) == rows[i].set, "min_p %g", rows[i].min_p);
	}
}
END_TEST

START_TEST(filters_apply_in_the_order_top_k_top_p_min_p)
{
	/* Of the best two (2/3, 1/3) top_p 0.6 leaves one; without top_k it would leave two. */
	struct engine_sampling how = {.temperature = 1, .top_p = 0.6f, .top_k = 2};

	ck_assert_uint_eq(support(five, 5, how), 0x02);
	how.top_k = 0;
	ck_assert_uint_eq(support(five, 5, how), 0x03);
	how = (struct engine_sampling){.temperature = 1, .top_p = 0.9f, .top_k = 4, .min_p = 0.3f};
	ck_assert_uint_eq(support(five, 5, how), 0x03);
}
END_TEST

START_TEST(frequencies_follow_the_softmax_at_every_temperature)
{
	static const float temperatures[] = {0.5f, 1, 2};
	float logits[10];
	uint32_t count[MOST];

	for (int i = 0; i < 10; i++)
		logits[i] = (float)((i * 7) % 10) * 0.4f;
	for (int t = 0; t < 3; t++) {
		double p[10], sum = 0;
		struct engine_sampling how = {
			.temperature = temperatures[t], .top_p = 1, .seed = 11 + t};

		for (int i = 0; i < 10; i++)
			sum += p[i] = exp((double)logits[i] / temperatures[t]);
		for (int i = 0; i < 10; i++)
			p[i] /= sum;
		draw(logits, 10, how, 100000, count);
		/* 9 degrees of freedom: 27.9 is passed once in a thousand. */
		ck_assert_double_lt(chi_square(count, p, 10, 100000), 27.9);
		how.top_k = 9; /* the same distribution by another way, but for the least one */
		draw(logits, 10, how, 100000, count);
		for (int i = 0; i < 10; i++)
			p[i] /= 1 - exp(0) / sum;
		p[0] = 0;
		ck_assert_double_lt(chi_square(count, p, 10, 100000), 26.1);
	}
}
END_TEST

START_TEST(frequencies_within_top_p_keep_their_proportions)
{
	uint32_t count[MOST];
	struct engine_sampling how = {.temperature = 1, .top_p = 0.8f, .seed = 5};
	const double p[5] = {2.0 / 7, 4.0 / 7, 0, 1.0 / 7, 0};

	draw(five, 5, how, 70000, count);
	ck_assert_double_lt(chi_square(count, p, 5, 70000), 13.8); /* 2 degrees: 1 in 1,000 */
	how.top_p = 1;
	how.min_p = 0.2f;
	draw(five, 5, how, 70000, count);
	ck_assert_double_lt(chi_square(count, p, 5, 70000), 13.8);
}
END_TEST

START_TEST(random_numbers_are_uniform_over_positions_and_over_seeds)
{
	for (int by_seed = 0; by_seed < 2; by_seed++) {
		uint32_t cell[256] = {0};
		double x = 0, sum = 0;

		for (uint32_t i = 0; i < 256000; i++) {
			double u = by_seed ? sampler_random(i, 3) : sampler_random(3, i);

			ck_assert(u >= 0 && u < 1);
			cell[(int)(u * 256)]++;
			sum += u;
		}
		for (int i = 0; i < 256; i++)
			x += (cell[i] - 1000.0) * (cell[i] - 1000.0) / 1000;
		ck_assert_double_lt(x, 330.5); /* 255 degrees: 1 in 1,000 */
		ck_assert_double_lt(fabs(sum / 256000 - 0.5), 0.002);
	}
	ck_assert(sampler_random(1, 2) != sampler_random(2, 1));
}
END_TEST

/* Slow and plain: sort all, cut, and the set that is left. */
struct entry {
	double p;
	float logit;
	uint32_t id;
};

static int by_likelihood(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit < y->logit ? 1 : -1;
	return x->id < y->id ? -1 : 1;
}

static void reference(const float *logits, uint32_t n, const struct engine_sampling *how,
	struct entry *e, uint32_t *kept)
{
	double sum = 0, share = 0;
	uint32_t k = how->top_k && how->top_k < n ? how->top_k : n, m = 0;

	for (uint32_t i = 0; i < n; i++)
		e[i] = (struct entry){exp((double)logits[i] / how->temperature), logits[i], i};
	qsort(e, n, sizeof(*e), by_likelihood);
	for (uint32_t i = 0; i < k; i++)
		sum += e[i].p;
	while (m < k && (m == 0 || share < (double)how->top_p * sum))
		share += e[m++].p;
	while (m > 1 && e[m - 1].p < how->min_p * e[0].p)
		m--;
	*kept = m;
}

START_TEST(large_vocabularies_agree_with_a_full_sort)
{
	enum { V = 50257 };
	float *logits = malloc(V * sizeof(*logits));
	struct entry *e = malloc(V * sizeof(*e));
	struct sampler *s = sampler_new(V);
	static const struct engine_sampling hows[] = {
		{.temperature = 1, .top_p = 0.9f},
		{.temperature = 0.7f, .top_p = 0.95f, .top_k = 40},
		{.temperature = 1.5f, .top_p = 0.99f, .min_p = 0.05f},
		{.temperature = 1, .top_p = 1, .top_k = 1000, .min_p = 0.02f},
		{.temperature = 1, .top_p = 1, .min_p = 0.1f},
	};
	bool *in_set = malloc(V * sizeof(*in_set));

	for (uint32_t i = 0; i < V; i++)
		logits[i] = (float)(1.5 * sqrt(-2 * log(1 - sampler_random(1, i))) *
				    cos(6.283185307179586 * sampler_random(2, i)));
	for (size_t h = 0; h < sizeof(hows) / sizeof(*hows); h++) {
		uint32_t kept, n_others = 0;

		reference(logits, V, &hows[h], e, &kept);
		memset(in_set, 0, V * sizeof(*in_set));
		/* One token at the edge may fall to either side by rounding. */
		for (uint32_t i = 0; i < kept + 1; i++)
			in_set[e[i].id] = true;
		for (uint32_t i = 0; i < 300; i++) {
			uint32_t id = sampler_pick(s, logits, &hows[h], i);

			ck_assert_msg(in_set[id], "setting %zu drew %u", h, id);
			n_others += id != e[0].id;
		}
		ck_assert_uint_gt(n_others, 20);
	}
	sampler_free(s);
	free(logits);
	free(in_set);
	free(e);
}
END_TEST

START_TEST(extreme_values_are_survived)
{
	float logits[9] = {-1e30f, 3e38f, -3e38f, 0, 3e38f, -1e-30f, 1e-30f, -INFINITY, 5};
	struct engine_sampling how = {.temperature = 1e-6f, .top_p = 1};

	ck_assert_uint_eq(support(logits, 9, how), 0x12);
	how.temperature = 1e-44f;
	how.top_p = 0.5f;
	ck_assert_uint_eq(support(logits, 9, how), 0x02);
	logits[3] = INFINITY;
	ck_assert_uint_eq(support(logits, 9, how), 0x08);
}
END_TEST

START_TEST(values_out_of_range_are_refused)
{
	static const struct engine_sampling bad[] = {{.temperature = -1}, {.temperature = 101},
		{.temperature = NAN}, {.top_p = -0.1f}, {.top_p = 1.1f}, {.top_p = NAN},
		{.min_p = -1}, {.min_p = 2}, {.min_p = NAN}, {.temperature = INFINITY},
		{.repetition_penalty = 0.05f}, {.repetition_penalty = -1},
		{.repetition_penalty = 11}, {.repetition_penalty = NAN},
		{.presence_penalty = -2.1f}, {.presence_penalty = 3}, {.presence_penalty = NAN},
		{.frequency_penalty = 2.1f}, {.frequency_penalty = -INFINITY}};
	static const struct engine_bias good_bias[] = {{0, -100}, {9, 100}}, far[] = {{10, 1}},
					twice[] = {{3, 1}, {4, 1}, {3, 2}}, large[] = {{3, 101}},
					no_number[] = {{3, NAN}};
	static const struct engine_bias many[ENGINE_BIAS_MAX + 1];
	static const struct {
		const struct engine_bias *bias;
		size_t n;
	} bad_biases[] = {
		{far, 1}, {twice, 3}, {large, 1}, {no_number, 1}, {many, ENGINE_BIAS_MAX + 1}};
	struct engine_sampling good = {.temperature = 0.8f, .top_p = 0.9f, .top_k = 50};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct err err = {""};

		ck_assert_int_eq(sampler_check(&bad[i], &err), -EINVAL);
		ck_assert_str_ne(err.text, "");
	}
	ck_assert_int_eq(sampler_check(&good, NULL), 0);
	for (size_t i = 0; i < sizeof(bad_biases) / sizeof(*bad_biases); i++) {
		struct err err = {""};

		ck_assert_int_eq(
			sampler_check_bias(bad_biases[i].bias, bad_biases[i].n, 10, &err), -EINVAL);
		ck_assert_str_ne(err.text, "");
	}
	ck_assert_int_eq(sampler_check_bias(good_bias, 2, 10, NULL), 0);
	ck_assert_int_eq(sampler_check_bias(NULL, 0, 10, NULL), 0);
}
END_TEST

/* ---- to the bit ---- */

START_TEST(chances_are_the_exponential_in_whole_units)
{
	ck_assert_uint_eq(chance_of(3.5f, 3.5f, chance_scale(1)), CHANCE_ONE);
	ck_assert_uint_eq(chance_of(-INFINITY, 3.5f, chance_scale(1)), 0);
	ck_assert_uint_eq(chance_of(NAN, 3.5f, chance_scale(1)), 0);
	for (float y = 0; y > -41; y -= 0.00137f) {
		double exact = exp2((double)y) * 0x1p39;
		double unit = (double)chance_fixed(chance_exp2(y));

		ck_assert_double_le(fabs(unit - exact), 0.5 + exact * 1e-7);
		ck_assert_uint_eq(chance_fixed(chance_exp2(y)),
			(uint64_t)nearbyint((double)chance_exp2(y) * 0x1p39));
	}
	ck_assert_float_eq(chance_exp2(-40), 0);
	/* Halves go to the even neighbour: 2.5 and 3.5 units. */
	ck_assert_uint_eq(chance_fixed(0x1.4p-38f), 2);
	ck_assert_uint_eq(chance_fixed(0x1.cp-38f), 4);
	for (float t = 0.1f; t <= 100; t *= 1.7f)
		ck_assert_float_eq_tol(chance_scale(t), 1.44269504f / t, 1e-6f / t);
	ck_assert_float_eq(chance_scale(1e-44f), 0x1p100f);
}
END_TEST

START_TEST(whole_rows_are_weighed_as_single_logits_are)
{
	enum { MOST_N = 1100 };
	float x[MOST_N], *weights = aligned_alloc(64, 2048 * sizeof(float));
	uint64_t groups[8];

	for (uint32_t n = 1; n <= MOST_N; n += 61) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < n; i++)
			x[i] = (float)sampler_random(n, i) * 30;
		x[n / 2] = NAN;
		x[n / 3] = -INFINITY;
		ck_assert_uint_le(weigh_groups(n), 8);
		float best = 30;
		uint64_t total = weigh_all(x, n, best, chance_scale(0.7f), weights, groups);
		for (uint32_t i = 0; i < n; i++) {
			float w = chance_exp2(chance_log2(x[i], best, chance_scale(0.7f)));

			ck_assert_mem_eq(&w, &weights[i], sizeof(w));
			sum += chance_fixed(w);
		}
		ck_assert_uint_eq(total, sum);
		for (uint32_t g = 0; g < weigh_groups(n); g++)
			sum -= groups[g];
		ck_assert_uint_eq(sum, 0);
	}
	free(weights);
}
END_TEST

/* What the contract says, with a full sort: the token drawn, exactly. */
struct token {
	uint64_t key, chance;
};

static int by_key(const void *a, const void *b)
{
	const struct token *x = a, *y = b;

	return x->key < y->key ? 1 : -1;
}

static uint32_t exact_pick(const float *logits, uint32_t n, const struct engine_sampling *how,
	uint64_t position, struct token *t)
{
	uint32_t best = sampler_greatest(logits, n), m = n;
	uint64_t total = 0, sum = 0, place = 0, last;

	if (best == SAMPLER_NONE || how->temperature <= 0)
		return best;
	for (uint32_t i = 0; i < n; i++)
		t[i] = (struct token){chance_key(logits[i], i),
			chance_of(logits[i], logits[best], chance_scale(how->temperature))};
	qsort(t, n, sizeof(*t), by_key);
	if (how->top_k > 0 && how->top_k < n)
		m = how->top_k;
	for (uint32_t i = 0; i < m; i++)
		total += t[i].chance;
	if (how->top_p < 1) {
		uint64_t needed = chance_needed(total, chance_share(how->top_p));

		for (m = 0; sum < needed; m++)
			sum += t[m].chance;
	}
	last = t[m - 1].key;
	total = 0;
	for (int round = 0;; round++) {
		for (uint32_t i = 0; i < n; i++) {
			uint64_t chance =
				chance_of(logits[i], logits[best], chance_scale(how->temperature));

			if (chance_key(logits[i], i) < last || chance < chance_least(how->min_p))
				continue;
			if (round == 0)
				total += chance;
			else if (place < chance)
				return i;
			else
				place -= chance;
		}
		place = chance_draw(total, chance_random(how->seed, position));
	}
}

START_TEST(tokens_are_those_of_a_full_sort_exactly)
{
	enum { V = 3000 };
	static float logits[V];
	static struct token t[V];
	static const float top_ps[] = {1, 0, 0.1f, 0.5f, 0.9f, 0.999f};
	static const uint32_t top_ks[] = {0, 1, 2, 40, 900, 2999};
	static const float min_ps[] = {0, 0, 0.05f, 1, 1e-6f, 1e-12f};
	struct sampler *s = sampler_new(V);
	uint32_t n_apart = 0;

	for (uint64_t i = 0; i < 1500; i++) {
		double width = i % 3 == 0 ? 2 : i % 3 == 1 ? 12 : 0.001;
		struct engine_sampling how = {
			.temperature = i % 5 ? 0.3f + (float)(i % 7) * 0.4f : 50,
			.top_p = top_ps[i % 6],
			.top_k = top_ks[i / 6 % 6],
			.min_p = min_ps[i / 36 % 6],
			.seed = i,
		};
		uint32_t id;

		for (uint32_t k = 0; k < V; k++) {
			logits[k] =
				(float)(width * (sampler_random(i, k) + sampler_random(i, V + k)));
			if (i % 11 == 0)
				logits[k] = floorf(logits[k]); /* many equal */
		}
		if (i % 4 == 0)
			logits[i % V] = NAN;
		id = sampler_pick(s, logits, &how, i * 3);
		ck_assert_uint_eq(id, exact_pick(logits, V, &how, i * 3, t));
		n_apart += id != sampler_greatest(logits, V);
	}
	ck_assert_uint_gt(n_apart, 500);
	sampler_free(s);
}
END_TEST

/* ---- penalties ---- */

START_TEST(penalties_count_the_text_as_the_contract_says)
{
	/* prompt 1 2 2, answer 3 2 3 3 */
	static const uint32_t ids[] = {1, 2, 2, 3, 2, 3, 3};
	static const struct engine_bias bias[] = {{0, -100}, {3, 1.5f}};
	const struct sampler_history history = {ids, 3, 7, bias, 2}, none = {ids, 3, 7, NULL, 0};
	static const float start[5] = {1, -4, 6, 2.5f, 0.5f};
	struct engine_sampling how = {
		.repetition_penalty = 2, .presence_penalty = 0.25f, .frequency_penalty = 0.5f};
	static const float all[5] = {-99, -8, 3 - 0.75f, 2 - 1.75f, 0.5f};
	static const float presence[5] = {1, -4, 6 - 0.25f, 2.5f - 0.25f, 0.5f};
	static const float repetition[5] = {1, -8, 3, 1.25f, 0.5f};
	struct sampler *s = sampler_new(5);
	float x[5];

	memcpy(x, start, sizeof(x));
	sampler_adjust(s, x, &how, &history);
	ck_assert_mem_eq(x, all, sizeof(x));
	memcpy(x, start, sizeof(x)); /* nothing is left from the last time */
	how = (struct engine_sampling){.presence_penalty = 0.25f};
	sampler_adjust(s, x, &how, &none);
	ck_assert_mem_eq(x, presence, sizeof(x));
	memcpy(x, start, sizeof(x));
	how = (struct engine_sampling){.repetition_penalty = 2};
	sampler_adjust(s, x, &how, &none);
	ck_assert_mem_eq(x, repetition, sizeof(x));
	for (int i = 0; i < 2; i++) { /* off in both ways */
		memcpy(x, start, sizeof(x));
		how = (struct engine_sampling){.repetition_penalty = (float)i};
		sampler_adjust(s, x, &how, &none);
		ck_assert_mem_eq(x, start, sizeof(x));
	}
	sampler_free(s);
}
END_TEST

START_TEST(counts_end_at_32767_and_what_is_no_choice_stays_none)
{
	enum { N = 40000 };
	uint32_t *ids = calloc(N, sizeof(*ids));
	const struct sampler_history history = {ids, 0, N, NULL, 0};
	struct engine_sampling how = {.frequency_penalty = 0.5f, .repetition_penalty = 3};
	float x[2] = {3, -INFINITY};
	struct sampler *s = sampler_new(2);

	ids[7] = 1;
	sampler_adjust(s, x, &how, &history);
	ck_assert_float_eq(x[0], 1 - 0.5f * 32767);
	ck_assert(x[1] == -INFINITY);
	x[0] = NAN;
	sampler_adjust(s, x, &how, &history);
	ck_assert(isnan(x[0]));
	sampler_free(s);
	free(ids);
}
END_TEST

/* ---- probabilities ---- */

START_TEST(log_probabilities_are_those_of_the_softmax)
{
	enum { V = 5000 };
	static float x[V];
	struct sampler *s = sampler_new(V);
	struct sampler_mass mass;
	double sum = 0;

	for (uint32_t i = 0; i < V; i++)
		x[i] = (float)(sampler_random(4, i) * 25 - 3);
	x[17] = -INFINITY;
	for (uint32_t i = 0; i < V; i++)
		sum += exp((double)x[i]);
	ck_assert(sampler_weigh(s, x, &mass));
	for (uint32_t i = 0; i < V; i++) {
		double exact = (double)x[i] - log(sum);

		if (i == 17)
			ck_assert(sampler_logprob(&mass, x[i]) == -INFINITY);
		else
			ck_assert_double_le(fabs((double)sampler_logprob(&mass, x[i]) - exact),
				1e-6 + 1e-7 * fabs(exact));
	}
	ck_assert(sampler_logprob(&mass, NAN) == -INFINITY);
	x[3] = INFINITY;
	ck_assert(!sampler_weigh(s, x, &mass));
	sampler_free(s);
}
END_TEST

START_TEST(the_most_likely_come_in_order_and_the_lower_id_of_equals_first)
{
	float x[9] = {1, 5, -INFINITY, 3, 5, NAN, -2, 3, 0};
	static const uint32_t expected[] = {1, 4, 3, 7, 0, 8, 6};
	struct sampler *s = sampler_new(9);
	uint32_t ids[ENGINE_LOGPROBS_MAX];

	for (uint32_t n = 0; n <= ENGINE_LOGPROBS_MAX; n++) {
		ck_assert_uint_eq(sampler_most_likely(s, x, n, ids), n < 7 ? n : 7);
		ck_assert_mem_eq(ids, expected, (n < 7 ? n : 7) * sizeof(*ids));
	}
	sampler_free(s);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("engine/sampler");
	TCase *t = tcase_create("sampler");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, greedy_takes_the_greatest_and_of_equals_the_lowest_id);
	tcase_add_test(t, nothing_to_sample_is_said);
	tcase_add_test(t, banned_tokens_and_nan_never_come);
	tcase_add_test(t, top_k_keeps_the_k_most_likely_and_the_lower_id_of_equals);
	tcase_add_test(t, top_p_keeps_the_smallest_set_that_reaches_it);
	tcase_add_test(t, min_p_is_relative_to_the_most_likely);
	tcase_add_test(t, filters_apply_in_the_order_top_k_top_p_min_p);
	tcase_add_test(t, frequencies_follow_the_softmax_at_every_temperature);
	tcase_add_test(t, frequencies_within_top_p_keep_their_proportions);
	tcase_add_test(t, random_numbers_are_uniform_over_positions_and_over_seeds);
	tcase_add_test(t, large_vocabularies_agree_with_a_full_sort);
	tcase_add_test(t, extreme_values_are_survived);
	tcase_add_test(t, values_out_of_range_are_refused);
	tcase_add_test(t, chances_are_the_exponential_in_whole_units);
	tcase_add_test(t, whole_rows_are_weighed_as_single_logits_are);
	tcase_add_test(t, tokens_are_those_of_a_full_sort_exactly);
	tcase_add_test(t, penalties_count_the_text_as_the_contract_says);
	tcase_add_test(t, counts_end_at_32767_and_what_is_no_choice_stays_none);
	tcase_add_test(t, log_probabilities_are_those_of_the_softmax);
	tcase_add_test(t, the_most_likely_come_in_order_and_the_lower_id_of_equals_first);
	suite_add_tcase(s, t);
	return run_suite(s);
}
