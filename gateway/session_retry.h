/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SESSION_RETRY_H
#define GATEWAY_SESSION_RETRY_H

/* The verb `retry`. */

#include "gateway/session.h"

/* Submits the last prompt again, for that user: the newest request's, if that was refused before a
 * model saw it, else that of the last turn. Without locks. 0; -ENOENT: there is nothing to retry;
 * -EBUSY: an answer is under way (of a turn only); else as draft_write refuses. *told: a refusal is
 * the newest request already, with its sentence. */
int session_retry(struct session *s, uid_t uid, bool *told, struct err *err);

#endif
