/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_DRAFT_H
#define GATEWAY_DRAFT_H

/* The drafts of a session, for its verbs. The rest is in gateway_sessions.h. */

#include "gateway/session.h"

/* Submits what stands in each open draft of the session. 0, or the first refusal. Without locks. */
int draft_submit_all(struct session *s, struct err *err);
/* draft_write of all of a prompt at once: a refusal keeps it, whole pages too, for `retry`. */
int draft_write_whole(struct draft *d, const char *text, size_t len, struct err *err);

#endif
