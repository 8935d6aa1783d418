/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated runtime: nothing is done before somebody waits, streams wait only for what they are
 * told to, graphs replay, limits are limits. What a host does wrong shows every time.
 */
#include "tests/simt/include/simt.h"
#include "tests/simt/kernel_test.h"
#include "tests/simt/sample.h"

static float *pinned(size_t n)
{
	void *p = NULL;
	EXPECT_CUDA(cudaMallocHost(&p, n * sizeof(float)));
	memset(p, 0, n * sizeof(float));
	return p;
}

static cudaStream_t new_stream(void)
{
	cudaStream_t s;
	EXPECT_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
	return s;
}

KERNEL_TEST(a_result_is_not_there_before_somebody_waits)
{
	float x[4] = {1, 2, 3, 4}, *sum = pinned(1);
	float *dx = kernel_test_upload(x, sizeof x), *dsum = kernel_test_device(sizeof *dsum);
	cudaStream_t s = new_stream();
	EXPECT_CUDA(sample_block_sum(dx, dsum, 4, 1, s));
	EXPECT_CUDA(cudaMemcpyAsync(sum, dsum, sizeof *sum, cudaMemcpyDeviceToHost, s));
	EXPECT_NEAR(*sum, 0, 0);
	EXPECT_CUDA(cudaStreamSynchronize(s));
	EXPECT_NEAR(*sum, 10, 0);
	EXPECT_CUDA(cudaStreamDestroy(s));
	EXPECT_CUDA(cudaFreeHost(sum));
}

KERNEL_TEST(a_staging_buffer_that_is_reused_too_soon_carries_the_wrong_bytes)
{
	float *staging = pinned(1), *dx = kernel_test_device(sizeof *dx), got;
	cudaStream_t s = new_stream();
	*staging = 1;
	EXPECT_CUDA(cudaMemcpyAsync(dx, staging, sizeof *dx, cudaMemcpyHostToDevice, s));
	*staging = 2;
	EXPECT_CUDA(cudaStreamSynchronize(s));
	kernel_test_download(&got, dx, sizeof got);
	EXPECT_NEAR(got, 2, 0);
	EXPECT_CUDA(cudaStreamDestroy(s));
	EXPECT_CUDA(cudaFreeHost(staging));
}

KERNEL_TEST(pageable_memory_may_be_read_after_the_call)
{
	float x = 1, *dx = kernel_test_device(sizeof *dx), got;
	cudaStream_t s = new_stream();
	EXPECT_CUDA(cudaMemcpyAsync(dx, &x, sizeof x, cudaMemcpyHostToDevice, s));
	x = 2;
	EXPECT_CUDA(cudaStreamSynchronize(s));
	kernel_test_download(&got, dx, sizeof got);
	EXPECT_NEAR(got, 2, 0);
	EXPECT_CUDA(cudaStreamDestroy(s));
}

/* Copies 5 to the device in one stream and reads it back in another. */
static float over_two_streams(bool told)
{
	float *from = pinned(1), *to = pinned(1), *dx = kernel_test_device(sizeof *dx), got;
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t e;
	*from = 5;
	EXPECT_CUDA(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
	EXPECT_CUDA(cudaMemcpyAsync(dx, from, sizeof *dx, cudaMemcpyHostToDevice, a));
	EXPECT_CUDA(cudaEventRecord(e, a));
	EXPECT(cudaEventQuery(e) == cudaErrorNotReady || told);
	if (told)
		EXPECT_CUDA(cudaStreamWaitEvent(b, e, 0));
	EXPECT_CUDA(cudaMemcpyAsync(to, dx, sizeof *to, cudaMemcpyDeviceToHost, b));
	EXPECT_CUDA(cudaStreamSynchronize(b));
	got = *to;
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_CUDA(cudaEventDestroy(e));
	EXPECT_CUDA(cudaStreamDestroy(a));
	EXPECT_CUDA(cudaStreamDestroy(b));
	EXPECT_CUDA(cudaFreeHost(from));
	EXPECT_CUDA(cudaFreeHost(to));
	return got;
}

KERNEL_TEST(a_stream_waits_for_an_event_of_another)
{
	EXPECT_NEAR(over_two_streams(true), 5, 0);
}

KERNEL_TEST(an_event_is_reached_by_asking_often_enough)
{
	float *dx = kernel_test_device(64);
	cudaStream_t s = new_stream();
	cudaEvent_t e;
	int asked = 0;
	EXPECT_CUDA(cudaEventCreate(&e));
	for (int i = 0; i < 5; i++)
		EXPECT_CUDA(cudaMemsetAsync(dx, 0, 64, s));
	EXPECT_CUDA(cudaEventRecord(e, s));
	while (cudaEventQuery(e) == cudaErrorNotReady)
		asked++;
	EXPECT(asked > 0 && asked < 10);
	EXPECT_CUDA(cudaStreamQuery(s));
	EXPECT_CUDA(cudaEventDestroy(e));
	EXPECT_CUDA(cudaStreamDestroy(s));
}

static void note(void *data)
{
	++*(int *)data;
}

KERNEL_TEST(a_host_function_is_called_in_its_turn)
{
	int calls = 0;
	cudaStream_t s = new_stream();
	EXPECT_CUDA(cudaLaunchHostFunc(s, note, &calls));
	EXPECT_EQUAL(calls, 0);
	EXPECT_CUDA(cudaStreamSynchronize(s));
	EXPECT_EQUAL(calls, 1);
	EXPECT_CUDA(cudaStreamDestroy(s));
}

static cudaGraph_t captured(cudaStream_t s, const float *x, float *sum, uint32_t n, bool twice)
{
	cudaGraph_t graph;
	EXPECT_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(sample_block_sum(x, sum, n, 1, s));
	if (twice)
		EXPECT_CUDA(sample_block_sum(x, sum, n, 1, s));
	EXPECT(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
	cudaGetLastError();
	EXPECT_CUDA(cudaStreamEndCapture(s, &graph));
	return graph;
}

KERNEL_TEST(a_graph_takes_new_arguments_when_its_shape_is_the_same)
{
	float x[4] = {1, 2, 3, 4}, sum;
	float *dx = kernel_test_upload(x, sizeof x), *dsum = kernel_test_device(sizeof *dsum);
	cudaStream_t s = new_stream();
	cudaGraph_t first = captured(s, dx, dsum, 4, false);
	cudaGraph_t second = captured(s, dx, dsum, 2, false);
	cudaGraph_t longer = captured(s, dx, dsum, 2, true);
	cudaGraphExec_t exec;
	cudaGraphExecUpdateResultInfo info;
	size_t n_nodes;
	EXPECT_CUDA(cudaGraphGetNodes(longer, NULL, &n_nodes));
	EXPECT_EQUAL(n_nodes, 2);
	EXPECT_CUDA(cudaGraphInstantiate(&exec, first, 0));
	EXPECT(cudaGraphExecUpdate(exec, longer, &info) == cudaErrorGraphExecUpdateFailure);
	EXPECT_EQUAL(info.result, cudaGraphExecUpdateErrorTopologyChanged);
	cudaGetLastError();
	EXPECT_CUDA(cudaGraphExecUpdate(exec, second, &info));
	EXPECT_CUDA(cudaGraphDestroy(first));
	EXPECT_CUDA(cudaGraphDestroy(second));
	EXPECT_CUDA(cudaGraphDestroy(longer));
	EXPECT_CUDA(cudaGraphLaunch(exec, s));
	EXPECT_CUDA(cudaGraphExecDestroy(exec)); /* what is queued runs all the same */
	EXPECT_CUDA(cudaStreamSynchronize(s));
	kernel_test_download(&sum, dsum, sizeof sum);
	EXPECT_NEAR(sum, 3, 0);
	EXPECT_CUDA(cudaStreamDestroy(s));
}

KERNEL_TEST(a_stream_that_waits_in_a_capture_is_captured_too)
{
	float x[4] = {1, 2, 3, 4}, sum;
	float *dx = kernel_test_upload(x, sizeof x), *dsum = kernel_test_device(sizeof *dsum);
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t fork, join;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	enum cudaStreamCaptureStatus status;
	EXPECT_CUDA(cudaEventCreate(&fork));
	EXPECT_CUDA(cudaEventCreate(&join));
	EXPECT_CUDA(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(cudaEventRecord(fork, a));
	EXPECT_CUDA(cudaStreamWaitEvent(b, fork, 0));
	EXPECT_CUDA(sample_block_sum(dx, dsum, 4, 1, b));
	EXPECT_CUDA(cudaEventRecord(join, b));
	EXPECT_CUDA(cudaStreamWaitEvent(a, join, 0));
	EXPECT_CUDA(cudaStreamEndCapture(a, &graph));
	EXPECT_CUDA(cudaStreamIsCapturing(b, &status));
	EXPECT_EQUAL(status, cudaStreamCaptureStatusNone);
	EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
	EXPECT_CUDA(cudaGraphLaunch(exec, a));
	EXPECT_CUDA(cudaStreamSynchronize(a));
	kernel_test_download(&sum, dsum, sizeof sum);
	EXPECT_NEAR(sum, 10, 0);
	EXPECT_CUDA(cudaGraphExecDestroy(exec));
	EXPECT_CUDA(cudaGraphDestroy(graph));
	EXPECT_CUDA(cudaEventDestroy(fork));
	EXPECT_CUDA(cudaEventDestroy(join));
	EXPECT_CUDA(cudaStreamDestroy(a));
	EXPECT_CUDA(cudaStreamDestroy(b));
}

KERNEL_TEST(memory_of_the_device_has_an_end)
{
	size_t available, total, before;
	void *all, *more;
	simt_set_memory(1 << 20);
	EXPECT_CUDA(cudaMemGetInfo(&before, &total));
	EXPECT_EQUAL(total, 1 << 20);
	EXPECT_CUDA(cudaMalloc(&all, before));
	EXPECT_CUDA(cudaMemGetInfo(&available, &total));
	EXPECT_EQUAL(available, 0);
	EXPECT(cudaMalloc(&more, 1) == cudaErrorMemoryAllocation && !more);
	EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
	EXPECT(cudaGetLastError() == cudaSuccess); /* not a sticky one */
	EXPECT_CUDA(cudaFree(all));
	EXPECT_CUDA(cudaMemGetInfo(&available, &total));
	EXPECT_EQUAL(available, before);
	simt_set_memory(0);
}

KERNEL_TEST(copies_out_of_bounds_are_refused)
{
	char host[32], *d = kernel_test_device(16);
	EXPECT(cudaMemcpy(d, host, 17, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
	EXPECT(cudaMemcpy(host, d + 8, 9, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
	EXPECT(cudaMemcpy(host, d, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
	EXPECT(cudaMemset(d, 0, 17) == cudaErrorInvalidValue);
	cudaGetLastError();
}

KERNEL_TEST(a_launch_beyond_the_limits_is_refused)
{
	float *d = kernel_test_device(16);
	EXPECT(sample_block_sum(d, d, 1, 0, NULL) == cudaErrorInvalidConfiguration);
	cudaGetLastError();
}

KERNEL_TEST(a_launch_can_be_made_to_fail_for_tests_of_errors)
{
	float *d = kernel_test_device(16);
	simt_fail_launch(1, cudaErrorECCUncorrectable);
	EXPECT_CUDA(sample_block_sum(d, d + 1, 1, 1, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_CUDA(sample_block_sum(d, d + 1, 1, 1, NULL));
	EXPECT(cudaDeviceSynchronize() == cudaErrorECCUncorrectable);
	EXPECT(cudaMemset(d, 0, 16) == cudaErrorECCUncorrectable);
	EXPECT_CUDA(cudaDeviceReset());
	cudaGetLastError();
}

KERNEL_TEST(freed_memory_is_out_of_bounds)
{
	float *d, *sum = kernel_test_device(4);
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	EXPECT_CUDA(cudaMalloc((void **)&d, 4));
	EXPECT_CUDA(cudaFree(d));
	EXPECT_CUDA(sample_block_sum(d, sum, 1, 1, NULL));
	EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
	EXPECT(strstr(simt_take_fault(), "out of bounds"));
	EXPECT_CUDA(cudaDeviceReset());
	cudaGetLastError();
}
