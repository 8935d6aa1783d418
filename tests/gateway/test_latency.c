/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a model has been lately. */
#include "gateway/latency.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/run_suite.h"

static struct latency l;
static double first_ms, rate;

static void setup(void)
{
	latency_init(&l, 4);
}

static void teardown(void)
{
	latency_destroy(&l);
}

static void get(void)
{
	latency_get(&l, &first_ms, &rate);
}

static void near(double x, double y)
{
	ck_assert_msg(fabs(x - y) < 1e-9 * (1 + fabs(y)), "%.12g, not %.12g", x, y);
}

START_TEST(what_was_never_measured_is_0)
{
	get();
	near(first_ms, 0);
	near(rate, 0);
}
END_TEST

START_TEST(the_first_request_is_the_average)
{
	latency_add(&l, 120, 101, 1120); /* 100 tokens in 1,000 ms */
	get();
	near(first_ms, 120);
	near(rate, 100);
}
END_TEST

START_TEST(after_a_half_life_of_requests_the_old_counts_half_of_one)
{
	latency_init(&l, 1); /* each one counts half of the next */
	latency_add(&l, 100, 11, 200);
	latency_add(&l, 400, 11, 600); /* (50 + 400) / 1.5; (5 + 10) / (50 + 200) */
	get();
	near(first_ms, 300);
	near(rate, 60);
	latency_add(
		&l, 700, 11, 800); /* (25 + 200 + 700) / 1.75; (2.5 + 5 + 10) / (25 + 100 + 100) */
	get();
	near(first_ms, 925 / 1.75);
	near(rate, 17.5 / 0.225);
}
END_TEST

START_TEST(many_requests_forget_what_was_before_them)
{
	for (int i = 0; i < 50; i++)
		latency_add(&l, 5000, 11, 15000);
	for (int i = 0; i < 40; i++) /* 2^-10 of the old is left */
		latency_add(&l, 100, 101, 1100);
	get();
	ck_assert_msg(first_ms > 100 && first_ms < 106, "%g", first_ms);
	ck_assert_msg(rate < 100 && rate > 97, "%g", rate);
}
END_TEST

START_TEST(a_short_answer_says_little_of_the_rate)
{
	latency_add(&l, 10, 1001, 10010); /* 100 a second */
	latency_add(&l, 10, 9, 30);       /* 400 a second, for 8 tokens */
	get();
	ck_assert_msg(rate > 100 && rate < 101, "%g", rate);
	latency_add(&l, 10, 1, 10); /* none at all */
	get();
	ck_assert_msg(rate > 100 && rate < 101, "%g", rate);
}
END_TEST

START_TEST(where_all_came_in_bursts_there_is_nothing_to_wait_for)
{
	latency_add(&l, 100, 2, 1100); /* too few tokens for anything */
	get();
	near(first_ms, 100);
	near(rate, 0);
	latency_add(&l, 100, 5001, 101);
	get();
	ck_assert(isinf(rate)); /* nothing to wait for behind the first token */
}
END_TEST

START_TEST(a_burst_beside_others_counts_by_its_tokens_and_its_time)
{
	latency_init(&l, 1);
	latency_add(&l, 100, 101, 1100);
	latency_add(&l, 100, 151, 110); /* (50 + 150) / (500 + 10) */
	get();
	near(rate, 200 / 0.51);
}
END_TEST

START_TEST(bursts_forget_the_one_answer_that_came_slowly)
{
	latency_add(&l, 100, 41, 2100); /* 20 a second */
	get();
	near(rate, 20);
	for (int i = 0; i < 40; i++) /* 2^-10 of it is left */
		latency_add(&l, 100, 41, 101);
	get();
	ck_assert_msg(rate > 20000, "%g", rate);
	for (int i = 0; i < 100000; i++)
		latency_add(&l, 100, 41, 100);
	get();
	ck_assert_msg(rate > 1e9, "%g", rate); /* and no NaN, for ever */
}
END_TEST

START_TEST(what_cannot_be_is_passed_over)
{
	latency_add(&l, 100, 11, 200);
	latency_add(&l, NAN, 11, 200);
	latency_add(&l, 0, 11, 200);
	latency_add(&l, -1, 11, 200);
	latency_add(&l, INFINITY, 11, 200);
	get();
	near(first_ms, 100);
	near(rate, 100);
	latency_add(&l, 100, 11, NAN);
	latency_add(&l, 100, 11, 50);
	latency_add(&l, 100, 11, INFINITY);
	get();
	near(first_ms, 100);
	near(rate, 100);
}
END_TEST

static void *hammer(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		double a, b;
		latency_add(&l, 50, 21, 250);
		latency_get(&l, &a, &b);
		if (fabs(a - 50) > 1e-6 || fabs(b - 100) > 1e-6)
			return arg;
	}
	return NULL;
}

START_TEST(threads_may_add_and_get_at_once)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &l), 0);
	for (int i = 0; i < 4; i++) {
		void *fault;
		pthread_join(threads[i], &fault);
		ck_assert_ptr_null(fault);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("latency");
	TCase *t = tcase_create("latency");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_was_never_measured_is_0);
	tcase_add_test(t, the_first_request_is_the_average);
	tcase_add_test(t, after_a_half_life_of_requests_the_old_counts_half_of_one);
	tcase_add_test(t, many_requests_forget_what_was_before_them);
	tcase_add_test(t, a_short_answer_says_little_of_the_rate);
	tcase_add_test(t, where_all_came_in_bursts_there_is_nothing_to_wait_for);
	tcase_add_test(t, a_burst_beside_others_counts_by_its_tokens_and_its_time);
	tcase_add_test(t, bursts_forget_the_one_answer_that_came_slowly);
	tcase_add_test(t, what_cannot_be_is_passed_over);
	tcase_add_test(t, threads_may_add_and_get_at_once);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
