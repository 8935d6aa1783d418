/* SPDX-License-Identifier: Apache-2.0 */
/* A random encoder. Weights are uniform with the variance 1 / columns, as in tiny_llama.c. */
#include "tests/engine/tiny_bert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\xe2\x96\x81"
#define MAX_TOKENS 512

const char *const tiny_bert_words[] = {MARK "the", MARK "cat", MARK "sat", MARK "on", MARK "a",
	MARK "mat", MARK "walk", MARK "read", MARK "cafe", MARK "\xe4\xbd\xa0", MARK "42", "ing",
	"s", "ed", "able", NULL};

struct table {
	char text[MAX_TOKENS][16];
	const char *texts[MAX_TOKENS];
	int32_t types[MAX_TOKENS];
	uint32_t n;
};

static void add(struct table *t, const char *text, int32_t type)
{
	snprintf(t->text[t->n], sizeof(t->text[0]), "%s", text);
	t->texts[t->n] = t->text[t->n];
	t->types[t->n++] = type;
}

static struct table *make_table(void)
{
	static const char *const marks[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
	struct table *t = calloc(1, sizeof(*t));
	char text[16];

	if (!t)
		exit(1);
	for (size_t i = 0; i < 5; i++)
		add(t, marks[i], 3);
	for (size_t i = 0; tiny_bert_words[i]; i++)
		add(t, tiny_bert_words[i], 1);
	for (char c = 'b'; c <= 'z'; c++) {
		snprintf(text, sizeof(text), MARK "%c", c);
		add(t, text, 1);
		if (c != 's')
			add(t, text + 3, 1);
	}
	add(t, "a", 1);
	for (const char *c = ".,?!"; *c; c++) {
		snprintf(text, sizeof(text), MARK "%c", *c);
		add(t, text, 1);
	}
	return t;
}

uint32_t tiny_bert_id(const char *token)
{
	struct table *t = make_table();
	uint32_t i = 0;

	while (i < t->n && strcmp(t->texts[i], token) != 0)
		i++;
	if (i == t->n)
		abort();
	free(t);
	return i;
}

void tiny_bert_vocab(struct gguf_writer *w, uint32_t n_tokens)
{
	struct table *t = make_table();

	while (t->n < n_tokens)
		add(t, "[unused]", 1);
	gguf_writer_add_string(w, "tokenizer.ggml.model", "bert");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", t->texts, NULL, t->n);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", t->types, t->n);
	gguf_writer_add_u32(w, "tokenizer.ggml.token_type_count", 2);
	gguf_writer_add_u32(w, "tokenizer.ggml.unknown_token_id", TINY_BERT_UNK);
	gguf_writer_add_u32(w, "tokenizer.ggml.seperator_token_id", TINY_BERT_SEP);
	gguf_writer_add_u32(w, "tokenizer.ggml.padding_token_id", TINY_BERT_PAD);
	gguf_writer_add_u32(w, "tokenizer.ggml.cls_token_id", TINY_BERT_CLS);
	gguf_writer_add_u32(w, "tokenizer.ggml.mask_token_id", TINY_BERT_MASK);
	free(t);
}

/* ---- tensors ---- */

struct maker {
	struct gguf_writer *w;
	const struct tiny_bert *p;
	uint64_t state;
};

static float next_uniform(uint64_t *state) /* [-1, 1); splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (float)((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f;
}

/* rows 0: a vector. Values are mean + scale * [-1, 1). */
static void add_tensor(struct maker *m, const char *name, enum tensor_type type, uint64_t cols,
	uint64_t rows, float mean, float scale)
{
	bool is = m->p->bent && strcmp(m->p->bent, name) == 0;
	uint64_t dims[2] = {cols + (is && !rows), rows + is};
	size_t n = dims[0] * (rows ? dims[1] : 1), bytes;
	float *values;

	if (m->p->left_out && strcmp(m->p->left_out, name) == 0)
		return;
	values = malloc(n * sizeof(*values));
	if (!values)
		exit(1);
	for (size_t i = 0; i < n; i++)
		values[i] = mean + scale * next_uniform(&m->state);
	void *data = gguf_writer_quantise(type, values, n, &bytes);
	gguf_writer_add_tensor(m->w, name, type, rows ? 2 : 1, dims, data, bytes);
	free(data);
	free(values);
}

static void add_norm(struct maker *m, const char *prefix)
{
	char name[80];

	snprintf(name, sizeof(name), "%s.weight", prefix);
	add_tensor(m, name, TENSOR_F32, m->p->n_embd, 0, 1, 0.2f);
	snprintf(name, sizeof(name), "%s.bias", prefix);
	add_tensor(m, name, TENSOR_F32, m->p->n_embd, 0, 0, 0.2f);
}

static void add_matrix(struct maker *m, const char *prefix, uint32_t cols, uint32_t rows)
{
	char name[80];

	snprintf(name, sizeof(name), "%s.weight", prefix);
	add_tensor(m, name, m->p->type, cols, rows, 0, sqrtf(3.0f / (float)cols));
	snprintf(name, sizeof(name), "%s.bias", prefix);
	add_tensor(m, name, TENSOR_F32, rows, 0, 0, 0.2f);
}

static void add_layer(struct maker *m, uint32_t layer)
{
	uint32_t e = m->p->n_embd, f = m->p->n_ff;
	char name[64];

#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%u." suffix, layer), name)
	add_matrix(m, NAME("attn_q"), e, e);
	add_matrix(m, NAME("attn_k"), e, e);
	add_matrix(m, NAME("attn_v"), e, e);
	add_matrix(m, NAME("attn_output"), e, e);
	add_norm(m, NAME("attn_output_norm"));
	add_matrix(m, NAME("ffn_up"), e, f);
	add_matrix(m, NAME("ffn_down"), f, e);
	add_norm(m, NAME("layer_output_norm"));
#undef NAME
}

static void add_sizes(struct gguf_writer *w, const struct tiny_bert *p)
{
	gguf_writer_add_string(w, "general.architecture", "bert");
	gguf_writer_add_string(w, "general.name", "tiny encoder");
	gguf_writer_add_u32(w, "bert.block_count", p->n_layers);
	gguf_writer_add_u32(w, "bert.context_length", p->context_tok);
	if (!p->no_sizes)
		gguf_writer_add_u32(w, "bert.embedding_length", p->n_embd);
	gguf_writer_add_u32(w, "bert.feed_forward_length", p->n_ff);
	gguf_writer_add_u32(w, "bert.attention.head_count", p->n_heads);
	gguf_writer_add_f32(w, "bert.attention.layer_norm_epsilon", 1e-12f);
	gguf_writer_add_bool(w, "bert.attention.causal", false);
	gguf_writer_add_u32(w, "bert.pooling_type",
		p->pooling ? (uint32_t)p->pooling
		: p->cls   ? 2
			   : 1);
}

static struct gguf_writer *make(const struct tiny_bert *parameters)
{
	struct tiny_bert p = *parameters;
	struct maker m = {gguf_writer_new(), &p, p.seed};
	struct table *t = make_table();

	p.n_layers = p.n_layers ? p.n_layers : 2;
	p.n_embd = p.n_embd ? p.n_embd : 64;
	p.n_heads = p.n_heads ? p.n_heads : 4;
	p.n_ff = p.n_ff ? p.n_ff : 2 * p.n_embd;
	p.context_tok = p.context_tok ? p.context_tok : 48;
	add_sizes(m.w, &p);
	tiny_bert_vocab(m.w, p.n_tokens);
	add_tensor(&m, "token_embd.weight", p.type, p.n_embd, t->n, 0, 1);
	add_tensor(&m, "position_embd.weight", TENSOR_F32, p.n_embd, p.context_tok, 0, 0.5f);
	if (!p.no_kinds)
		add_tensor(&m, "token_types.weight", TENSOR_F32, p.n_embd, 2, 0, 0.5f);
	add_norm(&m, "token_embd_norm");
	for (uint32_t i = 0; i < p.n_layers; i++)
		add_layer(&m, i);
	if (p.no_kinds)
		add_tensor(&m, "token_types.weight", TENSOR_F32, p.n_embd, 2, 0, 0);
	if (p.unknown)
		add_tensor(&m, p.unknown, TENSOR_F32, p.n_embd, 0, 0, 1);
	free(t);
	return m.w;
}

void tiny_bert_write(const struct tiny_bert *parameters, const char *path)
{
	struct gguf_writer *w = make(parameters);

	gguf_writer_finish(w, path);
	gguf_writer_free(w);
}

unsigned char *tiny_bert_bytes(const struct tiny_bert *parameters, size_t *n)
{
	struct gguf_writer *w = make(parameters);
	unsigned char *bytes = gguf_writer_bytes(w, n);

	gguf_writer_free(w);
	return bytes;
}
