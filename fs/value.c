/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a file's text is the value in it. An editor ends the last line; one of another system
 * ends each with two bytes and writes a byte order mark before the first; a blank comes along when
 * a number is pasted. None of that is part of a value, be it written to the mount or found in TREE.
 *
 * No state, any thread.
 */
#include "fs/value.h"

#include "base/utf8.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_line_end(char c)
{
	return c == '\n' || c == '\r';
}

size_t value_length(const char *text, size_t len)
{
	if (!len || text[len - 1] != '\n')
		return len;
	len--;
	return len && text[len - 1] == '\r' ? len - 1 : len;
}

size_t value_clean(char *text, size_t len)
{
	size_t n = 0;
	len = value_length(text, len);
	for (size_t i = utf8_mark(text, len); i < len; i++)
		if (text[i] != '\r' || i + 1 == len || text[i + 1] != '\n')
			text[n++] = text[i];
	return n;
}

size_t value_trim(const char **text, size_t len)
{
	size_t from = 0, to = len;
	while (from < len && is_blank((*text)[from]))
		from++;
	while (to > from && (is_blank((*text)[to - 1]) || is_line_end((*text)[to - 1])))
		to--;
	if (to == from)
		return len;
	*text += from;
	return to - from;
}

bool value_json_whole(const char *text, size_t len)
{
	int depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (in_string && c == '\\')
			i++;
		else if (in_string)
			in_string = c != '"';
		else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			continue;
		else if (depth == 0 && c != '[')
			return true;
		else if (c == '"')
			in_string = true;
		else if (c == '[' || c == '{')
			depth++;
		else if ((c == ']' || c == '}') && --depth == 0)
			return true;
	}
	return false;
}
