/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pattern as a tree, for the filters only: what PCRE2 does is what counts. The tree may match
 * more than the pattern (a group that does not give back is read as one that does) and never less;
 * its look-aheads are kept because they look at text. What is not understood makes the whole
 * pattern not understood, and its rule is run everywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

enum { DEPTH_MAX = 64 };

struct syntax {
	const char *p, *end;
	uint32_t flags; /* PCRE2_CASELESS | DOTALL | MULTILINE | EXTENDED | UCP */
	unsigned depth;
	bool failed;
};

static struct guard_node *alternatives(struct syntax *s);

static struct guard_node *fail(struct syntax *s)
{
	s->failed = true;
	return NULL;
}

static struct guard_node *node(struct syntax *s, enum guard_node_kind kind)
{
	struct guard_node *n = calloc(1, sizeof(*n));

	if (!n)
		return fail(s);
	n->kind = kind;
	return n;
}

struct guard_node *guard_syntax_free(struct guard_node *n)
{
	while (n) {
		struct guard_node *next = n->next;
		guard_syntax_free(n->child);
		free(n);
		n = next;
	}
	return NULL;
}

/* ---- classes ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 32) >= 'a' && (c | 32) <= 'f')
		return (c | 32) - 'a' + 10;
	return -1;
}

/* Behind \x: hh or {h...}. */
static bool hex_escape(struct syntax *s, uint32_t *c)
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

/* An escape that stands for one character, in and outside a class; s->p is behind `letter`. */
static bool char_escape(struct syntax *s, char letter, uint32_t *c)
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

/* \p{...} \P{...} \pL, s->p behind the p: anything at all. */
static bool skip_property(struct syntax *s)
{
	if (s->p == s->end)
		return false;
	if (*s->p++ != '{')
		return true;
	while (s->p < s->end && *s->p != '}')
		s->p++;
	return s->p < s->end && *s->p++ == '}';
}

/* One character as it stands. */
static uint32_t plain_char(struct syntax *s)
{
	uint32_t c = 0;
	size_t n = utf8_decode(s->p, (size_t)(s->end - s->p), &c);

	s->p += n ? n : 1;
	return c;
}

static bool class_add_posix(struct syntax *s, struct guard_class *c)
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
		c->beyond |= s->flags & PCRE2_UCP ? GUARD_BEYOND_ASCII : 0;
		c->exact &= i != 3 && i != 4 && !(s->flags & PCRE2_UCP);
		return true;
	}
	return false;
}

/* One member of a class: a code point in *c, or a set that was added already and
 * *c = UINT32_MAX. */
static bool class_member(struct syntax *s, struct guard_class *k, uint32_t *c)
{
	*c = UINT32_MAX;
	if (*s->p == '[' && s->p + 1 < s->end && strchr(":.=", s->p[1])) {
		s->p++;
		return class_add_posix(s, k);
	}
	if (*s->p != '\\') {
		*c = plain_char(s);
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
		return skip_property(s);
	}
	if (letter == 'b') {
		*c = '\b';
		return true;
	}
	return char_escape(s, letter, c);
}

static struct guard_node *class(struct syntax *s)
{
	struct guard_node *n = node(s, GUARD_NODE_CLASS);
	bool negated, first = true;

	if (!n)
		return NULL;
	s->p++;
	negated = s->p < s->end && *s->p == '^';
	n->class.exact = true;
	s->p += negated;
	for (; s->p < s->end && (*s->p != ']' || first); first = false) {
		uint32_t low, high;
		if (!class_member(s, &n->class, &low))
			break;
		high = low;
		if (low != UINT32_MAX && s->end - s->p >= 2 && *s->p == '-' && s->p[1] != ']') {
			s->p++;
			if (!class_member(s, &n->class, &high) || high == UINT32_MAX || high < low)
				break;
		}
		if (low != UINT32_MAX)
			guard_class_add_range(&n->class, low, high);
	}
	if (s->p >= s->end || *s->p != ']' || first) {
		guard_syntax_free(n);
		return fail(s);
	}
	s->p++;
	guard_class_finish(&n->class, negated, s->flags);
	return n;
}

static struct guard_node *char_node(struct syntax *s, uint32_t c)
{
	struct guard_node *n = node(s, GUARD_NODE_CLASS);

	if (!n)
		return NULL;
	n->class.exact = true;
	guard_class_add_range(&n->class, c, c);
	guard_class_finish(&n->class, false, s->flags);
	return n;
}

static struct guard_node *dot(struct syntax *s, bool all)
{
	struct guard_node *n = node(s, GUARD_NODE_CLASS);

	if (!n)
		return NULL;
	guard_class_add_everything(&n->class);
	n->class.exact = true;
	if (!all)
		n->class.ascii[0] &= ~(UINT64_C(1) << '\n');
	return n;
}

/* ---- what is not a class ---- */

static struct guard_node *escape(struct syntax *s)
{
	struct guard_node *n;
	uint32_t c;

	if (s->end - s->p < 2)
		return fail(s);
	char letter = s->p[1];
	s->p += 2;
	switch (letter) {
	case 'b':
		/* By properties, more characters than our \w are of words. */
		return node(s, GUARD_NODE_BOUNDARY);
	case 'B':
	case 'z':
		return node(s, GUARD_NODE_ZERO);
	case 'Z':
		return node(s, GUARD_NODE_END);
	case 'A':
		return node(s, GUARD_NODE_START);
	case 'N':
		if (s->p < s->end && *s->p == '{')
			return fail(s);
		return dot(s, false);
	default:
		break;
	}
	if (letter >= '1' && letter <= '9' && !(s->p < s->end && *s->p >= '0' && *s->p <= '9'))
		return node(s, GUARD_NODE_ANYTHING);
	n = node(s, GUARD_NODE_CLASS);
	if (!n)
		return NULL;
	n->class.exact = true;
	if (guard_class_add_kind(&n->class, letter, s->flags))
		return n;
	if ((letter | 32) == 'p' && skip_property(s)) {
		guard_class_add_everything(&n->class);
		return n;
	}
	guard_syntax_free(n);
	return char_escape(s, letter, &c) ? char_node(s, c) : fail(s);
}

static bool take(struct syntax *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

/* (?i-s: or (?i) behind the "(?". True: understood; *whole: it holds to the end of the group. */
static bool inline_flags(struct syntax *s, bool *whole)
{
	bool on = true;

	for (; s->p < s->end && *s->p != ':' && *s->p != ')'; s->p++) {
		static const char letters[] = "ismx-";
		static const uint32_t bits[] = {
			PCRE2_CASELESS, PCRE2_DOTALL, PCRE2_MULTILINE, PCRE2_EXTENDED, 0};
		const char *at = *s->p ? strchr(letters, *s->p) : NULL;
		if (!at || (*at == 'x' && s->p[1] == 'x'))
			return false;
		if (*at == '-')
			on = false;
		s->flags = on ? s->flags | bits[at - letters] : s->flags & ~bits[at - letters];
	}
	if (s->p == s->end)
		return false;
	*whole = *s->p++ == ')';
	return true;
}

/* The name of a group, up to its closing character. */
static bool skip_name(struct syntax *s, char close)
{
	while (s->p < s->end && *s->p != close)
		s->p++;
	return s->p < s->end && *s->p++ == close;
}

/* Behind "(?": decides what the group is; *inert: there is nothing in it and it is closed. */
static bool group_kind(struct syntax *s, enum guard_node_kind *kind, bool *inert)
{
	*inert = false;
	*kind = GUARD_NODE_CAT;
	if (take(s, "=") || take(s, "!"))
		*kind = GUARD_NODE_AHEAD;
	else if (take(s, "<="))
		*kind = GUARD_NODE_BEHIND;
	else if (take(s, "<!"))
		*kind = GUARD_NODE_NOT_BEHIND;
	else if (take(s, ">"))
		*kind = GUARD_NODE_REPEAT; /* for the caller: once, and it does not give back */
	else if (take(s, ":") || take(s, "|"))
		return true;
	else if (take(s, "P<") || take(s, "<"))
		return skip_name(s, '>');
	else if (take(s, "'"))
		return skip_name(s, '\'');
	else if (take(s, "#"))
		return false; /* what follows a comment may belong to what stands before it */
	else
		return inline_flags(s, inert);
	return true;
}

static struct guard_node *group(struct syntax *s)
{
	enum guard_node_kind kind = GUARD_NODE_CAT;
	uint32_t flags = s->flags;
	bool inert = false;
	struct guard_node *n, *inside;

	s->p++;
	if (s->p < s->end && *s->p == '*')
		return fail(s);
	if (take(s, "?") && !group_kind(s, &kind, &inert))
		return fail(s);
	if (inert) /* flags hold on */
		return node(s, GUARD_NODE_EMPTY);
	if (++s->depth > DEPTH_MAX)
		return fail(s);
	inside = alternatives(s);
	s->depth--;
	s->flags = flags;
	if (s->failed || s->p == s->end || *s->p != ')') {
		guard_syntax_free(inside);
		return fail(s);
	}
	s->p++;
	if (kind == GUARD_NODE_CAT)
		return inside;
	n = node(s, kind);
	if (!n)
		return guard_syntax_free(inside);
	n->min = n->max = 1;
	n->atomic = true;
	n->child = inside;
	return n;
}

static bool number(const char **p, const char *end, unsigned *out)
{
	const char *begin = *p;

	*out = 0;
	for (; *p < end && **p >= '0' && **p <= '9' && *out < GUARD_REPEAT_MANY; ++*p)
		*out = *out * 10 + (unsigned)(**p - '0');
	return *p > begin;
}

/* {n} {n,} {n,m}. False: s->p is as it was, the brace is a plain character. */
static bool counted(struct syntax *s, unsigned *min, unsigned *max)
{
	const char *p = s->p + 1;

	if (!number(&p, s->end, min) || p == s->end)
		return false;
	*max = *min;
	if (*p == ',') {
		p++;
		if (!number(&p, s->end, max))
			*max = GUARD_REPEAT_MANY;
	}
	if (p >= s->end || *p != '}')
		return false;
	s->p = p + 1;
	return true;
}

static bool quantifier(struct syntax *s, unsigned *min, unsigned *max)
{
	char c = s->p < s->end ? *s->p : 0;

	if (c == '{')
		return counted(s, min, max);
	if (!c || !strchr("*+?", c))
		return false;
	*min = c == '+';
	*max = c == '?' ? 1 : GUARD_REPEAT_MANY;
	s->p++;
	return true;
}

static void skip_space(struct syntax *s)
{
	while ((s->flags & PCRE2_EXTENDED) && s->p < s->end) {
		if (*s->p == '#')
			while (s->p < s->end && *s->p != '\n')
				s->p++;
		else if (strchr(" \t\n\v\f\r", *s->p) && *s->p)
			s->p++;
		else if ((unsigned char)*s->p >= 0x80) { /* some of these are space to PCRE2 */
			fail(s);
			return;
		} else
			return;
	}
}

static struct guard_node *atom(struct syntax *s)
{
	switch (*s->p) {
	case '(':
		return group(s);
	case '[':
		return class(s);
	case '\\':
		return escape(s);
	case '.':
		s->p++;
		return dot(s, s->flags & PCRE2_DOTALL);
	case '^':
		s->p++;
		return node(
			s, s->flags & PCRE2_MULTILINE ? GUARD_NODE_LINE_START : GUARD_NODE_START);
	case '$':
		s->p++;
		return node(s, s->flags & PCRE2_MULTILINE ? GUARD_NODE_ZERO : GUARD_NODE_END);
	case '*':
	case '+':
	case '?':
		return fail(s);
	case '{': /* a plain character to some PCRE2s, a quantifier to later ones */
		return fail(s);
	default:
		return char_node(s, plain_char(s));
	}
}

/* An atom with its quantifiers. */
static struct guard_node *piece(struct syntax *s)
{
	struct guard_node *n = atom(s);
	unsigned min, max;

	if (s->failed)
		return guard_syntax_free(n);
	skip_space(s);
	if (!quantifier(s, &min, &max))
		return n;
	bool atomic = s->p < s->end && *s->p == '+';
	if (atomic || (s->p < s->end && *s->p == '?'))
		s->p++;
	struct guard_node *r = node(s, GUARD_NODE_REPEAT);
	if (!r)
		return guard_syntax_free(n);
	r->min = min;
	r->max = max;
	r->atomic = atomic;
	r->child = n;
	return r;
}

static struct guard_node *sequence(struct syntax *s)
{
	struct guard_node *cat = node(s, GUARD_NODE_CAT), **last = cat ? &cat->child : NULL;

	while (!s->failed) {
		skip_space(s);
		if (s->p == s->end || *s->p == '|' || *s->p == ')')
			return cat;
		*last = piece(s);
		if (*last)
			last = &(*last)->next;
	}
	return guard_syntax_free(cat);
}

static struct guard_node *alternatives(struct syntax *s)
{
	struct guard_node *alt = node(s, GUARD_NODE_ALT), **last = alt ? &alt->child : NULL;

	while (!s->failed) {
		*last = sequence(s);
		if (s->failed)
			break;
		last = &(*last)->next;
		if (s->p == s->end || *s->p != '|')
			return alt;
		s->p++;
	}
	return guard_syntax_free(alt);
}

struct guard_node *guard_syntax_parse(const char *pattern, size_t len, uint32_t flags)
{
	struct syntax s = {.p = pattern, .end = pattern + len, .flags = flags};
	struct guard_node *tree;

	if (memmem(pattern, len, "\\Q", 2) || memmem(pattern, len, "\\E", 2))
		return NULL;
	tree = alternatives(&s);
	if (s.failed || s.p != s.end)
		return guard_syntax_free(tree);
	return tree;
}

const struct guard_class *guard_syntax_single_class(const struct guard_node *n)
{
	while ((n->kind == GUARD_NODE_ALT || n->kind == GUARD_NODE_CAT) && n->child &&
		!n->child->next)
		n = n->child;
	return n->kind == GUARD_NODE_CLASS ? &n->class : NULL;
}
