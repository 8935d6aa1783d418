/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_SAMPLE_H
#define TESTS_SIMT_SAMPLE_H

/* Launchers of the sample kernels: how a kernel and its test are written. Each returns cudaError_t
 * as int.
 */

#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sum[b] = the sum of x[b n ... b n + n - 1], for n_blocks blocks. */
int sample_block_sum(
	const float *x, float *sum, uint32_t n, uint32_t n_blocks, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
