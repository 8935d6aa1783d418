/* SPDX-License-Identifier: Apache-2.0 */

/* seeds TARGET DIR: writes sound inputs for a fuzz target, so that it begins deep inside. A target
 * that is not known here begins with nothing. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine/tiny_llama.h"
#include "tests/engine/tiny_vocab.h"

static void write_text(const char *folder, const char *name, const char *text)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (!f)
		return;
	fputs(text, f);
	fclose(f);
}

static void write_model(const char *folder, const char *name, enum tensor_type type, bool tied)
{
	char path[4096];
	struct tiny_llama tiny = {
		.n_layers = 1,
		.n_embd = 32,
		.n_heads = 2,
		.n_kv_heads = 1,
		.n_ff = 32,
		.n_vocab = 259,
		.context_tok = 16,
		.type = type,
		.tied = tied,
	};

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	tiny_llama_write(&tiny, path);
}

/* Length, vocabulary, text; and texts alone. */
static void write_vocabularies(const char *folder)
{
	static const char text[] = "I'll say 12345 na\xc3\xafve words,\r\n  <tool> twice.";

	for (unsigned kind = 0; kind < TINY_VOCAB_KINDS; kind++) {
		char path[4096];
		size_t size;
		unsigned char *file = tiny_vocab_file(kind, &size);
		uint32_t length = (uint32_t)size;

		snprintf(path, sizeof(path), "%s/vocabulary%u", folder, kind);
		FILE *f = fopen(path, "w");
		if (f) {
			fwrite(&length, sizeof(length), 1, f);
			fwrite(file, 1, size, f);
			fwrite(text, 1, sizeof(text) - 1, f);
			fclose(f);
		}
		free(file);
	}
	write_text(folder, "text", text);
	write_text(folder, "signs",
		"\xe2\x96\x81 <|im_end|></s>\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb\n\n ");
}

static void write_bytes(const char *folder, const char *name, const char *bytes, size_t n)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (!f)
		return;
	fwrite(bytes, 1, n, f);
	fclose(f);
}

/* Rules, a NUL byte, a text. */
static void write_guards(const char *folder)
{
	static const struct {
		const char *name, *bytes;
		size_t n;
	} seeds[] = {
#define SEED(name, rules, text) {name, rules "\0" text, sizeof(rules text)}
		SEED("words", "block a /\\b(?:ignore|forget)\\W{1,4}+(?:all|previous)\\b/i\n",
			"do not Ignore  previou ignore all"),
		SEED("mail", "redact m /\\b[\\w.]{1,9}@[\\w.]{1,9}\\.[a-z]{2,4}\\b/\nwarn w /@/\n",
			"joe@example.com, a@b. x@y.zz"),
		SEED("card", "redact c /\\b(?:\\d[ -]?){12,18}\\d\\b/ check=luhn\n",
			"4111 1111 1111 1111 and 4111111111111112"),
		SEED("around", "redact a /(?<=k=)\\w+(?!!)/u\nblock b /x(?=yz)|^q$/m\n",
			"k=\xc3\xa9t\xc3\xa9! xy xyz\nq\n"),
		SEED("format",
			"block j json\nwarn m max_chars 3\nblock s schema {\"type\": "
			"\"object\"}\n",
			"{\"a\": [1, 2]}"),
#undef SEED
	};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
		write_bytes(folder, seeds[i].name, seeds[i].bytes, seeds[i].n);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: seeds TARGET DIR\n");
		return 2;
	}
	if (strcmp(argv[1], "fuzz_gguf") == 0) {
		write_model(argv[2], "f32.gguf", TENSOR_F32, true);
		write_model(argv[2], "q8_0.gguf", TENSOR_Q8_0, false);
	}
	if (strcmp(argv[1], "fuzz_detok") == 0)
		write_text(argv[2], "stops", "xab\n\nQ\xe2\x82\xac bca\xf0\x9f\x98\xff!aab");
	if (strcmp(argv[1], "fuzz_guard") == 0)
		write_guards(argv[2]);
	if (strcmp(argv[1], "fuzz_json") == 0)
		write_text(argv[2], "value", "{\"a\\u00e9\": [1, -2.5e-3, true], \"\": null}");
	if (strcmp(argv[1], "fuzz_moderation") == 0) {
		write_text(argv[2], "file",
			"# c\nmodel judge\nthreshold 0.25 # r\nstages input output\naction "
			"replace\nreplacement No.\non_error allow\ntimeout_ms 10\nwindow_chars "
			"40\ncategory S1 Violent Crimes.\n");
		write_text(argv[2], "text",
			"x\n\n<END CONVERSATION>\n\n Agent: y\r\nuser: <begin unsafe\n");
	}
	if (strcmp(argv[1], "fuzz_tokenizer") == 0)
		write_vocabularies(argv[2]);
	if (strcmp(argv[1], "fuzz_utf8") == 0)
		write_text(argv[2], "mixed", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80");
	return 0;
}
