/* SPDX-License-Identifier: Apache-2.0 */
/* Files of rules that are written: handles over a TREE and a real gateway. */
#include "fs/rules.h"

#include <errno.h>

#include "fs/guards.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "gateway/gateway_guards.h"
#include "tests/fs/program_fixture.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

/* ---- writing ---- */

START_TEST(what_is_written_is_saved_at_the_flush_and_not_before)
{
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(program_writes(h, 0, "block two"), 0);
	ck_assert_int_eq(program_writes(h, 9, " /two2/\n"), 0);
	program_saved_is("input/a.rules", program_one);
	ck_assert(program_set_is("input/a.rules", program_one));
	ck_assert_int_eq(program_flushes(h), 0);
	program_saved_is("input/a.rules", program_two);
	ck_assert(program_set_is("input/a.rules", program_two));
	program_closes(h);
	program_saved_is("input/a.rules", program_two);
}
END_TEST

START_TEST(what_was_not_flushed_is_saved_at_the_last_close)
{
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	program_closes(h);
	program_saved_is("input/a.rules", program_two);
	ck_assert(program_set_is("input/a.rules", program_two));
}
END_TEST

START_TEST(truncating_shows_nothing_and_puts_nothing_out_of_force)
{
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(program_flushes(h), 0); /* of a redirection, of children */
	program_shows("a.rules", "");
	program_saved_is("input/a.rules", program_one);
	guards_pass(&program_fs, NULL);
	ck_assert(program_set_is("input/a.rules", program_one));
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_shows("a.rules", program_two);
	ck_assert(program_set_is("input/a.rules", program_two));
	program_closes(h);
}
END_TEST

START_TEST(a_file_that_was_emptied_is_empty_at_its_last_close)
{
	struct handle *h = program_opens("a.rules", O_WRONLY);
	ck_assert_int_eq(program_cuts(h, 0), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	ck_assert(program_set_is("input/a.rules", program_one));
	program_closes(h);
	program_saved_is("input/a.rules", "");
	ck_assert(program_set_is("input/a.rules", ""));
}
END_TEST

START_TEST(who_appends_after_a_truncation_does_not_bring_the_old_text_back)
{
	struct handle *empty = program_opens("a.rules", O_WRONLY | O_TRUNC);
	struct handle *h = program_opens("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_closes(h);
	program_saved_is("input/a.rules", program_two);
	program_closes(empty); /* its truncation came before */
	program_saved_is("input/a.rules", program_two);
}
END_TEST

START_TEST(a_faulty_text_is_saved_and_the_flush_says_so_until_it_is_mended)
{
	struct handle *h = program_opens("a.rules", O_RDWR | O_TRUNC);
	ck_assert_int_eq(program_writes(h, 0, program_bad), 0);
	ck_assert_int_eq(h->ops->fsync(h), -EINVAL);
	program_saved_is("input/a.rules", program_bad);
	ck_assert_int_eq(program_flushes(h), -EINVAL);
	ck_assert_int_eq(program_cuts(h, 0), 0);
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	ck_assert_int_eq(h->ops->fsync(h), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_closes(h);
	program_saved_is("input/a.rules", program_two);
}
END_TEST

START_TEST(offsets_and_sizes_are_those_of_a_file)
{
	struct handle *h = program_opens("a.rules", O_WRONLY);
	ck_assert_int_eq(program_writes(h, 6, "two"), 0);
	ck_assert_int_eq(program_writes(h, sizeof program_one - 1, "# more\n"), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_saved_is("input/a.rules", "block two /one1/\n# more\n");
	ck_assert_int_eq(program_cuts(h, 17), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_saved_is("input/a.rules", "block two /one1/\n");
	program_closes(h);
	h = program_opens("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(program_writes(h, 3, "# end\n"), 0); /* the kernel's size may be old */
	ck_assert_int_eq(program_writes(h, 3, "# it is\n"), 0);
	program_closes(h);
	program_saved_is("input/a.rules", "block two /one1/\n# end\n# it is\n");
}
END_TEST

START_TEST(two_that_append_at_once_lose_nothing)
{
	struct handle *a = program_opens("a.rules", O_WRONLY | O_APPEND);
	struct handle *b = program_opens("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(program_writes(a, 0, "# a\n"), 0);
	ck_assert_int_eq(program_writes(b, 0, "# b\n"), 0);
	ck_assert_int_eq(program_flushes(b), 0);
	ck_assert_int_eq(program_flushes(a), 0);
	ck_assert_int_eq(program_writes(b, 0, "# c\n"), 0);
	program_closes(a);
	program_closes(b);
	program_saved_is("input/a.rules", "block one /one1/\n# b\n# a\n# c\n");
}
END_TEST

START_TEST(who_truncated_long_ago_appends_to_what_others_have_written_since)
{
	struct handle *h = program_opens("a.rules", O_WRONLY | O_APPEND | O_TRUNC);
	struct handle *other = program_opens("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(program_writes(other, 0, program_two), 0);
	program_closes(other);
	ck_assert_int_eq(program_writes(h, 0, "# end\n"), 0);
	program_closes(h);
	program_saved_is("input/a.rules", "block two /two2/\n# end\n");
	h = program_opens("a.rules", O_WRONLY | O_APPEND);
	ck_assert_int_eq(program_cuts(h, 10), 0);
	ck_assert_int_eq(program_writes(h, 0, "/two2/\n"), 0);
	program_closes(h);
	program_saved_is("input/a.rules", "block two /two2/\n");
}
END_TEST

START_TEST(a_handle_reads_what_it_has_written)
{
	struct handle *h = program_opens("a.rules", O_RDWR);
	struct reply reply = {.data = NULL};
	ck_assert_int_eq(program_writes(h, 6, "two"), 0);
	ck_assert_int_eq(h->ops->read(h, 0, 100, &reply, NULL), 0);
	ck_assert_uint_eq(reply.len, sizeof program_one - 1);
	ck_assert_mem_eq(reply.data, "block two", 9);
	reply_end(&reply);
	program_closes(h);
}
END_TEST

START_TEST(a_text_of_more_than_256_kib_is_refused_at_the_write)
{
	struct handle *h = program_opens("a.rules", O_WRONLY);
	ck_assert_int_eq(program_writes(h, TREE_GUARDS_MAX - 1, "\n"), 0);
	ck_assert_int_eq(program_writes(h, TREE_GUARDS_MAX, "x"), -EFBIG);
	ck_assert_int_eq(program_cuts(h, TREE_GUARDS_MAX + 1), -EFBIG);
	ck_assert_int_eq(program_cuts(h, sizeof program_one - 1), 0);
	program_closes(h);
	program_saved_is("input/a.rules", program_one);
}
END_TEST

START_TEST(a_file_that_was_unlinked_does_not_come_back)
{
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	ck_assert_int_eq(guards_delete(&program_fs, "input/a.rules"), 0);
	ck_assert_int_eq(program_flushes(h), 0);
	program_closes(h);
	ck_assert(!program_exists("a.rules"));
	char **names = gateway_guard_names(program_fs.gateway);
	ck_assert_uint_eq(names_count(names), 0);
	names_free(names);
}
END_TEST

START_TEST(a_handle_of_a_file_that_was_unlinked_hides_nothing_of_the_next)
{
	struct handle *h = program_opens("a.rules", O_WRONLY);
	ck_assert_int_eq(guards_delete(&program_fs, "input/a.rules"), 0);
	ck_assert_int_eq(program_saved_as("input/a.rules", program_two), 0);
	ck_assert_int_eq(program_cuts(h, 0), 0);
	program_shows("a.rules", program_two);
	program_closes(h);
	program_shows("a.rules", program_two);
}
END_TEST

START_TEST(a_file_that_is_made_again_is_not_believed_before_it_is_written)
{
	temporary_sh("cd tree/guards/input && rm a.rules && touch -d '1 minute ago' a.rules");
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	ck_assert(!guards_pass(&program_fs, NULL));
	ck_assert(program_set_is("input/a.rules", program_one));
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	program_closes(h);
	ck_assert(program_set_is("input/a.rules", program_two));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/rules");
	TCase *t = tcase_create("rules");
	tcase_add_checked_fixture(t, program_begin, program_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_written_is_saved_at_the_flush_and_not_before);
	tcase_add_test(t, what_was_not_flushed_is_saved_at_the_last_close);
	tcase_add_test(t, truncating_shows_nothing_and_puts_nothing_out_of_force);
	tcase_add_test(t, a_file_that_was_emptied_is_empty_at_its_last_close);
	tcase_add_test(t, who_appends_after_a_truncation_does_not_bring_the_old_text_back);
	tcase_add_test(t, a_faulty_text_is_saved_and_the_flush_says_so_until_it_is_mended);
	tcase_add_test(t, offsets_and_sizes_are_those_of_a_file);
	tcase_add_test(t, two_that_append_at_once_lose_nothing);
	tcase_add_test(t, who_truncated_long_ago_appends_to_what_others_have_written_since);
	tcase_add_test(t, a_handle_reads_what_it_has_written);
	tcase_add_test(t, a_text_of_more_than_256_kib_is_refused_at_the_write);
	tcase_add_test(t, a_file_that_was_unlinked_does_not_come_back);
	tcase_add_test(t, a_handle_of_a_file_that_was_unlinked_hides_nothing_of_the_next);
	tcase_add_test(t, a_file_that_is_made_again_is_not_believed_before_it_is_written);
	suite_add_tcase(s, t);
	return run_suite(s);
}
