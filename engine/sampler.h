/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

/*
 * From a row of logits to a token. Temperature 0 takes the greatest logit (of equals the lowest
 * id). Otherwise, in this order: softmax of logit / temperature; the top_k most likely; of these
 * the smallest set of most likely ones whose share reaches top_p, at least one; of these the ones
 * at least min_p times as likely as the most likely; one is drawn. Ties are ordered by id.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct sampler;

#define SAMPLER_NONE UINT32_MAX

/* new, with scratch memory for rows of n_vocab logits; NULL when memory is out. */
struct sampler *sampler_new(uint32_t n_vocab);
/* Accepts NULL, returns NULL. */
struct sampler *sampler_free(struct sampler *s);

/* 0, or -EINVAL with what is allowed. */
int sampler_check(const struct engine_sampling *how, struct err *err);

/*
 * The token at `position` of its sequence. Depends on the logits, `how` and the position only: the
 * random number is a function of (how->seed, position). Tokens with logit -INFINITY or NaN are
 * never taken; SAMPLER_NONE when there is no other. O(n_vocab), no full sort.
 */
uint32_t sampler_pick(struct sampler *s, const float *logits, const struct engine_sampling *how,
	uint64_t position);

/* The number in [0, 1) that sampler_pick draws with. */
double sampler_random(uint64_t seed, uint64_t position);

/* p[n]: what the softmax of all logits at temperature 1 gives the tokens ids[n]. Summed in one
 * order, so the same row gives the same numbers; relative error below 1e-6. False, and p untouched:
 * no logit is finite. */
bool sampler_probabilities(
	struct sampler *s, const float *logits, const uint32_t *ids, size_t n, float *p);

/* n_vocab. */
uint32_t sampler_size(const struct sampler *s);

/* The greatest logit's id, of equals the lowest; SAMPLER_NONE when all are -INFINITY or NaN. */
uint32_t sampler_greatest(const float *logits, uint32_t n);

#endif
