/* SPDX-License-Identifier: Apache-2.0 */
/* Places on a model are shared fairly between users, and no more wait than may. */
#include "gateway/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/run_suite.h"

enum { MANY = 1000 };

struct asker {
	struct gate_user user;
	int n;
};

static struct gate *gate;
static struct asker askers[MANY * 4];
static struct asker *came[MANY * 4];
static int n_came;

static void come(struct gate_user *u)
{
	came[n_came++] = (struct asker *)(void *)u;
}

static void setup(void)
{
	gate = gate_new();
	n_came = 0;
	memset(askers, 0, sizeof askers);
	for (int i = 0; i < MANY * 4; i++) {
		list_init(&askers[i].user.link);
		askers[i].user.come = come;
		askers[i].n = i;
	}
}

static void teardown(void)
{
	ck_assert_ptr_null(gate_free(gate));
	ck_assert_ptr_null(gate_free(NULL));
}

static int enter(int i, uid_t uid)
{
	struct err err = {0};
	askers[i].user.uid = uid;
	return gate_enter(gate, &askers[i].user, &err);
}

static void leave(int i)
{
	gate_leave(gate, &askers[i].user);
}

static void assert_count(uint64_t running, uint64_t waiting)
{
	uint64_t r, w;
	gate_count(gate, &r, &w);
	ck_assert_uint_eq(r, running);
	ck_assert_uint_eq(w, waiting);
}

START_TEST(a_thousand_requests_of_one_user_do_not_hold_up_anothers_first)
{
	gate_set(gate, 1, MANY * 2);
	ck_assert_int_eq(enter(0, 1), 0);
	for (int i = 1; i < MANY; i++)
		ck_assert_int_eq(enter(i, 1), 1);
	ck_assert_int_eq(enter(MANY, 2), 1);
	leave(0);
	ck_assert_int_eq(n_came, 1); /* the first user's next was there first */
	leave(came[0]->n);
	ck_assert_int_eq(n_came, 2);
	ck_assert_int_eq(came[1]->n, MANY);
	for (int i = 1; i < MANY; i++)
		leave(came[i]->n);
	ck_assert_int_eq(n_came, MANY);
	leave(came[MANY - 1]->n);
	assert_count(0, 0);
}
END_TEST

START_TEST(users_take_turns_and_each_ones_requests_keep_their_order)
{
	gate_set(gate, 1, 100);
	ck_assert_int_eq(enter(99, 9), 0);
	for (int i = 0; i < 12; i++)
		ck_assert_int_eq(
			enter(i, (uid_t)(i / 4)), 1); /* four each, one user after another */
	leave(99);
	for (int i = 0; i < 12; i++) {
		ck_assert_int_eq(n_came, i + 1);
		ck_assert_uint_eq(came[i]->user.uid, (uid_t)(i % 3));
		ck_assert_int_eq(came[i]->n, i % 3 * 4 + i / 3);
		leave(came[i]->n);
	}
	assert_count(0, 0);
}
END_TEST

START_TEST(no_more_wait_than_may_and_the_sentence_has_the_numbers)
{
	struct err err = {0};
	gate_set(gate, 2, 3);
	ck_assert_int_eq(enter(0, 1), 0);
	ck_assert_int_eq(enter(1, 1), 0);
	ck_assert_int_eq(gate_check(gate, &err), 0);
	for (int i = 2; i < 5; i++)
		ck_assert_int_eq(enter(i, 1), 1);
	ck_assert_int_eq(gate_check(gate, &err), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(err.text, "2 requests run and 3 wait"));
	ck_assert_int_eq(enter(5, 2), -EAGAIN);
	assert_count(2, 3);
	leave(5); /* it is not in: harmless */
	leave(4);
	ck_assert_int_eq(gate_check(gate, &err), 0);
	ck_assert_int_eq(enter(5, 2), 1);
	gate_set(gate, 2, 0);
	ck_assert_int_eq(gate_check(gate, &err), -EAGAIN);
	for (int i = 0; i < 6; i++)
		leave(i);
	assert_count(0, 0);
}
END_TEST

START_TEST(who_leaves_while_waiting_is_passed_over)
{
	gate_set(gate, 1, 100);
	ck_assert_int_eq(enter(0, 1), 0);
	for (int i = 1; i < 5; i++)
		ck_assert_int_eq(enter(i, (uid_t)i), 1);
	leave(1);
	leave(3);
	leave(3);
	assert_count(1, 2);
	leave(0);
	leave(0);
	ck_assert_int_eq(n_came, 1);
	ck_assert_int_eq(came[0]->n, 2);
	leave(2);
	ck_assert_int_eq(came[1]->n, 4);
	leave(4);
	assert_count(0, 0);
}
END_TEST

START_TEST(a_wider_gate_lets_in_those_that_wait)
{
	gate_set(gate, 1, 100);
	for (int i = 0; i < 6; i++)
		enter(i, (uid_t)i);
	ck_assert_int_eq(n_came, 0);
	gate_set(gate, 4, 100);
	ck_assert_int_eq(n_came, 3);
	assert_count(4, 2);
	gate_set(gate, 1, 100); /* nobody is thrown out */
	assert_count(4, 2);
	leave(0);
	ck_assert_int_eq(n_came, 3);
	for (int i = 1; i < 6; i++)
		leave(i);
	assert_count(0, 0);
}
END_TEST

/* Nanoseconds for one to enter and leave while n users have two that wait. */
static uint64_t cost(int n)
{
	uint64_t best = UINT64_MAX;
	gate_set(gate, 1, 1000000);
	enter(MANY * 4 - 1, 77777);
	for (int i = 0; i < 2 * n; i++)
		enter(i, (uid_t)(1000 + i / 2));
	for (int round = 0; round < 20; round++) {
		uint64_t from = clock_mono_ns();
		for (int i = 0; i < 200; i++) {
			enter(3 * MANY + i, (uid_t)(1000 + i % n));
			leave(3 * MANY + i);
		}
		uint64_t took = clock_mono_ns() - from;
		best = took < best ? took : best;
	}
	for (int i = 0; i < 2 * n; i++)
		leave(i);
	leave(MANY * 4 - 1);
	return best;
}

START_TEST(entering_and_leaving_cost_the_same_however_many_wait)
{
	uint64_t few = cost(10), many = cost(MANY);
	ck_assert_msg(many < 10 * few + 100000, "%llu ns against %llu ns", (unsigned long long)many,
		(unsigned long long)few);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gate");
	TCase *t = tcase_create("gate");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_thousand_requests_of_one_user_do_not_hold_up_anothers_first);
	tcase_add_test(t, users_take_turns_and_each_ones_requests_keep_their_order);
	tcase_add_test(t, no_more_wait_than_may_and_the_sentence_has_the_numbers);
	tcase_add_test(t, who_leaves_while_waiting_is_passed_over);
	tcase_add_test(t, a_wider_gate_lets_in_those_that_wait);
	tcase_add_test(t, entering_and_leaving_cost_the_same_however_many_wait);
	suite_add_tcase(s, t);
	return run_suite(s);
}
