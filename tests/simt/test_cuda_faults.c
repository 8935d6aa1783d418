/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUDA calls that fail, one after the other: the linker has every call of the back end go through
 * here first (--wrap). Whatever fails while a model is opened is an error with its sentence, and
 * afterwards nothing is left of it; whatever fails in a step is told by that step. Faults that
 * stick end every model of the process, and the next one that is opened finds a device that works.
 *
 * Only for the emulator: a card's calls cannot be made to fail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "engine/backend.h"
#include "engine/cuda/context.h"
#include "engine/cuda_door.h"
#include "tests/simt/device_models.h"
#include "tests/simt/include/simt.h"

/* ---- calls that fail ---- */

static long until_failure = -1; /* calls that succeed before; < 0: all succeed */
static long n_live;             /* things made and not ended yet */
static bool failed;             /* one was made to fail */

/* Whether this call is to fail. */
static bool fails(void)
{
	if (until_failure < 0 || until_failure-- > 0)
		return false;
	failed = true;
	return true;
}

#define MAKES(function, error, parameters, arguments)                                              \
	int __real_##function parameters;                                                          \
	int __wrap_##function parameters;                                                          \
	int __wrap_##function parameters                                                           \
	{                                                                                          \
		if (fails())                                                                       \
			return error;                                                              \
		int r = __real_##function arguments;                                               \
		n_live += r == 0;                                                                  \
		return r;                                                                          \
	}

#define DOES(function, error, parameters, arguments)                                               \
	int __real_##function parameters;                                                          \
	int __wrap_##function parameters;                                                          \
	int __wrap_##function parameters                                                           \
	{                                                                                          \
		return fails() ? error : __real_##function arguments;                              \
	}

#define ENDS(function, type)                                                                       \
	int __real_##function(type p);                                                             \
	int __wrap_##function(type p);                                                             \
	int __wrap_##function(type p)                                                              \
	{                                                                                          \
		n_live--;                                                                          \
		return __real_##function(p);                                                       \
	}

#define NO_MEMORY cudaErrorMemoryAllocation
#define NO_BLAS CUBLAS_STATUS_ALLOC_FAILED

MAKES(cudaMalloc, NO_MEMORY, (void **p, size_t n), (p, n))
MAKES(cudaMallocHost, NO_MEMORY, (void **p, size_t n), (p, n))
MAKES(cudaStreamCreateWithFlags, NO_MEMORY, (cudaStream_t * s, unsigned flags), (s, flags))
MAKES(cudaEventCreate, NO_MEMORY, (cudaEvent_t * e), (e))
MAKES(cudaEventCreateWithFlags, NO_MEMORY, (cudaEvent_t * e, unsigned flags), (e, flags))
MAKES(cudaGraphInstantiate, NO_MEMORY,
	(cudaGraphExec_t * e, cudaGraph_t g, unsigned long long flags), (e, g, flags))
MAKES(cublasLtCreate, NO_BLAS, (cublasLtHandle_t * h), (h))
MAKES(cublasLtMatmulDescCreate, NO_BLAS,
	(cublasLtMatmulDesc_t * d, cublasComputeType_t c, cudaDataType_t t), (d, c, t))
MAKES(cublasLtMatrixLayoutCreate, NO_BLAS,
	(cublasLtMatrixLayout_t * l, cudaDataType t, uint64_t rows, uint64_t cols, int64_t ld),
	(l, t, rows, cols, ld))
MAKES(cublasLtMatmulPreferenceCreate, NO_BLAS, (cublasLtMatmulPreference_t * p), (p))
DOES(cudaMemsetAsync, cudaErrorInvalidValue, (void *p, int v, size_t n, cudaStream_t s),
	(p, v, n, s))
DOES(cudaMemcpyAsync, cudaErrorInvalidValue,
	(void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s),
	(to, from, n, k, s))
DOES(cudaEventRecord, cudaErrorInvalidValue, (cudaEvent_t e, cudaStream_t s), (e, s))
DOES(cudaEventSynchronize, cudaErrorInvalidValue, (cudaEvent_t e), (e))
DOES(cudaStreamBeginCapture, cudaErrorInvalidValue, (cudaStream_t s, enum cudaStreamCaptureMode m),
	(s, m))
DOES(cudaGraphLaunch, cudaErrorInvalidValue, (cudaGraphExec_t e, cudaStream_t s), (e, s))
ENDS(cudaFree, void *)
ENDS(cudaFreeHost, void *)
ENDS(cudaStreamDestroy, cudaStream_t)
ENDS(cudaEventDestroy, cudaEvent_t)
ENDS(cudaGraphExecDestroy, cudaGraphExec_t)
ENDS(cublasLtDestroy, cublasLtHandle_t)
ENDS(cublasLtMatmulDescDestroy, cublasLtMatmulDesc_t)
ENDS(cublasLtMatrixLayoutDestroy, cublasLtMatrixLayout_t)
ENDS(cublasLtMatmulPreferenceDestroy, cublasLtMatmulPreference_t)

/* The order of threads, of which the harness tries three, is nothing to these. */
#define ONCE                                                                                       \
	static int n_runs;                                                                         \
	if (n_runs++ > 0)                                                                          \
	return

/* ---- models ---- */

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
	long before = n_live;

	until_failure = n;
	failed = false;
	int r = device_models_try(&d, &files[i], &options[i], &err);
	until_failure = -1;
	if (failed) {
		EXPECT(r == -ENOMEM || r == -EIO);
		EXPECT(err.text[0] != '\0');
		EXPECT(d.gpu == NULL);
	} else {
		EXPECT_EQUAL(r, 0);
	}
	device_models_close(&d);
	EXPECT_EQUAL(n_live - before, 0);
	return !failed;
}

KERNEL_TEST(every_call_that_fails_while_loading_is_an_error_that_leaves_nothing)
{
	ONCE;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		long n = 0;

		while (!open_with_failure(i, n))
			n++;
		EXPECT(n > 40); /* else nothing was tried */
	}
	EXPECT(!cuda_context_is_broken(NULL));
}

static const struct engine_sampling greedy = {.top_p = 1};
static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

/* A prompt and some tokens, so that steps are issued, captured and replayed. 0, or the first
 * error. */
static int ask(struct device_models *d, struct err *err)
{
	struct batch_run run = device_models_run(ids, 0, 10, 0, 1);
	struct model_pick pick = {.how = greedy};
	struct model_result result;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < 5; i++) {
		r = model_begin(d->gpu, &run, 1, &pick, err);
		if (r == 0)
			r = model_finish(d->gpu, &result, err);
		if (r == 0)
			run = device_models_run(&result.id, 10 + i, 1, 0, 1);
	}
	return r;
}

KERNEL_TEST(every_call_that_fails_in_a_step_is_told_by_that_step_and_by_all_that_follow)
{
	ONCE;
	long n = 0;
	bool all = false;

	for (; !all; n++) {
		struct device_models d;
		struct err err = {""}, again = {""};
		long before = n_live;

		EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
		until_failure = n;
		failed = false;
		int r = ask(&d, &err);
		until_failure = -1;
		all = !failed;
		EXPECT(r == 0 || (failed && (r == -EIO || r == -ENOMEM)));
		if (r == -EIO) {
			EXPECT(strstr(err.text, "the GPU failed while") != NULL);
			EXPECT_EQUAL(ask(&d, &again), -EIO);
			EXPECT(strcmp(err.text, again.text) == 0);
		}
		device_models_close(&d);
		EXPECT_EQUAL(n_live - before, 0);
	}
	EXPECT(n > 25);
}

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
	struct err err = {""}, other = {""};
	long before = n_live;

	EXPECT_EQUAL(device_models_try(&a, &files[0], NULL, &err), 0);
	EXPECT_EQUAL(device_models_try(&b, &files[1], NULL, &err), 0);
	EXPECT_EQUAL(ask(&b, &err), 0);
	simt_fail_launch(skip, cudaErrorIllegalAddress);
	EXPECT_EQUAL(ask(&a, &err), -EIO);
	EXPECT(strstr(err.text, "an illegal memory access was encountered") != NULL);
	EXPECT(cuda_context_is_broken(&other));
	EXPECT(strcmp(err.text, other.text) == 0);
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
	EXPECT_EQUAL(n_live - before, 0);
}

/* In a step that is issued, one that is captured, one that is replayed. */
KERNEL_TEST(a_fault_that_sticks_ends_all_models_and_the_next_one_resets_the_device)
{
	ONCE;
	unsigned n = count_launches();

	for (unsigned i = 0; i < 7; i++)
		break_and_recover(i * (n - 1) / 6);
}

KERNEL_TEST(a_fault_that_sticks_while_loading_is_got_over_by_loading_again)
{
	ONCE;
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
	long before = n_live;

	EXPECT_EQUAL(device_models_try(&d, &files[0], &o, &err), -ECANCELED);
	device_models_close(&d);
	EXPECT_EQUAL(n_live - before, 0);
}
