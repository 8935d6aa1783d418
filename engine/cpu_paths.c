/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which path of the CPU back end this processor can run, and the packed form of quantised weights
 * that the vector paths share. The paths are libraries of their own, each compiled for its
 * instruction set; nothing compiled so is called before the processor was asked.
 */
#include "engine/cpu_paths.h"

#include <string.h>

#include "engine/quant.h"

#if defined(__x86_64__)
#	include <cpuid.h>

static bool has_avx2(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && __builtin_cpu_supports("avx2") &&
	       __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

static bool has_scalar(void)
{
	return true;
}

#ifdef CPU_WATCHED
#	define PATH(name) &cpu_watched_##name
#else
#	define PATH(name) &cpu_##name
#endif

static const struct {
	const char *name;
	const struct ops *ops;
	bool (*runs_here)(void);
} paths[] = {
	{"scalar", PATH(scalar), has_scalar},
#if defined(__x86_64__)
	{"avx2", PATH(avx2), has_avx2},
	{"avx512", PATH(avx512), has_avx512},
#endif
};

#define N_PATHS (sizeof paths / sizeof paths[0])

const struct ops *ops_find(const char *name)
{
	for (size_t i = N_PATHS; i-- > 0;) {
		if ((!name || strcmp(name, paths[i].name) == 0) && paths[i].runs_here())
			return paths[i].ops;
	}
	return NULL;
}

const struct ops *ops_at(size_t i)
{
	for (size_t k = 0; k < N_PATHS; k++) {
		if (paths[k].runs_here() && i-- == 0)
			return paths[k].ops;
	}
	return NULL;
}

/* Of a block, and of all blocks of a group: not of the K types. */
static size_t scale_bytes(enum tensor_type type)
{
	return ops_has_min(type) ? 64 : 32;
}

static size_t scales_bytes(enum tensor_type type, uint32_t cols)
{
	return (cols / QUANT_BLOCK * scale_bytes(type) + 63) / 64 * 64;
}

#define K_PARTS_AT (64 + 8 * 32) /* in a block: behind d, dmin, scales, minima */

size_t ops_pack_group_bytes(enum tensor_type type, uint32_t cols)
{
	if (ops_is_k(type))
		return (size_t)cols / QUANT_K * (K_PARTS_AT + 8 * cpu_paths_part_bytes(type));
	return scales_bytes(type, cols) + cols / QUANT_BLOCK * cpu_paths_part_bytes(type);
}

/* The fifth bits of 32 columns, that of column c at bit c, to four bytes: those of columns i, 4 +
 * i, ... to byte i. */
static uint32_t fifth_bits(uint32_t bits)
{
	uint32_t piece = 0;

	for (uint32_t c = 0; c < QUANT_BLOCK; c++)
		piece |= (bits >> c & 1) << (c % 4 * 8 + c / 4);
	return piece;
}

/* One row of a group: its scales and 4-byte pieces go to every 16th place. */
static void pack_row(enum tensor_type type, const uint8_t *row, uint32_t n_blocks, uint8_t *scales,
	uint8_t *pieces)
{
	uint32_t n_pieces = type == TENSOR_Q8_0 ? 8 : 4, piece;
	uint32_t flip = type == TENSOR_Q8_0 ? 0x80808080u : 0; /* signed bytes become unsigned */
	bool fifth = type == TENSOR_Q5_0 || type == TENSOR_Q5_1, min = ops_has_min(type);

	for (uint32_t b = 0; b < n_blocks; b++, scales += scale_bytes(type)) {
		uint32_t high = 0;
		memcpy(scales, row, 2);
		if (min)
			memcpy(scales + 32, row + 2, 2);
		row += min ? 4 : 2;
		if (fifth) {
			memcpy(&high, row, 4);
			row += 4;
		}
		for (uint32_t k = 0; k < n_pieces; k++, row += 4, pieces += 64) {
			memcpy(&piece, row, 4);
			piece ^= flip;
			memcpy(pieces, &piece, 4);
		}
		if (fifth) {
			piece = fifth_bits(high);
			memcpy(pieces, &piece, 4);
			pieces += 64;
		}
	}
}

/* Part j of a block of row r, to its places in the block of the group. */
static void pack_k_part(
	enum tensor_type type, const struct quant_part *part, uint32_t j, uint32_t r, uint8_t *dst)
{
	uint8_t *scales = dst + 64 + 32 * j,
		*low = dst + K_PARTS_AT + j * cpu_paths_part_bytes(type);
	uint8_t *high = low + 256;
	bool q6 = type == TENSOR_Q6_K;

	scales[r] = (uint8_t)part->scale[0];
	scales[16 + r] = (uint8_t)(q6 ? part->scale[1] : part->min);
	for (uint32_t i = 0; i < 16; i++) {
		unsigned a = (unsigned)(part->q[i] + (q6 ? 32 : 0)),
			 b = (unsigned)(part->q[i + 16] + (q6 ? 32 : 0));
		uint32_t k = i / 4, at = 4 * r + i % 4;
		low[64 * k + at] = (uint8_t)((a & 15) | (b & 15) << 4);
		if (type == TENSOR_Q5_K)
			high[at] |= (uint8_t)((a >> 4) << k | (b >> 4) << (k + 4));
		if (q6) {
			high[at] |= (uint8_t)((a >> 4) << 2 * k);
			high[64 + at] |= (uint8_t)((b >> 4) << 2 * k);
		}
	}
}

static void pack_k_row(
	enum tensor_type type, const uint8_t *row, uint32_t n_blocks, uint32_t r, uint8_t *dst)
{
	size_t bytes = quant_bytes(type, QUANT_K);
	struct quant_part part;

	for (uint32_t b = 0; b < n_blocks; b++, row += bytes) {
		memcpy(dst + 2 * r, row + (type == TENSOR_Q6_K ? bytes - 2 : 0), 2);
		if (type != TENSOR_Q6_K)
			memcpy(dst + 32 + 2 * r, row + 2, 2);
		for (uint32_t j = 0; j < 8; j++) {
			quant_part(type, row, j, &part);
			pack_k_part(type, &part, j, r, dst);
		}
		dst += K_PARTS_AT + 8 * cpu_paths_part_bytes(type);
	}
}

void ops_pack(const struct ops_matrix *w, uint32_t first, uint32_t last, uint8_t *dst)
{
	size_t group_bytes = ops_pack_group_bytes(w->type, w->cols),
	       scales = scales_bytes(w->type, w->cols);
	size_t row_bytes = quant_bytes(w->type, w->cols);

	for (uint32_t g = first; g < last; g++) {
		uint8_t *group = dst + g * group_bytes;
		uint32_t row = g * OPS_GROUP_ROWS, n = w->rows - row < 16 ? w->rows - row : 16;
		bool k = ops_is_k(w->type);
		if (n < 16 || k)
			memset(group, 0, group_bytes);
		for (uint32_t i = 0; i < n && k; i++)
			pack_k_row(w->type, (const uint8_t *)w->data + (row + i) * row_bytes,
				w->cols / QUANT_K, i, group);
		for (uint32_t i = 0; i < n && !k; i++)
			pack_row(w->type, (const uint8_t *)w->data + (row + i) * row_bytes,
				w->cols / QUANT_BLOCK, group + 2 * i, group + scales + 4 * i);
	}
}

/* One block of one row: its numbers go to every 16th pair. */
static void pack_wide_block(const float *x, uint32_t n, uint32_t r, int16_t *pieces, float *scales)
{
	int16_t q[OPS_WIDE_BLOCK] = {0};

	scales[r] = quant_to_i16(x, n, OPS_WIDE_MAX, q);
	for (uint32_t k = 0; k < OPS_WIDE_BLOCK; k++)
		pieces[k / 2 * 32 + r * 2 + k % 2] = q[k];
}

void ops_pack_wide(const struct ops_matrix *w, uint32_t first, uint32_t last, uint8_t *dst)
{
	size_t group_bytes = ops_pack_wide_group_bytes(w->cols);
	size_t row_bytes = quant_bytes(w->type, w->cols);
	float x[QUANT_K];

	for (uint32_t g = first; g < last; g++) {
		uint32_t row = g * OPS_GROUP_ROWS, n_rows = w->rows - row < 16 ? w->rows - row : 16;
		if (n_rows < 16)
			memset(dst + g * group_bytes, 0, group_bytes);
		for (uint32_t r = 0; r < n_rows; r++) {
			const uint8_t *from = (const uint8_t *)w->data + (row + r) * row_bytes;
			uint8_t *block = dst + g * group_bytes;
			for (uint32_t c = 0; c < w->cols; c += OPS_WIDE_BLOCK) {
				uint32_t n = w->cols - c, at = c % QUANT_K;
				if (at == 0)
					quant_to_f32(w->type, from + quant_bytes(w->type, c),
						n < QUANT_K ? n : QUANT_K, x);
				n = n < OPS_WIDE_BLOCK ? n : OPS_WIDE_BLOCK;
				pack_wide_block(x + at, n, r, (void *)block,
					(void *)(block + 32 * OPS_WIDE_BLOCK));
				block += OPS_WIDE_BLOCK_BYTES;
			}
		}
	}
}
