/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes an encoder from a file of the architecture "bert": sizes, weights, memory.
 *
 * As in model.c every tensor stands in one table with its shape, and a tensor that the table does
 * not know is refused: a bias left out gives wrong vectors without a word.
 *
 * The form of the products follows the file. When all matrices are quantised, so are activations,
 * as in a llama: fast, and good for two digits. Otherwise everything is multiplied in the wide form
 * of ops.h, which keeps the cosine to an f32 computation above 0.9999.
 */
#include "engine/encoder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/encoder_state.h"
#include "engine/model.h"
#include "engine/quant.h"

#define MAX_TYPES 16

bool encoder_is_one(const struct gguf *g)
{
	size_t len;
	const char *name = gguf_string(g, "general.architecture", &len);

	return name && len == 4 && memcmp(name, "bert", 4) == 0;
}

/* ---- sizes ---- */

static int read_pooling(const struct gguf *g, struct encoder_config *c, struct err *err)
{
	uint64_t pooling = gguf_uint(g, "bert.pooling_type", 0);

	if (pooling != ENCODER_MEAN && pooling != ENCODER_CLS)
		return err_set(err, -ENOTSUP,
			"the file's pooling (bert.pooling_type %llu) is not supported; known are 1 "
			"(mean) and 2 (cls)",
			(unsigned long long)pooling);
	c->pooling = (enum encoder_pooling)pooling;
	if (gguf_bool(g, "bert.attention.causal", false))
		return err_set(err, -ENOTSUP, "a bert with causal attention is not supported");
	return 0;
}

/* The rows of a table of embeddings. */
static int read_rows(
	const struct gguf *g, const char *name, uint64_t most, uint32_t *n, struct err *err)
{
	const struct gguf_tensor *t = gguf_tensor(g, name);

	if (!t || t->n_dims != 2 || t->dim[1] == 0 || t->dim[1] > most)
		return err_set(err, -EBADMSG,
			"there is no tensor %s of two dimensions and 1 .. %llu rows", name,
			(unsigned long long)most);
	*n = (uint32_t)t->dim[1];
	return 0;
}

int encoder_read_config(const struct gguf *g, struct encoder_config *c, struct err *err)
{
	int r = weights_size(g, "bert.block_count", 0, 1024, &c->n_layers, err);

	if (!r)
		r = weights_size(g, "bert.embedding_length", 0, 1 << 16, &c->n_embd, err);
	if (!r)
		r = weights_size(g, "bert.attention.head_count", 0, 1024, &c->n_heads, err);
	if (!r)
		r = weights_size(g, "bert.feed_forward_length", 0, 1 << 20, &c->n_ff, err);
	if (!r)
		r = weights_size(g, "bert.context_length", 0, 1 << 16, &c->context_tok, err);
	if (!r)
		r = read_rows(g, "token_embd.weight", 1 << 24, &c->n_vocab, err);
	if (!r)
		r = read_rows(g, "token_types.weight", MAX_TYPES, &c->n_types, err);
	if (!r)
		r = read_pooling(g, c, err);
	if (r)
		return r;
	c->head_dim = c->n_embd / c->n_heads;
	if (c->n_embd % c->n_heads != 0 || c->head_dim % 2 != 0 || c->head_dim > OPS_MAX_HEAD_DIM)
		return err_set(err, -EBADMSG, "%u dimensions cannot be shared by %u heads",
			c->n_embd, c->n_heads);
	if (c->context_tok < 3)
		return err_set(
			err, -EBADMSG, "a context of %u tokens holds no text", c->context_tok);
	c->norm_eps = (float)gguf_float(g, "bert.attention.layer_norm_epsilon", 1e-12);
	if (!(c->norm_eps >= 0 && c->norm_eps < 1))
		return err_set(err, -EBADMSG, "the norm's epsilon is out of range");
	return 0;
}

/* ---- weights ---- */

enum { ONE, V, C, T, E, F, N_SIZES };

#define LAYER(member) offsetof(struct encoder_layer, member)
#define MODEL(member) offsetof(struct encoder_weights, member)

static const struct weights_slot model_slots[] = {
	{"token_embd.weight", V, E, MODEL(embd), false},
	{"position_embd.weight", C, E, MODEL(positions), false},
	{"token_types.weight", T, E, MODEL(types), false},
	{"token_embd_norm.weight", ONE, E, MODEL(embd_norm.weight), false},
	{"token_embd_norm.bias", ONE, E, MODEL(embd_norm.bias), false},
	{0},
};

static const struct weights_slot layer_slots[] = {
	{"attn_q.weight", E, E, LAYER(q), false},
	{"attn_q.bias", ONE, E, LAYER(q.bias), false},
	{"attn_k.weight", E, E, LAYER(k), false},
	{"attn_k.bias", ONE, E, LAYER(k.bias), false},
	{"attn_v.weight", E, E, LAYER(v), false},
	{"attn_v.bias", ONE, E, LAYER(v.bias), false},
	{"attn_output.weight", E, E, LAYER(attn_out), false},
	{"attn_output.bias", ONE, E, LAYER(attn_out.bias), false},
	{"attn_output_norm.weight", ONE, E, LAYER(attn_norm.weight), false},
	{"attn_output_norm.bias", ONE, E, LAYER(attn_norm.bias), false},
	{"ffn_up.weight", F, E, LAYER(up), false},
	{"ffn_up.bias", ONE, F, LAYER(up.bias), false},
	{"ffn_down.weight", E, F, LAYER(down), false},
	{"ffn_down.bias", ONE, E, LAYER(down.bias), false},
	{"layer_output_norm.weight", ONE, E, LAYER(out_norm.weight), false},
	{"layer_output_norm.bias", ONE, E, LAYER(out_norm.bias), false},
	{0},
};

/* The i-th matrix that is multiplied; NULL at the end. */
static struct ops_matrix *matrix_at(void *arg, size_t i)
{
	struct encoder *e = arg;

	if (i / 6 >= e->config.n_layers)
		return NULL;
	struct encoder_layer *l = &e->weights.layer[i / 6];
	struct ops_matrix *const of_layer[] = {&l->q, &l->k, &l->v, &l->attn_out, &l->up, &l->down};
	return of_layer[i % 6];
}

static int bind_weights(struct encoder *e, struct err *err)
{
	const struct encoder_config *c = &e->config;
	const uint32_t size[N_SIZES] = {[V] = c->n_vocab,
		[C] = c->context_tok,
		[T] = c->n_types,
		[E] = c->n_embd,
		[F] = c->n_ff};
	const struct weights_plan plan = {.kind = "bert",
		.model = model_slots,
		.layer = layer_slots,
		.size = size,
		.n_layers = c->n_layers,
		.layer_bytes = sizeof *e->weights.layer};
	struct ops_matrix *w;
	int r = weights_init(&e->file, e->gguf, err);

	e->weights.layer = calloc(c->n_layers, sizeof *e->weights.layer);
	if (!r && !e->weights.layer)
		r = err_set(err, -ENOMEM, "no memory for the model's tables");
	r = r ? r : weights_bind(&e->file, &plan, &e->weights, e->weights.layer, err);
	if (r)
		return r;
	for (size_t i = 0; (w = matrix_at(e, i)); i++)
		e->wide = e->wide || !ops_is_quantised(w->type);
	e->file_type = tensor_type_info(e->weights.layer[0].q.type)->name;
	return 0;
}

/* ---- memory of a step ---- */

static int make_buffers(struct encoder *e, struct err *err)
{
	const struct encoder_config *c = &e->config;
	struct encoder_buffers *b = &e->buf;
	size_t n = e->max_rows, n_blocks = n / KV_BLOCK_TOK + e->max_texts;
	uint32_t most = c->n_ff > c->n_embd ? c->n_ff : c->n_embd;
	size_t act_bytes = e->wide ? ops_wide_row_bytes(most) : ops_q8_row_bytes(most + 31);

	b->x = calloc(n * c->n_embd, sizeof *b->x);
	b->q = calloc(n * c->n_embd, sizeof *b->q);
	b->k = calloc(n * c->n_embd, sizeof *b->k);
	b->v = calloc(n * c->n_embd, sizeof *b->v);
	b->up = calloc(n * c->n_ff, sizeof *b->up);
	b->acts = calloc(n, act_bytes);
	b->row = calloc(n, sizeof *b->row);
	b->tile = calloc(n, sizeof *b->tile);
	b->act_tile = calloc(n, sizeof *b->act_tile);
	b->blocks = calloc(n_blocks, sizeof *b->blocks);
	e->type = calloc(c->n_embd, sizeof *e->type);
	e->kv = (struct ops_kv){.n_kv_heads = c->n_heads, .head_dim = c->head_dim};
	e->kv.block_bytes = (size_t)c->n_embd * 2 * KV_BLOCK_TOK * sizeof(float);
	e->kv_bytes = n_blocks * e->kv.block_bytes;
	e->kv.data = weights_map(e->kv_bytes);
	if (!b->x || !b->q || !b->k || !b->v || !b->up || !b->acts || !b->row || !b->tile ||
		!b->act_tile || !b->blocks || !e->type || !e->kv.data)
		return err_set(err, -ENOMEM, "no memory for steps of %u tokens", e->max_rows);
	for (size_t i = 0; i < n_blocks; i++)
		b->blocks[i] = (uint32_t)i;
	e->ops->gather(&e->weights.types, 0, e->type);
	return 0;
}

static void free_buffers(struct encoder_buffers *b)
{
	free(b->x);
	free(b->q);
	free(b->k);
	free(b->v);
	free(b->up);
	free(b->acts);
	free(b->row);
	free(b->tile);
	free(b->act_tile);
	free(b->blocks);
}

/* ---- the object ---- */

static int build(struct encoder *e, const struct encoder_options *o, struct err *err)
{
	int r = encoder_read_config(e->gguf, &e->config, err);

	if (!r) {
		e->ops = ops_find(o->cpu_path);
		if (!e->ops)
			r = err_set(
				err, -EINVAL, "this machine has no CPU path \"%s\"", o->cpu_path);
	}
	if (!r)
		r = bind_weights(e, err);
	if (!r)
		r = make_buffers(e, err);
	if (r)
		return r;
	e->pool = pool_new(o->n_threads);
	if (!e->pool)
		return err_set(err, -ENOMEM, "cannot start %u compute threads", o->n_threads);
	if (!e->wide && !e->ops->packs)
		return 0;
	return weights_pack(&e->file, e->wide ? WEIGHTS_WIDE : WEIGHTS_PACKED, matrix_at, e,
		e->pool, o->progress, o->progress_arg, err);
}

int encoder_new(struct encoder **out, const struct gguf *g, const struct encoder_options *o,
	struct err *err)
{
	*out = NULL;
	if (o->n_threads == 0 || o->max_rows == 0 || o->max_rows > 1 << 20 || o->max_texts == 0 ||
		o->max_texts > 1 << 20)
		return err_set(
			err, -EINVAL, "an encoder needs a thread, a row and a text at least");
	struct encoder *e = calloc(1, sizeof *e);
	if (!e)
		return err_set(err, -ENOMEM, "no memory for an encoder");
	e->gguf = g;
	e->max_rows = o->max_rows;
	e->max_texts = o->max_texts;
	int r = build(e, o, err);
	if (r) {
		encoder_free(e);
		return r;
	}
	*out = e;
	return 0;
}

struct encoder *encoder_free(struct encoder *e)
{
	if (!e)
		return NULL;
	e->pool = pool_free(e->pool);
	free_buffers(&e->buf);
	if (e->kv.data)
		munmap(e->kv.data, e->kv_bytes);
	weights_end(&e->file);
	free(e->type);
	free(e->weights.layer);
	free(e);
	return NULL;
}

const struct encoder_config *encoder_config(const struct encoder *e)
{
	return &e->config;
}

const char *encoder_backend(const struct encoder *e)
{
	return e->ops->name;
}

uint64_t encoder_n_parameters(const struct encoder *e)
{
	return e->file.n_parameters;
}

const char *encoder_file_type(const struct encoder *e)
{
	return e->file_type;
}
