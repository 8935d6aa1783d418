/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a model from a file: sizes, weights, memory.
 *
 * Every tensor a llama can have stands in one table, with its shape in terms of the sizes, by which
 * they are bound (weights_bind()): the only place where a shape is looked at.
 *
 * What becomes of the tensors, and all memory of a step, is the back end's affair.
 */
#include "engine/model.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model_rope.h"
#include "engine/model_state.h"

/* ---- sizes ---- */

static int check_config(const struct gguf *g, const struct model_config *c, struct err *err)
{
	if (c->n_heads % c->n_kv_heads != 0 || c->n_heads / c->n_kv_heads > OPS_MAX_TILE_HEADS)
		return err_set(err, -EBADMSG, "%u heads cannot share %u key-value heads",
			c->n_heads, c->n_kv_heads);
	if (c->head_dim % 2 != 0 || c->rope_dim % 2 != 0 || c->rope_dim > c->head_dim)
		return err_set(err, -EBADMSG, "heads of %u dimensions, %u of them rotated, are odd",
			c->head_dim, c->rope_dim);
	if (!(c->norm_eps >= 0 && c->norm_eps < 1) || !(c->rope_base > 1 && c->rope_base < 1e12f))
		return err_set(
			err, -EBADMSG, "the norm's epsilon or the rotary base is out of range");
	if (gguf_uint(g, "llama.attention.value_length", c->head_dim) != c->head_dim)
		return err_set(
			err, -ENOTSUP, "keys and values of different lengths are not supported");
	if (gguf_uint(g, "llama.expert_count", 0) != 0)
		return err_set(err, -ENOTSUP, "mixtures of experts are not supported");
	return 0;
}

static int read_config(struct model_config *c, const struct gguf *g, struct err *err)
{
	size_t len = 0;
	const char *arch = weights_architecture(g, &len, err);

	if (!arch)
		return -EBADMSG;
	if (len != 5 || memcmp(arch, "llama", 5) != 0) {
		bool plain = len <= 32;
		for (size_t i = 0; plain && i < len; i++)
			plain = arch[i] > ' ' && arch[i] < 127;
		return err_set(err, -ENOTSUP,
			"the architecture is %.*s, and only llama and bert are supported",
			plain ? (int)len : 13, plain ? arch : "one not known");
	}
	int r = weights_size(g, "llama.block_count", 0, 1024, &c->n_layers, err);
	if (!r)
		r = weights_size(g, "llama.embedding_length", 0, 1 << 17, &c->n_embd, err);
	if (!r)
		r = weights_size(g, "llama.attention.head_count", 0, 1024, &c->n_heads, err);
	if (!r)
		r = weights_size(
			g, "llama.attention.head_count_kv", c->n_heads, 1024, &c->n_kv_heads, err);
	if (!r)
		r = weights_size(g, "llama.attention.key_length", c->n_embd / c->n_heads,
			OPS_MAX_HEAD_DIM, &c->head_dim, err);
	if (!r)
		r = weights_size(g, "llama.feed_forward_length", 0, 1 << 20, &c->n_ff, err);
	if (!r)
		r = weights_size(g, "llama.context_length", 0, 1 << 24, &c->context_tok, err);
	if (!r)
		r = weights_size(g, "llama.rope.dimension_count", c->head_dim, c->head_dim,
			&c->rope_dim, err);
	if (r)
		return r;
	c->norm_eps = (float)gguf_float(g, "llama.attention.layer_norm_rms_epsilon", 1e-5);
	c->rope_base = (float)gguf_float(g, "llama.rope.freq_base", 10000);
	const struct gguf_tensor *embd = gguf_tensor(g, "token_embd.weight");
	if (!embd || embd->n_dims != 2 || embd->dim[1] > 1 << 24)
		return err_set(
			err, -EBADMSG, "there is no tensor token_embd.weight of two dimensions");
	c->n_vocab = (uint32_t)embd->dim[1];
	return check_config(g, c, err);
}

int model_check_file(const struct gguf *g, struct err *err)
{
	struct model_config c = {0};

	return read_config(&c, g, err);
}

static const struct backend *backend_of(const struct model_options *o)
{
	return o->backend ? o->backend : &cpu_backend;
}

size_t model_kv_block_bytes(const struct gguf *g, const struct model_options *options)
{
	struct model_config c = {0};

	return read_config(&c, g, NULL) ? 0 : backend_of(options)->kv_block_bytes(g, &c, options);
}

/* ---- weights ---- */

enum { ONE, V, E, HD, GD, F, N_SIZES };

#define LAYER(member) offsetof(struct model_layer, member)
#define MODEL(member) offsetof(struct model_weights, member)

static const struct weights_slot model_slots[] = {
	{"token_embd.weight", V, E, MODEL(embd), false},
	{"output_norm.weight", ONE, E, MODEL(out_norm), false},
	{"output.weight", V, E, MODEL(out), true},
	{"output.bias", ONE, V, MODEL(out.bias), true},
	{0},
};

static const struct weights_slot layer_slots[] = {
	{"attn_norm.weight", ONE, E, LAYER(attn_norm), false},
	{"attn_q.weight", HD, E, LAYER(q), false},
	{"attn_q.bias", ONE, HD, LAYER(q.bias), true},
	{"attn_k.weight", GD, E, LAYER(k), false},
	{"attn_k.bias", ONE, GD, LAYER(k.bias), true},
	{"attn_v.weight", GD, E, LAYER(v), false},
	{"attn_v.bias", ONE, GD, LAYER(v.bias), true},
	{"attn_output.weight", E, HD, LAYER(attn_out), false},
	{"attn_output.bias", ONE, E, LAYER(attn_out.bias), true},
	{"ffn_norm.weight", ONE, E, LAYER(ffn_norm), false},
	{"ffn_gate.weight", F, E, LAYER(gate), false},
	{"ffn_gate.bias", ONE, F, LAYER(gate.bias), true},
	{"ffn_up.weight", F, E, LAYER(up), false},
	{"ffn_up.bias", ONE, F, LAYER(up.bias), true},
	{"ffn_down.weight", E, F, LAYER(down), false},
	{"ffn_down.bias", ONE, E, LAYER(down.bias), true},
	{0},
};

/* Files may carry these; they say nothing that is not computed or read elsewhere. */
static bool is_ignored(const char *name)
{
	size_t n = strlen(name), tail = strlen(".attn_rot_embd");

	return strcmp(name, "rope_freqs.weight") == 0 ||
	       (n > tail && strcmp(name + n - tail, ".attn_rot_embd") == 0);
}

static int bind_weights(struct model *m, struct err *err)
{
	const struct model_config *c = &m->config;
	const uint32_t size[N_SIZES] = {[V] = c->n_vocab,
		[E] = c->n_embd,
		[HD] = c->n_heads * c->head_dim,
		[GD] = c->n_kv_heads * c->head_dim,
		[F] = c->n_ff};
	const struct weights_plan plan = {.kind = "llama",
		.model = model_slots,
		.layer = layer_slots,
		.size = size,
		.n_layers = c->n_layers,
		.layer_bytes = sizeof *m->weights.layer,
		.ignores = is_ignored};
	int r = weights_init(&m->file, m->gguf, err);

	m->weights.layer = calloc(c->n_layers, sizeof *m->weights.layer);
	if (!r && !m->weights.layer)
		r = err_set(err, -ENOMEM, "no memory for the model's tables");
	r = r ? r : weights_bind(&m->file, &plan, &m->weights, m->weights.layer, err);
	if (r)
		return r;
	if (m->weights.out.rows == 0) { /* tied; a bias may stand there all the same */
		const float *bias = m->weights.out.bias;
		m->weights.out = m->weights.embd;
		m->weights.out.bias = bias;
	}
	for (uint32_t i = 0; model_matrix(m, i); i++)
		model_matrix(m, i)->number = i;
	m->file_type = tensor_type_info(m->weights.layer[0].q.type)->name;
	return 0;
}

struct ops_matrix *model_matrix(struct model *m, size_t number)
{
	if (number < 2)
		return number == 0 ? &m->weights.embd : &m->weights.out;
	number -= 2;
	if (number / 7 >= m->config.n_layers)
		return NULL;
	struct model_layer *l = &m->weights.layer[number / 7];
	struct ops_matrix *const of_layer[] = {
		&l->q, &l->k, &l->v, &l->attn_out, &l->gate, &l->up, &l->down};
	return of_layer[number % 7];
}

/* ---- the object ---- */

static int build(struct model *m, const struct model_options *o, struct err *err)
{
	int r = read_config(&m->config, m->gguf, err);

	if (!r)
		r = bind_weights(m, err);
	if (!r) {
		m->inv_freq = calloc(m->config.rope_dim / 2, sizeof *m->inv_freq);
		m->step_results = calloc(m->max_logit_rows + 1u, sizeof *m->step_results);
		r = m->inv_freq && m->step_results
			    ? model_rope_frequencies(m->inv_freq, &m->config, m->gguf, err)
			    : err_set(err, -ENOMEM, "no memory for the rotary frequencies");
	}
	if (r)
		return r;
	if (m->context_tok == 0 || m->context_tok > m->config.context_tok)
		m->context_tok = m->config.context_tok;
	m->pool = pool_new(o->n_threads);
	return m->pool ? m->backend->open(m, o, err)
		       : err_set(err, -ENOMEM, "cannot start %u compute threads", o->n_threads);
}

int model_new(
	struct model **out, const struct gguf *g, const struct model_options *o, struct err *err)
{
	*out = NULL;
	if (o->n_threads == 0 || o->max_rows == 0 || o->max_rows > 1 << 20)
		return err_set(err, -EINVAL, "a model needs a thread and a row at least");
	struct model *m = calloc(1, sizeof *m);
	if (!m)
		return err_set(err, -ENOMEM, "no memory for a model");
	m->gguf = g;
	m->backend = backend_of(o);
	m->max_rows = o->max_rows;
	m->max_runs = o->max_runs ? o->max_runs : o->max_rows;
	m->max_logit_rows = o->max_logit_rows;
	m->context_tok = o->context_tok;
	int r = build(m, o, err);
	if (r) {
		model_free(m);
		return r;
	}
	*out = m;
	return 0;
}

struct model *model_free(struct model *m)
{
	if (!m)
		return NULL;
	m->backend->close(m);
	m->pool = pool_free(m->pool);
	free(m->inv_freq);
	free(m->step_results);
	weights_end(&m->file);
	free(m->weights.layer);
	free(m);
	return NULL;
}

const struct model_config *model_config(const struct model *m)
{
	return &m->config;
}

const char *model_backend(const struct model *m)
{
	return m->backend->describe(m);
}

bool model_samples(const struct model *m)
{
	return m->backend->samples;
}

uint32_t model_kv_blocks(const struct model *m)
{
	return m->kv_blocks;
}

bool model_has_fp8(const struct model *m)
{
	return m->has_fp8;
}

void model_device_stats(const struct model *m, struct backend_stats *out)
{
	m->backend->stats(m, out);
}

int model_set_banned(struct model *m, const uint32_t *control, size_t n_control,
	const uint32_t *end, size_t n_end, struct err *err)
{
	return m->backend->samples ? m->backend->set_banned(m, control, n_control, end, n_end, err)
				   : 0;
}

uint64_t model_n_parameters(const struct model *m)
{
	return m->file.n_parameters;
}

struct pool *model_pool(struct model *m)
{
	return m->pool;
}

const char *model_file_type(const struct model *m)
{
	return m->file_type;
}
