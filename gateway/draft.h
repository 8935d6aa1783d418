/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_DRAFT_H
#define GATEWAY_DRAFT_H

/* The drafts of a session, for its verbs. The rest is in gateway_sessions.h. */

#include "gateway/session.h"

/* Submits what stands in each open draft of the session. 0, or the first refusal. Without locks. */
int draft_submit_all(struct session *s, struct err *err);
/*
 * A draft that was flushed is committed a moment later, when it was closed: who closed it has gone
 * on by then, and may say `cancel`. It is cancelled as soon as it is submitted then, unless it is
 * written to or flushed once more: its file was still open. With the session's lock held.
 */
void draft_order_cancel(struct session *s);
/* Submits those that readers of `out` wait for, which ends them: whoever changes the conversation
 * after a cancel is not to find them in the way, nor behind it. What is not closed for longer than
 * that is open, and keeps its text. Without locks. */
void draft_end_cancelled(struct session *s);
/* Whether there is one that was flushed, and that readers of `out` wait for. With the session's
 * lock held. */
bool draft_order_comes(const struct session *s);
/* draft_write of all of a prompt at once: a refusal keeps it, whole pages too, for `retry`. */
int draft_write_whole(struct draft *d, const char *text, size_t len, struct err *err);

#endif
