/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as printf would write them. */
#include "gateway/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/run_suite.h"

static const uint64_t numbers[] = {0, 1, 9, 10, 11, 99, 100, 12345, 999999999, 1000000000,
	UINT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, 9999999999999999999u, 10000000000000000000u,
	UINT64_MAX};
enum { N = sizeof numbers / sizeof *numbers };

START_TEST(a_number_is_written_as_printf_writes_it_and_nothing_behind_it)
{
	for (size_t i = 0; i < N; i++) {
		char expected[32], room[32];
		int n = snprintf(expected, sizeof expected, "%" PRIu64, numbers[i]);
		memset(room, '?', sizeof room);
		char *end = text_number(room, numbers[i]);
		ck_assert_int_eq(end - room, n);
		ck_assert_int_le(n, TEXT_NUMBER_MAX);
		ck_assert_mem_eq(room, expected, (size_t)n);
		ck_assert_int_eq(*end, '?');
	}
}
END_TEST

START_TEST(a_signed_number_has_a_sign_when_it_is_below_0)
{
	for (size_t i = 0; i < N; i++) {
		char expected[32], room[32];
		int n = snprintf(expected, sizeof expected, "%" PRId64, (int64_t)numbers[i]);
		char *end = text_signed(room, (int64_t)numbers[i]);
		ck_assert_int_eq(end - room, n);
		ck_assert_int_le(n, TEXT_NUMBER_MAX + 1);
		ck_assert_mem_eq(room, expected, (size_t)n);
	}
}
END_TEST

START_TEST(a_serial_has_sixteen_digits_and_serials_are_in_order)
{
	char before[TEXT_SERIAL_LEN + 1] = "";
	for (size_t i = 0; i < N; i++) {
		char expected[32], room[TEXT_SERIAL_LEN + 1];
		snprintf(expected, sizeof expected, "%016" PRIx64, numbers[i]);
		ck_assert_ptr_eq(text_serial(room, numbers[i]), room + TEXT_SERIAL_LEN);
		ck_assert_str_eq(room, expected);
		ck_assert_int_lt(strcmp(before, room), 0);
		strcpy(before, room);
	}
}
END_TEST

START_TEST(a_line_of_events_begins_with_its_second_and_millisecond)
{
	static const struct {
		uint64_t ns;
		const char *line;
	} times[] = {{0, "{\"time\": 0.000"}, {999999, "{\"time\": 0.000"},
		{1000000, "{\"time\": 0.001"}, {1999999999, "{\"time\": 1.999"},
		{1795698000012345678, "{\"time\": 1795698000.012"},
		{UINT64_MAX, "{\"time\": 18446744073.709"}};
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		char room[TEXT_TIME_MAX + 1];
		char *end = text_time(room, times[i].ns);
		ck_assert_int_le(end - room, TEXT_TIME_MAX);
		*end = '\0';
		ck_assert_str_eq(room, times[i].line);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("text");
	TCase *t = tcase_create("text");
	tcase_add_test(t, a_number_is_written_as_printf_writes_it_and_nothing_behind_it);
	tcase_add_test(t, a_signed_number_has_a_sign_when_it_is_below_0);
	tcase_add_test(t, a_serial_has_sixteen_digits_and_serials_are_in_order);
	tcase_add_test(t, a_line_of_events_begins_with_its_second_and_millisecond);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
