/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MESSAGES_H
#define GATEWAY_MESSAGES_H

/* OpenAI's message list, read. */

#include "gateway/conversation.h"

struct messages {
	struct text *system; /* the content of a leading system message; NULL: there was none */
	struct conversation turns;
};

/*
 * An array of {"role", "content"}: perhaps a system message first, then user and assistant in
 * turns, beginning with user. A user message at the end is a turn that was not asked yet. Other
 * members are ignored. *m is zeroed but for turns.next_serial. -EINVAL with the file and the
 * position; -EILSEQ; -ENOMEM. messages_free in any case.
 */
int messages_parse(struct messages *m, const char *json, size_t len, struct err *err);
/* The same of messages that were read already, which end with an answer. The sentence names the
 * message alone. */
int messages_take(
	struct messages *m, const struct session_message *list, size_t n, struct err *err);
/* Whether no text that begins with that one, which ends between two tokens, is JSON. */
bool messages_is_hopeless(const char *json, size_t len);
void messages_free(struct messages *m);

#endif
