/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small vocabularies without training: the merges are the pairs of letters in the order of their
 * frequency in English, then triples.
 */
#include "tests/engine/tiny_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define N_CONTROL 3
#define TOKEN_BYTES 16
#define SPACE "\xe2\x96\x81"
#define FIRST_LETTER (3 + 256 + 2)

static const char *const control_text[N_CONTROL] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
static const char letters[] = "etaoinshrdlucmfwypvbgkqjxz";

static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + "
			     "'\\n' + message['content'] + "
			     "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
			     "'<|im_start|>assistant\\n' "
			     "}}{% endif %}";

struct table {
	char (*text)[TOKEN_BYTES];
	const char **texts;
	int32_t *types;
	float *scores;
};

static void table_init(struct table *t, size_t n)
{
	t->text = calloc(n, TOKEN_BYTES);
	t->texts = calloc(n, sizeof(*t->texts));
	t->types = calloc(n, sizeof(*t->types));
	t->scores = calloc(n, sizeof(*t->scores));
	if (!t->text || !t->texts || !t->types || !t->scores)
		exit(1);
	for (size_t i = 0; i < n; i++) {
		t->texts[i] = t->text[i];
		t->types[i] = 1;
	}
}

static void table_end(struct table *t)
{
	free(t->text);
	free(t->texts);
	free(t->types);
	free(t->scores);
}

/* The printable character that stands for a byte in byte-level vocabularies. */
static size_t byte_character(unsigned byte, char out[4])
{
	unsigned code = byte;

	if (byte <= 32)
		code = 256 + byte;
	else if (byte >= 127 && byte <= 160)
		code = 256 + 33 + (byte - 127);
	else if (byte == 173)
		code = 256 + 33 + 34;
	return utf8_encode(code, out);
}

/* Merge i: first all pairs of letters, then each pair with a third letter. */
static void merge_parts(uint32_t i, char left[3], char right[2])
{
	memset(left, 0, 3);
	memset(right, 0, 2);
	if (i < 26 * 26) {
		left[0] = letters[i / 26];
		right[0] = letters[i % 26];
	} else {
		i -= 26 * 26;
		left[0] = letters[i / 26 / 26 % 26];
		left[1] = letters[i / 26 % 26];
		right[0] = letters[i % 26];
	}
}

static void add_byte_level(struct gguf_writer *w, const char *pre, uint32_t n_tokens)
{
	uint32_t n_merges = n_tokens - 256 - N_CONTROL;
	struct table t;

	table_init(&t, n_tokens + n_merges);
	for (unsigned i = 0; i < 256; i++)
		byte_character(i, t.text[i]);
	for (uint32_t i = 0; i < n_merges; i++) {
		char left[3], right[2];

		merge_parts(i, left, right);
		snprintf(t.text[256 + i], TOKEN_BYTES, "%s%s", left, right);
		snprintf(t.text[n_tokens + i], TOKEN_BYTES, "%s %s", left, right);
	}
	for (uint32_t i = 0; i < N_CONTROL; i++) {
		t.texts[n_tokens - N_CONTROL + i] = control_text[i];
		t.types[n_tokens - N_CONTROL + i] = 3;
	}
	gguf_writer_add_string(w, "tokenizer.ggml.model", "gpt2");
	gguf_writer_add_string(w, "tokenizer.ggml.pre", pre);
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", t.texts, NULL, n_tokens);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", t.types, n_tokens);
	gguf_writer_add_strings(w, "tokenizer.ggml.merges", t.texts + n_tokens, NULL, n_merges);
	gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", n_tokens - 3);
	gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", n_tokens - 1);
	gguf_writer_add_bool(w, "tokenizer.ggml.add_bos_token", false);
	gguf_writer_add_string(w, "tokenizer.chat_template", chatml);
	table_end(&t);
}

static void add_sentencepiece(struct gguf_writer *w, uint32_t n_tokens)
{
	static const char *const first[] = {"<unk>", "<s>", "</s>"};
	static const int32_t first_types[] = {2, 3, 3};
	struct table t;

	table_init(&t, n_tokens);
	for (uint32_t i = 0; i < n_tokens; i++) {
		char left[3], right[2];

		t.scores[i] = -(float)i;
		if (i < 3) {
			t.texts[i] = first[i];
			t.types[i] = first_types[i];
		} else if (i < 3 + 256) {
			snprintf(t.text[i], TOKEN_BYTES, "<0x%02X>", i - 3);
			t.types[i] = 6;
		} else if (i == 3 + 256) {
			t.texts[i] = "<tool>";
			t.types[i] = 4;
		} else if (i == 3 + 257) {
			t.texts[i] = SPACE;
		} else if (i < FIRST_LETTER + 26) {
			t.text[i][0] = letters[i - FIRST_LETTER];
		} else { /* every other piece begins a word */
			merge_parts((i - FIRST_LETTER - 26) / 2, left, right);
			snprintf(t.text[i], TOKEN_BYTES, "%s%s%s", i % 2 ? SPACE : "", left, right);
		}
	}
	gguf_writer_add_string(w, "tokenizer.ggml.model", "llama");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", t.texts, NULL, n_tokens);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", t.types, n_tokens);
	gguf_writer_add_floats(w, "tokenizer.ggml.scores", t.scores, n_tokens);
	table_end(&t);
}

void tiny_vocab_add(struct gguf_writer *w, enum tiny_vocab_kind kind, uint32_t n_tokens)
{
	static const char *const pre[] = {
		[TINY_VOCAB_GPT2] = "gpt-2",
		[TINY_VOCAB_LLAMA3] = "llama-bpe",
		[TINY_VOCAB_TEKKEN] = "tekken",
		[TINY_VOCAB_SMOLLM] = "smollm",
	};

	if (kind == TINY_VOCAB_SENTENCEPIECE)
		add_sentencepiece(w, n_tokens);
	else
		add_byte_level(w, pre[kind], n_tokens);
}

unsigned char *tiny_vocab_file(enum tiny_vocab_kind kind, size_t *n)
{
	struct gguf_writer *w = gguf_writer_new();

	tiny_vocab_add(w, kind, 400);
	unsigned char *bytes = gguf_writer_bytes(w, n);
	gguf_writer_free(w);
	return bytes;
}
