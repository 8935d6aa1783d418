/* SPDX-License-Identifier: Apache-2.0 */
/* Tries again, with a clock and dice made by hand. */
#include "gateway/retry.h"

#include <errno.h>
#include <string.h>

#include "tests/run_suite.h"

static const uint64_t second = 1000000000, start = 77777 * 1000000000ull;

START_TEST(back_off_doubles_up_to_five_seconds_and_any_time_below_may_be_drawn)
{
	static const uint64_t most[] = {200, 400, 800, 1600, 3200, 5000, 5000};
	for (uint32_t i = 0; i < 7; i++) {
		ck_assert_uint_eq(retry_backoff_ms(i, 0), 0);
		ck_assert_uint_eq(retry_backoff_ms(i, most[i]), most[i]);
		ck_assert_uint_eq(retry_backoff_ms(i, most[i] + 1), 0);
	}
	ck_assert_uint_eq(retry_backoff_ms(UINT32_MAX, 5000), 5000);
}
END_TEST

START_TEST(what_a_server_asks_for_is_honoured_up_to_half_a_minute)
{
	uint64_t wait;
	struct err err = {0};
	ck_assert_int_eq(retry_wait(0, 100, 0, UINT64_MAX, &wait, &err), 0);
	ck_assert_uint_eq(wait, 100);
	ck_assert_int_eq(retry_wait(0, 100, 2500, UINT64_MAX, &wait, &err), 0);
	ck_assert_uint_eq(wait, 2500);
	ck_assert_int_eq(retry_wait(3, 1500, 1000, UINT64_MAX, &wait, &err), 0);
	ck_assert_uint_eq(wait, 1500);
	ck_assert_int_eq(retry_wait(0, 0, 30000, UINT64_MAX, &wait, &err), 0);
	ck_assert_int_eq(retry_wait(0, 0, 30001, UINT64_MAX, &wait, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "31 s"));
}
END_TEST

START_TEST(there_is_no_try_behind_the_deadline)
{
	uint64_t wait;
	struct err err = {0};
	ck_assert_int_eq(retry_wait(0, 0, 5000, 6000, &wait, &err), 0);
	ck_assert_int_eq(retry_wait(0, 0, 5000, 5000, &wait, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "5 s"));
	ck_assert_int_eq(retry_wait(0, 150, 0, 100, &wait, &err), -ETIMEDOUT);
	ck_assert_int_eq(retry_wait(0, 0, 0, 0, &wait, &err), -ETIMEDOUT);
}
END_TEST

START_TEST(the_budget_is_ten_and_a_share_of_the_requests_of_ten_seconds)
{
	struct retry_budget b = {.ratio = 0.1};
	int n = 0;
	while (retry_budget_take(&b, start))
		n++;
	ck_assert_int_eq(n, 10);
	for (int i = 0; i < 100; i++)
		retry_budget_request(&b, start + second);
	while (retry_budget_take(&b, start + 2 * second))
		n++;
	ck_assert_int_eq(n, 20);
	/* The first ten are forgotten; the requests are not. */
	while (retry_budget_take(&b, start + 10 * second))
		n++;
	ck_assert_int_eq(n, 30);
	while (retry_budget_take(&b, start + 1000 * second))
		n++;
	ck_assert_int_eq(n, 40);
}
END_TEST

START_TEST(a_clock_that_stands_still_or_goes_back_gives_no_more)
{
	struct retry_budget b = {.ratio = 0};
	int n = 0;
	for (int i = 0; i < 100; i++)
		n += retry_budget_take(&b, start - (uint64_t)i * second);
	ck_assert_int_eq(n, 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("retry");
	TCase *t = tcase_create("retry");
	tcase_add_test(t, back_off_doubles_up_to_five_seconds_and_any_time_below_may_be_drawn);
	tcase_add_test(t, what_a_server_asks_for_is_honoured_up_to_half_a_minute);
	tcase_add_test(t, there_is_no_try_behind_the_deadline);
	tcase_add_test(t, the_budget_is_ten_and_a_share_of_the_requests_of_ten_seconds);
	tcase_add_test(t, a_clock_that_stands_still_or_goes_back_gives_no_more);
	suite_add_tcase(s, t);
	return run_suite(s);
}
