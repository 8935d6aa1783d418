/* SPDX-License-Identifier: Apache-2.0 */
/* Breakers, with a clock made by hand. */
#include "gateway/breaker.h"

#include "tests/run_suite.h"

static const uint64_t ms = 1000000, start = 77 * 1000000000ull;
static struct breaker b;

static void setup(void)
{
	breaker_init(&b, 5, 3, 30000);
}

static void one(enum breaker_end end, uint64_t now)
{
	enum breaker_pass pass = breaker_enter(&b, now);
	ck_assert(pass != BREAKER_REFUSED);
	breaker_leave(&b, pass, end, now);
}

static void open_it(uint64_t now)
{
	for (int i = 0; i < 5; i++)
		one(BREAKER_FAILURE, now);
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_OPEN);
}

START_TEST(it_opens_after_five_failures_in_a_row_and_not_before)
{
	for (int i = 0; i < 4; i++)
		one(BREAKER_FAILURE, start);
	one(BREAKER_SUCCESS, start);
	for (int i = 0; i < 4; i++) {
		one(BREAKER_FAILURE, start);
		one(BREAKER_NEITHER, start); /* breaks no row, and is none of it */
		ck_assert_int_eq(breaker_state(&b, start), BREAKER_CLOSED);
	}
	one(BREAKER_FAILURE, start);
	ck_assert_int_eq(breaker_state(&b, start), BREAKER_OPEN);
	ck_assert_int_eq(breaker_enter(&b, start), BREAKER_REFUSED);
}
END_TEST

START_TEST(while_it_is_open_it_says_when_the_next_probe_is)
{
	open_it(start);
	ck_assert_uint_eq(breaker_wait_ns(&b, start), 30000 * ms);
	ck_assert_uint_eq(breaker_wait_ns(&b, start + 29000 * ms), 1000 * ms);
	ck_assert_int_eq(breaker_check(&b, start + 30000 * ms - 1), BREAKER_REFUSED);
	ck_assert_int_eq(breaker_state(&b, start + 30000 * ms), BREAKER_HALF_OPEN);
	ck_assert_uint_eq(breaker_wait_ns(&b, start + 30000 * ms), 0);
}
END_TEST

START_TEST(half_open_it_lets_one_probe_through_at_a_time_and_closes_after_three)
{
	uint64_t now = start + 30000 * ms;
	open_it(start);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(breaker_state(&b, now), BREAKER_HALF_OPEN);
		ck_assert_int_eq(breaker_enter(&b, now), BREAKER_PROBE);
		ck_assert_int_eq(breaker_enter(&b, now), BREAKER_REFUSED);
		ck_assert(breaker_wait_ns(&b, now) > 0);
		breaker_leave(&b, BREAKER_PROBE, BREAKER_SUCCESS, now);
	}
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_CLOSED);
	for (int i = 0; i < 4; i++)
		one(BREAKER_FAILURE, now); /* the row began anew */
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_CLOSED);
}
END_TEST

START_TEST(a_probe_that_fails_opens_it_again_for_the_whole_time)
{
	uint64_t now = start + 30000 * ms;
	open_it(start);
	one(BREAKER_SUCCESS, now);
	one(BREAKER_SUCCESS, now);
	one(BREAKER_FAILURE, now + 5 * ms);
	ck_assert_uint_eq(breaker_wait_ns(&b, now + 5 * ms), 30000 * ms);
	ck_assert_uint_eq(b.n_failures, 6);
	now += 30005 * ms;
	one(BREAKER_SUCCESS, now); /* the two before do not count any more */
	one(BREAKER_SUCCESS, now);
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_HALF_OPEN);
	one(BREAKER_SUCCESS, now);
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_CLOSED);
}
END_TEST

START_TEST(a_cancelled_probe_makes_room_for_the_next_and_decides_nothing)
{
	uint64_t now = start + 30000 * ms;
	open_it(start);
	one(BREAKER_NEITHER, now);
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_HALF_OPEN);
	ck_assert_int_eq(breaker_enter(&b, now), BREAKER_PROBE);
}
END_TEST

START_TEST(requests_from_before_it_opened_are_no_probes)
{
	uint64_t now = start + 30000 * ms;
	enum breaker_pass early[4];
	for (int i = 0; i < 4; i++)
		early[i] = breaker_enter(&b, start);
	open_it(start);
	breaker_leave(&b, early[0], BREAKER_SUCCESS, start);
	breaker_leave(&b, early[1], BREAKER_FAILURE, start + 20000 * ms);
	ck_assert_uint_eq(breaker_wait_ns(&b, start + 20000 * ms), 10000 * ms);
	ck_assert_int_eq(breaker_enter(&b, now), BREAKER_PROBE);
	breaker_leave(&b, early[2], BREAKER_SUCCESS, now);
	breaker_leave(&b, early[3], BREAKER_FAILURE, now);
	ck_assert_int_eq(breaker_state(&b, now), BREAKER_HALF_OPEN);
	ck_assert_int_eq(breaker_enter(&b, now), BREAKER_REFUSED);
}
END_TEST

START_TEST(a_failure_is_lately_for_as_long_as_an_open_breaker_would_be)
{
	ck_assert(!breaker_failed_lately(&b, start));
	one(BREAKER_FAILURE, start);
	ck_assert(breaker_failed_lately(&b, start + 29999 * ms));
	ck_assert(!breaker_failed_lately(&b, start + 30000 * ms));
	one(BREAKER_NEITHER, start);
	ck_assert(breaker_failed_lately(&b, start));
	one(BREAKER_SUCCESS, start);
	ck_assert(!breaker_failed_lately(&b, start));
	open_it(start); /* which is more than lately */
	ck_assert(!breaker_failed_lately(&b, start));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("breaker");
	TCase *t = tcase_create("breaker");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, it_opens_after_five_failures_in_a_row_and_not_before);
	tcase_add_test(t, while_it_is_open_it_says_when_the_next_probe_is);
	tcase_add_test(t, half_open_it_lets_one_probe_through_at_a_time_and_closes_after_three);
	tcase_add_test(t, a_probe_that_fails_opens_it_again_for_the_whole_time);
	tcase_add_test(t, a_cancelled_probe_makes_room_for_the_next_and_decides_nothing);
	tcase_add_test(t, requests_from_before_it_opened_are_no_probes);
	tcase_add_test(t, a_failure_is_lately_for_as_long_as_an_open_breaker_would_be);
	suite_add_tcase(s, t);
	return run_suite(s);
}
