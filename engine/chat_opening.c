/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template says in its own language what stands where a conversation has no system message, and
 * models answer otherwise than they were trained to without it. Of ChatML templates it is a literal
 * in all that have one: SmolLM2's and Qwen's among them. It is found by what stands around it. A
 * text with a quotation mark, a brace or a backslash in it is put together by the program, and that
 * is not run (chat.c): such a template has no opening here. Nor has one of another family.
 */
#include "engine/chat_opening.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define HEAD "<|im_start|>system"
#define TAIL "<|im_end|>"

/* Where the text of a system message begins behind its header, or NULL: behind a line end, which is
 * one or is written as one. */
static const char *behind_line_end(const char *at, const char *end)
{
	if (at < end && *at == '\n')
		return at + 1;
	return end - at >= 2 && memcmp(at, "\\n", 2) == 0 ? at + 2 : NULL;
}

int chat_opening_find(const char *template_text, size_t n, char **out, struct err *err)
{
	const char *at = template_text, *end = template_text ? template_text + n : NULL;

	*out = NULL;
	while (at && (at = memmem(at, end - at, HEAD, strlen(HEAD)))) {
		at += strlen(HEAD);
		const char *text = behind_line_end(at, end);
		const char *tail = text ? memmem(text, end - text, TAIL, strlen(TAIL)) : NULL;
		size_t len = tail ? (size_t)(tail - text) : 0, plain = 0;
		while (plain < len && text[plain] && !strchr("'\"{}\\", text[plain]))
			plain++;
		if (len == 0 || plain < len || utf8_valid_prefix(text, len) != len)
			continue;
		*out = strndup(text, len);
		return *out ? 0 : err_set(err, -ENOMEM, "not enough memory for the chat template");
	}
	return 0;
}

int chat_opening_render(const char *opening, const struct chat_family *f, const struct tokenizer *t,
	const struct engine_message *messages, size_t n_messages, bool add_generation,
	struct token_list *out, struct err *err)
{
	if (!opening || n_messages == 0 || messages[0].role == ENGINE_SYSTEM)
		return chat_render(f, t, messages, n_messages, add_generation, out, err);

	struct engine_message *all = calloc(n_messages + 1, sizeof(*all));
	if (!all)
		return err_set(err, -ENOMEM, "out of memory");
	all[0] = (struct engine_message){ENGINE_SYSTEM, opening, strlen(opening)};
	memcpy(all + 1, messages, n_messages * sizeof(*all));
	int r = chat_render(f, t, all, n_messages + 1, add_generation, out, err);
	free(all);
	return r;
}
