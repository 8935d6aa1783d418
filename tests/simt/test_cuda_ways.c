/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways of quantised products (quant.h) in whole models: from how many rows on each is taken,
 * that all are right, and that what they read has room.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/cuda/gemv.h"
#include "engine/cuda/state.h"
#include "tests/simt/device_models.h"

static uint32_t ids[128];

static void fill_ids(void)
{
	for (uint32_t i = 0; i < 128; i++)
		ids[i] = kernel_test_random(256);
}

/* So many rows that the weights are made bf16 first. */
KERNEL_TEST(a_long_prompt_of_quantised_weights_is_multiplied_densely)
{
	static const enum tensor_type types[] = {TENSOR_Q8_0, TENSOR_Q4_K};
	static const struct model_options o = {.max_rows = 640,
		.max_logit_rows = 4,
		.context_tok = 640,
		.dense_rows = 512}; /* by default not on every card */
	static uint32_t many[600];
	static int n_runs;

	if (n_runs++ > 0)
		return;
	for (uint32_t i = 0; i < 600; i++)
		many[i] = kernel_test_random(256);
	for (int k = 0; k < 2; k++) {
		struct tiny_llama file = {
			.type = types[k], .n_layers = 1, .n_embd = 256, .n_ff = 256};
		struct device_models d = device_models_open(&file, &o);
		struct batch_run run = device_models_run(many, 0, 530, 0, 3);
		float *expected = device_models_logits(&d, d.cpu, &run, 1),
		      *got = device_models_logits(&d, d.gpu, &run, 1);
		double off = device_models_difference(got, expected, 3 * (size_t)d.n_vocab);

		printf("%s, 530 rows: largest difference %.1e of the range\n",
			k == 0 ? "Q8_0" : "Q4_K", off);
		EXPECT_NEAR(off, 0, 3e-2);
		free(expected);
		free(got);
		device_models_close(&d);
	}
}

/* The three ways of quantised products (quant.h), each from the first row on: all are right, and
 * the one of int8 is none of the others. Those two multiply the same bf16: a card may give the same
 * sums. */
KERNEL_TEST(each_way_of_quantised_products_gives_the_logits_of_the_processor)
{
	static const struct {
		struct tiny_llama file;
		struct model_options options;
	} ways[] = {
		{{.type = TENSOR_Q8_0, .better = TENSOR_F16, .n_kv_heads = 2},
			{.wide_rows = UINT32_MAX, .dense_rows = UINT32_MAX}},
		{{.type = TENSOR_Q8_0, .better = TENSOR_F16, .n_kv_heads = 2},
			{.wide_rows = 1, .dense_rows = UINT32_MAX}},
		{{.type = TENSOR_Q8_0, .better = TENSOR_F16, .n_kv_heads = 2}, {.dense_rows = 1}},
	};
	/* Of one type, so that gate, up and activation may be one launch: not as bf16. */
	static const struct tiny_llama gated = {.type = TENSOR_Q8_0, .n_ff = 256};
	float *got[3];

	fill_ids();
	for (int i = 0; i < 3; i++) {
		struct device_models d = device_models_open(&ways[i].file, &ways[i].options);
		struct batch_run run = device_models_run(ids, 0, 70, 3, 70);
		float *expected = device_models_logits(&d, d.cpu, &run, 1);
		size_t n = 70 * (size_t)d.n_vocab;

		got[i] = device_models_logits(&d, d.gpu, &run, 1);
		EXPECT_NEAR(device_models_difference(got[i], expected, n), 0, 3e-2);
		EXPECT_NEAR(device_models_prompt(&d, ids, 3), 0, 3e-2);
		if (i > 0)
			EXPECT(memcmp(got[i], got[0], n * sizeof(float)) != 0);
		free(expected);
		device_models_close(&d);
		d = device_models_open(&gated, &ways[i].options);
		EXPECT_NEAR(device_models_prompt(&d, ids, 3), 0, 3e-2);
		device_models_close(&d);
	}
	for (int i = 0; i < 3; i++)
		free(got[i]);
}

/* Each that options do not say is the device's. */
KERNEL_TEST(limits_of_quantised_products_are_those_of_the_device)
{
	static const struct tiny_llama file = {.type = TENSOR_Q8_0, .n_layers = 1};
	static const struct model_options options[] = {{0}, {.wide_rows = 5}, {.dense_rows = 7}};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct device_models d = device_models_open(&file, &options[i]);
		const struct cuda_model *s = d.gpu->state;
		struct cuda_quant_limits l = cuda_quant_limits(s->context.major, s->context.minor);

		EXPECT_EQUAL(s->limits.wide, i == 1 ? 5 : l.wide);
		EXPECT_EQUAL(s->limits.dense, i == 2 ? 7 : l.dense);
		device_models_close(&d);
	}
}

/* What a step of many rows does not use lies directly behind h: it stays as it is when h is full,
 * whatever quantised products read. */
KERNEL_TEST(rows_that_products_read_have_room_in_each_way)
{
	static const struct model_options ways[] = {
		{.wide_rows = UINT32_MAX, .dense_rows = UINT32_MAX},
		{.wide_rows = 1, .dense_rows = UINT32_MAX},
		{.wide_rows = UINT32_MAX, .dense_rows = 1},
	};
	static const struct tiny_llama file = {
		.type = TENSOR_Q8_0, .n_layers = 1, .n_embd = 128, .n_heads = 4, .n_ff = 256};

	fill_ids();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct device_models d = device_models_open(&file, &ways[i]);
		const struct cuda_model *s = d.gpu->state;
		struct batch_run run = device_models_run(ids, 0, s->max_rows, 3, s->max_rows);
		size_t n = cuda_quant_q8_bytes(CUDA_GEMV_MAX_ROWS, model_config(d.gpu)->n_ff);
		uint8_t *got = kernel_test_host(n);

		EXPECT(s->buf.gated >= s->buf.h + s->buf.h_bytes &&
			s->buf.gated < s->buf.h + s->buf.h_bytes + 256);
		EXPECT_CUDA(cudaMemset(s->buf.gated, 0xa5, n));
		EXPECT_CUDA(cudaDeviceSynchronize());
		free(device_models_logits(&d, d.gpu, &run, 1));
		kernel_test_download(got, s->buf.gated, n);
		for (size_t k = 0; k < n; k++)
			EXPECT_EQUAL(got[k], 0xa5);
		device_models_close(&d);
	}
}
