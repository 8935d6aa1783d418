/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paths of the processor as the thread sanitizer sees them. It would look at each load and
 * store of a kernel, which makes a kernel ten to fifty times slower and tells little that its
 * contract does not: what an operation reads and writes is in ops.h, by its arguments alone. So
 * under that sanitizer kernels are compiled without it, and here each operation first touches what
 * the contract says: all that it writes, in ranges, and of what it reads, which is many times as
 * much, both ends of each piece that is written as one: a row, a tile, a group of weights, the V of
 * a position (K is written and read where V is). Shares of a stage that overlap, a buffer that is
 * read before it is whole or while it is filled again, weights that are freed under a step: all of
 * it is found, and named after the operation.
 *
 * What is not found so is a kernel that touches more than its contract says, which is no matter of
 * threads: engine/ops compares what is around a product's outputs, and the address sanitizer looks
 * at each access.
 *
 * In no other build: there cpu_paths.c gives the paths themselves.
 */
#include "engine/cpu_paths.h"
#include "engine/quant.h"

/* Of the sanitizer's runtime; no header of it has it. */
void __tsan_write_range(void *at, long size);

/* This file is compiled with the sanitizer: it sees these loads. */
static void reads(const void *at, size_t size)
{
	const volatile uint8_t *bytes = at;

	if (size > 0) {
		(void)bytes[0];
		(void)bytes[size - 1];
	}
}

static void writes(void *at, size_t size)
{
	__tsan_write_range(at, (long)size);
}

static void reads_floats(const float *at, size_t n)
{
	reads(at, n * sizeof *at);
}

static void writes_floats(float *at, size_t n)
{
	writes(at, n * sizeof *at);
}

/* ---- row by row ---- */

static void rms_norm(
	const struct ops *ops, const float *x, const float *w, float eps, uint32_t n, float *out)
{
	reads_floats(x, n);
	reads_floats(w, n);
	writes_floats(out, n);
	ops->rms_norm(x, w, eps, n, out);
}

static void layer_norm(const struct ops *ops, const float *x, const float *w, const float *b,
	float eps, uint32_t n, float *out)
{
	reads_floats(x, n);
	reads_floats(w, n);
	reads_floats(b, n);
	writes_floats(out, n);
	ops->layer_norm(x, w, b, eps, n, out);
}

static void gelu(const struct ops *ops, float *x, uint32_t n)
{
	writes_floats(x, n);
	ops->gelu(x, n);
}

static void rope(const struct ops *ops, float *x, uint32_t n_heads, uint32_t head_dim,
	uint32_t rope_dim, const float *cs, float scale)
{
	reads_floats(cs, rope_dim);
	writes_floats(x, (size_t)n_heads * head_dim);
	ops->rope(x, n_heads, head_dim, rope_dim, cs, scale);
}

static void swiglu(const struct ops *ops, float *gate, const float *up, uint32_t n)
{
	reads_floats(up, n);
	writes_floats(gate, n);
	ops->swiglu(gate, up, n);
}

static void gather(const struct ops *ops, const struct ops_matrix *w, uint32_t row, float *out)
{
	size_t bytes = quant_bytes(w->type, w->cols);

	reads((const uint8_t *)w->data + row * bytes, bytes);
	writes_floats(out, w->cols);
	ops->gather(w, row, out);
}

/* ---- products ---- */

static void quantise(const struct ops *ops, const float *x, uint32_t n_rows, uint32_t cols,
	uint32_t row, uint32_t first, uint32_t last, uint8_t *out)
{
	uint32_t t = ops_tile_rows(row, n_rows);
	size_t block = (size_t)t * OPS_Q8_BLOCK_BYTES;

	for (uint32_t i = row; i < row + t; i++)
		reads_floats(x + (size_t)i * cols + first * QUANT_BLOCK,
			(size_t)(last - first) * QUANT_BLOCK);
	writes(out + row * ops_q8_row_bytes(cols) + first * block, (last - first) * block);
	ops->quantise(x, n_rows, cols, row, first, last, out);
}

static void widen(const struct ops *ops, const float *x, uint32_t n_rows, uint32_t cols,
	uint32_t row, uint8_t *out)
{
	size_t bytes = ops_wide_row_bytes(cols), t = ops_wide_tile_rows(row, n_rows);

	for (size_t i = row; i < row + t; i++)
		reads_floats(x + i * cols, cols);
	writes(out + row * bytes, t * bytes);
	ops->widen(x, n_rows, cols, row, out);
}

/* The groups of the matrix, and their outputs. group_bytes: of its packed form; 0: as in the file.
 */
static void product_touches(
	const struct ops_product *p, uint32_t first, uint32_t last, size_t group_bytes)
{
	const struct ops_matrix *w = p->w;
	size_t row_bytes = quant_bytes(w->type, w->cols);
	uint32_t begin = first * OPS_GROUP_ROWS, end = last * OPS_GROUP_ROWS;

	end = end < w->rows ? end : w->rows;
	if (begin >= end)
		return;
	for (size_t g = first; g < last && group_bytes; g++)
		reads(w->packed + g * group_bytes, group_bytes);
	if (!group_bytes)
		reads((const uint8_t *)w->data + begin * row_bytes, (end - begin) * row_bytes);
	if (w->bias)
		reads_floats(w->bias + begin, end - begin);
	for (uint32_t i = 0; i < p->x->n_rows; i++)
		writes_floats(p->out + i * p->ld + begin, end - begin);
}

static void product(
	const struct ops *ops, const struct ops_product *p, uint32_t first, uint32_t last)
{
	const struct ops_matrix *w = p->w;
	const struct ops_acts *x = p->x;
	bool quantised = ops_is_quantised(w->type), packed = ops->packs && quantised;
	size_t row_bytes = ops_q8_row_bytes(w->cols);

	for (uint32_t row = 0, t; row < x->n_rows && quantised; row += t) {
		t = ops_tile_rows(row, x->n_rows);
		reads(x->q8 + row * row_bytes, t * row_bytes);
	}
	for (size_t row = 0; row < x->n_rows && !quantised; row++)
		reads_floats(x->f32 + row * w->cols, w->cols);
	product_touches(p, first, last, packed ? ops_pack_group_bytes(w->type, w->cols) : 0);
	ops->product(p, first, last);
}

static void product_wide(
	const struct ops *ops, const struct ops_product *p, uint32_t first, uint32_t last)
{
	size_t row_bytes = ops_wide_row_bytes(p->w->cols);

	for (uint32_t row = 0, t; row < p->x->n_rows; row += t) {
		t = ops_wide_tile_rows(row, p->x->n_rows);
		reads(p->x->wide + row * row_bytes, t * row_bytes);
	}
	product_touches(p, first, last, ops_pack_wide_group_bytes(p->w->cols));
	ops->product_wide(p, first, last);
}

/* ---- the KV cache ---- */

static void kv_write(const struct ops *ops, const struct ops_kv *kv, uint32_t block, uint32_t layer,
	uint32_t row, const float *k, const float *v)
{
	size_t dim = kv->head_dim, size = kv->f16 ? 2 : 4;

	reads_floats(k, kv->n_kv_heads * dim);
	reads_floats(v, kv->n_kv_heads * dim);
	for (uint32_t h = 0; h < kv->n_kv_heads; h++) {
		uint8_t *v_of = (uint8_t *)ops_kv_at(kv, block, layer, h) + 16 * dim * size;
		writes(v_of + row * dim * size, dim * size);
	}
	ops->kv_write(kv, block, layer, row, k, v);
}

static void attention(const struct ops *ops, const struct ops_attention *a)
{
	const struct ops_kv *kv = a->kv;
	uint32_t end = a->n_pos ? a->n_pos : a->first_pos + a->n_tok;
	size_t heads = (size_t)a->n_heads * kv->head_dim;
	size_t v_bytes = (size_t)kv->head_dim * (kv->f16 ? 2 : 4);

	for (uint32_t i = 0; i < a->n_tok; i++) {
		reads_floats(a->q + i * a->ld, heads);
		writes_floats(a->out + i * a->ld, heads);
	}
	for (uint32_t pos = 0; pos < end; pos++) {
		const uint8_t *at = ops_kv_at(kv, a->blocks[pos / 16], a->layer, a->kv_head);
		reads(at + (16 + pos % 16) * v_bytes, v_bytes);
	}
	ops->attention(a);
}

/* ---- the tables ---- */

#define WATCHED(path, its_name, wants_packed)                                                      \
	static void path##_rms_norm(                                                               \
		const float *x, const float *w, float eps, uint32_t n, float *out)                 \
	{                                                                                          \
		rms_norm(&cpu_##path, x, w, eps, n, out);                                          \
	}                                                                                          \
	static void path##_layer_norm(                                                             \
		const float *x, const float *w, const float *b, float eps, uint32_t n, float *out) \
	{                                                                                          \
		layer_norm(&cpu_##path, x, w, b, eps, n, out);                                     \
	}                                                                                          \
	static void path##_gelu(float *x, uint32_t n)                                              \
	{                                                                                          \
		gelu(&cpu_##path, x, n);                                                           \
	}                                                                                          \
	static void path##_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,  \
		const float *cs, float scale)                                                      \
	{                                                                                          \
		rope(&cpu_##path, x, n_heads, head_dim, rope_dim, cs, scale);                      \
	}                                                                                          \
	static void path##_swiglu(float *gate, const float *up, uint32_t n)                        \
	{                                                                                          \
		swiglu(&cpu_##path, gate, up, n);                                                  \
	}                                                                                          \
	static void path##_quantise(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row,  \
		uint32_t first, uint32_t last, uint8_t *out)                                       \
	{                                                                                          \
		quantise(&cpu_##path, x, n_rows, cols, row, first, last, out);                     \
	}                                                                                          \
	static void path##_gather(const struct ops_matrix *w, uint32_t row, float *out)            \
	{                                                                                          \
		gather(&cpu_##path, w, row, out);                                                  \
	}                                                                                          \
	static void path##_product(const struct ops_product *p, uint32_t first, uint32_t last)     \
	{                                                                                          \
		product(&cpu_##path, p, first, last);                                              \
	}                                                                                          \
	static void path##_widen(                                                                  \
		const float *x, uint32_t n_rows, uint32_t cols, uint32_t row, uint8_t *out)        \
	{                                                                                          \
		widen(&cpu_##path, x, n_rows, cols, row, out);                                     \
	}                                                                                          \
	static void path##_product_wide(                                                           \
		const struct ops_product *p, uint32_t first, uint32_t last)                        \
	{                                                                                          \
		product_wide(&cpu_##path, p, first, last);                                         \
	}                                                                                          \
	static void path##_kv_write(const struct ops_kv *kv, uint32_t block, uint32_t layer,       \
		uint32_t row, const float *k, const float *v)                                      \
	{                                                                                          \
		kv_write(&cpu_##path, kv, block, layer, row, k, v);                                \
	}                                                                                          \
	static void path##_attention(const struct ops_attention *a)                                \
	{                                                                                          \
		attention(&cpu_##path, a);                                                         \
	}                                                                                          \
	const struct ops cpu_watched_##path = {                                                    \
		.name = its_name,                                                                  \
		.packs = wants_packed,                                                             \
		.rms_norm = path##_rms_norm,                                                       \
		.layer_norm = path##_layer_norm,                                                   \
		.gelu = path##_gelu,                                                               \
		.rope = path##_rope,                                                               \
		.swiglu = path##_swiglu,                                                           \
		.quantise = path##_quantise,                                                       \
		.gather = path##_gather,                                                           \
		.product = path##_product,                                                         \
		.widen = path##_widen,                                                             \
		.product_wide = path##_product_wide,                                               \
		.kv_write = path##_kv_write,                                                       \
		.attention = path##_attention,                                                     \
	}

WATCHED(scalar, "cpu/scalar", false);
#if defined(__x86_64__)
WATCHED(avx2, "cpu/avx2", true);
WATCHED(avx512, "cpu/avx512", true);
#endif
