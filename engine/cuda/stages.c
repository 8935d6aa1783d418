/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a transformer as launches into the model's stream. What products read, h, is made
 * late: a norm, an attention, an activation is only noted, and launched when the product behind it
 * (products.c) says of which type its h is to be, so that it can write quantised or e4m3 rows
 * itself. In decode steps rotation comes with attention, in one launch. In steps of few rows an
 * activation may be launched with the product before it, and so may a norm: the product that adds
 * to x waits for it (products.c).
 *
 * The first fault ends the step: what would come after it is not launched, and finish tells it.
 */
#include <math.h>

#include "engine/cuda/state.h"

static struct cuda_model *state_of(struct model *m)
{
	return m->state;
}

bool cuda_stages_check(struct cuda_model *s, int code, const char *doing)
{
	if (code != cudaSuccess && s->issue.fault == 0)
		s->issue.fault = cuda_context_fault(&s->context, code, doing, &s->issue.err);
	return s->issue.fault == 0;
}

/* ---- what comes first ---- */

void cuda_stages_embed(struct model *m)
{
	struct cuda_model *s = state_of(m);
	struct cuda_issue *i = &s->issue;
	const struct cuda_layout *l = &s->layout;
	const uint8_t *up = s->buf.upload;
	struct cuda_spread u = {
		.given = (const uint32_t *)(const void *)(up + l->given),
		.source = (const uint32_t *)(const void *)(up + l->source),
		.picked = s->buf.picked,
		.block_from = (const uint32_t *)(const void *)(up + l->block_from),
		.tables = (const uint32_t *)(const void *)(up + l->blocks),
		.n_rows = i->n_rows,
		.n_runs = i->n_runs,
	};
	struct rows_embed e = {
		.data = s->matrix[0].data,
		.file_type = s->matrix[0].file_type,
		.n_vocab = m->config.n_vocab,
		.cols = m->config.n_embd,
		.scale = 1,
	};

	if (cuda_stages_is_over(s))
		return;
	cuda_ahead_begin(s);
	e.ahead = cuda_ahead_take(s, CUDA_ASKER_EMBEDDING);
	i->x = s->buf.x;
	i->attention = (struct attention_step){
		.shape = &s->attention,
		.rows = &s->rows,
		.decode = i->decode,
		.n_rows = i->n_rows,
		.n_runs = i->n_runs,
		.workspace = s->buf.attention_workspace,
	};
	cudaStream_t stream = s->context.stream;
	if (cuda_stages_check(s, cuda_spread(&u, &s->rows, stream), "a step was laid out") &&
		cuda_stages_check(s, rows_embed(&e, s->rows.id, i->n_rows, i->x, stream),
			"tokens were looked up"))
		cuda_stages_check(
			s, attention_plan(&i->attention, stream), "attention was planned");
}

/* ---- h ---- */

/* A product that is late reads the h that was made, and waits for nothing but a norm. */
static void set_source(struct cuda_model *s, enum cuda_source source)
{
	if (source != CUDA_FROM_NORM)
		cuda_products_run_late(s, NULL);
	s->issue.source = source;
	s->issue.made = false;
}

static enum rows_gate kind_of(enum backend_activation f)
{
	return f == BACKEND_GEGLU ? ROWS_GEGLU : ROWS_SWIGLU;
}

void cuda_stages_norm(struct model *m, const float *weight)
{
	struct cuda_model *s = state_of(m);

	s->issue.norm = cuda_place_vector(s, weight);
	set_source(s, CUDA_FROM_NORM);
}

void cuda_stages_attention(struct model *m, uint32_t layer)
{
	struct cuda_model *s = state_of(m);

	s->issue.layer = layer;
	set_source(s, CUDA_FROM_HEADS);
}

void cuda_stages_activate(struct model *m, enum backend_activation f)
{
	struct cuda_model *s = state_of(m);

	s->issue.f = f;
	set_source(s, CUDA_FROM_GLU);
	if (!s->issue.gate || cuda_stages_is_over(s))
		return;
	cuda_products_run_gated(s, kind_of(f));
}

static int norm(struct cuda_model *s, const struct rows_out *h)
{
	struct rows_norm n = {
		.x = s->issue.x,
		.weight = s->issue.norm,
		.eps = s->m->config.norm_eps,
		.n_rows = s->issue.rows,
		.cols = s->m->config.n_embd,
	};

	if (s->issue.late && s->issue.late->reads == h->type) {
		struct cuda_tail tail = {
			.kind = CUDA_TAIL_NORM, .h = *h, .weight = n.weight, .eps = n.eps};

		cuda_products_run_late(s, &tail);
		return 0;
	}
	cuda_products_run_late(s, NULL);
	n.ahead = cuda_ahead_take(s, CUDA_ASKER_ROWS);
	return rows_norm(&n, h, s->context.stream);
}

static int glu(struct cuda_model *s, const struct rows_out *h)
{
	struct rows_glu g = {
		.kind = kind_of(s->issue.f),
		.act = s->act,
		.gate = s->buf.glu,
		.up = s->buf.glu + s->buf.up_at * cuda_type_bytes(s->act),
		.ld = s->buf.ld_glu,
		.n_rows = s->issue.rows,
		.cols = s->m->config.n_ff,
		.ahead = cuda_ahead_take(s, CUDA_ASKER_ROWS),
	};

	return rows_glu(&g, h, s->context.stream);
}

static struct rows_rope rope_of(const struct cuda_model *s)
{
	const struct model_config *c = &s->m->config;
	size_t act = cuda_type_bytes(s->act);

	return (struct rows_rope){
		.act = s->act,
		.q = s->buf.qkv,
		.k = s->buf.qkv + s->buf.k_at * act,
		.v = s->buf.qkv + s->buf.v_at * act,
		.ld_q = s->buf.ld_qkv,
		.ld_kv = s->buf.ld_qkv,
		.n_rows = s->issue.rows,
		.n_heads = c->n_heads,
		.rope_dim = c->rope_dim,
		.scale = 1 / sqrtf((float)c->head_dim),
		.cs = s->buf.cs,
		.pos = s->rows.pos,
		.slot = s->rows.slot,
	};
}

/* Attention in `out`: h, or heads of type act. */
static int attend(struct cuda_model *s, const struct rows_out *out)
{
	const struct attention_step *step = &s->issue.attention;
	struct cuda_kv kv = cuda_place_kv(s, s->issue.layer);
	struct rows_rope r = rope_of(s);

	s->issue.attention.ahead = cuda_ahead_take(s, CUDA_ASKER_ATTENTION);
	if (attention_ropes(step, r.rope_dim))
		return attention_rope_and_run(step, &r, &kv, out, s->context.stream);
	return attention_run(step, &kv, r.q, r.ld_q, out, s->context.stream);
}

static int convert_heads(struct cuda_model *s, const uint8_t *heads, const struct rows_out *h)
{
	uint32_t cols = s->m->config.n_heads * s->m->config.head_dim;
	struct rows_glu g = {
		.act = s->act,
		.gate = heads,
		.ld = cols,
		.n_rows = s->issue.rows,
		.cols = cols,
		.ahead = cuda_ahead_take(s, CUDA_ASKER_ROWS),
	};

	return rows_glu(&g, h, s->context.stream);
}

static int attend_to_h(struct cuda_model *s, const struct rows_out *h)
{
	struct rows_out heads = {.type = s->act, .data = s->buf.heads};
	int r;

	if (h->type != CUDA_TYPE_E4M3 &&
		(h->type != CUDA_TYPE_Q8 || attention_gives_q8(&s->attention)))
		return attend(s, h);
	r = attend(s, &heads);
	return r ? r : convert_heads(s, s->buf.heads, h);
}

bool cuda_stages_h(struct cuda_model *s, enum cuda_type type)
{
	struct cuda_issue *i = &s->issue;
	struct rows_out h = {.type = type, .data = s->buf.h, .scale = s->buf.h_scale};
	int r = cudaErrorInvalidValue;

	if (i->made && i->made_type == type)
		return true;
	switch (i->source) {
	case CUDA_FROM_NORM:
		r = norm(s, &h);
		break;
	case CUDA_FROM_HEADS:
		r = attend_to_h(s, &h);
		break;
	case CUDA_FROM_KEPT:
		r = convert_heads(s, s->buf.heads_kept, &h);
		break;
	case CUDA_FROM_GLU:
		r = glu(s, &h);
		break;
	case CUDA_FROM_NOTHING:
		break;
	}
	i->made = true;
	i->made_type = type;
	i->h = s->buf.h;
	return cuda_stages_check(s, r, "rows were made ready for a product");
}

/* ---- between products ---- */

/* Where attention ropes, that is left to it: what it reads stays as the products made it. It does
 * come in every layer, as each row of such a step is picked from (forward.c). */
void cuda_stages_rope_and_write(struct model *m, uint32_t layer)
{
	struct cuda_model *s = state_of(m);

	if (cuda_stages_is_over(s) || attention_ropes(&s->issue.attention, m->config.rope_dim))
		return;
	struct rows_rope r = rope_of(s);
	struct cuda_kv kv = cuda_place_kv(s, layer);
	r.ahead = cuda_ahead_take(s, CUDA_ASKER_ROPE);
	cuda_stages_check(s, rows_rope(&r, &kv, s->context.stream), "keys were rotated");
}

void cuda_stages_keep(struct model *m)
{
	struct cuda_model *s = state_of(m);
	struct cuda_issue *i = &s->issue;
	struct rows_out heads = {.type = s->act, .data = s->buf.heads};
	size_t e = m->config.n_embd * sizeof(float),
	       hd = (size_t)m->config.n_heads * m->config.head_dim * cuda_type_bytes(s->act);
	cudaStream_t stream = s->context.stream;

	if (cuda_stages_is_over(s) || i->identity)
		return;
	cuda_products_run_late(s, NULL); /* to x as it was */
	if (!cuda_stages_check(s, attend(s, &heads), "attention was computed"))
		return;
	if (cuda_stages_check(s,
		    rows_gather(i->x, e, s->rows.logit_row, i->n_picks, s->buf.x_kept, stream),
		    "rows were picked"))
		cuda_stages_check(s,
			rows_gather(s->buf.heads, hd, s->rows.logit_row, i->n_picks,
				s->buf.heads_kept, stream),
			"rows were picked");
	i->x = s->buf.x_kept;
	i->rows = i->n_picks;
	set_source(s, CUDA_FROM_KEPT);
}

void cuda_stages_sample(struct model *m)
{
	struct cuda_model *s = state_of(m);
	struct sample_step step = {
		.logits = s->buf.logits,
		.ld = s->buf.ld_logits,
		.n_rows = s->issue.n_picks,
		.rows = (const struct sample_row *)(const void *)(s->buf.upload + s->layout.sample),
		.masks = s->buf.masks,
		.picked = s->buf.picked,
		.facts = s->issue.facts ? s->buf.facts : NULL,
		.n_processors = s->context.n_sm,
	};

	if (cuda_stages_is_over(s))
		return;
	step.ahead = cuda_ahead_take(s, CUDA_ASKER_SAMPLING);
	cuda_stages_check(
		s, sample_run(&s->sampler, &step, s->context.stream), "tokens were sampled");
}
