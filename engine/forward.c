/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transformer, written once for everything that can compute one: a step is a fixed list of
 * stages (engine/backend.h), and nothing here knows where their rows lie or when they are computed.
 *
 * After the last layer's attention only the rows whose logits are wanted go on: a chunk of a prompt
 * in the middle needs none.
 */
#include <assert.h>
#include <stdlib.h>

#include "engine/model_state.h"

static void attention_half(struct model *m, uint32_t layer)
{
	const struct backend *b = m->backend;
	const struct model_layer *l = &m->weights.layer[layer];
	const struct backend_product qkv[] = {
		{.w = &l->q, .out = BACKEND_Q},
		{.w = &l->k, .out = BACKEND_K},
		{.w = &l->v, .out = BACKEND_V},
	};

	b->norm(m, l->attn_norm);
	b->products(m, qkv, 3);
	b->rope_and_write(m, layer);
	b->attention(m, layer);
}

static void feed_forward_half(struct model *m, uint32_t layer)
{
	const struct backend *b = m->backend;
	const struct model_layer *l = &m->weights.layer[layer];
	const struct backend_product heads[] = {{.w = &l->attn_out, .out = BACKEND_X, .add = true}};
	const struct backend_product in[] = {
		{.w = &l->gate, .out = BACKEND_GATE},
		{.w = &l->up, .out = BACKEND_UP},
	};
	const struct backend_product down[] = {{.w = &l->down, .out = BACKEND_X, .add = true}};

	b->products(m, heads, 1);
	b->norm(m, l->ffn_norm);
	b->products(m, in, 2);
	b->activate(m, BACKEND_SWIGLU);
	b->products(m, down, 1);
}

static void issue(struct model *m, const struct backend_batch *batch)
{
	const struct backend *b = m->backend;
	const struct backend_product out[] = {{.w = &m->weights.out, .out = BACKEND_LOGITS}};
	uint32_t last = m->config.n_layers - 1;

	b->embed(m);
	for (uint32_t l = 0; l < last; l++) {
		attention_half(m, l);
		feed_forward_half(m, l);
	}
	attention_half(m, last);
	if (batch->n_picks == 0)
		return;
	b->keep(m);
	feed_forward_half(m, last);
	b->norm(m, m->weights.out_norm);
	b->products(m, out, 1);
	if (b->samples && batch->picks)
		b->sample(m);
}

int model_begin(struct model *m, const struct batch_run *runs, size_t n_runs,
	const struct model_pick *picks, struct err *err)
{
	struct backend_batch batch = {
		.runs = runs, .n_runs = (uint32_t)n_runs, .picks = picks, .decode = true};
	int r;

	for (size_t i = 0; i < n_runs; i++) {
		assert(runs[i].n > 0 && runs[i].n <= m->max_rows - batch.n_rows);
		assert(m->backend->samples || runs[i].follows == 0);
		batch.n_rows += runs[i].n;
		batch.n_picks += runs[i].n_logit_rows;
		batch.decode = batch.decode && runs[i].n == 1 && runs[i].n_logit_rows == 1;
	}
	assert(n_runs > 0 && n_runs <= m->max_runs && batch.n_picks <= m->max_logit_rows);
	r = m->backend->begin(m, &batch, err);
	if (r < 0)
		return r;
	if (r == 0)
		issue(m, &batch);
	while (m->backend->end(m) > 0)
		issue(m, &batch);
	return 0;
}

int model_finish(struct model *m, struct model_result *results, struct err *err)
{
	return m->backend->finish(m, results, err);
}

int model_step(struct model *m, const struct batch_run *runs, size_t n_runs, const float **logits,
	struct err *err)
{
	int r = model_begin(m, runs, n_runs, NULL, err);

	if (r == 0)
		r = model_finish(m, m->step_results, err);
	if (logits)
		*logits = r == 0 ? m->step_results[0].logits : NULL;
	return r;
}
