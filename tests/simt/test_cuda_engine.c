/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine with a model on the device: requests beside each other, preempted, cancelled, with a
 * shared beginning, constrained, judged. With F32 weights its answers are those of an engine on the
 * processor, to the byte.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simt/device_engine.h"

#define N_REQUESTS 6

static const struct tiny_llama f32 = {.type = TENSOR_F32, .n_kv_heads = 2, .seed = 11};
static uint32_t ids[N_REQUESTS + 128];

static void fill_ids(void)
{
	for (uint32_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		ids[i] = 32 + kernel_test_random(90);
}

static bool same(const struct device_answer *a, const struct device_answer *b)
{
	return a->finish == b->finish && a->status == b->status && a->len == b->len &&
	       memcmp(a->text, b->text, a->len) == 0;
}

/* Of a token and those beside it, up to the last digits, in which the order of two may differ. */
static bool same_logprobs(const struct device_answer *a, const struct device_answer *b)
{
	if (a->n_logprobs != b->n_logprobs)
		return false;
	for (size_t i = 0; i < a->n_logprobs; i++)
		if (!(fabsf(a->logprobs[i].logprob - b->logprobs[i].logprob) < 1e-4f))
			return false;
	return true;
}

/* Prompts of 20, 31, 42 ... tokens, 30 tokens of answer each, all at once. */
static void ask_all(struct engine *e, struct device_answer *answers)
{
	struct err err = {""};

	for (uint32_t i = 0; i < N_REQUESTS; i++) {
		struct engine_request r =
			device_engine_request(&answers[i], ids + i, 20 + 11 * i, 30);
		EXPECT_EQUAL(device_engine_submit(e, &r, &answers[i], &err), 0);
	}
	for (uint32_t i = 0; i < N_REQUESTS; i++)
		device_engine_wait(&answers[i]);
}

KERNEL_TEST(answers_beside_others_are_those_of_the_processor)
{
	struct engine_options o = {.kv_blocks = 200};
	static struct device_answer got[N_REQUESTS], expected[N_REQUESTS];
	struct engine_device device;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, &o, "cpu"),
		      *gpu = device_engine_open(&f32, &o, "cuda");
	EXPECT(strncmp(engine_info(gpu)->backend, "cuda/", 5) == 0);
	ask_all(cpu, expected);
	ask_all(gpu, got);
	for (uint32_t i = 0; i < N_REQUESTS; i++)
		EXPECT(same(&got[i], &expected[i]));
	engine_device(gpu, &device);
	EXPECT(device.graph_hits > 0);
	EXPECT(device.memory_used > 0 && device.memory_free > 0);
	EXPECT(device.utilisation >= 0 && device.utilisation <= 1);
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(preempted_requests_go_on_with_the_same_answer)
{
	struct engine_options o = {.kv_blocks = 17, .context_tok = 200};
	static struct device_answer got[N_REQUESTS], expected[N_REQUESTS];
	struct engine_stats stats;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, &o, "cuda");
	ask_all(cpu, expected);
	ask_all(gpu, got);
	for (uint32_t i = 0; i < N_REQUESTS; i++)
		EXPECT(same(&got[i], &expected[i]));
	engine_stats(gpu, &stats);
	EXPECT(stats.preemptions > 0);
	EXPECT_EQUAL(stats.kv_blocks_used, 0);
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(a_second_turn_finds_the_first_and_gets_the_same_answer)
{
	static struct device_answer first, got, expected;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, NULL, "cuda");
	struct engine_request r = device_engine_request(&first, ids, 70, 5);
	device_engine_ask(gpu, &r, &first);
	r = device_engine_request(&got, ids, 90, 20);
	device_engine_ask(gpu, &r, &got);
	EXPECT_EQUAL(got.usage.cached_tok, 64);
	r = device_engine_request(&expected, ids, 90, 20);
	device_engine_ask(cpu, &r, &expected);
	EXPECT(same(&got, &expected));
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(a_cancelled_request_ends_and_its_neighbour_does_not_notice)
{
	static struct device_answer cancelled, neighbour, expected;
	struct engine_stats stats;
	struct err err = {""};

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, NULL, "cuda");
	struct engine_request r = device_engine_request(&cancelled, ids, 30, 200),
			      n = device_engine_request(&neighbour, ids + 3, 30, 40);
	EXPECT_EQUAL(device_engine_submit(gpu, &r, &cancelled, &err), 0);
	EXPECT_EQUAL(device_engine_submit(gpu, &n, &neighbour, &err), 0);
	device_engine_wait_text(&cancelled);
	engine_cancel(gpu, cancelled.id);
	device_engine_wait(&cancelled);
	EXPECT_EQUAL(cancelled.finish, ENGINE_FINISH_CANCEL);
	device_engine_wait(&neighbour);
	n = device_engine_request(&expected, ids + 3, 30, 40);
	device_engine_ask(cpu, &n, &expected);
	EXPECT(same(&neighbour, &expected));
	engine_stats(gpu, &stats);
	EXPECT_EQUAL(stats.kv_blocks_used, 0);
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(json_is_constrained_on_the_device_as_on_the_processor)
{
	static struct device_answer got, expected;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, NULL, "cuda");
	struct engine_request r = device_engine_request(&expected, ids, 25, 30);
	r.json = true;
	device_engine_ask(cpu, &r, &expected);
	r = device_engine_request(&got, ids, 25, 30);
	r.json = true;
	device_engine_ask(gpu, &r, &got);
	EXPECT_EQUAL(got.status, 0);
	EXPECT(got.len > 0);
	EXPECT(same(&got, &expected));
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(log_probabilities_are_the_processors_and_their_steps_are_replayed)
{
	static struct device_answer got, expected;
	struct engine_device device;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, NULL, "cuda");
	struct engine_request r = device_engine_request(&expected, ids, 25, 30);
	r.logprobs = true;
	r.n_top_logprobs = ENGINE_LOGPROBS_MAX;
	device_engine_ask(cpu, &r, &expected);
	r.arg = memset(&got, 0, sizeof(got));
	device_engine_ask(gpu, &r, &got);
	EXPECT_EQUAL(got.n_logprobs, 30 * (1 + ENGINE_LOGPROBS_MAX));
	EXPECT(same(&got, &expected) && same_logprobs(&got, &expected));
	engine_device(gpu, &device);
	/* The prompt, one step to warm up, one that is captured. */
	EXPECT_EQUAL(device.graph_misses, 3);
	EXPECT_EQUAL(device.graph_hits, 30 - 3);
	engine_free(cpu);
	engine_free(gpu);
}

/* Two of six want them, and there are too few blocks for all. */
KERNEL_TEST(log_probabilities_beside_others_and_preempted_are_the_processors)
{
	struct engine_options o = {.kv_blocks = 17, .context_tok = 200};
	static struct device_answer got[N_REQUESTS], expected[N_REQUESTS];
	struct engine_request r[N_REQUESTS];
	struct engine_device device;
	struct engine_stats stats;
	struct err err = {""};

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, &o, "cuda");
	for (uint32_t i = 0; i < N_REQUESTS; i++) {
		r[i] = device_engine_request(&got[i], ids + i, 20 + 11 * i, 30);
		r[i].logprobs = i == 1 || i == 4;
		r[i].n_top_logprobs = i == 4 ? 3 : 0;
		EXPECT_EQUAL(device_engine_submit(gpu, &r[i], &got[i], &err), 0);
	}
	for (uint32_t i = 0; i < N_REQUESTS; i++) {
		r[i].arg = memset(&expected[i], 0, sizeof(expected[i]));
		device_engine_ask(cpu, &r[i], &expected[i]);
		device_engine_wait(&got[i]);
		EXPECT(same(&got[i], &expected[i]) && same_logprobs(&got[i], &expected[i]));
		EXPECT_EQUAL(got[i].n_logprobs, i == 1 ? 30 : i == 4 ? 4 * 30 : 0);
	}
	engine_stats(gpu, &stats);
	EXPECT(stats.preemptions > 0);
	engine_device(gpu, &device);
	EXPECT(device.graph_hits > 0);
	engine_free(cpu);
	engine_free(gpu);
}

KERNEL_TEST(probabilities_of_candidates_are_the_processors)
{
	static const char *const words[] = {"A", "Z"};
	static struct device_answer got, expected;
	struct engine_device device;

	fill_ids();
	struct engine *cpu = device_engine_open(&f32, NULL, "cpu"),
		      *gpu = device_engine_open(&f32, NULL, "cuda");
	struct engine_request r = device_engine_request(&expected, ids, 25, 12);
	struct engine_tokens tokens;
	int n = engine_tokenize(cpu, "A", 1, &tokens, NULL);
	if (kernel_test_skips(n == -ENOTSUP, "this build has no PCRE2 to find words with")) {
		engine_free(cpu);
		engine_free(gpu);
		return;
	}
	free(tokens.ids);
	r.candidates = words;
	r.n_candidates = 2;
	device_engine_ask(cpu, &r, &expected);
	r.arg = memset(&got, 0, sizeof(got));
	device_engine_ask(gpu, &r, &got);
	EXPECT(same(&got, &expected));
	engine_device(gpu, &device);
	/* The prompt; the step behind it, which asks for nothing; two that do not ask. */
	EXPECT_EQUAL(device.graph_misses, 1 + 1 + 2);
	EXPECT_EQUAL(device.graph_hits, 12 - 4);
	for (int i = 0; i < 2; i++)
		EXPECT((isnan(got.candidate_p[i]) && isnan(expected.candidate_p[i])) ||
			fabsf(got.candidate_p[i] - expected.candidate_p[i]) < 1e-5f);
	engine_free(cpu);
	engine_free(gpu);
}
