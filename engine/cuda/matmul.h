/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_MATMUL_H
#define ENGINE_CUDA_MATMUL_H

/* Dense products by cuBLASLt: which of its algorithms computes which shape is chosen once. Used
 * between cuda_context_enter() and leave. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/context.h"
#include "engine/cuda/step.h"

#define CUDA_MATMUL_WORKSPACE ((size_t)32 << 20) /* what its makers advise for sm_90 */

struct cuda_matmul;

/* out[n_rows][rows] (+)= x[n_rows][cols] w[rows][cols]^T, all row after row, sums in f32. */
struct cuda_matmul_product {
	const void *w, *x;
	void *out;
	enum cuda_type type;     /* of w and x: f32, f16, bf16, or e4m3 (without its scales) */
	enum cuda_type out_type; /* f32, f16 with f16, bf16 with bf16 and e4m3 */
	size_t ld;               /* values from one row of out to the next */
	uint32_t n_rows, rows, cols;
	bool add; /* only with out_type f32 */
};

/* new *out; borrows c, and `workspace`, CUDA_MATMUL_WORKSPACE bytes of the device. -ENOMEM. */
int cuda_matmul_new(
	struct cuda_matmul **out, struct cuda_context *c, void *workspace, struct err *err);
/* Accepts NULL, returns NULL. Needs no device. */
struct cuda_matmul *cuda_matmul_free(struct cuda_matmul *m);

/* Puts the product into the context's stream. The first one of a shape takes longer: an algorithm
 * is chosen for it; allowed while a graph is captured. 0; -ENOTSUP, -ENOMEM, -EIO. */
int cuda_matmul_run(struct cuda_matmul *m, const struct cuda_matmul_product *p, struct err *err);

#endif
