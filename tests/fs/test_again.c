/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/again.h"

#include <unistd.h>

#include "tests/run_suite.h"

/* The process numbers and files of one test are no other's: what was noted stays. */

START_TEST(a_loop_is_told_after_a_few_and_then_each_time)
{
	for (int i = 0; i < AGAIN_MOST; i++)
		ck_assert(!again_unlinked(10, 100));
	for (int i = 0; i < 3; i++)
		ck_assert(again_unlinked(10, 100));
	ck_assert(!again_unlinked(11, 100)); /* another process */
	ck_assert(!again_unlinked(10, 101)); /* another file */
}
END_TEST

START_TEST(whoever_opens_the_file_begins_anew)
{
	for (int i = 0; i < 5 * AGAIN_MOST; i++) {
		if (i % AGAIN_MOST == 0)
			again_opened(200);
		ck_assert(!again_unlinked(20, 200));
	}
	ck_assert(again_unlinked(20, 200));
}
END_TEST

START_TEST(each_of_very_many_loops_at_once_comes_to_its_end)
{
	enum { LOOPS = 1000, ROUNDS = 1000 };
	bool told[LOOPS] = {false};
	int left = LOOPS;
	for (int round = 0; left && round < ROUNDS; round++)
		for (int i = 0; i < LOOPS; i++)
			if (!told[i] && again_unlinked(1000 + i, 300)) {
				told[i] = true;
				left--;
			}
	ck_assert_int_eq(left, 0);
}
END_TEST

START_TEST(a_loop_ends_beside_who_removes_a_tree)
{
	bool told = false;
	for (unsigned i = 0; !told && i < 10000; i++) {
		ck_assert(!again_unlinked(30, 100000 + i));
		told = again_unlinked(31, 400);
	}
	ck_assert(told);
}
END_TEST

START_TEST(who_was_refused_is_known_there_and_nobody_else_nor_elsewhere)
{
	ck_assert(!again_goes_on(40, 500));
	again_refused(40, 500);
	for (int i = 0; i < 3; i++)
		ck_assert(again_goes_on(40, 500));
	ck_assert(!again_goes_on(41, 500));
	ck_assert(!again_goes_on(40, 501));
	usleep(1100000);
	ck_assert(!again_goes_on(40, 500));
	/* The last is known whatever was before. */
	for (int i = 0; i < 100; i++) {
		again_refused(50 + i, 502);
		ck_assert(again_goes_on(50 + i, 502));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/again");
	TCase *t = tcase_create("again");
	tcase_add_test(t, a_loop_is_told_after_a_few_and_then_each_time);
	tcase_add_test(t, whoever_opens_the_file_begins_anew);
	tcase_add_test(t, each_of_very_many_loops_at_once_comes_to_its_end);
	tcase_add_test(t, a_loop_ends_beside_who_removes_a_tree);
	tcase_add_test(t, who_was_refused_is_known_there_and_nobody_else_nor_elsewhere);
	suite_add_tcase(s, t);
	return run_suite(s);
}
