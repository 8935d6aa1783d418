/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What steps tell beside tokens, for log-probabilities and judges: to the bit what the host finds
 * in the row of logits, which the same step gives when it is asked for without picks. So the
 * device's logits are the measure here; test_cuda_engine.c measures by the processor's.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/sampler.h"
#include "tests/simt/device_models.h"

#define N_ROWS 5 /* sequences beside each other: steps are padded to 8 */
#define PROMPT 12

static const struct engine_sampling greedy = {.top_p = 1};
static uint32_t ids[PROMPT + N_ROWS + 8];

static void fill_ids(void)
{
	for (uint32_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		ids[i] = 32 + kernel_test_random(90);
}

/* Something to ask, another thing each time: up to 20 tokens and 4 candidates. */
struct question {
	struct sampler_asked asked;
	uint32_t candidates[ENGINE_CANDIDATES_MAX];
};

static void make_question(struct question *q, uint32_t n_vocab, uint32_t i)
{
	q->asked = (struct sampler_asked){
		.n_top = i * 13 % (ENGINE_LOGPROBS_MAX + 1),
		.n_candidates = i * 3 % (ENGINE_CANDIDATES_MAX + 1),
		.candidates = q->candidates,
	};
	for (uint32_t k = 0; k < ENGINE_CANDIDATES_MAX; k++)
		q->candidates[k] = (i * 37 + k * 11) % n_vocab;
}

/* That these are the facts of this row, of which `id` was picked. */
static void check(const struct sampler_facts *got, const float *logits, uint32_t n_vocab,
	const struct sampler_asked *asked, uint32_t id)
{
	struct sampler *sampler = sampler_new(n_vocab);
	struct sampler_facts want;

	EXPECT(sampler != NULL && got != NULL);
	sampler_look(sampler, logits, asked, &want);
	sampler_free(sampler);
	EXPECT_EQUAL(got->mass.total, want.mass.total);
	EXPECT(got->mass.best == want.mass.best);
	EXPECT_EQUAL(got->best_id, want.best_id);
	EXPECT(got->picked == logits[id]);
	EXPECT_EQUAL(got->n_top, want.n_top);
	EXPECT(memcmp(got->top_ids, want.top_ids, want.n_top * sizeof(uint32_t)) == 0);
	for (uint32_t k = 0; k < want.n_top; k++)
		EXPECT(got->top[k] == want.top[k]);
	for (uint32_t k = 0; k < asked->n_candidates; k++)
		EXPECT(got->candidates[k] == want.candidates[k]);
}

static void step(const struct device_models *d, const struct batch_run *runs, uint32_t n,
	const struct model_pick *picks, struct model_result *results)
{
	struct err err = {""};

	if (model_begin(d->gpu, runs, n, picks, &err) < 0 ||
		model_finish(d->gpu, results, &err) < 0)
		kernel_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static uint64_t hits(const struct device_models *d)
{
	struct backend_stats stats;

	model_device_stats(d->gpu, &stats);
	return stats.graph_hits;
}

KERNEL_TEST(issued_captured_and_replayed_steps_tell_what_is_in_the_row)
{
	static const enum tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q8_0};

	fill_ids();
	for (size_t k = 0; k < sizeof(types) / sizeof(types[0]); k++) {
		struct device_models d = device_models_open(
			&(struct tiny_llama){.type = types[k], .n_kv_heads = 2}, NULL);
		struct batch_run run = device_models_run(ids, 0, PROMPT, 0, 1);
		uint32_t token;

		for (uint32_t i = 0; i < 8; i++) {
			struct question q;
			struct model_pick pick = {.how = greedy, .asked = &q.asked};
			struct model_result result;

			make_question(&q, d.n_vocab, i);
			float *logits = device_models_logits(&d, d.gpu, &run, 1);
			step(&d, &run, 1, &pick, &result);
			check(result.facts, logits, d.n_vocab, &q.asked, result.id);
			EXPECT(result.logits == NULL);
			free(logits);
			token = result.id;
			run = device_models_run(&token, PROMPT + i, 1, 0, 1);
		}
		EXPECT_EQUAL(hits(&d), 8 - 3);
		device_models_close(&d);
	}
}

/* Of a step of five rows with prompts or one token each, row `asking`, or none, asks. */
static void step_of_five(const struct device_models *d, struct batch_run *runs, uint32_t i,
	uint32_t asking, uint32_t *tokens)
{
	struct model_pick picks[N_ROWS];
	struct model_result results[N_ROWS];
	struct question q;

	make_question(&q, d->n_vocab, i);
	for (uint32_t k = 0; k < N_ROWS; k++)
		picks[k] = (struct model_pick){
			.how = {.temperature = 1, .top_p = 0.9f, .seed = k},
			.position = PROMPT + i,
			.asked = k == asking ? &q.asked : NULL,
		};
	float *logits = device_models_logits(d, d->gpu, runs, N_ROWS);
	step(d, runs, N_ROWS, picks, results);
	for (uint32_t k = 0; k < N_ROWS; k++) {
		if (k == asking)
			check(results[k].facts, logits + k * d->n_vocab, d->n_vocab, &q.asked,
				results[k].id);
		else
			EXPECT(results[k].facts == NULL);
		tokens[k] = results[k].id;
	}
	free(logits);
}

/* The graph of a size in which nobody asks is there first; then both are replayed in turns, each
 * with other rows than the time before. */
KERNEL_TEST(one_row_asks_and_the_others_get_their_tokens_alone)
{
	enum { STEPS = 19 };
	struct device_models d =
		device_models_open(&(struct tiny_llama){.type = TENSOR_BF16, .n_layers = 1}, NULL);
	struct batch_run runs[N_ROWS];
	uint32_t tokens[N_ROWS];

	fill_ids();
	for (uint32_t k = 0; k < N_ROWS; k++)
		runs[k] = device_models_run(ids + k, 0, PROMPT, 4 * k, 1);
	for (uint32_t i = 0; i < STEPS; i++) {
		step_of_five(&d, runs, i, i < 4 ? N_ROWS : i % (N_ROWS + 1), tokens);
		for (uint32_t k = 0; k < N_ROWS; k++)
			runs[k] = device_models_run(&tokens[k], PROMPT + i, 1, 4 * k, 1);
	}
	/* All but the prompts, and two of each kind. */
	EXPECT_EQUAL(hits(&d), STEPS - 1 - 2 * 2);
	device_models_close(&d);
}

/* The token of the one is the input of the other, and so is the row it is written to. */
KERNEL_TEST(two_steps_under_way_have_facts_of_their_own)
{
	enum { STEPS = 9 };
	struct device_models d = device_models_open(
		&(struct tiny_llama){.type = TENSOR_F32, .n_kv_heads = 2, .n_layers = 1}, NULL);
	struct question q[STEPS];
	struct sampler_facts facts[STEPS];
	uint32_t tokens[STEPS];
	struct model_result result;
	struct err err = {""};

	fill_ids();
	for (uint32_t i = 0; i <= STEPS; i++) {
		struct batch_run run = device_models_run(ids, 0, PROMPT, 0, 1);
		struct model_pick pick = {.how = greedy, .asked = &q[i].asked};

		if (i > 0) {
			run = device_models_run(ids, PROMPT + i - 1, 1, 0, 1);
			run.follows = 1;
		}
		if (i < STEPS) {
			make_question(&q[i], d.n_vocab, i + 1);
			EXPECT_EQUAL(model_begin(d.gpu, &run, 1, &pick, &err), 0);
		}
		if (i == 0)
			continue;
		EXPECT_EQUAL(model_finish(d.gpu, &result, &err), 0);
		tokens[i - 1] = result.id;
		EXPECT(result.facts != NULL);
		facts[i - 1] = *result.facts;
	}
	EXPECT(hits(&d) > 0);
	for (uint32_t i = 0; i < STEPS; i++) {
		struct batch_run run = device_models_run(ids, 0, PROMPT, 20, 1);

		if (i > 0)
			run = device_models_run(&tokens[i - 1], PROMPT + i - 1, 1, 20, 1);
		float *logits = device_models_logits(&d, d.gpu, &run, 1);
		check(&facts[i], logits, d.n_vocab, &q[i].asked, tokens[i]);
		free(logits);
	}
	device_models_close(&d);
}

KERNEL_TEST(facts_are_those_of_the_model_whatever_is_banned_or_held_against_its_logits)
{
	struct device_models d =
		device_models_open(&(struct tiny_llama){.type = TENSOR_F32, .n_layers = 1}, NULL);
	struct batch_run run = device_models_run(ids, 0, PROMPT, 0, 1);
	struct engine_bias bias[] = {{0, -100}, {77, 40}};
	struct sampler_history history = {
		.ids = ids, .n_prompt = PROMPT, .n_tok = PROMPT, .bias = bias, .n_bias = 2};
	struct sampler_asked asked = {.n_top = 4, .n_candidates = 1};
	struct model_pick pick = {.how = {.top_p = 1, .repetition_penalty = 1.5f},
		.position = PROMPT,
		.history = &history,
		.fresh = true,
		.asked = &asked};
	struct model_result result;
	struct err err = {""};
	uint32_t control;

	fill_ids();
	float *logits = device_models_logits(&d, d.gpu, &run, 1);
	control = device_models_best(logits, d.n_vocab);
	asked.candidates = &control;
	EXPECT_EQUAL(model_set_banned(d.gpu, &control, 1, NULL, 0, &err), 0);
	EXPECT(control != 77);
	bias[0].id = control == 5 ? 6 : 5;
	step(&d, &run, 1, &pick, &result);
	EXPECT_EQUAL(result.id, 77); /* by its bias */
	EXPECT_EQUAL(result.facts->best_id, control);
	check(result.facts, logits, d.n_vocab, &asked, 77);
	free(logits);
	device_models_close(&d);
}
