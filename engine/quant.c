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
	}
	assert(0 && "a type without a row in tensor_type_info");
}
