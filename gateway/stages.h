/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STAGES_H
#define GATEWAY_STAGES_H

/* The machine that carries a request from its queue to its answer, and the ends that it can come
 * to. The stages themselves are prompt_judge, caching, channels, routing, attempt and paying. On
 * the loop, but for what says otherwise. */

#include "gateway/guards.h"
#include "gateway/request.h"

/* Of a zeroed request: what the machine posts and waits with. */
void stages_init(struct request *r);
/* Without locks: its turn has come. */
void stages_start(struct request *r);
/* Lets the machine look at its state and inbox. Any thread. */
void stages_post(struct request *r);

/* Its prompt may be answered: nobody judges, or the judge has nothing against it. */
void stages_judged(struct request *r);

bool stages_is_over(struct request *r);
struct guards_subject stages_subject(const struct request *r);

/* It ends: failed, cancelled or blocked, as the code says. */
void stages_fail(struct request *r, int code, const struct err *err);
/* It ends before a model saw it: it is no part of the conversation. */
void stages_refuse(struct request *r, int code, const struct err *err);
/* It ends with an answer that no model gave. */
void stages_answer(struct request *r, const char *text, size_t len);
/* w->done, with a reference of the request, once what was queued so far is stored: when the loop
 * has done what it has to do now, and for all who wait at once. */
void stages_after_store(struct request *r, struct store_waiter *w);
/* The answer is complete: the turn is settled and stored, and then its end is told. finish: static.
 */
void stages_store(struct request *r, const char *finish);

#endif
