/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_SIMD_H
#define ENGINE_CPU_SIMD_H

/*
 * The vector paths, written once over sixteen lanes. A path defines what sixteen lanes are, in its
 * .c file, and then includes this:
 *
 *   v16                       16 floats; v16_set(f), v16_load(p), v16_store(p, v); v16_load_n(p,
 * n), v16_store_n(p, v, n): the first n < 16 lanes only, the others 0 and memory untouched v16_add,
 * sub, mul, div, max, min(a, b); max and min give b when one is a NaN v16_fma(a, b, c)          a *
 * b + c rounded once v16_keep(n, a, b)         lanes below n of a, the others of b v16_at_least(a,
 * b, v)     v where a >= b, else 0 v16_abs, v16_round(v)     to the nearest, ties to even
 *   v16_power(n)              2^n for whole n in -126 .. 127
 *   v16_rotate(x, cs)         of pairs (x0, x1), (c, s): fma(x0, c, -(x1 * s)), fma(x1, c, x0 * s)
 *   v16_sum, v16_largest(v)   over the lanes, in halves
 *   v16_from_f16, v16_from_bf16(p), v16_to_f16(p, v)
 *   v16_to_i8(p, v)           whole numbers in -127 .. 127 to bytes; returns their sum
 *   v16_from_u8, v16_from_i8(p)
 *   struct wblock             a packed block of 16 rows: wblock_q8(p), wblock_q4(p), wblock_q5(p),
 *                             wblock_q6(p)
 *   wblock_dot(w, a, init)    init + 16 dot products with 32 activations, as floats
 *   wblock_half(w, h, a, init) the same with 16 of them, from 16 h on, of a q6
 *   v16_to_i16(p, v)          whole numbers that fit to 16-bit ones
 *   wsum                      sixteen 32-bit sums; wsum_zero(), wsum_float(s) as floats
 *   wsum_add(s, w, a)         + the products of 16 pairs of 16-bit numbers at w with the pair at a
 *   WIDE_ROWS                 activation rows of a tile of the wide product that fit the registers
 *   FLOAT_ROWS, FLOAT_COLS    weight rows and activation rows of a tile of the floating-point
 * product that fit the registers SIMD_OPS, SIMD_NAME       the table to define and its name
 *
 * All sums follow ops.h to the letter, so every path gives the bits of cpu_scalar.c.
 */

#include <math.h>
#include <string.h>

#include "engine/cpu_math.h"
#include "engine/cpu_paths.h"
#include "engine/quant.h"

#define INLINE static inline __attribute__((always_inline))
/* Of activations, that should stay in the second-level cache while weights pass by. */
#define ACTS_CHUNK_BYTES (512u << 10)
/* How far ahead packed weights are asked for: the processor's own prefetching falls behind while a
 * batch computes, and a decode step of 4 to 32 rows takes 15 to 25 % longer without. */
#define PREFETCH_BYTES 2048

INLINE v16 v16_exp(v16 x)
{
	v16 y = v16_min(v16_max(x, v16_set(CPU_EXP_MIN)), v16_set(CPU_EXP_MAX));
	v16 n = v16_round(v16_mul(y, v16_set(CPU_EXP_LOG2E)));
	v16 r = v16_fma(n, v16_set(-CPU_EXP_LN2_HI), y);

	r = v16_fma(n, v16_set(-CPU_EXP_LN2_LO), r);
	y = v16_fma(v16_set(CPU_EXP_C7), r, v16_set(CPU_EXP_C6));
	y = v16_fma(y, r, v16_set(CPU_EXP_C5));
	y = v16_fma(y, r, v16_set(CPU_EXP_C4));
	y = v16_fma(y, r, v16_set(CPU_EXP_C3));
	y = v16_fma(y, r, v16_set(CPU_EXP_C2));
	y = v16_fma(y, r, v16_set(1));
	y = v16_fma(y, r, v16_set(1));
	return v16_at_least(x, v16_set(CPU_EXP_MIN), v16_mul(y, v16_power(n)));
}

/* n values from i on, at most 16. */
INLINE v16 load_some(const float *p, uint32_t n)
{
	return n >= 16 ? v16_load(p) : v16_load_n(p, n);
}

INLINE void store_some(float *p, v16 v, uint32_t n)
{
	if (n >= 16)
		v16_store(p, v);
	else
		v16_store_n(p, v, n);
}

static void rms_norm(const float *x, const float *w, float eps, uint32_t n, float *out)
{
	v16 lanes = v16_set(0);

	for (uint32_t i = 0; i < n; i += 16) {
		v16 v = load_some(x + i, n - i);
		lanes = v16_fma(v, v, lanes);
	}
	v16 scale = v16_set(1 / sqrtf(v16_sum(lanes) / (float)n + eps));
	for (uint32_t i = 0; i < n; i += 16) {
		v16 v = v16_mul(load_some(x + i, n - i), scale);
		store_some(out + i, v16_mul(v, load_some(w + i, n - i)), n - i);
	}
}

static void layer_norm(
	const float *x, const float *w, const float *b, float eps, uint32_t n, float *out)
{
	v16 lanes = v16_set(0);

	for (uint32_t i = 0; i < n; i += 16)
		lanes = v16_add(lanes, load_some(x + i, n - i));
	v16 mean = v16_set(v16_sum(lanes) / (float)n);
	lanes = v16_set(0);
	for (uint32_t i = 0; i < n; i += 16) {
		v16 d = v16_sub(load_some(x + i, n - i), mean);
		v16 sum = v16_fma(d, d, lanes);
		lanes = n - i < 16 ? v16_keep(n - i, sum, lanes) : sum;
	}
	v16 scale = v16_set(1 / sqrtf(v16_sum(lanes) / (float)n + eps));
	for (uint32_t i = 0; i < n; i += 16) {
		v16 v = v16_mul(v16_sub(load_some(x + i, n - i), mean), scale);
		v = v16_fma(v, load_some(w + i, n - i), load_some(b + i, n - i));
		store_some(out + i, v, n - i);
	}
}

static void gelu(float *x, uint32_t n)
{
	v16 one = v16_set(1), half = v16_set(-0.5f);

	for (uint32_t i = 0; i < n; i += 16) {
		v16 v = load_some(x + i, n - i), a = v16_abs(v);
		v16 t = v16_div(one, v16_fma(a, v16_set(CPU_ERF_P), one));
		v16 y = v16_fma(t, v16_set(CPU_ERF_A5), v16_set(CPU_ERF_A4));
		y = v16_fma(t, y, v16_set(CPU_ERF_A3));
		y = v16_fma(t, y, v16_set(CPU_ERF_A2));
		y = v16_fma(t, y, v16_set(CPU_ERF_A1));
		y = v16_mul(v16_mul(y, t), v16_exp(v16_mul(v16_mul(v, v), half)));
		v = v16_fma(v16_mul(a, half), y, v16_max(v, v16_set(0)));
		store_some(x + i, v, n - i);
	}
}

static void rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim, const float *cs,
	float scale)
{
	v16 by = v16_set(scale);

	for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
		for (uint32_t i = 0; i < rope_dim; i += 16) {
			uint32_t n = rope_dim - i;
			v16 v = v16_rotate(load_some(x + i, n), load_some(cs + i, n));
			store_some(x + i, v16_mul(v, by), n);
		}
		for (uint32_t i = rope_dim; i < head_dim; i++)
			x[i] *= scale;
	}
}

static void swiglu(float *gate, const float *up, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += 16) {
		v16 g = load_some(gate + i, n - i), u = load_some(up + i, n - i);
		v16 e = v16_exp(v16_sub(v16_set(-0.0f), g));
		v16 y = v16_div(g, v16_add(v16_set(1), e));
		store_some(gate + i, v16_mul(y, u), n - i);
	}
}

INLINE float quantise_block(const float *x, int8_t *q, int32_t *sum, int32_t *half)
{
	v16 lo = v16_load(x), hi = v16_load(x + 16);
	float largest = v16_largest(v16_max(v16_abs(lo), v16_abs(hi)));
	float d = largest / 127, inverse = d > 0 ? 127 / largest : 0;
	v16 by = v16_set(inverse), most = v16_set(127), least = v16_set(-127);

	lo = v16_min(v16_max(v16_mul(lo, by), least), most);
	hi = v16_min(v16_max(v16_mul(hi, by), least), most);
	*half = v16_to_i8(q, v16_round(lo));
	*sum = *half + v16_to_i8(q + 16, v16_round(hi));
	return d;
}

static void quantise(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row, uint32_t first,
	uint32_t last, uint8_t *out)
{
	uint32_t t = ops_tile_rows(row, n_rows);
	uint8_t *tile = out + row * ops_q8_row_bytes(cols);

	for (uint32_t b = first; b < last; b++) {
		uint8_t *block = tile + (size_t)b * t * OPS_Q8_BLOCK_BYTES,
			*tail = block + t * QUANT_BLOCK;
		for (uint32_t i = 0; i < t; i++) {
			int32_t sum, half, sum8, sum128;
			float d = quantise_block(x + (size_t)(row + i) * cols + b * QUANT_BLOCK,
				(int8_t *)block + i * QUANT_BLOCK, &sum, &half);
			sum8 = -8 * sum;
			sum128 = -128 * sum;
			half = -32 * half;
			memcpy(tail + 4 * i, &d, 4);
			memcpy(tail + 4 * (t + i), &sum8, 4);
			memcpy(tail + 4 * (2 * t + i), &sum128, 4);
			memcpy(tail + 4 * (3 * t + i), &half, 4);
		}
	}
}

static void gather(const struct ops_matrix *w, uint32_t row, float *out)
{
	quant_to_f32(w->type, (const uint8_t *)w->data + row * quant_bytes(w->type, w->cols),
		w->cols, out);
}

#include "engine/cpu_simd_products.h"

#include "engine/cpu_simd_wide.h"

#include "engine/cpu_simd_attention.h"

const struct ops SIMD_OPS = {
	.name = SIMD_NAME,
	.packs = true,
	.rms_norm = rms_norm,
	.layer_norm = layer_norm,
	.gelu = gelu,
	.rope = rope,
	.swiglu = swiglu,
	.quantise = quantise,
	.gather = gather,
	.product = product,
	.widen = widen,
	.product_wide = product_wide,
	.kv_write = kv_write,
	.attention = attention,
};

#endif
