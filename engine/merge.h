/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MERGE_H
#define ENGINE_MERGE_H

/* Byte-pair merging of one word: the heart of both kinds of tokenizer. */

#include <stddef.h>
#include <stdint.h>

#define MERGE_NONE UINT32_MAX

struct merge_piece {
	uint32_t start, len; /* in the word's text */
	uint32_t id;         /* MERGE_NONE: not a token by itself */
};

/* The token that two neighbours make, or MERGE_NONE; *key tells its turn: the lowest goes first. */
typedef uint32_t merge_pair_fn(const void *arg, const struct merge_piece *left,
	const struct merge_piece *right, uint32_t *key);

/*
 * Joins neighbours, always the pair of the lowest key and of equals the leftmost, until no pair can
 * be joined. pieces[0..n) are one behind the other; what is left comes first in pieces, its number
 * is returned. O(n log n). -ENOMEM.
 */
long merge_word(struct merge_piece *pieces, size_t n, merge_pair_fn *pair, const void *arg);

#endif
