/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUDA calls that fail, one after the other. Whatever fails while a model is opened is an error
 * with its sentence, and afterwards nothing is left of it; whatever fails in a step is told by that
 * step. Faults that stick end every model of the process, and the next one that is opened finds a
 * device that works. What graphs that fail cost is in test_cuda_graphs.c.
 *
 * Only for the emulator: a card's calls cannot be made to fail.
 */
#include <errno.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/cuda/context.h"
#include "engine/cuda_door.h"
#include "engine/sampler.h"
#include "tests/simt/cuda_calls.h"
#include "tests/simt/device_models.h"
#include "tests/simt/include/simt.h"

/* ---- calls that fail ---- */

static const struct tiny_llama files[] = {
	{.type = TENSOR_BF16, .n_layers = 1},
	{.type = TENSOR_Q8_0, .n_layers = 1},
	{.type = TENSOR_BF16, .n_layers = 1},
};
static const struct model_options options[] = {{0}, {0}, {.fp8 = true}};

/* Opens with the n-th call failing; true: nothing failed any more. */
static bool open_with_failure(size_t i, long n)
{
	struct device_models d;
	struct err err = {""};
	long before = cuda_calls_live;

	cuda_calls_fail(n, NULL);
	int r = device_models_try(&d, &files[i], &options[i], &err);
	bool failed = cuda_calls_succeed();
	if (failed) {
		EXPECT(r == -ENOMEM || r == -EIO);
		EXPECT(err.text[0] != '\0');
		EXPECT(d.gpu == NULL);
	} else {
		EXPECT_EQUAL(r, 0);
	}
	device_models_close(&d);
	EXPECT_EQUAL(cuda_calls_live - before, 0);
	return !failed;
}

KERNEL_TEST(every_call_that_fails_while_loading_is_an_error_that_leaves_nothing)
{
	CUDA_CALLS_ONCE;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		long n = 0;

		while (!open_with_failure(i, n))
			n++;
		EXPECT(n > 40); /* else nothing was tried */
	}
	EXPECT(!cuda_context_is_broken(NULL));
}

static int ask(struct device_models *d, struct err *err)
{
	uint32_t tokens[5];

	return device_models_ask(d, tokens, err);
}

KERNEL_TEST(every_call_that_fails_in_a_step_is_told_by_that_step_and_by_all_that_follow)
{
	CUDA_CALLS_ONCE;
	const struct sampler_asked asked = {.n_top = 2}; /* a copy more in each step */
	long n = 0;
	bool all = false;

	for (; !all; n++) {
		struct device_models d;
		struct err err = {""}, again = {""};
		long before = cuda_calls_live;

		EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
		d.asked = &asked;
		cuda_calls_fail(n, NULL);
		int r = ask(&d, &err);
		bool failed = cuda_calls_succeed();
		all = !failed;
		EXPECT(r == 0 || (failed && (r == -EIO || r == -ENOMEM)));
		if (r == -EIO) {
			EXPECT(strstr(err.text, "the GPU failed while") != NULL);
			EXPECT_EQUAL(ask(&d, &again), -EIO);
			EXPECT(strcmp(err.text, again.text) == 0);
		}
		device_models_close(&d);
		EXPECT_EQUAL(cuda_calls_live - before, 0);
	}
	EXPECT(n > 30);
}

/* ---- what is not there ---- */

KERNEL_TEST(a_model_that_does_not_fit_says_the_numbers)
{
	static const struct tiny_llama large = {.type = TENSOR_F32, .n_embd = 512, .n_layers = 8};
	struct device_models d;
	struct err err = {""};
	struct model_options o = {0};

	simt_set_memory((size_t)20 << 20);
	EXPECT_EQUAL(device_models_try(&d, &large, NULL, &err), -ENOMEM);
	EXPECT(strncmp(err.text, "the weights take 0.0", 20) == 0);
	EXPECT(strstr(err.text, "has 0.02 GB free of 0.02") != NULL);
	device_models_close(&d);

	simt_set_memory((size_t)256 << 20);
	o.kv_blocks = 20000;
	EXPECT_EQUAL(device_models_try(&d, &large, &o, &err), -ENOMEM);
	EXPECT(strstr(err.text, "a KV cache of 20000 blocks takes 10.49 GB") != NULL);
	EXPECT(strstr(err.text, "90 % may be used") != NULL);
	device_models_close(&d);

	o.kv_may_shrink = true;
	EXPECT_EQUAL(device_models_try(&d, &large, &o, &err), 0);
	EXPECT(model_kv_blocks(d.gpu) > 0 && model_kv_blocks(d.gpu) < 400);
	uint32_t most = model_kv_blocks(d.gpu);
	device_models_close(&d);

	o.memory_share = 0.8;
	EXPECT_EQUAL(device_models_try(&d, &large, &o, &err), 0);
	EXPECT(model_kv_blocks(d.gpu) > 0 && model_kv_blocks(d.gpu) < most);
	device_models_close(&d);
	simt_set_memory(0);
}

KERNEL_TEST(a_gpu_that_is_not_there_is_named)
{
	struct device_models d;
	struct err err = {""};
	struct model_options o = {.gpu = 7};

	EXPECT_EQUAL(device_models_try(&d, &files[0], &o, &err), -ENODEV);
	EXPECT(strstr(err.text, "there is no GPU 7: this machine has 1") != NULL);
	device_models_close(&d);
}

/* ---- faults that stick ---- */

/* Launches of kernels that ask() takes. */
static unsigned count_launches(void)
{
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
	unsigned long long before = simt_launches();
	EXPECT_EQUAL(ask(&d, &err), 0);
	unsigned n = (unsigned)(simt_launches() - before);
	device_models_close(&d);
	return n;
}

/* A fault that sticks after `skip` launches of a's steps ends b too; a new model works. */
static void break_and_recover(unsigned skip)
{
	struct device_models a, b, c;
	struct backend_stats stats;
	struct err err = {""}, other = {""};
	long before = cuda_calls_live;

	EXPECT_EQUAL(device_models_try(&a, &files[0], NULL, &err), 0);
	EXPECT_EQUAL(device_models_try(&b, &files[1], NULL, &err), 0);
	EXPECT_EQUAL(ask(&b, &err), 0);
	simt_fail_launch(skip, cudaErrorIllegalAddress);
	EXPECT_EQUAL(ask(&a, &err), -EIO);
	EXPECT(strstr(err.text, "an illegal memory access was encountered") != NULL);
	EXPECT(cuda_context_is_broken(&other));
	EXPECT(strcmp(err.text, other.text) == 0);
	model_device_stats(a.gpu, &stats);
	EXPECT(stats.graphs_off == NULL); /* it is not them that failed */
	EXPECT_EQUAL(ask(&b, &other), -EIO);
	EXPECT(strcmp(err.text, other.text) == 0);

	/* While the broken ones are still there. */
	EXPECT_EQUAL(device_models_try(&c, &files[0], NULL, &other), 0);
	EXPECT(!cuda_context_is_broken(NULL));
	EXPECT_EQUAL(ask(&c, &other), 0);
	EXPECT_EQUAL(ask(&b, &other), -EIO);
	EXPECT(strcmp(err.text, other.text) == 0);
	device_models_close(&a);
	device_models_close(&b);
	EXPECT_EQUAL(ask(&c, &other), 0);
	device_models_close(&c);
	EXPECT_EQUAL(cuda_calls_live - before, 0);
}

/* In a step that is issued, one that is captured, one that is replayed. */
KERNEL_TEST(a_fault_that_sticks_ends_all_models_and_the_next_one_resets_the_device)
{
	CUDA_CALLS_ONCE;
	unsigned n = count_launches();

	for (unsigned i = 0; i < 7; i++)
		break_and_recover(i * (n - 1) / 6);
}

KERNEL_TEST(a_fault_that_sticks_while_loading_is_got_over_by_loading_again)
{
	CUDA_CALLS_ONCE;
	struct device_models d;
	struct err err = {""};

	for (unsigned skip = 0; skip < 3; skip++) {
		simt_fail_launch(skip, cudaErrorLaunchFailure);
		EXPECT_EQUAL(device_models_try(&d, &files[1], NULL, &err), -EIO);
		device_models_close(&d);
		EXPECT_EQUAL(device_models_try(&d, &files[1], NULL, &err), 0);
		EXPECT_EQUAL(ask(&d, &err), 0);
		device_models_close(&d);
	}
}

static bool stop = true;

static void nothing_to_let_go(void *arg)
{
	(void)arg;
}

/* To ask the device whether it answers would be an error while a stream of it is captured. */
KERNEL_TEST(a_fault_of_one_model_leaves_another_whose_step_is_captured)
{
	struct cuda_context a = {0}, b = {0};
	struct err err = {""};
	cudaGraph_t graph;

	EXPECT(cuda_context_open(&a, 0, nothing_to_let_go, NULL, &err) == 0);
	EXPECT(cuda_context_open(&b, 0, nothing_to_let_go, NULL, &err) == 0);
	EXPECT(cudaStreamBeginCapture(a.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	EXPECT(cuda_context_fault(&b, cudaErrorInvalidValue, "being tested", &err) == -EIO);
	EXPECT(!cuda_context_is_broken(NULL));
	EXPECT(cudaStreamEndCapture(a.stream, &graph) == cudaSuccess);
	EXPECT(cudaGraphDestroy(graph) == cudaSuccess);
	cuda_context_leave(&b);
	cuda_context_leave(&a);
	cuda_context_close(&b);
	cuda_context_close(&a);
}

KERNEL_TEST(loading_that_is_given_up_leaves_nothing)
{
	struct device_models d;
	struct err err = {""};
	struct model_options o = {.stop = &stop};
	long before = cuda_calls_live;

	EXPECT_EQUAL(device_models_try(&d, &files[0], &o, &err), -ECANCELED);
	device_models_close(&d);
	EXPECT_EQUAL(cuda_calls_live - before, 0);
}
