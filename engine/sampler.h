/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

/*
 * From a row of logits to a token. This is the definition of sampling; the device follows it
 * (engine/cuda/sample.h).
 *
 * First what was said already is held against the logits (sampler_adjust): the bias of a token is
 * added; if the token is in the prompt or in the answer, a logit > 0 is divided by the repetition
 * penalty and another is multiplied by it, as CTRL has it (arXiv 1909.05858); then comes off, if
 * it is c > 0 times in the answer, frequency * c + presence, as with OpenAI. From 32,767 times on c
 * counts as that. Then tokens may be banned by -INFINITY.
 *
 * Temperature 0 takes the greatest logit (of equals the lowest id). Otherwise, in this order: each
 * token's chance exp((logit - greatest) / temperature); the top_k greatest logits; of these the
 * fewest, greatest first, whose chances reach top_p of the sum, at least one; of these the ones
 * whose chance is at least min_p times that of the greatest; one is drawn, with the random number's
 * share of the sum in order of id. Ties are ordered by id. Chances, and what they mean to the
 * bit, are engine/chance.h's: integers, so that a token does not depend on how sums are made.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct sampler;

#define SAMPLER_NONE UINT32_MAX

/* new, with scratch memory for rows of n_vocab <= 2^24 logits; NULL when memory is out. */
struct sampler *sampler_new(uint32_t n_vocab);
/* Accepts NULL, returns NULL. */
struct sampler *sampler_free(struct sampler *s);

/* 0, or -EINVAL with what is allowed. */
int sampler_check(const struct engine_sampling *how, struct err *err);
int sampler_check_bias(const struct engine_bias *bias, size_t n, uint32_t n_vocab, struct err *err);

/* What sampler_adjust looks at beside the settings. */
struct sampler_history {
	const uint32_t *ids; /* [n_tok] < n_vocab: the prompt, then the answer so far */
	uint32_t n_prompt, n_tok;
	const struct engine_bias *bias; /* [n_bias], as sampler_check_bias wants it */
	size_t n_bias;
};

/* Changes the logits by biases and penalties. O(n_bias) without penalties, else O(n_tok). */
void sampler_adjust(struct sampler *s, float *logits, const struct engine_sampling *how,
	const struct sampler_history *history);

/*
 * The token at `position` of its sequence. Depends on the logits, `how` and the position only: the
 * random number is a function of (how->seed, position). Tokens with logit -INFINITY or NaN are
 * never taken; SAMPLER_NONE when there is no other. O(n_vocab), no full sort. Penalties in `how`
 * are sampler_adjust's affair.
 */
uint32_t sampler_pick(struct sampler *s, const float *logits, const struct engine_sampling *how,
	uint64_t position);

/* The number in [0, 1) that sampler_pick draws with, to 53 bits. */
double sampler_random(uint64_t seed, uint64_t position);

/* ---- what a row says beside its token ---- */

struct sampler_asked {
	uint32_t n_top;             /* the most likely tokens, at most ENGINE_LOGPROBS_MAX */
	uint32_t n_candidates;      /* at most ENGINE_CANDIDATES_MAX */
	const uint32_t *candidates; /* [n_candidates] ids < n_vocab */
};

/* What makes a probability at temperature 1 of a logit. */
struct sampler_mass {
	uint64_t total; /* of the chances of all tokens; 0: no logit is finite, or one is INFINITY,
			   so that there are no probabilities */
	float best;     /* the greatest logit; -INFINITY: all are that or NaN */
};

/* Of the logits as the model gave them, before biases, penalties and bans. Numbers beyond what was
 * asked for mean nothing. */
struct sampler_facts {
	struct sampler_mass mass;
	uint32_t best_id; /* of equals the lowest; SAMPLER_NONE: there is none */
	float picked;     /* logit of the picked token, if one was */
	uint32_t n_top;   /* fewer than asked for only when the others are -INFINITY or NaN */
	uint32_t top_ids[ENGINE_LOGPROBS_MAX]; /* greatest logit first, of equals the lower id */
	float top[ENGINE_LOGPROBS_MAX];        /* their logits */
	float candidates[ENGINE_CANDIDATES_MAX];
};

/* All of it but `picked`: the caller's affair, -INFINITY until then. */
void sampler_look(struct sampler *s, const float *logits, const struct sampler_asked *asked,
	struct sampler_facts *facts);

/* Of a mass with total > 0: the natural logarithm of the probability of a token with this logit,
 * -INFINITY for NaN, error below 1e-6 + 1e-7 * its magnitude; and the probability itself, 0 for
 * NaN, relative error below 1e-6. */
float sampler_logprob(const struct sampler_mass *mass, float logit);
float sampler_share(const struct sampler_mass *mass, float logit);

/* A copy of the row, as it is before it is changed; borrowed until the next copy. */
const float *sampler_copy(struct sampler *s, const float *logits);

/* The greatest logit's id, of equals the lowest; SAMPLER_NONE when all are -INFINITY or NaN. */
uint32_t sampler_greatest(const float *logits, uint32_t n);

#endif
