/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a careless rule may cost: the dearest patterns we know of, on the texts that make them so.
 * Whatever the pieces, steps stay below the bounds of guard_parts.h, the rule fails closed and says
 * why, and the verdict is the same. Bounds are of steps, not of time: a step is 5 to 15 ns, so 64
 * KiB are about 150 ms.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"
#include "tests/run_suite.h"

enum { TEXT = 65536 };

/* A text is `unit` over and over, in lines of `line` bytes. */
static const struct dear {
	const char *pattern, *unit;
	unsigned line;
} dear[] = {
	{"(?:a+)+b", "a", 60},
	{"(a+)+$", "a", 60},
	{"(?:a|aa)+b", "a", 30},
	{"(?:a|a)*b", "a", 100},
	{"(?:[a-y](?=[a-y]*\\n))*Q", "x", 4000},
	{"(?:[a-y](?=[a-y]*\\n)){1,62}Q", "x", 120},
	{"(?:(?=[a-y]*\\n)[a-y])?(?:(?=[a-y]*\\n)[a-y])?(?:(?=[a-y]*\\n)[a-y])?Q", "x", 4000},
	{".*.*.*x", "foo ba", 200},
	{"(?:.*,){11}P", "1,2,3,", 120},
	{"(\\w+\\s?)+:", "abc def ghi jkl mno pqr stu ! ", 4000},
	{"[a-y]*[a-z]*[a-x]*Q", "x", 100},
	{"\\S+@", "x", 4000},
	{"(.)(?:(?=.*\\1Q)|.){0,12}Q", "x", 120},
};

#define N_DEAR ((int)(sizeof(dear) / sizeof(dear[0])))

static uint64_t seed = 5;

static unsigned dice(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((seed >> 33) % n);
}

static void make_text(struct buf *b, const struct dear *d)
{
	for (size_t line = 0; b->len < TEXT;) {
		buf_append_str(b, d->unit);
		line += strlen(d->unit);
		if (line >= d->line) {
			buf_append_str(b, "\n");
			line = 0;
		}
	}
}

static struct guard_set *set_of(const char *action, const char *pattern)
{
	struct guard_rules *rules;
	struct guard_fault fault;
	char text[300];

	snprintf(text, sizeof(text), "%s r /%s/", action, pattern);
	ck_assert_msg(!guard_rules_parse(&rules, GUARD_OUTPUT, "f", text, strlen(text), &fault),
		"%s: %s", text, fault.reason);
	struct guard_set *set = guard_set_new(&rules, 1);
	ck_assert_ptr_nonnull(set);
	guard_rules_put(rules);
	return set;
}

struct outcome {
	int r;
	size_t released, n;
	struct guard_finding findings[64];
	struct guard_scan_sum cost;
};

/* In pieces of `most` bytes, or if `random` of up to so many. */
static void judge(
	struct outcome *o, struct guard_set *set, const struct buf *text, size_t most, bool random)
{
	struct guard_stream *s = guard_stream_new(set);
	struct guard_scan_sum before = guard_scan_sum();
	struct buf out = {0};

	*o = (struct outcome){0};
	for (size_t i = 0; i < text->len && o->r == 0;) {
		size_t len = random ? 1 + dice((unsigned)most) : most;
		len = len < text->len - i ? len : text->len - i;
		o->r = guard_stream_feed(s, text->data + i, len, &out);
		i += len;
	}
	if (o->r == 0)
		o->r = guard_stream_end(s, &out);
	const struct guard_finding *f = guard_stream_findings(s, &o->n);
	ck_assert_uint_le(o->n, 64);
	if (o->n)
		memcpy(o->findings, f, o->n * sizeof(*f));
	o->released = out.len;
	o->cost.searches = guard_scan_sum().searches - before.searches;
	o->cost.steps = guard_scan_sum().steps - before.steps;
	guard_stream_free(s);
	buf_free(&out);
}

static void must_agree(const struct outcome *a, const struct outcome *b, const char *pattern)
{
	ck_assert_int_eq(a->r, b->r);
	ck_assert_uint_eq(a->released, b->released);
	ck_assert_msg(a->n == b->n, "%s: %zu and %zu findings", pattern, a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		const struct guard_finding *x = &a->findings[i], *y = &b->findings[i];
		ck_assert_str_eq(x->why, y->why);
		ck_assert_int_eq(x->action, y->action);
		ck_assert_uint_eq(x->offset, y->offset);
		ck_assert_uint_eq(x->len, y->len);
	}
}

static const uint64_t allowed = GUARD_STEP_TEXT + (uint64_t)GUARD_STEP_BYTE * TEXT;

static bool is_of_steps(const struct guard_finding *f)
{
	return strcmp(f->why, "step limit") == 0 || strcmp(f->why, "step budget") == 0;
}

START_TEST(a_dear_rule_spends_no_more_than_its_budget)
{
	const struct dear *d = &dear[_i];
	struct guard_set *set = set_of("warn", d->pattern);
	struct buf text = {0};
	struct outcome whole, split;

	make_text(&text, d);
	judge(&whole, set, &text, text.len, false);
	ck_assert_int_eq(whole.r, 0);
	ck_assert_uint_eq(whole.released, text.len);
	/* An attempt ends some steps behind its limit, and one that waits is made again. */
	ck_assert_uint_le(whole.cost.steps, allowed + allowed / 100);
	ck_assert_uint_le(whole.cost.searches, 3 * TEXT);
	judge(&split, set, &text, 1, false);
	must_agree(&whole, &split, d->pattern);
	ck_assert_uint_le(split.cost.steps, 2 * allowed);
	ck_assert_uint_le(split.cost.searches, 4 * TEXT);
	judge(&split, set, &text, _i % 2 ? 20000 : 900, true);
	must_agree(&whole, &split, d->pattern);
	ck_assert_uint_le(split.cost.steps, 2 * allowed);
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

START_TEST(a_dear_rule_that_has_spent_its_budget_fails_closed)
{
	const struct dear *d = &dear[_i];
	struct guard_set *set = set_of(_i % 2 ? "block" : "redact", d->pattern);
	struct buf text = {0};
	struct outcome whole, split;

	make_text(&text, d);
	judge(&whole, set, &text, text.len, false);
	ck_assert_msg(whole.r == 1, "%s does not block", d->pattern);
	ck_assert_uint_ge(whole.n, 1);
	ck_assert_int_eq(whole.findings[whole.n - 1].action, GUARD_BLOCK);
	ck_assert_msg(is_of_steps(&whole.findings[whole.n - 1]), "%s: %s", d->pattern,
		whole.findings[whole.n - 1].why);
	ck_assert_uint_le(whole.cost.steps, 4 * allowed);
	judge(&split, set, &text, 1, false);
	must_agree(&whole, &split, d->pattern);
	judge(&split, set, &text, 3000, true);
	must_agree(&whole, &split, d->pattern);
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

START_TEST(what_is_cheap_near_by_is_free)
{
	struct guard_set *set = set_of("block", "foo[^\\n]{0,60}bar");
	struct buf text = {0};
	struct outcome o;

	while (text.len < 16 * TEXT)
		buf_append_str(&text, "foo fo foo ba of some more words and no\nfoo bah ");
	judge(&o, set, &text, text.len, false);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.cost.steps, 0);
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

START_TEST(the_budget_grows_with_the_text)
{
	/* Some thousand steps at one place in a thousand bytes, for ever. */
	struct guard_set *set = set_of("block", "(?:[a-z]{1,4})+=\\d");
	struct buf text = {.max = 32u << 20};
	struct outcome o;

	while (text.len < 64 * TEXT) {
		buf_append_str(&text, "abcdefghijkl! ");
		for (unsigned i = 0; i < 40; i++)
			buf_append_str(&text, "17 + 42 is 59, and 3 - 1. ");
	}
	judge(&o, set, &text, 4096, false);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_gt(o.cost.steps, GUARD_STEP_TEXT);
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("guard_steps");
	TCase *t = tcase_create("steps");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, a_dear_rule_spends_no_more_than_its_budget, 0, N_DEAR);
	tcase_add_loop_test(t, a_dear_rule_that_has_spent_its_budget_fails_closed, 0, N_DEAR);
	tcase_add_test(t, what_is_cheap_near_by_is_free);
	tcase_add_test(t, the_budget_grows_with_the_text);
	suite_add_tcase(s, t);
	return run_suite(s);
}
