/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/again.h"

#include <string.h>
#include <unistd.h>

#include "tests/run_suite.h"

/* The process numbers and files of one test are no other's: what was noted stays. */

static struct buf text_of(const char *text)
{
	struct buf b = {0};
	ck_assert_int_eq(buf_append_str(&b, text), 0);
	return b;
}

START_TEST(what_a_thread_unlinks_is_gone_to_it_and_to_nobody_else)
{
	again_unlinked(10, 100, NULL);
	ck_assert(again_is_gone(10, 100));
	ck_assert(!again_is_gone(11, 100)); /* another thread */
	ck_assert(!again_is_gone(10, 101)); /* another file */
	ck_assert(again_is_gone_to_any(100));
	ck_assert(!again_is_gone_to_any(101));
}
END_TEST

START_TEST(it_is_there_again_after_a_second)
{
	again_unlinked(15, 150, NULL);
	usleep(1100000);
	ck_assert(!again_is_gone(15, 150));
	ck_assert(!again_is_gone_to_any(150));
	struct buf before = {0};
	ck_assert(!again_made(15, 150, &before));
}
END_TEST

START_TEST(who_makes_it_anew_gets_what_stood_in_it_once)
{
	struct buf text = text_of("0.5"), before = {0};
	again_unlinked(20, 200, &text);
	ck_assert_ptr_null(text.data);
	text = text_of("default");
	again_unlinked(20, 200, &text); /* which stood in it after the first */
	ck_assert(!again_made(21, 200, &before));
	ck_assert(again_made(20, 200, &before));
	ck_assert_str_eq(before.data, "0.5");
	buf_free(&before);
	ck_assert(!again_is_gone(20, 200));
	ck_assert(!again_is_gone_to_any(200));
	ck_assert(!again_made(20, 200, &before));
}
END_TEST

START_TEST(a_thread_that_is_not_known_is_not_noted)
{
	struct buf text = text_of("x");
	again_unlinked(0, 250, &text);
	ck_assert(!again_is_gone(0, 250));
	ck_assert(!again_is_gone_to_any(250));
	ck_assert_ptr_null(text.data);
}
END_TEST

START_TEST(texts_together_have_a_ceiling)
{
	struct buf half[3] = {0}, before = {0};
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(buf_reserve(&half[i], AGAIN_MOST_BYTES / 2 - 1000), 0);
		half[i].len = AGAIN_MOST_BYTES / 2 - 1000;
		memset(half[i].data, 'x', half[i].len);
		again_unlinked(26 + i, 260, &half[i]);
	}
	ck_assert(again_made(28, 260, &before)); /* noted, without its text */
	ck_assert_uint_eq(before.len, 0);
	ck_assert(again_made(26, 260, &before));
	ck_assert_uint_eq(before.len, AGAIN_MOST_BYTES / 2 - 1000);
	buf_free(&before);
	ck_assert(again_made(27, 260, &before));
	buf_free(&before);
	/* There is room again. */
	ck_assert_int_eq(buf_reserve(&half[0], AGAIN_MOST_BYTES / 2), 0);
	half[0].len = AGAIN_MOST_BYTES / 2;
	again_unlinked(29, 260, &half[0]);
	ck_assert(again_made(29, 260, &before));
	ck_assert_uint_eq(before.len, AGAIN_MOST_BYTES / 2);
	buf_free(&before);
}
END_TEST

static void unlink_text(pid_t pid, uint64_t ino, size_t len)
{
	struct buf text = {0};
	ck_assert_int_eq(buf_reserve(&text, len), 0);
	memset(text.data, 'x', len);
	text.len = len;
	again_unlinked(pid, ino, &text);
}

START_TEST(texts_that_give_way_or_have_gone_make_room_for_others)
{
	const size_t eighth = AGAIN_MOST_BYTES / 8;
	struct buf before = {0};
	usleep(1100000);
	for (unsigned i = 0; i < 20; i++) /* a thread has 8 places */
		unlink_text(50, 500 + i, eighth);
	ck_assert(!again_is_gone(50, 511));
	for (unsigned i = 12; i < 20; i++) {
		ck_assert(again_made(50, 500 + i, &before));
		ck_assert_uint_eq(before.len, eighth);
		buf_free(&before);
		unlink_text(50, 500 + i, eighth);
	}
	again_forget(500, 519);
	unlink_text(51, 520, AGAIN_MOST_BYTES);
	ck_assert(again_made(51, 520, &before));
	ck_assert_uint_eq(before.len, AGAIN_MOST_BYTES);
	buf_free(&before);
}
END_TEST

START_TEST(those_that_have_gone_are_forgotten_and_none_beside_them)
{
	for (unsigned i = 0; i < 4; i++)
		again_unlinked(55, 550 + i, NULL);
	again_forget(551, 552);
	ck_assert(again_is_gone(55, 550));
	ck_assert(!again_is_gone(55, 551));
	ck_assert(!again_is_gone(55, 552));
	ck_assert(again_is_gone(55, 553));
}
END_TEST

/* A loop ends when it is told that the file has gone. */
START_TEST(each_of_very_many_loops_at_once_comes_to_its_end)
{
	enum { LOOPS = 1000 };
	bool told[LOOPS] = {false};
	int left = LOOPS;
	for (int round = 0; left && round < 100; round++) {
		for (int i = 0; i < LOOPS; i++) {
			if (told[i])
				continue;
			if (again_is_gone(1000 + i, 300)) {
				told[i] = true;
				left--;
			} else {
				again_unlinked(1000 + i, 300, NULL);
			}
		}
		usleep(50000);
	}
	ck_assert_int_eq(left, 0);
}
END_TEST

START_TEST(who_removes_a_tree_leaves_room_for_others)
{
	usleep(1100000); /* others have had all */
	for (unsigned i = 0; i < 10000; i++)
		again_unlinked(30, 100000 + i, NULL);
	again_unlinked(31, 400, NULL);
	ck_assert(again_is_gone(31, 400));
	ck_assert(again_is_gone(30, 109999)); /* and its own last ones are known */
}
END_TEST

START_TEST(many_who_remove_trees_leave_room_when_those_have_gone)
{
	usleep(1100000);
	for (unsigned tree = 0; tree < 500; tree++) {
		for (unsigned i = 0; i < 40; i++)
			again_unlinked((pid_t)(2000 + tree), 1000000 + tree * 100 + i, NULL);
		again_forget(1000000 + tree * 100, 1000000 + tree * 100 + 99);
	}
	again_unlinked(41, 410, NULL);
	ck_assert(again_is_gone(41, 410));
	ck_assert(!again_is_gone(2499, 1000000 + 499 * 100 + 39));
}
END_TEST

START_TEST(a_name_is_no_inode_number)
{
	ck_assert_uint_ne(again_name("input/a.rules"), again_name("input/b.rules"));
	ck_assert(again_name("input/a.rules") >> 63);
	ck_assert(again_name("") >> 63);
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
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_a_thread_unlinks_is_gone_to_it_and_to_nobody_else);
	tcase_add_test(t, it_is_there_again_after_a_second);
	tcase_add_test(t, who_makes_it_anew_gets_what_stood_in_it_once);
	tcase_add_test(t, a_thread_that_is_not_known_is_not_noted);
	tcase_add_test(t, texts_together_have_a_ceiling);
	tcase_add_test(t, texts_that_give_way_or_have_gone_make_room_for_others);
	tcase_add_test(t, those_that_have_gone_are_forgotten_and_none_beside_them);
	tcase_add_test(t, each_of_very_many_loops_at_once_comes_to_its_end);
	tcase_add_test(t, who_removes_a_tree_leaves_room_for_others);
	tcase_add_test(t, many_who_remove_trees_leave_room_when_those_have_gone);
	tcase_add_test(t, a_name_is_no_inode_number);
	tcase_add_test(t, who_was_refused_is_known_there_and_nobody_else_nor_elsewhere);
	suite_add_tcase(s, t);
	return run_suite(s);
}
