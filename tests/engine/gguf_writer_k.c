/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values to blocks of the K types, the plain way: the scale and minimum of a part span its values,
 * as 6-bit (of Q6_K, 8-bit) numbers of the largest of the block. Quantisers that make files for use
 * search for better ones.
 */
#include <math.h>
#include <string.h>

#include "engine/quant.h"
#include "tests/engine/gguf_writer.h"

static unsigned whole(float f, int most)
{
	long n = lrintf(f);

	return (unsigned)(n < 0 ? 0 : n > most ? most : n);
}

/* *half: f rounded; returns 1 / that, or 0. */
static float inverse_of(float f, uint16_t *half)
{
	*half = gguf_writer_f16(f);
	f = quant_f16_to_f32(*half);
	return f > 0 ? 1 / f : 0;
}

/* q[256] in 0 .. most; d, dmin and the 12 bytes of scales of Q4_K and Q5_K. */
static void quantise_parts(
	const float *x, int most, uint16_t *d, uint16_t *dmin, uint8_t *scales, unsigned *q)
{
	float range[8], below[8], top_range = 0, top_below = 0;

	memset(scales, 0, 12);
	for (int j = 0; j < 8; j++) {
		float lo = 0, hi = 0; /* minima are subtracted, and not negative */
		for (int i = 0; i < 32; i++) {
			lo = fminf(lo, x[32 * j + i]);
			hi = fmaxf(hi, x[32 * j + i]);
		}
		range[j] = (hi - lo) / (float)most;
		below[j] = -lo;
		top_range = fmaxf(top_range, range[j]);
		top_below = fmaxf(top_below, below[j]);
	}
	float by = inverse_of(top_range / 63, d), by_min = inverse_of(top_below / 63, dmin);
	for (int j = 0; j < 8; j++) {
		unsigned s = whole(range[j] * by, 63), m = whole(below[j] * by_min, 63);
		float scale = quant_f16_to_f32(*d) * (float)s;
		float min = quant_f16_to_f32(*dmin) * (float)m;
		if (j < 4) {
			scales[j] |= (uint8_t)s;
			scales[j + 4] |= (uint8_t)m;
		} else {
			scales[j + 4] = (uint8_t)((s & 15) | (m & 15) << 4);
			scales[j - 4] |= (uint8_t)(s >> 4 << 6);
			scales[j] |= (uint8_t)(m >> 4 << 6);
		}
		for (int i = 32 * j; i < 32 * j + 32; i++)
			q[i] = whole(scale > 0 ? (x[i] + min) / scale : 0, most);
	}
}

static void quantise_q4_k(const float *x, unsigned char *out)
{
	struct quant_q4_k b;
	unsigned q[QUANT_K];

	quantise_parts(x, 15, &b.d, &b.dmin, b.scales, q);
	for (int i = 0; i < 128; i++) {
		int at = i / 32 * 64 + i % 32;
		b.q[i] = (uint8_t)(q[at] | q[at + 32] << 4);
	}
	memcpy(out, &b, sizeof b);
}

static void quantise_q5_k(const float *x, unsigned char *out)
{
	struct quant_q5_k b = {0};
	unsigned q[QUANT_K];

	quantise_parts(x, 31, &b.d, &b.dmin, b.scales, q);
	for (int i = 0; i < 128; i++) {
		int at = i / 32 * 64 + i % 32;
		b.q[i] = (uint8_t)((q[at] & 15) | (q[at + 32] & 15) << 4);
	}
	for (int i = 0; i < QUANT_K; i++)
		b.high[i % 32] |= (uint8_t)(q[i] >> 4 << i / 32);
	memcpy(out, &b, sizeof b);
}

static void quantise_q6_k(const float *x, unsigned char *out)
{
	struct quant_q6_k b = {0};
	unsigned q[QUANT_K];
	float most[16] = {0}, top = 0;

	for (int i = 0; i < QUANT_K; i++) {
		most[i / 16] = fmaxf(most[i / 16], fabsf(x[i]));
		top = fmaxf(top, most[i / 16]);
	}
	float by = inverse_of(top / 31 / 127, &b.d);
	for (int i = 0; i < QUANT_K; i++) {
		int8_t scale = (int8_t)whole(most[i / 16] / 31 * by, 127);
		float step = quant_f16_to_f32(b.d) * scale;
		if (i / 16 % 3 == 1) { /* quantisers have the sign of the largest here */
			scale = (int8_t)-scale;
			step = -step;
		}
		b.scale[i / 16] = scale;
		q[i] = whole((step != 0 ? x[i] / step : 0) + 32, 63);
	}
	for (int i = 0; i < QUANT_K; i++) {
		int at = i % 128;
		b.low[i / 128 * 64 + at % 64] |= (uint8_t)((q[i] & 15) << at / 64 * 4);
		b.high[i / 128 * 32 + at % 32] |= (uint8_t)(q[i] >> 4 << at / 32 * 2);
	}
	memcpy(out, &b, sizeof b);
}

void gguf_writer_quantise_k(enum tensor_type type, const float *x, unsigned char *out)
{
	if (type == TENSOR_Q4_K)
		quantise_q4_k(x, out);
	else if (type == TENSOR_Q5_K)
		quantise_q5_k(x, out);
	else
		quantise_q6_k(x, out);
}
