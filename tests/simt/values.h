/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_VALUES_H
#define TESTS_SIMT_VALUES_H

/* Arrays of the number types of kernels, for references in f64, and how far a result may be off. */

#include "engine/cuda/quant.h"
#include "engine/cuda/step.h"
#include "engine/quant.h"
#include "tests/simt/kernel_test.h"

static inline float values_e4m3(uint8_t e)
{
	int exponent = e >> 3 & 15, fraction = e & 7;
	double v = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);

	return (e & 0x7f) == 0x7f ? NAN : (float)(e & 0x80 ? -v : v);
}

/* The nearest, ties to the even one; 448 at most. */
static inline uint8_t values_to_e4m3(float f)
{
	static float table[0x7f];
	int low = 0, high = 0x7e;
	float a = fabsf(f);

	if (table[1] == 0) {
		for (int i = 0; i < 0x7f; i++)
			table[i] = values_e4m3((uint8_t)i);
	}
	while (low < high) { /* the last one that is not above */
		int middle = (low + high + 1) / 2;
		if (table[middle] <= a)
			low = middle;
		else
			high = middle - 1;
	}
	if (low < 0x7e) {
		float below = a - table[low], above = table[low + 1] - a;
		low += above < below || (above == below && low % 2);
	}
	return (uint8_t)(low | (f < 0 ? 0x80 : 0));
}

static inline uint16_t values_to_bf16(float f)
{
	uint32_t u = quant_bits(f);

	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Value i of an array of F32, F16, BF16 or E4M3. */
static inline float values_get(const void *p, enum cuda_type type, size_t i)
{
	return type == CUDA_TYPE_F32    ? ((const float *)p)[i]
	       : type == CUDA_TYPE_F16  ? quant_f16_to_f32(((const uint16_t *)p)[i])
	       : type == CUDA_TYPE_BF16 ? quant_bf16_to_f32(((const uint16_t *)p)[i])
					: values_e4m3(((const uint8_t *)p)[i]);
}

static inline void values_set(void *p, enum cuda_type type, size_t i, float v)
{
	if (type == CUDA_TYPE_F32)
		((float *)p)[i] = v;
	else if (type == CUDA_TYPE_F16)
		((uint16_t *)p)[i] = quant_f32_to_f16(v);
	else if (type == CUDA_TYPE_BF16)
		((uint16_t *)p)[i] = values_to_bf16(v);
	else
		((uint8_t *)p)[i] = values_to_e4m3(v);
}

/* Value (row, c) of q8. */
static inline float values_q8(const uint8_t *q8, uint32_t cols, uint32_t row, uint32_t c)
{
	const uint8_t *block = q8 + ((size_t)(row / 8) * cuda_quant_q8_blocks(cols) + c / 32) *
					    CUDA_QUANT_GROUP_BLOCK_BYTES;
	float d;

	memcpy(&d, block + 256 + 4 * (row % 8), sizeof d);
	return d * (float)(int8_t)block[row % 8 * 32 + c % 32];
}

/* Normalised mean square error that rounding to a type may cause, several times over. */
static inline double values_tolerance(enum cuda_type type)
{
	switch (type) {
	case CUDA_TYPE_F32:
		return 1e-11;
	case CUDA_TYPE_F16:
		return 1e-6;
	case CUDA_TYPE_BF16:
		return 2e-5;
	case CUDA_TYPE_E4M3:
		return 2e-3;
	case CUDA_TYPE_Q8:
		return 1e-4;
	}
	return 0;
}

/* sum of (got - want)^2 / sum of want^2; 0 / 0 is 0. A NaN in got gives a NaN. */
static inline double values_error(const float *got, const double *want, size_t n)
{
	double off = 0, all = 0;

	for (size_t i = 0; i < n; i++) {
		off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		all += want[i] * want[i];
	}
	return off == 0 ? 0 : off / all;
}

#define EXPECT_ERROR(got, want, n, most)                                                           \
	do {                                                                                       \
		double error_ = values_error(got, want, n), most_ = (most);                        \
		if (!(error_ <= most_))                                                            \
			kernel_test_fail(__FILE__, __LINE__, "error of %s is %.3g, above %.3g",    \
				#got, error_, most_);                                              \
	} while (0)

#endif
