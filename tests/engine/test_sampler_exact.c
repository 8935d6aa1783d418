/* SPDX-License-Identifier: Apache-2.0 */
/* To the bit: chances in whole units, penalties, and the probabilities that are told. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chance.h"
#include "engine/weigh.h"
#include "tests/run_suite.h"

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
	const struct sampler_asked asked = {0};
	struct sampler_facts f;
	double sum = 0;

	for (uint32_t i = 0; i < V; i++)
		x[i] = (float)(sampler_random(4, i) * 25 - 3);
	x[17] = -INFINITY;
	for (uint32_t i = 0; i < V; i++)
		sum += exp((double)x[i]);
	sampler_look(s, x, &asked, &f);
	for (uint32_t i = 0; i < V; i++) {
		double exact = (double)x[i] - log(sum), log_p, p;

		log_p = (double)sampler_logprob(&f.mass, x[i]);
		p = (double)sampler_share(&f.mass, x[i]);
		if (i == 17)
			ck_assert(log_p == -INFINITY && p == 0);
		else
			ck_assert_double_le(fabs(log_p - exact), 1e-6 + 1e-7 * fabs(exact));
		ck_assert_double_le(fabs(p - exp(exact)), 1e-6 * exp(exact));
	}
	ck_assert(sampler_logprob(&f.mass, NAN) == -INFINITY);
	ck_assert(sampler_share(&f.mass, NAN) == 0);
	sampler_free(s);
}
END_TEST

START_TEST(where_nothing_is_finite_or_something_without_end_there_are_no_probabilities)
{
	static const uint32_t candidates[] = {2, 0};
	const struct sampler_asked asked = {
		.n_top = 2, .n_candidates = 2, .candidates = candidates};
	float x[] = {-INFINITY, NAN, 1, -INFINITY};
	struct sampler *s = sampler_new(4);
	struct sampler_facts f;

	sampler_look(s, x, &asked, &f);
	ck_assert_uint_eq(f.mass.total, CHANCE_ONE);
	ck_assert_uint_eq(f.best_id, 2);
	ck_assert_uint_eq(f.n_top, 1);
	ck_assert(f.picked == -INFINITY);
	ck_assert(f.candidates[0] == 1 && f.candidates[1] == -INFINITY);
	x[2] = INFINITY;
	sampler_look(s, x, &asked, &f);
	ck_assert_uint_eq(f.mass.total, 0);
	ck_assert_uint_eq(f.best_id, 2);
	x[2] = NAN;
	sampler_look(s, x, &asked, &f);
	ck_assert_uint_eq(f.mass.total, 0);
	ck_assert(f.mass.best == -INFINITY);
	ck_assert_uint_eq(f.best_id, SAMPLER_NONE);
	ck_assert_uint_eq(f.n_top, 0);
	sampler_free(s);
}
END_TEST

START_TEST(the_most_likely_come_in_order_and_the_lower_id_of_equals_first)
{
	float x[9] = {1, 5, -INFINITY, 3, 5, NAN, -2, 3, 0};
	static const uint32_t expected[] = {1, 4, 3, 7, 0, 8, 6};
	struct sampler *s = sampler_new(9);

	for (uint32_t n = 0; n <= ENGINE_LOGPROBS_MAX; n++) {
		struct sampler_asked asked = {.n_top = n};
		struct sampler_facts f;

		sampler_look(s, x, &asked, &f);
		ck_assert_uint_eq(f.n_top, n < 7 ? n : 7);
		for (uint32_t i = 0; i < f.n_top; i++) {
			ck_assert_uint_eq(f.top_ids[i], expected[i]);
			ck_assert(f.top[i] == x[expected[i]]);
		}
	}
	sampler_free(s);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("engine/sampler_exact");
	TCase *t = tcase_create("sampler_exact");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, chances_are_the_exponential_in_whole_units);
	tcase_add_test(t, whole_rows_are_weighed_as_single_logits_are);
	tcase_add_test(t, tokens_are_those_of_a_full_sort_exactly);
	tcase_add_test(t, penalties_count_the_text_as_the_contract_says);
	tcase_add_test(t, counts_end_at_32767_and_what_is_no_choice_stays_none);
	tcase_add_test(t, log_probabilities_are_those_of_the_softmax);
	tcase_add_test(
		t, where_nothing_is_finite_or_something_without_end_there_are_no_probabilities);
	tcase_add_test(t, the_most_likely_come_in_order_and_the_lower_id_of_equals_first);
	suite_add_tcase(s, t);
	return run_suite(s);
}
