/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pattern of a rule, compiled.
 *
 * A stream searches from the middle of a text, with some text before it and not all behind it. What
 * would see the difference is refused here: verbs, which may end a whole search or change how the
 * text is read; \K and \G, which move or ask for the start; \X, which counts back without a bound;
 * \C; a subroutine call beside a look-behind, which may nest look-behinds without a bound. They are
 * found by their letters, without regard to \Q...\E or classes: a refusal too many says how to
 * write it otherwise, one too few would be a leak.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/guard_parts.h"

#define JIT (PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD)

static bool begins(const char *text, size_t n, const char *word)
{
	size_t len = strlen(word);
	return n >= len && memcmp(text, word, len) == 0;
}

/* What stands behind a backslash and is refused, or NULL. */
static const char *bad_escape(char c)
{
	switch (c) {
	case 'K':
		return "\\K is not supported: it moves the start of a match";
	case 'G':
		return "\\G is not supported: it depends on where a search begins";
	case 'X':
		return "\\X is not supported: it looks back without a bound";
	case 'C':
		return "\\C is not supported: it takes characters apart";
	default:
		return NULL;
	}
}

/* (?R) (?1) (?+1) (?-1) (?&name) (?P>name) */
static bool is_call(const char *p, size_t n)
{
	if (!begins(p, n, "(?") || n < 4)
		return false;
	if (p[2] == 'R' || p[2] == '&' || (p[2] >= '0' && p[2] <= '9'))
		return true;
	if (p[2] == 'P' && p[3] == '>')
		return true;
	return (p[2] == '+' || p[2] == '-') && p[3] >= '0' && p[3] <= '9';
}

struct survey {
	size_t behinds, calls;
	const char *bad;
	size_t at;
};

static void survey(struct survey *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n && !s->bad; i++) {
		s->at = i;
		if (p[i] == '\\' && i + 1 < n) {
			s->bad = bad_escape(p[i + 1]);
			if (p[i + 1] == 'c' && i + 2 < n && p[i + 2] == '\\')
				s->bad = "\\c\\ is not supported: write \\x1c";
			s->calls += i + 2 < n && p[i + 1] == 'g' && strchr("<'", p[i + 2]) != NULL;
			i++;
		} else if (begins(p + i, n - i, "(*")) {
			s->bad = "(*...) is not supported; for the two characters write [*(] or "
				 "\\(\\*";
		} else if (begins(p + i, n - i, "(?C")) {
			s->bad = "callouts are not supported";
		} else if (begins(p + i, n - i, "(?<=") || begins(p + i, n - i, "(?<!")) {
			s->behinds++;
		} else {
			s->calls += is_call(p + i, n - i);
		}
	}
	if (!s->bad && s->behinds && s->calls) {
		s->bad = "a look-behind and a subroutine call in one pattern are not supported";
		s->at = 0;
	}
}

static int refuse(char reason[200], const char *why)
{
	snprintf(reason, 200, "%s", why);
	return -EINVAL;
}

static pcre2_compile_context *settings(void)
{
	pcre2_compile_context *c = pcre2_compile_context_create(NULL);

	if (c) {
		pcre2_set_newline(c, PCRE2_NEWLINE_LF);
		pcre2_set_bsr(c, PCRE2_BSR_UNICODE);
	}
	return c;
}

static int compile(pcre2_code **out, const char *pattern, size_t len, uint32_t options,
	char reason[200], size_t *offset)
{
	pcre2_compile_context *context = settings();
	int code = 0;

	if (!context)
		return -ENOMEM;
	*out = pcre2_compile((PCRE2_SPTR)pattern, len,
		options | PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C |
			PCRE2_USE_OFFSET_LIMIT | PCRE2_ALT_CIRCUMFLEX,
		&code, offset, context);
	pcre2_compile_context_free(context);
	if (*out)
		return 0;
	if (code == PCRE2_ERROR_HEAP_FAILED)
		return -ENOMEM;
	if (pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, 200) < 0)
		return refuse(reason, "PCRE2 does not take it");
	return -EINVAL;
}

/* Bytes an attempt may look back over. Look-behinds may stand in one another; PCRE2 tells the
 * longest alone. */
static size_t context_of(const pcre2_code *code, size_t behinds)
{
	uint32_t chars = 0;

	pcre2_pattern_info(code, PCRE2_INFO_MAXLOOKBEHIND, &chars);
	return 4 * (chars * (behinds + 1) + 1);
}

size_t guard_compile_bytes(const struct guard_rule *rule)
{
	const pcre2_code *codes[] = {rule->code, rule->anchored, rule->counted};
	size_t sum = 0;
	for (size_t i = 0; i < 3; i++) {
		size_t size = 0, jit = 0;
		if (!codes[i])
			continue;
		pcre2_pattern_info(codes[i], PCRE2_INFO_SIZE, &size);
		pcre2_pattern_info(codes[i], PCRE2_INFO_JITSIZE, &jit);
		sum += size + jit;
	}
	return sum;
}

int guard_compile_pattern(struct guard_rule *rule, const char *pattern, size_t len,
	uint32_t options, bool filters, char reason[200], size_t *offset)
{
	struct survey s = {0};
	uint32_t empty = 1;
	int r;

	r = compile(&rule->code, pattern, len, options, reason, offset);
	if (r < 0)
		return r;
	survey(&s, pattern, len);
	*offset = s.bad ? s.at : 0;
	if (s.bad)
		return refuse(reason, s.bad);
	pcre2_pattern_info(rule->code, PCRE2_INFO_MATCHEMPTY, &empty);
	if (empty)
		return refuse(reason, "the pattern can match the empty string");
	rule->context = context_of(rule->code, s.behinds);
	if (rule->context > GUARD_CONTEXT_MAX)
		return refuse(reason, "it looks back too far");
	r = compile(&rule->anchored, pattern, len, options | PCRE2_ANCHORED, reason, offset);
	if (r == 0)
		r = compile(&rule->counted, pattern, len,
			options | PCRE2_ANCHORED | PCRE2_AUTO_CALLOUT, reason, offset);
	if (r < 0)
		return r;
	/* Where memory must not be made executable, the interpreter does the same, slower. */
	rule->jit = !pcre2_jit_compile(rule->code, JIT) && !pcre2_jit_compile(rule->anchored, JIT);
	rule->searched = !filters;
	struct guard_node *tree = guard_syntax_parse(pattern, len, options);
	r = tree ? guard_filter_find(&rule->filter, tree) : 0;
	guard_syntax_free(tree);
	return r;
}
