/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Norms and activations at the end of products (engine/cuda/tail.h) in whole models: beside the
 * same model with a launch for each, and, as a product then waits for the norm behind it, with
 * stages in orders that no transformer of ours has but backend.h allows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/model_state.h"
#include "tests/simt/device_models.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Of the range of logits: what few values make of it that are rounded to the other side. */
#define TOLERANCE 1e-3

static const struct {
	const char *name;
	struct tiny_llama file;
	bool fp8;
} cases[] = {
	{"F16", {.type = TENSOR_F16, .n_kv_heads = 1}, false},
	{"BF16", {.type = TENSOR_BF16, .n_embd = 128, .n_heads = 2}, false},
	{"Q8_0", {.type = TENSOR_Q8_0, .n_kv_heads = 2, .n_ff = 96}, false},
	{"Q4_0", {.type = TENSOR_Q4_0, .n_embd = 128}, false},
	{"Q4_1 and Q5_1", {.type = TENSOR_Q4_1, .better = TENSOR_Q5_1, .n_kv_heads = 2}, false},
	{"Q5_0", {.type = TENSOR_Q5_0, .n_ff = 96}, false},
	{"Q4_K and Q6_K", {.type = TENSOR_Q4_K, .better = TENSOR_Q6_K, .n_embd = 256, .n_heads = 8},
		false},
	{"Q5_K", {.type = TENSOR_Q5_K, .n_embd = 256, .n_heads = 8, .n_ff = 256}, false},
	{"Q8_0 and F16", {.type = TENSOR_Q8_0, .better = TENSOR_F16, .n_kv_heads = 2}, false},
	{"BF16 as FP8", {.type = TENSOR_BF16, .n_kv_heads = 2}, true},
};

/* All cases in the first order of threads, some in the other. */
#define FOR_CASES(i)                                                                               \
	static size_t n_orders;                                                                    \
	n_orders++;                                                                                \
	for (size_t i = 0; i < COUNT(cases); i += n_orders == 1 ? 1 : 3)

static uint32_t ids[64];

static void fill_ids(void)
{
	for (uint32_t i = 0; i < COUNT(ids); i++)
		ids[i] = kernel_test_random(256);
}

/* ---- beside the same without ---- */

/* The largest difference of a step's logits; all rows that are wanted are compared. */
static double difference(const struct device_models *with, const struct device_models *without,
	const struct batch_run *runs, size_t n_runs)
{
	float *got = device_models_logits(with, with->gpu, runs, n_runs),
	      *expected = device_models_logits(without, without->gpu, runs, n_runs);
	size_t n = 0;

	for (size_t i = 0; i < n_runs; i++)
		n += runs[i].n_logit_rows;
	double off = n ? device_models_difference(got, expected, n * with->n_vocab) : 0;
	free(got);
	free(expected);
	return off;
}

/* Prompts of which few rows or none go on; single tokens of 1 to 8 sequences; both in one step;
 * more rows than products with a tail take, before and behind such that do. */
static double most_of_steps(const struct device_models *with, const struct device_models *without)
{
	struct batch_run runs[9];
	double most = 0;

	for (uint32_t k = 0; k < 8; k++) {
		struct batch_run prompt = device_models_run(ids + k, 0, 2 + k, 2 * k, k % 3);
		most = fmax(most, difference(with, without, &prompt, 1));
	}
	for (uint32_t n = 1; n <= 9; n++) {
		for (uint32_t k = 0; k < n; k++)
			runs[k] = device_models_run(ids + 8 + k, 2 + k, 1, 2 * k, 1);
		most = fmax(most, difference(with, without, runs, n));
	}
	runs[0] = device_models_run(ids + 30, 3, 1, 0, 1);
	runs[1] = device_models_run(ids + 31, 4, 4, 2, 2);
	runs[2] = device_models_run(ids + 35, 0, 3, 20, 0);
	return fmax(most, difference(with, without, runs, 3));
}

KERNEL_TEST(steps_with_tails_give_the_logits_of_those_without)
{
	fill_ids();
	FOR_CASES(i)
	{
		struct model_options o = {.fp8 = cases[i].fp8, .tails = true};
		struct device_models with, without;
		struct err err = {""};

		EXPECT_EQUAL(device_models_try(&with, &cases[i].file, &o, &err), 0);
		o.tails = false;
		EXPECT_EQUAL(device_models_try(&without, &cases[i].file, &o, &err), 0);
		double off = most_of_steps(&with, &without);
		printf("%-18s largest difference %.1e of the range\n", cases[i].name, off);
		EXPECT_NEAR(off, 0, TOLERANCE);
		device_models_close(&without);
		device_models_close(&with);
	}
}

/* ---- other orders ---- */

static const struct model_layer *layer_of(const struct model *m)
{
	return m->weights.layer;
}

static void begin_layer(struct model *m)
{
	const struct model_layer *l = layer_of(m);
	const struct backend_product qkv[] = {
		{.w = &l->q, .out = BACKEND_Q},
		{.w = &l->k, .out = BACKEND_K},
		{.w = &l->v, .out = BACKEND_V},
	};

	m->backend->embed(m);
	m->backend->norm(m, l->attn_norm);
	m->backend->products(m, qkv, 3);
	m->backend->rope_and_write(m, 0);
	m->backend->attention(m, 0);
}

static void add_to_x(struct model *m, const struct ops_matrix *w)
{
	m->backend->products(
		m, &(struct backend_product){.w = w, .out = BACKEND_X, .add = true}, 1);
}

static void gate_and_up(struct model *m)
{
	const struct model_layer *l = layer_of(m);
	const struct backend_product in[] = {
		{.w = &l->gate, .out = BACKEND_GATE}, {.w = &l->up, .out = BACKEND_UP}};

	m->backend->products(m, in, 2);
}

static void end_model(struct model *m)
{
	const struct backend_product out[] = {{.w = &m->weights.out, .out = BACKEND_LOGITS}};

	m->backend->norm(m, m->weights.out_norm);
	m->backend->products(m, out, 1);
}

static void twice_of_one_h(struct model *m)
{
	const struct ops_matrix *w = &layer_of(m)->attn_out;
	const struct backend_product both[] = {
		{.w = w, .out = BACKEND_X, .add = true}, {.w = w, .out = BACKEND_X, .add = true}};

	m->backend->products(m, both, 2);
	add_to_x(m, w);
}

static void kept_behind_it(struct model *m)
{
	add_to_x(m, &layer_of(m)->attn_out);
	m->backend->keep(m);
	add_to_x(m, &layer_of(m)->attn_out);
}

static void other_products_of_its_h(struct model *m)
{
	add_to_x(m, &layer_of(m)->attn_out);
	gate_and_up(m);
	m->backend->activate(m, BACKEND_SWIGLU);
	add_to_x(m, &layer_of(m)->down);
}

static void between_gate_and_its_activation(struct model *m)
{
	gate_and_up(m);
	add_to_x(m, &layer_of(m)->attn_out);
	m->backend->activate(m, BACKEND_SWIGLU);
	add_to_x(m, &layer_of(m)->down);
}

static void attention_behind_it(struct model *m)
{
	add_to_x(m, &layer_of(m)->attn_out);
	m->backend->attention(m, 0);
	add_to_x(m, &layer_of(m)->attn_out);
}

static void a_norm_that_nobody_reads(struct model *m)
{
	add_to_x(m, &layer_of(m)->attn_out);
	m->backend->norm(m, layer_of(m)->ffn_norm);
}

/* Logits of the first and the last row of a prompt of six. */
static void step(struct model *m, void (*middle)(struct model *m), float *out, size_t n)
{
	struct batch_run run = device_models_run(ids, 0, 6, 0, middle == kept_behind_it ? 2 : 6);
	struct backend_batch batch = {
		.runs = &run, .n_runs = 1, .n_rows = 6, .n_picks = run.n_logit_rows};
	struct model_result results[6];
	struct err err = {""};

	EXPECT_EQUAL(m->backend->begin(m, &batch, &err), 0);
	begin_layer(m);
	middle(m);
	end_model(m);
	EXPECT_EQUAL(m->backend->end(m), 0);
	EXPECT_EQUAL(m->backend->finish(m, results, &err), 0);
	memcpy(out, results[0].logits, n * sizeof *out);
	memcpy(out + n, results[run.n_logit_rows - 1].logits, n * sizeof *out);
}

KERNEL_TEST(a_product_that_waits_for_a_norm_is_done_whatever_comes_instead)
{
	static void (*const middle[])(struct model *) = {twice_of_one_h, kept_behind_it,
		other_products_of_its_h, between_gate_and_its_activation, attention_behind_it,
		a_norm_that_nobody_reads};
	static const struct tiny_llama files[] = {{.type = TENSOR_BF16, .n_layers = 1, .n_ff = 64},
		{.type = TENSOR_Q8_0, .n_layers = 1, .n_embd = 128, .n_ff = 128},
		{.type = TENSOR_Q8_0, .better = TENSOR_BF16, .n_layers = 1, .n_ff = 64}};
	static float got[2 * 320], expected[2 * 320];

	fill_ids();
	for (size_t f = 0; f < COUNT(files); f++) {
		struct device_models d, without;
		struct model_options o = {.tails = true};
		struct err err = {""};

		EXPECT_EQUAL(device_models_try(&d, &files[f], &o, &err), 0);
		EXPECT_EQUAL(device_models_try(&without, &files[f], NULL, &err), 0);
		for (size_t i = 0; i < COUNT(middle); i++) {
			step(d.gpu, middle[i], got, d.n_vocab);
			step(without.gpu, middle[i], expected, d.n_vocab);
			EXPECT_NEAR(device_models_difference(got, expected, 2 * d.n_vocab), 0,
				TOLERANCE);
		}
		device_models_close(&without);
		device_models_close(&d);
	}
}
