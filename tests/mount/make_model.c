/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the random models of the mount tests: make_model OUT [small|short]. The usual one is slow
 * enough (a thousand tokens a second or so) for a person's "while it answers" to exist; the small
 * one is for daemons that a sanitizer slows down already. Both have room for a long conversation;
 * the short one is full after 512 tokens.
 */
#include <stdio.h>
#include <string.h>

#include "tests/engine/tiny_llama.h"

int main(int argc, char **argv)
{
	struct tiny_llama usual = {.n_layers = 4,
		.n_embd = 384,
		.n_heads = 6,
		.n_kv_heads = 2,
		.n_ff = 1024,
		.context_tok = 32768,
		.seed = 1};
	struct tiny_llama small = {.n_layers = 2,
		.n_embd = 64,
		.n_heads = 4,
		.n_kv_heads = 2,
		.context_tok = 32768,
		.seed = 1};

	struct tiny_llama shorter = {.context_tok = 512, .seed = 2};
	const char *which = argc > 2 ? argv[2] : "";

	if (argc < 2) {
		fprintf(stderr, "usage: make_model OUT [small|short]\n");
		return 2;
	}
	if (!strcmp(which, "short"))
		tiny_llama_write(&shorter, argv[1]);
	else
		tiny_llama_write(!strcmp(which, "small") ? &small : &usual, argv[1]);
	return 0;
}
