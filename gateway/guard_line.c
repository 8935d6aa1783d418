/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of a rule file. The first fault ends it, with its place as an editor counts: the byte of
 * the line, for a fault in a pattern the byte PCRE2 stopped at.
 *
 * A control character is a fault: PCRE2 would take a backspace for a character to match, while
 * whoever wrote it wrote \b, and a shell's echo read it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"
#include "gateway/guard_schema.h"

enum { NAME_MAX_BYTES = 64, PATTERN_MAX = 32768 };

int guard_line_refuse(struct guard_line *l, const char *at, const char *format, ...)
{
	struct guard_fault *f = l->fault;
	va_list args;

	f->line = l->number;
	f->column = (unsigned)(at - l->begin) + 1;
	va_start(args, format);
	vsnprintf(f->reason, sizeof(f->reason), format, args);
	va_end(args);
	f->reason[utf8_valid_prefix(f->reason, strlen(f->reason))] = 0;
	return -EINVAL;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static void skip_space(struct guard_line *l)
{
	while (l->p < l->end && is_space(*l->p))
		l->p++;
}

/* The next word; "" at the end of the line. */
static const char *word(struct guard_line *l, size_t *n)
{
	const char *begin;

	skip_space(l);
	begin = l->p;
	while (l->p < l->end && !is_space(*l->p))
		l->p++;
	*n = (size_t)(l->p - begin);
	return begin;
}

static bool is(const char *w, size_t n, const char *text)
{
	return strlen(text) == n && memcmp(w, text, n) == 0;
}

/* As much of a word as a sentence should show. */
static int shown(size_t n)
{
	return n < 40 ? (int)n : 40;
}

static int read_action(struct guard_line *l, struct guard_rule *rule)
{
	size_t n;
	const char *w = word(l, &n);

	if (is(w, n, "block"))
		rule->action = GUARD_BLOCK;
	else if (is(w, n, "redact"))
		rule->action = GUARD_REDACT;
	else if (is(w, n, "warn"))
		rule->action = GUARD_WARN;
	else
		return guard_line_refuse(
			l, w, "\"%.*s\" is no action: block, redact or warn", shown(n), w);
	return 0;
}

/* The rule that has the name already, or NULL. */
static const struct guard_rule *holder(const struct guard_rules *r, const char *name, size_t n)
{
	for (size_t i = 0; i < r->n; i++)
		if (is(name, n, r->rules[i].name))
			return &r->rules[i];
	return NULL;
}

static bool is_name_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z' && c > 0) ||
	       (c && strchr("._-", c));
}

static int read_name(struct guard_line *l, const struct guard_rules *rules, struct guard_rule *rule)
{
	size_t n;
	const char *w = word(l, &n);
	const struct guard_rule *other;

	if (n == 0 || *w == '/')
		return guard_line_refuse(l, w, "the rule's name is missing");
	for (size_t i = 0; i < n; i++)
		if (!is_name_char(w[i]))
			return guard_line_refuse(
				l, w + i, "a name has letters, digits, and . _ - only");
	if (n > NAME_MAX_BYTES)
		return guard_line_refuse(l, w + NAME_MAX_BYTES, "a name has at most 64 characters");
	other = holder(rules, w, n);
	if (other)
		return guard_line_refuse(
			l, w, "the name %.*s is taken by line %u", (int)n, w, other->line);
	rule->name = strndup(w, n);
	return rule->name ? 0 : -ENOMEM;
}

/* Letters behind the pattern, as PCRE2's options. */
static int read_flags(struct guard_line *l, uint32_t *options)
{
	static const char letters[] = "ismxu";
	static const uint32_t bits[] = {
		PCRE2_CASELESS, PCRE2_DOTALL, PCRE2_MULTILINE, PCRE2_EXTENDED, PCRE2_UCP};

	*options = 0;
	for (; l->p < l->end && !is_space(*l->p); l->p++) {
		const char *at = strchr(letters, *l->p);
		if (!at || !*at)
			return guard_line_refuse(l, l->p, "no such flag: i s m x or u");
		if (*options & bits[at - letters])
			return guard_line_refuse(l, l->p, "the flag %c is there twice", *at);
		*options |= bits[at - letters];
	}
	return 0;
}

static int read_check(struct guard_line *l, struct guard_rule *rule)
{
	size_t n;
	const char *w = word(l, &n);

	if (n == 0)
		return 0;
	if (is(w, n, "check=luhn"))
		rule->check = GUARD_CHECK_LUHN;
	else if (is(w, n, "check=iban"))
		rule->check = GUARD_CHECK_IBAN;
	else if (n >= 6 && memcmp(w, "check=", 6) == 0)
		return guard_line_refuse(l, w + 6, "no such check: luhn or iban");
	else
		return guard_line_refuse(
			l, w, "only check=luhn or check=iban may follow a pattern");
	return 0;
}

/* From the opening slash on; the pattern with \/ as /, new in *out, l->p behind the closing one. */
static int cut_pattern(struct guard_line *l, char **out, size_t *n)
{
	const char *p = l->p + 1;
	char *to;

	while (p < l->end && *p != '/')
		p += *p == '\\' && p + 1 < l->end ? 2 : 1;
	if (p >= l->end)
		return guard_line_refuse(l, l->p, "the closing / of the pattern is missing");
	if (p - l->p > PATTERN_MAX)
		return guard_line_refuse(
			l, l->p, "the pattern is longer than %d bytes", PATTERN_MAX);
	to = *out = malloc((size_t)(p - l->p));
	if (!to)
		return -ENOMEM;
	for (const char *from = l->p + 1; from < p; from++) {
		if (*from == '\\' && from[1] != '/')
			*to++ = *from++;
		else if (*from == '\\')
			from++;
		*to++ = *from;
	}
	*to = 0;
	*n = (size_t)(to - *out);
	l->p = p + 1;
	return 0;
}

/* The place in the line of an offset in the pattern, which begins with the slash at `slash`. */
static const char *place_in_line(const char *slash, const char *end, size_t offset)
{
	const char *p = slash + 1;

	while (offset > 0 && p < end) {
		if (*p != '\\') {
			p++;
			offset--;
		} else {
			size_t wide = p[1] == '/' ? 1 : 2;
			p += offset >= wide ? 2 : 1;
			offset -= offset >= wide ? wide : offset;
		}
	}
	return p;
}

static int read_pattern(struct guard_line *l, bool filters, struct guard_rule *rule)
{
	const char *slash = l->p;
	char *pattern = NULL, reason[200] = "";
	size_t n = 0, offset = 0;
	uint32_t options;
	int r = cut_pattern(l, &pattern, &n);

	if (r < 0)
		return r;
	const char *end = l->p - 1;
	r = read_flags(l, &options);
	if (r == 0) {
		r = guard_compile_pattern(rule, pattern, n, options, filters, reason, &offset);
		if (r == -EINVAL)
			guard_line_refuse(l, place_in_line(slash, end, offset), "%s", reason);
	}
	free(pattern);
	return r < 0 ? r : read_check(l, rule);
}

static int read_schema(struct guard_line *l, struct guard_rule *rule)
{
	char reason[200] = "";
	size_t offset = 0;
	int r;

	skip_space(l);
	while (l->end > l->p && is_space(l->end[-1]))
		l->end--;
	r = guard_schema_new(&rule->schema, l->p, (size_t)(l->end - l->p), reason, &offset);
	if (r == -EINVAL)
		guard_line_refuse(l, l->p + offset, "%s", reason);
	l->p = l->end;
	return r;
}

static int read_max_chars(struct guard_line *l, struct guard_rule *rule)
{
	size_t n;
	const char *w = word(l, &n);

	for (size_t i = 0; i < n; i++) {
		if (w[i] < '0' || w[i] > '9' || i == 12)
			return guard_line_refuse(
				l, w, "max_chars takes a number from 1 to 999999999999");
		rule->max_chars = rule->max_chars * 10 + (uint64_t)(w[i] - '0');
	}
	if (!rule->max_chars)
		return guard_line_refuse(l, w, "max_chars takes a number from 1 to 999999999999");
	return 0;
}

/* What is not a pattern. */
static int read_format(struct guard_line *l, enum guard_stage stage, struct guard_rule *rule)
{
	size_t n;
	const char *w = word(l, &n);

	if (is(w, n, "json"))
		rule->kind = GUARD_JSON;
	else if (is(w, n, "schema"))
		rule->kind = GUARD_SCHEMA;
	else if (is(w, n, "max_chars"))
		rule->kind = GUARD_MAX_CHARS;
	else if (stage == GUARD_INPUT)
		return guard_line_refuse(l, w, "a /PATTERN/ is missing");
	else
		return guard_line_refuse(
			l, w, "a /PATTERN/ is missing, or json, schema or max_chars");
	if (stage == GUARD_INPUT)
		return guard_line_refuse(l, w, "%.*s is for output only", (int)n, w);
	if (rule->action == GUARD_REDACT ||
		(rule->action == GUARD_WARN && rule->kind != GUARD_MAX_CHARS))
		return guard_line_refuse(l, w, "%.*s can only block%s", (int)n, w,
			rule->kind == GUARD_MAX_CHARS ? " or warn" : "");
	if (rule->kind == GUARD_SCHEMA)
		return read_schema(l, rule);
	return rule->kind == GUARD_MAX_CHARS ? read_max_chars(l, rule) : 0;
}

/* Characters that are not meant, most of them made by an echo that knows escapes. */
static int refuse_controls(struct guard_line *l)
{
	static const char made[] = "\a\b\v\f\r\x1b", of[] = "abvfre";

	for (const char *p = l->p; p < l->end; p++) {
		unsigned c = (unsigned char)*p;
		const char *at;
		if ((c >= 0x20 || c == '\t') && c != 0x7f)
			continue;
		at = c ? strchr(made, (int)c) : NULL;
		if (!at)
			return guard_line_refuse(l, p,
				"the control character 0x%02x: in a pattern, write \\x%02x", c, c);
		return guard_line_refuse(l, p,
			"the control character 0x%02x: did the echo of sh make it out of \\%c? "
			"Write the line with printf '%%s\\n' '...'",
			c, of[at - made]);
	}
	return 0;
}

int guard_line_begin(struct guard_line *l)
{
	size_t n = (size_t)(l->end - l->p), good = utf8_valid_prefix(l->p, n);
	int r;

	if (good < n)
		return guard_line_refuse(l, l->p + good, "not UTF-8");
	if (n && memchr(l->p, 0, n))
		return guard_line_refuse(l, memchr(l->p, 0, n), "a NUL byte");
	if (n && l->end[-1] == '\r')
		l->end--;
	if (l->p == l->end || *l->p == '#')
		return 1;
	r = refuse_controls(l);
	skip_space(l);
	return r < 0 ? r : l->p == l->end;
}

int guard_line_rule(struct guard_line *l, const struct guard_rules *rules, bool filters,
	struct guard_rule *rule)
{
	int r;

	rule->line = l->number;
	r = read_action(l, rule);
	if (r == 0)
		r = read_name(l, rules, rule);
	skip_space(l);
	if (r == 0)
		r = l->p < l->end && *l->p == '/' ? read_pattern(l, filters, rule)
						  : read_format(l, rules->stage, rule);
	skip_space(l);
	if (r == 0 && l->p < l->end)
		r = guard_line_refuse(l, l->p, "nothing may follow here");
	return r;
}
