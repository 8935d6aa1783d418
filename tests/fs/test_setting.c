/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/setting.h"

#include <string.h>

#include "tests/run_suite.h"

static bool whole(const char *text)
{
	return setting_json_whole(text, strlen(text));
}

START_TEST(an_array_is_whole_at_its_last_bracket_and_not_before)
{
	static const char text[] =
		" [{\"role\": \"user\", \"content\": [1, {\"a\": \"]\\\"]\\\\\"}]}, {}]";
	for (size_t n = 0; n < sizeof text - 1; n++)
		ck_assert_msg(!setting_json_whole(text, n), "whole after %zu bytes", n);
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

int main(void)
{
	Suite *s = suite_create("fs/setting");
	TCase *t = tcase_create("setting");
	tcase_add_test(t, an_array_is_whole_at_its_last_bracket_and_not_before);
	tcase_add_test(t, what_can_never_become_an_array_is_judged_at_once);
	tcase_add_test(t, brackets_in_strings_do_not_count);
	suite_add_tcase(s, t);
	return run_suite(s);
}
