/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole models on the device against the processor's scalar path: every type of weights, prompts,
 * single tokens, mixed batches, steps that overlap, steps that are replayed. What is printed is
 * quoted in docs/numerics.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/cuda/context.h"
#include "engine/cuda/matmul.h"
#include "engine/sampler.h"
#include "tests/simt/device_models.h"

/* tolerance: of the largest difference, in parts of the range of all logits. */
static const struct {
	const char *name;
	struct tiny_llama file;
	struct model_options options;
	double tolerance;
} cases[] = {
	{"F32", {.type = TENSOR_F32}, {0}, 1e-5},
	{"F32, GQA, tied", {.type = TENSOR_F32, .n_kv_heads = 2, .tied = true}, {0}, 1e-5},
	{"F32, odd heads", {.type = TENSOR_F32, .n_embd = 88, .n_heads = 4, .n_ff = 90}, {0}, 1e-5},
	{"F16", {.type = TENSOR_F16, .n_kv_heads = 1}, {0}, 2e-3},
	{"BF16", {.type = TENSOR_BF16, .n_embd = 128, .n_heads = 2}, {0}, 1e-2},
	{"BF16, tied", {.type = TENSOR_BF16, .n_kv_heads = 2, .tied = true}, {0}, 1e-2},
	{"Q8_0", {.type = TENSOR_Q8_0, .n_kv_heads = 2}, {0}, 3e-2},
	{"Q4_0, tied", {.type = TENSOR_Q4_0, .n_embd = 128, .tied = true}, {0}, 3e-2},
	{"Q4_1 and Q8_0, tied",
		{.type = TENSOR_Q4_1, .better = TENSOR_Q8_0, .n_kv_heads = 2, .tied = true}, {0},
		3e-2},
	{"Q5_0 and Q5_1", {.type = TENSOR_Q5_0, .better = TENSOR_Q5_1, .n_embd = 96, .n_heads = 6},
		{0}, 3e-2},
	{"Q4_K and Q6_K", {.type = TENSOR_Q4_K, .better = TENSOR_Q6_K, .n_embd = 256, .n_heads = 8},
		{0}, 3e-2},
	{"Q5_K", {.type = TENSOR_Q5_K, .n_embd = 256, .n_heads = 8, .n_ff = 256}, {0}, 3e-2},
	{"Q6_K, tied",
		{.type = TENSOR_Q6_K, .n_embd = 256, .n_heads = 8, .n_ff = 256, .tied = true}, {0},
		3e-2},
	{"Q8_0 and F16", {.type = TENSOR_Q8_0, .better = TENSOR_F16, .n_kv_heads = 2}, {0}, 3e-2},
	{"F16 as FP8", {.type = TENSOR_F16, .n_kv_heads = 2}, {.fp8 = true}, 0.15},
	{"BF16 as FP8", {.type = TENSOR_BF16, .n_kv_heads = 2}, {.fp8 = true}, 0.15},
	{"BF16, KV as FP8", {.type = TENSOR_BF16, .n_kv_heads = 2}, {.kv_fp8 = true}, 0.08},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

/* The harness runs each test with three orders of threads: all cases in the first, some in the
 * others, as kernels have tests of their own. */
#define FOR_CASES(i)                                                                               \
	static size_t n_runs;                                                                      \
	n_runs++;                                                                                  \
	for (size_t i = n_runs - 1; i < N_CASES; i += n_runs == 1 ? 1 : 5)

static uint32_t ids[128];

static void fill_ids(void)
{
	for (uint32_t i = 0; i < 128; i++)
		ids[i] = kernel_test_random(256);
}

KERNEL_TEST(logits_of_a_prompt_are_those_of_the_processor)
{
	fill_ids();
	FOR_CASES(i)
	{
		struct device_models d = device_models_open(&cases[i].file, &cases[i].options);
		double off = device_models_prompt(&d, ids, 37),
		       few = device_models_prompt(&d, ids, 3);

		printf("%-18s largest difference %.1e, of few rows %.1e of the range\n",
			cases[i].name, off, few);
		EXPECT_NEAR(off, 0, cases[i].tolerance);
		EXPECT_NEAR(few, 0, cases[i].tolerance);
		device_models_close(&d);
	}
}

/* Token by token after a prompt in two pieces, and all at once: within the tolerance. */
KERNEL_TEST(logits_do_not_depend_on_how_a_prompt_was_cut)
{
	fill_ids();
	FOR_CASES(i)
	{
		struct device_models d = device_models_open(&cases[i].file, &cases[i].options);
		struct batch_run whole = device_models_run(ids, 0, 40, 8, 40);
		struct batch_run pieces[] = {
			device_models_run(ids, 0, 17, 0, 0),
			device_models_run(ids + 17, 17, 16, 0, 1),
		};
		float *expected = device_models_logits(&d, d.cpu, &whole, 1);

		for (int k = 0; k < 2; k++)
			free(device_models_logits(&d, d.gpu, &pieces[k], 1));
		for (uint32_t at = 33; at < 40; at++) {
			struct batch_run one = device_models_run(ids + at, at, 1, 0, 1);
			float *got = device_models_logits(&d, d.gpu, &one, 1);

			EXPECT_NEAR(device_models_difference(
					    got, expected + (size_t)at * d.n_vocab, d.n_vocab),
				0, 2 * cases[i].tolerance);
			free(got);
		}
		free(expected);
		device_models_close(&d);
	}
}

static const struct engine_sampling greedy = {.top_p = 1};

KERNEL_TEST(sixty_four_greedy_tokens_of_f32_are_the_processors)
{
	static const struct tiny_llama files[] = {
		{.type = TENSOR_F32, .seed = 1},
		{.type = TENSOR_F32, .n_kv_heads = 1, .tied = true, .seed = 2},
		{.type = TENSOR_F32, .n_embd = 96, .n_heads = 6, .n_kv_heads = 3, .seed = 3},
	};

	fill_ids();
	for (size_t i = 0; i < 3; i++) {
		struct device_models d = device_models_open(&files[i], NULL);
		uint32_t expected[64], got[64];

		device_models_answer(&d, d.cpu, ids, 21, 0, &greedy, false, expected, 64);
		device_models_answer(&d, d.gpu, ids, 21, 0, &greedy, false, got, 64);
		EXPECT(memcmp(expected, got, sizeof(got)) == 0);
		device_models_close(&d);
	}
}

/* Rows of decodes, of the rest of a prompt and of a new one in one step. */
KERNEL_TEST(a_mixed_step_gives_each_sequence_what_it_gets_alone)
{
	static const size_t which[] = {0, 3, 5, 6};

	fill_ids();
	for (size_t k = 0; k < 4; k++) {
		size_t i = which[k];
		struct device_models d = device_models_open(&cases[i].file, &cases[i].options);
		struct batch_run before[] = {
			device_models_run(ids, 0, 20, 0, 0),
			device_models_run(ids + 5, 0, 33, 8, 0),
		};
		struct batch_run mixed[] = {
			device_models_run(ids + 20, 20, 1, 0, 1),
			device_models_run(ids + 38, 33, 15, 8, 1),
			device_models_run(ids + 60, 0, 18, 16, 0),
			device_models_run(ids + 90, 0, 1, 24, 1),
		};

		free(device_models_logits(&d, d.cpu, before, 2));
		free(device_models_logits(&d, d.gpu, before, 2));
		float *expected = device_models_logits(&d, d.cpu, mixed, 4),
		      *got = device_models_logits(&d, d.gpu, mixed, 4);
		EXPECT_NEAR(device_models_difference(got, expected, 3 * (size_t)d.n_vocab), 0,
			2 * cases[i].tolerance);
		free(expected);
		free(got);
		device_models_close(&d);
	}
}

/* A second sequence reads blocks that the first has written, as prefixes are shared. */
KERNEL_TEST(a_prefix_is_found_again_in_the_blocks_of_another)
{
	struct device_models d = device_models_open(&(struct tiny_llama){.type = TENSOR_F32}, NULL);
	uint32_t shared[] = {7, 9, 11, 40, 41};
	struct batch_run first = device_models_run(ids, 0, 48, 0, 0);
	struct batch_run second = device_models_run(ids + 32, 32, 20, 0, 20);
	struct batch_run alone = device_models_run(ids, 0, 52, 20, 52);

	fill_ids();
	first.blocks = second.blocks = shared;
	free(device_models_logits(&d, d.gpu, &first, 1));
	shared[2] = 50; /* its own from position 32 on */
	float *got = device_models_logits(&d, d.gpu, &second, 1),
	      *expected = device_models_logits(&d, d.cpu, &alone, 1);
	EXPECT_NEAR(device_models_difference(
			    got, expected + 32 * (size_t)d.n_vocab, 20 * (size_t)d.n_vocab),
		0, 1e-5);
	free(got);
	free(expected);
	device_models_close(&d);
}

KERNEL_TEST(steps_that_overlap_pick_the_same_tokens)
{
	static const struct engine_sampling seeded = {
		.temperature = 0.9f, .top_k = 40, .top_p = 0.95f, .seed = 5};
	struct device_models d = device_models_open(
		&(struct tiny_llama){.type = TENSOR_BF16, .n_kv_heads = 2}, NULL);
	uint32_t one_by_one[40], ahead[40];

	fill_ids();
	for (int k = 0; k < 2; k++) {
		const struct engine_sampling *how = k == 0 ? &greedy : &seeded;

		device_models_answer(&d, d.gpu, ids, 19, 0, how, false, one_by_one, 40);
		device_models_answer(&d, d.gpu, ids, 19, 8, how, true, ahead, 40);
		EXPECT(memcmp(one_by_one, ahead, sizeof(ahead)) == 0);
	}
	device_models_close(&d);
}

KERNEL_TEST(replayed_steps_pick_the_same_tokens_as_issued_ones)
{
	static const enum tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q8_0};

	fill_ids();
	for (size_t k = 0; k < 3; k++) {
		struct device_models d = device_models_open(
			&(struct tiny_llama){.type = types[k], .n_kv_heads = 2}, NULL);
		struct backend_stats before, after;
		uint32_t replayed[40], issued[40];

		model_device_stats(d.gpu, &before);
		device_models_answer(&d, d.gpu, ids, 30, 0, &greedy, false, replayed, 40);
		model_device_stats(d.gpu, &after);
		/* The first two of a size are issued, the second of them into a graph. */
		EXPECT_EQUAL(after.graph_hits - before.graph_hits, 37);
		d.whole = true;
		device_models_answer(&d, d.gpu, ids, 30, 8, &greedy, false, issued, 40);
		model_device_stats(d.gpu, &before);
		EXPECT_EQUAL(before.graph_hits, after.graph_hits);
		EXPECT(memcmp(replayed, issued, sizeof(issued)) == 0);
		device_models_close(&d);
	}
}

/* What the host would pick from the logits that the device gives it. */
KERNEL_TEST(sampled_tokens_are_those_of_the_processor_for_the_same_logits)
{
	struct device_models d = device_models_open(
		&(struct tiny_llama){.type = TENSOR_BF16, .n_vocab = 1000}, NULL);
	struct sampler *sampler = sampler_new(d.n_vocab);

	fill_ids();
	for (uint32_t k = 0; k < 24; k++) {
		struct batch_run run = device_models_run(ids + k, 0, 12, 0, 1);
		struct model_pick pick = {
			.how = {.temperature = 0.5f + 0.25f * (float)(k % 5),
				.top_k = k % 3 == 0 ? 20 : 0,
				.top_p = k % 2 ? 0.9f : 1,
				.min_p = k % 4 == 1 ? 0.02f : 0,
				.seed = 77 + k},
			.position = 12,
		};
		struct model_result result;
		struct err err = {""};

		float *logits = device_models_logits(&d, d.gpu, &run, 1);
		EXPECT(model_begin(d.gpu, &run, 1, &pick, &err) == 0);
		EXPECT(model_finish(d.gpu, &result, &err) == 0);
		EXPECT(result.logits == NULL && result.facts == NULL);
		EXPECT_EQUAL(result.id, sampler_pick(sampler, logits, &pick.how, pick.position));
		free(logits);
	}
	sampler_free(sampler);
	device_models_close(&d);
}

/* Step by step, while the host does not know the tokens: what the device keeps of a text is what
 * the processor sees in it. */
KERNEL_TEST(penalties_and_biases_are_held_against_what_was_said)
{
	static const struct engine_bias bias[] = {{11, 3}, {12, -100}, {200, 2.5f}};
	struct device_models d =
		device_models_open(&(struct tiny_llama){.type = TENSOR_F32, .n_kv_heads = 2}, NULL);
	struct sampler *sampler = sampler_new(d.n_vocab);
	uint32_t said[40];
	struct engine_sampling how = {
		.top_p = 1,
		.repetition_penalty = 1.3f,
		.presence_penalty = 0.4f,
		.frequency_penalty = 0.2f,
	};
	struct sampler_history history = {
		.ids = said, .n_prompt = 12, .n_tok = 12, .bias = bias, .n_bias = 3};

	fill_ids();
	memcpy(said, ids, 12 * sizeof(*ids));
	for (uint32_t i = 0; i < 28; i++) {
		uint32_t n = i == 0 ? 12 : 1;
		struct batch_run run = device_models_run(said + 12 + i - n, 12 + i - n, n, 0, 1);
		struct model_pick pick = {
			.how = how,
			.position = 12 + i,
			.history = &history,
			.slot = 3,
			.fresh = i == 0,
		};
		struct model_result result;
		struct err err = {""};

		EXPECT(model_begin(d.gpu, &run, 1, &pick, &err) == 0);
		EXPECT(model_finish(d.gpu, &result, &err) == 0);
		float *logits = device_models_logits(&d, d.gpu, &run, 1);
		history.n_tok = 12 + i;
		sampler_adjust(sampler, logits, &how, &history);
		EXPECT_EQUAL(result.id, sampler_pick(sampler, logits, &how, 12 + i));
		said[12 + i] = result.id;
		free(logits);
	}
	sampler_free(sampler);
	device_models_close(&d);
}

static void nothing_to_let_go(void *arg)
{
	(void)arg;
}

/* Parts of weights and of rows begin where the part before them ends: an algorithm that was chosen
 * for other addresses may not be used for them. */
KERNEL_TEST(products_may_begin_at_any_16_bytes)
{
	enum { ROWS = 24, COLS = 16, N = 9, SHIFT = 8 };
	static uint16_t one = 0x3f80; /* of bf16 */
	uint16_t w[ROWS * COLS + SHIFT], x[N * COLS], out[SHIFT + N * ROWS];
	struct cuda_context c = {0};
	struct cuda_matmul *m;
	struct err err = {""};

	for (uint32_t i = 0; i < ROWS * COLS + SHIFT; i++)
		w[i] = one;
	for (uint32_t i = 0; i < N * COLS; i++)
		x[i] = one;
	uint16_t *dw = kernel_test_upload(w, sizeof(w)), *dx = kernel_test_upload(x, sizeof(x)),
		 *dout = kernel_test_device(sizeof(out));
	void *workspace = kernel_test_device(CUDA_MATMUL_WORKSPACE);
	struct cuda_matmul_product p = {
		.w = dw,
		.x = dx,
		.out = dout,
		.type = CUDA_TYPE_BF16,
		.out_type = CUDA_TYPE_BF16,
		.ld = ROWS,
		.n_rows = N,
		.rows = ROWS,
		.cols = COLS,
	};

	EXPECT(cuda_context_open(&c, 0, nothing_to_let_go, NULL, &err) == 0);
	EXPECT(cuda_matmul_new(&m, &c, workspace, &err) == 0);
	EXPECT(cuda_matmul_run(m, &p, &err) == 0);
	p.w = dw + SHIFT;
	p.out = dout + SHIFT;
	EXPECT(cuda_matmul_run(m, &p, &err) == 0);
	EXPECT(cuda_matmul_run(m, &p, &err) == 0);
	kernel_test_download(out, dout, sizeof(out));
	for (uint32_t i = SHIFT; i < SHIFT + N * ROWS; i++)
		EXPECT_EQUAL(out[i], 0x4180); /* 16 */
	cuda_matmul_free(m);
	cuda_context_leave(&c);
	cuda_context_close(&c);
}

KERNEL_TEST(masked_and_banned_tokens_are_not_picked)
{
	struct device_models d = device_models_open(&(struct tiny_llama){.type = TENSOR_F32}, NULL);
	struct batch_run run = device_models_run(ids, 0, 9, 0, 1);
	uint32_t mask[16] = {0}, control[2], end;
	struct model_pick pick = {.how = greedy, .position = 9};
	struct model_result result;
	struct err err = {""};

	fill_ids();
	float *logits = device_models_logits(&d, d.cpu, &run, 1);
	for (int k = 0; k < 2; k++) {
		control[k] = device_models_best(logits, d.n_vocab);
		logits[control[k]] = -1e30f;
	}
	end = device_models_best(logits, d.n_vocab);
	logits[end] = -1e30f;
	EXPECT(model_set_banned(d.gpu, control, 2, &end, 1, &err) == 0);
	EXPECT(model_begin(d.gpu, &run, 1, &pick, &err) == 0);
	EXPECT(model_finish(d.gpu, &result, &err) == 0);
	EXPECT_EQUAL(result.id, end);
	pick.ignore_eos = true;
	EXPECT(model_begin(d.gpu, &run, 1, &pick, &err) == 0);
	EXPECT(model_finish(d.gpu, &result, &err) == 0);
	EXPECT_EQUAL(result.id, device_models_best(logits, d.n_vocab));
	mask[7] = 1u << 3;
	mask[control[0] / 32] |= 1u << control[0] % 32;
	pick.mask = mask;
	EXPECT(model_begin(d.gpu, &run, 1, &pick, &err) == 0);
	EXPECT(model_finish(d.gpu, &result, &err) == 0);
	EXPECT_EQUAL(result.id, 7 * 32 + 3);
	free(logits);
	device_models_close(&d);
}

/* As many sequences as a rung of the ladder and one more: padding changes nothing. */
KERNEL_TEST(padded_batches_pick_what_single_ones_pick)
{
	struct device_models d =
		device_models_open(&(struct tiny_llama){.type = TENSOR_F32, .n_kv_heads = 2}, NULL);
	static const uint32_t sizes[] = {3, 7, 13};
	uint32_t alone[13][6];

	fill_ids();
	for (uint32_t i = 0; i < 13; i++)
		device_models_answer(&d, d.cpu, ids + i, 5, 60, &greedy, false, alone[i], 6);
	for (size_t k = 0; k < 3; k++) {
		struct batch_run runs[13];
		struct model_pick picks[13];
		struct model_result results[13];
		struct err err = {""};

		for (uint32_t step = 0; step < 6; step++) {
			for (uint32_t i = 0; i < sizes[k]; i++) {
				runs[i] = step == 0 ? device_models_run(ids + i, 0, 5, 4 * i, 1)
						    : device_models_run(&alone[i][step - 1],
							      4 + step, 1, 4 * i, 1);
				picks[i] = (struct model_pick){.how = greedy};
			}
			EXPECT(model_begin(d.gpu, runs, sizes[k], picks, &err) == 0);
			EXPECT(model_finish(d.gpu, results, &err) == 0);
			for (uint32_t i = 0; i < sizes[k]; i++)
				EXPECT_EQUAL(results[i].id, alone[i][step]);
		}
	}
	device_models_close(&d);
}
