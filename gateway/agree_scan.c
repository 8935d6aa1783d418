/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt into tokens: words, numbers, operators, and what is compared letter by letter, such as
 * files, options, addresses, code. Bytes that are not UTF-8 are letters like others: nothing is
 * refused. Signs of Chinese and Japanese are a word each.
 */
#include <string.h>

#include "gateway/agree_parts.h"

/* ---- characters ---- */

enum shape { BLANK, LETTER, DIGIT, QUOTE, APOSTROPHE, OPERATOR, BRACKET, HAN, OTHER };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static enum shape shape_of_ascii(char c)
{
	if (is_digit(c))
		return DIGIT;
	if (((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_')
		return LETTER;
	if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
		return BLANK;
	if (c == '"')
		return QUOTE;
	if (c == '\'')
		return APOSTROPHE;
	if (c == '(' || c == ')')
		return BRACKET;
	return c && strchr("+*/^=<>%&|~$", c) ? OPERATOR : OTHER;
}

/* The character at p and its length; what is beyond ASCII, by its first bytes. */
static enum shape shape_of(const char *p, const char *end, size_t *len)
{
	static const unsigned char lens[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
	const unsigned char *u = (const unsigned char *)p;

	*len = lens[u[0] >> 4];
	if (*len > (size_t)(end - p))
		*len = 1;
	if (u[0] < 0x80)
		return shape_of_ascii(*p);
	if (*len == 2 && u[0] == 0xC2) {
		if (u[1] == 0xAB || u[1] == 0xBB)
			return QUOTE;
		if (u[1] == 0xA3 || u[1] == 0xA5 || u[1] == 0xB1 || u[1] == 0xAC)
			return OPERATOR;
		return u[1] == 0xA0 ? BLANK : u[1] < 0xAA ? OTHER : u[1] == 0xBF ? OTHER : LETTER;
	}
	if (*len == 2 && u[0] == 0xC3 && (u[1] == 0x97 || u[1] == 0xB7))
		return OPERATOR;
	if (*len != 3)
		return LETTER;
	if (u[0] == 0xE2 && (u[1] == 0x80 || u[1] == 0x81)) {
		if (u[1] == 0x80 && u[2] == 0x99)
			return APOSTROPHE;
		if (u[1] == 0x80 && (u[2] == 0x98 || (u[2] >= 0x9C && u[2] <= 0x9E)))
			return QUOTE;
		return u[2] == 0xAF ? BLANK : OTHER;
	}
	if (u[0] == 0xE2)
		return OPERATOR; /* currencies, arrows, mathematics, signs */
	if (u[0] == 0xE3 && u[1] == 0x80)
		return OTHER;
	return u[0] >= 0xE3 && u[0] <= 0xE9 ? HAN : LETTER;
}

/* ---- tokens ---- */

struct scan {
	struct tokens *t;
	const char *p, *end;
	const char *last; /* the end of the last token */
	bool starts, quoted, comma;
	struct token none; /* when there is no room */
};

static struct token *add(struct scan *s, enum token_kind kind, const char *from, const char *to)
{
	if (s->t->n == TOKENS_MAX || to - from > UINT16_MAX) {
		s->t->too_many = true;
		return &s->none;
	}
	struct token *k = &s->t->at[s->t->n++];
	*k = (struct token){.text = from,
		.len = (uint16_t)(to - from),
		.kind = (uint8_t)kind,
		.starts = s->starts,
		.quoted = s->quoted,
		.comma = s->comma,
		.attached = from == s->last};
	s->starts = s->comma = false;
	s->last = to;
	return k;
}

/* The hash of the lower case; capitals after the first letter, when not all are, as shape. */
static void finish(struct token *k)
{
	char lower[LOWER_MAX];
	size_t n = agree_lower(k->text, k->len, lower), upper = 0, letters = 0;
	uint32_t shape = 0;

	k->hash = n ? agree_hash(lower, n) : agree_hash(k->text, k->len);
	for (size_t i = 0; i < k->len; i++) {
		const unsigned char c = (unsigned char)k->text[i];
		const bool up = is_upper(k->text[i]) ||
				(n && c == 0xC3 && i + 1 < n && lower[i + 1] != k->text[i + 1]);
		letters += (c | 32) >= 'a' && (c | 32) <= 'z';
		upper += up;
		if (up)
			shape = shape * 31 + (uint32_t)i + 1;
		if (up && i == 0)
			k->capital = true;
	}
	k->capitals = upper >= 2 && upper >= letters;
	if (upper > (size_t)k->capital && !k->capitals)
		k->shape = shape | 1;
}

static bool is_letter_at(const char *p, const char *end)
{
	size_t len;

	return p < end && shape_of(p, end, &len) == LETTER;
}

static bool is_word_at(const char *p, const char *end)
{
	return is_letter_at(p, end) || (p < end && is_digit(*p));
}

/* Of letters and digits; with what joins them in names of files, addresses, versions. */
static const char *word_end(const char *p, const char *end, bool *is_name)
{
	size_t len;

	*is_name = *p == '.' || *p == '/' || *p == '~';
	if (*is_name)
		p++;
	while (p < end) {
		const enum shape s = shape_of(p, end, &len);
		if (s == LETTER || s == DIGIT) {
			*is_name |= *p == '_' || s == DIGIT;
			p += len;
		} else if (strchr("./@:\\", *p) && *p && is_word_at(p + 1, end)) {
			*is_name = true;
			p++;
		} else if ((*p == '+' && p + 1 < end && p[1] == '+') || *p == '#') {
			*is_name = true;
			return *p == '#' ? p + 1 : p + 2;
		} else {
			break;
		}
	}
	return p;
}

static bool has_prefix(const char *p, const char *end, const char *prefix)
{
	const size_t n = strlen(prefix);

	return (size_t)(end - p) >= n && memcmp(p, prefix, n) == 0;
}

/* Up to the next blank, without closing punctuation. Address, option. */
static void scan_raw(struct scan *s)
{
	const char *from = s->p;
	size_t len;

	while (s->p < s->end && shape_of(s->p, s->end, &len) != BLANK)
		s->p += len;
	const char *to = s->p;
	while (to > from + 1 && strchr(".,;:!?)\"'`", to[-1]))
		to--;
	s->p = to;
	struct token *k = add(s, TOKEN_NAME, from, to);
	k->hash = agree_hash(from, (size_t)(to - from));
}

/* An apostrophe behind the word k, and what it does: don't, what's, France's, l'eau. */
static void scan_apostrophe(struct scan *s, struct token *k)
{
	size_t len, after;

	if (s->p >= s->end || shape_of(s->p, s->end, &len) != APOSTROPHE)
		return;
	const char *next = s->p + len;
	const char *to = next;
	while (is_letter_at(to, s->end)) {
		shape_of(to, s->end, &after);
		to += after;
	}
	const size_t n = (size_t)(to - next);
	if (n == 0)
		return;
	if (n == 1 && (*next | 32) == 't' && k->len > 1 && (k->text[k->len - 1] | 32) == 'n') {
		k->denied = true;
		if (!has_prefix(k->text, s->end, "can") && !has_prefix(k->text, s->end, "Can"))
			k->len--;
	} else if (n == 1 && (*next | 32) == 's') {
		k->owner = true;
	} else if (!(n <= 2 && (has_prefix(next, to, "re") || has_prefix(next, to, "ve") ||
				       has_prefix(next, to, "ll") || has_prefix(next, to, "d") ||
				       has_prefix(next, to, "m")))) {
		k->elided = true;
		to = next;
	}
	s->last = s->p = to;
}

static void scan_word(struct scan *s)
{
	const char *from = s->p;
	bool is_name;

	if (has_prefix(from, s->end, "http://") || has_prefix(from, s->end, "https://") ||
		has_prefix(from, s->end, "www.")) {
		scan_raw(s);
		return;
	}
	s->p = word_end(from, s->end, &is_name);
	struct token *k = add(s, is_name ? TOKEN_NAME : TOKEN_WORD, from, s->p);
	if (!is_name)
		scan_apostrophe(s, k);
	finish(k);
	/* Names of files are told apart by capitals, H2O and C++ are not. */
	for (size_t i = 0; is_name && i < k->len; i++) {
		if (strchr("._/@:\\", k->text[i]) && k->text[i]) {
			k->hash = agree_hash(k->text, k->len);
			k->shape = 0;
			break;
		}
	}
	if (s->p + 1 < s->end && s->p[0] == '(' && s->p[1] == ')')
		s->p += 2;
}

/* 1,000 is 1000, 3,5 is 3.5, 007 is 7; 6:30 and 1.2.3 stay. */
static void scan_number(struct scan *s)
{
	const char *from = s->p;
	char canon[LOWER_MAX];
	size_t n = 0;

	while (s->p < s->end && n + 1 < sizeof(canon)) {
		const bool more = s->p + 1 < s->end && is_digit(s->p[1]);
		if (is_digit(*s->p)) {
			canon[n++] = *s->p;
		} else if (*s->p == ',' && more) {
			const char *to = s->p + 1;
			while (to < s->end && is_digit(*to))
				to++;
			if (to - s->p != 4)
				canon[n++] = '.';
		} else if ((*s->p == '.' || *s->p == ':') && more) {
			canon[n++] = *s->p;
		} else {
			break;
		}
		s->p++;
	}
	size_t skip = 0;
	while (skip + 1 < n && canon[skip] == '0' && is_digit(canon[skip + 1]))
		skip++;
	struct token *k = add(s, TOKEN_NUMBER, from, s->p);
	k->hash = agree_hash(canon + skip, n - skip);
}

static void scan_code(struct scan *s)
{
	const char *from = s->p + 1;
	const char *to = memchr(from, '`', (size_t)(s->end - from));

	if (!to || to == from) {
		s->p++;
		return;
	}
	struct token *k = add(s, TOKEN_NAME, from, to);
	k->hash = agree_hash(from, (size_t)(to - from));
	s->p = to + 1;
}

/* A minus, when a number, a bracket or a lone letter follows; an option; else a dash. */
static void scan_minus(struct scan *s)
{
	const bool apart = s->p != s->last;
	const char *p = s->p + 1;

	if (apart && p < s->end && (is_letter_at(p, s->end) || *p == '-')) {
		const char *q = p + (*p == '-');
		if (is_letter_at(q, s->end)) {
			scan_raw(s);
			return;
		}
	}
	while (p < s->end && *p == ' ')
		p++;
	const bool alone = is_letter_at(p, s->end) && !is_word_at(p + 1, s->end);
	if (p < s->end && (is_digit(*p) || *p == '(' || alone) &&
		(apart || (s->last && s->p > s->last - 1 && s->p[-1] == ')')))
		add(s, TOKEN_OPERATOR, s->p, s->p + 1)->hash = agree_hash("-", 1);
	s->p++;
}

/* A run of operators is one: ==, <=. Asterisks around a word are not. */
static void scan_operator(struct scan *s)
{
	const char *from = s->p;
	size_t len;

	if (*from == '/' && s->p != s->last && is_letter_at(from + 1, s->end)) {
		scan_word(s);
		return;
	}
	while (s->p < s->end && shape_of(s->p, s->end, &len) == OPERATOR)
		s->p += len;
	const bool marks = *from == '*' && (is_letter_at(s->p, s->end) || from == s->last) &&
			   !(from > s->t->at[0].text && s->t->n && is_digit(from[-1]));
	if (!marks)
		add(s, TOKEN_OPERATOR, from, s->p)->hash = agree_hash(from, (size_t)(s->p - from));
}

/* A bracket matters beside a number, an operator, a lone letter. */
static void scan_bracket(struct scan *s)
{
	const char *p = *s->p == '(' ? s->p + 1 : s->p - 1;
	const bool open = *s->p == '(';
	const struct tokens *t = s->t;
	bool counts = false;

	if (open)
		counts = p < s->end &&
			 (is_digit(*p) || *p == '(' || *p == '-' ||
				 (is_letter_at(p, s->end) && !is_word_at(p + 1, s->end)));
	else if (t->n && s->last == s->p)
		counts = t->at[t->n - 1].kind >= TOKEN_NUMBER || t->at[t->n - 1].len == 1;
	if (counts)
		add(s, TOKEN_OPERATOR, s->p, s->p + 1)->hash = agree_hash(s->p, 1);
	s->p++;
}

static void scan_other(struct scan *s, size_t len)
{
	const char c = *s->p;

	if (c == '`') {
		scan_code(s);
	} else if (c == '-') {
		scan_minus(s);
	} else if (c == '.' && s->p != s->last && is_letter_at(s->p + 1, s->end)) {
		scan_word(s);
	} else if (c == '!' && s->p + 1 < s->end && s->p[1] == '=') {
		const char *from = s->p++;
		while (s->p < s->end && *s->p == '=')
			s->p++;
		add(s, TOKEN_OPERATOR, from, s->p)->hash = agree_hash(from, (size_t)(s->p - from));
	} else {
		s->starts |= c == '.' || c == '!' || c == '?' || c == ':' || c == ';';
		s->comma |= c == ',' || c == ';' || c == ':';
		s->t->asks |= c == '?';
		s->p += len;
	}
}

void agree_scan(struct tokens *t, const char *text, size_t len)
{
	struct scan s = {.t = t, .p = text, .end = text + len, .starts = true};
	size_t n;

	t->n = 0;
	t->too_many = t->asks = false;
	while (s.p < s.end && !t->too_many) {
		switch (shape_of(s.p, s.end, &n)) {
		case LETTER:
			scan_word(&s);
			break;
		case DIGIT:
			scan_number(&s);
			break;
		case OPERATOR:
			scan_operator(&s);
			break;
		case BRACKET:
			scan_bracket(&s);
			break;
		case HAN:
			finish(add(&s, TOKEN_WORD, s.p, s.p + n));
			s.p += n;
			break;
		case QUOTE:
			s.quoted = !s.quoted;
			s.p += n;
			break;
		case BLANK:
			s.starts |= *s.p == '\n';
			s.p += n;
			break;
		default:
			scan_other(&s, n);
			break;
		}
	}
}
