/* SPDX-License-Identifier: Apache-2.0 */
/* What a row says beside its token is on the device what it is on the CPU: masses, the most likely
 * tokens, candidates. */
#include "tests/simt/sampling_case.h"

static void check_facts(struct bench *b, uint32_t i)
{
	const struct sampler_facts *f = &b->facts[i];
	const float *x = row_of(b, i);
	const struct sampler_asked asked = {
		b->rows[i].n_top, b->rows[i].n_candidates, b->rows[i].candidates};
	struct sampler_facts want;

	sampler_look(b->cpu, x, &asked, &want);
	EXPECT_EQUAL(f->best_id, want.best_id);
	EXPECT_EQUAL(f->mass.total, want.mass.total);
	EXPECT(f->mass.best == want.mass.best);
	EXPECT_EQUAL(f->n_top, want.n_top);
	for (uint32_t k = 0; k < want.n_top; k++) {
		EXPECT_EQUAL(f->top_ids[k], want.top_ids[k]);
		EXPECT(f->top[k] == want.top[k]);
	}
	for (uint32_t k = 0; k < b->rows[i].n_candidates; k++)
		EXPECT(memcmp(&f->candidates[k], &x[b->rows[i].candidates[k]], 4) == 0);
	if (b->picked[i] != SAMPLE_NONE)
		EXPECT(f->picked == x[b->picked[i]]);
}

static void compare_facts(uint32_t n_vocab, uint32_t rounds)
{
	struct bench *b = bench_new(n_vocab);

	for (uint32_t round = 0; round < rounds; round++) {
		b->n_rows = 5;
		b->n_processors = round % 2 ? 132 : 5;
		for (uint32_t i = 0; i < b->n_rows; i++) {
			struct sample_row *row = &b->rows[i];

			fill_row(row_of(b, i), n_vocab);
			b->how[i] = random_settings(n_vocab);
			*row = sample_row_of(&b->how[i], round, SAMPLE_NONE, false, true);
			row->flags |= SAMPLE_FACTS;
			row->n_top = i == 0 ? 0 : kernel_test_random(ENGINE_LOGPROBS_MAX) + 1;
			row->n_candidates = kernel_test_random(ENGINE_CANDIDATES_MAX + 1);
			for (uint32_t k = 0; k < row->n_candidates; k++)
				row->candidates[k] = kernel_test_random(n_vocab);
		}
		run(b, true);
		for (uint32_t i = 0; i < b->n_rows; i++) {
			check_facts(b, i);
			EXPECT_EQUAL(b->picked[i], cpu_pick(b, i, round, NULL));
		}
	}
	bench_free(b);
}

KERNEL_TEST(facts_are_those_of_the_models_own_logits)
{
	compare_facts(7, 10);
	compare_facts(3001, rounds_of(4, 300));
}

/* Where the greatest lie together, in what one thread looks at, and in one chunk of several. */
KERNEL_TEST(the_greatest_are_found_wherever_they_lie)
{
	static const uint32_t apart[] = {256, 1, 128, 500};
	struct bench *b = bench_new(3001);

	for (uint32_t processors = 1; processors < 100; processors += 60) {
		b->n_rows = 4;
		b->n_processors = processors;
		for (uint32_t i = 0; i < b->n_rows; i++) {
			for (uint32_t k = 0; k < b->n_vocab; k++)
				row_of(b, i)[k] = kernel_test_random_float();
			for (uint32_t k = 0; k < 24 && 77 + k * apart[i] < b->n_vocab; k++)
				row_of(b, i)[77 + k * apart[i]] = 10 + (float)(k * 7 % 24);
			b->how[i] = (struct engine_sampling){.top_p = 1};
			b->rows[i] = sample_row_of(&b->how[i], 0, SAMPLE_NONE, false, false);
			b->rows[i].flags |= SAMPLE_FACTS;
			b->rows[i].n_top = ENGINE_LOGPROBS_MAX - i;
		}
		run(b, true);
		for (uint32_t i = 0; i < b->n_rows; i++)
			check_facts(b, i);
	}
	bench_free(b);
}

KERNEL_TEST(rows_without_an_end_or_without_a_number_have_no_mass)
{
	struct bench *b = bench_new(300);

	b->n_rows = 5;
	b->n_processors = 8;
	for (uint32_t i = 0; i < b->n_rows; i++) {
		float *x = row_of(b, i);

		for (uint32_t k = 0; k < 300; k++)
			x[k] = i == 1 ? NAN : i == 2 ? (float)(k % 7) : -INFINITY;
		if (i == 2)
			x[250] = INFINITY;
		if (i == 3)
			x[250] = -3;
		b->how[i] = (struct engine_sampling){.top_p = 1};
		b->rows[i] = sample_row_of(&b->how[i], 0, SAMPLE_NONE, false, false);
		b->rows[i].flags |= i < 4 ? SAMPLE_FACTS : 0;
		b->rows[i].n_top = ENGINE_LOGPROBS_MAX;
		b->rows[i].n_candidates = 1;
		b->rows[i].candidates[0] = 250;
	}
	b->facts[4].best_id = 12345;
	EXPECT_CUDA(cudaMemcpy(b->device_facts, b->facts, sizeof b->facts, cudaMemcpyHostToDevice));
	run(b, true);
	for (uint32_t i = 0; i < 4; i++)
		check_facts(b, i);
	EXPECT_EQUAL(b->facts[0].mass.total + b->facts[1].mass.total + b->facts[2].mass.total, 0);
	EXPECT_EQUAL(b->facts[3].mass.total, CHANCE_ONE);
	EXPECT_EQUAL(b->facts[3].n_top, 1);
	EXPECT_EQUAL(b->facts[4].best_id, 12345); /* nobody asked */
	bench_free(b);
}
