/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_LAUNCH_WORK_H
#define SIMT_LAUNCH_WORK_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* threadIdx and the others: dim3 without its constructor, which C has no word for. */
struct simt_index {
	unsigned x, y, z;
};

/* What CUDA_LAUNCH becomes: call(a copy of arguments) is the kernel for one thread; destroy ends
 * arguments, also when the launch is refused.
 */
cudaError_t simt_launch_work(const char *name, const void *kernel, dim3 grid, dim3 block,
	size_t shared, cudaStream_t stream, void (*call)(void *), void (*destroy)(void *),
	void *arguments, size_t size);

#ifdef __cplusplus
}
#endif

#endif
