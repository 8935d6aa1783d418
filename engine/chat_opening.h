/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CHAT_OPENING_H
#define ENGINE_CHAT_OPENING_H

/* The system message that a model's own template writes where a conversation has none. */

#include "engine/chat.h"

/* *out: new, the text, or NULL if the template (ChatML, n bytes, NULL if there is none) has none of
 * up to 64 KB. O(n). -ENOMEM. */
int chat_opening_find(const char *template_text, size_t n, char **out, struct err *err);

/* As chat_render, with the opening (may be NULL) before a conversation that does not begin with a
 * system message. */
int chat_opening_render(const char *opening, const struct chat_family *f, const struct tokenizer *t,
	const struct engine_message *messages, size_t n_messages, bool add_generation,
	struct token_list *out, struct err *err);

#endif
