/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling on the device gives the CPU's token, to the bit: engine/sampler.h is the definition. */
#include "tests/simt/sampling_case.h"

static void fill_mask(struct bench *b, uint32_t i)
{
	uint32_t *bits = b->masks + (size_t)i * b->state.n_words;
	uint32_t one_in = kernel_test_random(4) * 10 + 1;

	memset(bits, 0, b->state.n_words * sizeof *bits);
	if (kernel_test_random(10) == 0)
		return; /* nothing is allowed */
	for (uint32_t k = 0; k < b->n_vocab; k++)
		if (kernel_test_random(one_in) == 0)
			set_bit(bits, k);
}

static void compare(uint32_t n_vocab, uint32_t rounds)
{
	static const uint32_t processors[] = {1, 4, 132};
	struct bench *b = bench_new(n_vocab);

	for (uint32_t round = 0; round < rounds; round++) {
		uint64_t position = kernel_test_random(100000);

		b->n_rows = kernel_test_random(MAX_ROWS) + 1;
		b->n_processors = processors[round % 3];
		for (uint32_t i = 0; i < b->n_rows; i++) {
			fill_row(row_of(b, i), n_vocab);
			b->how[i] = random_settings(n_vocab);
			b->rows[i] = sample_row_of(&b->how[i], position + i, SAMPLE_NONE, false,
				kernel_test_random(2));
			b->rows[i].next = b->n_rows - 1 - i;
			if (kernel_test_random(5) == 0) {
				fill_mask(b, i);
				b->rows[i].mask = i;
			}
		}
		run(b, false);
		for (uint32_t i = 0; i < b->n_rows; i++) {
			uint32_t want = cpu_pick(b, i, position + i, NULL);

			if (b->picked[i] != want)
				kernel_test_fail(__FILE__, __LINE__,
					"vocabulary %u round %u row %u: %u, not %u (temperature %g "
					"top_k %u top_p %g min_p %g)",
					n_vocab, round, i, b->picked[i], want,
					(double)b->how[i].temperature, b->how[i].top_k,
					(double)b->how[i].top_p, (double)b->how[i].min_p);
			EXPECT_EQUAL(b->next[b->n_rows - 1 - i], want);
		}
	}
	bench_free(b);
}

KERNEL_TEST(tokens_are_the_cpus_for_tiny_vocabularies)
{
	compare(1, 2);
	compare(5, 10);
	compare(32, rounds_of(60, 1000));
}

KERNEL_TEST(tokens_are_the_cpus_for_small_vocabularies)
{
	compare(1000, rounds_of(30, 1000));
	compare(1337, rounds_of(10, 1000));
}

KERNEL_TEST(tokens_are_the_cpus_for_large_vocabularies)
{
	compare(32000, rounds_of(2, 300));
	compare(128256, rounds_of(1, 300));
}

KERNEL_TEST(where_more_tokens_meet_at_a_cut_than_the_list_holds_the_row_is_read)
{
	static const struct engine_sampling hows[] = {
		{.temperature = 1, .top_p = 0.4f},
		{.temperature = 1, .top_p = 1, .top_k = 3000},
		{.temperature = 1, .top_p = 0.7f, .top_k = 4000},
	};
	struct bench *b = bench_new(4352);

	b->n_rows = 4;
	b->n_processors = 8;
	for (uint32_t i = 0; i < b->n_rows; i++) {
		for (uint32_t k = 0; k < b->n_vocab; k++) /* alike; then alike for a bin only */
			row_of(b, i)[k] = i < 3 ? 1 : 1 + kernel_test_random_float() * 1e-4f;
		b->how[i] = hows[i % 3];
		b->rows[i] = sample_row_of(&b->how[i], i, SAMPLE_NONE, false, false);
	}
	run(b, false);
	for (uint32_t i = 0; i < b->n_rows; i++)
		EXPECT_EQUAL(b->picked[i], cpu_pick(b, i, i, NULL));
	bench_free(b);
}

KERNEL_TEST(rows_of_padding_get_no_token)
{
	struct bench *b = bench_new(100);

	b->n_rows = 3;
	b->n_processors = 4;
	for (uint32_t i = 0; i < 3; i++)
		fill_row(row_of(b, i), 100);
	b->how[1] = (struct engine_sampling){.temperature = 1, .top_p = 1};
	b->rows[1] = sample_row_of(&b->how[1], 7, SAMPLE_NONE, false, false);
	run(b, false);
	EXPECT_EQUAL(b->picked[0], SAMPLE_NONE);
	EXPECT_EQUAL(b->picked[1], cpu_pick(b, 1, 7, NULL));
	EXPECT_EQUAL(b->picked[2], SAMPLE_NONE);
	EXPECT_EQUAL(b->next[0], UINT32_MAX); /* nobody asked for it */
	bench_free(b);
}

/* ---- penalties ---- */

#define PROMPT 40
#define ANSWER 30

/* A sequence under way in a slot. */
struct text {
	uint32_t ids[PROMPT + ANSWER], n_tok;
	struct engine_bias bias[ENGINE_BIAS_MAX];
	uint32_t n_bias;
};

static void open_slot(struct bench *b, uint32_t slot, const struct text *t)
{
	struct sample_bias *bias = kernel_test_host(sizeof *bias), *device_bias;
	uint32_t *ids = kernel_test_upload(t->ids, sizeof t->ids);

	bias->n = t->n_bias;
	for (uint32_t i = 0; i < t->n_bias; i++) {
		bias->ids[i] = t->bias[i].id;
		bias->bias[i] = t->bias[i].bias;
	}
	device_bias = kernel_test_upload(bias, sizeof *bias);
	EXPECT_CUDA(sample_open(
		&b->state, slot, ids, PROMPT, t->n_tok, t->n_bias ? device_bias : NULL, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize());
}

static void start_text(struct bench *b, struct text *t, uint32_t n_bias)
{
	t->n_tok = PROMPT + kernel_test_random(5);
	for (uint32_t i = 0; i < PROMPT + ANSWER; i++)
		t->ids[i] = kernel_test_random(b->n_vocab / 2);
	t->n_bias = n_bias;
	for (uint32_t i = 0; i < n_bias; i++) /* no id twice */
		t->bias[i] = (struct engine_bias){i * (b->n_vocab / n_bias),
			kernel_test_random(8) ? kernel_test_random_float() * 5 : -100};
}

KERNEL_TEST(penalties_and_biases_follow_the_text_without_the_host)
{
	static struct text texts[MAX_SLOTS];
	struct bench *b = bench_new(1003);

	b->n_rows = MAX_SLOTS;
	b->n_processors = 6;
	for (uint32_t i = 0; i < MAX_SLOTS; i++) {
		start_text(b, &texts[i], i == 1 ? ENGINE_BIAS_MAX : i * 5);
		b->how[i] = (struct engine_sampling){
			.temperature = i == 3 ? 0 : 0.8f,
			.top_p = 0.9f,
			.seed = i,
			.repetition_penalty = i == 2 ? 0 : 1.3f,
			.presence_penalty = i == 0 ? 0 : 0.5f,
			.frequency_penalty = i == 1 ? 0 : 0.7f,
		};
		open_slot(b, MAX_SLOTS - 1 - i, &texts[i]);
	}
	for (uint32_t round = 0; round < rounds_of(8, 25); round++) {
		for (uint32_t i = 0; i < MAX_SLOTS; i++) {
			fill_row(row_of(b, i), b->n_vocab);
			b->rows[i] = sample_row_of(&b->how[i], texts[i].n_tok, MAX_SLOTS - 1 - i,
				texts[i].n_bias > 0, i == 0);
			b->rows[i].flags |= SAMPLE_FACTS;
		}
		run(b, true);
		for (uint32_t i = 0; i < MAX_SLOTS; i++) {
			struct text *t = &texts[i];
			struct sampler_history history = {
				t->ids, PROMPT, t->n_tok, t->bias, t->n_bias};
			uint32_t want = cpu_pick(b, i, t->n_tok, &history);

			EXPECT_EQUAL(b->picked[i], want);
			if (want == SAMPLE_NONE)
				continue;
			EXPECT_NEAR(b->facts[i].picked, row_of(b, i)[want], 0);
			t->ids[t->n_tok++] = want;
		}
	}
	/* One that comes back, in another slot, has the same text. */
	open_slot(b, 0, &texts[0]);
	b->rows[0] = sample_row_of(&b->how[0], texts[0].n_tok, 0, true, false);
	b->n_rows = 1;
	run(b, false);
	{
		struct sampler_history history = {texts[0].ids, PROMPT, texts[0].n_tok, NULL, 0};

		EXPECT_EQUAL(b->picked[0], cpu_pick(b, 0, texts[0].n_tok, &history));
	}
	bench_free(b);
}

/* ---- graphs ---- */

KERNEL_TEST(a_captured_step_samples_as_its_rows_say_then)
{
	struct bench *b = bench_new(500);
	struct sample_step step = {b->device_logits, b->ld, 2, b->device_rows, NULL,
		b->device_picked, NULL, NULL, 4, {0}};
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;

	EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(sample_run(&b->state, &step, stream));
	EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
	EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
	for (uint32_t round = 0; round < 12; round++) {
		for (uint32_t i = 0; i < 2; i++) {
			fill_row(row_of(b, i), 500);
			b->how[i] = random_settings(500);
			b->rows[i] = sample_row_of(&b->how[i], round, SAMPLE_NONE, false, false);
		}
		EXPECT_CUDA(cudaMemcpyAsync(b->device_logits, b->logits, 2 * b->ld * sizeof(float),
			cudaMemcpyHostToDevice, stream));
		EXPECT_CUDA(cudaMemcpyAsync(
			b->device_rows, b->rows, sizeof b->rows, cudaMemcpyHostToDevice, stream));
		EXPECT_CUDA(cudaGraphLaunch(exec, stream));
		EXPECT_CUDA(cudaStreamSynchronize(stream));
		kernel_test_download(b->picked, b->device_picked, sizeof b->picked);
		for (uint32_t i = 0; i < 2; i++)
			EXPECT_EQUAL(b->picked[i], cpu_pick(b, i, round, NULL));
	}
	EXPECT_CUDA(cudaGraphExecDestroy(exec));
	EXPECT_CUDA(cudaGraphDestroy(graph));
	EXPECT_CUDA(cudaStreamDestroy(stream));
	bench_free(b);
}

KERNEL_TEST(sizes_that_cannot_be_are_refused)
{
	struct bench *b = bench_new(64);
	struct sample_step step = {b->device_logits, 60, 1, b->device_rows, NULL, b->device_picked,
		NULL, NULL, 4, {0}};

	EXPECT_EQUAL(sample_run(&b->state, &step, NULL), cudaErrorInvalidValue);
	step.ld = 66;
	EXPECT_EQUAL(sample_run(&b->state, &step, NULL), cudaErrorInvalidValue);
	step.ld = 64;
	step.n_rows = MAX_ROWS + 1;
	EXPECT_EQUAL(sample_run(&b->state, &step, NULL), cudaErrorInvalidValue);
	step.n_rows = 0;
	EXPECT_CUDA(sample_run(&b->state, &step, NULL));
	EXPECT_EQUAL(
		sample_open(&b->state, MAX_SLOTS, NULL, 0, 0, NULL, NULL), cudaErrorInvalidValue);
	bench_free(b);
}
