/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/detok.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/run_suite.h"

#define BAD "\xEF\xBF\xBD" /* U+FFFD */

/* Feeds text cut at the places where bit i of `cuts` is set; the result in *out; true when a stop
 * string ended it. Checks that each piece released is whole UTF-8. */
static bool run(const char *text, size_t n, uint64_t cuts, const char *const *stops, size_t n_stops,
	struct buf *out)
{
	struct detok *d;
	bool stopped = false;
	size_t from = 0;

	ck_assert_int_eq(detok_new(&d, stops, n_stops, NULL), 0);
	for (size_t i = 0; i < n && !stopped; i++) {
		struct buf piece = {0};
		int r;

		if (!(cuts >> i & 1) && i + 1 < n)
			continue;
		r = detok_feed(d, text + from, i + 1 - from, &piece);
		ck_assert_int_ge(r, 0);
		ck_assert_uint_eq(utf8_valid_prefix(piece.data, piece.len), piece.len);
		stopped = r == DETOK_STOP;
		from = i + 1;
		if (piece.len)
			buf_append(out, piece.data, piece.len);
		buf_free(&piece);
	}
	if (detok_finish(d, out) == DETOK_STOP)
		stopped = true;
	detok_free(d);
	return stopped;
}

/* The same result for every way to cut the text. */
static void expect(const char *text, size_t n, const char *const *stops, size_t n_stops,
	const char *expected, bool expect_stop)
{
	ck_assert_uint_le(n, 14);
	for (uint64_t cuts = 0; cuts < (uint64_t)1 << n; cuts++) {
		struct buf out = {0};
		bool stopped = run(text, n, cuts, stops, n_stops, &out);

		if (stopped != expect_stop || out.len != strlen(expected) ||
			(out.len && memcmp(out.data, expected, out.len)))
			ck_abort_msg("cuts %llx: '%s' instead of '%s', stopped %d",
				(unsigned long long)cuts, out.data ? out.data : "", expected,
				stopped);
		buf_free(&out);
	}
}

START_TEST(whole_text_comes_through_however_cut)
{
	static const char text[] = "aä€😀z";

	expect(text, strlen(text), NULL, 0, text, false);
}
END_TEST

START_TEST(broken_bytes_become_one_replacement_for_each_longest_beginning)
{
	static const struct {
		const char *bytes, *expected;
	} rows[] = {
		{"a\xFFz", "a" BAD "z"},
		{"\x80\x80", BAD BAD},
		{"\xE2\x82z", BAD "z"},
		{"\xF0\x9F\x98z", BAD "z"},
		{"\xF0\x9F\xF0\x9F\x98\x80", BAD "😀"},
		{"\xED\xA0\x80", BAD BAD BAD},
		{"\xC0\xAF", BAD BAD},
		{"x\xE2\x82", "x" BAD},
		{"\xF4\x90\x80\x80", BAD BAD BAD BAD},
		{"\xF0", BAD},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		expect(rows[i].bytes, strlen(rows[i].bytes), NULL, 0, rows[i].expected, false);
}
END_TEST

START_TEST(a_stop_string_ends_the_answer_wherever_it_is_cut)
{
	static const char *const one[] = {"STOP"};
	static const char *const overlapping[] = {"aab"};
	static const char *const euro[] = {"€"};
	static const char *const two[] = {"abcd", "bc"};
	static const char *const ends_together[] = {"c", "abc"};

	expect("hi STOP more", 12, one, 1, "hi ", true);
	expect("STSTOPx", 7, one, 1, "ST", true);
	expect("hi STO", 6, one, 1, "hi STO", false);
	expect("xaaab", 5, overlapping, 1, "xa", true);
	expect("aaaac", 5, overlapping, 1, "aaaac", false);
	expect("5 € 6", 7, euro, 1, "5 ", true);
	expect("xabcdy", 6, two, 2, "xa", true);
	expect("xabcd", 5, ends_together, 2, "x", true);
}
END_TEST

START_TEST(text_that_may_become_a_stop_string_is_held_back_and_nothing_else)
{
	static const char *const stops[] = {"\n\nQ:"};
	struct detok *d;
	struct buf text = {0};

	ck_assert_int_eq(detok_new(&d, stops, 1, NULL), 0);
	ck_assert_int_eq(detok_feed(d, "yes\n", 4, &text), 0);
	ck_assert_str_eq(text.data, "yes");
	ck_assert_int_eq(detok_feed(d, "\n\n", 2, &text), 0);
	ck_assert_str_eq(text.data, "yes\n");
	ck_assert_int_eq(detok_feed(d, "A", 1, &text), 0);
	ck_assert_str_eq(text.data, "yes\n\n\nA");
	ck_assert_int_eq(detok_feed(d, "\n\nQ", 3, &text), 0);
	ck_assert_str_eq(text.data, "yes\n\n\nA");
	ck_assert_int_eq(detok_feed(d, ": what", 6, &text), DETOK_STOP);
	ck_assert_int_eq(detok_feed(d, "more", 4, &text), DETOK_STOP);
	ck_assert_int_eq(detok_finish(d, &text), 0);
	ck_assert_str_eq(text.data, "yes\n\n\nA");
	detok_free(d);
	buf_free(&text);
}
END_TEST

START_TEST(bad_stop_strings_are_refused_with_a_sentence)
{
	static const char *const empty[] = {"ok", ""};
	static const char *const broken[] = {"\xC3"};
	const char *many[DETOK_MAX_STOPS + 1];
	char longest[DETOK_MAX_STOP_BYTES + 2];
	const char *const too_long[] = {longest};
	struct detok *d;
	struct err err;

	for (int i = 0; i <= DETOK_MAX_STOPS; i++)
		many[i] = "x";
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (int i = 0; i < 4; i++) {
		const char *const *stops[] = {empty, broken, many, too_long};
		static const size_t n[] = {2, 1, DETOK_MAX_STOPS + 1, 1};

		err.text[0] = '\0';
		ck_assert_int_eq(detok_new(&d, stops[i], n[i], &err), -EINVAL);
		ck_assert_ptr_null(d);
		ck_assert_str_ne(err.text, "");
	}
	longest[DETOK_MAX_STOP_BYTES] = '\0';
	ck_assert_int_eq(detok_new(&d, too_long, 1, &err), 0);
	detok_free(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/detok");
	TCase *t = tcase_create("detok");

	tcase_add_test(t, whole_text_comes_through_however_cut);
	tcase_add_test(t, broken_bytes_become_one_replacement_for_each_longest_beginning);
	tcase_add_test(t, a_stop_string_ends_the_answer_wherever_it_is_cut);
	tcase_add_test(t, text_that_may_become_a_stop_string_is_held_back_and_nothing_else);
	tcase_add_test(t, bad_stop_strings_are_refused_with_a_sentence);
	suite_add_tcase(s, t);
	return run_suite(s);
}
