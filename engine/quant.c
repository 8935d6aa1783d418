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

static void q8_0_to_f32(const uint8_t *src, size_t n, float *dst)
{
	for (size_t b = 0; b < n / QUANT_BLOCK; b++, src += sizeof(struct quant_q8_0)) {
		struct quant_q8_0 block;
		memcpy(&block, src, sizeof block);
		float d = quant_f16_to_f32(block.d);
		for (int i = 0; i < QUANT_BLOCK; i++)
			dst[b * QUANT_BLOCK + i] = d * (float)block.q[i];
	}
}

static void q4_0_to_f32(const uint8_t *src, size_t n, float *dst)
{
	for (size_t b = 0; b < n / QUANT_BLOCK; b++, src += sizeof(struct quant_q4_0)) {
		struct quant_q4_0 block;
		memcpy(&block, src, sizeof block);
		float d = quant_f16_to_f32(block.d);
		for (int i = 0; i < QUANT_BLOCK / 2; i++) {
			dst[b * QUANT_BLOCK + i] = d * (float)((block.q[i] & 15) - 8);
			dst[b * QUANT_BLOCK + i + 16] = d * (float)((block.q[i] >> 4) - 8);
		}
	}
}

/* The j-th scale and minimum of 8, which lie as 6-bit numbers in 12 bytes: those of the first four
 * in bytes 0 .. 3 and 4 .. 7; of the others the low halves in bytes 8 .. 11, the upper two bits
 * above the first four. */
static void take_scale(const uint8_t s[12], uint32_t j, struct quant_k *out)
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

static void q4_k_part(const uint8_t *src, uint32_t j, struct quant_k *out)
{
	struct quant_q4_k block;

	memcpy(&block, src, sizeof block);
	out->d = quant_f16_to_f32(block.d);
	out->dmin = quant_f16_to_f32(block.dmin);
	take_scale(block.scales, j, out);
	for (int i = 0; i < QUANT_BLOCK; i++)
		out->q[i] = (int8_t)(block.q[j / 2 * 32 + i] >> j % 2 * 4 & 15);
}

static void q5_k_part(const uint8_t *src, uint32_t j, struct quant_k *out)
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

static void q6_k_part(const uint8_t *src, uint32_t j, struct quant_k *out)
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

void quant_k_part(enum tensor_type type, const void *block, uint32_t j, struct quant_k *out)
{
	if (type == TENSOR_Q4_K)
		q4_k_part(block, j, out);
	else if (type == TENSOR_Q5_K)
		q5_k_part(block, j, out);
	else
		q6_k_part(block, j, out);
}

static void k_to_f32(enum tensor_type type, const uint8_t *src, size_t n, float *dst)
{
	struct quant_k part;

	for (size_t b = 0; b < n / QUANT_BLOCK; b++) {
		quant_k_part(type, src + b / 8 * quant_bytes(type, QUANT_K), b % 8, &part);
		for (int i = 0; i < QUANT_BLOCK; i++)
			dst[b * QUANT_BLOCK + i] =
				part.d * (float)part.scale[i / 16] * (float)part.q[i] -
				part.dmin * (float)part.min;
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
		q8_0_to_f32(bytes, n, dst);
		return;
	case TENSOR_Q4_0:
		q4_0_to_f32(bytes, n, dst);
		return;
	case TENSOR_Q4_K:
	case TENSOR_Q5_K:
	case TENSOR_Q6_K:
		k_to_f32(type, bytes, n, dst);
		return;
	}
	assert(0 && "a type without a row in tensor_type_info");
}
