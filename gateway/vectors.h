/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_VECTORS_H
#define GATEWAY_VECTORS_H

/*
 * Nearest neighbours by cosine among unit vectors, each in a scope: a search sees one scope only,
 * and does not touch the vectors of others. Answers are exact: what is found, and its score, is
 * what comparing with every vector in float32 would have given, in the same order.
 *
 * Not locked: searches may run side by side while nobody adds or removes.
 */

#include <stddef.h>
#include <stdint.h>

struct vectors;

struct vectors_hit {
	uint64_t id;
	float score; /* the cosine, summed in float32 */
};

struct vectors_stats {
	size_t n, n_scopes;
	size_t bytes; /* allocated, without what malloc adds */
};

#define VECTORS_MAX 1000000u /* entries; 2 kB each at 384 numbers */
#define VECTORS_DIM_MAX 4096u

/* new; NULL when memory is out, or dim is not 1 to VECTORS_DIM_MAX. Never more than n_max entries
 * (<= VECTORS_MAX) nor more than bytes_max bytes are kept. */
struct vectors *vectors_new(uint32_t dim, size_t n_max, size_t bytes_max);
struct vectors *vectors_free(struct vectors *v); /* accepts NULL, returns NULL */

/* vector: [dim], copied. 0; -EEXIST: the id is there, in whatever scope; -EINVAL: a number that is
 * not finite, or a length that is not 1 within 0.001; -ENOSPC: a ceiling is reached: remove
 * something (who was used least recently is known to the caller); -ENOMEM. On failure nothing was
 * added. */
int vectors_add(struct vectors *v, uint64_t scope, uint64_t id, const float *vector);
/* 0 or -ENOENT. O(dim), and O(1) in the number of entries. */
int vectors_remove(struct vectors *v, uint64_t id);

/* The k best of the scope with a score of at least min_score into hits[k], best first, of equal
 * scores the smaller id first; how many there were. k == 0 or a query with a number that is not
 * finite finds nothing. The higher min_score, the faster: from about 0.8, at most a
 * third of most vectors is read, in eight bits; see sketch.c. */
size_t vectors_search(const struct vectors *v, uint64_t scope, const float *query, float min_score,
	size_t k, struct vectors_hit *hits);

void vectors_count(const struct vectors *v, struct vectors_stats *stats);

#endif
