/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/value.h"

#include <string.h>

#include "tests/run_suite.h"

static bool whole(const char *text)
{
	return value_json_whole(text, strlen(text));
}

START_TEST(an_array_is_whole_at_its_last_bracket_and_not_before)
{
	static const char text[] =
		" [{\"role\": \"user\", \"content\": [1, {\"a\": \"]\\\"]\\\\\"}]}, {}]";
	for (size_t n = 0; n < sizeof text - 1; n++)
		ck_assert_msg(!value_json_whole(text, n), "whole after %zu bytes", n);
	ck_assert(whole(text));
	ck_assert(whole("[]\n"));
	ck_assert(whole("\n\t[]  trailing"));
}
END_TEST

START_TEST(what_can_never_become_an_array_is_judged_at_once)
{
	ck_assert(whole("nonsense"));
	ck_assert(whole("{\"role\""));
	ck_assert(whole("]"));
	ck_assert(!whole(""));
	ck_assert(!whole(" \n"));
}
END_TEST

START_TEST(brackets_in_strings_do_not_count)
{
	ck_assert(!whole("[\"]\""));
	ck_assert(!whole("[\"\\\"]"));
	ck_assert(whole("[\"\\\\\"]"));
	ck_assert(!whole("[\"\\"));
}
END_TEST

START_TEST(a_value_ends_before_the_end_of_its_last_line)
{
	ck_assert_uint_eq(value_length(NULL, 0), 0);
	ck_assert_uint_eq(value_length("0.7", 3), 3);
	ck_assert_uint_eq(value_length("0.7\n", 4), 3);
	ck_assert_uint_eq(value_length("0.7\r\n", 5), 3);
	ck_assert_uint_eq(value_length("0.7\r", 4), 4);
	ck_assert_uint_eq(value_length("0.7\r\r\n", 6), 4);
	ck_assert_uint_eq(value_length("\r\n", 2), 0);
	ck_assert_uint_eq(value_length("\n\n", 2), 1);
}
END_TEST

static void is_cleaned(const char *text, const char *want)
{
	char copy[64];
	strcpy(copy, text);
	size_t n = value_clean(copy, strlen(text));
	copy[n] = '\0';
	ck_assert_str_eq(copy, want);
}

START_TEST(what_editors_of_other_systems_write_is_no_part_of_a_value)
{
	is_cleaned("\xef\xbb\xbf"
		   "0.7\r\n",
		"0.7");
	is_cleaned("a\r\nb\r\nc\r\n", "a\nb\nc");
	is_cleaned("a\rb\r\n", "a\rb");
	is_cleaned("\r\n\r\n", "\n"); /* an empty line before the end, as of \n\n */
	is_cleaned("a \xef\xbb\xbf b", "a \xef\xbb\xbf b"); /* not at its beginning */
	is_cleaned("\xef\xbb\xbf", "");
	is_cleaned("\xef\xbb", "\xef\xbb");
	is_cleaned("", "");
}
END_TEST

static void is_trimmed(const char *text, const char *want)
{
	const char *value = text;
	size_t n = value_trim(&value, strlen(text));
	ck_assert_uint_eq(n, strlen(want));
	ck_assert(!memcmp(value, want, n));
}

START_TEST(blanks_around_a_value_of_one_line_are_no_part_of_it)
{
	is_trimmed("0.4", "0.4");
	is_trimmed("0.4 ", "0.4");
	is_trimmed(" \t0.4\t \r", "0.4");
	is_trimmed("0.4 \n\n \n", "0.4");
	is_trimmed("\n0.4", "\n0.4"); /* lines before it keep their numbers */
	is_trimmed(" chat  json ", "chat  json");
	is_trimmed(" \t", " \t"); /* no value, and no reset */
	is_trimmed(" \n\n", " \n\n");
	is_trimmed("", "");
	const char *value = "0.4\0 ";
	ck_assert_uint_eq(value_trim(&value, 5), 4); /* a NUL is no blank */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/value");
	TCase *t = tcase_create("setting");
	tcase_add_test(t, a_value_ends_before_the_end_of_its_last_line);
	tcase_add_test(t, what_editors_of_other_systems_write_is_no_part_of_a_value);
	tcase_add_test(t, blanks_around_a_value_of_one_line_are_no_part_of_it);
	tcase_add_test(t, an_array_is_whole_at_its_last_bracket_and_not_before);
	tcase_add_test(t, what_can_never_become_an_array_is_judged_at_once);
	tcase_add_test(t, brackets_in_strings_do_not_count);
	suite_add_tcase(s, t);
	return run_suite(s);
}
