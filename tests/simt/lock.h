/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_LOCK_H
#define SIMT_LOCK_H

/* The one lock of the emulated runtime, and the error that a call ends with. */

#include "tests/simt/include/cuda_runtime_api.h"

void lock_enter(void); /* recursive */
void lock_leave(void);

/* The sticky error, or cudaSuccess. */
cudaError_t lock_error(void);

/* Leaves the lock and remembers rc as this thread's last error. Returns rc. */
cudaError_t lock_result(cudaError_t rc);

#endif
