/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any bytes as the file of an encoder: refused with a sentence, or bound, and then it takes tokens,
 * and the vectors are of length 1 or all zeros.
 */

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/encoder.h"

#define MAX_ROWS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(int claim)
{
	if (!claim)
		abort();
}

static void check_vector(const float *v, uint32_t n)
{
	double length = 0;

	for (uint32_t i = 0; i < n; i++)
		length += (double)v[i] * (double)v[i];
	must(length == 0 || fabs(length - 1) < 1e-3);
}

static void encode(struct encoder *e)
{
	const struct encoder_config *c = encoder_config(e);
	uint32_t ids[MAX_ROWS],
		most = c->context_tok < MAX_ROWS / 2 ? c->context_tok : MAX_ROWS / 2;
	struct encoder_text texts[2] = {{ids, 3}, {ids + 3, most}};
	float *vectors = malloc(2 * c->n_embd * sizeof(*vectors));

	for (uint32_t i = 0; i < MAX_ROWS; i++)
		ids[i] = i * 7 % c->n_vocab;
	encoder_step(e, texts, 2, vectors);
	check_vector(vectors, c->n_embd);
	check_vector(vectors + c->n_embd, c->n_embd);
	free(vectors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct encoder_options o = {.n_threads = 1, .max_rows = MAX_ROWS, .max_texts = 2};
	struct gguf *g = NULL;
	struct encoder *e = NULL;
	struct err err = {""};

	if (gguf_parse(&g, data, n, &err) != 0)
		return 0;
	int r = encoder_new(&e, g, &o, &err);
	if (r == 0)
		encode(e);
	else
		must(err.text[0] != '\0' &&
			(r == -EBADMSG || r == -ENOTSUP || r == -ENOMEM || r == -EINVAL));
	encoder_free(e);
	gguf_free(g);
	return 0;
}
