/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A value without a newline behind it may be the first half of one: `dd bs=1` writes so. But a
 * shell that writes `printf hot > temperature` says nothing of what the close finds, and "hot" is
 * the beginning of no number. Here the forms of values are known by their beginnings, so that such
 * a write is refused itself. What is wrong here would refuse a value that is right; what is not
 * known here is refused by the close, as before. So each function is generous where it is in doubt.
 *
 * No state, any thread.
 */
#include "gateway/prefix.h"

#include <string.h>

#include "gateway/text.h"

static size_t less_return(const char *text, size_t len)
{
	return len && text[len - 1] == '\r' ? len - 1 : len;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* [sign] digits [. digits] [e [sign] digits], cut off anywhere. */
bool prefix_is_real(const char *text, size_t len)
{
	bool point = false, digits = false, exponent = false;
	len = less_return(text, len);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool first = i == 0 || text[i - 1] == 'e' || text[i - 1] == 'E';
		if (is_digit(c)) {
			digits = true;
		} else if (c == '.' && !point && !exponent) {
			point = true;
		} else if ((c == 'e' || c == 'E') && digits && !exponent) {
			exponent = true;
		} else if (!((c == '+' || c == '-') && first)) {
			return false;
		}
	}
	return true;
}

bool prefix_is_decimal(const char *text, size_t len, unsigned decimals, double most)
{
	double whole = 0;
	unsigned behind = 0;
	bool point = false;
	len = less_return(text, len);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' && !point && decimals) {
			point = true;
			continue;
		}
		if (!is_digit(text[i]) || (point && ++behind > decimals))
			return false;
		if (!point)
			whole = whole * 10 + (text[i] - '0');
	}
	return whole <= most;
}

bool prefix_is_integer(const char *text, size_t len, double most)
{
	return prefix_is_decimal(text, len, 0, most);
}

bool prefix_is_word(const char *const *words, const char *text, size_t len)
{
	len = less_return(text, len);
	for (const char *const *w = words; *w; w++)
		if (strlen(*w) >= len && !memcmp(*w, text, len))
			return true;
	return false;
}

bool prefix_is_verb(const char *const *words, const char *line, size_t len)
{
	const char *blank = memchr(line, ' ', len);
	size_t n = blank ? (size_t)(blank - line) : less_return(line, len);
	for (const char *const *w = words; *w; w++)
		if (blank ? strlen(*w) == n && !memcmp(*w, line, n)
			  : strlen(*w) >= n && !memcmp(*w, line, n))
			return true;
	return false;
}

bool prefix_is_name(const char *text, size_t len)
{
	len = less_return(text, len);
	/* "." and ".." are no names, and names begin so. */
	return len == 0 || text_is_name(text, len) || (len <= 2 && !memcmp(text, "..", len));
}
