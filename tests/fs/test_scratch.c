/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/scratch.h"

#include <errno.h>
#include <string.h>

#include "tests/run_suite.h"

START_TEST(what_is_written_is_read_at_every_offset)
{
	struct scratch *s = scratch_new(S_IFREG | 0600, 1, 2);
	char got[16];
	ck_assert_int_eq(scratch_write(s, 0, "hello world", 11), 11);
	for (size_t i = 0; i <= 11; i++) {
		ck_assert_uint_eq(scratch_read(s, i, got, sizeof got), 11 - i);
		ck_assert_mem_eq(got, &"hello world"[i], 11 - i);
	}
	ck_assert_uint_eq(scratch_read(s, UINT64_MAX, got, sizeof got), 0);
	scratch_free(s);
}
END_TEST

START_TEST(a_gap_is_filled_with_zeros)
{
	struct scratch *s = scratch_new(S_IFREG | 0600, 1, 2);
	char got[8] = "xxxxxxx";
	ck_assert_int_eq(scratch_write(s, 5, "ab", 2), 2);
	ck_assert_uint_eq(scratch_read(s, 0, got, 8), 7);
	ck_assert_mem_eq(got, "\0\0\0\0\0ab", 7);
	ck_assert_int_eq(scratch_truncate(s, 1), 0);
	ck_assert_int_eq(scratch_truncate(s, 7), 0);
	ck_assert_uint_eq(scratch_read(s, 0, got, 8), 7);
	ck_assert_mem_eq(got, "\0\0\0\0\0\0\0", 7);
	scratch_free(s);
}
END_TEST

START_TEST(a_file_is_bounded)
{
	struct scratch *s = scratch_new(S_IFREG | 0600, 1, 2);
	ck_assert_int_eq(scratch_write(s, SCRATCH_MAX_BYTES - 1, "x", 1), 1);
	ck_assert_int_eq(scratch_write(s, SCRATCH_MAX_BYTES, "x", 1), -EFBIG);
	ck_assert_int_eq(scratch_write(s, UINT64_MAX, "x", 1), -EFBIG);
	ck_assert_int_eq(scratch_truncate(s, SCRATCH_MAX_BYTES + 1), -EFBIG);
	scratch_free(s);
}
END_TEST

START_TEST(all_files_together_are_bounded_and_give_their_room_back)
{
	enum { N = SCRATCH_MAX_TOTAL / SCRATCH_MAX_BYTES };
	static struct scratch *files[N + 1];
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i <= N; i++) {
			files[i] = scratch_new(S_IFREG | 0600, 1, 2);
			ck_assert_int_eq(
				scratch_truncate(files[i], SCRATCH_MAX_BYTES), i < N ? 0 : -ENOSPC);
		}
		for (int i = 0; i <= N; i++)
			files[i] = scratch_free(files[i]);
	}
}
END_TEST

START_TEST(owner_mode_and_size_are_what_stat_says)
{
	struct scratch *s = scratch_new(S_IFREG | 0640, 7, 8);
	struct stat st = {0};
	scratch_write(s, 0, "abc", 3);
	scratch_chmod(s, 0755);
	scratch_chown(s, (uid_t)-1, 9);
	scratch_stat(s, &st);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0755);
	ck_assert_uint_eq(st.st_uid, 7);
	ck_assert_uint_eq(st.st_gid, 9);
	ck_assert_int_eq(st.st_size, 3);
	scratch_free(s);
	ck_assert_ptr_null(scratch_free(NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/scratch");
	TCase *t = tcase_create("scratch");
	tcase_add_test(t, what_is_written_is_read_at_every_offset);
	tcase_add_test(t, a_gap_is_filled_with_zeros);
	tcase_add_test(t, a_file_is_bounded);
	tcase_add_test(t, all_files_together_are_bounded_and_give_their_room_back);
	tcase_add_test(t, owner_mode_and_size_are_what_stat_says);
	suite_add_tcase(s, t);
	return run_suite(s);
}
