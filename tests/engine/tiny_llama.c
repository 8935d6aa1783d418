/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random llama. Weights are uniform with the variance 1 / columns, so activations keep their size
 * from layer to layer and logits differ enough for greedy answers to be stable.
 */
#include "tests/engine/tiny_llama.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/engine/gguf_writer.h"
#include "tests/engine/tiny_vocab.h"

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* [-1, 1) */
static float next_uniform(uint64_t *state)
{
	return (float)(next_random(state) >> 40) * 0x1p-23f - 1.0f;
}

static void add_matrix(struct gguf_writer *w, const char *name, enum tensor_type type,
	uint64_t columns, uint64_t rows, uint64_t *state)
{
	uint64_t dims[2] = {columns, rows};
	size_t n = columns * rows, bytes;
	float *values = malloc(n * sizeof(*values));
	float scale = sqrtf(3.0f / (float)columns);

	if (!values)
		exit(1);
	for (size_t i = 0; i < n; i++)
		values[i] = scale * next_uniform(state);
	void *data = gguf_writer_quantise(type, values, n, &bytes);
	gguf_writer_add_tensor(w, name, type, 2, dims, data, bytes);
	free(data);
	free(values);
}

static void add_norm(struct gguf_writer *w, const char *name, uint64_t n, uint64_t *state)
{
	float *values = malloc(n * sizeof(*values));

	if (!values)
		exit(1);
	for (size_t i = 0; i < n; i++)
		values[i] = 1.0f + 0.1f * next_uniform(state);
	gguf_writer_add_tensor(w, name, TENSOR_F32, 1, &n, values, n * sizeof(*values));
	free(values);
}

static void add_layer(
	struct gguf_writer *w, const struct tiny_llama *p, uint32_t layer, uint64_t *s)
{
	uint64_t kv = (uint64_t)p->n_embd / p->n_heads * p->n_kv_heads;
	enum tensor_type better = p->better ? p->better : p->type;
	char name[64];

#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%u." suffix ".weight", layer), name)
	add_norm(w, NAME("attn_norm"), p->n_embd, s);
	add_matrix(w, NAME("attn_q"), p->type, p->n_embd, p->n_embd, s);
	add_matrix(w, NAME("attn_k"), p->type, p->n_embd, kv, s);
	add_matrix(w, NAME("attn_v"), better, p->n_embd, kv, s);
	add_matrix(w, NAME("attn_output"), p->type, p->n_embd, p->n_embd, s);
	add_norm(w, NAME("ffn_norm"), p->n_embd, s);
	add_matrix(w, NAME("ffn_gate"), p->type, p->n_embd, p->n_ff, s);
	add_matrix(w, NAME("ffn_up"), p->type, p->n_embd, p->n_ff, s);
	add_matrix(w, NAME("ffn_down"), better, p->n_ff, p->n_embd, s);
#undef NAME
}

static void add_sizes(struct gguf_writer *w, const struct tiny_llama *p)
{
	gguf_writer_add_string(w, "general.architecture", "llama");
	gguf_writer_add_string(w, "general.name", "tiny");
	gguf_writer_add_u32(w, "llama.block_count", p->n_layers);
	gguf_writer_add_u32(w, "llama.context_length", p->context_tok);
	gguf_writer_add_u32(w, "llama.embedding_length", p->n_embd);
	gguf_writer_add_u32(w, "llama.feed_forward_length", p->n_ff);
	gguf_writer_add_u32(w, "llama.attention.head_count", p->n_heads);
	gguf_writer_add_u32(w, "llama.attention.head_count_kv", p->n_kv_heads);
	gguf_writer_add_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	gguf_writer_add_u32(w, "llama.rope.dimension_count", p->n_embd / p->n_heads);
	gguf_writer_add_f32(w, "llama.rope.freq_base", p->rope_base);
	gguf_writer_add_u32(w, "llama.vocab_size", p->n_vocab);
}

void tiny_llama_write(const struct tiny_llama *parameters, const char *path)
{
	struct gguf_writer *w = gguf_writer_new();
	struct tiny_llama p = *parameters;
	uint64_t state = p.seed;

	p.n_layers = p.n_layers ? p.n_layers : 2;
	p.n_embd = p.n_embd ? p.n_embd : 64;
	p.n_heads = p.n_heads ? p.n_heads : 4;
	p.n_kv_heads = p.n_kv_heads ? p.n_kv_heads : p.n_heads;
	p.n_ff = p.n_ff ? p.n_ff : 2 * p.n_embd;
	p.n_vocab = p.n_vocab ? p.n_vocab : 320;
	p.context_tok = p.context_tok ? p.context_tok : 2048;
	p.rope_base = p.rope_base > 0 ? p.rope_base : 10000.0f;

	add_sizes(w, &p);
	tiny_vocab_add(w, TINY_VOCAB_GPT2, p.n_vocab);
	add_matrix(w, "token_embd.weight", p.type, p.n_embd, p.n_vocab, &state);
	for (uint32_t i = 0; i < p.n_layers; i++)
		add_layer(w, &p, i, &state);
	add_norm(w, "output_norm.weight", p.n_embd, &state);
	if (!p.tied)
		add_matrix(w, "output.weight", p.better ? p.better : p.type, p.n_embd, p.n_vocab,
			&state);
	gguf_writer_finish(w, path);
	gguf_writer_free(w);
}

void tiny_llama_put_opening(const char *path, const char *opening)
{
	static const char header[] = "<|im_start|>system\n";
	static const char begins[] = "{% for message in messages %}"; /* tiny_vocab.c */
	char text[96];
	int n = snprintf(text, sizeof(text), "%s%.40s<|im_end|>", header, opening);
	int fd = open(path, O_RDWR);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		exit(1);
	char *file = malloc((size_t)st.st_size);
	if (!file || read(fd, file, (size_t)st.st_size) != st.st_size)
		exit(1);
	const char *at = memmem(file, (size_t)st.st_size, begins, strlen(begins));
	if (!at) /* it has one already */
		at = memmem(file, (size_t)st.st_size, header, strlen(header));
	if (!at || pwrite(fd, text, (size_t)n, at - file) != n)
		exit(1);
	close(fd);
	free(file);
}
