/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of a file. Its reading stops at the first fault (guard_line.c): all of a file or
 * nothing, a rule that is half understood is no guard.
 *
 * Immutable once it is read; the last reference ends it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"
#include "gateway/guard_schema.h"

enum { FILE_MAX = 1 << 20 };

static bool use_filters = true;

void guard_rules_use_filters(bool on)
{
	use_filters = on;
}

static struct guard_rule *add_rule(struct guard_rules *r)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 16;
		struct guard_rule *more = realloc(r->rules, cap * sizeof(*more));
		if (!more)
			return NULL;
		r->rules = more;
		r->cap = cap;
	}
	r->rules[r->n] = (struct guard_rule){.file = r->file};
	return &r->rules[r->n];
}

static void free_rule(struct guard_rule *rule)
{
	free(rule->name);
	guard_schema_free(rule->schema);
	pcre2_code_free(rule->code);
	pcre2_code_free(rule->anchored);
	pcre2_code_free(rule->counted);
	guard_filter_free(&rule->filter);
}

static int read_rule(struct guard_rules *rules, struct guard_line *l)
{
	struct guard_rule *rule;
	int r;

	l->fault->of_all = rules->n == GUARD_RULES_MAX;
	if (l->fault->of_all)
		return guard_line_refuse(l, l->p, "a file has at most %d rules", GUARD_RULES_MAX);
	rule = add_rule(rules);
	if (!rule)
		return -ENOMEM;
	r = guard_line_rule(l, rules, use_filters, rule);
	rules->compiled += guard_compile_bytes(rule);
	l->fault->of_all = r == 0 && rules->compiled > GUARD_COMPILED_MAX;
	if (l->fault->of_all)
		r = guard_line_refuse(l, l->begin,
			"the rules up to here are larger than %zu MiB once compiled",
			GUARD_COMPILED_MAX >> 20);
	if (r < 0)
		free_rule(rule);
	else
		rules->n++;
	return r;
}

int guard_rules_parse(struct guard_rules **out, enum guard_stage stage, const char *file,
	const char *text, size_t len, struct guard_fault *fault)
{
	struct guard_rules *rules = calloc(1, sizeof(*rules));
	struct guard_line l = {.fault = fault};
	int r = 0;

	*out = NULL;
	*fault = (struct guard_fault){0};
	if (!rules)
		return -ENOMEM;
	atomic_init(&rules->refs, 1);
	rules->stage = stage;
	rules->file = strdup(file);
	if (!rules->file)
		r = -ENOMEM;
	l.begin = l.p = text;
	l.number = 1;
	fault->of_all = r == 0 && len > FILE_MAX;
	if (fault->of_all)
		r = guard_line_refuse(&l, text, "the file is larger than %d bytes", FILE_MAX);
	for (const char *p = text + utf8_mark(text, len), *end = text + len; p < end && r == 0;
		l.number++) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		l.begin = l.p = p;
		l.end = stop ? stop : end;
		p = stop ? stop + 1 : end;
		r = guard_line_begin(&l);
		if (r == 0)
			r = read_rule(rules, &l);
		r = r < 0 ? r : 0;
	}
	if (r < 0)
		rules = guard_rules_put(rules);
	*out = rules;
	return r;
}

struct guard_rules *guard_rules_ref(struct guard_rules *r)
{
	atomic_fetch_add(&r->refs, 1);
	return r;
}

struct guard_rules *guard_rules_put(struct guard_rules *r)
{
	if (!r || atomic_fetch_sub(&r->refs, 1) > 1)
		return NULL;
	for (size_t i = 0; i < r->n; i++)
		free_rule(&r->rules[i]);
	free(r->rules);
	free(r->file);
	free(r);
	return NULL;
}

static const struct guard_rule *find(const struct guard_rules *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(name, r->rules[i].name) == 0)
			return &r->rules[i];
	return NULL;
}

size_t guard_rules_count(const struct guard_rules *r)
{
	return r->n;
}

const char *guard_rules_name(const struct guard_rules *r, size_t i)
{
	return r->rules[i].name;
}

unsigned guard_rules_line(const struct guard_rules *r, const char *name)
{
	const struct guard_rule *rule = find(r, name);
	return rule ? rule->line : 0;
}

const char *guard_rules_clash(const struct guard_rules *r, const struct guard_rules *other)
{
	for (size_t i = 0; i < r->n; i++)
		if (find(other, r->rules[i].name))
			return r->rules[i].name;
	return NULL;
}
