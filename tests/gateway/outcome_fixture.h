/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_OUTCOME_FIXTURE_H
#define TESTS_GATEWAY_OUTCOME_FIXTURE_H

/* What came of a text that a stream of guards was fed in pieces, and that it must be the same
 * however the text is cut. */

#include "gateway/guard_parts.h"

extern uint64_t outcome_seed; /* of outcome_dice */

/* 0 to n - 1. */
unsigned outcome_dice(unsigned n);
/* A set of those rules. new. */
struct guard_set *outcome_rules(enum guard_stage stage, const char *text);

/* What came of a text. */
struct outcome {
	int r;
	struct buf out;
	struct guard_finding findings[64];
	size_t n, held;
};

/* Notes findings and what is held. */
void outcome_of(struct outcome *o, struct guard_stream *s);
/* Feeds pieces that end at cuts[]. */
void outcome_run(struct outcome *o, struct guard_set *set, const char *text, size_t n,
	const size_t *cuts, size_t n_cuts, bool end);
/* The sentence says how the pieces were. */
void outcome_must_agree(const struct outcome *a, const struct outcome *b, const char *rules,
	const char *text, size_t n, const char *how);
/* Whole, in two pieces at every byte, and in pieces at random. */
void outcome_every_split_agrees(
	struct guard_set *set, const char *rules, const char *text, size_t n);

struct long_outcome {
	int r;
	struct buf out;
	struct guard_finding *findings;
	size_t n;
};

/* Pieces of up to `most` bytes. */
void outcome_run_long(
	struct long_outcome *o, struct guard_set *set, const struct buf *text, unsigned most);
void outcome_free_long(struct long_outcome *o);

#endif
