/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Number formats, value by value: the definition that products, the gather of an embedding and the
 * tests agree on. Nothing here is fast; the inner loops of the back ends have conversions of their
 * own, and are tested against these. Sources are read with memcpy, because a file guarantees no
 * more alignment than it states.
 */
#include "engine/quant.h"

#include <assert.h>

uint16_t quant_f32_to_f16(float f)
{
	uint32_t u = quant_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;

	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (a >= 0x477ff000) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) { /* subnormal: adding 0.5 leaves the rounded count of 2^-24 in the low
				 bits */
		float shifted = quant_float(a) + 0.5f;
		return (uint16_t)(sign | (quant_bits(shifted) - quant_bits(0.5f)));
	}
	a += 0xfff + ((a >> 13) & 1);
	return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}

size_t quant_bytes(enum tensor_type type, size_t n)
{
	const struct tensor_type_info *info = tensor_type_info(type);

	return n / info->block_values * info->block_bytes;
}

/* Blocks of 32 integers, which lie behind d or behind d and m. */
static void plain_part(const uint8_t *src, bool has_min, struct quant_part *out)
{
	uint16_t d, m = 0;

	memcpy(&d, src, sizeof d);
	if (has_min)
		memcpy(&m, src + 2, sizeof m);
	out->d = quant_f16_to_f32(d);
	out->dmin = -quant_f16_to_f32(m);
	out->scale[0] = out->scale[1] = 1;
	out->min = has_min;
}

static void q8_0_part(const uint8_t *src, struct quant_part *out)
{
	plain_part(src, false, out);
	memcpy(out->q, src + 2, QUANT_BLOCK);
}

/* Q4_0, Q4_1, and those with a fifth bit: 4 bytes of these before the halves. */
static void q45_part(const uint8_t *src, bool fifth, bool has_min, struct quant_part *out)
{
	const uint8_t *high = src + (has_min ? 4 : 2), *q = high + (fifth ? 4 : 0);
	int offset = has_min ? 0 : fifth ? 16 : 8;

	plain_part(src, has_min, out);
	for (int i = 0; i < QUANT_BLOCK; i++) {
		int value = q[i % 16] >> i / 16 * 4 & 15;
		value |= fifth ? (high[i / 8] >> i % 8 & 1) << 4 : 0;
		out->q[i] = (int8_t)(value - offset);
	}
}

/* The j-th scale and minimum of 8, which lie as 6-bit numbers in 12 bytes: those of the first four
 * in bytes 0 .. 3 and 4 .. 7; of the others the low halves in bytes 8 .. 11, the upper two bits
 * above the first four. */
static void take_scale(const uint8_t s[12], uint32_t j, struct quant_part *out)
{
	if (j < 4) {
		out->scale[0] = s[j] & 63;
		out->min = s[j + 4] & 63;
	} else {
		out->scale[0] = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
		out->min = s[j + 4] >> 4 | s[j] >> 6 << 4;
	}
	out->scale[1] = out->scale[0];
}

static void q4_k_part(const uint8_t *src, uint32_t j, struct quant_part *out)
{
	struct quant_q4_k block;

	memcpy(&block, src, sizeof block);
	out->d = quant_f16_to_f32(block.d);
	out->dmin = quant_f16_to_f32(block.dmin);
	take_scale(block.scales, j, out);
	for (int i = 0; i < QUANT_BLOCK; i++)
		out->q[i] = (int8_t)(block.q[j / 2 * 32 + i] >> j % 2 * 4 & 15);
}

static void q5_k_part(const uint8_t *src, uint32_t j, struct quant_part *out)
{
	struct quant_q5_k block;

	memcpy(&block, src, sizeof block);
	out->d = quant_f16_to_f32(block.d);
	out->dmin = quant_f16_to_f32(block.dmin);
	take_scale(block.scales, j, out);
	for (int i = 0; i < QUANT_BLOCK; i++)
		out->q[i] = (int8_t)((block.q[j / 2 * 32 + i] >> j % 2 * 4 & 15) |
				     (block.high[i] >> j & 1) << 4);
}

static void q6_k_part(const uint8_t *src, uint32_t j, struct quant_part *out)
{
	struct quant_q6_k block;

	memcpy(&block, src, sizeof block);
	const uint8_t *low = block.low + j / 4 * 64 + j % 2 * 32, *high = block.high + j / 4 * 32;
	out->d = quant_f16_to_f32(block.d);
	out->dmin = 0;
	out->scale[0] = block.scale[2 * j];
	out->scale[1] = block.scale[2 * j + 1];
	out->min = 0;
	for (int i = 0; i < QUANT_BLOCK; i++)
		out->q[i] =
			(int8_t)((low[i] >> j % 4 / 2 * 4 & 15) | (high[i] >> j % 4 * 2 & 3) << 4) -
			32;
}

void quant_part(enum tensor_type type, const void *block, uint32_t j, struct quant_part *out)
{
	switch (type) {
	case TENSOR_Q8_0:
		q8_0_part(block, out);
		return;
	case TENSOR_Q4_0:
		q45_part(block, false, false, out);
		return;
	case TENSOR_Q4_1:
		q45_part(block, false, true, out);
		return;
	case TENSOR_Q5_0:
		q45_part(block, true, false, out);
		return;
	case TENSOR_Q5_1:
		q45_part(block, true, true, out);
		return;
	case TENSOR_Q4_K:
		q4_k_part(block, j, out);
		return;
	case TENSOR_Q5_K:
		q5_k_part(block, j, out);
		return;
	case TENSOR_Q6_K:
		q6_k_part(block, j, out);
		return;
	case TENSOR_F32:
	case TENSOR_F16:
	case TENSOR_BF16:
		break;
	}
	assert(0 && "a type that is not quantised");
}

static void parts_to_f32(enum tensor_type type, const uint8_t *src, size_t n, float *dst)
{
	const struct tensor_type_info *info = tensor_type_info(type);
	uint32_t n_parts = info->block_values / QUANT_BLOCK;
	struct quant_part part;

	for (size_t b = 0; b < n / QUANT_BLOCK; b++, dst += QUANT_BLOCK) {
		quant_part(type, src + b / n_parts * info->block_bytes, (uint32_t)(b % n_parts),
			&part);
		float least = part.dmin * (float)part.min;
		for (int i = 0; i < QUANT_BLOCK; i++) {
			float value = part.d * (float)part.scale[i / 16] * (float)part.q[i];
			dst[i] = part.min ? value - least : value; /* a zero keeps its sign */
		}
	}
}

void quant_to_f32(enum tensor_type type, const void *src, size_t n, float *dst)
{
	const uint8_t *bytes = src;
	uint16_t h;

	switch (type) {
	case TENSOR_F32:
		memcpy(dst, src, n * sizeof *dst);
		return;
	case TENSOR_F16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&h, bytes + 2 * i, sizeof h);
			dst[i] = quant_f16_to_f32(h);
		}
		return;
	case TENSOR_BF16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&h, bytes + 2 * i, sizeof h);
			dst[i] = quant_bf16_to_f32(h);
		}
		return;
	case TENSOR_Q8_0:
	case TENSOR_Q4_0:
	case TENSOR_Q4_1:
	case TENSOR_Q5_0:
	case TENSOR_Q5_1:
	case TENSOR_Q4_K:
	case TENSOR_Q5_K:
	case TENSOR_Q6_K:
		parts_to_f32(type, bytes, n, dst);
		return;
	}
	assert(0 && "a type without a row in tensor_type_info");
}
