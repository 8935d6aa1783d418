/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHING_KEY_H
#define GATEWAY_CACHING_KEY_H

/* Whether the cache is asked for the answer to a prompt, and by which key. */

#include "gateway/cache.h"
#include "gateway/request.h"

/* By its settings: only what is determined is cached, unless the session says that it may be any.
 */
bool caching_key_is_wanted(const struct settings *s);
/* Whether the next prompt of the session may be looked for by its meaning, as far as its settings
 * and its conversation say. With its lock held. */
bool caching_key_allows_near(const struct session *s);
/* Everything that can change the answer to a prompt in that session, as fields of a key: for
 * cache/lookup, too. 0, 1: such a request is not cached (why says why), -ENOMEM; *out is to be
 * ended by cache_ask_free, and borrows user and prompt. Without locks. */
int caching_key_make(struct cache_ask *out, struct session *s, const struct settings *settings,
	struct text *prompt, const char *user, uid_t uid, uint64_t guards_age, struct err *why);
/* Whether the cache has the answer to just this prompt, in that session as it stands, and would
 * give it: any thread, without locks. */
bool caching_key_is_known(struct session *s, struct text *prompt, const char *user, uid_t uid);

#endif
