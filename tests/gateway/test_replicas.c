/* SPDX-License-Identifier: Apache-2.0 */
/* Which server has the next request, with a clock made by hand. */
#include "gateway/replicas.h"

#include <string.h>

#include "tests/run_suite.h"

static const uint64_t start = 77 * 1000000000ull, second = 1000000000;
static struct replicas r;

static void make(size_t n, const uint32_t *weights)
{
	struct breaker b;
	breaker_init(&b, 2, 1, 30000);
	memset(&r, 0, sizeof r);
	for (size_t i = 0; i < n; i++)
		replicas_add(&r, weights[i], &b);
}

static struct replicas_pick choose(uint64_t affinity, uint32_t tried)
{
	struct replicas_pick p;
	ck_assert_int_eq(replicas_choose(&r, affinity, tried, start, &p), 0);
	return p;
}

static void done(struct replicas_pick p, enum breaker_end end)
{
	replicas_done(&r, &p, end, start);
}

static void open_breaker(size_t i)
{
	while (breaker_state(&r.list[i].breaker, start) == BREAKER_CLOSED) {
		enum breaker_pass pass = breaker_enter(&r.list[i].breaker, start);
		breaker_leave(&r.list[i].breaker, pass, BREAKER_FAILURE, start);
	}
}

START_TEST(one_after_another_they_take_turns_by_their_weights)
{
	static const uint32_t weights[] = {5, 3, 2};
	unsigned n[3] = {0};
	make(3, weights);
	for (int i = 0; i < 1000; i++) {
		struct replicas_pick p = choose(0, 0);
		n[p.replica]++;
		done(p, BREAKER_SUCCESS);
	}
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(n[i], weights[i] * 100);
}
END_TEST

START_TEST(at_the_same_time_each_has_its_share_of_the_work)
{
	static const uint32_t weights[] = {3, 1};
	make(2, weights);
	for (int i = 0; i < 40; i++)
		choose(0, 0);
	ck_assert_uint_eq(r.list[0].outstanding, 30);
	ck_assert_uint_eq(r.list[1].outstanding, 10);
}
END_TEST

START_TEST(the_one_with_the_least_to_do_is_next)
{
	static const uint32_t weights[] = {1, 1, 1};
	struct replicas_pick p[6];
	make(3, weights);
	for (int i = 0; i < 6; i++)
		p[i] = choose(0, 0);
	size_t idle = p[4].replica;
	for (int i = 0; i < 6; i++)
		if (p[i].replica == idle)
			done(p[i], BREAKER_SUCCESS);
	ck_assert_uint_eq(choose(0, 0).replica, idle);
	ck_assert_uint_eq(choose(0, 0).replica, idle);
}
END_TEST

START_TEST(a_conversation_goes_back_to_where_it_was_unless_that_is_busy)
{
	static const uint32_t weights[] = {1, 1, 1, 1};
	make(4, weights);
	for (uint64_t c = 1; c <= 100; c++) {
		struct replicas_pick first = choose(c * 0x9E3779B97F4A7C15u, 0);
		done(first, BREAKER_SUCCESS);
		done(choose(0, 0), BREAKER_SUCCESS); /* others come in between */
		struct replicas_pick again = choose(c * 0x9E3779B97F4A7C15u, 0);
		ck_assert_uint_eq(again.replica, first.replica);
		done(again, BREAKER_SUCCESS);
	}
	size_t home = choose(42, 0).replica;
	ck_assert_uint_eq(choose(42, 0).replica, home);
	ck_assert_uint_eq(choose(42, 0).replica, home);
	ck_assert_uint_ne(choose(42, 0).replica, home); /* it has 3, the others none */
}
END_TEST

START_TEST(a_retry_goes_elsewhere_and_to_the_same_only_if_there_is_no_other)
{
	static const uint32_t weights[] = {1000, 1};
	make(2, weights);
	struct replicas_pick first = choose(7, 0);
	done(first, BREAKER_FAILURE);
	struct replicas_pick second_try = choose(7, 1u << first.replica);
	ck_assert_uint_ne(second_try.replica, first.replica);
	done(second_try, BREAKER_SUCCESS);
	r.list[second_try.replica].down = true;
	ck_assert_uint_eq(choose(7, 1u << first.replica).replica, first.replica);
}
END_TEST

START_TEST(open_and_unhealthy_ones_are_left_out)
{
	static const uint32_t weights[] = {1, 1, 1};
	struct replicas_pick p;
	uint64_t wait;
	make(3, weights);
	open_breaker(0);
	r.list[1].down = true;
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(choose((uint64_t)i, 0).replica, 2);
	r.list[2].down = true;
	ck_assert_int_eq(replicas_choose(&r, 0, 0, start, &p), 1);
	ck_assert(!replicas_can(&r, start));
	ck_assert_uint_eq(replicas_next(&r, start + 10 * second, &wait), 0);
	ck_assert_uint_eq(wait, 20 * second);
	r.list[0].down = true;
	replicas_next(&r, start, &wait);
	ck_assert_uint_eq(wait, UINT64_MAX);
	r.list[0].down = false;
	ck_assert(replicas_can(&r, start + 30 * second));
	ck_assert_int_eq(replicas_choose(&r, 0, 0, start + 30 * second, &p), 0);
	ck_assert_int_eq(p.pass, BREAKER_PROBE);
	ck_assert(!replicas_can(&r, start + 30 * second));
}
END_TEST

START_TEST(one_that_asked_to_wait_is_left_alone_until_then)
{
	static const uint32_t weights[] = {1, 1};
	struct replicas_pick p;
	uint64_t wait;
	make(2, weights);
	replicas_hold(&r, 0, start + 20 * second);
	replicas_hold(&r, 0, start + 5 * second); /* an earlier one changes nothing */
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(choose((uint64_t)i, 0).replica, 1);
	ck_assert_uint_eq(choose(0, 2).replica, 1); /* not even for another try */
	replicas_hold(&r, 1, start + 10 * second);
	ck_assert_int_eq(replicas_choose(&r, 0, 0, start, &p), 1);
	ck_assert_uint_eq(replicas_next(&r, start + second, &wait), 1);
	ck_assert_uint_eq(wait, 9 * second);
	ck_assert(!replicas_can(&r, start + 10 * second - 1));
	ck_assert(replicas_can(&r, start + 10 * second));
}
END_TEST

START_TEST(one_that_comes_back_does_not_make_up_for_what_it_missed)
{
	static const uint32_t weights[] = {1, 1};
	unsigned n[2] = {0};
	make(2, weights);
	r.list[0].down = true;
	for (int i = 0; i < 1000; i++)
		done(choose(0, 0), BREAKER_SUCCESS);
	r.list[0].down = false;
	for (int i = 0; i < 100; i++) {
		struct replicas_pick p = choose(0, 0);
		n[p.replica]++;
		done(p, BREAKER_SUCCESS);
	}
	ck_assert_uint_le(n[0], 51);
	ck_assert_uint_ge(n[0], 49);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("replicas");
	TCase *t = tcase_create("replicas");
	tcase_add_test(t, one_after_another_they_take_turns_by_their_weights);
	tcase_add_test(t, at_the_same_time_each_has_its_share_of_the_work);
	tcase_add_test(t, the_one_with_the_least_to_do_is_next);
	tcase_add_test(t, a_conversation_goes_back_to_where_it_was_unless_that_is_busy);
	tcase_add_test(t, a_retry_goes_elsewhere_and_to_the_same_only_if_there_is_no_other);
	tcase_add_test(t, open_and_unhealthy_ones_are_left_out);
	tcase_add_test(t, one_that_asked_to_wait_is_left_alone_until_then);
	tcase_add_test(t, one_that_comes_back_does_not_make_up_for_what_it_missed);
	suite_add_tcase(s, t);
	return run_suite(s);
}
