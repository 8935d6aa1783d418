/* SPDX-License-Identifier: Apache-2.0 */

/* seeds TARGET DIR: writes sound inputs for a fuzz target, so that it begins deep inside. A target
 * that is not known here begins with nothing. */

#include <stdio.h>
#include <string.h>

#include "tests/engine/tiny_llama.h"

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
	if (strcmp(argv[1], "fuzz_utf8") == 0)
		write_text(argv[2], "mixed", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80");
	return 0;
}
