/* SPDX-License-Identifier: Apache-2.0 */
/* Which tokens can come, and how often: filters, frequencies, values out of range. */
#include "engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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
	suite_add_tcase(s, t);
	return run_suite(s);
}
