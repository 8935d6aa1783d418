/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_SIMD_ATTENTION_H
#define ENGINE_CPU_SIMD_ATTENTION_H

/*
 * A part of cpu_simd.h, which includes it where it belongs: the cache of keys and values, and
 * attention over it.
 */

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

#endif
