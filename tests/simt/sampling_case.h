/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_SAMPLING_CASE_H
#define TESTS_SIMT_SAMPLING_CASE_H

/* Rows that are sampled on the device and by engine/sampler.h, which is the definition. */
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

static inline void set_bit(uint32_t *bits, uint32_t i)
{
	bits[i / 32] |= 1u << i % 32;
}

static inline void ban_some(struct bench *b, uint32_t *ids, uint32_t *n, uint32_t *device)
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

static inline struct bench *bench_new(uint32_t n_vocab)
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

static inline void bench_free(struct bench *b)
{
	sampler_free(b->cpu);
}

static inline float *row_of(struct bench *b, uint32_t i)
{
	return b->logits + i * b->ld;
}

/* Runs what rows and logits say. */
static inline void run(struct bench *b, bool with_facts)
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
static inline uint32_t cpu_pick(
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
static inline void fill_row(float *x, uint32_t n)
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

static inline struct engine_sampling random_settings(uint32_t n_vocab)
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

/* The emulator takes its time; the card gets more. */
static inline uint32_t rounds_of(uint32_t emulated, uint32_t card)
{
	return kernel_test_emulated() ? emulated : card;
}

#endif
