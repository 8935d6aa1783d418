/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that are not patterns: of the length of a text, and of its form.
 *
 * Whether a text is one JSON value (RFC 8259) is judged by its grammar alone: numbers may have any
 * size and names may come twice, because who asks for JSON asks for what a parser will take. Values
 * may be nested 128 deep.
 */
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"
#include "gateway/guard_schema.h"

enum { DEPTH_MAX = 128 };

struct json {
	const char *p, *end;
	unsigned depth;
};

static void space(struct json *j)
{
	while (j->p < j->end && memchr(" \t\n\r", *j->p, 4))
		j->p++;
}

static bool take(struct json *j, char c)
{
	if (j->p == j->end || *j->p != c)
		return false;
	j->p++;
	return true;
}

static bool word(struct json *j, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(j->end - j->p) < n || memcmp(j->p, w, n) != 0)
		return false;
	j->p += n;
	return true;
}

static bool digits(struct json *j)
{
	const char *begin = j->p;

	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
	return j->p > begin;
}

static bool number(struct json *j)
{
	take(j, '-');
	if (!take(j, '0') && !digits(j))
		return false;
	if (take(j, '.') && !digits(j))
		return false;
	if (take(j, 'e') || take(j, 'E')) {
		if (!take(j, '+'))
			take(j, '-');
		return digits(j);
	}
	return true;
}

static bool escape(struct json *j)
{
	if (j->p == j->end)
		return false;
	char c = *j->p++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c);
	for (unsigned i = 0; i < 4; i++, j->p++)
		if (j->p == j->end || !*j->p || !strchr("0123456789abcdefABCDEF", *j->p))
			return false;
	return true;
}

static bool string(struct json *j)
{
	if (!take(j, '"'))
		return false;
	while (j->p < j->end) {
		char c = *j->p++;
		if (c == '"')
			return true;
		if ((unsigned char)c < ' ' || (c == '\\' && !escape(j)))
			return false;
	}
	return false;
}

static bool value(struct json *j);

/* Members up to `close`, behind the opening bracket. */
static bool members(struct json *j, char close)
{
	space(j);
	if (take(j, close))
		return true;
	do {
		space(j);
		if (close == '}') {
			if (!string(j))
				return false;
			space(j);
			if (!take(j, ':'))
				return false;
		}
		if (!value(j))
			return false;
		space(j);
	} while (take(j, ','));
	return take(j, close);
}

static bool value(struct json *j)
{
	bool ok;

	space(j);
	if (j->p == j->end)
		return false;
	switch (*j->p) {
	case '{':
	case '[':
		if (++j->depth > DEPTH_MAX)
			return false;
		ok = members(j, *j->p++ == '{' ? '}' : ']');
		j->depth--;
		return ok;
	case '"':
		return string(j);
	case 't':
		return word(j, "true");
	case 'f':
		return word(j, "false");
	case 'n':
		return word(j, "null");
	default:
		return number(j);
	}
}

static bool is_json(const char *text, size_t n)
{
	struct json j = {text, text + n, 0};

	if (!value(&j))
		return false;
	space(&j);
	return j.p == j.end;
}

int guard_format_count(const struct guard_set *set, const char *text, size_t offset, size_t n,
	uint64_t *n_chars, struct guard_hits *hits)
{
	uint64_t before = *n_chars;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		*n_chars += !utf8_is_inside(text[i]);
	for (size_t k = 0; k < set->n && r == 0; k++) {
		const struct guard_rule *rule = set->rules[k];
		uint64_t chars = before;
		size_t i = 0;
		if (rule->kind != GUARD_MAX_CHARS || before > rule->max_chars ||
			*n_chars <= rule->max_chars)
			continue;
		for (; i < n; i++)
			if (!utf8_is_inside(text[i]) && chars++ == rule->max_chars)
				break;
		r = guard_hits_add(
			hits, &(struct guard_hit){rule, k, offset + i, offset + (n > i ? i + 1 : i),
				      "too long", rule->action == GUARD_BLOCK});
	}
	return r;
}

int guard_format_judge(
	const struct guard_set *set, const char *text, size_t n, struct guard_hits *hits)
{
	int r = 0;

	for (size_t k = 0; k < set->n && r == 0; k++) {
		const struct guard_rule *rule = set->rules[k];
		if (rule->kind == GUARD_JSON && is_json(text, n))
			continue;
		if (rule->kind == GUARD_SCHEMA && guard_schema_accepts(rule->schema, text, n))
			continue;
		if (rule->kind == GUARD_JSON || rule->kind == GUARD_SCHEMA)
			r = guard_hits_add(
				hits, &(struct guard_hit){rule, k, 0, n, "invalid", true});
	}
	return r;
}
