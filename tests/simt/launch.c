/* SPDX-License-Identifier: Apache-2.0 */
/* Launches: what the configuration of one must keep to, and the piece of work that it becomes. The
 * limits are the smallest of the cards that the engine is built for, so that a kernel which runs
 * here fits on all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/simt/block.h"
#include "tests/simt/fault.h"
#include "tests/simt/include/simt_launch.h"
#include "tests/simt/launch.h"
#include "tests/simt/lock.h"
#include "tests/simt/stream.h"

struct launch {
	struct block_launch block;
	void (*destroy)(void *arguments);
};

static struct {
	const void *kernel;
	size_t shared;
} allowance[256];
static size_t n_allowances;

static unsigned long long n_launches;
static unsigned fail_skip;
static int fail_error;

void simt_fail_launch(unsigned skip, int error)
{
	lock_enter();
	fail_skip = skip;
	fail_error = error;
	lock_leave();
}

unsigned long long simt_launches(void)
{
	return n_launches;
}

static size_t allowed(const void *kernel)
{
	for (size_t i = 0; i < n_allowances; i++) {
		if (allowance[i].kernel == kernel)
			return allowance[i].shared;
	}
	return LAUNCH_SHARED;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
	lock_enter();
	if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
		return lock_result(lock_error());
	if (value < 0 || value > LAUNCH_SHARED_OPTIN)
		return lock_result(cudaErrorInvalidValue);
	size_t i = 0;
	while (i < n_allowances && allowance[i].kernel != function)
		i++;
	if (i == sizeof allowance / sizeof *allowance)
		return lock_result(cudaErrorInvalidValue);
	if (i == n_allowances)
		n_allowances++;
	allowance[i].kernel = function;
	allowance[i].shared = (size_t)value;
	return lock_result(lock_error());
}

static void run_launch(struct work *w)
{
	struct launch *l = (struct launch *)(void *)w->argument;
	if (fail_error && !fail_skip--) {
		int error = fail_error;
		fail_error = 0;
		fault_set(error, "a launch that the test had fail");
		simt_take_fault();
		return;
	}
	n_launches++;
	block_run(&l->block);
}

static void end_launch(struct work *w)
{
	struct launch *l = (struct launch *)(void *)w->argument;
	l->destroy(l->block.arguments);
}

static cudaError_t check(const void *kernel, dim3 grid, dim3 block, size_t shared)
{
	unsigned long long threads = (unsigned long long)block.x * block.y * block.z;
	if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 ||
		grid.z > 65535)
		return cudaErrorInvalidConfiguration;
	if (!threads || threads > BLOCK_MAX || block.x > 1024 || block.y > 1024 || block.z > 64)
		return cudaErrorInvalidConfiguration;
	return shared > allowed(kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t simt_launch_work(const char *name, const void *kernel, dim3 grid, dim3 block,
	size_t shared, cudaStream_t stream, void (*call)(void *), void (*destroy)(void *),
	void *arguments, size_t size)
{
	lock_enter();
	cudaError_t rc = lock_error();
	if (!rc)
		rc = size > BLOCK_MAX_ARGUMENTS ? cudaErrorInvalidValue
						: check(kernel, grid, block, shared);
	if (rc) {
		destroy(arguments);
		return lock_result(rc);
	}
	struct work *w = work_new(WORK_LAUNCH, sizeof(struct launch), run_launch);
	if (!w) {
		destroy(arguments);
		return lock_result(cudaErrorMemoryAllocation);
	}
	w->what = kernel;
	w->end = end_launch;
	*(struct launch *)(void *)w->argument = (struct launch){
		.block = {.name = name,
			.call = call,
			.arguments = arguments,
			.size = size,
			.grid = grid,
			.block = block,
			.shared = shared},
		.destroy = destroy,
	};
	return lock_result(stream_add(stream, w));
}
