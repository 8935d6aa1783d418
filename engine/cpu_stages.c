/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a transformer on the processor: each is a pool_run over units that write outputs of
 * their own, of operations that ops.h defines to the bit. All rows of a step go through a stage
 * together, so the weights are read once however many sequences there are; nothing of one row
 * enters another but through its own sequence's KV rows.
 *
 * Runs on the thread that calls, with the model's pool beside it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/cpu_state.h"
#include "engine/quant.h"

/* What units are told. */
struct stage {
	const struct model *m;
	struct cpu_state *s;
	uint32_t layer;
	const float *norm; /* its weight */
};

static struct stage stage_of(struct model *m)
{
	return (struct stage){.m = m, .s = m->state};
}

void cpu_stages_set_rows(struct cpu_state *s, uint32_t n)
{
	s->n_rows = n;
	s->n_q8_tiles = 0;
	for (uint32_t row = 0; row < n; row += ops_tile_rows(row, n))
		s->buf.q8_tile[s->n_q8_tiles++] = row;
}

/* ---- embeddings ---- */

/* A row: its embedding, and the angles of its position. */
static void embed_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	const struct model *m = g->m;
	struct cpu_buffers *b = &g->s->buf;
	uint32_t half = m->config.rope_dim / 2;

	for (uint32_t i = first; i < last; i++) {
		float *cs = b->cs + (size_t)i * m->config.rope_dim;
		assert(b->row[i].id < m->config.n_vocab);
		g->s->ops->gather(
			&m->weights.embd, b->row[i].id, b->x + (size_t)i * m->config.n_embd);
		for (uint32_t k = 0; k < half; k++) {
			float angle = (float)b->row[i].pos * m->inv_freq[k];
			cs[2 * k] = (float)cos((double)angle);
			cs[2 * k + 1] = (float)sin((double)angle);
		}
	}
}

void cpu_stages_embed(struct model *m)
{
	struct stage g = stage_of(m);

	pool_run(m->pool, embed_units, &g, g.s->n_rows, 8);
}

/* ---- norm ---- */

static void reads(struct cpu_state *s, const float *h, uint32_t cols, bool is_quantised)
{
	s->h = h;
	s->h_cols = cols;
	s->h_is_quantised = is_quantised;
}

/* A tile of 16 rows or fewer: x normalised into h, and quantised. */
static void norm_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	const struct ops *ops = g->s->ops;
	struct cpu_buffers *b = &g->s->buf;
	uint32_t n = g->m->config.n_embd, n_rows = g->s->n_rows;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = b->q8_tile[i], t = ops_tile_rows(row, n_rows);
		for (uint32_t k = row; k < row + t; k++)
			ops->rms_norm(b->x + (size_t)k * n, g->norm, g->m->config.norm_eps, n,
				b->h + (size_t)k * n);
		if (n % QUANT_BLOCK == 0)
			ops->quantise(b->h, n_rows, n, row, 0, n / QUANT_BLOCK, b->q8);
	}
}

void cpu_stages_norm(struct model *m, const float *weight)
{
	struct stage g = stage_of(m);

	g.norm = weight;
	pool_run(m->pool, norm_units, &g, g.s->n_q8_tiles, 1);
	reads(g.s, g.s->buf.h, m->config.n_embd, true);
}

/* ---- products ---- */

/* Products that read the same rows, run as one stage. */
struct products {
	const struct ops *ops;
	struct ops_product p[BACKEND_MAX_PRODUCTS];
	uint32_t n;
};

static void product_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct products *s = arg;

	for (uint32_t i = 0; i < s->n && first < last; i++) {
		uint32_t groups = ops_groups(s->p[i].w->rows);
		if (first < groups)
			s->ops->product(&s->p[i], first, last < groups ? last : groups);
		first = first > groups ? first - groups : 0;
		last = last > groups ? last - groups : 0;
	}
}

/* A tile: the heads in h, quantised. */
static void heads_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	struct cpu_buffers *b = &g->s->buf;
	uint32_t hd = g->s->h_cols;

	for (uint32_t i = first; i < last && hd % QUANT_BLOCK == 0; i++)
		g->s->ops->quantise(
			b->h, g->s->n_rows, hd, b->q8_tile[i], 0, hd / QUANT_BLOCK, b->q8);
}

static float *rows_of(struct cpu_buffers *b, enum backend_rows which)
{
	switch (which) {
	case BACKEND_X:
		return b->x;
	case BACKEND_Q:
		return b->q;
	case BACKEND_K:
		return b->k;
	case BACKEND_V:
		return b->v;
	case BACKEND_GATE:
		return b->gate;
	case BACKEND_UP:
		return b->up;
	case BACKEND_LOGITS:
		break;
	}
	return b->logits;
}

void cpu_stages_products(struct model *m, const struct backend_product *p, uint32_t n)
{
	struct stage g = stage_of(m);
	struct cpu_state *s = g.s;
	struct products all = {.ops = s->ops, .n = n};
	uint32_t groups = 0, threads = pool_threads(m->pool);

	if (!s->h_is_quantised)
		pool_run(m->pool, heads_units, &g, s->n_q8_tiles, 1);
	s->h_is_quantised = true;
	struct ops_acts x = {.n_rows = s->n_rows, .cols = s->h_cols, .f32 = s->h, .q8 = s->buf.q8};
	for (uint32_t i = 0; i < n; i++) {
		all.p[i] = (struct ops_product){
			.w = p[i].w,
			.x = &x,
			.out = rows_of(&s->buf, p[i].out),
			.ld = p[i].w->rows,
			.add = p[i].add,
		};
		groups += ops_groups(p[i].w->rows);
	}
	uint32_t grain = groups / (threads * 8);
	pool_run(m->pool, product_units, &all, groups, grain < 1 ? 1 : grain > 16 ? 16 : grain);
}

/* ---- attention ---- */

/* A row: q and k rotated, q scaled for the softmax, k and v put into the cache. */
static void rope_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	const struct model_config *c = &g->m->config;
	const struct ops *ops = g->s->ops;
	struct cpu_buffers *b = &g->s->buf;
	size_t hd = (size_t)c->n_heads * c->head_dim, gd = (size_t)c->n_kv_heads * c->head_dim;
	float scale = 1 / sqrtf((float)c->head_dim);

	for (uint32_t i = first; i < last; i++) {
		const struct cpu_row *row = &b->row[i];
		const float *cs = b->cs + (size_t)i * c->rope_dim;
		float *k = b->k + i * gd;
		ops->rope(b->q + i * hd, c->n_heads, c->head_dim, c->rope_dim, cs, scale);
		ops->rope(k, c->n_kv_heads, c->head_dim, c->rope_dim, cs, 1);
		ops->kv_write(
			&g->s->kv, row->block, g->layer, row->pos % KV_BLOCK_TOK, k, b->v + i * gd);
	}
}

void cpu_stages_rope_and_write(struct model *m, uint32_t layer)
{
	struct stage g = stage_of(m);

	g.layer = layer;
	pool_run(m->pool, rope_units, &g, g.s->n_rows, 4);
}

/* A tile of rows of one run and a KV head: attention into h. */
static void attention_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	const struct model_config *c = &g->m->config;
	struct cpu_buffers *b = &g->s->buf;
	uint32_t group = c->n_heads / c->n_kv_heads;
	size_t hd = (size_t)c->n_heads * c->head_dim;

	for (uint32_t i = first; i < last; i++) {
		const struct cpu_tile *tile = &b->attn_tile[i / c->n_kv_heads];
		uint32_t head = i % c->n_kv_heads;
		size_t at = tile->row * hd + (size_t)head * group * c->head_dim;
		struct ops_attention a = {
			.kv = &g->s->kv,
			.layer = g->layer,
			.kv_head = head,
			.n_heads = group,
			.n_tok = tile->n,
			.first_pos = tile->first_pos,
			.blocks = tile->blocks,
			.q = b->q + at,
			.out = b->h + at,
			.ld = hd,
		};
		g->s->ops->attention(&a);
	}
}

/* The heads are quantised when they are multiplied: by then it is known which rows go on. */
void cpu_stages_attention(struct model *m, uint32_t layer)
{
	struct stage g = stage_of(m);

	g.layer = layer;
	pool_run(m->pool, attention_units, &g, g.s->n_attn_tiles * m->config.n_kv_heads, 1);
	reads(g.s, g.s->buf.h, m->config.n_heads * m->config.head_dim, false);
}

/* Moves the rows of x and h whose logits are wanted to the front. */
void cpu_stages_keep(struct model *m)
{
	struct cpu_state *s = m->state;
	size_t e = m->config.n_embd, hd = s->h_cols;

	for (uint32_t i = 0; i < s->n_picks; i++) {
		memmove(s->buf.x + i * e, s->buf.x + s->kept[i] * e, e * sizeof(float));
		memmove(s->buf.h + i * hd, s->buf.h + s->kept[i] * hd, hd * sizeof(float));
	}
	cpu_stages_set_rows(s, s->n_picks);
}

/* ---- activation ---- */

#define SWIGLU_COLS 512 /* of a unit; a multiple of the block */

/* A tile and SWIGLU_COLS columns: gate and up made one, in gate, and quantised. */
static void swiglu_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct stage *g = arg;
	const struct ops *ops = g->s->ops;
	struct cpu_buffers *b = &g->s->buf;
	uint32_t n = g->m->config.n_ff, pieces = (n + SWIGLU_COLS - 1) / SWIGLU_COLS;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = b->q8_tile[i / pieces], t = ops_tile_rows(row, g->s->n_rows);
		uint32_t col = i % pieces * SWIGLU_COLS,
			 end = n - col < SWIGLU_COLS ? n : col + SWIGLU_COLS;
		for (uint32_t k = row; k < row + t; k++) {
			size_t at = (size_t)k * n + col;
			ops->swiglu(b->gate + at, b->up + at, end - col);
		}
		if (n % QUANT_BLOCK == 0)
			ops->quantise(b->gate, g->s->n_rows, n, row, col / QUANT_BLOCK,
				end / QUANT_BLOCK, b->q8);
	}
}

void cpu_stages_activate(struct model *m, enum backend_activation f)
{
	struct stage g = stage_of(m);
	uint32_t pieces = (m->config.n_ff + SWIGLU_COLS - 1) / SWIGLU_COLS;

	assert(f == BACKEND_SWIGLU);
	pool_run(m->pool, swiglu_units, &g, g.s->n_q8_tiles * pieces, 1);
	reads(g.s, g.s->buf.gate, m->config.n_ff, true);
}
