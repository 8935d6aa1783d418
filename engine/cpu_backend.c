/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor as a back end: its memory, its KV pool, and how a step is laid out in rows and
 * tiles. Every stage is computed inside its call (cpu_stages.c), so a step that was begun is done
 * and finish only hands the logits over; tokens are the scheduler's to take, with the same threads.
 *
 * Quantised matrices are copied to memory of our own in the form that the vector paths read. The KV
 * pool is mapped, so that blocks nobody has used cost no memory.
 *
 * The numbers are those of ops.h: the definition for every other back end.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/cpu_state.h"
#include "engine/sampler.h"

/* ---- memory ---- */

static int make_buffers(const struct model *m, struct cpu_state *s, struct err *err)
{
	const struct model_config *c = &m->config;
	size_t n = m->max_rows, hd = (size_t)c->n_heads * c->head_dim,
	       gd = (size_t)c->n_kv_heads * c->head_dim;
	size_t widest = c->n_embd > hd ? c->n_embd : hd, most = c->n_ff > widest ? c->n_ff : widest;
	struct cpu_buffers *b = &s->buf;

	b->x = calloc(n * c->n_embd, sizeof *b->x);
	b->h = calloc(n * widest, sizeof *b->h);
	b->q = calloc(n * hd, sizeof *b->q);
	b->k = calloc(n * gd, sizeof *b->k);
	b->v = calloc(n * gd, sizeof *b->v);
	b->gate = calloc(n * c->n_ff, sizeof *b->gate);
	b->up = calloc(n * c->n_ff, sizeof *b->up);
	b->logits = calloc((size_t)m->max_logit_rows * c->n_vocab, sizeof *b->logits);
	b->q8 = calloc(n, ops_q8_row_bytes((uint32_t)most + 31));
	b->cs = calloc(n * c->rope_dim, sizeof *b->cs);
	b->row = calloc(n, sizeof *b->row);
	b->attn_tile = calloc(n, sizeof *b->attn_tile);
	b->q8_tile = calloc(n, sizeof *b->q8_tile);
	s->kept = calloc(m->max_logit_rows, sizeof *s->kept);
	if (!b->x || !b->h || !b->q || !b->k || !b->v || !b->gate || !b->up || !b->logits ||
		!b->q8 || !b->cs || !b->row || !b->attn_tile || !b->q8_tile || !s->kept)
		return err_set(err, -ENOMEM, "no memory for steps of %u tokens", m->max_rows);
	return 0;
}

static void free_buffers(struct cpu_buffers *b)
{
	free(b->x);
	free(b->h);
	free(b->q);
	free(b->k);
	free(b->v);
	free(b->gate);
	free(b->up);
	free(b->logits);
	free(b->q8);
	free(b->cs);
	free(b->row);
	free(b->attn_tile);
	free(b->q8_tile);
}

/* The KV cache is as exact as the keys' weights: f32 beside F32 weights, else f16. */
static bool kv_is_f16(const struct gguf *g)
{
	const struct gguf_tensor *k = gguf_tensor(g, "blk.0.attn_k.weight");

	return k && k->type != TENSOR_F32;
}

static size_t kv_block_bytes(
	const struct gguf *g, const struct model_config *c, const struct model_options *o)
{
	return (size_t)c->n_layers * c->n_kv_heads * 2 * KV_BLOCK_TOK * c->head_dim *
	       (kv_is_f16(g) ? 2 : 4);
}

static int make_kv(
	struct model *m, struct cpu_state *s, const struct model_options *o, struct err *err)
{
	s->kv = (struct ops_kv){
		.f16 = kv_is_f16(m->gguf),
		.n_kv_heads = m->config.n_kv_heads,
		.head_dim = m->config.head_dim,
		.block_bytes = kv_block_bytes(m->gguf, &m->config, o),
	};
	m->kv_blocks = o->kv_blocks;
	if (o->kv_blocks == 0 ||
		__builtin_mul_overflow(o->kv_blocks, s->kv.block_bytes, &s->kv_bytes))
		return err_set(err, -EINVAL, "a KV pool of %u blocks cannot be", o->kv_blocks);
	s->kv.data = weights_map(s->kv_bytes);
	if (!s->kv.data)
		return err_set(err, -ENOMEM, "no memory for a KV pool of %zu bytes", s->kv_bytes);
	return 0;
}

/* The matrices that are multiplied: all but the table of embeddings. */
static struct ops_matrix *multiplied(void *arg, size_t i)
{
	return model_matrix(arg, i + 1);
}

/* ---- the object ---- */

static int open_cpu(struct model *m, const struct model_options *o, struct err *err)
{
	struct cpu_state *s = calloc(1, sizeof *s);
	int r;

	m->state = s;
	if (!s)
		return err_set(err, -ENOMEM, "no memory for a model");
	if (o->fp8 || o->kv_fp8)
		return err_set(err, -ENOTSUP, "the processor does not compute in FP8");
	s->ops = ops_find(o->cpu_path);
	if (!s->ops)
		return err_set(err, -EINVAL, "this machine has no CPU path \"%s\"", o->cpu_path);
	r = make_buffers(m, s, err);
	if (!r)
		r = make_kv(m, s, o, err);
	if (!r && s->ops->packs)
		r = weights_pack(&m->file, WEIGHTS_PACKED, multiplied, m, m->pool, o->progress,
			o->progress_arg, err);
	return r;
}

static void close_cpu(struct model *m)
{
	struct cpu_state *s = m->state;

	if (!s)
		return;
	free_buffers(&s->buf);
	free(s->kept);
	if (s->kv.data)
		munmap(s->kv.data, s->kv_bytes);
	free(s);
	m->state = NULL;
}

static const char *describe(const struct model *m)
{
	const struct cpu_state *s = m->state;

	return s->ops->name;
}

static void stats(const struct model *m, struct backend_stats *out)
{
	*out = (struct backend_stats){.utilisation = -1};
}

/* ---- a step ---- */

/* Tokens that attend together: enough query vectors to use a converted KV block well, few enough to
 * share the work. */
static uint32_t tile_tokens(const struct model_config *c)
{
	uint32_t group = c->n_heads / c->n_kv_heads;

	return group >= 32 ? 1 : 32 / group < 8 ? 32 / group : 8;
}

/* Tiles borrow the run's blocks: a step is over before begin's caller gets them back. */
static void lay_out(const struct model *m, struct cpu_state *s, const struct backend_batch *b)
{
	uint32_t row = 0, most = tile_tokens(&m->config);

	s->n_attn_tiles = s->n_picks = 0;
	for (uint32_t r = 0; r < b->n_runs; r++) {
		const struct batch_run *run = &b->runs[r];
		for (uint32_t i = 0; i < run->n; i++) {
			uint32_t pos = run->first_pos + i;
			s->buf.row[row + i] =
				(struct cpu_row){run->ids[i], pos, run->blocks[pos / KV_BLOCK_TOK]};
			if (i % most == 0)
				s->buf.attn_tile[s->n_attn_tiles++] = (struct cpu_tile){
					.row = row + i,
					.n = run->n - i < most ? run->n - i : most,
					.first_pos = pos,
					.blocks = run->blocks,
				};
		}
		row += run->n;
		for (uint32_t i = row - run->n_logit_rows; i < row; i++)
			s->kept[s->n_picks++] = i;
	}
	cpu_stages_set_rows(s, row);
}

static int begin(struct model *m, const struct backend_batch *b, struct err *err)
{
	struct cpu_state *s = m->state;

	assert(!s->is_under_way);
	s->is_under_way = true;
	lay_out(m, s, b);
	return 0;
}

static int end(struct model *m)
{
	return 0;
}

static int finish(struct model *m, struct model_result *results, struct err *err)
{
	struct cpu_state *s = m->state;

	assert(s->is_under_way);
	s->is_under_way = false;
	for (uint32_t i = 0; i < s->n_picks; i++)
		results[i] = (struct model_result){
			.id = SAMPLER_NONE,
			.logits = s->buf.logits + (size_t)i * m->config.n_vocab,
		};
	return 0;
}

const struct backend cpu_backend = {
	.name = "cpu",
	.default_sequences = 64,
	.default_step_tok = 512,
	.kv_block_bytes = kv_block_bytes,
	.open = open_cpu,
	.close = close_cpu,
	.describe = describe,
	.stats = stats,
	.begin = begin,
	.embed = cpu_stages_embed,
	.norm = cpu_stages_norm,
	.products = cpu_stages_products,
	.rope_and_write = cpu_stages_rope_and_write,
	.attention = cpu_stages_attention,
	.keep = cpu_stages_keep,
	.activate = cpu_stages_activate,
	.end = end,
	.finish = finish,
};
