/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which weights the steps of a model ask for ahead: those of the next product, in the order of its
 * bytes, once, and never more than they may; in steps of few rows; issued and replayed alike. The
 * order of products is written down here once more, from what a transformer is.
 *
 * Only for the emulator, which alone can say what was asked for.
 */
#include <string.h>

#include "engine/backend.h"
#include "engine/cuda/state.h"
#include "tests/simt/device_models.h"
#include "tests/simt/include/simt.h"

#define MOST_SPANS 64
#define MOST_ASKS 128

/* Weights of one product. */
struct span {
	const char *from;
	size_t size;
};

#define WHOLE_KB 1024 /* more than a third of it is more than a matrix here */

/* What a launch asked for: bytes that lie together. */
struct ask {
	const char *kernel, *from;
	size_t size;
	bool early;
};

static const struct {
	const char *name;
	struct tiny_llama file;
	bool fp8;
	unsigned products; /* of a layer */
} cases[] = {
	{"BF16", {.type = TENSOR_BF16, .n_kv_heads = 2}, false, 4},
	{"F16, tied", {.type = TENSOR_F16, .tied = true}, false, 4},
	{"F32, odd heads", {.type = TENSOR_F32, .n_embd = 88, .n_heads = 4, .n_ff = 90}, false, 7},
	{"Q8_0", {.type = TENSOR_Q8_0, .n_kv_heads = 2}, false, 4},
	{"Q4_K and Q6_K", {.type = TENSOR_Q4_K, .better = TENSOR_Q6_K, .n_embd = 256, .n_heads = 8},
		false, 5},
	{"BF16 as FP8", {.type = TENSOR_BF16, .n_kv_heads = 2}, true, 4},
	{"Q5_0", {.type = TENSOR_Q5_0}, false, 4},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

/* ---- what is to be asked for ---- */

/* Whether the matrix is multiplied together with the one before it. */
static bool is_behind(const struct cuda_matrix *w, unsigned in_layer)
{
	bool may = in_layer == 1 || in_layer == 2 || in_layer == 5;
	const struct cuda_matrix *before = w - 1;

	return may && w->data == before->data + cuda_place_matrix_bytes(before) &&
	       w->file_type == before->file_type && before->rows % 16 == 0;
}

/* The products of a step in their order. */
static size_t spans_of(const struct cuda_model *s, struct span out[MOST_SPANS])
{
	size_t n = 0;

	for (unsigned i = 2; i < s->n_matrices; i++) {
		const struct cuda_matrix *w = &s->matrix[i];
		size_t size = cuda_place_matrix_bytes(w);

		if (is_behind(w, (i - 2) % 7))
			out[n - 1].size += size;
		else
			out[n++] = (struct span){(const char *)w->data, size};
		EXPECT(n < MOST_SPANS);
	}
	out[n++] = (struct span){
		(const char *)s->matrix[1].data, cuda_place_matrix_bytes(&s->matrix[1])};
	return n;
}

/* ---- what is asked for ---- */

/* By launch; fails the test where a launch asks for bytes that do not lie together. */
static size_t take_asks(struct ask out[MOST_ASKS])
{
	const struct simt_asked *list;
	size_t n = simt_take_asked(&list), n_out = 0;

	for (size_t i = 0, k; i < n; i = k) {
		const char *low = list[i].from, *high = low;
		size_t sum = 0;

		for (k = i; k < n && list[k].launch == list[i].launch; k++) {
			const char *end = list[k].from + list[k].size;

			low = list[k].from < low ? list[k].from : low;
			high = end > high ? end : high;
			sum += list[k].size;
			EXPECT(list[k].early == list[i].early);
		}
		EXPECT_EQUAL(high - low, sum);
		EXPECT(n_out < MOST_ASKS);
		out[n_out++] = (struct ask){list[i].kernel, low, sum, list[i].early};
	}
	return n_out;
}

static size_t most_of(const struct span *s, size_t most)
{
	return (s->size < most ? s->size : most) / 16 * 16;
}

/* The step's asks are the products' first bytes, product after product, from those of the first
 * that the step before has not asked for to those of it that this one leaves to the next. */
static void check_order(
	const struct ask *ask, size_t n, const struct span *span, size_t n_spans, size_t most)
{
	size_t whole = most_of(&span[0], most), now = 0;
	bool rest = n > 0 && ask[0].from >= span[0].from && ask[0].from < span[0].from + whole;
	size_t before = rest ? (size_t)(ask[0].from - span[0].from) : whole, at = before;

	for (size_t i = 0; i < n; i++) {
		if (at == whole || ask[i].from != span[now % n_spans].from + at) {
			now++; /* the next product, which may lie behind this one */
			whole = most_of(&span[now % n_spans], most);
			at = 0;
			EXPECT(ask[i].from == span[now % n_spans].from);
		}
		at += ask[i].size;
		EXPECT(at <= whole);
	}
	EXPECT_EQUAL(now, n_spans); /* the first one again, of the next step */
	EXPECT_EQUAL(at, before);
}

/* ---- steps ---- */

static void step(struct device_models *d, uint32_t pos, uint32_t n, struct model_result *result)
{
	static const uint32_t ids[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	struct batch_run run = device_models_run(ids + pos, pos, n, 0, 1);
	struct model_pick pick = {.how = {.top_p = 1}};
	struct err err = {""};

	EXPECT_EQUAL(model_begin(d->gpu, &run, 1, &pick, &err), 0);
	EXPECT_EQUAL(model_finish(d->gpu, result, &err), 0);
}

static struct device_models open_model_with(size_t i, int32_t ahead_kb, bool no_tails)
{
	struct model_options o = {.fp8 = cases[i].fp8, .ahead_kb = ahead_kb, .tails = !no_tails};
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &cases[i].file, &o, &err), 0);
	return d;
}

static struct device_models open_model(size_t i, int32_t ahead_kb)
{
	return open_model_with(i, ahead_kb, false);
}

static const struct cuda_model *state_of(const struct device_models *d)
{
	return d->gpu->state;
}

/* 3 KB: each launch asks for one or two, so that all of them have their turn. Everything, where
 * that is more than a matrix. */
KERNEL_TEST(each_step_asks_for_the_next_products_in_their_order_and_no_byte_twice)
{
	static const int32_t kb[] = {3, 12, WHOLE_KB};
	struct span span[MOST_SPANS];
	struct ask ask[MOST_ASKS], first[MOST_ASKS];
	struct model_result result;

	for (size_t i = 0; i < N_CASES; i++)
		for (size_t k = 0; k < 3; k++) {
			struct device_models d = open_model(i, kb[k]);
			const struct cuda_model *s = state_of(&d);
			struct backend_stats stats;
			size_t n_spans = spans_of(s, span), n_first = 0;

			EXPECT_EQUAL(n_spans, 1 + 2 * cases[i].products);
			take_asks(ask);
			/* Issued, captured, replayed three times. */
			for (uint32_t pos = 0; pos < 5; pos++) {
				step(&d, pos, 1, &result);
				size_t n = take_asks(ask);
				check_order(ask, n, span, n_spans, s->ahead_bytes);
				n_first = pos == 0 ? n : n_first;
				if (pos == 0)
					memcpy(first, ask, sizeof(ask));
				EXPECT_EQUAL(n, n_first);
				EXPECT(memcmp(first, ask, n * sizeof(ask[0])) == 0);
			}
			model_device_stats(d.gpu, &stats);
			EXPECT_EQUAL(stats.graph_hits, 3);
			device_models_close(&d);
		}
}

/* With so little that each launch has a part of it. */
KERNEL_TEST(every_kind_of_launch_asks_and_does_it_when_it_is_meant_to)
{
	static const struct {
		size_t i;
		const char *kernel;
		bool early, no_tails;
	} askers[] = {
		{0, "embed_kernel", true, false},
		{0, "norm_kernel", true, true},
		{0, "decode_kernel", true, false},
		{0, "gemv<TYPE, END>", false, false},
		{0, "gemv<TYPE, END>", false, true},
		{0, "sample_best", true, false},
		{2, "rope_kernel", true, false}, /* of others decode_kernel rotates */
		{2, "plain_kernel<ACT, ACT>", true, false},
		{2, "gemv_f32<1>", false, false},
		{2, "plain_kernel<OUT>", true, false}, /* the activation */
		{3, "gemv<TYPE, ODD, TAIL>", false, false},
		{3, "gemv<TYPE, ODD, TAIL>", false, true},
		{5, "scaled_kernel", true, false},
	};
	struct ask ask[MOST_ASKS];
	struct model_result result;

	for (size_t k = 0; k < sizeof(askers) / sizeof(askers[0]); k++) {
		struct device_models d = open_model_with(askers[k].i, 3, askers[k].no_tails);
		size_t n_seen = 0;

		take_asks(ask);
		step(&d, 0, 1, &result);
		for (size_t n = take_asks(ask); n-- > 0;)
			if (strstr(ask[n].kernel, askers[k].kernel)) {
				EXPECT(ask[n].early == askers[k].early);
				n_seen++;
			}
		if (n_seen == 0)
			kernel_test_fail(
				__FILE__, __LINE__, "%s asks for nothing", askers[k].kernel);
		device_models_close(&d);
	}
}

/* While the last block of a product norms nothing else runs: all of the product behind it is asked
 * for, twice in each layer. */
KERNEL_TEST(a_product_that_norms_asks_for_all_that_may_be_of_the_one_behind_it)
{
	struct device_models d = open_model(0, 3);
	const struct cuda_model *s = state_of(&d);
	struct span span[MOST_SPANS];
	struct ask ask[MOST_ASKS];
	struct model_result result;
	size_t n_spans = spans_of(s, span), n_whole = 0;

	take_asks(ask);
	step(&d, 0, 1, &result);
	for (size_t n = take_asks(ask); n-- > 0;)
		for (size_t k = 0; k < n_spans && strstr(ask[n].kernel, "gemv<"); k++)
			n_whole += ask[n].from == span[k].from &&
				   ask[n].size == most_of(&span[k], s->ahead_bytes);
	EXPECT_EQUAL(n_whole, 2 * s->m->config.n_layers);
	device_models_close(&d);
}

KERNEL_TEST(a_step_of_many_rows_asks_for_nothing_until_few_are_left)
{
	struct device_models d = open_model(0, 3);
	const struct cuda_model *s = state_of(&d);
	/* The last layer's output of attention: from there on only the last row is computed. */
	const struct cuda_matrix *o = &s->matrix[2 + 7 * (s->m->config.n_layers - 1) + 3];
	struct span span[MOST_SPANS];
	struct ask ask[MOST_ASKS];
	struct model_result result;
	size_t n_spans = spans_of(s, span), n;

	take_asks(ask);
	step(&d, 0, 9, &result);
	n = take_asks(ask);
	EXPECT(n > 0);
	EXPECT(ask[0].from == (const char *)o->data);
	EXPECT(ask[n - 1].from >= span[0].from &&
		ask[n - 1].from + ask[n - 1].size <= span[0].from + span[0].size);
	EXPECT(n < n_spans * 2);
	step(&d, 9, 8, &result); /* few again: they begin with the first product */
	n = take_asks(ask);
	EXPECT(ask[0].from > span[0].from && ask[0].from < span[0].from + span[0].size);
	device_models_close(&d);
}

/* Rows of 84 values of f16, which cuBLASLt multiplies: the small kernels ask all the same, and the
 * output, of 321 rows, does not end at 16 bytes. */
KERNEL_TEST(the_end_of_a_matrix_that_is_no_multiple_of_16_bytes_is_left_out)
{
	static const struct tiny_llama odd = {
		.type = TENSOR_F16, .n_embd = 84, .n_heads = 6, .n_vocab = 321};
	const struct model_options o = {.ahead_kb = WHOLE_KB, .tails = true};
	struct device_models d;
	struct err err = {""};
	struct ask ask[MOST_ASKS];
	struct model_result result;
	size_t n, size = 321 * 84 * 2, asked = 0;

	EXPECT_EQUAL(device_models_try(&d, &odd, &o, &err), 0);
	const char *out = (const char *)state_of(&d)->matrix[1].data;
	take_asks(ask);
	step(&d, 0, 1, &result);
	n = take_asks(ask);
	for (size_t i = 0; i < n; i++)
		if (ask[i].from >= out && ask[i].from < out + size)
			asked += ask[i].size;
	EXPECT_EQUAL(asked, size - 8);
	device_models_close(&d);
}

KERNEL_TEST(nothing_is_asked_for_where_the_options_say_so)
{
	struct device_models d = open_model(0, -1);
	struct ask ask[MOST_ASKS];
	struct model_result result;

	take_asks(ask);
	for (uint32_t pos = 0; pos < 4; pos++)
		step(&d, pos, 1, &result);
	EXPECT_EQUAL(take_asks(ask), 0);
	device_models_close(&d);
}

KERNEL_TEST(nothing_is_asked_for_that_no_option_names)
{
	const struct model_options none = {.ahead_kb = -1}, some = {.ahead_kb = 100}, own = {0},
				   all = {.ahead_kb = INT32_MAX};

	EXPECT_EQUAL(cuda_ahead_most(&own), 0);
	EXPECT_EQUAL(cuda_ahead_most(&some), 100 << 10);
	EXPECT_EQUAL(cuda_ahead_most(&none), 0);
	EXPECT_EQUAL(cuda_ahead_most(&all), 1 << 30);
}

KERNEL_TEST(tokens_and_logits_are_the_same_with_and_without)
{
	static const int32_t kb[] = {-1, 3, WHOLE_KB};
	uint32_t tokens[3][5];
	struct err err = {""};

	for (size_t i = 0; i < N_CASES; i++) {
		float *logits[3];

		for (size_t k = 0; k < 3; k++) {
			static const uint32_t ids[] = {9, 8, 7, 6};
			struct device_models d = open_model(i, kb[k]);
			struct batch_run run = device_models_run(ids, 0, 4, 30, 4);

			EXPECT_EQUAL(device_models_ask(&d, tokens[k], &err), 0);
			logits[k] = device_models_logits(&d, d.gpu, &run, 1);
			EXPECT(memcmp(tokens[k], tokens[0], sizeof(tokens[0])) == 0);
			EXPECT(memcmp(logits[k], logits[0],
				       4 * (size_t)d.n_vocab * sizeof(float)) == 0);
			device_models_close(&d);
		}
		for (size_t k = 0; k < 3; k++)
			free(logits[k]);
	}
}
