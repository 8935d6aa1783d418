/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a model lies on its device. Everything has a fixed address from the beginning to the end:
 * one piece of memory for weights, one for what steps need, one for the KV cache. The first two are
 * cut up by functions that are called twice, to count and to cut (memory.c).
 *
 * A matrix is multiplied in one of three forms: plain, as in the file; e4m3 with a scale a row, if
 * that was asked for; repacked, if it is quantised. Q, K and V of a layer lie one behind the other
 * when they are of one form, and so do gate and up: their products are then one. What products
 * leave, of q, k, v, gate and up, is of the type `act`: that of the weights, bf16 beside quantised
 * ones.
 *
 * The embedding stays as in the file. A tied output of a quantised type is a second, repacked copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/state.h"

#define ROUNDING 64 /* bytes a KV block may take more, as K and V of a layer begin at 256 */

enum cuda_type cuda_place_act(enum tensor_type type)
{
	return type == TENSOR_F32   ? CUDA_TYPE_F32
	       : type == TENSOR_F16 ? CUDA_TYPE_F16
				    : CUDA_TYPE_BF16;
}

static bool is_quantised(enum tensor_type type)
{
	return cuda_quant_chunk_cols(type) > 0;
}

/* ---- matrices ---- */

static enum cuda_type reads_of(
	const struct ops_matrix *w, uint32_t number, const struct model_options *o)
{
	if (is_quantised(w->type))
		return CUDA_TYPE_Q8;
	/* The output decides between tokens: it keeps its digits. */
	if (o->fp8 && number >= 2 && w->rows % 16 == 0 && w->cols % 16 == 0)
		return CUDA_TYPE_E4M3;
	return cuda_place_act(w->type);
}

static int plan_matrices(struct cuda_model *s, const struct model_options *o, struct err *err)
{
	s->n_matrices = 2 + 7 * s->m->config.n_layers;
	s->matrix = calloc(s->n_matrices, sizeof(*s->matrix));
	if (!s->matrix)
		return err_set(err, -ENOMEM, "not enough memory for the model's tables");
	for (uint32_t i = 0; i < s->n_matrices; i++) {
		const struct ops_matrix *w = model_matrix(s->m, i);

		s->matrix[i] = (struct cuda_matrix){
			.file_type = w->type,
			.reads = reads_of(w, i, o),
			.rows = w->rows,
			.cols = w->cols,
		};
		s->m->has_fp8 = s->m->has_fp8 || s->matrix[i].reads == CUDA_TYPE_E4M3;
	}
	s->act = cuda_place_act(s->matrix[2].file_type);
	s->kv_type = o->kv_fp8 ? CUDA_TYPE_E4M3 : s->act;
	s->tails = o->tails;
	return 0;
}

size_t cuda_place_matrix_bytes(const struct cuda_matrix *w)
{
	return w->reads == CUDA_TYPE_Q8 ? cuda_quant_bytes(w->file_type, w->rows, w->cols)
					: (size_t)w->rows * w->cols * cuda_type_bytes(w->reads);
}

/* The embedding, as in the file. */
static size_t embedding_bytes(const struct cuda_matrix *w)
{
	const struct tensor_type_info *t = tensor_type_info(w->file_type);

	return (size_t)w->rows * (w->cols / t->block_values) * t->block_bytes;
}

static bool may_join(const struct cuda_matrix *a, const struct cuda_matrix *b)
{
	return a->reads == b->reads && a->file_type == b->file_type && a->cols == b->cols &&
	       a->rows % 16 == 0;
}

bool cuda_place_joins(const struct cuda_matrix *a, const struct cuda_matrix *b)
{
	bool bias = a->bias ? b->bias == a->bias + a->rows : !b->bias;

	return may_join(a, b) && b->data == a->data + cuda_place_matrix_bytes(a) &&
	       (!a->scale || b->scale == a->scale + a->rows) && bias;
}

/* The first n matrices from w on, one behind the other as far as that makes sense. */
static void lay_group(struct cuda_memory *m, struct cuda_matrix *w, uint32_t n)
{
	size_t bytes = 0, at = 0;
	uint32_t rows = 0, row = 0, k = 1;

	while (k < n && may_join(&w[k - 1], &w[k]))
		k++;
	for (uint32_t i = 0; i < k; i++) {
		bytes += cuda_place_matrix_bytes(&w[i]);
		rows += w[i].rows;
	}
	uint8_t *data = cuda_memory_take(m, bytes);
	float *scale =
		w->reads == CUDA_TYPE_E4M3 ? cuda_memory_take(m, rows * sizeof(float)) : NULL;
	for (uint32_t i = 0; i < k && data; i++) {
		w[i].data = data + at;
		w[i].scale = scale ? scale + row : NULL;
		at += cuda_place_matrix_bytes(&w[i]);
		row += w[i].rows;
	}
	if (k < n)
		lay_group(m, w + k, n - k);
}

static bool is_tied(const struct cuda_model *s)
{
	return model_matrix(s->m, 0)->data == model_matrix(s->m, 1)->data;
}

static void lay_weights(struct cuda_model *s)
{
	struct cuda_memory *m = &s->weights;

	s->matrix[0].data = cuda_memory_take(m, embedding_bytes(&s->matrix[0]));
	if (is_tied(s) && !is_quantised(s->matrix[1].file_type))
		s->matrix[1].data = s->matrix[0].data;
	else
		lay_group(m, &s->matrix[1], 1);
	for (uint32_t l = 0; l < s->m->config.n_layers; l++) {
		struct cuda_matrix *w = &s->matrix[2 + 7 * l];

		lay_group(m, w, 3);
		lay_group(m, w + 3, 1);
		lay_group(m, w + 4, 2);
		lay_group(m, w + 6, 1);
	}
	for (uint32_t i = 0; i < s->n_vectors; i++)
		s->vector[i].data = cuda_memory_take(m, s->vector[i].n * sizeof(float));
}

/* ---- vectors ---- */

static void add_vector(struct cuda_model *s, const float *host, uint32_t n)
{
	if (host)
		s->vector[s->n_vectors++] = (struct cuda_vector){.host = host, .n = n};
}

static int compare_vectors(const void *a, const void *b)
{
	const float *x = ((const struct cuda_vector *)a)->host,
		    *y = ((const struct cuda_vector *)b)->host;

	return x < y ? -1 : x > y;
}

static int plan_vectors(struct cuda_model *s, struct err *err)
{
	const struct model_weights *w = &s->m->weights;
	uint32_t e = s->m->config.n_embd, n_layers = s->m->config.n_layers;

	s->vector = calloc(1 + 2 * (size_t)n_layers + s->n_matrices, sizeof(*s->vector));
	if (!s->vector)
		return err_set(err, -ENOMEM, "not enough memory for the model's tables");
	add_vector(s, w->out_norm, e);
	for (uint32_t l = 0; l < n_layers; l++) {
		add_vector(s, w->layer[l].attn_norm, e);
		add_vector(s, w->layer[l].ffn_norm, e);
	}
	for (uint32_t i = 1; i < s->n_matrices; i++)
		add_vector(s, model_matrix(s->m, i)->bias, s->matrix[i].rows);
	qsort(s->vector, s->n_vectors, sizeof(*s->vector), compare_vectors);
	return 0;
}

float *cuda_place_vector(const struct cuda_model *s, const float *host)
{
	struct cuda_vector key = {.host = host};
	const struct cuda_vector *found =
		host ? bsearch(&key, s->vector, s->n_vectors, sizeof(key), compare_vectors) : NULL;

	return found ? found->data : NULL;
}

/* ---- all of it ---- */

static int check(const struct cuda_model *s, const struct model_options *o, struct err *err)
{
	const struct model_config *c = &s->m->config;
	const struct cuda_context *d = &s->context;
	bool has_fp8 = d->major * 10 + d->minor >= 89;

	if ((o->fp8 || o->kv_fp8) && !has_fp8)
		return err_set(err, -ENOTSUP,
			"GPU %d (%s) has compute capability %u.%u, and FP8 needs 8.9", d->device,
			d->name, d->major, d->minor);
	if (c->n_embd % 4 != 0 || c->n_embd > ROWS_MAX_COLS || c->n_ff % 2 != 0)
		return err_set(err, -ENOTSUP,
			"an embedding of %u and a feed-forward part of %u numbers are not "
			"supported on a GPU: a multiple of 4 up to %u, an even number",
			c->n_embd, c->n_ff, ROWS_MAX_COLS);
	if (s->m->max_rows == 0 || s->m->context_tok == 0)
		return err_set(err, -EINVAL, "a model needs a row and a context");
	return 0;
}

int cuda_place_plan(struct cuda_model *s, const struct model_options *o, struct err *err)
{
	int r = check(s, o, err);

	s->limits = cuda_quant_limits(s->context.major, s->context.minor);
	if (o->wide_rows)
		s->limits.wide = o->wide_rows;
	if (o->dense_rows)
		s->limits.dense = o->dense_rows;
	if (r == 0)
		r = plan_matrices(s, o, err);
	if (r == 0)
		r = plan_vectors(s, err);
	if (r == 0)
		cuda_buffers_plan(s);
	s->ahead_bytes = cuda_ahead_most(o);
	return r;
}

static size_t block_bytes(const struct cuda_model *s)
{
	const struct model_config *c = &s->m->config;

	return (size_t)c->n_layers * 2 * c->n_kv_heads * KV_BLOCK_TOK * c->head_dim *
	       cuda_type_bytes(s->kv_type);
}

/* How many blocks fit. `n_free`: what was free before the model came. */
static int count_blocks(
	struct cuda_model *s, const struct model_options *o, size_t n_free, struct err *err)
{
	double share = model_memory_share(o->memory_share);
	size_t most = (size_t)((double)n_free * (share < 1 ? share : 1)), left;
	size_t taken = s->weights.bytes + s->buffers.bytes + cuda_load_staging_bytes(s);
	int r = cuda_memory_free_bytes(&s->context, &left, err);

	if (r < 0)
		return r;
	size_t room = most > taken ? most - taken : 0;
	size_t fits = (room < left ? room : left) / (block_bytes(s) + ROUNDING);
	s->m->kv_blocks = o->kv_blocks;
	if (fits >= o->kv_blocks)
		return 0;
	if (o->kv_may_shrink && fits > 0) {
		s->m->kv_blocks = (uint32_t)fits;
		return 0;
	}
	return err_set(err, -ENOMEM,
		"a KV cache of %u blocks takes %.2f GB: of GPU %d (%s), %.2f GB free, %.0f %% may "
		"be used, and weights and buffers take %.2f GB of that",
		o->kv_blocks, (double)o->kv_blocks * (double)block_bytes(s) * 1e-9,
		s->context.device, s->context.name, (double)n_free * 1e-9, share * 100,
		(double)taken * 1e-9);
}

static int get_kv(
	struct cuda_model *s, const struct model_options *o, size_t n_free, struct err *err)
{
	int r = count_blocks(s, o, n_free, err);

	if (r < 0)
		return r;
	s->kv_half = block_bytes(s) / s->m->config.n_layers / 2 * s->m->kv_blocks;
	s->kv_half = (s->kv_half + 255) / 256 * 256;
	for (int round = 0; r == 0 && round < 2; round++) {
		s->kv_data = cuda_memory_take(&s->kv, s->kv_half * 2 * s->m->config.n_layers);
		if (round == 0)
			r = cuda_memory_get(&s->kv, &s->context, "the KV cache", err);
	}
	return r;
}

int cuda_place_memory(struct cuda_model *s, const struct model_options *o, struct err *err)
{
	size_t n_free;
	int r = cuda_memory_free_bytes(&s->context, &n_free, err);

	lay_weights(s);
	if (r == 0)
		r = cuda_memory_get(&s->weights, &s->context, "the weights", err);
	if (r == 0) {
		lay_weights(s);
		cuda_buffers_lay(s);
		r = cuda_memory_get(&s->buffers, &s->context, "the buffers of a step", err);
	}
	if (r < 0)
		return r;
	cuda_buffers_lay(s);
	cuda_buffers_point(s);
	for (uint32_t i = 1; i < s->n_matrices; i++)
		s->matrix[i].bias = cuda_place_vector(s, model_matrix(s->m, i)->bias);
	return get_kv(s, o, n_free, err);
}

struct cuda_kv cuda_place_kv(const struct cuda_model *s, uint32_t layer)
{
	uint8_t *k = s->kv_data + (size_t)layer * 2 * s->kv_half;

	return (struct cuda_kv){
		.k = k,
		.v = k + s->kv_half,
		.type = s->kv_type,
		.n_kv_heads = s->m->config.n_kv_heads,
		.head_dim = s->m->config.head_dim,
	};
}
