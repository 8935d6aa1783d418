/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ROUTING_H
#define GATEWAY_ROUTING_H

/*
 * Which models a request is tried on: a concrete one and its fallback, or those that the router
 * names for models/auto and models/cascade. On the loop.
 */

#include "gateway/request.h"
#include "gateway/router.h"

/* The route is laid, and its first model tried. */
void routing_begin(struct request *r);
/* The model could not (-errno): true, another one is tried. False: there is none. */
bool routing_failed(struct request *r, int code, const struct err *err);
/* The model has answered. */
void routing_answered(struct request *r);
/* In STAGE_NEXT: goes on, once nobody works for the last model any more. */
void routing_advance(struct request *r);

/* What the router would decide for a prompt; see router_decide. new *out. Any thread. */
int routing_decide(struct gateway *g, const struct router_ask *ask, struct router_decision **out,
	struct err *err);
/*
 * The same for that of a request, whose opinion is filled in, on the loop. 1: a model is asked
 * first for the class of the prompt, where one is named for that and it may change the decision;
 * then go_on(r) comes on the loop, unless the request is over by then, and calls this again. *out
 * is NULL.
 */
int routing_decide_for(struct request *r, struct router_ask *ask, void (*go_on)(struct request *r),
	struct router_decision **out, struct err *err);
/* Whether there is any model that models/auto could take: 0 or -EHOSTUNREACH. Any thread. */
int routing_check(struct gateway *g, struct err *err);
/* The prices of the cheapest of them. Any thread. */
void routing_price(struct gateway *g, struct money_price *out);

#endif
