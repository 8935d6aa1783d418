/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PAYING_H
#define GATEWAY_PAYING_H

/* The claim of a request under way: on the loop. */

#include "gateway/embedding.h"
#include "gateway/judge.h"
#include "gateway/request.h"
#include "gateway/route.h"

/* Of a zeroed request. */
void paying_init(struct request *r);

/* Something is going to work for it, if only a judge: its ticket is used, also when nothing comes
 * of it. */
void paying_start_ticket(struct request *r);
/* Nothing has to be computed: the ticket is used, and what was reserved beside it is free again. */
void paying_start_free(struct request *r);
/* The claim becomes what the request may cost at most with this model, now that its prompt is
 * rendered, and is started: prompt_tok tokens, of which there are never more than most_tok. 0;
 * -EDQUOT, -EBUSY: a late refusal. */
int paying_start(struct request *r, size_t prompt_tok, uint64_t most_tok, struct err *err);
/* The same for a text of which this model makes a vector: tok tokens at most, which are charged as
 * soon as it is asked, unless it says itself what it used. The vector may be shown once the store
 * has answered (paying_leased). */
int paying_start_embedding(struct request *r, struct model *m, uint64_t tok, struct err *err);
/* The judges of its texts are paid by its claim: of a request. */
extern const struct judge_payer paying_judges;
/* And the models that the router asks about it, which can be done without: not with what is set
 * aside for judges. The first that is asked uses the request's ticket. */
extern const struct judge_payer paying_opinions;
/* And so is the vector by which the cache looks for its prompt, when the model has a price. */
extern const struct embedding_payer paying_lookups;
/* This model has had its part, as attempt_usage says; another is to be tried. status: what came of
 * it, for the ledger. */
void paying_next(struct request *r, const char *status);
/* What this model has had by now. With the session's lock held. */
struct route_took paying_took(const struct request *r);
/* Has what was produced written down, where it is not yet. Not earlier: a crash charges what is
 * leased, and the text waits until the loop has done what it has to do now, or, where the store has
 * no journal, as long as one of its writes takes. */
void paying_lease(struct request *r);
/* The store has answered. An outlet is told. */
void paying_leased(struct request *r, const struct request_news *box);
/* Why not, when its status was bad. */
void paying_why_not_leased(struct request *r, struct err *err);

#endif
