/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a llama of a given shape and type with random weights, as fast as the disk takes it: for
 * benchmarks, which need a model's size and not its sense. Blocks get random integers and one fixed
 * scale, floats a random sign and fraction and one fixed exponent, so that activations keep about
 * their size from layer to layer. The vocabulary is byte-level: 256 bytes, fillers, and the three
 * control tokens of ChatML at the end; any text can be said to it. The same arguments give the same
 * file.
 *
 * usage: random-gguf SHAPE TYPE FILE   SHAPE: tiny 15m 135m 1.1b 1b 8b
 *                                      TYPE: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1
 *                                            (from 1.1b) Q4_K Q5_K Q6_K
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "engine/gguf.h"
#include "engine/quant.h"

#define ALIGNMENT 32
#define CHUNK_VALUES (1 << 16)

struct shape {
	const char *name;
	uint32_t n_layers, n_embd, n_heads, n_kv_heads, n_ff, n_vocab, context_tok;
	bool tied;
};

static const struct shape shapes[] = {
	{"tiny", 2, 64, 4, 2, 256, 512, 2048, true}, /* to try whether something works */
	{"15m", 6, 288, 6, 6, 768, 32000, 2048, true},
	{"135m", 30, 576, 9, 3, 1536, 49152, 2048, true},
	{"1.1b", 22, 2048, 32, 4, 5632, 32000, 2048, false},
	{"1b", 16, 2048, 32, 8, 8192, 128256, 16384, true}, /* of Llama 3.2 and 3.1: for GPUs */
	{"8b", 32, 4096, 32, 8, 14336, 128256, 16384, false},
};

static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0,
	TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};

struct writer {
	FILE *file;
	uint64_t state; /* of the generator */
	uint64_t at;    /* where the next tensor's data begins */
	uint64_t n_pairs, n_tensors;
	bool counting; /* the first pass writes nothing and counts */
};

struct tensor {
	char name[64];
	enum tensor_type type;
	uint32_t n_dims;
	uint64_t cols, rows;
};

static uint64_t next_random(struct writer *w) /* xorshift64* */
{
	w->state ^= w->state >> 12;
	w->state ^= w->state << 25;
	w->state ^= w->state >> 27;
	return w->state * 0x2545f4914f6cdd1du;
}

static void put(struct writer *w, const void *bytes, size_t n)
{
	if (!w->counting)
		fwrite(bytes, 1, n, w->file);
}

static void put_u32(struct writer *w, uint32_t v)
{
	put(w, &v, sizeof v);
}

static void put_u64(struct writer *w, uint64_t v)
{
	put(w, &v, sizeof v);
}

static void put_text(struct writer *w, const char *text)
{
	put_u64(w, strlen(text));
	put(w, text, strlen(text));
}

/* The numbers of the format: 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array. */
static void put_key(struct writer *w, const char *key, uint32_t type)
{
	w->n_pairs += w->counting;
	put_text(w, key);
	put_u32(w, type);
}

static void put_number(struct writer *w, const char *key, uint32_t value)
{
	put_key(w, key, 4);
	put_u32(w, value);
}

static void put_string(struct writer *w, const char *key, const char *value)
{
	put_key(w, key, 8);
	put_text(w, value);
}

static void put_array(struct writer *w, const char *key, uint32_t type, uint64_t n)
{
	put_key(w, key, 9);
	put_u32(w, type);
	put_u64(w, n);
}

/* The printable character that stands for a byte in byte-level vocabularies. */
static void byte_text(uint32_t byte, char out[8])
{
	uint32_t code = byte;

	if (byte <= 32)
		code = 256 + byte;
	else if (byte >= 127 && byte <= 160)
		code = 256 + 33 + (byte - 127);
	else if (byte == 173)
		code = 256 + 33 + 34;
	out[utf8_encode(code, out)] = '\0';
}

static void put_token(struct writer *w, uint32_t id, uint32_t n_vocab)
{
	static const char *const control[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
	char text[32];

	if (id >= n_vocab - 3)
		snprintf(text, sizeof text, "%s", control[id - (n_vocab - 3)]);
	else if (id == 256)
		snprintf(text, sizeof text, "er"); /* the one merge joins to it */
	else if (id > 256)
		snprintf(text, sizeof text, "filler%u", id);
	else
		byte_text(id, text);
	put_text(w, text);
}

static void put_vocabulary(struct writer *w, uint32_t n)
{
	put_string(w, "tokenizer.ggml.model", "gpt2");
	put_string(w, "tokenizer.ggml.pre", "gpt-2");
	put_array(w, "tokenizer.ggml.tokens", 8, n);
	for (uint32_t i = 0; i < n; i++)
		put_token(w, i, n);
	put_array(w, "tokenizer.ggml.token_type", 5, n);
	for (uint32_t i = 0; i < n; i++)
		put_u32(w, i < n - 3 ? 1 : 3);
	put_array(w, "tokenizer.ggml.merges", 8, 1);
	put_text(w, "e r");
	put_number(w, "tokenizer.ggml.bos_token_id", n - 3);
	put_number(w, "tokenizer.ggml.eos_token_id", n - 1);
	put_key(w, "tokenizer.ggml.add_bos_token", 7);
	put(w, "", 1);
	put_string(w, "tokenizer.chat_template",
		"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
		"message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
		"{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
}

static void put_metadata(struct writer *w, const struct shape *s)
{
	float epsilon = 1e-5f, base = 10000;

	put_string(w, "general.architecture", "llama");
	put_string(w, "general.name", s->name);
	put_number(w, "llama.block_count", s->n_layers);
	put_number(w, "llama.context_length", s->context_tok);
	put_number(w, "llama.embedding_length", s->n_embd);
	put_number(w, "llama.feed_forward_length", s->n_ff);
	put_number(w, "llama.attention.head_count", s->n_heads);
	put_number(w, "llama.attention.head_count_kv", s->n_kv_heads);
	put_number(w, "llama.vocab_size", s->n_vocab);
	put_key(w, "llama.attention.layer_norm_rms_epsilon", 6);
	put(w, &epsilon, sizeof epsilon);
	put_key(w, "llama.rope.freq_base", 6);
	put(w, &base, sizeof base);
	put_vocabulary(w, s->n_vocab);
}

/* ---- tensors ---- */

/* Row k of the table of tensors; false after the last. */
static bool tensor_at(const struct shape *s, enum tensor_type type, uint32_t k, struct tensor *t)
{
	uint32_t kv = s->n_embd / s->n_heads * s->n_kv_heads, e = s->n_embd, f = s->n_ff;
	const struct {
		const char *name;
		uint32_t cols, rows;
	} model[] = {{"token_embd", e, s->n_vocab}, {"output_norm", e, 0},
		{"output", e, s->n_vocab}},
	  layer[] = {{"attn_norm", e, 0}, {"attn_q", e, e}, {"attn_k", e, kv}, {"attn_v", e, kv},
		  {"attn_output", e, e}, {"ffn_norm", e, 0}, {"ffn_gate", e, f}, {"ffn_up", e, f},
		  {"ffn_down", f, e}};
	uint32_t n_model = s->tied ? 2 : 3, l = (k - n_model) / 9;

	if (k < n_model) {
		snprintf(t->name, sizeof t->name, "%s.weight", model[k].name);
		t->cols = model[k].cols;
		t->rows = model[k].rows;
	} else {
		k = (k - n_model) % 9;
		snprintf(t->name, sizeof t->name, "blk.%u.%s.weight", l, layer[k].name);
		t->cols = layer[k].cols;
		t->rows = layer[k].rows;
		if (l >= s->n_layers)
			return false;
	}
	t->n_dims = t->rows ? 2 : 1;
	t->type = t->rows ? type : TENSOR_F32;
	t->rows = t->rows ? t->rows : 1;
	return true;
}

static uint64_t tensor_bytes(const struct tensor *t)
{
	const struct tensor_type_info *info = tensor_type_info(t->type);

	return t->cols * t->rows / info->block_values * info->block_bytes;
}

static void put_description(struct writer *w, const struct tensor *t)
{
	put_text(w, t->name);
	put_u32(w, t->n_dims);
	put_u64(w, t->cols);
	if (t->n_dims == 2)
		put_u64(w, t->rows);
	put_u32(w, t->type);
	put_u64(w, w->at);
	w->at += (tensor_bytes(t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	w->n_tensors += w->counting;
}

/* Of random bits, but for the binary16 scale d, and the minimum that has the numbers about 0. */
static void random_quantised(struct writer *w, enum tensor_type type, uint16_t d, uint8_t *out)
{
	size_t bytes = tensor_type_info(type)->block_bytes;
	bool is_k = type == TENSOR_Q4_K || type == TENSOR_Q5_K;
	bool has_min = is_k || type == TENSOR_Q4_1 || type == TENSOR_Q5_1;
	float middle = type == TENSOR_Q4_K || type == TENSOR_Q4_1 ? 7.5f : 15.5f;
	uint16_t min = quant_f32_to_f16(quant_f16_to_f32(d) * (is_k ? middle : -middle));

	for (size_t i = 0; i < bytes; i += 2) { /* all sizes are even */
		uint64_t r = next_random(w) >> 48;
		memcpy(out + i, &r, 2);
	}
	memcpy(out + (type == TENSOR_Q6_K ? bytes - 2 : 0), &d, 2);
	if (has_min)
		memcpy(out + 2, &min, 2);
}

/* One block of the type, of random bits, about 1 / sqrt(cols) in size. */
static void random_block(struct writer *w, enum tensor_type type, uint64_t cols, uint8_t *out)
{
	uint32_t exponent = 127 - (uint32_t)ceil(log2(sqrt((double)cols)));
	/* Of a uniform integer of 8, 5 and 4 bits; of scale * q - min * (the middle of q), and
	 * scale * q, of the K types. */
	double deviation = type == TENSOR_Q8_0                          ? 73.3
			   : type == TENSOR_Q5_0 || type == TENSOR_Q5_1 ? 9.2
			   : type == TENSOR_Q4_K                        ? 257
			   : type == TENSOR_Q5_K                        ? 523
			   : type == TENSOR_Q6_K                        ? 1367
									: 4.6;
	uint32_t scale =
		(uint32_t)lrint(1024 * log2(1 / (deviation * sqrt((double)cols))) + 1024 * 15);
	uint64_t r = next_random(w);
	uint32_t word = (uint32_t)(r & 0x807fffff) | exponent << 23;
	uint16_t half = (uint16_t)((r & 0x83ff) | (exponent - 112) << 10), d = (uint16_t)scale;

	switch (type) {
	case TENSOR_F32:
		memcpy(out, &word, sizeof word);
		return;
	case TENSOR_F16:
		memcpy(out, &half, sizeof half);
		return;
	case TENSOR_BF16:
		memcpy(out, (char *)&word + 2, 2);
		return;
	case TENSOR_Q8_0:
	case TENSOR_Q4_0:
	case TENSOR_Q4_1:
	case TENSOR_Q5_0:
	case TENSOR_Q5_1:
	case TENSOR_Q4_K:
	case TENSOR_Q5_K:
	case TENSOR_Q6_K:
		random_quantised(w, type, d, out);
		return;
	}
}

/* Repeats a chunk of random blocks, begun anywhere in it, to the tensor's size: random enough, and
 * quick. */
static void put_data(struct writer *w, const struct tensor *t, uint8_t *chunk)
{
	const struct tensor_type_info *info = tensor_type_info(t->type);
	size_t n_blocks = CHUNK_VALUES / info->block_values;
	uint64_t left = tensor_bytes(t), padding = -left % ALIGNMENT;
	static const char zeros[ALIGNMENT];

	for (uint64_t i = 0; t->n_dims == 1 && i < t->cols; i++) {
		float one = 1;
		put(w, &one, sizeof one);
	}
	if (t->n_dims == 2) {
		for (size_t i = 0; i < n_blocks; i++)
			random_block(w, t->type, t->cols, chunk + i * info->block_bytes);
		while (left > 0) {
			size_t from = next_random(w) % n_blocks * info->block_bytes;
			size_t n = n_blocks * info->block_bytes - from;
			n = n < left ? n : (size_t)left;
			put(w, chunk + from, n);
			left -= n;
		}
	}
	put(w, zeros, (size_t)padding);
}

static void put_file(struct writer *w, const struct shape *s, enum tensor_type type)
{
	struct tensor t;
	static const char zeros[ALIGNMENT];

	put(w, "GGUF", 4);
	put_u32(w, 3);
	put_u64(w, w->n_tensors);
	put_u64(w, w->n_pairs);
	put_metadata(w, s);
	w->at = 0;
	for (uint32_t k = 0; tensor_at(s, type, k, &t); k++)
		put_description(w, &t);
	if (w->counting)
		return;
	put(w, zeros, (size_t)(-ftell(w->file) % ALIGNMENT + ALIGNMENT) % ALIGNMENT);
	uint8_t *chunk = malloc(CHUNK_VALUES * sizeof(float));
	for (uint32_t k = 0; chunk && tensor_at(s, type, k, &t); k++)
		put_data(w, &t, chunk);
	free(chunk);
}

static int usage(void)
{
	fputs("usage: random-gguf SHAPE TYPE FILE\n"
	      "SHAPE: tiny 15m 135m 1.1b 1b 8b   TYPE: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K "
	      "Q5_K "
	      "Q6_K\n",
		stderr);
	return 2;
}

int main(int argc, char **argv)
{
	const struct shape *shape = NULL;
	const enum tensor_type *type = NULL;

	if (argc != 4)
		return usage();
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		shape = strcmp(argv[1], shapes[i].name) == 0 ? &shapes[i] : shape;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		type = strcasecmp(argv[2], tensor_type_info(types[i])->name) == 0 ? &types[i]
										  : type;
	if (!shape || !type)
		return usage();
	struct writer w = {.state = 0x9e3779b97f4a7c15u, .counting = true};
	put_file(&w, shape, *type);
	w.counting = false;
	w.file = fopen(argv[3], "wb");
	if (w.file)
		put_file(&w, shape, *type);
	if (!w.file || ferror(w.file) || fclose(w.file) != 0) {
		fprintf(stderr, "random-gguf: %s: %s\n", argv[3], strerror(errno));
		return 1;
	}
	return 0;
}
