/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder against a plain computation in f64 of the same weights; the same bits in every batch,
 * on every path and with any number of threads; files that lie.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/encoder.h"
#include "engine/ops.h"
#include "engine/quant.h"
#include "tests/engine/tiny_bert.h"
#include "tests/run_suite.h"

#define N_TEXTS 6
#define MAX_LEN 70

static struct err err;

#ifdef __SANITIZE_THREAD__ /* how threads share the work is the same for all of a kind */
static const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q8_0, TENSOR_Q4_K};
#else
static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0,
	TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
#endif

#define N_TYPES ((int)(sizeof types / sizeof types[0]))

/* Odd sizes where the type allows them, so that every remainder loop runs. */
static const struct tiny_bert shapes[] = {
	{.n_layers = 2, .n_embd = 96, .n_heads = 6, .n_ff = 160, .context_tok = MAX_LEN, .seed = 3},
	{.n_layers = 1, .n_embd = 64, .n_heads = 1, .n_ff = 64, .context_tok = 80, .cls = true},
	{.n_layers = 3, .n_embd = 132, .n_heads = 6, .n_ff = 100, .context_tok = MAX_LEN},
	{.n_layers = 1, .n_embd = 256, .n_heads = 8, .n_ff = 512, .context_tok = MAX_LEN},
};

#define N_SHAPES ((int)(sizeof shapes / sizeof shapes[0]))

struct file {
	unsigned char *bytes;
	struct gguf *g;
};

static struct file make_file(const struct tiny_bert *shape)
{
	struct file f;
	size_t n;

	f.bytes = tiny_bert_bytes(shape, &n);
	ck_assert_msg(gguf_parse(&f.g, f.bytes, n, &err) == 0, "%s", err.text);
	return f;
}

static void free_file(struct file *f)
{
	gguf_free(f->g);
	free(f->bytes);
}

static struct encoder *make_encoder(const struct gguf *g, const struct ops *ops, uint32_t threads)
{
	struct encoder_options o = {
		.n_threads = threads,
		.cpu_path = strchr(ops->name, '/') + 1,
		.max_rows = N_TEXTS * MAX_LEN,
		.max_texts = N_TEXTS,
	};
	struct encoder *e = NULL;

	ck_assert_msg(encoder_new(&e, g, &o, &err) == 0, "%s", err.text);
	return e;
}

static uint32_t ids[N_TEXTS][MAX_LEN];
static struct encoder_text texts[N_TEXTS];

static void make_texts(uint32_t n_vocab)
{
	static const uint32_t lengths[N_TEXTS] = {2, 17, MAX_LEN, 16, 33, 5};

	srand(5);
	for (int i = 0; i < N_TEXTS; i++) {
		for (uint32_t k = 0; k < lengths[i]; k++)
			ids[i][k] = (uint32_t)rand() % n_vocab;
		texts[i] = (struct encoder_text){ids[i], lengths[i]};
	}
}

/* ---- plain arithmetic ---- */

struct plain {
	const struct gguf *g;
	uint32_t n, e, heads;
	double *x;
};

static float *values_of(const struct gguf *g, const char *name)
{
	const struct gguf_tensor *t = gguf_tensor(g, name);
	ck_assert_msg(t != NULL, "%s", name);
	size_t n = (size_t)(t->dim[0] * t->dim[1]);
	float *v = malloc(n * sizeof *v);

	quant_to_f32(t->type, t->data, n, v);
	return v;
}

/* new [n][rows] = x [n][cols] . weight + bias */
static double *plain_linear(
	const struct plain *p, const char *prefix, const double *x, uint32_t cols, uint32_t rows)
{
	char name[64];
	double *y = calloc((size_t)p->n * rows, sizeof *y);

	snprintf(name, sizeof name, "%s.weight", prefix);
	float *w = values_of(p->g, name);
	snprintf(name, sizeof name, "%s.bias", prefix);
	float *b = values_of(p->g, name);
	for (uint32_t i = 0; i < p->n; i++) {
		for (uint32_t r = 0; r < rows; r++) {
			double sum = (double)b[r];
			for (uint32_t c = 0; c < cols; c++)
				sum += (double)w[r * cols + c] * x[i * cols + c];
			y[i * rows + r] = sum;
		}
	}
	free(w);
	free(b);
	return y;
}

static void plain_norm(const struct plain *p, const char *prefix)
{
	char name[64];

	snprintf(name, sizeof name, "%s.weight", prefix);
	float *w = values_of(p->g, name);
	snprintf(name, sizeof name, "%s.bias", prefix);
	float *b = values_of(p->g, name);
	for (uint32_t i = 0; i < p->n; i++) {
		double *x = p->x + i * p->e, mean = 0, var = 0;
		for (uint32_t d = 0; d < p->e; d++)
			mean += x[d] / p->e;
		for (uint32_t d = 0; d < p->e; d++)
			var += (x[d] - mean) * (x[d] - mean) / p->e;
		for (uint32_t d = 0; d < p->e; d++)
			x[d] = (x[d] - mean) / sqrt(var + 1e-12) * (double)w[d] + (double)b[d];
	}
	free(w);
	free(b);
}

static void plain_add(struct plain *p, double *y)
{
	for (size_t i = 0; i < (size_t)p->n * p->e; i++)
		p->x[i] += y[i];
	free(y);
}

static double *plain_attention(
	const struct plain *p, const double *q, const double *k, const double *v)
{
	uint32_t dim = p->e / p->heads;
	double *out = calloc((size_t)p->n * p->e, sizeof *out);

	for (uint32_t h = 0; h < p->heads; h++) {
		for (uint32_t i = 0; i < p->n; i++) {
			double sum = 0, weight[MAX_LEN];
			for (uint32_t t = 0; t < p->n; t++) {
				double s = 0;
				for (uint32_t d = h * dim; d < (h + 1) * dim; d++)
					s += q[i * p->e + d] * k[t * p->e + d];
				weight[t] = exp(s / sqrt(dim));
				sum += weight[t];
			}
			for (uint32_t t = 0; t < p->n; t++)
				for (uint32_t d = h * dim; d < (h + 1) * dim; d++)
					out[i * p->e + d] += weight[t] / sum * v[t * p->e + d];
		}
	}
	return out;
}

static void plain_layer(struct plain *p, uint32_t layer, uint32_t n_ff)
{
	char name[64];

#define NAME(suffix) (snprintf(name, sizeof name, "blk.%u." suffix, layer), name)
	double *q = plain_linear(p, NAME("attn_q"), p->x, p->e, p->e);
	double *k = plain_linear(p, NAME("attn_k"), p->x, p->e, p->e);
	double *v = plain_linear(p, NAME("attn_v"), p->x, p->e, p->e);
	double *heads = plain_attention(p, q, k, v);
	plain_add(p, plain_linear(p, NAME("attn_output"), heads, p->e, p->e));
	plain_norm(p, NAME("attn_output_norm"));
	double *up = plain_linear(p, NAME("ffn_up"), p->x, p->e, n_ff);
	for (size_t i = 0; i < (size_t)p->n * n_ff; i++)
		up[i] *= 0.5 * erfc(-up[i] * M_SQRT1_2);
	plain_add(p, plain_linear(p, NAME("ffn_down"), up, n_ff, p->e));
	plain_norm(p, NAME("layer_output_norm"));
#undef NAME
	free(q);
	free(k);
	free(v);
	free(heads);
	free(up);
}

/* Of one text: [e], of length 1. */
static void plain_embed(const struct gguf *g, const struct encoder_config *c,
	const struct encoder_text *text, double *out)
{
	struct plain p = {g, text->n, c->n_embd, c->n_heads, NULL};
	float *embd = values_of(g, "token_embd.weight"),
	      *pos = values_of(g, "position_embd.weight"),
	      *type = values_of(g, "token_types.weight");
	double length = 0;

	p.x = calloc((size_t)p.n * p.e, sizeof *p.x);
	for (uint32_t i = 0; i < p.n; i++)
		for (uint32_t d = 0; d < p.e; d++)
			p.x[i * p.e + d] = (double)embd[text->ids[i] * p.e + d] +
					   (double)pos[i * p.e + d] + (double)type[d];
	plain_norm(&p, "token_embd_norm");
	for (uint32_t l = 0; l < c->n_layers; l++)
		plain_layer(&p, l, c->n_ff);
	memset(out, 0, p.e * sizeof *out);
	for (uint32_t i = 0; i < (c->pooling == ENCODER_CLS ? 1 : p.n); i++)
		for (uint32_t d = 0; d < p.e; d++)
			out[d] += p.x[i * p.e + d];
	for (uint32_t d = 0; d < p.e; d++)
		length += out[d] * out[d];
	for (uint32_t d = 0; d < p.e; d++)
		out[d] /= sqrt(length);
	free(p.x);
	free(embd);
	free(pos);
	free(type);
}

/* Whether there is such a model: rows are whole blocks. */
static bool fits(const struct tiny_bert *shape, enum tensor_type type)
{
	uint32_t block = tensor_type_info(type)->block_values;

	return shape->n_embd % block == 0 && shape->n_ff % block == 0;
}

START_TEST(vectors_are_those_of_plain_arithmetic)
{
	/* by type: what is left of the cosine; of random weights, which forgive less */
	const double most = ops_is_quantised(types[_i % N_TYPES]) ? 5e-3 : 1e-5;
	struct tiny_bert shape = shapes[_i / N_TYPES];
	shape.type = types[_i % N_TYPES];
	struct file f = make_file(&shape);
	struct encoder *e = make_encoder(f.g, ops_find(NULL), 2);
	const struct encoder_config *c = encoder_config(e);
	float *got = calloc(N_TEXTS * c->n_embd, sizeof *got);
	double *exact = calloc(c->n_embd, sizeof *exact);

	make_texts(c->n_vocab);
	encoder_step(e, texts, N_TEXTS, got);
	for (uint32_t i = 0; i < N_TEXTS; i++) {
		double cosine = 0;
		plain_embed(f.g, c, &texts[i], exact);
		for (uint32_t d = 0; d < c->n_embd; d++)
			cosine += exact[d] * (double)got[i * c->n_embd + d];
		ck_assert_msg(1 - cosine <= most, "%s, text %u: 1 - cosine is %g",
			tensor_type_info(shape.type)->name, i, 1 - cosine);
	}
	free(got);
	free(exact);
	encoder_free(e);
	free_file(&f);
}
END_TEST

/* ---- the same bits ---- */

START_TEST(every_path_and_batch_gives_the_same_bits)
{
	struct tiny_bert shape = shapes[_i / N_TYPES];
	shape.type = types[_i % N_TYPES];
	struct file f = make_file(&shape);
	struct encoder *e = make_encoder(f.g, ops_at(0), 1);
	uint32_t n = encoder_config(e)->n_embd;
	float *alone = calloc(N_TEXTS * n, sizeof *alone),
	      *together = calloc(N_TEXTS * n, sizeof *together);

	make_texts(encoder_config(e)->n_vocab);
	for (uint32_t i = 0; i < N_TEXTS; i++)
		encoder_step(e, &texts[i], 1, alone + i * n);
	ck_assert(alone[0] == alone[0] && memcmp(alone, alone + n, n * sizeof *alone) != 0);
	encoder_free(e);
	for (uint32_t p = 0; ops_at(p); p++) {
		e = make_encoder(f.g, ops_at(p), 1 + p);
		encoder_step(e, texts, N_TEXTS, together);
		ck_assert_msg(memcmp(alone, together, N_TEXTS * n * sizeof *alone) == 0,
			"%s, %s, all together", ops_at(p)->name,
			tensor_type_info(shape.type)->name);
		encoder_step(e, texts + 2, 3, together); /* after something else */
		ck_assert_mem_eq(alone + 2 * n, together, 3 * n * sizeof *alone);
		encoder_step(e, texts + 4, 1, together);
		ck_assert_mem_eq(alone + 4 * n, together, n * sizeof *alone);
		encoder_free(e);
	}
	free(alone);
	free(together);
	free_file(&f);
}
END_TEST

START_TEST(model_that_tells_no_kinds_of_text_apart_is_taken)
{
	struct tiny_bert shape = shapes[0];
	shape.no_kinds = true;
	struct file f = make_file(&shape);

	encoder_free(make_encoder(f.g, ops_at(0), 1));
	free_file(&f);
}
END_TEST

/* ---- files that lie ---- */

static const struct {
	struct tiny_bert shape;
	int status;
	const char *says;
} lies[] = {
	{{.left_out = "token_embd.weight"}, -EBADMSG, "token_embd.weight"},
	{{.left_out = "position_embd.weight"}, -EBADMSG, "position_embd.weight is missing"},
	{{.left_out = "token_types.weight"}, -EBADMSG, "token_types.weight"},
	{{.left_out = "blk.1.attn_k.bias"}, -EBADMSG, "blk.1.attn_k.bias is missing"},
	{{.left_out = "blk.0.layer_output_norm.weight"}, -EBADMSG, "is missing"},
	{{.bent = "position_embd.weight"}, -EBADMSG, "64 x 49, where"},
	{{.bent = "token_embd_norm.bias"}, -EBADMSG, "65 x 1, where"},
	{{.bent = "blk.0.attn_q.weight"}, -EBADMSG, "64 x 65, where"},
	{{.bent = "blk.1.ffn_down.weight"}, -EBADMSG, "128 x 65, where"},
	{{.bent = "blk.1.ffn_up.bias"}, -EBADMSG, "129 x 1, where"},
	{{.unknown = "cls.weight"}, -ENOTSUP, "cls.weight is not part of a bert"},
	{{.unknown = "blk.2.attn_q.bias"}, -ENOTSUP, "blk.2.attn_q.bias is not part"},
	{{.no_sizes = true}, -EBADMSG, "does not say bert.embedding_length"},
	{{.pooling = 3}, -ENOTSUP, "bert.pooling_type 3"},
	{{.n_heads = 5}, -EBADMSG, "64 dimensions cannot be shared by 5 heads"},
	{{.n_heads = 64}, -EBADMSG, "64 dimensions cannot be shared by 64 heads"},
	{{.context_tok = 2}, -EBADMSG, "2 tokens holds no text"},
};

#define N_LIES ((int)(sizeof lies / sizeof lies[0]))

START_TEST(file_that_lies_is_refused_with_a_sentence)
{
	struct file f = make_file(&lies[_i].shape);
	struct encoder_options o = {.n_threads = 1, .max_rows = 64, .max_texts = 4};
	struct encoder *e = NULL;
	int r = encoder_new(&e, f.g, &o, &err);

	ck_assert_int_eq(r, lies[_i].status);
	ck_assert_ptr_null(e);
	ck_assert_msg(strstr(err.text, lies[_i].says) != NULL, "%s", err.text);
	free_file(&f);
}
END_TEST

START_TEST(unknown_path_and_empty_sizes_are_refused)
{
	struct file f = make_file(&shapes[0]);
	struct encoder_options o = {
		.n_threads = 1, .max_rows = 64, .max_texts = 4, .cpu_path = "sse9"};
	struct encoder *e = NULL;

	ck_assert_int_eq(encoder_new(&e, f.g, &o, &err), -EINVAL);
	o.cpu_path = NULL;
	o.max_texts = 0;
	ck_assert_int_eq(encoder_new(&e, f.g, &o, &err), -EINVAL);
	free_file(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("encoder");
	TCase *t = tcase_create("encoder");

	for (int i = 0; i < N_SHAPES * N_TYPES; i++) {
		if (!fits(&shapes[i / N_TYPES], types[i % N_TYPES]))
			continue;
		tcase_add_loop_test(t, vectors_are_those_of_plain_arithmetic, i, i + 1);
		tcase_add_loop_test(t, every_path_and_batch_gives_the_same_bits, i, i + 1);
	}
	tcase_add_test(t, model_that_tells_no_kinds_of_text_apart_is_taken);
	tcase_add_loop_test(t, file_that_lies_is_refused_with_a_sentence, 0, N_LIES);
	tcase_add_test(t, unknown_path_and_empty_sizes_are_refused);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
