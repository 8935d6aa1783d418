/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_OPS_H
#define ENGINE_OPS_H

/*
 * What a transformer is made of, as one table of functions a back end fills. All of it is written
 * so that the result for a row is the same to the bit whatever rows come with it, however work is
 * split among threads, and on every path of the processor:
 *
 *  - products of quantised weights: acc = fma(dot, dw * da, acc), block after block of 32 columns,
 * where dot is the exact integer dot product of a block and dw, da are the scales of weight and
 * activation. Of Q4_1 and Q5_1, then acc = fma(m, sum * da, acc), where sum is that of the block's
 * activations. Of Q4_K and Q5_K dw = d * scale; then acc = fma(dmin * min, -sum * da, acc). Of Q6_K
 * dot = scale[0] * dot of columns 0 .. 15 + scale[1] * dot of columns 16 .. 31, which is exact too,
 * and dw = d;
 *  - products of floating-point weights, and sums of squares: sixteen lanes, lane i adding columns
 * i, i + 16, ... by fma, then lanes added in halves (i + 8, i + 4, i + 2, i + 1);
 *  - products in the wide form, which encoders use for floating-point weights: the same with blocks
 * of 64 columns and 14-bit integers;
 *  - attention: 16 positions (a KV block) at a time from position 0, see struct ops_attention;
 *  - everything else value by value, with fma where the contract says so and nowhere else.
 *
 * cpu_scalar.c says this in plain loops and is the definition. No function fails, allocates or
 * keeps anything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/gguf.h"

#define OPS_GROUP_ROWS 16 /* outputs that a unit of a product computes */
#define OPS_WIDE_BLOCK 64
#define OPS_WIDE_MAX 5792 /* 64 products of two such numbers stay below 2^31 */
#define OPS_WIDE_TILE_ROWS 12
#define OPS_MAX_HEAD_DIM 256
#define OPS_MAX_TILE_HEADS 64 /* query vectors in one call of attention */

/* A weight: out[r] = sum over c of w[r][c] * x[c] (+ bias[r]). */
struct ops_matrix {
	enum tensor_type type;
	uint32_t rows, cols;
	const void *data;      /* as in the file: row after row, at any address */
	const uint8_t *packed; /* by ops_pack(), for a path that wants it, or by ops_pack_wide() for
				  product_wide; else NULL */
	const float *bias;     /* [rows] or NULL */
	uint32_t number;       /* its place among a model's, see struct model */
};

/*
 * Rows of activations as a product reads them: f32 for floating-point weights, q8 for quantised
 * ones. q8 holds tiles of 16, 8, 4, 2 and 1 rows: as many of 16 as fit, then at most one of each
 * smaller size. A tile of t rows starting at row r begins at byte r * ops_q8_row_bytes(cols) and
 * is, for each block of 32 columns, struct { int8_t q[t][32]; float d[t]; int32_t sum8[t],
 * sum128[t], half32[t]; }: x = d * q with d = max|x| / 127 of the block; sum8 = -8 * sum(q), sum128
 * = -128 * sum(q) and half32 = -32 * sum(q[0 .. 15]) undo the offset of unsigned weights.
 */
struct ops_acts {
	uint32_t n_rows, cols;
	const float *f32; /* [n_rows][cols] */
	const uint8_t *q8;
	const uint8_t *wide; /* for product_wide alone */
};

#define OPS_Q8_BLOCK_BYTES 48

static inline size_t ops_q8_row_bytes(uint32_t cols)
{
	return (size_t)cols / 32 * OPS_Q8_BLOCK_BYTES;
}

/* Rows of the tile that begins at `row` of n_rows. */
static inline uint32_t ops_tile_rows(uint32_t row, uint32_t n_rows)
{
	uint32_t left = n_rows - row;
	return left >= 16 ? 16 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/*
 * The wide form of activations: tiles of at most 12 rows, as equal as can be. A tile of t rows
 * starting at row r begins at byte r * ops_wide_row_bytes(cols) and is, for each block of 64
 * columns (zeros behind the last column), struct { int16_t q[t][64]; float d[t]; }: x = d * q with
 * d = max|x| / OPS_WIDE_MAX of the block. Four digits instead of two, at half the speed of q8:
 * twice that of f32, whose products do not come out the same when they are added in another order.
 */
static inline size_t ops_wide_row_bytes(uint32_t cols)
{
	return ((size_t)cols + OPS_WIDE_BLOCK - 1) / OPS_WIDE_BLOCK * (2 * OPS_WIDE_BLOCK + 4);
}

/* Rows of the tile that begins at `row` of n_rows. */
static inline uint32_t ops_wide_tile_rows(uint32_t row, uint32_t n_rows)
{
	uint32_t n_tiles = (n_rows + OPS_WIDE_TILE_ROWS - 1) / OPS_WIDE_TILE_ROWS;
	uint32_t size = n_rows / n_tiles, n_larger = n_rows % n_tiles;

	return row < n_larger * (size + 1) ? size + 1 : size;
}

static inline bool ops_is_quantised(enum tensor_type type)
{
	return type != TENSOR_F32 && type != TENSOR_F16 && type != TENSOR_BF16;
}

/* Of them, those with blocks of 256. */
static inline bool ops_is_k(enum tensor_type type)
{
	return type == TENSOR_Q4_K || type == TENSOR_Q5_K || type == TENSOR_Q6_K;
}

/* Those with a minimum, which is multiplied with the sum of activations. */
static inline bool ops_has_min(enum tensor_type type)
{
	return type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q4_K ||
	       type == TENSOR_Q5_K;
}

struct ops_product {
	const struct ops_matrix *w;
	const struct ops_acts *x;
	float *out; /* [x->n_rows][ld], columns 0 .. w->rows - 1 are written */
	size_t ld;
	bool add; /* out += product + bias instead of out = product + bias */
};

/* The KV cache: blocks of KV_BLOCK_TOK (16) positions. In a block, for each layer and KV head: K as
 * [head_dim][16], then V as [16][head_dim]; f16 or f32. */
struct ops_kv {
	uint8_t *data; /* [blocks][block_bytes] */
	size_t block_bytes;
	bool f16;
	uint32_t n_kv_heads, head_dim;
};

/* borrows the K of a layer and head in a block; its V follows 16 * head_dim values later. */
static inline void *ops_kv_at(
	const struct ops_kv *kv, uint32_t block, uint32_t layer, uint32_t head)
{
	size_t values = (size_t)2 * 16 * kv->head_dim;

	return kv->data + block * kv->block_bytes +
	       ((size_t)layer * kv->n_kv_heads + head) * values * (kv->f16 ? 2 : 4);
}

/*
 * Attention of some consecutive tokens of one sequence, for the query heads that share one KV head.
 * For each query vector q, which is scaled already: m = -inf, l = 0, out = 0; for each block of 16
 * positions up to its own: s[t] = q . K[t], summed over dimensions d = 0, 1, ... by fma into four
 * parts (d mod 4), then (0 + 1) + (2 + 3); n = max(m, max of s); a = exp(m - n) (0 at first); p[t]
 * = exp(s[t] - n), 0 beyond its own position; l = fma(l, a, sum of p, added in halves as above);
 * out = fma(p[t], V[t], ... out * a) for t = 0, 1, ...; m = n; at last out = out * (1 / l).
 */
struct ops_attention {
	const struct ops_kv *kv;
	uint32_t layer, kv_head;
	uint32_t n_heads; /* query heads per KV head */
	uint32_t n_tok;   /* n_tok * n_heads <= OPS_MAX_TILE_HEADS */
	uint32_t first_pos;
	uint32_t n_pos;         /* 0: a token sees the positions up to its own; else all of them see
				   positions 0 .. n_pos - 1 (encoders) */
	const uint32_t *blocks; /* of the sequence */
	const float *q;         /* [n_tok][ld], heads of head_dim values one after another */
	float *out;             /* likewise */
	size_t ld;
};

struct ops {
	const char *name; /* "cpu/avx512" */
	bool packs;       /* wants quantised matrices in the form of ops_pack() */

	/* out[i] = x[i] * (1 / sqrt(sum of squares / n + eps)) * w[i]. out may be x. */
	void (*rms_norm)(const float *x, const float *w, float eps, uint32_t n, float *out);

	/* m = sum of x / n, v = sum of squares of x - m, by fma, both in sixteen lanes; out[i] =
	 * fma((x[i] - m) * (1 / sqrt(v / n + eps)), w[i], b[i]). out may be x. */
	void (*layer_norm)(
		const float *x, const float *w, const float *b, float eps, uint32_t n, float *out);

	/* x[i] * (1 + erf(x[i] / sqrt 2)) / 2, with erf as cpu_math.h has it. In place. */
	void (*gelu)(float *x, uint32_t n);

	/* Rotates pairs (2i, 2i + 1), i < rope_dim / 2, of each of n_heads vectors by the angle
	 * whose cosine and sine are cs[2i], cs[2i + 1]: fma(x0, c, -(x1 * s)), fma(x1, c, x0 * s);
	 * then multiplies all head_dim values by scale. In place. */
	void (*rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
		const float *cs, float scale);

	/* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i] */
	void (*swiglu)(float *gate, const float *up, uint32_t n);

	/* Blocks first .. last - 1 (of 32 columns) of the tile beginning at `row`: x is
	 * [n_rows][cols], out the q8 of struct ops_acts. */
	void (*quantise)(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row,
		uint32_t first, uint32_t last, uint8_t *out);

	/* n values of a matrix's row, to f32. */
	void (*gather)(const struct ops_matrix *w, uint32_t row, float *out);

	/* Outputs of groups first .. last - 1 of OPS_GROUP_ROWS matrix rows, for all rows of x. */
	void (*product)(const struct ops_product *p, uint32_t first, uint32_t last);

	/* The tile beginning at `row`: x is [n_rows][cols], out the wide form of struct ops_acts.
	 */
	void (*widen)(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row, uint8_t *out);

	/* As product, of a matrix packed by ops_pack_wide() with the wide form of x. */
	void (*product_wide)(const struct ops_product *p, uint32_t first, uint32_t last);

	/* Puts the K and V vector (head_dim values each, all KV heads) of one token into row `row`
	 * of a block. */
	void (*kv_write)(const struct ops_kv *kv, uint32_t block, uint32_t layer, uint32_t row,
		const float *k, const float *v);

	void (*attention)(const struct ops_attention *a);
};

/* borrows a static table. name: "scalar", "avx2", "avx512", or NULL for the best this processor
 * has; NULL when there is no such path or the processor lacks what it needs. */
const struct ops *ops_find(const char *name);

/* The i-th path that this build has and this processor can run, from the slowest; NULL at the end.
 * For tests. */
const struct ops *ops_at(size_t i);

static inline uint32_t ops_groups(uint32_t rows)
{
	return (rows + OPS_GROUP_ROWS - 1) / OPS_GROUP_ROWS;
}

/*
 * The packed form of a quantised matrix: groups of 16 rows; a group is first the 16 binary16 scales
 * of each block of 32 columns (of Q4_1 and Q5_1, and then the 16 minima), padded to a multiple of
 * 64 bytes, then the blocks. A block of Q8_0 is 8 pieces of 64 bytes, piece k being columns 4k ..
 * 4k + 3 of rows 0, 1, ... 15, each value plus 128, unsigned. A block of all others is 4 pieces;
 * piece k is bytes 4k .. 4k + 3 of each row as in the file, of columns 4k .. and 16 + 4k ...; of
 * Q5_0 and Q5_1 then a piece of which bit k of byte i of a row is the fifth bit of column 4k + i.
 * Rows beyond the last are zero.
 *
 * Of a K type a group is blocks of 256 columns: the scales d of 16 rows, then their dmin (64 bytes;
 * of Q6_K zeros), for each part of 32 columns 16 bytes of scales and 16 of minima (of Q6_K: of
 * scales[0], of scales[1]), then the parts: of Q4_K as a block of Q4_0, of Q5_K as one of Q5_0; of
 * Q6_K behind the 4 pieces two, of which bits 2k of byte i are the upper ones of columns 4k +
 * i, 16 + 4k + i. q of Q6_K is from 0 to 63.
 */
size_t ops_pack_group_bytes(enum tensor_type type, uint32_t cols);
/* Packs groups first .. last - 1 of w->data to dst, the place of group 0, aligned to 64 bytes. */
void ops_pack(const struct ops_matrix *w, uint32_t first, uint32_t last, uint8_t *dst);

/*
 * The wide form of a matrix of any type: groups of 16 rows; a group is, for each block of 64
 * columns, struct { int16_t q[32][16][2]; float d[16]; }: piece k holds columns 2k and 2k + 1 of
 * the 16 rows. Rows and columns beyond the last are zero.
 */
#define OPS_WIDE_BLOCK_BYTES (16 * (2 * OPS_WIDE_BLOCK + 4))

static inline size_t ops_pack_wide_group_bytes(uint32_t cols)
{
	return ((size_t)cols + OPS_WIDE_BLOCK - 1) / OPS_WIDE_BLOCK * OPS_WIDE_BLOCK_BYTES;
}

/* As ops_pack(). */
void ops_pack_wide(const struct ops_matrix *w, uint32_t first, uint32_t last, uint8_t *dst);

#endif
