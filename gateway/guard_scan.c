/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One search of one rule with PCRE2. Everything it may answer other than match, no match and
 * partial is a limit: the caller counts, or fails closed.
 *
 * Memory for matching belongs to the thread: a stack for the compiled code, made at the first use
 * and freed with the thread. The free steps are PCRE2's match limit, which holds for each start, so
 * what a search says does not depend on how many starts it was asked to try.
 *
 * Compiled code does not tell its steps. Where they have to be known the interpreter runs the
 * pattern with a callout before every item. It takes the same path whatever stands behind the bytes
 * it has looked at, so the sum is a property of the text too.
 *
 * PCRE2's offset limit, set to the last start of interest, only saves work: compiled code looks
 * further when it has skipped there anyway, and what it then finds is as true.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "gateway/guard_parts.h"

struct scanner {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	uint64_t steps, max; /* of a counted attempt */
	size_t at;           /* where its last step was */
	struct guard_scan_sum sum;
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

static int count(pcre2_callout_block *block, void *scanner)
{
	struct scanner *s = scanner;
	size_t at = block->current_position;

	s->steps += 1 + (at > s->at ? at - s->at : s->at - at) / 16;
	s->at = at;
	return s->steps > s->max ? PCRE2_ERROR_CALLOUT : 0;
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
	pcre2_set_match_limit(s->context, GUARD_STEP_FREE);
	pcre2_set_heap_limit(s->context, 16 << 10); /* KiB; without compiled code only */
	pcre2_set_callout(s->context, count, s);
	return s;
}

static bool is_ready(void)
{
	if (!mine)
		mine = scanner_new();
	return mine;
}

struct guard_scan_sum guard_scan_sum(void)
{
	return mine ? mine->sum : (struct guard_scan_sum){0};
}

/* One call of PCRE2. */
static enum guard_scan_result run(const pcre2_code *code, bool jit, const char *text, size_t n,
	size_t from, size_t last, bool ended, size_t *a, size_t *b)
{
	uint32_t options = PCRE2_NOTEMPTY | (ended ? 0 : PCRE2_PARTIAL_HARD);
	const PCRE2_SIZE *found;
	int r;

	mine->sum.searches++;
	pcre2_set_offset_limit(mine->context, last);
	if (jit)
		r = pcre2_jit_match(
			code, (PCRE2_SPTR)text, n, from, options, mine->match, mine->context);
	else
		r = pcre2_match(code, (PCRE2_SPTR)text, n, from, options | PCRE2_NO_UTF_CHECK,
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
	if (*a < n && utf8_is_inside(text[*a]))
		return GUARD_SCAN_NONE;
	if (r == PCRE2_ERROR_PARTIAL)
		return GUARD_SCAN_PARTIAL; /* perhaps at n: a look-behind has seen the end */
	return *a < *b ? GUARD_SCAN_MATCH : GUARD_SCAN_LIMIT;
}

enum guard_scan_result guard_scan(const struct guard_rule *rule, const char *text, size_t n,
	size_t from, size_t last, bool ended, size_t *a, size_t *b)
{
	if (!is_ready())
		return GUARD_SCAN_NO_MEMORY;
	return run(rule->code, rule->jit, text, n, from, last, ended, a, b);
}

enum guard_scan_result guard_scan_at(
	const struct guard_rule *rule, const char *text, size_t n, size_t at, bool ended, size_t *b)
{
	size_t a;

	if (!is_ready())
		return GUARD_SCAN_NO_MEMORY;
	return run(rule->anchored, rule->jit, text, n, at, at, ended, &a, b);
}

enum guard_scan_result guard_scan_counted(const struct guard_rule *rule, const char *text, size_t n,
	size_t at, bool ended, uint64_t max, uint64_t *steps, size_t *b)
{
	enum guard_scan_result r;
	size_t a;

	if (!is_ready())
		return GUARD_SCAN_NO_MEMORY;
	mine->steps = 0;
	mine->max = max;
	mine->at = at;
	pcre2_set_match_limit(mine->context, UINT32_MAX); /* the callouts count */
	r = run(rule->counted, false, text, n, at, at, ended, &a, b);
	pcre2_set_match_limit(mine->context, GUARD_STEP_FREE);
	mine->sum.steps += mine->steps;
	*steps = mine->steps;
	return r;
}
