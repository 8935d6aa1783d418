/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling on the device gives the CPU's token, to the bit: engine/sampler.h is the definition. */
#include "engine/cuda/sample.h"
#include "engine/sampler.h"
#include "tests/simt/kernel_test.h"

#define MAX_ROWS 16
#define MAX_SLOTS 4

/* A sampler of each kind, and one step. */
struct bench {
	uint32_t n_vocab, n_rows;
	size_t ld;
	struct sampler *cpu;
	struct sample_state state;
	float *logits, *copy; /* [MAX_ROWS][ld] of the host; what the CPU works on */
	float *device_logits;
	uint32_t *device_masks, *masks; /* [MAX_ROWS][n_words] */
	struct sample_row rows[MAX_ROWS], *device_rows;
	struct engine_sampling how[MAX_ROWS];
	uint32_t picked[MAX_ROWS], *device_picked;
	uint32_t next[MAX_ROWS], *device_next;
	struct sampler_facts facts[MAX_ROWS], *device_facts;
	uint32_t n_control, n_ends;
	uint32_t control[8], ends[8];
	uint32_t n_processors;
};

static void set_bit(uint32_t *bits, uint32_t i)
{
	bits[i / 32] |= 1u << i % 32;
}

static void ban_some(struct bench *b, uint32_t *ids, uint32_t *n, uint32_t *device)
{
	uint32_t *bits = kernel_test_host(b->state.n_words * sizeof *bits);

	*n = b->n_vocab > 100 ? 8 : 1;
	for (uint32_t i = 0; i < *n; i++) {
		ids[i] = kernel_test_random(b->n_vocab);
		set_bit(bits, ids[i]);
	}
	EXPECT_CUDA(
		cudaMemcpy(device, bits, b->state.n_words * sizeof *bits, cudaMemcpyHostToDevice));
}

static struct bench *bench_new(uint32_t n_vocab)
{
	struct bench *b = kernel_test_host(sizeof *b);
	size_t bytes;

	b->n_vocab = n_vocab;
	b->ld = (n_vocab + 3) / 4 * 4;
	b->cpu = sampler_new(n_vocab);
	sample_place(&b->state, n_vocab, MAX_ROWS, MAX_SLOTS,
		kernel_test_device(sample_bytes(n_vocab, MAX_ROWS, MAX_SLOTS)));
	EXPECT_CUDA(sample_clear(&b->state, NULL));
	bytes = MAX_ROWS * b->ld * sizeof(float);
	b->logits = kernel_test_host(bytes);
	b->copy = kernel_test_host(b->ld * sizeof(float));
	b->device_logits = kernel_test_device(bytes);
	b->masks = kernel_test_host(MAX_ROWS * b->state.n_words * sizeof *b->masks);
	b->device_masks = kernel_test_device(MAX_ROWS * b->state.n_words * sizeof *b->masks);
	b->device_rows = kernel_test_device(sizeof b->rows);
	b->device_picked = kernel_test_device(sizeof b->picked);
	b->device_next = kernel_test_device(sizeof b->next);
	b->device_facts = kernel_test_device(sizeof b->facts);
	ban_some(b, b->control, &b->n_control, b->state.control);
	ban_some(b, b->ends, &b->n_ends, b->state.ends);
	return b;
}

static void bench_free(struct bench *b)
{
	sampler_free(b->cpu);
}

static float *row_of(struct bench *b, uint32_t i)
{
	return b->logits + i * b->ld;
}

/* Runs what rows and logits say. */
static void run(struct bench *b, bool with_facts)
{
	size_t words = b->state.n_words * sizeof *b->masks;
	struct sample_step step = {
		.logits = b->device_logits,
		.ld = b->ld,
		.n_rows = b->n_rows,
		.rows = b->device_rows,
		.masks = b->device_masks,
		.picked = b->device_picked,
		.next_id = b->device_next,
		.facts = with_facts ? b->device_facts : NULL,
		.n_processors = b->n_processors,
	};

	EXPECT_CUDA(cudaMemcpy(b->device_logits, b->logits, b->n_rows * b->ld * sizeof(float),
		cudaMemcpyHostToDevice));
	EXPECT_CUDA(cudaMemcpy(b->device_rows, b->rows, sizeof b->rows, cudaMemcpyHostToDevice));
	EXPECT_CUDA(
		cudaMemcpy(b->device_masks, b->masks, b->n_rows * words, cudaMemcpyHostToDevice));
	EXPECT_CUDA(sample_run(&b->state, &step, NULL));
	kernel_test_download(b->picked, b->device_picked, sizeof b->picked);
	kernel_test_download(b->next, b->device_next, sizeof b->next);
	if (with_facts)
		kernel_test_download(b->facts, b->device_facts, sizeof b->facts);
}

/* What the CPU picks for a row. `history` may be NULL. */
static uint32_t cpu_pick(
	struct bench *b, uint32_t i, uint64_t position, const struct sampler_history *history)
{
	float *x = b->copy;
	const struct sample_row *row = &b->rows[i];

	memcpy(x, row_of(b, i), b->n_vocab * sizeof *x);
	if (history)
		sampler_adjust(b->cpu, x, &b->how[i], history);
	for (uint32_t k = 0; k < b->n_control; k++)
		x[b->control[k]] = -INFINITY;
	for (uint32_t k = 0; k < b->n_ends && (row->flags & SAMPLE_NO_END); k++)
		x[b->ends[k]] = -INFINITY;
	for (uint32_t k = 0; k < b->n_vocab && row->mask != SAMPLE_NONE; k++)
		if (!(b->masks[row->mask * b->state.n_words + k / 32] >> k % 32 & 1))
			x[k] = -INFINITY;
	return sampler_pick(b->cpu, x, &b->how[i], position);
}

/* Rows as models give them, and rows as nobody should. */
static void fill_row(float *x, uint32_t n)
{
	uint32_t kind = kernel_test_random(8);
	float width = kind == 1 ? 0.01f : kind == 2 ? 40 : 5;

	for (uint32_t i = 0; i < n; i++) {
		x[i] = kernel_test_random_float() * width;
		x[i] += kernel_test_random_float() * width + kernel_test_random_float() * width;
		if (kind == 3) /* few different ones */
			x[i] = (float)(int)x[i];
		if (kind == 4) /* all alike */
			x[i] = 2.5f;
		if (kind == 5 && kernel_test_random(3) == 0)
			x[i] = kernel_test_random(2) ? NAN : -INFINITY;
		if (kind == 6) /* an end where hardly anything is left */
			x[i] = kernel_test_random(4) ? -1e30f : x[i] * 1e-3f;
	}
	for (uint32_t i = 0; i < 12 && (kind == 0 || kind == 7); i++) /* a few that stand out */
		x[kernel_test_random(n)] = 14 - (float)i * 0.4f;
}

static struct engine_sampling random_settings(uint32_t n_vocab)
{
	static const float temperatures[] = {0, 0.1f, 0.7f, 1, 1, 2, 100, 1e-44f};
	static const uint32_t top_ks[] = {0, 0, 1, 40, 2, 1000};
	static const float top_ps[] = {1, 1, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f, 0};
	static const float min_ps[] = {0, 0, 0, 0.05f, 0.5f, 1};
	struct engine_sampling how = {
		.temperature = temperatures[kernel_test_random(8)],
		.top_k = top_ks[kernel_test_random(6)],
		.top_p = top_ps[kernel_test_random(8)],
		.min_p = min_ps[kernel_test_random(6)],
		.seed = kernel_test_random(1000),
	};

	if (kernel_test_random(10) == 0)
		how.top_k = kernel_test_random(n_vocab + 2);
	return how;
}

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

/* The emulator takes its time; the card gets more. */
static uint32_t rounds_of(uint32_t emulated, uint32_t card)
{
	return kernel_test_emulated() ? emulated : card;
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

/* ---- facts ---- */

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
