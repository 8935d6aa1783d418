/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_TRUNCATE_H
#define GATEWAY_TRUNCATE_H

/* What of a conversation is sent to a model whose context is too short for all of it. */

#include "gateway/provider.h"

enum truncate_mode { TRUNCATE_OLDEST_TURNS, TRUNCATE_MIDDLE, TRUNCATE_OFF };

struct truncate_turn {
	struct text *user, *assistant; /* assistant: NULL in the last turn, else may be empty */
};

struct truncate_job {
	const struct text *system; /* NULL: none */
	const struct truncate_turn *turns;
	size_t n; /* >= 1; the last is the new prompt */
	enum truncate_mode mode;
	uint64_t max_tokens;
	uint64_t budget_tok; /* the prompt with its history takes no more; 0: as much as fits */
	size_t head, first;  /* in: the window of last time; out: turns [0, head) and [first, n) */
};

/*
 * Renders as many turns as fit, with room for an answer: min(max_tokens, a quarter of the context).
 * The new prompt alone needs room for one token only. A window that still fits stays as it is, so
 * that its prefix is found in the KV cache; one that does not is moved so far that the prompt takes
 * three quarters of what it may, so that it is moved seldom. budget_tok limits the history, never
 * the new prompt. Long for long text. new *out. -EMSGSIZE: does not fit (mode off), or the new
 * prompt alone does not; those of the provider.
 */
int truncate_render(const struct provider *provider, void *handle, struct truncate_job *job,
	struct provider_prompt *out, struct err *err);

#endif
