/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of a stage: the files' rules one after the other, and what a stream needs to know about
 * all of them at once. Immutable, so that a request keeps the set it began with.
 */
#include <stdlib.h>

#include "gateway/guard_parts.h"

static bool copy_rules(struct guard_set *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_files; i++)
		n += s->files[i]->n;
	s->rules = calloc(n + 1, sizeof(struct guard_rule *));
	s->patterns = calloc(n + 1, sizeof(struct guard_rule *));
	s->rank = calloc(n + 1, sizeof(*s->rank));
	if (!s->rules || !s->patterns || !s->rank)
		return false;
	for (size_t i = 0; i < s->n_files; i++) {
		for (size_t j = 0; j < s->files[i]->n; j++) {
			const struct guard_rule *r = &s->files[i]->rules[j];
			s->hold_all |= r->kind == GUARD_JSON || r->kind == GUARD_SCHEMA;
			s->counts |= r->kind == GUARD_MAX_CHARS;
			if (r->context > s->context)
				s->context = r->context;
			if (r->kind == GUARD_PATTERN) {
				s->rank[s->n_patterns] = s->n;
				s->patterns[s->n_patterns++] = r;
			}
			s->rules[s->n++] = r;
		}
	}
	return true;
}

struct guard_set *guard_set_new(struct guard_rules *const *files, size_t n)
{
	struct guard_set *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->context = 4;
	s->files = calloc(n + 1, sizeof(struct guard_rules *));
	if (!s->files)
		return guard_set_put(s);
	for (; s->n_files < n; s->n_files++)
		s->files[s->n_files] = guard_rules_ref(files[s->n_files]);
	if (!copy_rules(s))
		return guard_set_put(s);
	s->starts = guard_prefilter_new(s->patterns, s->n_patterns, GUARD_PREFILTER_STARTS);
	s->whole = guard_prefilter_new(s->patterns, s->n_patterns, GUARD_PREFILTER_WHOLE);
	if (!s->starts || !s->whole)
		return guard_set_put(s);
	return s;
}

struct guard_set *guard_set_ref(struct guard_set *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

struct guard_set *guard_set_put(struct guard_set *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return NULL;
	free(atomic_load(&s->spare));
	guard_prefilter_free(s->starts);
	guard_prefilter_free(s->whole);
	for (size_t i = 0; i < s->n_files; i++)
		guard_rules_put(s->files[i]);
	free(s->files);
	free(s->rules);
	free(s->patterns);
	free(s->rank);
	free(s);
	return NULL;
}
