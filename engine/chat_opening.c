/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template says in its own language what stands where a conversation has no system message, and
 * models answer otherwise than they were trained to without it. Of SmolLM2's and Qwen's ChatML
 * templates it is a literal, header, text and end in one. It is found by that; under which
 * condition the program writes it is not read. A text with a quotation mark, a brace or a backslash
 * in it, or that is put into a variable first, is put together by the program, and that is not run
 * (chat.c): such a template has no opening here. Nor has one of another family.
 */
#include "engine/chat_opening.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define HEAD "<|im_start|>system"
#define TAIL "<|im_end|>"
#define MAX_BYTES 65536 /* of a text: it is tokenised with each conversation */

static bool begins_with(const char *at, const char *end, const char *what)
{
	size_t n = strlen(what);

	return (size_t)(end - at) >= n && memcmp(at, what, n) == 0;
}

/* Where the text of a system message begins behind its header, or NULL: behind a line end, which is
 * one or is written as one. */
static const char *behind_line_end(const char *at, const char *end)
{
	if (at < end && *at == '\n')
		return at + 1;
	return begins_with(at, end, "\\n") ? at + 2 : NULL;
}

/* Bytes up to TAIL, or up to one that makes it no literal. */
static size_t literal_bytes(const char *text, const char *end)
{
	const char *at = text;

	if (end - text > MAX_BYTES + (ptrdiff_t)strlen(TAIL))
		end = text + MAX_BYTES + strlen(TAIL);
	while (at < end && *at && !strchr("'\"{}\\", *at) && !begins_with(at, end, TAIL))
		at++;
	return (size_t)(at - text);
}

/* What was read is not read again, whatever stands in it: a file's author chose its length. */
int chat_opening_find(const char *template_text, size_t n, char **out, struct err *err)
{
	const char *at = template_text, *end = template_text ? template_text + n : NULL;

	*out = NULL;
	while (at && (at = memmem(at, end - at, HEAD, strlen(HEAD)))) {
		at += strlen(HEAD);
		const char *text = behind_line_end(at, end);
		if (!text)
			continue;
		size_t len = literal_bytes(text, end);
		at = text + len;
		if (len == 0 || !begins_with(at, end, TAIL) || utf8_valid_prefix(text, len) != len)
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
