/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SESSION_EDIT_H
#define GATEWAY_SESSION_EDIT_H

/* Texts that come to a session by another way than its prompts. The rest is in gateway_sessions.h.
 */

#include "gateway/session.h"

/* *text (NULL: none) becomes what the input rules of now let through of it; `request`: for the
 * audit, 0: none. Without locks. 0; -EPERM: blocked; -EMSGSIZE, -EILSEQ, -ENOMEM: *text is as it
 * was. */
int session_edit_guard(
	struct session *s, uid_t uid, uint64_t request, struct text **text, struct err *err);

#endif
