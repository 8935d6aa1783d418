/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_SIMD_PRODUCTS_H
#define ENGINE_CPU_SIMD_PRODUCTS_H

/*
 * A part of cpu_simd.h, which includes it where it belongs: products of weights of every type
 * but for the wide form.
 */

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

#endif
