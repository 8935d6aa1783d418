/* SPDX-License-Identifier: Apache-2.0 */
/* The emulator catches what is planted, and lets through the same kernels done right. Where
 * accesses are not seen (the address sanitizer's build), a race shows by another order's other
 * result, and an access out of bounds is the sanitizer's to find.
 */
#include "tests/simt/faults.h"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/simt/include/simt.h"
#include "tests/simt/kernel_test.h"

#define THREADS 64

static uint32_t *out;

static uint32_t *results(uint32_t n)
{
	out = kernel_test_device(n * sizeof *out);
	return out;
}

/* What the launch came to: NULL when nothing was wrong. The device is fit for use again, and what
 * was allocated on it is gone.
 */
static const char *fault_of(int rc)
{
	EXPECT_CUDA(rc);
	cudaError_t sticky = cudaDeviceSynchronize();
	const char *fault = simt_take_fault();
	EXPECT((fault != NULL) == (sticky != cudaSuccess));
	if (fault) {
		EXPECT(cudaGetLastError() == sticky);
		EXPECT_CUDA(cudaDeviceReset());
		cudaGetLastError();
	}
	return fault;
}

static bool says(const char *fault, const char *words)
{
	if (!fault || !strstr(fault, words))
		printf("\tsaid: %s\n", fault ? fault : "nothing");
	return fault && strstr(fault, words);
}

/* Whether out[t] is what a right run gives, where the launch was let through. */
static bool neighbours_are_right(uint32_t n, bool within_warp)
{
	uint32_t got[THREADS];
	bool right = true;
	kernel_test_download(got, out, n * sizeof *got);
	for (uint32_t t = 0; t < n; t++)
		right &= got[t] == 100 + (within_warp ? t ^ 1 : t ? t - 1 : 0);
	return right;
}

/* In some order at least: for builds that do not see accesses. */
static bool wrong_in_some_order(int (*launch)(uint32_t *, bool), uint32_t n, bool within_warp)
{
	bool wrong = false;
	for (int o = SIMT_NORMAL; o <= SIMT_SHUFFLED; o++) {
		simt_set_order((enum simt_order)o, 7);
		EXPECT(!fault_of(launch(results(n), false)));
		wrong |= !neighbours_are_right(n, within_warp);
	}
	return wrong;
}

KERNEL_TEST(a_race_through_shared_memory_is_caught)
{
	if (simt_sees_accesses())
		EXPECT(says(fault_of(faults_neighbour(results(THREADS), false)), "a race"));
	else
		EXPECT(wrong_in_some_order(faults_neighbour, THREADS, false));
}

KERNEL_TEST(a_barrier_orders_a_block)
{
	EXPECT(!fault_of(faults_neighbour(results(THREADS), true)));
	EXPECT(neighbours_are_right(THREADS, false));
}

KERNEL_TEST(a_race_within_a_warp_is_caught)
{
	if (simt_sees_accesses())
		EXPECT(says(fault_of(faults_warp_neighbour(results(32), false)), "a race"));
	else
		EXPECT(wrong_in_some_order(faults_warp_neighbour, 32, true));
}

KERNEL_TEST(a_warp_barrier_orders_a_warp)
{
	EXPECT(!fault_of(faults_warp_neighbour(results(32), true)));
	EXPECT(neighbours_are_right(32, true));
}

KERNEL_TEST(a_barrier_that_half_the_threads_reach_is_caught)
{
	const char *fault = fault_of(faults_barrier(results(THREADS), false));
	EXPECT(says(fault, "threads 0-31 wait at a barrier"));
	EXPECT(says(fault, "threads 32-63 have ended"));
	EXPECT(!fault_of(faults_barrier(results(THREADS), true)));
}

static uint32_t *ascending(uint32_t n)
{
	uint32_t *x = kernel_test_host(n * sizeof *x);
	for (uint32_t i = 0; i < n; i++)
		x[i] = i;
	return kernel_test_upload(x, n * sizeof *x);
}

KERNEL_TEST(a_copy_that_nobody_waits_for_is_caught)
{
	uint32_t got[4 * THREADS];
	uint32_t *in = ascending(4 * THREADS);
	const char *fault = fault_of(faults_copy(in, results(4 * THREADS), false, true));
	if (simt_sees_accesses()) {
		EXPECT(says(fault, "cp.async"));
		return;
	}
	kernel_test_download(got, out, sizeof got);
	for (uint32_t i = 0; i < 4 * THREADS; i++)
		EXPECT_EQUAL(got[i], UINT32_MAX); /* what was there before */
}

KERNEL_TEST(a_copy_that_only_its_own_thread_may_see_yet_is_caught)
{
	uint32_t *in = ascending(4 * THREADS);
	const char *fault = fault_of(faults_copy(in, results(4 * THREADS), true, false));
	if (simt_sees_accesses())
		EXPECT(says(fault, "a race") || says(fault, "cp.async"));
}

KERNEL_TEST(a_copy_has_arrived_after_wait_and_barrier)
{
	uint32_t got[4 * THREADS];
	uint32_t *in = ascending(4 * THREADS);
	EXPECT(!fault_of(faults_copy(in, results(4 * THREADS), true, true)));
	kernel_test_download(got, out, sizeof got);
	for (uint32_t i = 0; i < 4 * THREADS; i++)
		EXPECT_EQUAL(got[i], i);
}

/* A child does it; the address sanitizer's report ends it. */
static bool sanitizer_ends(void (*what)(void))
{
	int status = 0, ends[2];
	char text[4096] = "";
	size_t used = 0;
	ssize_t n;
	EXPECT(pipe(ends) == 0);
	fflush(NULL);
	pid_t child = fork();
	EXPECT(child >= 0);
	if (!child) {
		dup2(ends[1], 2);
		what();
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], text + used, sizeof text - 1 - used)) > 0)
		used += (size_t)n;
	close(ends[0]);
	waitpid(child, &status, 0);
	text[used] = 0;
	return status && strstr(text, "AddressSanitizer") != NULL;
}

static void read_one_too_many(void)
{
	fault_of(faults_read(ascending(31), results(32), 32));
}

static void overrun_shared_memory(void)
{
	fault_of(faults_shared(results(32), 32, 124));
}

KERNEL_TEST(a_read_behind_an_allocation_is_caught)
{
	if (simt_sees_accesses())
		EXPECT(says(fault_of(faults_read(ascending(31), results(32), 32)),
			"a read of 4 bytes"));
	else
		EXPECT(sanitizer_ends(read_one_too_many));
	EXPECT(!fault_of(faults_read(ascending(32), results(32), 32)));
}

KERNEL_TEST(a_write_behind_shared_memory_is_caught)
{
	if (simt_sees_accesses())
		EXPECT(says(fault_of(faults_shared(results(32), 32, 124)), "a write of 4 bytes"));
	else
		EXPECT(sanitizer_ends(overrun_shared_memory));
	EXPECT(!fault_of(faults_shared(results(32), 32, 128)));
}

KERNEL_TEST(memory_of_the_host_is_out_of_bounds)
{
	static uint32_t in[32];
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	uint32_t *heap = kernel_test_host(32 * sizeof *heap);
	EXPECT(says(fault_of(faults_read(heap, results(32), 32)), "out of bounds"));
	(void)in;
}

KERNEL_TEST(pinned_memory_is_the_devices_too)
{
	uint32_t *pinned;
	EXPECT_CUDA(cudaMallocHost((void **)&pinned, 32 * sizeof *pinned));
	EXPECT(!fault_of(faults_read(pinned, results(32), 32)));
	EXPECT_CUDA(cudaFreeHost(pinned));
}

static const char *sum_by_last_block(bool before, bool behind, uint32_t *sum)
{
	uint32_t zero = 0;
	uint32_t *partial = kernel_test_device(5 * sizeof *partial);
	uint32_t *counter = kernel_test_upload(&zero, sizeof zero), *d_sum = results(1);
	const char *fault = fault_of(
		faults_last_block(ascending(160), partial, counter, d_sum, 5, before, behind));
	if (!fault)
		kernel_test_download(sum, d_sum, sizeof *sum);
	return fault;
}

KERNEL_TEST(blocks_are_ordered_by_an_atomic_between_fences_and_not_without_either)
{
	uint32_t sum = 0;
	EXPECT(!sum_by_last_block(true, true, &sum));
	EXPECT_EQUAL(sum, 159 * 160 / 2);
	if (!simt_sees_accesses())
		return;
	EXPECT(says(sum_by_last_block(false, true, &sum), "of another block"));
	EXPECT(says(sum_by_last_block(true, false, &sum), "of another block"));
}

static const char *sum_by_last_pair(bool fence, uint32_t *sum)
{
	uint32_t *partial = kernel_test_device(24), *d_sum = kernel_test_device(4);
	uint32_t *counters = kernel_test_device(16);
	EXPECT_CUDA(cudaMemset(counters, 0, 16));
	const char *fault =
		fault_of(faults_last_pair(ascending(6), partial, counters, d_sum, 6, fence));
	if (!fault)
		kernel_test_download(sum, d_sum, sizeof *sum);
	return fault;
}

KERNEL_TEST(what_a_block_has_learnt_it_passes_on_by_a_fence_and_not_without)
{
	uint32_t sum = 0;
	EXPECT(!sum_by_last_pair(true, &sum));
	EXPECT_EQUAL(sum, 15);
	if (simt_sees_accesses())
		EXPECT(says(sum_by_last_pair(false, &sum), "of another block"));
}

KERNEL_TEST(blocks_that_write_the_same_are_a_race)
{
	EXPECT(!fault_of(faults_blocks(results(9), 8, false)));
	if (simt_sees_accesses())
		EXPECT(says(fault_of(faults_blocks(results(9), 8, true)), "of another block"));
}

KERNEL_TEST(lanes_that_meet_at_different_operations_are_caught)
{
	EXPECT(says(fault_of(faults_meeting(results(32))), "meet at different operations"));
}

KERNEL_TEST(a_misaligned_vector_is_caught)
{
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	EXPECT(!fault_of(faults_aligned(ascending(32), results(2), 4)));
	EXPECT(says(
		fault_of(faults_aligned(ascending(32), results(2), 5)), "not aligned to 16 bytes"));
}

KERNEL_TEST(shared_memory_that_nobody_wrote_is_ones)
{
	uint32_t got[32];
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	EXPECT(!fault_of(faults_unwritten(results(32))));
	kernel_test_download(got, out, sizeof got);
	for (int i = 0; i < 32; i++)
		EXPECT_EQUAL(got[i], UINT32_MAX);
}

KERNEL_TEST(what_a_launch_that_nobody_waited_for_wrote_is_not_read_before_device_begin)
{
	uint32_t got[32], *w = kernel_test_device(sizeof got);
	EXPECT(!fault_of(faults_early(w, results(32), true)));
	kernel_test_download(got, out, sizeof got);
	for (uint32_t i = 0; i < 32; i++)
		EXPECT_EQUAL(got[i], 7 + i);
	if (simt_sees_accesses())
		EXPECT(says(
			fault_of(faults_early(w, results(32), false)), "before device_begin()"));
}

KERNEL_TEST(nothing_is_written_before_device_begin)
{
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	EXPECT(says(fault_of(faults_early_write(results(32))), "is written by thread"));
}

KERNEL_TEST(what_is_asked_for_lies_in_the_devices_memory_and_is_noted)
{
	static char here[256] __attribute__((aligned(16)));
	const struct simt_asked *list;
	char *w = kernel_test_device(256);

	simt_take_asked(&list);
	EXPECT(!fault_of(faults_ask(w + 16, 240)));
	EXPECT_EQUAL(simt_take_asked(&list), 1);
	EXPECT(list->from == w + 16 && list->size == 240 && list->early);
	EXPECT(strcmp(list->kernel, "ask") == 0);
	EXPECT_EQUAL(simt_take_asked(&list), 0);
	EXPECT(says(fault_of(faults_ask(w + 32, 240)), "out of bounds of the device's memory"));
	EXPECT(says(fault_of(faults_ask(here, 16)), "out of bounds of the device's memory"));
	w = kernel_test_device(256);
	EXPECT(says(fault_of(faults_ask(w + 8, 16)), "not 16 by 16"));
	w = kernel_test_device(256);
	EXPECT(says(fault_of(faults_ask(w, 24)), "not 16 by 16"));
	EXPECT_EQUAL(simt_take_asked(&list), 0);
}

KERNEL_TEST(what_a_launch_that_nobody_waited_for_wrote_is_not_asked_for)
{
	if (kernel_test_skips(!simt_sees_accesses(), "accesses are the address sanitizer's"))
		return;
	EXPECT(!fault_of(faults_ask_of_written(results(32), true)));
	EXPECT(says(fault_of(faults_ask_of_written(results(32), false)), "is asked for by thread"));
}

KERNEL_TEST(a_launch_of_which_no_block_waits_is_caught)
{
	char *w = kernel_test_device(64);

	EXPECT(!fault_of(faults_aside(w, 64, false)));
	EXPECT(says(fault_of(faults_aside(w, 64, true)), "no thread calls device_begin()"));
}

KERNEL_TEST(a_fault_is_every_calls_error_until_the_reset)
{
	void *memory;
	EXPECT_CUDA(faults_meeting(results(32)));
	EXPECT(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
	EXPECT(cudaMalloc(&memory, 16) == cudaErrorLaunchFailure);
	EXPECT(faults_meeting(out) == cudaErrorLaunchFailure);
	EXPECT(simt_take_fault());
	EXPECT_CUDA(cudaDeviceReset());
	EXPECT(cudaGetLastError() == cudaErrorLaunchFailure);
	EXPECT(cudaGetLastError() == cudaSuccess);
	EXPECT_CUDA(cudaMalloc(&memory, 16));
	EXPECT_CUDA(cudaFree(memory));
}
