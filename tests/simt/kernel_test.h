/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_KERNEL_TEST_H
#define TESTS_SIMT_KERNEL_TEST_H

/* A harness for tests that launch kernels, without libcheck, so that the same test runs in the
 * emulator and on a card. In the emulator each test runs three times: threads in normal, in
 * reversed and in shuffled order. On a machine without a device the program ends with 77, a skip.
 *
 *   KERNEL_TEST(block_sum_adds_every_thread)
 *   {
 *           EXPECT(launcher(...) == 0);
 *           EXPECT(cudaDeviceSynchronize() == cudaSuccess);
 *           EXPECT_NEAR(got, want, 1e-5);
 *   }
 *
 * After each test nothing may be left of the device's memory that the test allocated with
 * kernel_test_device(): the harness frees it.
 */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_test {
	const char *name;
	void (*run)(void);
	struct kernel_test *next;
};
void kernel_test_register(struct kernel_test *t);

/* Ends the test that runs, as failed. */
void kernel_test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* For what cannot be tried here: says so and why, in the words that tools/test_summary.py counts,
 *and the test returns:
 *
 *	if (kernel_test_skips(!simt_sees_accesses(), "nobody looks at accesses here"))
 *		return;
 */
bool kernel_test_skips(bool cannot, const char *why);

#define KERNEL_TEST(claim)                                                                         \
	static void claim(void);                                                                   \
	__attribute__((constructor)) static void register_##claim(void)                            \
	{                                                                                          \
		static struct kernel_test t = {#claim, claim, NULL};                               \
		kernel_test_register(&t);                                                          \
	}                                                                                          \
	static void claim(void)

#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition))                                                                  \
			kernel_test_fail(__FILE__, __LINE__, "%s", #condition);                    \
	} while (0)

/* A call of the CUDA runtime, or a launcher, that must give 0. */
#define EXPECT_CUDA(call)                                                                          \
	do {                                                                                       \
		int rc_ = (int)(call);                                                             \
		if (rc_)                                                                           \
			kernel_test_fail(__FILE__, __LINE__, "%s: %s", #call,                      \
				cudaGetErrorName((cudaError_t)rc_));                               \
	} while (0)

#define EXPECT_EQUAL(got, want)                                                                    \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_)                                                                 \
			kernel_test_fail(                                                          \
				__FILE__, __LINE__, "%s is %lld, not %lld", #got, got_, want_);    \
	} while (0)

#define EXPECT_NEAR(got, want, tolerance)                                                          \
	do {                                                                                       \
		double got_ = (double)(got), want_ = (double)(want), off_ = fabs(got_ - want_);    \
		if (!(off_ <= (double)(tolerance)))                                                \
			kernel_test_fail(__FILE__, __LINE__, "%s is %.9g, not %.9g: off by %.3g",  \
				#got, got_, want_, off_);                                          \
	} while (0)

/* Device memory, filled with 0xff or with a copy of `from`; freed by the harness. */
void *kernel_test_device(size_t size);
void *kernel_test_upload(const void *from, size_t size);

/* Waits for the device, then copies; fails the test on any error. */
void kernel_test_download(void *to, const void *device, size_t size);

/* Memory of the host, zeroed; freed by the harness. */
void *kernel_test_host(size_t size);

/* Reproducible: the same for each run of each test. Uniform in [0, n), [-1, 1). */
uint32_t kernel_test_random(uint32_t n);
float kernel_test_random_float(void);

/* Compute capability as 10 major + minor: 90. */
int kernel_test_capability(void);

/* In the emulator: whether tests run with threads in shuffled order alone, and not in normal and
 * reversed order too. False unless a test's own sources define it. */
extern bool kernel_test_one_order;

/* Whether this is the emulator: for tests of the emulator, and shapes that would take it too long.
 */
bool kernel_test_emulated(void);

#ifdef __cplusplus
}
#endif

#endif
