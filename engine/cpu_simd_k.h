/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_SIMD_K_H
#define ENGINE_CPU_SIMD_K_H

/*
 * A part of cpu_simd.h, which includes it where it belongs: products of weights of the K types,
 * packed as ops_pack() does it. As for blocks of 32 a tile is a group of 16 weight rows times 1,
 * 2, 4, 8 or 16 activation rows, its sums in registers. Scales and minima are numbers of 6 bits (of
 * Q6_K, 8) times those of the block of 256 columns; both products are exact.
 */

/* Part j of a block, of which d and dmin are known: into the sums of t rows, whose activations are
 * at a. */
INLINE void k_part(const uint8_t *scales, const uint8_t *pieces, v16 d, v16 dmin, const uint8_t *a,
	v16 *acc, const uint32_t t, const enum tensor_type type)
{
	const uint8_t *tail = a + t * QUANT_BLOCK;
	struct wblock block = wblock_of(pieces, type);
	const bool q6 = type == TENSOR_Q6_K;
	v16 scale = q6 ? v16_from_i8(scales) : v16_mul(d, v16_from_u8(scales));
	v16 other = q6 ? v16_from_i8(scales + 16) : v16_mul(dmin, v16_from_u8(scales + 16));

#pragma GCC unroll 16
	for (uint32_t i = 0; i < t; i++) {
		float da;
		int32_t sum8, half;
		memcpy(&da, tail + 4 * i, 4);
		memcpy(&sum8, tail + 4 * (t + i), 4);
		memcpy(&half, tail + 4 * (3 * t + i), 4);
		if (q6) { /* whole numbers below 2^24 all the way: no rounding */
			v16 lo = wblock_half(&block, 0, a + i * QUANT_BLOCK, half);
			v16 hi = wblock_half(&block, 1, a + i * QUANT_BLOCK, 4 * sum8 - half);
			v16 dot = v16_fma(hi, other, v16_mul(lo, scale));
			acc[i] = v16_fma(dot, v16_mul(d, v16_set(da)), acc[i]);
		} else {
			v16 dot = wblock_dot(&block, a + i * QUANT_BLOCK, 0);
			v16 minus = v16_set((float)sum8 * 0.125f * da);
			acc[i] = v16_fma(dot, v16_mul(scale, v16_set(da)), acc[i]);
			acc[i] = v16_fma(other, minus, acc[i]);
		}
	}
}

INLINE void k_tile(const struct ops_product *p, uint32_t g, uint32_t row, const uint32_t t,
	const enum tensor_type type)
{
	const struct ops_matrix *w = p->w;
	uint32_t r = g * 16, n = w->rows - r;
	const uint8_t *at = w->packed + g * ops_pack_group_bytes(type, w->cols);
	const uint8_t *a = p->x->q8 + row * ops_q8_row_bytes(w->cols);
	v16 acc[16];

#pragma GCC unroll 16
	for (uint32_t i = 0; i < t; i++)
		acc[i] = v16_set(0);
	for (uint32_t b = 0; b < w->cols / QUANT_K; b++) {
		const uint8_t *scales = at + 64, *pieces = scales + 8 * 32;
		v16 d = v16_from_f16(at), dmin = v16_from_f16(at + 32);
		for (uint32_t j = 0; j < 8; j++) {
			k_part(scales, pieces, d, dmin, a, acc, t, type);
			for (uint32_t k = 0; k < cpu_paths_part_bytes(type); k += 64)
				__builtin_prefetch(pieces + PREFETCH_BYTES + k);
			scales += 32;
			pieces += cpu_paths_part_bytes(type);
			a += t * OPS_Q8_BLOCK_BYTES;
		}
		at = pieces;
	}
#pragma GCC unroll 16
	for (uint32_t i = 0; i < t; i++)
		put(p, row + i, r, n, acc[i]);
}

TILES_OF(q4_k_tile, k_tile, TENSOR_Q4_K)
TILES_OF(q5_k_tile, k_tile, TENSOR_Q5_K)
TILES_OF(q6_k_tile, k_tile, TENSOR_Q6_K)

#endif
