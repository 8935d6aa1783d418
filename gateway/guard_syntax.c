/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pattern as a tree, for the filters only: what PCRE2 does is what counts. The tree may match
 * more than the pattern (a group that does not give back is read as one that does) and never less;
 * its look-aheads are kept because they look at text. What is not understood makes the whole
 * pattern not understood, and its rule is run everywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

enum { DEPTH_MAX = 64 };

struct syntax {
	struct guard_chars c;
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

static struct guard_node *set(struct syntax *s)
{
	struct guard_node *n = node(s, GUARD_NODE_CLASS);

	if (!n || guard_chars_set(&s->c, &n->class))
		return n;
	guard_syntax_free(n);
	return fail(s);
}

static struct guard_node *char_node(struct syntax *s, uint32_t c)
{
	struct guard_node *n = node(s, GUARD_NODE_CLASS);

	if (!n)
		return NULL;
	n->class.exact = true;
	guard_class_add_range(&n->class, c, c);
	guard_class_finish(&n->class, false, s->c.flags);
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

	if (s->c.end - s->c.p < 2)
		return fail(s);
	char letter = s->c.p[1];
	s->c.p += 2;
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
		if (s->c.p < s->c.end && *s->c.p == '{')
			return fail(s);
		return dot(s, false);
	default:
		break;
	}
	if (letter >= '1' && letter <= '9' &&
		!(s->c.p < s->c.end && *s->c.p >= '0' && *s->c.p <= '9'))
		return node(s, GUARD_NODE_ANYTHING);
	n = node(s, GUARD_NODE_CLASS);
	if (!n)
		return NULL;
	n->class.exact = true;
	if (guard_class_add_kind(&n->class, letter, s->c.flags))
		return n;
	if ((letter | 32) == 'p' && guard_chars_property(&s->c)) {
		guard_class_add_everything(&n->class);
		return n;
	}
	guard_syntax_free(n);
	return guard_chars_escape(&s->c, letter, &c) ? char_node(s, c) : fail(s);
}

static bool take(struct syntax *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(s->c.end - s->c.p) < len || memcmp(s->c.p, word, len) != 0)
		return false;
	s->c.p += len;
	return true;
}

/* (?i-s: or (?i) behind the "(?". True: understood; *whole: it holds to the end of the group. */
static bool inline_flags(struct syntax *s, bool *whole)
{
	bool on = true;

	for (; s->c.p < s->c.end && *s->c.p != ':' && *s->c.p != ')'; s->c.p++) {
		static const char letters[] = "ismx-";
		static const uint32_t bits[] = {
			PCRE2_CASELESS, PCRE2_DOTALL, PCRE2_MULTILINE, PCRE2_EXTENDED, 0};
		const char *at = *s->c.p ? strchr(letters, *s->c.p) : NULL;
		if (!at || (*at == 'x' && s->c.p[1] == 'x'))
			return false;
		if (*at == '-')
			on = false;
		s->c.flags =
			on ? s->c.flags | bits[at - letters] : s->c.flags & ~bits[at - letters];
	}
	if (s->c.p == s->c.end)
		return false;
	*whole = *s->c.p++ == ')';
	return true;
}

/* The name of a group, up to its closing character. */
static bool skip_name(struct syntax *s, char close)
{
	while (s->c.p < s->c.end && *s->c.p != close)
		s->c.p++;
	return s->c.p < s->c.end && *s->c.p++ == close;
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
	uint32_t flags = s->c.flags;
	bool inert = false;
	struct guard_node *n, *inside;

	s->c.p++;
	if (s->c.p < s->c.end && *s->c.p == '*')
		return fail(s);
	if (take(s, "?") && !group_kind(s, &kind, &inert))
		return fail(s);
	if (inert) /* flags hold on */
		return node(s, GUARD_NODE_EMPTY);
	if (++s->depth > DEPTH_MAX)
		return fail(s);
	inside = alternatives(s);
	s->depth--;
	s->c.flags = flags;
	if (s->failed || s->c.p == s->c.end || *s->c.p != ')') {
		guard_syntax_free(inside);
		return fail(s);
	}
	s->c.p++;
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

/* {n} {n,} {n,m}. False: s->c.p is as it was, the brace is a plain character. */
static bool counted(struct syntax *s, unsigned *min, unsigned *max)
{
	const char *p = s->c.p + 1;

	if (!number(&p, s->c.end, min) || p == s->c.end)
		return false;
	*max = *min;
	if (*p == ',') {
		p++;
		if (!number(&p, s->c.end, max))
			*max = GUARD_REPEAT_MANY;
	}
	if (p >= s->c.end || *p != '}')
		return false;
	s->c.p = p + 1;
	return true;
}

static bool quantifier(struct syntax *s, unsigned *min, unsigned *max)
{
	char c = s->c.p < s->c.end ? *s->c.p : 0;

	if (c == '{')
		return counted(s, min, max);
	if (!c || !strchr("*+?", c))
		return false;
	*min = c == '+';
	*max = c == '?' ? 1 : GUARD_REPEAT_MANY;
	s->c.p++;
	return true;
}

static void skip_space(struct syntax *s)
{
	while ((s->c.flags & PCRE2_EXTENDED) && s->c.p < s->c.end) {
		if (*s->c.p == '#')
			while (s->c.p < s->c.end && *s->c.p != '\n')
				s->c.p++;
		else if (strchr(" \t\n\v\f\r", *s->c.p) && *s->c.p)
			s->c.p++;
		else if ((unsigned char)*s->c.p >= 0x80) { /* some of these are space to PCRE2 */
			fail(s);
			return;
		} else
			return;
	}
}

static struct guard_node *atom(struct syntax *s)
{
	switch (*s->c.p) {
	case '(':
		return group(s);
	case '[':
		return set(s);
	case '\\':
		return escape(s);
	case '.':
		s->c.p++;
		return dot(s, s->c.flags & PCRE2_DOTALL);
	case '^':
		s->c.p++;
		return node(
			s, s->c.flags & PCRE2_MULTILINE ? GUARD_NODE_LINE_START : GUARD_NODE_START);
	case '$':
		s->c.p++;
		return node(s, s->c.flags & PCRE2_MULTILINE ? GUARD_NODE_ZERO : GUARD_NODE_END);
	case '*':
	case '+':
	case '?':
		return fail(s);
	case '{': /* a plain character to some PCRE2s, a quantifier to later ones */
		return fail(s);
	default:
		return char_node(s, guard_chars_plain(&s->c));
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
	bool atomic = s->c.p < s->c.end && *s->c.p == '+';
	if (atomic || (s->c.p < s->c.end && *s->c.p == '?'))
		s->c.p++;
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
		if (s->c.p == s->c.end || *s->c.p == '|' || *s->c.p == ')')
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
		if (s->c.p == s->c.end || *s->c.p != '|')
			return alt;
		s->c.p++;
	}
	return guard_syntax_free(alt);
}

struct guard_node *guard_syntax_parse(const char *pattern, size_t len, uint32_t flags)
{
	struct syntax s = {.c = {pattern, pattern + len, flags}};
	struct guard_node *tree;

	if (memmem(pattern, len, "\\Q", 2) || memmem(pattern, len, "\\E", 2))
		return NULL;
	tree = alternatives(&s);
	if (s.failed || s.c.p != s.c.end)
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
