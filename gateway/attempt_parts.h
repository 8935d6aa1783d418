/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ATTEMPT_PARTS_H
#define GATEWAY_ATTEMPT_PARTS_H

/* What the files named attempt_* share. On the loop. */

#include "gateway/attempt.h"
#include "gateway/provider.h"

/* Whether an end of that kind is none of the request's own: another model may do better. */
bool attempt_may_go_on(int code);

/* The place in the model's gate, if it has one, is another's. */
void attempt_leave_gate(struct request *r);

/* attempt_ask.c: asks the provider of the loaded model. Takes a reference for its events; the
 * caller puts it when this fails. 0, or as provider->submit. */
int attempt_ask(struct request *r, const struct provider_prompt *prompt, struct err *err);

/* attempt_text.c: */
/* The way of the text to the readers, r->outlet. As outlet_new. */
int attempt_open_outlet(struct request *r, struct err *err);
/* News in STAGE_GENERATE: text goes on, the end is the request's or another model's affair. */
void attempt_text_came(struct request *r, const struct request_news *box);

#endif
