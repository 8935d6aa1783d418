/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_WORST_H
#define GATEWAY_WORST_H

/* What a request may cost at most: what its claim reserves. */

#include "gateway/book.h"
#include "gateway/guard.h"
#include "gateway/session.h"

/* While it is written: an estimate. The tokens of the conversation are those of the last answered
 * request; text that was not counted is taken as four bytes a token. To be embedded, prompt_tok is
 * what it is at most, and all. `l` is what is loaded of the
 * model, or NULL. With the session's lock held. */
void worst_estimate(struct book_worst *out, const struct session *s,
	const struct money_price *price, const struct loaded *l, size_t prompt_tok);
/* All of it, of a prompt of that session on that model: the estimate, judges, what the router asks,
 * and the vector by which the cache looks for it. Without locks. */
void worst_prompt(struct book_worst *out, struct session *s, struct model *m,
	const struct loaded *l, size_t prompt_bytes, size_t prompt_tok);
/* What judges of that stage may cost, when there are any: an estimate, like the first; they are
 * paid for exactly when they are asked. Of an answer: each window of it is judged with all before
 * it. Without locks. */
money worst_judges(
	struct gateway *g, enum guard_stage stage, size_t prompt_bytes, uint64_t output_tok);
/* What the models may cost that router/ names, asked for a request to that model: for the class of
 * its prompt, where the model is virtual, classifier_model says one and the class may change the
 * choice, and about an answer, where it is a cascade's. An estimate; it can be done without
 * (worst_claim). Without locks. */
money worst_router(struct gateway *g, struct model *m, size_t prompt_bytes, uint64_t output_tok);
/* Each alone, whatever the model. */
money worst_class(struct gateway *g, size_t prompt_bytes);
money worst_cascade(struct gateway *g, size_t prompt_bytes, uint64_t output_tok);
/* What the vector of such a prompt may cost, by which the cache looks for it, if it does. Without
 * locks. */
money worst_lookup(struct gateway *g, size_t prompt_bytes);
/* book_claim and book_claim_resize; where the vector, or what the router asks, cannot be paid
 * (-EDQUOT), without these. */
int worst_claim(struct book_claim **out, struct gateway *g, const char *user,
	const struct book_worst *worst, uint64_t *retry_ms, struct err *err);
int worst_resize(
	struct book_claim *c, const struct book_worst *worst, uint64_t *retry_ms, struct err *err);
/* When its prompt is tokens and room tokens are left of the context. */
void worst_exact(struct book_worst *out, const struct settings *settings,
	const struct money_price *price, uint64_t prompt_tok, uint64_t room_tok);

#endif
