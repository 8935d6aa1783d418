/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_GEMV_H
#define ENGINE_CUDA_GEMV_H

/*
 * Products of weights that are not quantised with few rows of activations, where all that counts is
 * the speed at which weights come from memory. For more rows there is cuBLASLt. Conventions as in
 * quant.h; cols is a multiple of 8 (F16, BF16), 4 (F32), 16 (FP8), else cudaErrorInvalidValue.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#include "engine/cuda/quant.h"
#include "engine/cuda/rows.h"
#include "engine/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_GEMV_MAX_ROWS 8

/*
 * w: [rows][cols] of f32, f16 or bf16, p->x: [n_rows][cols] of the same type, at most
 * CUDA_GEMV_MAX_ROWS of them. Sums are f32. p->tail: a norm, but of f32, which is not for speed.
 */
int cuda_gemv(enum cuda_type type, const void *w, uint32_t rows, uint32_t cols,
	const struct cuda_product *p, cudaStream_t stream);

/*
 * FP8: w: [rows][cols] of e4m3 with a scale a row, p->x: [n_rows][cols] of e4m3 with x_scale a row,
 * at most CUDA_GEMV_MAX_ROWS. out = w_scale * x_scale * sum. p->tail: a norm.
 */
int cuda_gemv_fp8(const uint8_t *w, const float *w_scale, uint32_t rows, uint32_t cols,
	const float *x_scale, const struct cuda_product *p, cudaStream_t stream);

/*
 * Gate and up of the feed-forward part in one: w: [2 * rows][cols] of f16 or bf16, first the gate's
 * rows, then up's; bias [2 * rows] or NULL. out[i][r] = f(gate) * up, of the type of w, which both
 * are rounded to before, as rows_glu() has it after a product of its own. May not overlap x.
 */
int cuda_gemv_gated(enum cuda_type type, const void *w, uint32_t rows, uint32_t cols,
	enum rows_gate kind, const struct cuda_product *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
