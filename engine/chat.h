/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CHAT_H
#define ENGINE_CHAT_H

/* Chat templates, by family: which control tokens and texts stand around a message. The Jinja text
 * in a file is not executed, only recognised. */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"

struct chat_family; /* a static row */

/* By name ("chatml", "llama2", "llama3", "mistral", "zephyr", "gemma", "plain"), or with name NULL
 * from the template text (may be NULL with n 0). *out borrows a static row. -ENOTSUP: the sentence
 * names the families and the model's `template` file; -EINVAL: unknown name. */
int chat_family_find(const struct chat_family **out, const char *name, const char *template_text,
	size_t n, struct err *err);
const char *chat_family_name(const struct chat_family *f);

/* The first of the control tokens that models of the family are trained with which the vocabulary
 * does not have; NULL when it has them, or the family is text and no more. borrows. */
const char *chat_missing_token(const struct chat_family *f, const struct tokenizer *t);

/* True when the model begins an answer with a space that belongs to the template and not to the
 * text: it is not shown, and chat_render puts it there again. */
bool chat_answer_has_space(const struct chat_family *f, const struct tokenizer *t);

/* Appends the rendered conversation. Errors as engine_render. */
int chat_render(const struct chat_family *f, const struct tokenizer *t,
	const struct engine_message *messages, size_t n_messages, bool add_generation,
	struct token_list *out, struct err *err);

#endif
