/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_QUANT_H
#define ENGINE_QUANT_H

/* The number formats of weights: 16-bit floats, blocks of 32 small integers with a common scale and
 * perhaps a common minimum, and the K types: blocks of 256 with a scale, and small integers that
 * multiply it for each 16 or 32. */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/gguf.h"

#define QUANT_BLOCK 32 /* values of a block of Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 */

/* As they lie in a file: no padding, aligned to 2 bytes at best. */
struct quant_q8_0 {
	uint16_t d;            /* scale, binary16 */
	int8_t q[QUANT_BLOCK]; /* value i = d * q[i] */
};

struct quant_q4_0 {
	uint16_t d;
	uint8_t q[QUANT_BLOCK /
		  2]; /* value i = d * ((q[i] & 15) - 8), value i + 16 = d * ((q[i] >> 4) - 8) */
};

struct quant_q4_1 {
	uint16_t d, m;
	uint8_t q[QUANT_BLOCK / 2]; /* as in Q4_0, but value i = d * (q[i] & 15) + m */
};

struct quant_q5_0 {
	uint16_t d;
	uint8_t high[4];            /* bit i % 8 of byte i / 8: the fifth bit of value i */
	uint8_t q[QUANT_BLOCK / 2]; /* as in Q4_0; value i = d * (integer - 16) */
};

struct quant_q5_1 {
	uint16_t d, m;
	uint8_t high[4], q[QUANT_BLOCK / 2]; /* as in Q5_0, but value i = d * integer + m */
};

#define QUANT_K 256 /* values of a block of Q4_K, Q5_K, Q6_K */

/* Value i of part j = i / 32: d * scale[j] * q - dmin * min[j]. Scales and minima are 6-bit
 * numbers, see quant.c. */
struct quant_q4_k {
	uint16_t d, dmin;
	uint8_t scales[12];
	uint8_t q[QUANT_K / 2]; /* 32 bytes for two parts: low halves, high halves */
};

struct quant_q5_k {
	uint16_t d, dmin;
	uint8_t scales[12];
	uint8_t high[32]; /* bit j of byte i: the fifth bit of value i of part j */
	uint8_t q[QUANT_K / 2];
};

/* Value i: d * scale[i / 16] * (q - 32). Of each 128: byte i of 64 has the low halves of values i
 * and i + 64; byte i of 32 has the upper two bits of values i, i + 32, i + 64, i + 96. */
struct quant_q6_k {
	uint8_t low[QUANT_K / 2];
	uint8_t high[QUANT_K / 4];
	int8_t scale[QUANT_K / 16];
	uint16_t d;
};

/* 32 values of a quantised type, in numbers: value i = d * scale[i / 16] * q[i] - dmin * min, in
 * which only the difference is rounded. Of blocks of 32 the scales are 1; dmin * min is -m of those
 * that have one, of all others, and of Q6_K, 0. */
struct quant_part {
	float d, dmin;
	int32_t scale[2], min;
	int8_t q[QUANT_BLOCK];
};

static inline uint32_t quant_bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, sizeof u);
	return u;
}

static inline float quant_float(uint32_t u)
{
	float f;
	memcpy(&f, &u, sizeof f);
	return f;
}

/* Exact, as the processor's conversions are, but for the payload of a NaN. */
static inline float quant_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31,
		 fraction = h & 0x3ff;

	if (exponent == 0) { /* zero, subnormal: the fraction counts 2^-24 */
		float f = (float)fraction * 0x1p-24f;
		return sign ? -f : f;
	}
	if (exponent == 31)
		return quant_float(sign | 0x7f800000u | fraction << 13);
	return quant_float(sign | (exponent + 112) << 23 | fraction << 13);
}

/* To the nearest, ties to even; beyond the range: infinity. */
uint16_t quant_f32_to_f16(float f);

static inline float quant_bf16_to_f32(uint16_t b)
{
	return quant_float((uint32_t)b << 16);
}

/* n values as whole numbers of at most `most`, to be multiplied by the scale that is returned. A
 * NaN becomes -most. */
static inline float quant_to_i16(const float *x, uint32_t n, float most, int16_t *q)
{
	float largest = 0;

	for (uint32_t i = 0; i < n; i++) {
		float a = fabsf(x[i]);
		largest = a > largest ? a : largest;
	}
	float d = largest / most, inverse = d > 0 ? most / largest : 0;
	for (uint32_t i = 0; i < n; i++) {
		float v = x[i] * inverse;
		v = v > -most ? v : -most;
		v = v < most ? v : most;
		q[i] = (int16_t)rintf(v);
	}
	return d;
}

/* Part j of a block of a quantised type that lies at any address: j = 0 .. 7 of a K type, else 0.
 */
void quant_part(enum tensor_type type, const void *block, uint32_t j, struct quant_part *out);

/* The bytes n values take; n is a multiple of the type's block. */
size_t quant_bytes(enum tensor_type type, size_t n);

/* n values at src, in the given type and at any address, to f32; n is a multiple of the type's
 * block. */
void quant_to_f32(enum tensor_type type, const void *src, size_t n, float *dst);

#endif
