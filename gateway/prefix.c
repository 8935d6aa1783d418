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

#include <assert.h>
#include <string.h>

#include "gateway/text.h"

bool prefix_fits(const struct prefix *p, const char *text, size_t len)
{
	assert(p->fits);
	if (len && text[len - 1] == '\r')
		len--;
	return !len || p->fits(p, text, len);
}

bool prefix_is_any(const struct prefix *p, const char *text, size_t len)
{
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* [sign] digits [. digits] [e [sign] digits], cut off anywhere. */
bool prefix_is_real(const struct prefix *p, const char *text, size_t len)
{
	bool point = false, digits = false, exponent = false;
	double value = 0, place = 1;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool first = i == 0 || text[i - 1] == 'e' || text[i - 1] == 'E';
		if (is_digit(c)) {
			digits = true;
			if (exponent)
				continue;
			place = point ? place / 10 : place;
			value = point ? value + place * (c - '0') : value * 10 + (c - '0');
		} else if (c == '.' && !point && !exponent) {
			point = true;
		} else if ((c == 'e' || c == 'E') && digits && !exponent) {
			exponent = true;
		} else if (!((c == '+' || c == '-') && first)) {
			return false;
		}
	}
	static const double rounded = 1e-9;
	return exponent || value <= p->most * (1 + rounded);
}

bool prefix_is_decimal(const struct prefix *p, const char *text, size_t len)
{
	double whole = 0;
	unsigned behind = 0;
	bool point = false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' && !point && p->decimals) {
			point = true;
			continue;
		}
		if (!is_digit(text[i]) || (point && ++behind > p->decimals))
			return false;
		if (!point)
			whole = whole * 10 + (text[i] - '0');
	}
	return whole <= p->most;
}

bool prefix_is_word(const struct prefix *p, const char *text, size_t len)
{
	for (const char *const *w = p->words; *w; w++)
		if (strlen(*w) >= len && !memcmp(*w, text, len))
			return true;
	return false;
}

int prefix_word(const struct prefix *p, const char *text, size_t len)
{
	for (int i = 0; p->words[i]; i++)
		if (strlen(p->words[i]) == len && !memcmp(p->words[i], text, len))
			return i;
	return -1;
}

bool prefix_is_name(const struct prefix *p, const char *text, size_t len)
{
	/* "." and ".." are no names, and names begin so. */
	return text_is_name(text, len) || (len <= 2 && !memcmp(text, "..", len));
}
