/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transformer, written once for every path of the processor: a step is a fixed list of stages,
 * each a pool_run over units that write outputs of their own. All rows of a step go through a stage
 * together, so the weights are read once however many sequences there are; nothing of one row
 * enters another but through its own sequence's KV rows.
 *
 * After the last layer's attention only the rows whose logits are wanted go on: a chunk of a prompt
 * in the middle needs none.
 *
 * Runs on the thread that calls model_step(), with the pool's threads beside it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/model_state.h"
#include "engine/quant.h"

/* Rows of one stage; after the last attention fewer than the step began with. */
struct step {
	struct model *m;
	const struct model_layer *layer;
	uint32_t layer_index;
	uint32_t n_rows, n_q8_tiles, n_attn_tiles;
	const float *norm; /* of the stage */
};

/* ---- products ---- */

/* Products that read the same rows, run as one stage. */
struct products {
	const struct model *m;
	struct ops_product p[3];
	uint32_t n;
};

static void product_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct products *s = arg;

	for (uint32_t i = 0; i < s->n && first < last; i++) {
		uint32_t groups = ops_groups(s->p[i].w->rows);
		if (first < groups)
			s->m->ops->product(&s->p[i], first, last < groups ? last : groups);
		first = first > groups ? first - groups : 0;
		last = last > groups ? last - groups : 0;
	}
}

static void run_products(struct products *s)
{
	uint32_t groups = 0, threads = pool_threads(s->m->pool);

	for (uint32_t i = 0; i < s->n; i++)
		groups += ops_groups(s->p[i].w->rows);
	uint32_t grain = groups / (threads * 8);
	pool_run(s->m->pool, product_units, s, groups, grain < 1 ? 1 : grain > 16 ? 16 : grain);
}

static struct ops_product product(
	const struct ops_matrix *w, const struct ops_acts *x, float *out, bool add)
{
	return (struct ops_product){.w = w, .x = x, .out = out, .ld = w->rows, .add = add};
}

/* The rows in buf.h or another buffer, as products read them. */
static struct ops_acts acts_of(const struct step *s, const float *rows, uint32_t cols)
{
	return (struct ops_acts){
		.n_rows = s->n_rows, .cols = cols, .f32 = rows, .q8 = s->m->buf.q8};
}

/* ---- stages; a unit is named in each ---- */

static void set_rows(struct step *s, uint32_t n)
{
	s->n_rows = n;
	s->n_q8_tiles = 0;
	for (uint32_t row = 0; row < n; row += ops_tile_rows(row, n))
		s->m->buf.q8_tile[s->n_q8_tiles++] = row;
}

/* A row: its embedding, and the angles of its position. */
static void embed_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	uint32_t half = m->config.rope_dim / 2;

	for (uint32_t i = first; i < last; i++) {
		float *cs = m->buf.cs + (size_t)i * m->config.rope_dim;
		assert(m->buf.row[i].id < m->config.n_vocab);
		m->ops->gather(&m->weights.embd, m->buf.row[i].id,
			m->buf.x + (size_t)i * m->config.n_embd);
		for (uint32_t k = 0; k < half; k++) {
			float angle = (float)m->buf.row[i].pos * m->inv_freq[k];
			cs[2 * k] = (float)cos((double)angle);
			cs[2 * k + 1] = (float)sin((double)angle);
		}
	}
}

/* A tile of 16 rows or fewer: x normalised into h, and quantised. */
static void norm_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	uint32_t n = m->config.n_embd;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = m->buf.q8_tile[i], t = ops_tile_rows(row, s->n_rows);
		for (uint32_t k = row; k < row + t; k++)
			m->ops->rms_norm(m->buf.x + (size_t)k * n, s->norm, m->config.norm_eps, n,
				m->buf.h + (size_t)k * n);
		if (n % QUANT_BLOCK == 0)
			m->ops->quantise(
				m->buf.h, s->n_rows, n, row, 0, n / QUANT_BLOCK, m->buf.q8);
	}
}

/* A row: q and k rotated, q scaled for the softmax, k and v put into the cache. */
static void rope_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	const struct model_config *c = &m->config;
	size_t hd = (size_t)c->n_heads * c->head_dim, gd = (size_t)c->n_kv_heads * c->head_dim;
	float scale = 1 / sqrtf((float)c->head_dim);

	for (uint32_t i = first; i < last; i++) {
		const struct model_row *row = &m->buf.row[i];
		const float *cs = m->buf.cs + (size_t)i * c->rope_dim;
		float *k = m->buf.k + i * gd;
		m->ops->rope(m->buf.q + i * hd, c->n_heads, c->head_dim, c->rope_dim, cs, scale);
		m->ops->rope(k, c->n_kv_heads, c->head_dim, c->rope_dim, cs, 1);
		m->ops->kv_write(&m->kv, row->block, s->layer_index, row->pos % KV_BLOCK_TOK, k,
			m->buf.v + i * gd);
	}
}

/* A tile of rows of one run and a KV head: attention into h. */
static void attention_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	const struct model_config *c = &m->config;
	uint32_t group = c->n_heads / c->n_kv_heads;
	size_t hd = (size_t)c->n_heads * c->head_dim;

	for (uint32_t i = first; i < last; i++) {
		const struct model_tile *tile = &m->buf.attn_tile[i / c->n_kv_heads];
		uint32_t head = i % c->n_kv_heads;
		size_t at = tile->row * hd + (size_t)head * group * c->head_dim;
		struct ops_attention a = {
			.kv = &m->kv,
			.layer = s->layer_index,
			.kv_head = head,
			.n_heads = group,
			.n_tok = tile->n,
			.first_pos = tile->first_pos,
			.blocks = tile->blocks,
			.q = m->buf.q + at,
			.out = m->buf.h + at,
			.ld = hd,
		};
		m->ops->attention(&a);
	}
}

/* A tile: the heads in h, quantised. */
static void heads_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	uint32_t hd = m->config.n_heads * m->config.head_dim;

	for (uint32_t i = first; i < last && hd % QUANT_BLOCK == 0; i++)
		m->ops->quantise(
			m->buf.h, s->n_rows, hd, m->buf.q8_tile[i], 0, hd / QUANT_BLOCK, m->buf.q8);
}

#define SWIGLU_COLS 512 /* of a unit; a multiple of the block */

/* A tile and SWIGLU_COLS columns: gate and up made one, in gate, and quantised. */
static void swiglu_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	const struct step *s = arg;
	const struct model *m = s->m;
	uint32_t n = m->config.n_ff, pieces = (n + SWIGLU_COLS - 1) / SWIGLU_COLS;

	for (uint32_t i = first; i < last; i++) {
		uint32_t row = m->buf.q8_tile[i / pieces], t = ops_tile_rows(row, s->n_rows);
		uint32_t col = i % pieces * SWIGLU_COLS,
			 end = n - col < SWIGLU_COLS ? n : col + SWIGLU_COLS;
		for (uint32_t k = row; k < row + t; k++) {
			size_t at = (size_t)k * n + col;
			m->ops->swiglu(m->buf.gate + at, m->buf.up + at, end - col);
		}
		if (n % QUANT_BLOCK == 0)
			m->ops->quantise(m->buf.gate, s->n_rows, n, row, col / QUANT_BLOCK,
				end / QUANT_BLOCK, m->buf.q8);
	}
}

/* ---- a layer ---- */

static void attention_half(struct step *s)
{
	struct model *m = s->m;
	const struct model_layer *l = s->layer;

	s->norm = l->attn_norm;
	pool_run(m->pool, norm_units, s, s->n_q8_tiles, 1);
	struct ops_acts x = acts_of(s, m->buf.h, m->config.n_embd);
	struct products qkv = {.m = m, .n = 3};
	qkv.p[0] = product(&l->q, &x, m->buf.q, false);
	qkv.p[1] = product(&l->k, &x, m->buf.k, false);
	qkv.p[2] = product(&l->v, &x, m->buf.v, false);
	run_products(&qkv);
	pool_run(m->pool, rope_units, s, s->n_rows, 4);
	pool_run(m->pool, attention_units, s, s->n_attn_tiles * m->config.n_kv_heads, 1);
}

static void output_of_heads(struct step *s)
{
	struct model *m = s->m;

	pool_run(m->pool, heads_units, s, s->n_q8_tiles, 1);
	struct ops_acts heads = acts_of(s, m->buf.h, s->layer->attn_out.cols);
	struct products out = {.m = m, .n = 1};
	out.p[0] = product(&s->layer->attn_out, &heads, m->buf.x, true);
	run_products(&out);
}

static void feed_forward(struct step *s)
{
	struct model *m = s->m;
	const struct model_layer *l = s->layer;
	uint32_t pieces = (m->config.n_ff + SWIGLU_COLS - 1) / SWIGLU_COLS;

	s->norm = l->ffn_norm;
	pool_run(m->pool, norm_units, s, s->n_q8_tiles, 1);
	struct ops_acts x = acts_of(s, m->buf.h, m->config.n_embd);
	struct products in = {.m = m, .n = 2};
	in.p[0] = product(&l->gate, &x, m->buf.gate, false);
	in.p[1] = product(&l->up, &x, m->buf.up, false);
	run_products(&in);
	pool_run(m->pool, swiglu_units, s, s->n_q8_tiles * pieces, 1);
	struct ops_acts inner = acts_of(s, m->buf.gate, m->config.n_ff);
	struct products down = {.m = m, .n = 1};
	down.p[0] = product(&l->down, &inner, m->buf.x, true);
	run_products(&down);
}

/* ---- the step ---- */

/* Tokens that attend together: enough query vectors to use a converted KV block well, few enough to
 * share the work. */
static uint32_t tile_tokens(const struct model_config *c)
{
	uint32_t group = c->n_heads / c->n_kv_heads;

	return group >= 32 ? 1 : 32 / group < 8 ? 32 / group : 8;
}

static void lay_out(struct step *s, const struct batch_run *runs, size_t n_runs)
{
	struct model_buffers *b = &s->m->buf;
	uint32_t row = 0, most = tile_tokens(&s->m->config);

	for (size_t r = 0; r < n_runs; r++) {
		const struct batch_run *run = &runs[r];
		assert(run->n <= s->m->max_rows - row);
		for (uint32_t i = 0; i < run->n; i++) {
			uint32_t pos = run->first_pos + i;
			b->row[row + i] = (struct model_row){
				run->ids[i], pos, run->blocks[pos / KV_BLOCK_TOK]};
			if (i % most == 0)
				b->attn_tile[s->n_attn_tiles++] = (struct model_tile){
					.row = row + i,
					.n = run->n - i < most ? run->n - i : most,
					.first_pos = pos,
					.blocks = run->blocks,
				};
		}
		row += run->n;
	}
	set_rows(s, row);
}

/* Moves the rows of x and h whose logits are wanted to the front. */
static void keep_logit_rows(struct step *s, const struct batch_run *runs, size_t n_runs)
{
	const struct model_config *c = &s->m->config;
	size_t e = c->n_embd, hd = (size_t)c->n_heads * c->head_dim;
	uint32_t kept = 0, end = 0;

	for (size_t r = 0; r < n_runs; r++) {
		end += runs[r].n;
		for (uint32_t i = end - runs[r].n_logit_rows; i < end; i++, kept++) {
			memmove(s->m->buf.x + kept * e, s->m->buf.x + i * e, e * sizeof(float));
			memmove(s->m->buf.h + kept * hd, s->m->buf.h + i * hd, hd * sizeof(float));
		}
	}
	assert(kept <= s->m->max_logit_rows);
	set_rows(s, kept);
}

void model_step(struct model *m, const struct batch_run *runs, size_t n_runs, float *logits)
{
	struct step s = {.m = m};

	lay_out(&s, runs, n_runs);
	pool_run(m->pool, embed_units, &s, s.n_rows, 8);
	for (uint32_t l = 0; l < m->config.n_layers; l++) {
		s.layer = &m->weights.layer[l];
		s.layer_index = l;
		attention_half(&s);
		if (l == m->config.n_layers - 1)
			keep_logit_rows(&s, runs, n_runs);
		if (s.n_rows == 0)
			return;
		output_of_heads(&s);
		feed_forward(&s);
	}
	s.norm = m->weights.out_norm;
	pool_run(m->pool, norm_units, &s, s.n_q8_tiles, 1);
	struct ops_acts x = acts_of(&s, m->buf.h, m->config.n_embd);
	struct products out = {.m = m, .n = 1};
	out.p[0] = product(&m->weights.out, &x, logits, false);
	run_products(&out);
}
