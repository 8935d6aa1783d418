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

START_TEST(a_byte_order_mark_is_known_and_its_beginnings)
{
	ck_assert(utf8_may_be_mark("\xef", 1) && utf8_may_be_mark("\xef\xbb", 2));
	ck_assert(!utf8_may_be_mark("", 0) && !utf8_may_be_mark("\xef\xbc", 2));
	ck_assert(!utf8_may_be_mark("\xef\xbb\xbf", 3));
	ck_assert_uint_eq(utf8_mark("\xef\xbb\xbf", 3), 3);
	ck_assert_uint_eq(utf8_mark("\xef\xbb", 2), 0);
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

/* What decoding one sequence after the other accepts. */
static size_t decoded_prefix(const char *text, size_t n)
{
	size_t i = 0, length;
	uint32_t c;

	while (i < n && (length = utf8_decode(text + i, n - i, &c)))
		i += length;
	return i;
}

/* Texts of all lengths up to a few blocks, with a fault of each kind at each place. */
START_TEST(the_valid_prefix_is_what_decoding_accepts)
{
	static const char *const parts[] = {"plain ascii, some of it", "a", "\xC3\xA9",
		"\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xE0\xA0\x80\xED\x9F\xBF",
		"\xF4\x8F\xBF\xBF\xF0\x90\x80\x80"};
	char text[128];
	uint64_t seed = 5;
	unsigned wrong = 0;

	for (unsigned k = 0; k < 3000; k++) {
		size_t n = 0, len;
		for (;;) {
			seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			const char *part = parts[(seed >> 33) % (sizeof parts / sizeof *parts)];
			len = strlen(part);
			if (n + len > sizeof text)
				break;
			memcpy(text + n, part, len);
			n += len;
		}
		ck_assert_uint_eq(utf8_valid_prefix(text, n), n);
		for (size_t i = 0; i < n; i++) {
			static const unsigned char faults[] = {0x20, 0x80, 0x9F, 0xBF, 0xC1, 0xC3,
				0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xF5, 0xFF};
			char was = text[i];
			wrong += utf8_valid_prefix(text, i) != decoded_prefix(text, i);
			text[i] = (char)faults[(k + i) % sizeof faults];
			wrong += utf8_valid_prefix(text, n) != decoded_prefix(text, n);
			text[i] = was;
		}
	}
	ck_assert_uint_eq(wrong, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/utf8");
	TCase *t = tcase_create("utf8");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_code_point_survives_the_round_trip);
	tcase_add_test(t, a_byte_order_mark_is_known_and_its_beginnings);
	tcase_add_test(t, bad_sequences_are_refused_where_they_begin);
	tcase_add_test(t, the_valid_prefix_is_what_decoding_accepts);
	suite_add_tcase(s, t);
	return run_suite(s);
}
