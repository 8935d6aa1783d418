/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule files that ship, held to the examples in them and to what guard.h promises: what a set
 * finds in a text does not depend on the pieces it comes in, and no more than GUARD_HOLD_MAX bytes
 * are held back.
 *
 * Texts for that are made from the examples: whole, cut, with a character changed, in a row,
 * between words, digits and characters of several bytes. Each is fed whole, cut once and several
 * times at random, and byte by byte. By default these are 10,000 texts in the sets of all files
 * together and 200 for each rule alone, and one in fifty is also cut at every place. The full run
 * cuts every text below 400 bytes at every place (docs/guards.md):
 *
 *	LLMFS_GUARD_TEXTS=10000 meson test -C build gateway/shipped_rules -t 0
 */
#include <check.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/gateway/made_text.h"
#include "tests/gateway/shipped.h"
#include "tests/run_suite.h"

static struct shipped shipped;
static int shipped_rc;
static struct err shipped_err;

/* ---- a text, judged ---- */

struct verdict {
	int code; /* of the feed that ended it, or of the end */
	struct buf out;
	struct guard_finding *findings;
	size_t n, held; /* held: the most at any time */
};

/* Feeds text[0..len) cut at the given places, which ascend. */
static void judge(struct verdict *v, struct guard_set *set, const char *text, size_t len,
	const size_t *cuts, size_t n_cuts)
{
	struct guard_stream *s = guard_stream_new(set);
	size_t from = 0;

	*v = (struct verdict){0};
	if (!s) /* libcheck writes a file at every assertion, which would take most of the time */
		ck_abort_msg("no memory");
	for (size_t i = 0; i <= n_cuts && !v->code; i++) {
		size_t to = i < n_cuts ? cuts[i] : len;
		v->code = guard_stream_feed(s, text + from, to - from, &v->out);
		if (!v->code && guard_stream_held(s) > v->held)
			v->held = guard_stream_held(s);
		from = to;
	}
	if (!v->code)
		v->code = guard_stream_end(s, &v->out);
	const struct guard_finding *f = guard_stream_findings(s, &v->n);
	v->findings = v->n ? calloc(v->n, sizeof *f) : NULL;
	if (v->n && !v->findings)
		ck_abort_msg("no memory");
	if (v->n)
		memcpy(v->findings, f, v->n * sizeof *f);
	guard_stream_free(s);
}

static void judge_whole(struct verdict *v, struct guard_set *set, const struct shipped_text *t)
{
	judge(v, set, t->text, t->len, NULL, 0);
}

static void verdict_free(struct verdict *v)
{
	buf_free(&v->out);
	free(v->findings);
}

/* The first finding of that rule, or NULL. */
static const struct guard_finding *found(const struct verdict *v, const char *rule)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->findings[i].rule, rule) == 0)
			return &v->findings[i];
	return NULL;
}

static bool contains(const struct buf *b, const char *bytes, size_t n)
{
	return b->len && memmem(b->data, b->len, bytes, n);
}

/* What differs, or NULL. */
static const char *difference(const struct verdict *a, const struct verdict *b)
{
	if (a->code != b->code)
		return "the verdict";
	if (a->out.len != b->out.len ||
		(a->out.len && memcmp(a->out.data, b->out.data, a->out.len)))
		return "the bytes released";
	if (a->n != b->n)
		return "the number of findings";
	for (size_t i = 0; i < a->n; i++) {
		const struct guard_finding *f = &a->findings[i], *g = &b->findings[i];
		if (f->action != g->action || strcmp(f->rule, g->rule) ||
			strcmp(f->file, g->file) || strcmp(f->why, g->why) ||
			f->offset != g->offset || f->len != g->len)
			return "a finding";
	}
	return NULL;
}

/* ---- the examples ---- */

START_TEST(every_file_parses)
{
	ck_assert_msg(shipped_rc == 0, "%s", shipped_err.text);
	ck_assert_uint_ge(shipped.n, 8);
	for (size_t i = 0; i < shipped.n; i++) {
		struct shipped_file *f = &shipped.files[i];
		ck_assert_msg(f->n == guard_rules_count(f->parsed), "%s: %zu rules, %zu lines",
			f->name, guard_rules_count(f->parsed), f->n);
		for (size_t k = 0; k < f->n; k++)
			ck_assert_msg(
				guard_rules_line(f->parsed, f->rules[k].name) == f->rules[k].line,
				"%s: line of %s", f->name, f->rules[k].name);
		for (size_t k = 0; k < i; k++)
			if (shipped.files[k].stage == f->stage) {
				const char *both =
					guard_rules_clash(f->parsed, shipped.files[k].parsed);
				ck_assert_msg(!both, "%s is in %s and %s", both, f->name,
					shipped.files[k].name);
			}
	}
}
END_TEST

START_TEST(every_rule_has_three_examples_of_each_kind)
{
	for (size_t i = 0; i < shipped.n; i++)
		for (size_t k = 0; k < shipped.files[i].n; k++) {
			struct shipped_rule *r = &shipped.files[i].rules[k];
			size_t must = 0;
			for (size_t j = 0; j < r->n_texts; j++)
				must += r->texts[j].must;
			ck_assert_msg(must >= 3 && r->n_texts - must >= 3,
				"%s:%u: %s has %zu #+ and %zu #-", shipped.files[i].name, r->line,
				r->name, must, r->n_texts - must);
		}
}
END_TEST

typedef void example_fn(
	const struct shipped_file *f, const struct shipped_rule *r, const struct shipped_text *t);

static void each_example(bool must, example_fn *fn)
{
	size_t n = 0;
	for (size_t i = 0; i < shipped.n; i++)
		for (size_t k = 0; k < shipped.files[i].n; k++) {
			struct shipped_rule *r = &shipped.files[i].rules[k];
			for (size_t j = 0; j < r->n_texts; j++)
				if (r->texts[j].must == must) {
					fn(&shipped.files[i], r, &r->texts[j]);
					n++;
				}
		}
	ck_assert_uint_gt(n, 0);
}

/* What the rule's action makes of the text, among the rules of its file. */
static void has_effect(
	const struct shipped_file *f, const struct shipped_rule *r, const struct shipped_text *t)
{
	struct verdict v;
	char mark[80];

	judge_whole(&v, f->set, t);
	const struct guard_finding *hit = found(&v, r->name);
	ck_assert_msg(hit, "%s:%u: %s does not find it", f->name, t->line, r->name);
	ck_assert_str_eq(hit->why, "match");
	ck_assert_str_eq(hit->file, f->name);
	ck_assert_int_eq(hit->action, r->action);
	ck_assert_uint_gt(hit->len, 0);
	ck_assert_uint_le(hit->offset + hit->len, t->len);
	snprintf(mark, sizeof mark, "[%s]", r->name);
	if (r->action == GUARD_BLOCK) {
		ck_assert_msg(v.code == 1 && hit == &v.findings[v.n - 1],
			"%s:%u: not blocked by %s", f->name, t->line, r->name);
		ck_assert_msg(
			v.out.len <= hit->offset, "%s:%u: released too much", f->name, t->line);
	} else if (r->action == GUARD_REDACT) {
		ck_assert_msg(v.code == 0 && contains(&v.out, mark, strlen(mark)),
			"%s:%u: no %s in the text", f->name, t->line, mark);
		ck_assert_msg(!contains(&v.out, t->text + hit->offset, hit->len),
			"%s:%u: what was redacted is still there", f->name, t->line);
	} else {
		ck_assert_msg(v.code == 0 && v.out.len == t->len &&
				      memcmp(v.out.data, t->text, t->len) == 0,
			"%s:%u: not released as it was", f->name, t->line);
	}
	verdict_free(&v);
}

START_TEST(what_must_match_is_found_and_treated_by_its_rule)
{
	each_example(true, has_effect);
}
END_TEST

static void found_alone(
	const struct shipped_file *f, const struct shipped_rule *r, const struct shipped_text *t)
{
	struct verdict v;
	judge_whole(&v, r->alone, t);
	ck_assert_msg(
		found(&v, r->name), "%s:%u: %s alone does not find it", f->name, t->line, r->name);
	verdict_free(&v);
}

START_TEST(what_must_match_is_found_by_its_rule_alone)
{
	each_example(true, found_alone);
}
END_TEST

static void not_found(
	const struct shipped_file *f, const struct shipped_rule *r, const struct shipped_text *t)
{
	struct verdict v;
	judge_whole(&v, r->alone, t);
	ck_assert_msg(v.code == 0 && v.n == 0, "%s:%u: %s finds %.*s", f->name, t->line, r->name,
		v.n ? (int)v.findings[0].len : 0, v.n ? t->text + v.findings[0].offset : "");
	ck_assert_uint_eq(v.out.len, t->len);
	ck_assert_mem_eq(v.out.data, t->text, t->len);
	verdict_free(&v);
	judge_whole(&v, f->set, t);
	ck_assert_msg(
		!found(&v, r->name), "%s:%u: %s finds it among others", f->name, t->line, r->name);
	verdict_free(&v);
}

START_TEST(what_must_not_match_is_not_found)
{
	each_example(false, not_found);
}
END_TEST

/* ---- what people ask guide, and what it answers ---- */

static void passes(const char *path, unsigned number, const char *line, size_t n)
{
	for (int stage = GUARD_INPUT; stage <= GUARD_OUTPUT; stage++) {
		struct verdict v;
		judge(&v, shipped.stages[stage], line, n, NULL, 0);
		for (size_t i = 0; i < v.n; i++)
			ck_assert_msg(v.findings[i].action == GUARD_WARN, "%s:%u: %s finds %.*s",
				path, number, v.findings[i].rule, (int)v.findings[i].len,
				line + v.findings[i].offset);
		ck_assert_int_eq(v.code, 0);
		ck_assert_uint_eq(v.out.len, n);
		verdict_free(&v);
	}
}

static unsigned pass_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	unsigned number = 0;

	ck_assert_ptr_nonnull(f);
	while ((n = getline(&line, &cap, f)) > 0)
		passes(path, ++number, line, (size_t)n);
	free(line);
	fclose(f);
	return number;
}

START_TEST(no_question_to_guide_and_no_answer_is_touched)
{
	glob_t g;
	unsigned lines = pass_file(SOURCE "/tools/guide/heldout.jsonl");
	ck_assert_int_eq(glob(SOURCE "/tools/guide/data/*.txt", 0, NULL, &g), 0);
	/* What is asked about guards names what they block. */
	for (size_t i = 0; i < g.gl_pathc; i++)
		if (!strstr(g.gl_pathv[i], "guards.txt"))
			lines += pass_file(g.gl_pathv[i]);
	globfree(&g);
	ck_assert_uint_gt(lines, 3000);
}
END_TEST

/* ---- splits ---- */

enum { CUTS_MAX = 8 };

static void say_difference(const char *what, const char *who, const struct buf *text,
	const size_t *cuts, size_t n_cuts)
{
	struct buf b = {0};
	for (size_t i = 0; i < text->len && i < 2000; i++) {
		unsigned char c = (unsigned char)text->data[i];
		buf_printf(&b, c < 0x20 || c > 0x7e || c == '\\' ? "\\x%02x" : "%c", c);
	}
	buf_printf(&b, "\ncut at");
	for (size_t i = 0; i < n_cuts && i < 20; i++)
		buf_printf(&b, " %zu", cuts[i]);
	ck_abort_msg("%s: %s differs or is wrong, of %zu bytes: %s", who, what, text->len, b.data);
}

static void same_when_cut(struct guard_set *set, const char *who, const struct buf *text,
	const struct verdict *whole, const size_t *cuts, size_t n_cuts)
{
	struct verdict v;
	judge(&v, set, text->data, text->len, cuts, n_cuts);
	const char *what = difference(whole, &v);
	if (!what && v.held > GUARD_HOLD_MAX)
		what = "what is held back";
	if (what)
		say_difference(what, who, text, cuts, n_cuts);
	verdict_free(&v);
}

/* Whether anything is found in it. */
static bool same_for_splits(struct guard_set *set, const char *who, const struct buf *text,
	uint64_t *rng, bool all_single)
{
	struct verdict whole;
	size_t cuts[CUTS_MAX], len = text->len, n = 1 + made_text_below(rng, CUTS_MAX);

	judge(&whole, set, text->data, len, NULL, 0);
	cuts[0] = made_text_below(rng, len + 1);
	same_when_cut(set, who, text, &whole, cuts, 1);
	for (size_t i = 0, at = 0; i < n; i++) {
		at += made_text_below(rng, 2 * (len - at) / (n - i) + 1);
		at = at > len ? len : at;
		cuts[i] = at;
	}
	same_when_cut(set, who, text, &whole, cuts, n);
	size_t *every = calloc(len + 1, sizeof *every);
	if (!every)
		ck_abort_msg("no memory");
	for (size_t i = 0; i < len; i++)
		every[i] = i + 1;
	same_when_cut(set, who, text, &whole, every, len);
	for (size_t i = 0; all_single && i < len; i++)
		same_when_cut(set, who, text, &whole, &every[i], 1);
	free(every);
	bool any = whole.n > 0;
	verdict_free(&whole);
	return any;
}

static size_t texts_per_rule(void)
{
	const char *n = getenv("LLMFS_GUARD_TEXTS");
	return n && *n ? strtoul(n, NULL, 10) : 200;
}

/* Whether the nth text is to be cut at every place. */
static bool cut_everywhere(size_t n, const struct buf *text)
{
	return (n % 50 == 0 || getenv("LLMFS_GUARD_TEXTS")) && text->len < 400;
}

static void splits_of_rule(const struct shipped_rule *r, uint64_t *rng)
{
	struct buf text = {0};
	size_t per_rule = texts_per_rule(), matched = 0;

	for (size_t n = 0; n < per_rule; n++) {
		made_text(&text, &shipped, r, rng);
		matched += same_for_splits(r->alone, r->name, &text, rng, cut_everywhere(n, &text));
	}
	ck_assert_msg(matched * 50 > per_rule, "%s: found in %zu of %zu texts", r->name, matched,
		per_rule);
	buf_free(&text);
}

START_TEST(a_rule_finds_the_same_for_every_split)
{
	uint64_t rng = 3;

	for (size_t i = 0; i < shipped.n; i++)
		for (size_t k = 0; k < shipped.files[i].n; k++)
			splits_of_rule(&shipped.files[i].rules[k], &rng);
}
END_TEST

START_TEST(all_rules_together_find_the_same_for_every_split)
{
	static const char *const who[] = {"input", "output"};
	uint64_t rng = 5;
	struct buf text = {0};
	size_t matched = 0;

	for (size_t n = 0; n < 10000; n++) {
		made_text(&text, &shipped, made_text_rule(&shipped, &rng), &rng);
		matched += same_for_splits(shipped.stages[n % 2], who[n % 2], &text, &rng,
			cut_everywhere(n / 2, &text));
	}
	ck_assert_uint_gt(matched, 2000);
	buf_free(&text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shipped_rules");
	TCase *t = tcase_create("examples"), *splits = tcase_create("splits");

	if (run_suite_has_one_thread())
		return 77;
	shipped_rc = shipped_read(&shipped, SOURCE "/mnt-example/guards", &shipped_err);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_file_parses);
	suite_add_tcase(suite, t);
	if (shipped_rc == 0) {
		tcase_add_test(t, every_rule_has_three_examples_of_each_kind);
		tcase_add_test(t, what_must_match_is_found_and_treated_by_its_rule);
		tcase_add_test(t, what_must_match_is_found_by_its_rule_alone);
		tcase_add_test(t, what_must_not_match_is_not_found);
		tcase_add_test(t, no_question_to_guide_and_no_answer_is_touched);
		tcase_set_timeout(splits, getenv("LLMFS_GUARD_TEXTS") ? 7200 : 240);
		tcase_add_test(splits, a_rule_finds_the_same_for_every_split);
		tcase_add_test(splits, all_rules_together_find_the_same_for_every_split);
		suite_add_tcase(suite, splits);
	}
	int r = run_suite(suite);
	shipped_free(&shipped);
	return r;
}
