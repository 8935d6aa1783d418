/* SPDX-License-Identifier: Apache-2.0 */
/* One sentence of the contract of guard_stream.h each. That pieces do not matter is in
 * test_guard_splits.c. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/outcome_fixture.h"
#include "tests/run_suite.h"

/* Feeds text as a whole; the stream stays open. */
static struct guard_stream *fed(const char *rules, const char *text, int *r, struct buf *out)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules);
	struct guard_stream *s = guard_stream_new(set);

	guard_set_put(set);
	*out = (struct buf){0};
	buf_append(out, "", 0);
	*r = guard_stream_feed(s, text, strlen(text), out);
	return s;
}

static void must_give(const char *rules, const char *text, int expected, const char *released)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules);
	struct outcome o;

	outcome_run(&o, set, text, strlen(text), NULL, 0, true);
	buf_append(&o.out, "", 1);
	ck_assert_int_eq(o.r, expected);
	ck_assert_str_eq(o.out.data, released);
	buf_free(&o.out);
	outcome_every_split_agrees(set, rules, text, strlen(text));
	guard_set_put(set);
}

START_TEST(redactions_that_overlap_become_one)
{
	must_give("redact a /abc/\nredact b /cde/\nredact c /efg/\n", "xabcdefgx", 0, "x[a]x");
	must_give("redact a /abc/\nredact b /cd/\n", "abcd abc cd", 0, "[a] [a] [b]");
	must_give("redact a /abc/\nredact b /abcd/\n", "abcd", 0, "[a]");
	must_give("redact b /abcd/\nredact a /abc/\n", "abcd", 0, "[b]");
	must_give("redact b /bc/\nredact a /abcd/\n", "abcd", 0, "[a]");
	must_give("redact a /ab/\nredact b /cd/\n", "abcd", 0, "[a][b]");
}
END_TEST

START_TEST(a_block_ends_the_text_before_the_match)
{
	must_give("block a /secret/\n", "xx secretyy", 1, "xx ");
	must_give("block a /secret\\b/\n", "xx secretyy secret", 1, "xx secretyy ");
	must_give("block a /secret\\b/\n", "xx secret!", 1, "xx ");
	must_give("redact r /xx/\nblock a /secret/\n", "xx secret", 1, "[r] ");
	must_give("redact r /x .*z/\nblock a /secret/\n", "ax secret", 1, "a");
}
END_TEST

START_TEST(a_block_is_told_at_the_first_piece_by_which_it_is_certain)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, "block a /ab+c?/\nwarn w /zz/\n");
	struct guard_stream *s = guard_stream_new(set);
	struct buf out = {0};
	size_t n;

	ck_assert_int_eq(guard_stream_feed(s, "zz ab", 5, &out), 0);
	ck_assert_int_eq(guard_stream_feed(s, "b", 1, &out), 0);
	ck_assert_uint_eq(guard_stream_held(s), 3);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_uint_eq(out.len, 3);
	const struct guard_finding *f = guard_stream_findings(s, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(f[0].action, GUARD_WARN);
	ck_assert_int_eq(f[1].action, GUARD_BLOCK);
	ck_assert_str_eq(f[1].why, "match");
	ck_assert_uint_eq(f[1].offset, 3);
	ck_assert_uint_eq(f[1].len, 3);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&out);
}
END_TEST

START_TEST(findings_come_in_the_order_of_the_text)
{
	struct outcome o;
	const char *rules = "warn long /a.{6}b/\nwarn c /c/\nredact d /d/\nwarn e /c/\n";
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rules);

	outcome_run(&o, set, "xa c d   c b cd", 15, NULL, 0, true);
	static const char *const names[] = {"c", "e", "d", "c", "e", "c", "e", "d"};
	ck_assert_uint_eq(o.n, 8);
	for (size_t i = 0; i < 8; i++)
		ck_assert_str_eq(o.findings[i].rule, names[i]);
	buf_free(&o.out);
	outcome_run(&o, set, "xa c d  bc", 10, NULL, 0, true);
	ck_assert_uint_eq(o.n, 6);
	ck_assert_str_eq(o.findings[0].rule, "long");
	buf_free(&o.out);
	outcome_every_split_agrees(set, rules, "xa c d   c b cd", 15);
	outcome_every_split_agrees(set, rules, "xa c d  bc", 10);
	guard_set_put(set);
}
END_TEST

/* The rule on n times 'x', and then '@'. */
static void run_held(struct outcome *o, const char *rule, size_t n, unsigned most)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, rule);
	struct buf text = {0};
	struct long_outcome l;

	for (size_t i = 0; i < n; i++)
		buf_append_str(&text, i % 3 ? "x" : "\xc3\xa9");
	buf_append_str(&text, "@ ");
	outcome_run_long(&l, set, &text, most);
	*o = (struct outcome){.r = l.r, .out = l.out, .n = l.n, .held = text.len};
	ck_assert_uint_le(l.n, 64);
	memcpy(o->findings, l.findings, l.n * sizeof(*l.findings));
	free(l.findings);
	buf_free(&text);
	guard_set_put(set); /* findings' names are not looked at after this */
}

START_TEST(what_is_held_too_long_blocks_unless_it_only_warns)
{
	static const unsigned most[] = {1, 7, 100, 1u << 20};
	struct outcome o;

	for (unsigned k = 0; k < 4; k++) {
		run_held(&o, "redact a /\\S+@/", 2000, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, 4); /* "[a] " */
		buf_free(&o.out);
		run_held(&o, "redact a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 1);
		ck_assert_uint_eq(o.out.len, 0);
		ck_assert_uint_eq(o.n, 1);
		ck_assert_str_eq(o.findings[0].why, "hold limit");
		ck_assert_int_eq(o.findings[0].action, GUARD_BLOCK);
		buf_free(&o.out);
		run_held(&o, "block a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 1);
		buf_free(&o.out);
		run_held(&o, "warn a /\\S+@/", 4000, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, o.held);
		ck_assert_uint_eq(o.n, 2);
		ck_assert_str_eq(o.findings[0].why, "hold limit");
		ck_assert_str_eq(o.findings[1].why, "match");
		buf_free(&o.out);
	}
}
END_TEST

START_TEST(the_hold_limit_is_reached_at_exactly_its_bytes)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, "block a /\\w+@/");
	struct guard_stream *s = guard_stream_new(set);
	struct buf out = {0};

	for (size_t i = 1; i < GUARD_HOLD_MAX; i++)
		ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 0);
	ck_assert_uint_eq(guard_stream_held(s), GUARD_HOLD_MAX - 1);
	ck_assert_int_eq(guard_stream_feed(s, "x", 1, &out), 1);
	ck_assert_uint_eq(out.len, 0);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&out);
}
END_TEST

START_TEST(a_rule_at_its_step_limit_fails_closed)
{
	static const unsigned most[] = {1, 9, 1u << 20};
	struct buf text = {0};
	struct long_outcome o;

	buf_append_str(&text, "fine. aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac and more");
	for (unsigned k = 0; k < 3; k++) {
		struct guard_set *set = outcome_rules(GUARD_OUTPUT, "redact a /(?:a+)+b/");
		outcome_run_long(&o, set, &text, most[k]);
		ck_assert_int_eq(o.r, 1);
		ck_assert_uint_eq(o.out.len, 6);
		ck_assert_uint_eq(o.n, 1);
		ck_assert_str_eq(o.findings[0].why, "step limit");
		ck_assert_int_eq(o.findings[0].action, GUARD_BLOCK);
		ck_assert_uint_eq(o.findings[0].offset, 6);
		outcome_free_long(&o);
		guard_set_put(set);
		set = outcome_rules(GUARD_OUTPUT, "warn a /(?:a+)+b/");
		outcome_run_long(&o, set, &text, most[k]);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.out.len, text.len);
		ck_assert_uint_eq(o.n, 1);
		outcome_free_long(&o);
		guard_set_put(set);
	}
	buf_free(&text);
}
END_TEST

START_TEST(a_long_text_is_not_cut_inside_of_a_character)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, "redact r /x./");
	struct long_outcome o;
	struct buf text = {0};

	for (size_t n = 16370; n < 16390; n++) {
		buf_clear(&text);
		for (size_t i = 0; i < n; i++)
			buf_append_str(&text, "y");
		buf_append_str(&text, "x\xe2\x82\xacz");
		outcome_run_long(&o, set, &text, 1u << 30);
		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.n, 1);
		ck_assert_uint_eq(o.findings[0].len, 4);
		ck_assert_uint_eq(o.out.len, n + 4);
		ck_assert_mem_eq(o.out.data + n, "[r]z", 4);
		outcome_free_long(&o);
	}
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

/* One rule begins at every place, so that a slice has more places than are noted; two others at one
 * place, somewhere about that for which there is no room any more; the last one behind it. */
START_TEST(places_that_there_is_no_room_for_are_not_lost)
{
	static const unsigned most[] = {1u << 30, 100};
	struct guard_set *set = outcome_rules(GUARD_OUTPUT,
		"warn often /a{8,12}!/\nwarn once /(?<=b)a{9}/\nwarn too /(?<=b)a{10}/\n"
		"warn q /QQQ/");
	struct long_outcome o;
	struct buf text = {0};

	for (size_t at = 8150; at < 8260; at++) {
		buf_clear(&text);
		for (size_t i = 0; i < 12000; i++)
			buf_append_str(&text, i + 1 == at ? "b" : "a");
		buf_append_str(&text, " QQQ aaaaaaaaa! ");
		for (unsigned k = 0; k < 2; k++) {
			outcome_run_long(&o, set, &text, most[k]);
			ck_assert_uint_eq(o.n, 4);
			ck_assert_uint_eq(o.findings[0].offset, at);
			ck_assert_uint_eq(o.findings[1].offset, at);
			ck_assert_uint_eq(o.findings[2].offset, 12001);
			ck_assert_uint_eq(o.findings[3].offset, 12005);
			outcome_free_long(&o);
		}
	}
	guard_set_put(set);
	buf_free(&text);
}
END_TEST

START_TEST(of_very_many_findings_the_block_is_told)
{
	struct guard_set *set = outcome_rules(GUARD_OUTPUT, "warn w /a/\nblock b /secret/");
	struct guard_stream *s = guard_stream_new(set);
	struct buf text = {0}, out = {0};
	size_t n;

	for (unsigned i = 0; i < 12000; i++)
		buf_append_str(&text, "a");
	ck_assert_int_eq(guard_stream_feed(s, text.data, text.len, &out), 0);
	guard_stream_findings(s, &n);
	ck_assert_uint_eq(n, 10000);
	ck_assert_int_eq(guard_stream_feed(s, " secret", 7, &out), 1);
	const struct guard_finding *f = guard_stream_findings(s, &n);
	ck_assert_uint_eq(n, 10001);
	ck_assert_uint_eq(f[9999].offset, 9999);
	ck_assert_int_eq(f[10000].action, GUARD_BLOCK);
	ck_assert_uint_eq(f[10000].offset, 12001);
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&text);
	buf_free(&out);
}
END_TEST

START_TEST(characters_too_many_are_not_released)
{
	must_give("block m max_chars 3\n", "abc", 0, "abc");
	must_give("block m max_chars 3\n", "abcd", 1, "abc");
	must_give("block m max_chars 3\n", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x", 1,
		"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	must_give("warn m max_chars 3\n", "abcdef", 0, "abcdef");
	must_give("block m max_chars 3\nredact r /cde/\n", "abcdef", 1, "ab");
	must_give("block m max_chars 4\nredact r /ab/\n", "abcdef", 1, "[r]cd");
}
END_TEST

START_TEST(what_is_not_utf_8_ends_the_stream)
{
	static const struct {
		const char *text;
		size_t valid;
		bool cut_off; /* only the end is missing */
	} texts[] = {
		{"ab\xff"
		 "cd",
			2, false},
		{"ab\xc3", 2, true},
		{"ab\xe2\x82", 2, true},
		{"ab\xe2\x82x", 2, false},
		{"ab\xed\xa0\x80", 2, false},
		{"ab\xc0\x80", 2, false},
		{"\xc3\xa9\xf0\x9f\x98", 2, true},
		{"\xf4\x90\x80\x80", 0, false},
		{"a\x80", 1, false},
		{"ab\xf0\x9f\x98\x80\x80", 6, false},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct guard_set *set = outcome_rules(GUARD_OUTPUT, "block a /zz/");
		struct outcome o;
		size_t n = strlen(texts[i].text);
		outcome_run(&o, set, texts[i].text, n, NULL, 0, false);
		ck_assert_int_eq(o.r, texts[i].cut_off ? 0 : -EILSEQ);
		ck_assert_uint_eq(o.out.len, texts[i].valid);
		buf_free(&o.out);
		outcome_run(&o, set, texts[i].text, n, NULL, 0, true);
		ck_assert_int_eq(o.r, -EILSEQ);
		buf_free(&o.out);
		outcome_every_split_agrees(set, "", texts[i].text, n);
		guard_set_put(set);
	}
}
END_TEST

START_TEST(a_text_that_breaks_off_is_judged_as_if_it_ended_there)
{
	static const struct {
		const char *rules, *text;
		int r;
		const char *held, *released; /* before it broke off; in all */
	} cases[] = {
		{"block a /secret\\w{1,9}x/", "see secretly", 0, "see ", "see secretly"},
		{"block a /secret\\b/", "see secret", 1, "see ", "see "},
		{"redact a /secret\\b/", "see secret", 0, "see ", "see [a]"},
		{"redact a /secret\\w{0,9}/", "see secretl", 0, "see ", "see [a]"},
		{"warn a /secret\\b/", "see secret", 0, "see secret", "see secret"},
		{"redact a /secret/", "see s\xc3", 0, "see ", "see s"},
		{"block j json", "[1, 2", 0, "", ""},
		{"block j json\nredact a /1/", "[1, 2]", 0, "", ""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out;
		size_t n;
		int r;
		struct guard_stream *s = fed(cases[i].rules, cases[i].text, &r, &out);
		ck_assert_int_eq(r, 0);
		ck_assert_msg(out.len == strlen(cases[i].held) &&
				      !memcmp(out.len ? out.data : "", cases[i].held, out.len),
			"%s", cases[i].rules);
		r = guard_stream_break(s, &out);
		ck_assert_msg(r == cases[i].r, "%s: %d", cases[i].rules, r);
		ck_assert_int_eq(guard_stream_break(s, &out), r); /* only once */
		ck_assert_msg(out.len == strlen(cases[i].released) &&
				      !memcmp(out.len ? out.data : "", cases[i].released, out.len),
			"%s: %.*s", cases[i].rules, (int)out.len, out.data);
		guard_stream_findings(s, &n);
		ck_assert_uint_eq(n, strstr(cases[i].rules, "\\b") ||
					     strstr(cases[i].rules, "0,9") ||
					     strstr(cases[i].rules, "/1/"));
		guard_stream_free(s);
		buf_free(&out);
	}
}
END_TEST

START_TEST(peek_says_what_an_end_would_and_changes_nothing)
{
	struct guard_finding f;
	struct buf out;
	int r;
	struct guard_stream *s =
		fed("warn w /a(?!b)/\nblock a /foo(?!bar)/\nredact r /x+/\n", "a foo", &r, &out);

	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(out.len, 2);
	for (unsigned i = 0; i < 2; i++) {
		memset(&f, 0, sizeof(f));
		ck_assert_int_eq(guard_stream_peek(s, &f), 1);
		ck_assert_str_eq(f.rule, "a");
		ck_assert_uint_eq(f.offset, 2);
		ck_assert_uint_eq(guard_stream_held(s), 3);
	}
	ck_assert_int_eq(guard_stream_feed(s, "bar", 3, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 0);
	ck_assert_uint_eq(out.len, 8);
	ck_assert_int_eq(guard_stream_feed(s, " xxx", 4, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 0); /* a redaction is no block */
	ck_assert_int_eq(guard_stream_feed(s, "foo", 3, &out), 0);
	ck_assert_int_eq(guard_stream_peek(s, &f), 1);
	ck_assert_int_eq(guard_stream_end(s, &out), 1);
	guard_stream_free(s);
	buf_free(&out);
}
END_TEST

START_TEST(look_behind_sees_what_was_released_long_ago)
{
	struct guard_set *set = outcome_rules(
		GUARD_OUTPUT, "redact b /(?<=KEY.{200})x/\nredact a /\\Ay/\nredact c /^z/\n");
	struct guard_stream *s = guard_stream_new(set);
	struct buf text = {0}, out = {0};
	size_t marks = 0;

	buf_append_str(&text, "y");
	for (unsigned i = 0; i < 60; i++) {
		buf_append_str(&text, i % 2 ? "KEY" : "KEX");
		for (unsigned k = 0; k < 200; k++)
			buf_append_str(&text, "\xe2\x82\xac");
		buf_append_str(&text, "xyz");
	}
	for (size_t i = 0; i < text.len; i += 100)
		ck_assert_int_eq(guard_stream_feed(s, text.data + i,
					 text.len - i < 100 ? text.len - i : 100, &out),
			0);
	ck_assert_int_eq(guard_stream_end(s, &out), 0);
	for (char *p = out.data; (p = strstr(p, "[b]")); p++)
		marks++;
	ck_assert_uint_eq(marks, 30);
	ck_assert_ptr_eq(strstr(out.data, "[a]"), out.data);
	ck_assert_ptr_null(strstr(out.data + 1, "[a]"));
	ck_assert_ptr_null(strstr(out.data, "[c]"));
	guard_stream_free(s);
	guard_set_put(set);
	buf_free(&text);
	buf_free(&out);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("guard_stream");
	TCase *c = tcase_create("contract");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, redactions_that_overlap_become_one);
	tcase_add_test(c, a_block_ends_the_text_before_the_match);
	tcase_add_test(c, a_block_is_told_at_the_first_piece_by_which_it_is_certain);
	tcase_add_test(c, findings_come_in_the_order_of_the_text);
	tcase_add_test(c, what_is_held_too_long_blocks_unless_it_only_warns);
	tcase_add_test(c, the_hold_limit_is_reached_at_exactly_its_bytes);
	tcase_add_test(c, a_rule_at_its_step_limit_fails_closed);
	tcase_add_test(c, a_long_text_is_not_cut_inside_of_a_character);
	tcase_add_test(c, places_that_there_is_no_room_for_are_not_lost);
	tcase_add_test(c, of_very_many_findings_the_block_is_told);
	tcase_add_test(c, characters_too_many_are_not_released);
	tcase_add_test(c, what_is_not_utf_8_ends_the_stream);
	tcase_add_test(c, a_text_that_breaks_off_is_judged_as_if_it_ended_there);
	tcase_add_test(c, peek_says_what_an_end_would_and_changes_nothing);
	tcase_add_test(c, look_behind_sees_what_was_released_long_ago);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	return run_suite(suite());
}
