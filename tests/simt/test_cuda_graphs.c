/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps as graphs, where calls fail or are late: a graph that cannot be made or started costs the
 * graphs and not the model; what lies between two steps is measured; a step takes as many launches
 * as is said.
 *
 * Only for the emulator: a card's calls cannot be made to fail.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "engine/backend.h"
#include "engine/cuda/state.h"
#include "engine/model_state.h"
#include "engine/sampler.h"
#include "tests/simt/cuda_calls.h"
#include "tests/simt/device_models.h"
#include "tests/simt/include/simt.h"

static const struct tiny_llama bf16 = {.type = TENSOR_BF16, .n_layers = 1};
static const struct tiny_llama q8_0 = {.type = TENSOR_Q8_0, .n_layers = 1, .n_embd = 128};
static const struct engine_sampling greedy = {.top_p = 1};
static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const struct sampler_asked asked = {.n_top = 3};

/* ---- graphs that fail ---- */

/* What the last blocks of products count with: zero, however far a step came (product_device.h). */
static void expect_zero_counters(const struct device_models *d)
{
	static uint32_t counter[16384];
	const struct cuda_model *s = d->gpu->state;

	kernel_test_download(counter, s->buf.product_workspace, sizeof(counter));
	for (size_t i = 0; i < sizeof(counter) / sizeof(counter[0]); i++)
		EXPECT_EQUAL(counter[i], 0);
}

/* Asks twice with the n-th call of that name failing: 0, if the tokens are the right ones. */
static int ask_without(
	const struct tiny_llama *file, const char *name, long n, struct backend_stats *stats)
{
	struct device_models d;
	struct err err = {""};
	static uint32_t want[5];
	static const struct tiny_llama *known;
	uint32_t got[5];
	long before = cuda_calls_live;

	if (known != file) {
		EXPECT_EQUAL(device_models_try(&d, file, NULL, &err), 0);
		EXPECT_EQUAL(device_models_ask(&d, want, &err), 0);
		device_models_close(&d);
	}
	known = file;
	EXPECT_EQUAL(device_models_try(&d, file, NULL, &err), 0);
	cuda_calls_fail(n, name);
	int r = device_models_ask(&d, got, &err);
	cuda_calls_succeed();
	if (r == 0)
		EXPECT(memcmp(got, want, sizeof(got)) == 0);
	if (r == 0)
		EXPECT_EQUAL(device_models_ask(&d, got, &err), 0);
	if (r == 0)
		EXPECT(memcmp(got, want, sizeof(got)) == 0);
	model_device_stats(d.gpu, stats);
	EXPECT(r != 0 || stats->step_ns > 0);
	if (stats->graphs_off) /* borrowed */
		EXPECT(strncmp(stats->graphs_off, "the GPU failed while ", 21) == 0);
	stats->graphs_off = stats->graphs_off ? "yes" : NULL;
	expect_zero_counters(&d);
	device_models_close(&d);
	EXPECT_EQUAL(cuda_calls_live - before, 0);
	EXPECT(!cuda_context_is_broken(NULL));
	return r;
}

KERNEL_TEST(graphs_that_cannot_be_made_or_started_cost_the_graphs_and_not_the_model)
{
	CUDA_CALLS_ONCE;
	static const struct {
		const char *call;
		long n, hits;
	} cases[] = {
		{"cudaStreamBeginCapture", 0, 0},
		{"cudaStreamEndCapture", 0, 0},
		{"cudaGraphInstantiate", 0, 0},
		{"cudaGraphLaunch", 0, 0}, /* of the step that was captured */
		{"cudaGraphLaunch", 1, 0}, /* of the first that is replayed */
		{"cudaGraphLaunch", 2, 1},
	};
	struct backend_stats stats;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		EXPECT_EQUAL(ask_without(&bf16, cases[i].call, cases[i].n, &stats), 0);
		EXPECT(cuda_calls_failed());
		EXPECT(stats.graphs_off != NULL);
		EXPECT_EQUAL(stats.graph_hits, cases[i].hits);
		EXPECT_EQUAL(stats.graph_hits + stats.graph_misses, 10);
	}
	EXPECT_EQUAL(ask_without(&bf16, "nothing", 0, &stats), 0);
	EXPECT(stats.graphs_off == NULL);
	EXPECT_EQUAL(stats.graph_hits, 6);
}

/* So many sequences at once: a prompt each, four single tokens, so that steps of that size are
 * issued, captured and replayed twice. Returns the replays of the model. */
static uint64_t replays_after(struct device_models *d, uint32_t n)
{
	struct batch_run run[4];
	struct model_pick pick[4];
	struct model_result result[4];
	struct backend_stats stats;
	struct err err = {""};
	uint32_t tokens[4];

	for (uint32_t k = 0; k < n; k++) {
		run[k] = device_models_run(ids, 0, 10, k, 1);
		pick[k] = (struct model_pick){.slot = k, .how = greedy, .asked = d->asked};
	}
	for (uint32_t i = 0; i < 5; i++) {
		EXPECT_EQUAL(model_begin(d->gpu, run, n, pick, &err), 0);
		EXPECT_EQUAL(model_finish(d->gpu, result, &err), 0);
		for (uint32_t k = 0; k < n; k++) {
			tokens[k] = result[k].id;
			run[k] = device_models_run(&tokens[k], 10 + i, 1, k, 1);
		}
	}
	model_device_stats(d->gpu, &stats);
	return stats.graph_hits;
}

KERNEL_TEST(one_size_whose_graph_fails_leaves_the_others_theirs_and_a_second_one_ends_all)
{
	CUDA_CALLS_ONCE;
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &bf16, NULL, &err), 0);
	cuda_calls_fail(0, "cudaGraphInstantiate");
	EXPECT_EQUAL(replays_after(&d, 1), 0);
	EXPECT(cuda_calls_failed());
	EXPECT_EQUAL(replays_after(&d, 2), 2);
	EXPECT_EQUAL(replays_after(&d, 1), 2);
	cuda_calls_fail(0, "cudaGraphLaunch");
	EXPECT_EQUAL(replays_after(&d, 2), 2);
	EXPECT(cuda_calls_failed());
	EXPECT_EQUAL(replays_after(&d, 4), 2);
	EXPECT_EQUAL(replays_after(&d, 4), 2);
	device_models_close(&d);

	EXPECT_EQUAL(device_models_try(&d, &bf16, NULL, &err), 0);
	cuda_calls_fail(0, "cudaStreamBeginCapture");
	EXPECT_EQUAL(replays_after(&d, 1), 0);
	EXPECT(cuda_calls_failed());
	EXPECT_EQUAL(replays_after(&d, 2), 0);
	EXPECT_EQUAL(replays_after(&d, 2), 0);
	device_models_close(&d);
	cuda_calls_succeed();
}

KERNEL_TEST(a_graph_with_facts_that_fails_leaves_the_one_without)
{
	CUDA_CALLS_ONCE;
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &bf16, NULL, &err), 0);
	d.asked = &asked;
	cuda_calls_fail(0, "cudaGraphInstantiate");
	EXPECT_EQUAL(replays_after(&d, 1), 0);
	EXPECT(cuda_calls_succeed());
	d.asked = NULL;
	EXPECT_EQUAL(replays_after(&d, 1), 2);
	d.asked = &asked;
	EXPECT_EQUAL(replays_after(&d, 1), 2);
	EXPECT_EQUAL(replays_after(&d, 4), 4);
	device_models_close(&d);
}

/* Of a step that is captured, of any other it is the step's fault. */
static void refuse_each_launch(const struct tiny_llama *file)
{
	struct backend_stats stats;
	long n_survived = 0, n = 0;

	for (bool failed = true; failed; n++) {
		int r = ask_without(file, "launch", n, &stats);

		failed = cuda_calls_failed();
		EXPECT(r == 0 || r == -EIO);
		EXPECT((r == 0 && failed) == (stats.graphs_off != NULL));
		n_survived += r == 0 && failed;
	}
	EXPECT(n_survived >= 10); /* launches of a step of one layer */
	EXPECT(n > 3 * n_survived);
}

KERNEL_TEST(a_launch_that_is_refused_while_a_step_is_captured_costs_the_graphs_alone)
{
	CUDA_CALLS_ONCE;
	refuse_each_launch(&bf16);
	refuse_each_launch(&q8_0);
}

/* ---- gaps and launches ---- */

/* A step of one token of the sequence, which was asked for five before. */
static struct backend_stats one_more(struct device_models *d, uint32_t i)
{
	static const uint32_t token = 3;
	struct batch_run run = device_models_run(&token, 14 + i, 1, 0, 1);
	struct model_pick pick = {.how = greedy};
	struct model_result result;
	struct backend_stats stats;
	struct err err = {""};

	EXPECT_EQUAL(model_begin(d->gpu, &run, 1, &pick, &err), 0);
	EXPECT_EQUAL(model_finish(d->gpu, &result, &err), 0);
	model_device_stats(d->gpu, &stats);
	return stats;
}

/* Of steps that are replayed and of those that are issued. */
static void look_at_gaps(struct device_models *d)
{
	struct timespec t = {.tv_nsec = CUDA_CALLS_LATE_NS};
	struct backend_stats before = one_more(d, 0), stats;

	nanosleep(&t, NULL); /* between finish and begin */
	EXPECT(one_more(d, 0).gap_ns >= CUDA_CALLS_LATE_NS);

	cuda_calls_late = CUDA_CALLS_TO_DEVICE; /* between begin and the first launch */
	stats = one_more(d, 0);
	EXPECT(stats.gap_ns >= CUDA_CALLS_LATE_NS);
	EXPECT(stats.step_ns > 0);

	cuda_calls_late =
		CUDA_CALLS_TO_HOST; /* behind the last launch: before the step that follows */
	stats = one_more(d, 0);
	cuda_calls_late = CUDA_CALLS_NEVER;
	EXPECT(one_more(d, 0).gap_ns >= CUDA_CALLS_LATE_NS);
	EXPECT(before.step_ns > 0);
}

KERNEL_TEST(what_lies_between_the_launches_of_two_steps_is_a_gap)
{
	CUDA_CALLS_ONCE;
	struct device_models d;
	struct err err = {""};
	uint32_t tokens[5];

	EXPECT_EQUAL(device_models_try(&d, &bf16, NULL, &err), 0);
	EXPECT_EQUAL(device_models_ask(&d, tokens, &err), 0);
	uint64_t hits = one_more(&d, 0).graph_hits;
	look_at_gaps(&d);
	EXPECT(one_more(&d, 0).graph_hits > hits);
	cuda_calls_fail(0, "cudaGraphLaunch");
	one_more(&d, 0);
	EXPECT(cuda_calls_succeed());
	hits = one_more(&d, 0).graph_hits;
	look_at_gaps(&d);
	EXPECT_EQUAL(one_more(&d, 0).graph_hits, hits);
	device_models_close(&d);
}

/* Kernels that a step of n single tokens takes, issued one by one. The last row asks, if any. */
static unsigned launches_of_step(const struct tiny_llama *file, const struct model_options *o,
	uint32_t n, const struct sampler_asked *last)
{
	struct device_models d;
	struct batch_run run[12];
	struct model_pick pick[12];
	struct model_result result[12];
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, file, o, &err), 0);
	for (uint32_t k = 0; k < n; k++) {
		run[k] = device_models_run(&ids[k], 0, 1, k, 1);
		pick[k] = (struct model_pick){.slot = k, .how = greedy};
	}
	pick[n - 1].asked = last;
	unsigned long long before = simt_launches();
	cuda_calls_to_host = 0;
	EXPECT_EQUAL(model_begin(d.gpu, run, n, pick, &err), 0);
	EXPECT_EQUAL(model_finish(d.gpu, result, &err), 0);
	unsigned launches = (unsigned)(simt_launches() - before);
	device_models_close(&d);
	return launches;
}

/* What no result shows: gate, up and the activation are one launch, and so are a product and the
 * norm behind it, and rotation and attention where it ropes, which it does not with F32. The
 * emulator's cuBLASLt launches nothing. */
KERNEL_TEST(a_layer_takes_as_many_launches_as_is_said)
{
	CUDA_CALLS_ONCE;
	static const struct {
		enum tensor_type type;
		struct model_options options;
		uint32_t n_rows;
		unsigned launches;
	} cases[] = {
		{TENSOR_BF16, {.tails = true}, 1, 5},
		{TENSOR_F16, {.tails = true}, 8, 5},
		{TENSOR_BF16, {0}, 8, 7},
		{TENSOR_F32, {.tails = true}, 1, 9},
		{TENSOR_BF16, {0}, 9, 8 - 4}, /* without the products */
		{TENSOR_BF16, {.fp8 = true, .tails = true}, 1, 7},
		{TENSOR_BF16, {.fp8 = true}, 1, 9},
		{TENSOR_Q8_0, {.tails = true}, 1, 5},
		{TENSOR_Q4_0, {.tails = true}, 8, 5},
		{TENSOR_Q8_0, {0}, 1, 8},
		{TENSOR_Q8_0, {0}, 9, 8},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tiny_llama one = {.type = cases[i].type, .n_layers = 1, .n_embd = 128},
				  two = one;

		two.n_layers = 2;
		EXPECT_EQUAL(
			launches_of_step(&two, &cases[i].options, cases[i].n_rows, NULL) -
				launches_of_step(&one, &cases[i].options, cases[i].n_rows, NULL),
			cases[i].launches);
	}
}

KERNEL_TEST(who_asks_costs_two_launches_and_some_bytes_a_row_and_nobody_else_pays_for_it)
{
	CUDA_CALLS_ONCE;
	unsigned without = launches_of_step(&bf16, NULL, 5, NULL);

	EXPECT_EQUAL(cuda_calls_to_host, 5 * sizeof(uint32_t));
	EXPECT_EQUAL(launches_of_step(&bf16, NULL, 5, &asked), without + 2);
	EXPECT_EQUAL(cuda_calls_to_host, 5 * (sizeof(uint32_t) + sizeof(struct sampler_facts)));
}

/* Launches of a step that is the embedding, and perhaps a product that adds to it. */
static unsigned launches_of_sum(struct model *m, bool sum)
{
	const struct model_layer *l = &m->weights.layer[0];
	struct batch_run run = device_models_run(ids, 0, 3, 0, 0);
	struct backend_batch batch = {.runs = &run, .n_runs = 1, .n_rows = 3};
	struct err err = {""};
	unsigned long long before = simt_launches();

	EXPECT_EQUAL(m->backend->begin(m, &batch, &err), 0);
	m->backend->embed(m);
	if (sum) {
		m->backend->norm(m, l->attn_norm);
		m->backend->products(m,
			&(struct backend_product){.w = &l->attn_out, .out = BACKEND_X, .add = true},
			1);
	}
	EXPECT_EQUAL(m->backend->end(m), 0);
	EXPECT_EQUAL(m->backend->finish(m, NULL, &err), 0);
	return (unsigned)(simt_launches() - before);
}

KERNEL_TEST(a_product_that_waits_for_a_norm_is_launched_when_the_step_ends)
{
	CUDA_CALLS_ONCE;
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &bf16, NULL, &err), 0);
	unsigned without = launches_of_sum(d.gpu, false);
	EXPECT_EQUAL(launches_of_sum(d.gpu, true), without + 2);
	device_models_close(&d);
}
