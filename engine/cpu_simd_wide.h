/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_SIMD_WIDE_H
#define ENGINE_CPU_SIMD_WIDE_H

/*
 * A part of cpu_simd.h, which includes it where it belongs: products in the wide form of ops.h, the
 * arithmetic of encoders. A tile is two groups of 16 weight rows times up to 12 activation rows,
 * its sums in registers; one activation that was loaded is used for both groups. Weights stream
 * through once a tile, in the order they lie in: asking ahead for them made it slower.
 */

/* n <= OPS_WIDE_BLOCK values of one row; returns the scale. */
INLINE float widen_block(const float *x, uint32_t n, int16_t *q)
{
	v16 v[OPS_WIDE_BLOCK / 16], most = v16_set(OPS_WIDE_MAX), least = v16_set(-OPS_WIDE_MAX);
	v16 largest = v16_set(0);

#pragma GCC unroll 4
	for (uint32_t i = 0; i < OPS_WIDE_BLOCK / 16; i++) {
		v[i] = 16 * i < n ? load_some(x + 16 * i, n - 16 * i) : v16_set(0);
		largest = v16_max(v16_abs(v[i]), largest);
	}
	float top = v16_largest(largest), d = top / OPS_WIDE_MAX;
	v16 by = v16_set(d > 0 ? OPS_WIDE_MAX / top : 0);
#pragma GCC unroll 4
	for (uint32_t i = 0; i < OPS_WIDE_BLOCK / 16; i++) {
		v16 y = v16_min(v16_max(v16_mul(v[i], by), least), most);
		v16_to_i16(q + 16 * i, v16_round(y));
	}
	return d;
}

static void widen(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row, uint8_t *out)
{
	uint32_t t = ops_wide_tile_rows(row, n_rows);
	uint8_t *block = out + row * ops_wide_row_bytes(cols);

	for (uint32_t c = 0; c < cols; c += OPS_WIDE_BLOCK) {
		uint32_t n = cols - c < OPS_WIDE_BLOCK ? cols - c : OPS_WIDE_BLOCK;
		int16_t *q = (void *)block;
		float *d = (void *)(q + (size_t)t * OPS_WIDE_BLOCK);
		for (uint32_t i = 0; i < t; i++) {
			d[i] = widen_block(x + (size_t)(row + i) * cols + c, n, q);
			q += OPS_WIDE_BLOCK;
		}
		block = (void *)(d + t);
	}
}

/* One block of ng groups (two, so that an activation that was loaded is used twice) times one block
 * of rows first .. first + n - 1 of a tile of t. */
INLINE void wide_block(const uint8_t *w, size_t group_bytes, const uint32_t ng, const uint8_t *a,
	const uint32_t t, const uint32_t first, const uint32_t n, float (*acc)[2][16])
{
	const float *d = (const void *)(a + (size_t)t * 2 * OPS_WIDE_BLOCK);
	wsum s[WIDE_ROWS][2];

	a += (size_t)first * 2 * OPS_WIDE_BLOCK;
#pragma GCC unroll 12
	for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
		for (uint32_t g = 0; g < ng; g++)
			s[i][g] = wsum_zero();
#pragma GCC unroll 4
	for (uint32_t k = 0; k < OPS_WIDE_BLOCK / 2; k++) {
#pragma GCC unroll 12
		for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
			for (uint32_t g = 0; g < ng; g++)
				s[i][g] = wsum_add(s[i][g], w + g * group_bytes + 64 * k,
					a + (size_t)i * 2 * OPS_WIDE_BLOCK + 4 * k);
	}
#pragma GCC unroll 2
	for (uint32_t g = 0; g < ng; g++) {
		v16 dw = v16_load(
			(const float *)(const void *)(w + g * group_bytes + 32 * OPS_WIDE_BLOCK));
#pragma GCC unroll 12
		for (uint32_t i = 0; i < n; i++) {
			float *at = acc[first + i][g];
			v16 by = v16_mul(dw, v16_set(d[first + i]));
			v16_store(at, v16_fma(wsum_float(s[i][g]), by, v16_load(at)));
		}
	}
}

/* ng groups from g on times a tile of t rows beginning at `row`. */
INLINE void wide_tile(
	const struct ops_product *p, uint32_t g, const uint32_t ng, uint32_t row, const uint32_t t)
{
	uint32_t cols = p->w->cols;
	size_t group_bytes = ops_pack_wide_group_bytes(cols);
	const uint8_t *w = p->w->packed + g * group_bytes;
	const uint8_t *a = p->x->wide + row * ops_wide_row_bytes(cols);
	_Alignas(64) float acc[OPS_WIDE_TILE_ROWS][2][16];

	memset(acc, 0, t * sizeof acc[0]);
	for (uint32_t c = 0; c < cols; c += OPS_WIDE_BLOCK) {
#pragma GCC unroll 6
		for (uint32_t i = 0; i < t; i += WIDE_ROWS)
			wide_block(w, group_bytes, ng, a, t, i,
				t - i < WIDE_ROWS ? t - i : WIDE_ROWS, acc);
		w += OPS_WIDE_BLOCK_BYTES;
		a += (size_t)t * (2 * OPS_WIDE_BLOCK + 4);
	}
	for (uint32_t i = 0; i < t; i++)
		for (uint32_t k = 0; k < ng; k++)
			put(p, row + i, 16 * (g + k), p->w->rows - 16 * (g + k),
				v16_load(acc[i][k]));
}

#define WIDE_TILE(t)                                                                               \
	static void wide_tile_##t(                                                                 \
		const struct ops_product *p, uint32_t g, uint32_t ng, uint32_t row)                \
	{                                                                                          \
		if (ng == 2)                                                                       \
			wide_tile(p, g, 2, row, t);                                                \
		else                                                                               \
			wide_tile(p, g, 1, row, t);                                                \
	}

WIDE_TILE(1)
WIDE_TILE(2)
WIDE_TILE(3)
WIDE_TILE(4)
WIDE_TILE(5)
WIDE_TILE(6)
WIDE_TILE(7)
WIDE_TILE(8)
WIDE_TILE(9)
WIDE_TILE(10)
WIDE_TILE(11)
WIDE_TILE(12)

static void product_wide(const struct ops_product *p, uint32_t first, uint32_t last)
{
	static void (*const tiles[])(const struct ops_product *, uint32_t, uint32_t, uint32_t) = {
		NULL, wide_tile_1, wide_tile_2, wide_tile_3, wide_tile_4, wide_tile_5, wide_tile_6,
		wide_tile_7, wide_tile_8, wide_tile_9, wide_tile_10, wide_tile_11, wide_tile_12};
	uint32_t n = p->x->n_rows;
	uint32_t most = (uint32_t)(ACTS_CHUNK_BYTES / ops_wide_row_bytes(p->w->cols));

	most = most < OPS_WIDE_TILE_ROWS ? OPS_WIDE_TILE_ROWS : most;
	for (uint32_t start = 0, stop; start < n; start = stop) {
		for (stop = start; stop < n && stop - start < most;)
			stop += ops_wide_tile_rows(stop, n);
		for (uint32_t g = first, ng; g < last; g += ng) {
			ng = last - g < 2 ? 1 : 2;
			for (uint32_t row = start, t; row < stop; row += t) {
				t = ops_wide_tile_rows(row, n);
				tiles[t](p, g, ng, row);
			}
		}
	}
}

#endif
