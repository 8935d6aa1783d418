/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_MADE_EMBEDDING_H
#define TESTS_GATEWAY_MADE_EMBEDDING_H

/* Embeddings without a model: an angle for each text, those that are not known being opposite to
 * the first. The linker puts them in the place of embedding.c's (--wrap of embedding_begin and
 * embedding_cancel). */

#include <stdbool.h>
#include <stddef.h>

struct made_embedding {
	size_t dim;
	int refuse, status; /* of begin; of done */
	bool never;         /* done does not come */
	int begun, cancelled_early;
};

extern struct made_embedding made_embedding;

/* [made_embedding.dim], of unit length. */
void made_embedding_vector(const char *text, size_t len, float *vector);

#endif
