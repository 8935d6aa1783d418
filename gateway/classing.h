/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CLASSING_H
#define GATEWAY_CLASSING_H

/* STAGE_CLASS of a request: the model of router/classifier_model, if there is one, says how much
 * the prompt asks. On the loop. */

#include "gateway/request.h"

/* Where the decision wants an opinion: what the model said of that very prompt a while ago. True:
 * that is known, and now r->opinion. */
bool classing_recall(struct request *r);
/* Where it is not. False: there is nothing to wait for, and r->opinion says why
 * (NULL: no model is set). True: the model is being asked, and go_on(r) comes on the loop, unless
 * the request is over by then; there the decision is made anew, with r->opinion. */
bool classing_begin(struct request *r, void (*go_on)(struct request *r));
/* Forgets what was asked and said: no text of it is kept with a request that is over. */
void classing_leave(struct request *r);

#endif
