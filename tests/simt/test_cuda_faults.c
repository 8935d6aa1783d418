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
#include <time.h>

#include <cublasLt.h>

#include "engine/backend.h"
#include "engine/cuda/context.h"
#include "engine/cuda_door.h"
#include "tests/simt/device_models.h"
#include "tests/simt/include/simt.h"
#include "tests/simt/include/simt_launch.h"

/* ---- calls that fail ---- */

static long until_failure = -1; /* calls that succeed before; < 0: all succeed */
static long n_live;             /* things made and not ended yet */
static bool failed;             /* one was made to fail */
static const char *only;        /* of that name; NULL: all but launches and capturing */

/* Whether this call is to fail. */
static bool fails(const char *name)
{
	if (only && strcmp(name, only) != 0)
		return false;
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
		if (fails(#function))                                                              \
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
		return fails(#function) ? error : __real_##function arguments;                     \
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

/* Copies of this kind are late: before one that is to the host, after one that is from it, the
 * device has done all there is to do, and then nothing for a while. */
static enum { NEVER, TO_DEVICE, TO_HOST } late;
#define LATE_NS 20000000

static void be_late(cudaStream_t s)
{
	struct timespec t = {.tv_nsec = LATE_NS};

	EXPECT(cudaStreamSynchronize(s) == cudaSuccess);
	nanosleep(&t, NULL);
}

cudaError_t __real_cudaMemcpyAsync(
	void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s);
cudaError_t __wrap_cudaMemcpyAsync(
	void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s);
cudaError_t __wrap_cudaMemcpyAsync(
	void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s)
{
	if (fails("cudaMemcpyAsync"))
		return cudaErrorInvalidValue;
	if (late == TO_HOST && k == cudaMemcpyDeviceToHost)
		be_late(s);
	cudaError_t r = __real_cudaMemcpyAsync(to, from, n, k, s);
	if (late == TO_DEVICE && k == cudaMemcpyHostToDevice)
		be_late(s);
	return r;
}

DOES(cudaEventRecord, cudaErrorInvalidValue, (cudaEvent_t e, cudaStream_t s), (e, s))
DOES(cudaEventSynchronize, cudaErrorInvalidValue, (cudaEvent_t e), (e))
DOES(cudaStreamBeginCapture, cudaErrorInvalidValue, (cudaStream_t s, enum cudaStreamCaptureMode m),
	(s, m))
DOES(cudaGraphLaunch, cudaErrorInvalidValue, (cudaGraphExec_t e, cudaStream_t s), (e, s))
/* What was captured then is not a graph. */
cudaError_t __real_cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t __wrap_cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t __wrap_cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
	cudaError_t r = __real_cudaStreamEndCapture(s, g);

	if (!only || !fails("cudaStreamEndCapture"))
		return r;
	cudaGraphDestroy(*g);
	*g = NULL;
	return cudaErrorStreamCaptureInvalidated;
}

#define LAUNCH_PARAMETERS                                                                          \
	const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,                \
		cudaStream_t stream, void (*call)(void *), void (*destroy)(void *),                \
		void *arguments, size_t size
cudaError_t __real_simt_launch_work(LAUNCH_PARAMETERS);
cudaError_t __wrap_simt_launch_work(LAUNCH_PARAMETERS);
cudaError_t __wrap_simt_launch_work(LAUNCH_PARAMETERS)
{
	if (!only || !fails("launch"))
		return __real_simt_launch_work(
			name, kernel, grid, block, shared, stream, call, destroy, arguments, size);
	destroy(arguments);
	return cudaErrorInvalidConfiguration;
}

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
static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

/* A prompt and some tokens, so that steps are issued, captured and replayed: the first two are
 * issued, the third is captured. 0, or the first error. */
static int ask_for(struct device_models *d, uint32_t tokens[5], struct err *err)
{
	struct batch_run run = device_models_run(ids, 0, 10, 0, 1);
	struct model_pick pick = {.how = greedy};
	struct model_result result;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < 5; i++) {
		r = model_begin(d->gpu, &run, 1, &pick, err);
		if (r == 0)
			r = model_finish(d->gpu, &result, err);
		tokens[i] = r == 0 ? result.id : 0;
		run = device_models_run(&tokens[i], 10 + i, 1, 0, 1);
	}
	return r;
}

static int ask(struct device_models *d, struct err *err)
{
	uint32_t tokens[5];

	return ask_for(d, tokens, err);
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

/* Asks twice with the n-th call of that name failing: 0, if the tokens are the right ones. */
static int ask_without(const char *name, long n, struct backend_stats *stats)
{
	struct device_models d;
	struct err err = {""};
	static uint32_t want[5];
	static bool known;
	uint32_t got[5];
	long before = n_live;

	if (!known) {
		EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
		EXPECT_EQUAL(ask_for(&d, want, &err), 0);
		device_models_close(&d);
	}
	known = true;
	EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
	only = name;
	until_failure = n;
	failed = false;
	int r = ask_for(&d, got, &err);
	only = NULL;
	until_failure = -1;
	if (r == 0)
		EXPECT(memcmp(got, want, sizeof(got)) == 0);
	if (r == 0)
		EXPECT_EQUAL(ask_for(&d, got, &err), 0);
	if (r == 0)
		EXPECT(memcmp(got, want, sizeof(got)) == 0);
	model_device_stats(d.gpu, stats);
	EXPECT(r != 0 || stats->step_ns > 0);
	if (stats->graphs_off) /* borrowed */
		EXPECT(strncmp(stats->graphs_off, "the GPU failed while ", 21) == 0);
	stats->graphs_off = stats->graphs_off ? "yes" : NULL;
	device_models_close(&d);
	EXPECT_EQUAL(n_live - before, 0);
	EXPECT(!cuda_context_is_broken(NULL));
	return r;
}

KERNEL_TEST(graphs_that_cannot_be_made_or_started_cost_the_graphs_and_not_the_model)
{
	ONCE;
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
		EXPECT_EQUAL(ask_without(cases[i].call, cases[i].n, &stats), 0);
		EXPECT(failed);
		EXPECT(stats.graphs_off != NULL);
		EXPECT_EQUAL(stats.graph_hits, cases[i].hits);
		EXPECT_EQUAL(stats.graph_hits + stats.graph_misses, 10);
	}
	EXPECT_EQUAL(ask_without("nothing", 0, &stats), 0);
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
		pick[k] = (struct model_pick){.slot = k, .how = greedy};
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

static void fail_next(const char *call)
{
	only = call;
	until_failure = 0;
	failed = false;
}

KERNEL_TEST(one_size_whose_graph_fails_leaves_the_others_theirs_and_a_second_one_ends_all)
{
	ONCE;
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
	fail_next("cudaGraphInstantiate");
	EXPECT_EQUAL(replays_after(&d, 1), 0);
	EXPECT(failed);
	EXPECT_EQUAL(replays_after(&d, 2), 2);
	EXPECT_EQUAL(replays_after(&d, 1), 2);
	fail_next("cudaGraphLaunch");
	EXPECT_EQUAL(replays_after(&d, 2), 2);
	EXPECT(failed);
	EXPECT_EQUAL(replays_after(&d, 4), 2);
	EXPECT_EQUAL(replays_after(&d, 4), 2);
	device_models_close(&d);

	EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
	fail_next("cudaStreamBeginCapture");
	EXPECT_EQUAL(replays_after(&d, 1), 0);
	EXPECT(failed);
	EXPECT_EQUAL(replays_after(&d, 2), 0);
	EXPECT_EQUAL(replays_after(&d, 2), 0);
	device_models_close(&d);
	only = NULL;
}

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
	struct timespec t = {.tv_nsec = LATE_NS};
	struct backend_stats before = one_more(d, 0), stats;

	nanosleep(&t, NULL); /* between finish and begin */
	EXPECT(one_more(d, 0).gap_ns >= LATE_NS);

	late = TO_DEVICE; /* between begin and the first launch */
	stats = one_more(d, 0);
	EXPECT(stats.gap_ns >= LATE_NS);
	EXPECT(stats.step_ns > 0);

	late = TO_HOST; /* behind the last launch: before the step that follows */
	stats = one_more(d, 0);
	late = NEVER;
	EXPECT(one_more(d, 0).gap_ns >= LATE_NS);
	EXPECT(before.step_ns > 0);
}

KERNEL_TEST(what_lies_between_the_launches_of_two_steps_is_a_gap)
{
	ONCE;
	struct device_models d;
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, &files[0], NULL, &err), 0);
	EXPECT_EQUAL(ask(&d, &err), 0);
	uint64_t hits = one_more(&d, 0).graph_hits;
	look_at_gaps(&d);
	EXPECT(one_more(&d, 0).graph_hits > hits);
	fail_next("cudaGraphLaunch");
	one_more(&d, 0);
	only = NULL;
	EXPECT(failed);
	hits = one_more(&d, 0).graph_hits;
	look_at_gaps(&d);
	EXPECT_EQUAL(one_more(&d, 0).graph_hits, hits);
	device_models_close(&d);
}

/* Of a step that is captured, of any other it is the step's fault. */
KERNEL_TEST(a_launch_that_is_refused_while_a_step_is_captured_costs_the_graphs_alone)
{
	ONCE;
	struct backend_stats stats;
	long n_survived = 0, n = 0;

	for (failed = true; failed; n++) {
		int r = ask_without("launch", n, &stats);

		EXPECT(r == 0 || r == -EIO);
		EXPECT((r == 0 && failed) == (stats.graphs_off != NULL));
		n_survived += r == 0 && failed;
	}
	EXPECT(n_survived >= 10); /* launches of a step of one layer */
	EXPECT(n > 3 * n_survived);
}

/* Kernels that a step of n single tokens takes, issued one by one. */
static unsigned launches_of_step(const struct tiny_llama *file, bool fp8, uint32_t n)
{
	struct device_models d;
	struct model_options o = {.fp8 = fp8};
	struct batch_run run[12];
	struct model_pick pick[12];
	struct model_result result[12];
	struct err err = {""};

	EXPECT_EQUAL(device_models_try(&d, file, &o, &err), 0);
	for (uint32_t k = 0; k < n; k++) {
		run[k] = device_models_run(&ids[k], 0, 1, k, 1);
		pick[k] = (struct model_pick){.slot = k, .how = greedy};
	}
	unsigned long long before = simt_launches();
	EXPECT_EQUAL(model_begin(d.gpu, run, n, pick, &err), 0);
	EXPECT_EQUAL(model_finish(d.gpu, result, &err), 0);
	unsigned launches = (unsigned)(simt_launches() - before);
	device_models_close(&d);
	return launches;
}

/* That gate, up and the activation are one launch no result shows: one less than else with
 * up to 8 rows of F16 and BF16. The emulator's cuBLASLt launches nothing. */
KERNEL_TEST(a_layer_takes_as_many_launches_as_is_said)
{
	ONCE;
	static const struct {
		enum tensor_type type;
		bool fp8;
		uint32_t n_rows;
		unsigned launches;
	} cases[] = {
		{TENSOR_BF16, false, 1, 8},
		{TENSOR_F16, false, 8, 8},
		{TENSOR_F32, false, 1, 9},
		{TENSOR_BF16, false, 9, 9 - 4}, /* without the products */
		{TENSOR_BF16, true, 1, 10},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tiny_llama one = {.type = cases[i].type, .n_layers = 1}, two = one;

		two.n_layers = 2;
		EXPECT_EQUAL(launches_of_step(&two, cases[i].fp8, cases[i].n_rows) -
				     launches_of_step(&one, cases[i].fp8, cases[i].n_rows),
			cases[i].launches);
	}
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
