/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers of files that are written in memory, and what is said of their ids. */
#include "tests/engine/token_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct err token_err;

int token_load(struct gguf_writer *w, struct tokenizer **out)
{
	struct gguf *g = NULL;
	size_t n;
	unsigned char *bytes = gguf_writer_bytes(w, &n);

	token_err.text[0] = '\0';
	*out = NULL;
	int r = gguf_parse(&g, bytes, n, &token_err);
	if (r == 0)
		r = tokenizer_new(out, g, &token_err);
	gguf_free(g);
	free(bytes);
	gguf_writer_free(w);
	return r;
}

struct tokenizer *token_tiny(enum tiny_vocab_kind kind)
{
	size_t n;
	unsigned char *file = tiny_vocab_file(kind, &n);
	struct tokenizer *t;
	struct gguf *g;

	ck_assert_int_eq(gguf_parse(&g, file, n, &token_err), 0);
	ck_assert_int_eq(tokenizer_new(&t, g, &token_err), 0);
	gguf_free(g);
	free(file);
	return t;
}

struct token_list token_encode(const struct tokenizer *t, const char *text, size_t n, bool start)
{
	struct token_list ids = {0};

	ck_assert_int_eq(tokenizer_encode(t, text, n, start, &ids), 0);
	return ids;
}

void token_assert_round_trip(const struct tokenizer *t, const char *text, size_t n)
{
	struct token_list ids = token_encode(t, text, n, false);
	size_t at = 0, len;

	for (size_t i = 0; i < ids.n; i++) {
		const char *piece = tokenizer_text(t, ids.ids[i], &len);

		ck_assert(!tokenizer_is_control(t, ids.ids[i]));
		ck_assert_uint_le(len, tokenizer_max_bytes(t));
		ck_assert_uint_le(at + len, n);
		ck_assert_mem_eq(text + at, piece, len);
		at += len;
	}
	ck_assert_uint_eq(at, n);
	token_list_free(&ids);
}

void token_assert_ids(
	const struct tokenizer *t, const char *text, bool start, const uint32_t *want, size_t n)
{
	struct token_list ids = token_encode(t, text, strlen(text), start);

	ck_assert_uint_eq(ids.n, n);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_eq(ids.ids[i], want[i]);
	token_list_free(&ids);
}
