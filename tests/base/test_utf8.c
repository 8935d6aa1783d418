/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <string.h>

#include "tests/run_suite.h"

/* Counted, not asserted one by one: an assertion a code point takes seconds. */
static bool survives(uint32_t c)
{
	char text[4];
	uint32_t back = 0xFFFFFFFF;
	size_t n = utf8_encode(c, text);
	size_t m = utf8_decode(text, n, &back);
	if (c >= 0xD800 && c <= 0xDFFF)
		return m == 0;
	for (size_t k = 1; k < n; k++)
		if (!utf8_is_partial(text, k) || utf8_valid_prefix(text, k) != 0)
			return false;
	return m == n && back == c && !utf8_is_partial(text, n);
}

START_TEST(every_code_point_survives_the_round_trip)
{
	uint32_t survivors = 0;
	for (uint32_t c = 0; c <= 0x10FFFF; c++)
		survivors += survives(c);
	ck_assert_uint_eq(survivors, 0x110000);
}
END_TEST

START_TEST(bad_sequences_are_refused_where_they_begin)
{
	/* Kinds of RFC 3629: overlong, surrogate, beyond U+10FFFF, stray continuation, cut short.
	 */
	static const char *const bad[] = {"\xC0\xAF", "\xC1\x81", "\xE0\x80\x80", "\xE0\x9F\xBF",
		"\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
		"\xF5\x80\x80\x80", "\x80", "\xBF", "\xFF", "\xE2\x28\xA1", "\xE2\x82z"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[16] = "ok";
		strcat(text, bad[i]);
		ck_assert_uint_eq(utf8_valid_prefix(text, strlen(text)), 2);
		ck_assert(!utf8_is_partial(bad[i], strlen(bad[i])));
	}
	ck_assert(!utf8_is_partial("", 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/utf8");
	TCase *t = tcase_create("utf8");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_code_point_survives_the_round_trip);
	tcase_add_test(t, bad_sequences_are_refused_where_they_begin);
	suite_add_tcase(s, t);
	return run_suite(s);
}
