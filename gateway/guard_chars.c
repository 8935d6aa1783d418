/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Characters and sets of them as a pattern writes them: plain, escaped, [...]. A set that is read
 * may hold more than PCRE2's and never less (guard_class.c); what is not understood is refused, and
 * with it the whole pattern (guard_syntax.c).
 */
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 32) >= 'a' && (c | 32) <= 'f')
		return (c | 32) - 'a' + 10;
	return -1;
}

/* Behind \x: hh or {h...}. */
static bool hex_escape(struct guard_chars *s, uint32_t *c)
{
	bool braces = s->p < s->end && *s->p == '{';
	unsigned digits = 0;

	*c = 0;
	s->p += braces;
	while (s->p < s->end && digits < (braces ? 6 : 2) && hex(*s->p) >= 0) {
		*c = *c * 16 + (uint32_t)hex(*s->p++);
		digits++;
	}
	if (!braces)
		return digits == 2;
	return digits && s->p < s->end && *s->p++ == '}';
}

bool guard_chars_escape(struct guard_chars *s, char letter, uint32_t *c)
{
	static const char letters[] = "tnrfae", values[] = "\t\n\r\f\a\x1b";
	const char *at = letter ? strchr(letters, letter) : NULL;

	if (at) {
		*c = (unsigned char)values[at - letters];
		return true;
	}
	if (letter == 'x')
		return hex_escape(s, c);
	if ((letter >= '0' && letter <= '9') || ((letter | 32) >= 'a' && (letter | 32) <= 'z') ||
		(unsigned char)letter >= 128)
		return false;
	*c = (unsigned char)letter;
	return true;
}

bool guard_chars_property(struct guard_chars *s)
{
	if (s->p == s->end)
		return false;
	if (*s->p++ != '{')
		return true;
	while (s->p < s->end && *s->p != '}')
		s->p++;
	return s->p < s->end && *s->p++ == '}';
}

uint32_t guard_chars_plain(struct guard_chars *s)
{
	uint32_t c = 0;
	size_t n = utf8_decode(s->p, (size_t)(s->end - s->p), &c);

	s->p += n ? n : 1;
	return c;
}

static bool class_add_posix(struct guard_chars *s, struct guard_class *c)
{
	static const struct {
		const char *name, *ranges;
	} known[] = {
		{":alpha:]", "AZaz"},
		{":digit:]", "09"},
		{":alnum:]", "09AZaz"},
		{":upper:]", "AZaz"},
		{":lower:]", "AZaz"},
		{":xdigit:]", "09AFaf"},
		{":word:]", "09AZaz__"},
		{":space:]", "\t\r  "},
		{":punct:]", "!/:@[`{~"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t len = strlen(known[i].name);
		if ((size_t)(s->end - s->p) < len || memcmp(s->p, known[i].name, len) != 0)
			continue;
		s->p += len;
		for (const char *r = known[i].ranges; *r; r += 2)
			guard_class_add_range(c, (unsigned char)r[0], (unsigned char)r[1]);
		if (s->flags & PCRE2_UCP)
			guard_class_add_beyond(c);
		c->exact &= i != 3 && i != 4 && !(s->flags & PCRE2_UCP);
		return true;
	}
	return false;
}

/* One member of a class: a code point in *c, or a set that was added already and
 * *c = UINT32_MAX. */
static bool class_member(struct guard_chars *s, struct guard_class *k, uint32_t *c)
{
	*c = UINT32_MAX;
	if (*s->p == '[' && s->p + 1 < s->end && strchr(":.=", s->p[1])) {
		s->p++;
		return class_add_posix(s, k);
	}
	if (*s->p != '\\') {
		*c = guard_chars_plain(s);
		return true;
	}
	if (s->end - s->p < 2)
		return false;
	char letter = s->p[1];
	s->p += 2;
	if (guard_class_add_kind(k, letter, s->flags))
		return true;
	if ((letter | 32) == 'p') {
		guard_class_add_everything(k);
		return guard_chars_property(s);
	}
	if (letter == 'b') {
		*c = '\b';
		return true;
	}
	return guard_chars_escape(s, letter, c);
}

bool guard_chars_set(struct guard_chars *s, struct guard_class *out)
{
	bool negated, first = true;

	*out = (struct guard_class){.exact = true};
	s->p++;
	negated = s->p < s->end && *s->p == '^';
	s->p += negated;
	for (; s->p < s->end && (*s->p != ']' || first); first = false) {
		uint32_t low, high;
		if (!class_member(s, out, &low))
			return false;
		high = low;
		if (low != UINT32_MAX && s->end - s->p >= 2 && *s->p == '-' && s->p[1] != ']') {
			s->p++;
			if (!class_member(s, out, &high) || high == UINT32_MAX || high < low)
				return false;
		}
		if (low != UINT32_MAX)
			guard_class_add_range(out, low, high);
	}
	if (s->p >= s->end)
		return false;
	s->p++;
	guard_class_finish(out, negated, s->flags);
	return true;
}
