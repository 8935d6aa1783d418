/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random rules on random texts, cut at random: what a stream finds is what pcre2_match finds in the
 * whole text, and does not depend on the pieces.
 *
 * Patterns come from a small grammar over few characters, so that texts match often and nearly
 * match more often. Each is tried alone against plain PCRE2, and in sets of a few with every
 * action, with pieces of all sizes against the whole. Prints its seed; LLMFS_SEED=N runs another.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"
#include "tests/run_suite.h"

enum { PATTERNS = 500, TEXTS = 12, MATCHES = 512 };

static uint64_t seed = 2026;

static unsigned dice(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((seed >> 33) % n);
}

#define PICK(list) list[dice(sizeof(list) / sizeof(list[0]))]

/* ---- patterns ---- */

static const char *const words[] = {"a", "b", "c", "ab", "abc", "key", "k", "s", "1", "12", " ",
	"-", "\xc3\xa9", "\xe2\x82\xac", "\n", "K", "Key", "you", "aaaa", "\u0414", "\u0434",
	"\u1c81", "\u00e4", "\u00c4", "\u524d", "\u524e", "\u3044"};

static void add_sequence(struct buf *b, unsigned depth);

static void add_atom(struct buf *b, unsigned depth)
{
	static const char *const atoms[] = {"a", "b", "c", "k", "s", "1", "-", "ab", "key", "you ",
		"[ab]", "[a-c]", "[^a]", "[^b\\n]", "\\w", "\\d", "\\s", ".", "\\W", "\xc3\xa9",
		"[\xc3\xa9\xe2\x82\xac]", "\u0414", "[\u0434\u00c4b]", "\u524d", "[\u3042-\u3046]",
		"[^\u00e4]"};
	static const char *const groups[] = {"(?:", "(", "(?>", "(?:"};

	if (depth == 0 || dice(4)) {
		buf_append_str(b, PICK(atoms));
		return;
	}
	buf_append_str(b, PICK(groups));
	for (unsigned n = dice(3) + 1; n > 0; n--) {
		add_sequence(b, depth - 1);
		if (n > 1)
			buf_append_str(b, "|");
	}
	buf_append_str(b, ")");
}

static void add_assertion(struct buf *b, unsigned depth)
{
	static const char *const plain[] = {"\\b", "\\b", "\\B", "^", "$", "(?<=a)", "(?<!b)",
		"(?<=\\s|^)", "(?<![\\w-])", "(?<=ab|k)"};

	if (depth == 0 || dice(4)) {
		buf_append_str(b, PICK(plain));
		return;
	}
	buf_append_str(b, dice(2) ? "(?=" : "(?!");
	add_sequence(b, depth - 1);
	buf_append_str(b, ")");
}

static void add_sequence(struct buf *b, unsigned depth)
{
	static const char *const repeats[] = {"?", "*", "+", "{2}", "{1,3}", "{0,4}", "{3,}", "+?",
		"*?", "{1,5}?", "++", "?+", "{0,2}+"};

	if (!dice(5))
		add_assertion(b, depth);
	for (unsigned n = dice(3) + 1; n > 0; n--) {
		/* A quantifier belongs to one character, so longer atoms get a group. */
		bool repeat = !dice(3);
		if (repeat)
			buf_append_str(b, "(?:");
		add_atom(b, depth);
		if (repeat) {
			buf_append_str(b, ")");
			buf_append_str(b, PICK(repeats));
		}
	}
	if (!dice(8))
		add_assertion(b, depth);
}

static void make_pattern(struct buf *b)
{
	buf_clear(b);
	if (dice(2))
		buf_append_str(b, "\\b");
	for (unsigned n = dice(4) + 1; n > 0; n--)
		add_sequence(b, 2);
	if (!dice(4)) {
		buf_append_str(b, "|");
		add_sequence(b, 2);
	}
	buf_append(b, "", 1);
	b->len--;
}

static void make_text(struct buf *b)
{
	unsigned n = dice(10) ? dice(40) : 200 + dice(400);

	buf_clear(b);
	buf_append(b, "", 0);
	for (unsigned i = 0; i < n; i++)
		buf_append_str(b, PICK(words));
}

/* ---- rules ---- */

static const char *const flags[] = {"", "i", "s", "m", "im", "u", "iu"};

static uint32_t options_of(const char *f)
{
	uint32_t o = 0;

	for (; *f; f++)
		o |= *f == 'i'   ? PCRE2_CASELESS
		     : *f == 's' ? PCRE2_DOTALL
		     : *f == 'm' ? PCRE2_MULTILINE
				 : PCRE2_UCP;
	return o;
}

/* NULL when the rules are refused: they can match the empty text. */
static struct guard_set *set_of(const struct buf *rules)
{
	struct guard_rules *parsed;
	struct guard_fault fault;
	struct guard_set *set;

	if (guard_rules_parse(&parsed, GUARD_OUTPUT, "f", rules->data, rules->len, &fault))
		return NULL;
	set = guard_set_new(&parsed, 1);
	guard_rules_put(parsed);
	return set;
}

/* ---- what comes of a text ---- */

struct outcome {
	int r;
	struct buf out;
	struct guard_finding *findings;
	size_t n;
};

/* In pieces of up to `most` bytes; 0: of one size. */
static void judge(
	struct outcome *o, struct guard_set *set, const char *text, size_t n, unsigned most)
{
	struct guard_stream *s = guard_stream_new(set);

	*o = (struct outcome){0};
	for (size_t i = 0; i < n && o->r == 0;) {
		size_t len = most ? 1 + dice(most) : n;
		len = len < n - i ? len : n - i;
		o->r = guard_stream_feed(s, text + i, len, &o->out);
		i += len;
	}
	if (o->r == 0)
		o->r = guard_stream_end(s, &o->out);
	const struct guard_finding *f = guard_stream_findings(s, &o->n);
	o->findings = calloc(o->n + 1, sizeof(*f));
	if (!o->findings)
		abort();
	if (o->n)
		memcpy(o->findings, f, o->n * sizeof(*f));
	guard_stream_free(s);
}

static void outcome_free(struct outcome *o)
{
	buf_free(&o->out);
	free(o->findings);
}

static bool is_same(const struct outcome *a, const struct outcome *b)
{
	if (a->r != b->r || a->n != b->n || a->out.len != b->out.len ||
		(a->out.len && memcmp(a->out.data, b->out.data, a->out.len) != 0))
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct guard_finding *x = &a->findings[i], *y = &b->findings[i];
		if (x->action != y->action || strcmp(x->rule, y->rule) != 0 ||
			strcmp(x->why, y->why) != 0 || x->offset != y->offset || x->len != y->len)
			return false;
	}
	return true;
}

static void same_in_pieces(struct guard_set *set, const char *rules, const struct buf *text)
{
	static const unsigned most[] = {1, 2, 7, 60, 300};
	struct outcome whole, split;

	judge(&whole, set, text->data, text->len, 0);
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
		judge(&split, set, text->data, text->len, most[i]);
		if (!is_same(&whole, &split))
			ck_abort_msg("pieces of %u\nrules: %s\ntext: <%.*s>\n%d <%.*s> %zu\n%d "
				     "<%.*s> %zu",
				most[i], rules, (int)text->len, text->data, whole.r,
				(int)whole.out.len, whole.out.len ? whole.out.data : "", whole.n,
				split.r, (int)split.out.len, split.out.len ? split.out.data : "",
				split.n);
		outcome_free(&split);
	}
	outcome_free(&whole);
}

/* ---- the definition ---- */

struct match {
	size_t a, b;
};

/* Leftmost matches that do not overlap. False: PCRE2 itself gave up. */
static bool plain_matches(
	const pcre2_code *code, const struct buf *text, struct match *out, size_t *n)
{
	pcre2_match_data *m = pcre2_match_data_create(1, NULL);
	size_t from = 0;
	int r = 0;

	for (*n = 0; *n < MATCHES; ++*n) {
		const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m);
		r = pcre2_match(
			code, (PCRE2_SPTR)text->data, text->len, from, PCRE2_NOTEMPTY, m, NULL);
		if (r < 0)
			break;
		out[*n] = (struct match){v[0], v[1]};
		from = v[1];
	}
	pcre2_match_data_free(m);
	return r == PCRE2_ERROR_NOMATCH;
}

/* 0: agrees; 1: a limit on one side, no verdict. */
static int agrees(struct guard_set *set, const char *rule, const pcre2_code *code,
	const struct buf *text, size_t *found)
{
	static struct match m[MATCHES];
	struct outcome o;
	size_t n;
	bool limit = !plain_matches(code, text, m, &n), same;

	judge(&o, set, text->data, text->len, dice(2) ? 20 : 0);
	for (size_t i = 0; i < o.n; i++)
		limit |= strcmp(o.findings[i].why, "match") != 0;
	same = o.n == n && o.r == 0;
	for (size_t i = 0; i < n && same; i++)
		same = o.findings[i].offset == m[i].a && o.findings[i].len == m[i].b - m[i].a;
	if (!limit && !same)
		ck_abort_msg("%s\ntext: <%.*s>\n%zu matches, %zu findings", rule, (int)text->len,
			text->data, n, o.n);
	outcome_free(&o);
	*found += n > 0;
	return limit;
}

START_TEST(a_stream_finds_what_plain_pcre2_finds_in_the_whole_text)
{
	struct buf pattern = {0}, rule = {0}, text = {0};
	size_t tried = 0, found = 0, limits = 0;

	for (unsigned k = 0; k < PATTERNS; k++) {
		const char *f = PICK(flags);
		int error;
		PCRE2_SIZE at;
		make_pattern(&pattern);
		buf_clear(&rule);
		buf_printf(&rule, "warn r /%s/%s", pattern.data, f);
		struct guard_set *set = set_of(&rule);
		if (!set)
			continue;
		pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len,
			PCRE2_UTF | options_of(f), &error, &at, NULL);
		ck_assert_ptr_nonnull(code);
		for (unsigned i = 0; i < TEXTS; i++, tried++) {
			make_text(&text);
			limits += agrees(set, rule.data, code, &text, &found);
			same_in_pieces(set, rule.data, &text);
		}
		pcre2_code_free(code);
		guard_set_put(set);
	}
	ck_assert_uint_gt(tried, PATTERNS * TEXTS / 4);
	ck_assert_uint_gt(found, tried / 10);
	ck_assert_uint_lt(limits, tried / 20 + 1);
	buf_free(&pattern);
	buf_free(&rule);
	buf_free(&text);
}
END_TEST

/* A line of rules that are not refused, with names r0, r1 ... */
static void add_rules(struct buf *rules, unsigned n)
{
	static const char *const actions[] = {"warn", "redact", "redact", "block"};
	struct buf pattern = {0}, one = {0};

	buf_clear(rules);
	for (unsigned k = 0; k < n;) {
		make_pattern(&pattern);
		buf_clear(&one);
		buf_printf(&one, "%s r%u /%s/%s\n", PICK(actions), k, pattern.data, PICK(flags));
		struct guard_set *set = set_of(&one);
		if (!set)
			continue;
		guard_set_put(set);
		buf_append(rules, one.data, one.len);
		k++;
	}
	buf_append(rules, "", 1);
	rules->len--;
	buf_free(&pattern);
	buf_free(&one);
}

START_TEST(rules_together_find_the_same_for_every_split)
{
	struct buf rules = {0}, text = {0};

	for (unsigned k = 0; k < PATTERNS / 4; k++) {
		add_rules(&rules, 2 + dice(5));
		struct guard_set *set = set_of(&rules);
		ck_assert_ptr_nonnull(set);
		for (unsigned i = 0; i < TEXTS; i++) {
			make_text(&text);
			same_in_pieces(set, rules.data, &text);
		}
		guard_set_put(set);
	}
	buf_free(&rules);
	buf_free(&text);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	const char *s = getenv("LLMFS_SEED");
	TCase *t = tcase_create("random");

	if (s && *s)
		seed = strtoull(s, NULL, 10);
	printf("LLMFS_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	tcase_set_timeout(t, 250);
	tcase_add_test(t, a_stream_finds_what_plain_pcre2_finds_in_the_whole_text);
	tcase_add_test(t, rules_together_find_the_same_for_every_split);
	Suite *suite = suite_create("guard_random");
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
