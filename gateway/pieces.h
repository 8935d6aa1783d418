/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PIECES_H
#define GATEWAY_PIECES_H

/*
 * What a judge is asked about one text, as prompts that fit its context.
 *
 * A text that fits is asked about whole. One that does not is cut into pieces that do, each of
 * which begins PIECES_OVERLAP bytes (or a quarter of a piece, if that is less) before the one
 * before it ends; all of it is in some piece, so length is no way around the judge. When an answer
 * is judged that does not fit together with its prompt, the prompt is only what the answer is
 * understood by: its end is kept, as much as a quarter of the room.
 */

#include "gateway/moderation.h"
#include "gateway/provider.h"

#define PIECES_OVERLAP 256

struct pieces {
	/* Set before the first pieces_next; borrowed. Valid UTF-8. */
	const struct moderation *moderation;
	enum guard_stage stage;
	const char *user, *agent; /* agent: of an output only */
	size_t user_len, agent_len;

	/* Of this file; zeroed. */
	size_t n, from, context_from; /* context_from: where the part of a cut prompt begins */
	size_t own_tok, room_tok;     /* what the form takes, and what it leaves for texts */
	size_t context_tok;           /* of these, what the part of a cut prompt takes */
	double bytes_per_tok;         /* the guess for the next piece */
	bool finished;
};

/* A text so long that its prompts are to be made off the loop. */
bool pieces_are_long(const struct pieces *p);

/* 0: the next prompt, new *out (free out->ids). 1: there is none any more. -EMSGSIZE: the judge's
 * context is too short for its own form; -ENOMEM and what the provider says. Long for long text. */
int pieces_next(struct pieces *p, const struct provider *provider, void *handle,
	struct provider_prompt *out, struct err *err);

#endif
