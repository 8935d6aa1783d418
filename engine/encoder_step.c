/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder's pass, as forward.c is the llama's: a fixed list of stages, each a pool_run over
 * units that write outputs of their own. All tokens of all texts of a batch are rows of the same
 * stages, one text behind the other without padding, so the weights are read once; nothing of one
 * text enters another, and no sum depends on what else is in the batch.
 *
 * Attention sees the whole text. Its keys and values lie in blocks of 16 positions like those of a
 * KV cache, so it is the same operation, but they live for one layer only.
 *
 * Runs on the thread that calls encoder_step(), with the pool's threads beside it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/encoder_state.h"
#include "engine/model.h"
#include "engine/quant.h"

struct step {
	struct encoder *e;
	const struct encoder_layer *layer;
	const struct encoder_text *texts;
	uint32_t n_rows, n_tiles, n_act_tiles;
	const float *rows; /* of the stage: what is normalised, or made ready for a product */
	uint32_t cols;
	const struct encoder_norm *norm; /* NULL: none */
	float *vectors;
};

/* ---- rows as products read them ---- */

static uint32_t act_tile_rows(const struct step *s, uint32_t row)
{
	return s->e->wide ? ops_wide_tile_rows(row, s->n_rows) : ops_tile_rows(row, s->n_rows);
}

static void make_acts(const struct step *s, uint32_t row)
{
	const struct encoder *e = s->e;

	if (e->wide)
		e->ops->widen(s->rows, s->n_rows, s->cols, row, e->buf.acts);
	else
		e->ops->quantise(
			s->rows, s->n_rows, s->cols, row, 0, s->cols / QUANT_BLOCK, e->buf.acts);
}

/* ---- products ---- */

/* Products that read the same rows, run as one stage. */
struct products {
	const struct encoder *e;
	struct ops_acts acts;
	struct ops_product p[3];
	uint32_t n;
};

static void product_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct products *s = arg;
	void (*run)(const struct ops_product *, uint32_t, uint32_t) =
		s->e->wide ? s->e->ops->product_wide : s->e->ops->product;

	for (uint32_t i = 0; i < s->n && first < last; i++) {
		uint32_t groups = ops_groups(s->p[i].w->rows);
		if (first < groups)
			run(&s->p[i], first, last < groups ? last : groups);
		first = first > groups ? first - groups : 0;
		last = last > groups ? last - groups : 0;
	}
}

static void run_products(const struct step *s, struct products *p)
{
	uint32_t groups = 0, threads = pool_threads(s->e->pool);

	p->e = s->e;
	p->acts = (struct ops_acts){.n_rows = s->n_rows,
		.cols = s->cols,
		.f32 = s->rows,
		.q8 = s->e->buf.acts,
		.wide = s->e->buf.acts};
	for (uint32_t i = 0; i < p->n; i++) {
		p->p[i].x = &p->acts;
		p->p[i].ld = p->p[i].w->rows;
		groups += ops_groups(p->p[i].w->rows);
	}
	uint32_t grain = groups / (threads * 4) / 2 * 2; /* the wide product likes pairs */
	pool_run(s->e->pool, product_units, p, groups,
		threads == 1 ? groups
		: grain < 2  ? 2
			     : grain);
}

/* ---- stages; a unit is named in each ---- */

/* A row: the sum of its three embeddings. */
static void embed_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;
	uint32_t n = e->config.n_embd;

	for (uint32_t i = first; i < last; i++) {
		const struct encoder_row *row = &e->buf.row[i];
		float *x = e->buf.x + (size_t)i * n, *position = e->buf.q + (size_t)i * n;
		assert(row->id < e->config.n_vocab);
		e->ops->gather(&e->weights.embd, row->id, x);
		e->ops->gather(&e->weights.positions, row->pos, position);
		for (uint32_t k = 0; k < n; k++)
			x[k] = x[k] + e->type[k] + position[k];
	}
}

/* A tile of rows for products: s->rows normalised in place, and made ready. */
static void acts_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = e->buf.act_tile[i], end = row + act_tile_rows(s, row);
		for (uint32_t k = row; k < end && s->norm; k++) {
			float *x = e->buf.x + (size_t)k * s->cols;
			e->ops->layer_norm(
				x, s->norm->weight, s->norm->bias, e->config.norm_eps, s->cols, x);
		}
		make_acts(s, row);
	}
}

/* A tile of rows: the activation function of the feed-forward, and made ready. */
static void gelu_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = e->buf.act_tile[i], n = act_tile_rows(s, row);
		e->ops->gelu(e->buf.up + (size_t)row * s->cols, n * s->cols);
		make_acts(s, row);
	}
}

/* A row: q scaled for the softmax, k and v put where attention finds them. */
static void keys_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;
	size_t n = e->config.n_embd;
	float scale = 1 / sqrtf((float)e->config.head_dim);

	for (uint32_t i = first; i < last; i++) {
		const struct encoder_row *row = &e->buf.row[i];
		for (size_t k = i * n; k < (i + 1) * n; k++)
			e->buf.q[k] *= scale;
		e->ops->kv_write(&e->kv, row->block, 0, row->pos % KV_BLOCK_TOK, e->buf.k + i * n,
			e->buf.v + i * n);
	}
}

/* A tile of rows of one text and a head. The heads go where k was. */
static void attention_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;
	const struct encoder_config *c = &e->config;

	for (uint32_t i = first; i < last; i++) {
		const struct encoder_tile *tile = &e->buf.tile[i / c->n_heads];
		uint32_t head = i % c->n_heads;
		size_t at = (size_t)tile->row * c->n_embd + (size_t)head * c->head_dim;
		struct ops_attention a = {
			.kv = &e->kv,
			.kv_head = head,
			.n_heads = 1,
			.n_tok = tile->n,
			.n_pos = tile->n_pos,
			.blocks = tile->blocks,
			.q = e->buf.q + at,
			.out = e->buf.k + at,
			.ld = c->n_embd,
		};
		e->ops->attention(&a);
	}
}

/* To length 1. What is all zeros, or no number, becomes all zeros. */
static void make_unit(float *v, uint32_t n)
{
	float sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += v[i] * v[i];
	float scale = sum > 0 && sum < INFINITY ? 1 / sqrtf(sum) : 0;
	for (uint32_t i = 0; i < n; i++)
		v[i] = scale > 0 ? v[i] * scale : 0;
}

/* A text: its rows made one vector. */
static void pooling_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct encoder *e = s->e;
	uint32_t n = e->config.n_embd, row = 0;

	for (uint32_t i = 0; i < last; row += s->texts[i++].n) {
		const float *x = e->buf.x + (size_t)row * n;
		float *out = s->vectors + (size_t)i * n;
		if (i < first)
			continue;
		memcpy(out, x, n * sizeof *out);
		if (e->config.pooling == ENCODER_MEAN) {
			for (uint32_t k = 1; k < s->texts[i].n; k++) {
				x += n;
				for (uint32_t d = 0; d < n; d++)
					out[d] += x[d];
			}
		}
		make_unit(out, n); /* so a mean need not be divided */
	}
}

/* ---- the step ---- */

/* Makes `rows` ready for products, after `norm` if there is one. */
static void prepare(
	struct step *s, const float *rows, uint32_t cols, const struct encoder_norm *norm)
{
	s->rows = rows;
	s->cols = cols;
	s->norm = norm;
	pool_run(s->e->pool, acts_units, s, s->n_act_tiles, 1);
}

static void attend(struct step *s)
{
	struct encoder *e = s->e;
	const struct encoder_layer *l = s->layer;
	struct products qkv = {.n = 3,
		.p = {{.w = &l->q, .out = e->buf.q}, {.w = &l->k, .out = e->buf.k},
			{.w = &l->v, .out = e->buf.v}}};
	struct products out = {.n = 1, .p = {{.w = &l->attn_out, .out = e->buf.x, .add = true}}};

	run_products(s, &qkv);
	pool_run(e->pool, keys_units, s, s->n_rows, 8);
	pool_run(e->pool, attention_units, s, s->n_tiles * e->config.n_heads, 4);
	prepare(s, e->buf.k, e->config.n_embd, NULL);
	run_products(s, &out);
	prepare(s, e->buf.x, e->config.n_embd, &l->attn_norm);
}

static void feed_forward(struct step *s)
{
	struct encoder *e = s->e;
	const struct encoder_layer *l = s->layer;
	struct products up = {.n = 1, .p = {{.w = &l->up, .out = e->buf.up}}};
	struct products down = {.n = 1, .p = {{.w = &l->down, .out = e->buf.x, .add = true}}};

	run_products(s, &up);
	s->rows = e->buf.up;
	s->cols = e->config.n_ff;
	pool_run(e->pool, gelu_units, s, s->n_act_tiles, 1);
	run_products(s, &down);
	prepare(s, e->buf.x, e->config.n_embd, &l->out_norm);
}

static void lay_out(struct step *s, size_t n_texts)
{
	struct encoder_buffers *b = &s->e->buf;
	uint32_t row = 0, block = 0;

	assert(n_texts <= s->e->max_texts);
	for (size_t i = 0; i < n_texts; i++) {
		const struct encoder_text *text = &s->texts[i];
		assert(text->n > 0 && text->n <= s->e->config.context_tok);
		assert(text->n <= s->e->max_rows - row);
		for (uint32_t k = 0; k < text->n; k++) {
			b->row[row + k] = (struct encoder_row){
				text->ids[k], k, b->blocks[block + k / KV_BLOCK_TOK]};
			if (k % OPS_MAX_TILE_HEADS == 0)
				b->tile[s->n_tiles++] = (struct encoder_tile){
					.row = row + k,
					.n = text->n - k < OPS_MAX_TILE_HEADS ? text->n - k
									      : OPS_MAX_TILE_HEADS,
					.n_pos = text->n,
					.blocks = b->blocks + block,
				};
		}
		row += text->n;
		block += (text->n + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;
	}
	s->n_rows = row;
	for (row = 0; row < s->n_rows; row += act_tile_rows(s, row))
		b->act_tile[s->n_act_tiles++] = row;
}

void encoder_step(
	struct encoder *e, const struct encoder_text *texts, size_t n_texts, float *vectors)
{
	struct step s = {.e = e, .texts = texts, .vectors = vectors};

	if (n_texts == 0)
		return;
	lay_out(&s, n_texts);
	pool_run(e->pool, embed_units, &s, s.n_rows, 8);
	prepare(&s, e->buf.x, e->config.n_embd, &e->weights.embd_norm);
	for (uint32_t l = 0; l < e->config.n_layers; l++) {
		s.layer = &e->weights.layer[l];
		attend(&s);
		feed_forward(&s);
	}
	pool_run(e->pool, pooling_units, &s, (uint32_t)n_texts, 1);
}
