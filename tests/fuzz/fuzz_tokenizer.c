/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two kinds of input. A u32 that fits, a vocabulary file of that length, and text: a vocabulary
 * that is accepted must take the text, with no id beyond it, no control token, and the same ids
 * when asked again. Anything else is text for the small built-in vocabularies, which moreover must
 * give it back. Conversations made of the text are rendered in every family.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/chat_opening.h"
#include "engine/tokenizer.h"
#include "tests/engine/gguf_writer.h"
#include "tests/engine/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void check_ids(const struct tokenizer *t, const struct token_list *ids)
{
	size_t len;

	for (size_t i = 0; i < ids->n; i++) {
		must(ids->ids[i] < tokenizer_size(t) && !tokenizer_is_control(t, ids->ids[i]));
		tokenizer_text(t, ids->ids[i], &len);
		must(len <= tokenizer_max_bytes(t));
	}
}

static void check_text(
	const struct tokenizer *t, const struct token_list *ids, const char *text, size_t n)
{
	size_t at = 0, len;

	for (size_t i = 0; i < ids->n; i++) {
		const char *piece = tokenizer_text(t, ids->ids[i], &len);

		must(len <= n - at && memcmp(text + at, piece, len) == 0);
		at += len;
	}
	must(at == n);
}

static void encode(const struct tokenizer *t, const char *text, size_t n, bool comes_back)
{
	struct token_list first = {0}, second = {0};

	must(tokenizer_encode(t, text, n, true, &first) == 0);
	check_ids(t, &first);
	must(tokenizer_encode(t, text, n, true, &second) == 0);
	must(first.n == second.n);
	must(first.n == 0 || memcmp(first.ids, second.ids, first.n * sizeof(*first.ids)) == 0);
	if (comes_back) {
		first.n = 0;
		must(tokenizer_encode(t, text, n, false, &first) == 0);
		check_text(t, &first, text, n);
	}
	token_list_free(&first);
	token_list_free(&second);
}

static void render(const struct tokenizer *t, const char *text, size_t n)
{
	static const char *const names[] = {
		"chatml", "llama2", "llama3", "mistral", "zephyr", "gemma", "plain"};
	struct engine_message messages[] = {
		{ENGINE_SYSTEM, text, n / 4},
		{ENGINE_USER, text, n},
		{ENGINE_ASSISTANT, text + n / 2, n - n / 2},
		{ENGINE_USER, text, n / 3},
	};
	const struct chat_family *f;
	struct err err;
	char *opening;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct token_list ids = {0};

		must(chat_family_find(&f, names[i], NULL, 0, &err) == 0);
		chat_render(f, t, messages, 4, n & 1, &ids, &err);
		token_list_free(&ids);
	}
	(void)chat_family_find(&f, NULL, text, n, &err);
	if (chat_opening_find(text, n, &opening, &err) == 0 && opening)
		must(utf8_valid_prefix(opening, strlen(opening)) == strlen(opening));
	free(opening);
}

static void use(const struct gguf *g, const char *text, size_t n)
{
	struct tokenizer *t = NULL;
	struct err err = {""};

	if (tokenizer_new(&t, g, &err)) {
		must(err.text[0] != '\0');
		return;
	}
	encode(t, text, n, false);
	render(t, text, n);
	tokenizer_free(t);
}

/* One of the built-in vocabularies, loaded once. */
static void use_built_in(unsigned kind, const char *text, size_t n)
{
	static struct tokenizer *loaded[TINY_VOCAB_KINDS];
	bool lossy = kind == TINY_VOCAB_SENTENCEPIECE && memmem(text, n, "\xe2\x96\x81", 3);

	if (!loaded[kind]) {
		struct err err;
		struct gguf *g;
		size_t size;
		unsigned char *file = tiny_vocab_file(kind, &size);

		must(gguf_parse(&g, file, size, &err) == 0);
		must(tokenizer_new(&loaded[kind], g, &err) == 0);
		gguf_free(g);
		free(file);
	}
	encode(loaded[kind], text, n, !lossy);
	render(loaded[kind], text, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gguf *g = NULL;
	struct err err;
	uint32_t size = 0;

	if (n >= sizeof(size))
		memcpy(&size, data, sizeof(size));
	if (n < sizeof(size) || size > n - sizeof(size)) {
		use_built_in(n > 0 ? data[0] % TINY_VOCAB_KINDS : 0, (const char *)data, n);
		return 0;
	}
	data += sizeof(size);
	n -= sizeof(size) + size;
	if (gguf_parse(&g, data, size, &err) == 0)
		use(g, (const char *)data + size, n);
	gguf_free(g);
	return 0;
}
