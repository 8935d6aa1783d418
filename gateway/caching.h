/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHING_H
#define GATEWAY_CACHING_H

/* STAGE_CACHE and STAGE_FOLLOW of a request: its way through the cache. On the loop. */

#include "gateway/request.h"

/* Looks whether the answer is there already, or under way; else routing_begin. */
void caching_begin(struct request *r);
/* Whether the cache has the answer to just this prompt, in that session as it stands, and would
 * give it: any thread, without locks. */
bool caching_knows(struct session *s, struct text *prompt, const char *user, uid_t uid);
/* Whether the next prompt of the session may be looked for by its meaning, as far as its settings
 * and its conversation say. With its lock held. */
bool caching_is_near(const struct session *s);
/* In STAGE_FOLLOW: takes what the leader has by now. */
void caching_follow(struct request *r);
/* The answer is complete: it may be stored. */
void caching_land(struct request *r, const char *finish);
/* Its outlet is there: when that has other guards than the key, the answer is nobody else's. Before
 * any text is released. */
void caching_check_guards(struct request *r);
/* It is over: lets go of what is left. */
void caching_leave(struct request *r);

/* Everything that can change the answer to a prompt in that session, as fields of a key: for
 * cache/lookup, too. 0, 1: such a request is not cached (why says why), -ENOMEM; *out is to be
 * ended by cache_ask_free, and borrows user and prompt. Without locks. */
int caching_ask(struct cache_ask *out, struct session *s, const struct settings *settings,
	struct text *prompt, const char *user, uid_t uid, uint64_t guards_age, struct err *why);

#endif
