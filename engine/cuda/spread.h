/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_SPREAD_H
#define ENGINE_CUDA_SPREAD_H

/* The small kernels between a step's upload and the rest, and behind products that are not done
 * yet. Launchers return a cudaError_t, wait for nothing and may be captured. All pointers are
 * device memory. */

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_SPREAD_NONE UINT32_MAX

struct cuda_spread {
	const uint32_t *given;      /* [n_rows] token of a row, if the host knows it */
	const uint32_t *source;     /* [n_rows] CUDA_SPREAD_NONE; or it is picked[source] */
	const uint32_t *picked;     /* of the step before */
	const uint32_t *block_from; /* [n_runs + 1] where in tables a run's blocks begin */
	const uint32_t *tables;
	uint32_t n_rows, n_runs;
};

/* Fills rows->id [n_rows] and the block tables of n_runs runs. */
int cuda_spread(const struct cuda_spread *u, const struct cuda_rows *rows, cudaStream_t stream);

/* Finishes a product: out[i][c] (+)= in[i][c] * row_scale[i] * col_scale[c] + bias[c]. */
struct cuda_finish {
	const void *in;         /* [n_rows][ld_in] */
	enum cuda_type in_type; /* F32, F16, BF16 */
	size_t ld_in;
	const float *row_scale, *col_scale; /* NULL: 1 */
	const float *bias;                  /* NULL: 0 */
	void *out;                          /* [n_rows][ld]; may be in */
	enum cuda_type type;                /* F32, F16, BF16 */
	size_t ld;
	bool add; /* only F32 */
	uint32_t n_rows, cols;
};

int cuda_finish(const struct cuda_finish *f, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
