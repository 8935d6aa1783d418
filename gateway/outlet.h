/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_OUTLET_H
#define GATEWAY_OUTLET_H

/*
 * The way of a text from a model to the readers of its answer: past the output rules, past the
 * judge, and not before the tokens are written down as spent. The loop's.
 */

#include "gateway/answer.h"
#include "gateway/guards.h"
#include "gateway/judge.h"

struct outlet;

struct outlet_job {
	struct gateway *g;
	struct answer *answer; /* borrowed until outlet_free, as the rest */
	struct text *prompt;
	struct guards_subject who;
	/* A verdict has come: outlet_step may go on. On the loop. */
	void (*wake)(void *arg);
	const struct judge_payer *payer; /* of the judge; static, or NULL */
	void *arg;                       /* of both */
};

/* new *out, with the rules and the judge that are in force now. -EPERM: the output guards are
 * closed; -ENOMEM. */
int outlet_new(struct outlet **out, const struct outlet_job *job, struct err *err);
/* What was not released never is. Accepts NULL, returns NULL. */
struct outlet *outlet_free(struct outlet *o);

/* More text; with it the model has produced tok tokens in all. Ignored once it has ended. */
void outlet_push(struct outlet *o, const char *text, size_t len, uint64_t tok);
/* The model's last word: it has produced tok tokens, which may be fewer than were counted while it
 * wrote. Also once the text has ended. */
void outlet_produced(struct outlet *o, uint64_t tok);
/* The text is complete (0), or breaks off here: what the rules held back of it and find clean is
 * shown, too. The first end counts; a guard's is one. */
void outlet_end(struct outlet *o, int code, const struct err *err);
/* Tokens up to so many are written down as spent: their text may be released. */
void outlet_cover(struct outlet *o, uint64_t tok);
/* They could not be written down: text that is held back for it never is released. It breaks off,
 * also where the text had ended before. */
void outlet_uncover(struct outlet *o, int code, const struct err *err);

/* Releases what may be. 1: there is more to come, or something is waited for; 0: it has ended and
 * everything that may be is released. */
int outlet_step(struct outlet *o);
/* Whether it has something to release, or has ended: what holds that up is waited for. */
bool outlet_waits(const struct outlet *o);
/* Of the rules and the judge that it was made with: guards_fingerprint. */
uint64_t outlet_guards(const struct outlet *o);
/* Whether it had a fate of its own: a judge had the text replaced, or gave no verdict and it passed
 * all the same. Another one with this text may have another. */
bool outlet_is_makeshift(const struct outlet *o);
/* Whether it has ended: the model may stop. With the code and sentence of the end. */
bool outlet_ended(const struct outlet *o, int *code, struct err *err);

#endif
