/* SPDX-License-Identifier: Apache-2.0 */
/* The sample's test: how a test of a kernel is written (tests/simt/README.md). */
#include "tests/simt/kernel_test.h"
#include "tests/simt/sample.h"

static void check_sums(uint32_t n, uint32_t n_blocks)
{
	size_t count = (size_t)n * n_blocks;
	float *x = kernel_test_host(count * sizeof *x),
	      *sum = kernel_test_host(n_blocks * sizeof *sum);
	for (size_t i = 0; i < count; i++)
		x[i] = kernel_test_random_float();
	float *dx = kernel_test_upload(x, count * sizeof *x);
	float *dsum = kernel_test_device(n_blocks * sizeof *dsum);
	EXPECT_CUDA(sample_block_sum(dx, dsum, n, n_blocks, NULL));
	kernel_test_download(sum, dsum, n_blocks * sizeof *sum);
	for (uint32_t b = 0; b < n_blocks; b++) {
		double want = 0;
		for (uint32_t i = 0; i < n; i++)
			want += (double)x[(size_t)b * n + i];
		EXPECT_NEAR(sum[b], want, 1e-6 * n);
	}
}

KERNEL_TEST(each_block_adds_up_its_row)
{
	static const uint32_t shapes[] = {1, 2, 31, 32, 33, 127, 128, 129, 1000};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check_sums(shapes[i], 3);
}

KERNEL_TEST(a_captured_launch_runs_again_with_what_its_addresses_hold_then)
{
	float x[4] = {1, 2, 3, 4}, sum = 0;
	float *dx = kernel_test_upload(x, sizeof x), *dsum = kernel_test_device(sizeof *dsum);
	cudaStream_t s;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	EXPECT_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
	EXPECT_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(sample_block_sum(dx, dsum, 4, 1, s));
	EXPECT_CUDA(cudaStreamEndCapture(s, &graph));
	EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
	for (int round = 0; round < 3; round++) {
		x[0] = (float)round;
		EXPECT_CUDA(cudaMemcpyAsync(dx, x, sizeof x, cudaMemcpyHostToDevice, s));
		EXPECT_CUDA(cudaGraphLaunch(exec, s));
		EXPECT_CUDA(cudaStreamSynchronize(s));
		kernel_test_download(&sum, dsum, sizeof sum);
		EXPECT_NEAR(sum, 9 + round, 0);
	}
	EXPECT_CUDA(cudaGraphExecDestroy(exec));
	EXPECT_CUDA(cudaGraphDestroy(graph));
	EXPECT_CUDA(cudaStreamDestroy(s));
}
