/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CHANNELS_H
#define GATEWAY_CHANNELS_H

/* What channels other than `ask` answer: guards/test, router/explain, cache/lookup,
 * models/NAME/embed. */

#include "gateway/request.h"

/* One that only looks: no model answers, nothing is charged but a ticket, nothing is counted or
 * audited. */
bool channels_is_dry(enum gateway_channel channel);

/* On the loop. The request is answered with JSON, now or later:
 *	GATEWAY_EMBED    [0.0123, ...]: unit length
 *	GATEWAY_EXPLAIN  router_decision_json
 *	GATEWAY_LOOKUP   cache_lookup
 *	GATEWAY_GUARD_TEST  verdict.h */
void channels_begin(struct request *r);
/* STAGE_CHANNEL, when there is news. */
void channels_advance(struct request *r, const struct request_news *box);

#endif
