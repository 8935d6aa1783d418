/* SPDX-License-Identifier: Apache-2.0 */
/* One recursive lock around everything: the emulator runs one thing at a time. The last error is
 * kept for each thread, as the runtime does.
 */
#include "lock.h"

#include <pthread.h>

#include "tests/simt/fault.h"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static __thread cudaError_t last;

void lock_enter(void)
{
	pthread_mutex_lock(&lock);
}

void lock_leave(void)
{
	pthread_mutex_unlock(&lock);
}

cudaError_t lock_error(void)
{
	return (cudaError_t)fault_error();
}

cudaError_t lock_result(cudaError_t rc)
{
	pthread_mutex_unlock(&lock);
	if (rc && rc != cudaErrorNotReady)
		last = rc;
	return rc;
}

cudaError_t cudaPeekAtLastError(void)
{
	return fault_error() ? lock_error() : last;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t rc = cudaPeekAtLastError();
	last = cudaSuccess;
	return rc;
}
