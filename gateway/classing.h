/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CLASSING_H
#define GATEWAY_CLASSING_H

/* STAGE_CLASS of a request: the model of router/classifier_model, if there is one, says how much
 * the prompt asks. On the loop. */

#include "gateway/request.h"

/* Where routing_wants_class. False: there is nothing to wait for, and r->opinion is what is known
 * (NULL: no model is set). True: the model is being asked, and go_on(r) comes on the loop, unless
 * the request is over by then; it calls this again, which is then false. */
bool classing_begin(struct request *r, void (*go_on)(struct request *r));
/* Forgets what was asked and said: no text of it is kept with a request that is over. */
void classing_leave(struct request *r);

#endif
