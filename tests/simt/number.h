/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_NUMBER_H
#define SIMT_NUMBER_H

/* Small floats by their definition, independent of the conversions that kernels use. */

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float number_small(unsigned sign, int exponent, int mantissa, int bits, int bias)
{
	float f = exponent ? ldexpf((float)(mantissa | 1 << bits), exponent - bias - bits)
			   : ldexpf((float)mantissa, 1 - bias - bits);
	return sign ? -f : f;
}

static inline float number_f16(uint16_t h)
{
	int exponent = h >> 10 & 31, mantissa = h & 1023;
	if (exponent == 31)
		return mantissa ? NAN : h >> 15 ? -INFINITY : INFINITY;
	return number_small(h >> 15, exponent, mantissa, 10, 15);
}

static inline float number_e4m3(uint8_t e)
{
	if ((e & 0x7f) == 0x7f)
		return NAN;
	return number_small(e >> 7, e >> 3 & 15, e & 7, 3, 7);
}

static inline float number_bf16(uint16_t b)
{
	uint32_t bits = (uint32_t)b << 16;
	float f;
	memcpy(&f, &bits, sizeof f);
	return f;
}

/* The nearest, ties to the even one. */
static inline uint16_t number_to_f16(float f)
{
	uint16_t sign = signbit(f) ? 0x8000 : 0;
	float a = fabsf(f);
	int exponent;
	if (isnan(f))
		return 0x7fff;
	if (a >= 65520.0f)
		return sign | 0x7c00;
	if (a == 0)
		return sign;
	frexpf(a, &exponent); /* a = m 2^exponent, m in [0.5, 1) */
	if (exponent < -13)
		exponent = -13;
	int steps = (int)rintf(ldexpf(a, 11 - exponent)); /* of 2^(exponent - 11) */
	return (uint16_t)(sign + ((exponent + 13) << 10) + steps);
}

static inline uint16_t number_to_bf16(float f)
{
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	if (isnan(f))
		return 0x7fff;
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
