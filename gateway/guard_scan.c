/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One search of one rule with PCRE2. Everything it may answer other than match, no match and
 * partial is a limit: the caller fails closed.
 *
 * Memory for matching belongs to the thread: a stack for the compiled code, made at the first use
 * and freed with the thread. The step limit holds for each start, so what a search says does not
 * depend on how many starts it was asked to try.
 *
 * PCRE2's offset limit, set to the last start of interest, only saves work: compiled code looks
 * further when it has skipped there anyway, and what it then finds is as true.
 */
#include <pthread.h>
#include <stdlib.h>

#include "gateway/guard_parts.h"

struct scanner {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;
static _Thread_local struct scanner *mine;

static void scanner_free(void *p)
{
	struct scanner *s = p;

	pcre2_match_data_free(s->match);
	pcre2_match_context_free(s->context);
	pcre2_jit_stack_free(s->stack);
	free(s);
	mine = NULL;
}

static void make_key(void)
{
	has_key = pthread_key_create(&key, scanner_free) == 0;
}

static struct scanner *scanner_new(void)
{
	struct scanner *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	pthread_once(&once, make_key);
	s->match = pcre2_match_data_create(1, NULL);
	s->context = pcre2_match_context_create(NULL);
	s->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)1 << 20, NULL);
	if (!s->match || !s->context || !s->stack || !has_key || pthread_setspecific(key, s)) {
		scanner_free(s);
		return NULL;
	}
	pcre2_jit_stack_assign(s->context, NULL, s->stack);
	pcre2_set_match_limit(s->context, GUARD_STEP_MAX);
	pcre2_set_heap_limit(s->context, 16 << 10); /* KiB; without compiled code only */
	return s;
}

enum guard_scan_result guard_scan(const struct guard_rule *rule, const char *text, size_t n,
	size_t from, size_t last, bool ended, size_t *a, size_t *b)
{
	uint32_t options = PCRE2_NOTEMPTY | (ended ? 0 : PCRE2_PARTIAL_HARD);
	const PCRE2_SIZE *found;
	int r;

	if (!mine)
		mine = scanner_new();
	if (!mine)
		return GUARD_SCAN_NO_MEMORY;
	pcre2_set_offset_limit(mine->context, last);
	if (rule->jit)
		r = pcre2_jit_match(
			rule->code, (PCRE2_SPTR)text, n, from, options, mine->match, mine->context);
	else
		r = pcre2_match(rule->code, (PCRE2_SPTR)text, n, from, options | PCRE2_NO_UTF_CHECK,
			mine->match, mine->context);
	if (r == PCRE2_ERROR_NOMATCH)
		return GUARD_SCAN_NONE;
	if (r == PCRE2_ERROR_NOMEMORY)
		return GUARD_SCAN_NO_MEMORY;
	if (r < 0 && r != PCRE2_ERROR_PARTIAL)
		return GUARD_SCAN_LIMIT;
	found = pcre2_get_ovector_pointer(mine->match);
	*a = found[0];
	*b = found[1];
	if (*a < from || *b < *a || *b > n) /* what \K could do; it is refused */
		return GUARD_SCAN_LIMIT;
	/* Compiled code that has run past `last` may try what is inside of the next character. */
	if (*a < n && ((unsigned char)text[*a] & 0xC0) == 0x80)
		return GUARD_SCAN_NONE;
	if (r == PCRE2_ERROR_PARTIAL)
		return GUARD_SCAN_PARTIAL; /* perhaps at n: a look-behind has seen the end */
	return *a < *b ? GUARD_SCAN_MATCH : GUARD_SCAN_LIMIT;
}

bool guard_scan_is_limit(
	const struct guard_rule *rule, const char *text, size_t n, size_t at, bool ended)
{
	struct guard_rule here = {.code = rule->anchored, .jit = rule->jit};
	size_t a, b;

	return guard_scan(&here, text, n, at, at, ended, &a, &b) == GUARD_SCAN_LIMIT;
}
