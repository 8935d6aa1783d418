/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The definition of correct: every operation of ops.h in plain loops, on weights as they lie in the
 * file. It runs anywhere, and nobody should tune it: the vector paths are tested against it bit for
 * bit. Compiled with -ffp-contract=off, so that fma happens where it is written and nowhere else.
 */
#include <math.h>
#include <string.h>

#include "engine/cpu_math.h"
#include "engine/cpu_paths.h"
#include "engine/quant.h"

static float exp_f32(float x)
{
	if (!(x >= CPU_EXP_MIN))
		return 0;
	if (x > CPU_EXP_MAX)
		x = CPU_EXP_MAX;
	float n = rintf(x * CPU_EXP_LOG2E);
	float r = fmaf(n, -CPU_EXP_LN2_LO, fmaf(n, -CPU_EXP_LN2_HI, x));
	float y = fmaf(CPU_EXP_C7, r, CPU_EXP_C6);
	y = fmaf(y, r, CPU_EXP_C5);
	y = fmaf(y, r, CPU_EXP_C4);
	y = fmaf(y, r, CPU_EXP_C3);
	y = fmaf(y, r, CPU_EXP_C2);
	y = fmaf(y, r, 1);
	y = fmaf(y, r, 1);
	return y * quant_float((uint32_t)((int32_t)n + 127) << 23);
}

/* Adds sixteen lanes in halves. Destroys them. */
static float sum16(float lane[16])
{
	for (int half = 8; half; half /= 2) {
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	}
	return lane[0];
}

static void rms_norm(const float *x, const float *w, float eps, uint32_t n, float *out)
{
	float lane[16] = {0};

	for (uint32_t i = 0; i < n; i++)
		lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
	float scale = 1 / sqrtf(sum16(lane) / (float)n + eps);
	for (uint32_t i = 0; i < n; i++)
		out[i] = x[i] * scale * w[i];
}

static void layer_norm(
	const float *x, const float *w, const float *b, float eps, uint32_t n, float *out)
{
	float lane[16] = {0};

	for (uint32_t i = 0; i < n; i++)
		lane[i % 16] += x[i];
	float mean = sum16(lane) / (float)n;
	memset(lane, 0, sizeof lane);
	for (uint32_t i = 0; i < n; i++) {
		float d = x[i] - mean;
		lane[i % 16] = fmaf(d, d, lane[i % 16]);
	}
	float scale = 1 / sqrtf(sum16(lane) / (float)n + eps);
	for (uint32_t i = 0; i < n; i++)
		out[i] = fmaf((x[i] - mean) * scale, w[i], b[i]);
}

static void gelu(float *x, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		float v = x[i], a = fabsf(v), t = 1 / fmaf(a, CPU_ERF_P, 1);
		float y = fmaf(t, CPU_ERF_A5, CPU_ERF_A4);
		y = fmaf(t, y, CPU_ERF_A3);
		y = fmaf(t, y, CPU_ERF_A2);
		y = fmaf(t, y, CPU_ERF_A1);
		y = y * t * exp_f32(v * v * -0.5f);
		x[i] = fmaf(a * -0.5f, y, v > 0 ? v : 0);
	}
}

static void rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim, const float *cs,
	float scale)
{
	for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
		for (uint32_t i = 0; i < rope_dim; i += 2) {
			float x0 = x[i], x1 = x[i + 1], c = cs[i], s = cs[i + 1];
			x[i] = fmaf(x0, c, -(x1 * s));
			x[i + 1] = fmaf(x1, c, x0 * s);
		}
		for (uint32_t i = 0; i < head_dim; i++)
			x[i] *= scale;
	}
}

static void swiglu(float *gate, const float *up, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		gate[i] = gate[i] / (1 + exp_f32(-gate[i])) * up[i];
}

/* One block of 32 values; returns its scale, the sum of the integers, and that of the first 16. */
static float quantise_block(const float *x, int8_t *q, int32_t *sum, int32_t *half)
{
	float largest = 0;

	for (int i = 0; i < QUANT_BLOCK; i++) {
		float a = fabsf(x[i]);
		largest = a > largest ? a : largest;
	}
	float d = largest / 127, inverse = d > 0 ? 127 / largest : 0;
	*sum = 0;
	for (int i = 0; i < QUANT_BLOCK; i++) {
		float v = x[i] * inverse;
		v = v > -127 ? v : -127; /* a NaN too */
		v = v < 127 ? v : 127;
		q[i] = (int8_t)rintf(v);
		*sum += q[i];
		*half = i < 16 ? *sum : *half;
	}
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

/* The dot product of a weight row and row i of a tile of t rows. */
static float dot_q8(
	const struct ops_matrix *w, uint32_t r, const uint8_t *tile, uint32_t t, uint32_t i)
{
	const uint8_t *row = (const uint8_t *)w->data + r * quant_bytes(w->type, w->cols);
	const struct tensor_type_info *info = tensor_type_info(w->type);
	uint32_t n_parts = info->block_values / QUANT_BLOCK;
	float acc = 0;

	for (uint32_t b = 0; b < w->cols / QUANT_BLOCK; b++) {
		const uint8_t *block = tile + (size_t)b * t * OPS_Q8_BLOCK_BYTES;
		const int8_t *a = (const int8_t *)block + i * QUANT_BLOCK;
		int32_t dot[2] = {0}, sum = 0;
		struct quant_part part;
		float da;
		quant_part(w->type, row + b / n_parts * info->block_bytes, b % n_parts, &part);
		memcpy(&da, block + t * QUANT_BLOCK + 4 * i, sizeof da);
		for (int k = 0; k < QUANT_BLOCK; k++) {
			dot[k / 16] += part.q[k] * a[k];
			sum += a[k];
		}
		if (w->type == TENSOR_Q6_K) {
			int32_t both = part.scale[0] * dot[0] + part.scale[1] * dot[1];
			acc = fmaf((float)both, part.d * da, acc);
			continue;
		}
		float dw = part.d * (float)part.scale[0];
		acc = fmaf((float)(dot[0] + dot[1]), dw * da, acc);
		if (ops_has_min(w->type))
			acc = fmaf(part.dmin * (float)part.min, (float)-sum * da, acc);
	}
	return acc;
}

static float dot_float(const struct ops_matrix *w, uint32_t r, const float *x)
{
	size_t bytes = quant_bytes(w->type, 1);
	const uint8_t *row = (const uint8_t *)w->data + r * bytes * w->cols;
	float lane[16] = {0}, v;

	for (uint32_t c = 0; c < w->cols; c++) {
		quant_to_f32(w->type, row + c * bytes, 1, &v);
		lane[c % 16] = fmaf(v, x[c], lane[c % 16]);
	}
	return sum16(lane);
}

static void product(const struct ops_product *p, uint32_t first, uint32_t last)
{
	const struct ops_matrix *w = p->w;
	uint32_t n = p->x->n_rows, end = last * OPS_GROUP_ROWS;

	end = end < w->rows ? end : w->rows;
	for (uint32_t row = 0, t; row < n; row += t) {
		const uint8_t *tile = p->x->q8 + row * ops_q8_row_bytes(w->cols);
		t = ops_tile_rows(row, n);
		for (uint32_t i = 0; i < t; i++) {
			float *out = p->out + (row + i) * p->ld;
			for (uint32_t r = first * OPS_GROUP_ROWS; r < end; r++) {
				float y;
				if (ops_is_quantised(w->type))
					y = dot_q8(w, r, tile, t, i);
				else
					y = dot_float(
						w, r, p->x->f32 + (size_t)(row + i) * w->cols);
				if (w->bias)
					y += w->bias[r];
				out[r] = p->add ? out[r] + y : y;
			}
		}
	}
}

static void widen(const float *x, uint32_t n_rows, uint32_t cols, uint32_t row, uint8_t *out)
{
	uint32_t t = ops_wide_tile_rows(row, n_rows);
	uint8_t *block = out + row * ops_wide_row_bytes(cols);

	for (uint32_t c = 0; c < cols; c += OPS_WIDE_BLOCK) {
		uint32_t n = cols - c < OPS_WIDE_BLOCK ? cols - c : OPS_WIDE_BLOCK;
		int16_t *q = (void *)block;
		float *d = (void *)(block + (size_t)t * 2 * OPS_WIDE_BLOCK);
		memset(q, 0, (size_t)t * 2 * OPS_WIDE_BLOCK);
		for (uint32_t i = 0; i < t; i++)
			d[i] = quant_to_i16(x + (size_t)(row + i) * cols + c, n, OPS_WIDE_MAX,
				q + (size_t)i * OPS_WIDE_BLOCK);
		block = (void *)(d + t);
	}
}

/* The dot product of row r of a group and row i of a tile of t rows, both in the wide form. */
static float dot_wide(const uint8_t *group, uint32_t r, const uint8_t *tile, uint32_t t, uint32_t i,
	uint32_t cols)
{
	float acc = 0;

	for (uint32_t c = 0; c < cols; c += OPS_WIDE_BLOCK) {
		const int16_t *w = (const void *)group, *a = (const void *)tile;
		const float *dw = (const void *)(w + 16 * OPS_WIDE_BLOCK);
		const float *da = (const void *)(a + (size_t)t * OPS_WIDE_BLOCK);
		int32_t dot = 0;
		for (uint32_t k = 0; k < OPS_WIDE_BLOCK; k++)
			dot += w[k / 2 * 32 + r * 2 + k % 2] * a[i * OPS_WIDE_BLOCK + k];
		acc = fmaf((float)dot, dw[r] * da[i], acc);
		group += OPS_WIDE_BLOCK_BYTES;
		tile = (const void *)(da + t);
	}
	return acc;
}

static void product_wide(const struct ops_product *p, uint32_t first, uint32_t last)
{
	const struct ops_matrix *w = p->w;
	uint32_t n = p->x->n_rows, end = last * OPS_GROUP_ROWS;

	end = end < w->rows ? end : w->rows;
	for (uint32_t row = 0, t; row < n; row += t) {
		const uint8_t *tile = p->x->wide + row * ops_wide_row_bytes(w->cols);
		t = ops_wide_tile_rows(row, n);
		for (uint32_t i = 0; i < t; i++) {
			float *out = p->out + (row + i) * p->ld;
			for (uint32_t r = first * OPS_GROUP_ROWS; r < end; r++) {
				const uint8_t *group =
					w->packed + r / 16 * ops_pack_wide_group_bytes(w->cols);
				float y = dot_wide(group, r % 16, tile, t, i, w->cols);
				if (w->bias)
					y += w->bias[r];
				out[r] = p->add ? out[r] + y : y;
			}
		}
	}
}

static void kv_write(const struct ops_kv *kv, uint32_t block, uint32_t layer, uint32_t row,
	const float *k, const float *v)
{
	uint32_t dim = kv->head_dim;

	for (uint32_t h = 0; h < kv->n_kv_heads; h++, k += dim, v += dim) {
		void *at = ops_kv_at(kv, block, layer, h);
		uint16_t *half = at;
		float *full = at;
		for (uint32_t d = 0; d < dim; d++) {
			size_t ki = d * 16 + row, vi = (size_t)(16 + row) * dim + d;
			if (kv->f16) {
				half[ki] = quant_f32_to_f16(k[d]);
				half[vi] = quant_f32_to_f16(v[d]);
			} else {
				full[ki] = k[d];
				full[vi] = v[d];
			}
		}
	}
}

static float kv_value(const struct ops_kv *kv, const void *at, size_t i)
{
	return kv->f16 ? quant_f16_to_f32(((const uint16_t *)at)[i]) : ((const float *)at)[i];
}

/* One block of positions, n of them to be seen, for one query vector. */
static void attend_block(const struct ops_kv *kv, const void *at, uint32_t n, const float *q,
	float *m, float *l, float *out)
{
	uint32_t dim = kv->head_dim;
	float p[16] = {0}, largest = *m;

	for (uint32_t t = 0; t < n; t++) {
		float part[4] = {0};
		for (uint32_t d = 0; d < dim; d++)
			part[d % 4] = fmaf(q[d], kv_value(kv, at, d * 16 + t), part[d % 4]);
		p[t] = (part[0] + part[1]) + (part[2] + part[3]);
		largest = p[t] > largest ? p[t] : largest;
	}
	float shrink = exp_f32(*m - largest);
	for (uint32_t t = 0; t < n; t++)
		p[t] = exp_f32(p[t] - largest);
	for (uint32_t d = 0; d < dim; d++) {
		float o = out[d] * shrink;
		for (uint32_t t = 0; t < n; t++)
			o = fmaf(p[t], kv_value(kv, at, (size_t)(16 + t) * dim + d), o);
		out[d] = o;
	}
	*l = fmaf(*l, shrink, sum16(p));
	*m = largest;
}

static void attention(const struct ops_attention *a)
{
	uint32_t dim = a->kv->head_dim;

	for (uint32_t i = 0; i < a->n_tok; i++) {
		uint32_t seen = a->n_pos ? a->n_pos : a->first_pos + i + 1;
		for (uint32_t h = 0; h < a->n_heads; h++) {
			const float *q = a->q + i * a->ld + h * dim;
			float *out = a->out + i * a->ld + h * dim, m = -INFINITY, l = 0;
			memset(out, 0, dim * sizeof *out);
			for (uint32_t pos = 0; pos < seen; pos += 16) {
				const void *at =
					ops_kv_at(a->kv, a->blocks[pos / 16], a->layer, a->kv_head);
				attend_block(a->kv, at, seen - pos < 16 ? seen - pos : 16, q, &m,
					&l, out);
			}
			float inverse = 1 / l;
			for (uint32_t d = 0; d < dim; d++)
				out[d] *= inverse;
		}
	}
}

const struct ops cpu_scalar = {
	.name = "cpu/scalar",
	.packs = false,
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
