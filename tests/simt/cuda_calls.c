/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands before the emulator's CUDA and cuBLASLt for tests of faults. Calls that make
 * something and those that end it are counted besides, so that a test sees whether anything was
 * left.
 *
 * One thread: the emulator has no other.
 */
#include "tests/simt/cuda_calls.h"

#include <string.h>
#include <time.h>

#include <cublasLt.h>

#include "tests/simt/include/simt_launch.h"
#include "tests/simt/kernel_test.h"

long cuda_calls_live;
unsigned long long cuda_calls_to_host;
enum cuda_calls_late cuda_calls_late;

static long until_failure = -1; /* calls that succeed before; < 0: all succeed */
static bool failed;
static const char *only_named; /* NULL: all but launches and ends of captures */

void cuda_calls_fail(long n, const char *only)
{
	until_failure = n;
	only_named = only;
	failed = false;
}

bool cuda_calls_succeed(void)
{
	until_failure = -1;
	only_named = NULL;
	return failed;
}

bool cuda_calls_failed(void)
{
	return failed;
}

/* Whether this call is to fail. */
static bool fails(const char *name)
{
	if (only_named && strcmp(name, only_named) != 0)
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
		cuda_calls_live += r == 0;                                                         \
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
		cuda_calls_live--;                                                                 \
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

static void be_late(cudaStream_t s)
{
	struct timespec t = {.tv_nsec = CUDA_CALLS_LATE_NS};

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
	if (cuda_calls_late == CUDA_CALLS_TO_HOST && k == cudaMemcpyDeviceToHost)
		be_late(s);
	cudaError_t r = __real_cudaMemcpyAsync(to, from, n, k, s);
	cuda_calls_to_host += k == cudaMemcpyDeviceToHost ? n : 0;
	if (cuda_calls_late == CUDA_CALLS_TO_DEVICE && k == cudaMemcpyHostToDevice)
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

	if (!only_named || !fails("cudaStreamEndCapture"))
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
	if (!only_named || !fails("launch"))
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
