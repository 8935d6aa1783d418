/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/lane.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

enum { N = 10 };

static struct lane_user users[N];
static int came[N], n_came;

static void come(struct lane_user *t)
{
	came[n_came++] = (int)(t - users);
}

static struct lane *make(size_t running_max, size_t waiting_max)
{
	n_came = 0;
	memset(users, 0, sizeof users);
	for (int i = 0; i < N; i++) {
		list_init(&users[i].link);
		users[i].come = come;
	}
	return lane_new(running_max, waiting_max);
}

static void assert_count(struct lane *t, size_t running, size_t waiting)
{
	size_t r, w;
	lane_count(t, &r, &w);
	ck_assert_uint_eq(r, running);
	ck_assert_uint_eq(w, waiting);
}

START_TEST(they_come_in_order_and_no_more_than_may_run)
{
	struct lane *t = make(2, N);
	for (int i = 0; i < 6; i++)
		ck_assert(lane_enter(t, &users[i]));
	assert_count(t, 2, 4);
	ck_assert_int_eq(n_came, 2);
	lane_leave(t, &users[1]);
	lane_leave(t, &users[0]);
	assert_count(t, 2, 2);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(came[i], i);
	lane_free(t);
}
END_TEST

START_TEST(who_gives_up_waiting_is_passed_over)
{
	struct lane *t = make(1, N);
	for (int i = 0; i < 4; i++)
		ck_assert(lane_enter(t, &users[i]));
	lane_leave(t, &users[1]);
	assert_count(t, 1, 2);
	ck_assert_int_eq(n_came, 1);
	lane_leave(t, &users[0]);
	ck_assert_int_eq(came[1], 2);
	lane_leave(t, &users[2]);
	lane_leave(t, &users[3]);
	assert_count(t, 0, 0);
	ck_assert_int_eq(n_came, 3);
	lane_free(t);
}
END_TEST

START_TEST(when_enough_wait_no_more_are_taken)
{
	struct lane *t = make(2, 3);
	for (int i = 0; i < 5; i++)
		ck_assert(lane_enter(t, &users[i]));
	ck_assert(!lane_enter(t, &users[5]));
	assert_count(t, 2, 3);
	lane_leave(t, &users[4]);
	ck_assert(lane_enter(t, &users[5]));
	assert_count(t, 2, 3);
	ck_assert_ptr_null(lane_free(t));
	ck_assert_ptr_null(lane_free(NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("lane");
	TCase *t = tcase_create("lane");
	tcase_add_test(t, they_come_in_order_and_no_more_than_may_run);
	tcase_add_test(t, who_gives_up_waiting_is_passed_over);
	tcase_add_test(t, when_enough_wait_no_more_are_taken);
	suite_add_tcase(s, t);
	return run_suite(s);
}
