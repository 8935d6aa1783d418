/* SPDX-License-Identifier: Apache-2.0 */
/* Dollars are exact to the last nanodollar, in text and in sums. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/money.h"
#include "tests/run_suite.h"

static money parsed(const char *text)
{
	money m = -1;
	ck_assert_msg(money_parse(text, strlen(text), &m) == 0, "%s", text);
	return m;
}

START_TEST(dollars_are_read_to_the_ninth_decimal)
{
	ck_assert_int_eq(parsed("12"), 12000000000);
	ck_assert_int_eq(parsed("0.000000001"), 1);
	ck_assert_int_eq(parsed(".5"), 500000000);
	ck_assert_int_eq(parsed("7."), 7000000000);
	ck_assert_int_eq(parsed("0"), 0);
	ck_assert_int_eq(parsed("000000000000000000000000000000.1"), 100000000);
	ck_assert_int_eq(parsed("1000000000"), 1000000000000000000);
	ck_assert_int_eq(parsed("1000000000.000000000"), 1000000000000000000);
}
END_TEST

START_TEST(text_that_is_not_decimal_is_refused)
{
	static const char *const bad[] = {"", ".", "-1", "+1", "1e3", "1.0.0", " 1", "1 ", "1,5",
		"0.0000000001", "0x1", "nan", "$5"};
	money m = 7;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(money_parse(bad[i], strlen(bad[i]), &m) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(money_parse("1\0002", 3, &m), -EINVAL);
	ck_assert_int_eq(m, 7);
}
END_TEST

START_TEST(more_than_a_billion_dollars_is_out_of_range)
{
	static const char *const bad[] = {"1000000000.000000001", "1000000001", "99999999999",
		"18446744073709551616", "340282366920938463463374607431768211456.5"};
	money m = 7;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(money_parse(bad[i], strlen(bad[i]), &m) == -ERANGE, "%s", bad[i]);
	ck_assert_int_eq(m, 7);
}
END_TEST

static void prints(money m, const char *text)
{
	struct buf out = {0};
	ck_assert_int_eq(money_print(m, &out), 0);
	ck_assert_str_eq(out.data, text);
	buf_free(&out);
}

START_TEST(the_shortest_exact_form_is_printed)
{
	prints(12000000000, "12");
	prints(500000000, "0.5");
	prints(-1, "-0.000000001");
	prints(0, "0");
	prints(1020000000, "1.02");
	prints(INT64_MAX, "9223372036.854775807");
	prints(INT64_MIN, "-9223372036.854775808");
}
END_TEST

START_TEST(what_is_printed_is_read_back_as_the_same)
{
	uint64_t x = 1;
	for (int i = 0; i < 200000; i++) {
		char room[MONEY_TEXT_SIZE];
		x = x * 6364136223846793005u + 1442695040888963407u;
		money m = (money)((x >> 4) % 1000000000000000001u) >> (x & 15) * 4;
		ck_assert_int_eq(parsed(money_text(m, room)), m);
	}
}
END_TEST

START_TEST(a_cost_is_rounded_up_once)
{
	const struct money_price p = {150000000, 75000000, 600000000}; /* 0.15 0.075 0.6 */
	struct money_tokens t = {1, 0, 0};
	ck_assert_int_eq(money_cost(&p, &t), 150);
	t = (struct money_tokens){1000, 400, 10};
	ck_assert_int_eq(money_cost(&p, &t), 600 * 150 + 400 * 75 + 10 * 600);
	/* Three thirds of a nanodollar make one, not three. */
	const struct money_price small = {400000, 300000, 300000};
	t = (struct money_tokens){2, 1, 1};
	ck_assert_int_eq(money_cost(&small, &t), 1);
	t = (struct money_tokens){2, 1, 2};
	ck_assert_int_eq(money_cost(&small, &t), 2);
	const struct money_price free_of_charge = {0};
	ck_assert_int_eq(money_cost(&free_of_charge, &t), 0);
}
END_TEST

START_TEST(more_cached_tokens_than_there_are_count_as_all_of_them)
{
	const struct money_price p = {2000000, 1000000, 0};
	const struct money_tokens t = {10, 11, 0};
	ck_assert_int_eq(money_cost(&p, &t), 10);
}
END_TEST

START_TEST(a_cost_that_does_not_fit_is_the_greatest_there_is)
{
	const struct money_price p = {INT64_MAX, INT64_MAX, INT64_MAX};
	const struct money_tokens t = {UINT64_MAX, UINT64_MAX / 2, UINT64_MAX};
	ck_assert_int_eq(money_cost(&p, &t), INT64_MAX);
	/* The greatest that does fit. */
	const struct money_tokens million = {0, 0, 1000000};
	ck_assert_int_eq(money_cost(&p, &million), INT64_MAX);
	const struct money_tokens less = {0, 0, 999999};
	ck_assert_int_lt(money_cost(&p, &less), INT64_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/money");
	TCase *t = tcase_create("money");
	tcase_add_test(t, dollars_are_read_to_the_ninth_decimal);
	tcase_add_test(t, text_that_is_not_decimal_is_refused);
	tcase_add_test(t, more_than_a_billion_dollars_is_out_of_range);
	tcase_add_test(t, the_shortest_exact_form_is_printed);
	tcase_add_test(t, what_is_printed_is_read_back_as_the_same);
	tcase_add_test(t, a_cost_is_rounded_up_once);
	tcase_add_test(t, more_cached_tokens_than_there_are_count_as_all_of_them);
	tcase_add_test(t, a_cost_that_does_not_fit_is_the_greatest_there_is);
	suite_add_tcase(s, t);
	return run_suite(s);
}
