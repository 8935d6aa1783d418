/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHING_H
#define GATEWAY_CACHING_H

/* STAGE_CACHE and STAGE_FOLLOW of a request: its way through the cache. On the loop. */

#include "gateway/request.h"

/* Looks whether the answer is there already, or under way; else routing_begin. */
void caching_begin(struct request *r);
/* In STAGE_FOLLOW: takes what the leader has by now. */
void caching_follow(struct request *r);
/* The answer is complete: it may be stored. */
void caching_land(struct request *r, const char *finish);
/* Its outlet is there: when that has other guards than the key, the answer is nobody else's. Before
 * any text is released. */
void caching_check_guards(struct request *r);
/* It is over: lets go of what is left. */
void caching_leave(struct request *r);

#endif
