/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_QUANT_CASE_H
#define TESTS_SIMT_QUANT_CASE_H

/* What tests of quantised products have in common: random weights, as in a file and repacked. */

#include "engine/cuda/quant.h"
#include "engine/ops.h"
#include "engine/quant.h"
#include "tests/simt/kernel_test.h"

static const enum tensor_type quant_case_types[] = {TENSOR_Q8_0, TENSOR_Q4_0, TENSOR_Q4_1,
	TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
#define QUANT_CASE_TYPES (sizeof quant_case_types / sizeof quant_case_types[0])

/* Blocks as in a file, of random bits but for finite scales. */
static inline uint8_t *quant_case_blocks(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	size_t bytes = quant_bytes(type, cols) * rows, block = tensor_type_info(type)->block_bytes;
	uint8_t *w = kernel_test_host(bytes);

	for (size_t i = 0; i < bytes; i++)
		w[i] = (uint8_t)kernel_test_random(256);
	for (size_t i = 0; i < bytes; i += block) {
		uint16_t d = quant_f32_to_f16(0.01f * kernel_test_random_float());
		memcpy(w + i + (type == TENSOR_Q6_K ? 208 : 0), &d, 2);
		d = quant_f32_to_f16(0.1f * kernel_test_random_float());
		if (ops_has_min(type))
			memcpy(w + i + 2, &d, 2);
	}
	return w;
}

static inline struct cuda_quant_matrix quant_case_repacked(
	enum tensor_type type, uint32_t rows, uint32_t cols, const uint8_t *w)
{
	size_t row_bytes = quant_bytes(type, cols);
	uint8_t *file = kernel_test_host(row_bytes * rows + 2);
	uint32_t half = rows / 32 * 16;
	void *data = kernel_test_device(cuda_quant_bytes(type, rows, cols));

	memcpy(file + 2, w, row_bytes * rows); /* at an address that is a multiple of 2 only */
	uint8_t *src = kernel_test_upload(file, row_bytes * rows + 2);
	if (half)
		EXPECT_CUDA(cuda_quant_repack(type, rows, cols, 0, half, src + 2, data, NULL));
	EXPECT_CUDA(cuda_quant_repack(
		type, rows, cols, half, rows - half, src + 2 + half * row_bytes, data, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize()); /* products read weights before device_begin() */
	return (struct cuda_quant_matrix){cuda_quant_form(type), rows, cols, data};
}

static inline uint32_t quant_case_cols(enum tensor_type type, uint32_t cols)
{
	uint32_t block = tensor_type_info(type)->block_values;

	return (cols + block - 1) / block * block;
}

static inline uint16_t quant_case_bf16(float f)
{
	uint32_t u = quant_bits(f);

	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float quant_case_value(const void *out, size_t i, enum cuda_type type)
{
	return type == CUDA_TYPE_F32   ? ((const float *)out)[i]
	       : type == CUDA_TYPE_F16 ? quant_f16_to_f32(((const uint16_t *)out)[i])
				       : quant_bf16_to_f32(((const uint16_t *)out)[i]);
}

static inline void *quant_case_workspace(void)
{
	void *workspace = kernel_test_device(CUDA_PRODUCT_WORKSPACE_BYTES);

	EXPECT_CUDA(cudaMemset(workspace, 0, CUDA_PRODUCT_WORKSPACE_BYTES));
	return workspace;
}

#endif
