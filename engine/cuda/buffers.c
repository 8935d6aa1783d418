/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What steps need besides weights and KV cache: how much of everything, padding counted, and where
 * it lies. A row begins at 16 bytes wherever kernels may be told the distance between rows. h, what
 * products read, has room for the largest type that any matrix reads; it is of one type at a time.
 */
#include "engine/cuda/gemv.h"
#include "engine/cuda/state.h"

#define ROW_ALIGN 8 /* values, so that rows of 16-bit ones begin at 16 bytes */

static size_t align_values(size_t n)
{
	return (n + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static uint32_t round_most(uint32_t n)
{
	return max_u32(cuda_upload_round(n, true), cuda_upload_round(n, false));
}

static size_t add_part(size_t *at, size_t n)
{
	size_t here = *at;

	*at += (n + 15) / 16 * 16;
	return here;
}

static void plan_layout(struct cuda_model *s)
{
	size_t at = 0, row = s->max_rows * sizeof(uint32_t),
	       run = (s->max_runs + 1) * sizeof(uint32_t);
	struct cuda_layout *l = &s->layout;

	l->given = add_part(&at, row);
	l->source = add_part(&at, row);
	l->pos = add_part(&at, row);
	l->slot = add_part(&at, row);
	l->run = add_part(&at, row);
	l->first_row = add_part(&at, run);
	l->first_pos = add_part(&at, run);
	l->block_from = add_part(&at, run);
	l->logit_row = add_part(&at, s->max_picks * sizeof(uint32_t));
	l->sample = add_part(&at, s->max_picks * sizeof(struct sample_row));
	l->blocks = add_part(&at, (size_t)s->max_runs * s->max_blocks * sizeof(uint32_t));
	l->bytes = at;
}

/* Bytes of h for all matrices: it is of one type at a time. And the widest product that is put
 * down elsewhere before it is what it should be. */
static void plan_h(struct cuda_model *s)
{
	struct cuda_buffers *b = &s->buf;
	bool unpacks = s->max_rows >= s->limits.dense,
	     reads_bf16 = cuda_products_read_bf16(s, s->max_rows);

	for (uint32_t i = 1; i < s->n_matrices; i++) {
		const struct cuda_matrix *w = &s->matrix[i];
		size_t rows = i == 1 ? s->max_picks : s->max_rows;
		size_t bytes = w->reads == CUDA_TYPE_Q8
				       ? cuda_quant_q8_bytes((uint32_t)rows, w->cols)
				       : rows * w->cols * cuda_type_bytes(w->reads);

		if (w->reads == CUDA_TYPE_Q8 && reads_bf16)
			bytes = max_size(bytes, rows * w->cols * cuda_type_bytes(CUDA_TYPE_BF16));
		if (w->reads == CUDA_TYPE_Q8 && unpacks)
			b->unpacked_bytes = CUDA_UNPACKED_BYTES;
		b->h_bytes = max_size(b->h_bytes, bytes);
		bool sums = (i - 2) % 7 == 3 || (i - 2) % 7 == 6; /* into x */
		bool aside = w->reads == CUDA_TYPE_E4M3
				     ? sums || s->act == CUDA_TYPE_F16
				     : w->reads != CUDA_TYPE_Q8 && !sums && w->reads != s->act &&
					       s->act != CUDA_TYPE_F32;
		if (i >= 2 && aside)
			b->n_scratch = max_size(b->n_scratch, align_values(w->rows) * 3);
	}
}

void cuda_buffers_plan(struct cuda_model *s)
{
	const struct model *m = s->m;
	const struct model_config *c = &m->config;
	struct cuda_buffers *b = &s->buf;
	size_t hd = (size_t)c->n_heads * c->head_dim, gd = (size_t)c->n_kv_heads * c->head_dim;

	s->max_rows = max_u32(round_most(m->max_rows), round_most(m->max_runs));
	s->max_runs = round_most(m->max_runs);
	s->max_picks = round_most(m->max_logit_rows);
	s->max_blocks = (m->context_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;
	s->n_words = (c->n_vocab + 127) / 128 * 4;
	b->k_at = align_values(hd);
	b->v_at = b->k_at + align_values(gd);
	b->ld_qkv = b->v_at + align_values(gd);
	b->up_at = align_values(c->n_ff);
	b->ld_glu = 2 * b->up_at;
	b->ld_logits = align_values(c->n_vocab);
	plan_h(s);
	s->attention = (struct attention_shape){
		.act = s->act,
		.kv = s->kv_type,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.head_dim = c->head_dim,
		.n_processors = s->context.n_sm,
		.max_rows = s->max_rows,
		.max_runs = s->max_runs,
	};
	b->attention_bytes = attention_workspace_bytes(&s->attention);
	b->sampler_bytes = sample_bytes(c->n_vocab, s->max_picks, s->m->max_runs);
	plan_layout(s);
}

void cuda_buffers_lay(struct cuda_model *s)
{
	const struct model_config *c = &s->m->config;
	struct cuda_buffers *b = &s->buf;
	struct cuda_memory *m = &s->buffers;
	size_t rows = s->max_rows, picks = s->max_picks, act = cuda_type_bytes(s->act),
	       hd = (size_t)c->n_heads * c->head_dim;

	b->x = cuda_memory_take(m, rows * c->n_embd * sizeof(float));
	b->x_kept = cuda_memory_take(m, picks * c->n_embd * sizeof(float));
	b->qkv = cuda_memory_take(m, rows * b->ld_qkv * act);
	b->heads = cuda_memory_take(m, rows * hd * act);
	b->heads_kept = cuda_memory_take(m, picks * hd * act);
	b->glu = cuda_memory_take(m, rows * b->ld_glu * act);
	b->h = cuda_memory_take(m, b->h_bytes);
	b->gated = cuda_memory_take(m, cuda_quant_q8_bytes(CUDA_GEMV_MAX_ROWS, c->n_ff));
	b->h_scale = cuda_memory_take(m, rows * sizeof(float));
	b->scratch = cuda_memory_take(m, rows * b->n_scratch * sizeof(float));
	b->logits = cuda_memory_take(m, picks * b->ld_logits * sizeof(float));
	b->picked = cuda_memory_take(m, picks * sizeof(uint32_t));
	b->facts = cuda_memory_take(m, picks * sizeof(struct sampler_facts));
	b->cs = cuda_memory_take(m, (size_t)s->m->context_tok * c->rope_dim * sizeof(float));
	b->upload = cuda_memory_take(m, s->layout.bytes);
	b->history = cuda_memory_take(m, s->m->context_tok * sizeof(uint32_t));
	b->biases = cuda_memory_take(m, sizeof(struct sample_bias));
	b->masks = cuda_memory_take(m, picks * s->n_words * sizeof(uint32_t));
	b->unpacked = cuda_memory_take(m, b->unpacked_bytes);
	b->product_workspace = cuda_memory_take(m, CUDA_PRODUCT_WORKSPACE_BYTES);
	b->matmul_workspace = cuda_memory_take(m, CUDA_MATMUL_WORKSPACE);
	b->attention_workspace = cuda_memory_take(m, b->attention_bytes);
	b->sampler = cuda_memory_take(m, b->sampler_bytes);
	s->rows.id = cuda_memory_take(m, rows * sizeof(uint32_t));
	s->rows.blocks =
		cuda_memory_take(m, (size_t)s->max_runs * s->max_blocks * sizeof(uint32_t));
}

void cuda_buffers_point(struct cuda_model *s)
{
	struct cuda_rows *r = &s->rows;
	const struct cuda_layout *l = &s->layout;
	uint8_t *at = s->buf.upload;

	r->pos = (uint32_t *)(void *)(at + l->pos);
	r->slot = (uint32_t *)(void *)(at + l->slot);
	r->run = (uint32_t *)(void *)(at + l->run);
	r->first_row = (uint32_t *)(void *)(at + l->first_row);
	r->first_pos = (uint32_t *)(void *)(at + l->first_pos);
	r->logit_row = (uint32_t *)(void *)(at + l->logit_row);
	r->max_blocks = s->max_blocks;
	sample_place(
		&s->sampler, s->m->config.n_vocab, s->max_picks, s->m->max_runs, s->buf.sampler);
}
