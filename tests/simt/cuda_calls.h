/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_CUDA_CALLS_H
#define TESTS_SIMT_CUDA_CALLS_H

/* CUDA calls that fail or are late when they are told to: the linker has every call of the back end
 * in programs with this go through here first (--wrap, see meson.build). */

#include <stdbool.h>

/* From now on the n-th call fails, counted from 0, and no other. only: the n-th of that name,
 * static; NULL: of all, but launches of kernels and ends of captures, which fail by their names
 * only. */
void cuda_calls_fail(long n, const char *only);
/* All succeed again. Whether one was made to fail since cuda_calls_fail. */
bool cuda_calls_succeed(void);
/* The same, without the end. */
bool cuda_calls_failed(void);

/* Things made and not ended yet. */
extern long cuda_calls_live;

/* Bytes that were copied from the device. */
extern unsigned long long cuda_calls_to_host;

/* Copies of this kind are late: before one that is to the host, after one that is from it, the
 * device has done all there is to do, and then nothing for a while. */
#define CUDA_CALLS_LATE_NS 20000000
extern enum cuda_calls_late {
	CUDA_CALLS_NEVER,
	CUDA_CALLS_TO_DEVICE,
	CUDA_CALLS_TO_HOST
} cuda_calls_late;

/* The order of threads, of which the harness tries three, is nothing to tests of calls: the first
 * line of each. */
#define CUDA_CALLS_ONCE                                                                            \
	static int n_runs;                                                                         \
	if (n_runs++ > 0)                                                                          \
	return

#endif
