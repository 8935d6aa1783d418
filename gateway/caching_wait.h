/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHING_WAIT_H
#define GATEWAY_CACHING_WAIT_H

/* A request that may be in the cache waits until its key is what it was when the answer was stored:
 * part of that is what was loaded of a model's file. On the loop, but for _init. */

#include "gateway/loop.h"
#include "gateway/model.h"

struct request;

struct caching_wait {
	struct model *model; /* that is waited for, a reference; NULL: none */
	struct model_user user;
	struct loop_timer timer; /* where another model may answer */
	struct loop_work work;
	int status; /* what was told; the model's lock guards it until work runs */
	struct err err;
	bool over;       /* it has been waited */
	bool is_bounded; /* the timer is armed */
};

void caching_wait_init(struct request *r);
/* True: it waits; caching_begin comes again, or the request ends with what the model said. False:
 * there is nothing to wait for. */
bool caching_wait_begin(struct request *r);
/* It is over, or waits no more. Harmless when it does not. */
void caching_wait_end(struct request *r);

#endif
