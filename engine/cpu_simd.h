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

/* ---- products ---- */

/* Puts 16 outputs, of which n exist, where they belong. */
INLINE void put(const struct ops_product *p, uint32_t row, uint32_t r, uint32_t n, v16 y)
{
	float *out = p->out + row * p->ld + r;

	if (p->w->bias)
		y = v16_add(y, load_some(p->w->bias + r, n));
	if (p->add)
		y = v16_add(load_some(out, n), y);
	store_some(out, y, n);
}

INLINE struct wblock wblock_of(const uint8_t *pieces, const enum tensor_type type)
{
	switch (cpu_paths_part_bytes(type)) {
	case 512:
		return wblock_q8(pieces);
	case 384:
		return wblock_q6(pieces);
	case 320:
		return wblock_q5(pieces);
	}
	return wblock_q4(pieces);
}

/* What the dot product of row i of a tile begins with: it undoes what unsigned weights are above
 * their values. */
INLINE int32_t dot_init(
	const uint8_t *tail, const uint32_t t, uint32_t i, const enum tensor_type type)
{
	int32_t init;

	if (ops_has_min(type))
		return 0;
	memcpy(&init, tail + 4 * (type == TENSOR_Q8_0 ? 2 * t + i : t + i), 4);
	return type == TENSOR_Q5_0 ? 2 * init : init;
}

/* A group of 16 packed rows times a tile of t activation rows beginning at `row`. */
INLINE void q8_tile(const struct ops_product *p, uint32_t g, uint32_t row, const uint32_t t,
	const enum tensor_type type)
{
	const struct ops_matrix *w = p->w;
	const uint32_t scale_bytes = ops_has_min(type) ? 64 : 32;
	uint32_t n_blocks = w->cols / QUANT_BLOCK, r = g * 16, n = w->rows - r;
	const uint8_t *scales = w->packed + g * ops_pack_group_bytes(type, w->cols);
	const uint8_t *pieces = scales + (n_blocks * scale_bytes + 63) / 64 * 64;
	const uint8_t *a = p->x->q8 + row * ops_q8_row_bytes(w->cols);
	v16 acc[16], m;

#pragma GCC unroll 16
	for (uint32_t i = 0; i < t; i++)
		acc[i] = v16_set(0);
	for (uint32_t b = 0; b < n_blocks; b++) {
		const uint8_t *tail = a + t * QUANT_BLOCK;
		struct wblock block = wblock_of(pieces, type);
		v16 dw = v16_from_f16(scales);
		if (ops_has_min(type))
			m = v16_from_f16(scales + 32);
#pragma GCC unroll 16
		for (uint32_t i = 0; i < t; i++) {
			float da;
			int32_t sum8;
			memcpy(&da, tail + 4 * i, 4);
			memcpy(&sum8, tail + 4 * (t + i), 4);
			v16 dot =
				wblock_dot(&block, a + i * QUANT_BLOCK, dot_init(tail, t, i, type));
			acc[i] = v16_fma(dot, v16_mul(dw, v16_set(da)), acc[i]);
			if (ops_has_min(type))
				acc[i] = v16_fma(m, v16_set((float)sum8 * -0.125f * da), acc[i]);
		}
		for (uint32_t k = 0; k < cpu_paths_part_bytes(type); k += 64)
			__builtin_prefetch(pieces + PREFETCH_BYTES + k);
		scales += scale_bytes;
		pieces += cpu_paths_part_bytes(type);
		a += t * OPS_Q8_BLOCK_BYTES;
	}
#pragma GCC unroll 16
	for (uint32_t i = 0; i < t; i++)
		put(p, row + i, r, n, acc[i]);
}

/* A function for each number of rows of a tile. */
#define TILE(name, make, t, type)                                                                  \
	static void name##_##t(const struct ops_product *p, uint32_t g, uint32_t row)              \
	{                                                                                          \
		make(p, g, row, t, type);                                                          \
	}
#define TILES_OF(name, make, type)                                                                 \
	TILE(name, make, 1, type)                                                                  \
	TILE(name, make, 2, type)                                                                  \
	TILE(name, make, 4, type)                                                                  \
	TILE(name, make, 8, type)                                                                  \
	TILE(name, make, 16, type)

TILES_OF(q8_0_tile, q8_tile, TENSOR_Q8_0)
TILES_OF(q4_0_tile, q8_tile, TENSOR_Q4_0)
TILES_OF(q4_1_tile, q8_tile, TENSOR_Q4_1)
TILES_OF(q5_0_tile, q8_tile, TENSOR_Q5_0)
TILES_OF(q5_1_tile, q8_tile, TENSOR_Q5_1)

#include "engine/cpu_simd_k.h"

typedef void tile_fn(const struct ops_product *p, uint32_t g, uint32_t row);

/* tiles: by their number of rows. */
static void product_quantised(
	const struct ops_product *p, uint32_t first, uint32_t last, tile_fn *const tiles[17])
{
	uint32_t n = p->x->n_rows;
	uint32_t chunk = (uint32_t)(ACTS_CHUNK_BYTES / ops_q8_row_bytes(p->w->cols)) / 16 * 16;

	chunk = chunk < 16 ? 16 : chunk;
	for (uint32_t start = 0; start < n; start += chunk) {
		uint32_t end = n - start > chunk ? start + chunk : n;
		for (uint32_t g = first; g < last; g++) {
			for (uint32_t row = start, t; row < end; row += t) {
				t = ops_tile_rows(row, n);
				tiles[t](p, g, row);
			}
		}
	}
}

INLINE v16 weights_at(const uint8_t *row, uint32_t c, const enum tensor_type type)
{
	if (type == TENSOR_F32)
		return v16_load((const float *)(const void *)row + c);
	return type == TENSOR_F16 ? v16_from_f16(row + 2 * c) : v16_from_bf16(row + 2 * c);
}

/* The last n < 16 weights of a row, from c on. */
INLINE v16 weights_end(const uint8_t *row, uint32_t c, uint32_t n, const enum tensor_type type)
{
	float some[16] = {0};

	quant_to_f32(type, row + (size_t)c * (type == TENSOR_F32 ? 4 : 2), n, some);
	return v16_load(some);
}

/* nr weight rows from r on times t activation rows from `row` on. */
INLINE void float_tile(const struct ops_product *p, uint32_t r, uint32_t row, const uint32_t nr,
	const uint32_t t, const enum tensor_type type)
{
	uint32_t cols = p->w->cols, c = 0;
	size_t bytes = (size_t)cols * (type == TENSOR_F32 ? 4 : 2);
	const uint8_t *w = (const uint8_t *)p->w->data + r * bytes;
	const float *x = p->x->f32 + (size_t)row * cols;
	v16 acc[FLOAT_ROWS][FLOAT_COLS], xs[FLOAT_COLS];

#pragma GCC unroll 4
	for (uint32_t i = 0; i < nr; i++)
#pragma GCC unroll 4
		for (uint32_t k = 0; k < t; k++)
			acc[i][k] = v16_set(0);
	for (; c + 16 <= cols; c += 16) {
#pragma GCC unroll 4
		for (uint32_t k = 0; k < t; k++)
			xs[k] = v16_load(x + (size_t)k * cols + c);
#pragma GCC unroll 4
		for (uint32_t i = 0; i < nr; i++) {
			v16 v = weights_at(w + i * bytes, c, type);
			__builtin_prefetch(w + (nr + i) * bytes + c * (type == TENSOR_F32 ? 4 : 2));
#pragma GCC unroll 4
			for (uint32_t k = 0; k < t; k++)
				acc[i][k] = v16_fma(v, xs[k], acc[i][k]);
		}
	}
	for (uint32_t i = 0; i < nr; i++) {
		v16 v = c < cols ? weights_end(w + i * bytes, c, cols - c, type) : v16_set(0);
		for (uint32_t k = 0; k < t; k++) {
			v16 lanes = acc[i][k];
			if (c < cols) {
				v16 y = v16_fma(
					v, v16_load_n(x + (size_t)k * cols + c, cols - c), lanes);
				lanes = v16_keep(cols - c, y, lanes);
			}
			float *out = p->out + (row + k) * p->ld + r + i, y = v16_sum(lanes);
			if (p->w->bias)
				y += p->w->bias[r + i];
			*out = p->add ? *out + y : y;
		}
	}
}

/* Rows first .. end - 1 of the matrix with t activation rows. */
INLINE void float_rows(const struct ops_product *p, uint32_t first, uint32_t end, uint32_t row,
	const uint32_t t, const enum tensor_type type)
{
	uint32_t r = first;

	for (; r + FLOAT_ROWS <= end; r += FLOAT_ROWS)
		float_tile(p, r, row, FLOAT_ROWS, t, type);
	for (; r < end; r++)
		float_tile(p, r, row, 1, t, type);
}

INLINE void product_float(
	const struct ops_product *p, uint32_t first, uint32_t last, const enum tensor_type type)
{
	uint32_t n = p->x->n_rows, row;
	uint32_t chunk = ACTS_CHUNK_BYTES / (4 * p->w->cols) / FLOAT_COLS * FLOAT_COLS;

	chunk = chunk < FLOAT_COLS ? FLOAT_COLS : chunk;
	for (uint32_t start = 0; start < n; start += chunk) {
		uint32_t stop = n - start > chunk ? start + chunk : n;
		for (uint32_t g = first; g < last; g++) {
			uint32_t r = g * 16, end = p->w->rows - r < 16 ? p->w->rows : r + 16;
			for (row = start; row + FLOAT_COLS <= stop; row += FLOAT_COLS)
				float_rows(p, r, end, row, FLOAT_COLS, type);
			for (; row < stop; row++)
				float_rows(p, r, end, row, 1, type);
		}
	}
}

#define TILES(name)                                                                                \
	((tile_fn *const[17]){                                                                     \
		[1] = name##_1, [2] = name##_2, [4] = name##_4, [8] = name##_8, [16] = name##_16})

static void product_f32(const struct ops_product *p, uint32_t first, uint32_t last)
{
	product_float(p, first, last, TENSOR_F32);
}

static void product_f16(const struct ops_product *p, uint32_t first, uint32_t last)
{
	product_float(p, first, last, TENSOR_F16);
}

static void product_bf16(const struct ops_product *p, uint32_t first, uint32_t last)
{
	product_float(p, first, last, TENSOR_BF16);
}

static void product(const struct ops_product *p, uint32_t first, uint32_t last)
{
	switch (p->w->type) {
	case TENSOR_F32:
		product_f32(p, first, last);
		return;
	case TENSOR_F16:
		product_f16(p, first, last);
		return;
	case TENSOR_BF16:
		product_bf16(p, first, last);
		return;
	case TENSOR_Q8_0:
		product_quantised(p, first, last, TILES(q8_0_tile));
		return;
	case TENSOR_Q4_0:
		product_quantised(p, first, last, TILES(q4_0_tile));
		return;
	case TENSOR_Q4_1:
		product_quantised(p, first, last, TILES(q4_1_tile));
		return;
	case TENSOR_Q5_0:
		product_quantised(p, first, last, TILES(q5_0_tile));
		return;
	case TENSOR_Q5_1:
		product_quantised(p, first, last, TILES(q5_1_tile));
		return;
	case TENSOR_Q4_K:
		product_quantised(p, first, last, TILES(q4_k_tile));
		return;
	case TENSOR_Q5_K:
		product_quantised(p, first, last, TILES(q5_k_tile));
		return;
	case TENSOR_Q6_K:
		product_quantised(p, first, last, TILES(q6_k_tile));
		return;
	}
}

#include "engine/cpu_simd_wide.h"

/* ---- attention ---- */

static void kv_write(const struct ops_kv *kv, uint32_t block, uint32_t layer, uint32_t row,
	const float *k, const float *v)
{
	uint32_t dim = kv->head_dim;
	uint16_t half[2][OPS_MAX_HEAD_DIM + 16];

	for (uint32_t h = 0; h < kv->n_kv_heads; h++, k += dim, v += dim) {
		float *full = ops_kv_at(kv, block, layer, h);
		uint16_t *at = (void *)full;
		if (!kv->f16) {
			for (uint32_t d = 0; d < dim; d++)
				full[d * 16 + row] = k[d];
			memcpy(full + (size_t)(16 + row) * dim, v, dim * sizeof *v);
			continue;
		}
		for (uint32_t d = 0; d < dim; d += 16) {
			v16_to_f16(half[0] + d, load_some(k + d, dim - d));
			v16_to_f16(half[1] + d, load_some(v + d, dim - d));
		}
		for (uint32_t d = 0; d < dim; d++)
			at[d * 16 + row] = half[0][d];
		memcpy(at + (size_t)(16 + row) * dim, half[1], dim * sizeof half[1][0]);
	}
}

/* A query vector on its way through the blocks. */
struct query {
	const float *q;
	float *out;
	uint32_t seen; /* positions */
	float m, l;    /* largest score, sum of weights so far */
};

/* Scores of nq query vectors at 16 positions. */
INLINE void scores(const struct query *q, const float *k, uint32_t dim, const uint32_t nq, v16 *out)
{
	v16 part[4][4];
	uint32_t d = 0;

#pragma GCC unroll 4
	for (uint32_t i = 0; i < nq; i++)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < 4; j++)
			part[i][j] = v16_set(0);
	for (; d + 4 <= dim; d += 4)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < 4; j++) {
			v16 kd = v16_load(k + (d + j) * 16);
#pragma GCC unroll 4
			for (uint32_t i = 0; i < nq; i++)
				part[i][j] = v16_fma(v16_set(q[i].q[d + j]), kd, part[i][j]);
		}
	if (d < dim) /* heads are even: two are left */
#pragma GCC unroll 2
		for (uint32_t j = 0; j < 2; j++)
#pragma GCC unroll 4
			for (uint32_t i = 0; i < nq; i++)
				part[i][j] = v16_fma(v16_set(q[i].q[d + j]),
					v16_load(k + (d + j) * 16), part[i][j]);
#pragma GCC unroll 4
	for (uint32_t i = 0; i < nq; i++)
		out[i] = v16_add(v16_add(part[i][0], part[i][1]), v16_add(part[i][2], part[i][3]));
}

/* out = out * shrink + p . v over n positions, dimensions d .. d + 16 * nv - 1, of nq query
 * vectors. */
INLINE void weigh(const struct query *q, float p[][16], const float *shrink, const float *v,
	uint32_t n, uint32_t dim, uint32_t d, const uint32_t nq, const uint32_t nv)
{
	v16 o[2][4];

#pragma GCC unroll 2
	for (uint32_t i = 0; i < nq; i++)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < nv; j++)
			o[i][j] = v16_mul(v16_load(q[i].out + d + 16 * j), v16_set(shrink[i]));
	for (uint32_t t = 0; t < n; t++)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < nv; j++) {
			v16 vt = v16_load(v + (size_t)t * dim + d + 16 * j);
#pragma GCC unroll 2
			for (uint32_t i = 0; i < nq; i++)
				o[i][j] = v16_fma(v16_set(p[i][t]), vt, o[i][j]);
		}
#pragma GCC unroll 2
	for (uint32_t i = 0; i < nq; i++)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < nv; j++)
			v16_store(q[i].out + d + 16 * j, o[i][j]);
}

/* All dimensions, of nq query vectors that see the same n positions of the block. */
INLINE void weigh_all(const struct query *q, float p[][16], const float *shrink, const float *v,
	uint32_t n, uint32_t dim, const uint32_t nq)
{
	uint32_t d = 0;

	for (; d + 64 <= dim; d += 64)
		weigh(q, p, shrink, v, n, dim, d, nq, 4);
	for (; d + 16 <= dim; d += 16)
		weigh(q, p, shrink, v, n, dim, d, nq, 1);
	for (; d < dim; d++) {
		for (uint32_t i = 0; i < nq; i++) {
			float o = q[i].out[d] * shrink[i];
			for (uint32_t t = 0; t < n; t++)
				o = fmaf(p[i][t], v[(size_t)t * dim + d], o);
			q[i].out[d] = o;
		}
	}
}

/* nq query vectors take in the block of positions from pos on. */
INLINE void attend(struct query *q, uint32_t pos, const float *k, const float *v, uint32_t dim,
	const uint32_t nq)
{
	float p[4][16], shrink[16] = {0};
	uint32_t n[4], i = 0;
	v16 s[4];

	scores(q, k, dim, nq, s);
#pragma GCC unroll 4
	for (uint32_t j = 0; j < nq; j++) {
		n[j] = q[j].seen - pos < 16 ? q[j].seen - pos : 16;
		s[j] = n[j] < 16 ? v16_keep(n[j], s[j], v16_set(-INFINITY)) : s[j];
		float largest = v16_largest(s[j]);
		largest = q[j].m > largest ? q[j].m : largest;
		shrink[j] = q[j].m - largest;
		q[j].m = largest;
		s[j] = v16_sub(s[j], v16_set(largest));
	}
	v16_store(shrink, v16_exp(v16_load(shrink)));
#pragma GCC unroll 4
	for (uint32_t j = 0; j < nq; j++) {
		v16 e = v16_exp(s[j]);
		v16_store(p[j], e);
		q[j].l = fmaf(q[j].l, shrink[j], v16_sum(e));
	}
	while (i < nq) {
		if (i + 1 < nq && n[i] == n[i + 1]) {
			weigh_all(q + i, p + i, shrink + i, v, n[i], dim, 2);
			i += 2;
		} else {
			weigh_all(q + i, p + i, shrink + i, v, n[i], dim, 1);
			i++;
		}
	}
}

static void attend_all(
	struct query *q, uint32_t n, uint32_t pos, const float *k, const float *v, uint32_t dim)
{
	uint32_t i = 0;

	while (i < n && q[i].seen <= pos)
		i++;
	for (; i + 4 <= n; i += 4)
		attend(q + i, pos, k, v, dim, 4);
	if (i + 2 <= n) {
		attend(q + i, pos, k, v, dim, 2);
		i += 2;
	}
	if (i < n)
		attend(q + i, pos, k, v, dim, 1);
}

static void attention(const struct ops_attention *a)
{
	_Alignas(64) float widened[2 * 16 * OPS_MAX_HEAD_DIM];
	struct query q[OPS_MAX_TILE_HEADS];
	uint32_t dim = a->kv->head_dim, n = a->n_tok * a->n_heads;
	uint32_t end = a->n_pos ? a->n_pos : a->first_pos + a->n_tok;

	for (uint32_t i = 0; i < n; i++) {
		size_t at = i / a->n_heads * a->ld + i % a->n_heads * dim;
		q[i] = (struct query){.q = a->q + at,
			.out = a->out + at,
			.seen = a->n_pos ? a->n_pos : a->first_pos + i / a->n_heads + 1,
			.m = -INFINITY};
		memset(q[i].out, 0, dim * sizeof *q[i].out);
	}
	for (uint32_t pos = 0; pos < end; pos += 16) {
		const void *at = ops_kv_at(a->kv, a->blocks[pos / 16], a->layer, a->kv_head);
		const float *k = at;
		if (a->kv->f16) {
			for (uint32_t j = 0; j < 2 * 16 * dim; j += 16)
				v16_store(widened + j, v16_from_f16((const uint8_t *)at + 2 * j));
			k = widened;
		}
		attend_all(q, n, pos, k, k + 16 * dim, dim);
	}
	for (uint32_t i = 0; i < n; i++) {
		float inverse = 1 / q[i].l;
		for (uint32_t d = 0; d < dim; d++)
			q[i].out[d] *= inverse;
	}
}

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
