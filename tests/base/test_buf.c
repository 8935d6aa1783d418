/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "tests/run_suite.h"

START_TEST(appended_bytes_come_back_and_end_with_nul)
{
	struct buf b = {.max = 1000};
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(buf_printf(&b, "%02d,", i), 0);
	ck_assert_uint_eq(b.len, 300);
	ck_assert_uint_eq(strlen(b.data), 300);
	ck_assert_int_eq(memcmp(b.data, "00,01,02,", 9), 0);
	buf_free(&b);
}
END_TEST

START_TEST(ceiling_is_kept_and_a_refused_append_changes_nothing)
{
	struct buf b = {.max = 10};
	ck_assert_int_eq(buf_append(&b, "0123456789", 10), 0);
	ck_assert_int_eq(buf_append(&b, "x", 1), -EFBIG);
	ck_assert_int_eq(buf_reserve(&b, (size_t)-1), -EFBIG);
	ck_assert_str_eq(b.data, "0123456789");
	buf_free(&b);
}
END_TEST

START_TEST(consume_removes_from_the_front)
{
	struct buf b = {0};
	buf_append_str(&b, "hello world");
	buf_consume(&b, 6);
	ck_assert_str_eq(b.data, "world");
	buf_consume(&b, 5);
	ck_assert_uint_eq(b.len, 0);
	buf_free(&b);
	buf_free(&b);
}
END_TEST

START_TEST(long_sentences_are_cut_and_the_code_comes_back)
{
	struct err e;
	char longer[1000];
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	ck_assert_int_eq(err_set(&e, -EINVAL, "%s", longer), -EINVAL);
	ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
	ck_assert_int_eq(err_prefix(&e, -EIO, "models/%s", "x"), -EIO);
	ck_assert_int_eq(strncmp(e.text, "models/x: xxx", 13), 0);
	ck_assert_uint_lt(strlen(e.text), sizeof e.text);
	ck_assert_int_eq(err_set(NULL, -EPERM, "nobody listens"), -EPERM);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/buf");
	TCase *t = tcase_create("buf");
	tcase_add_test(t, appended_bytes_come_back_and_end_with_nul);
	tcase_add_test(t, ceiling_is_kept_and_a_refused_append_changes_nothing);
	tcase_add_test(t, consume_removes_from_the_front);
	tcase_add_test(t, long_sentences_are_cut_and_the_code_comes_back);
	suite_add_tcase(s, t);
	return run_suite(s);
}
