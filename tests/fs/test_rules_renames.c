/* SPDX-License-Identifier: Apache-2.0 */
/* Files of rules that are renamed, and passes over a TREE that others have changed. */
#include "fs/rules.h"

#include <errno.h>

#include "base/clock.h"
#include "fs/guards.h"
#include "fs/names.h"
#include "fs/rename.h"
#include "fs/scratch.h"
#include "fs/tree.h"
#include "fs/tree_file.h"
#include "gateway/gateway_guards.h"
#include "tests/fs/program_fixture.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

/* ---- renames ---- */

START_TEST(a_scratch_file_renamed_over_rules_is_in_force)
{
	program_scratch("sedXYZ", program_two);
	ck_assert_int_eq(program_moves("sedXYZ", "a.rules", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(program_moves("sedXYZ", "a.rules", 0), 0);
	ck_assert(!program_exists("sedXYZ"));
	program_saved_is("input/a.rules", program_two);
	ck_assert(program_set_is("input/a.rules", program_two));
	program_scratch("new", program_one);
	ck_assert_int_eq(program_moves("new", "b.rules", RENAME_NOREPLACE), 0);
	ck_assert(program_set_is("input/b.rules", program_one));
}
END_TEST

START_TEST(a_rename_of_a_faulty_text_succeeds)
{
	program_scratch("new", program_bad);
	ck_assert_int_eq(program_moves("new", "a.rules", 0), 0);
	program_saved_is("input/a.rules", program_bad);
	program_shows("a.rules", program_bad);
}
END_TEST

START_TEST(rules_renamed_away_and_back_are_never_out_of_tree)
{
	ck_assert_int_eq(program_moves("a.rules", "a.rules~", 0), 0);
	ck_assert(!program_exists("a.rules"));
	program_saved_is("input/a.rules~", program_one);
	struct node backup = program_child(&program_input, "a.rules~");
	char text[64] = "";
	ck_assert_uint_eq(
		scratch_read(backup.object->scratch, 0, text, sizeof text), sizeof program_one - 1);
	ck_assert_str_eq(text, program_one);
	node_put(program_fs.nodes, &backup);
	ck_assert_int_eq(program_moves("a.rules~", "a.rules", 0), 0);
	program_saved_is("input/a.rules", program_one);
	ck_assert(program_set_is("input/a.rules", program_one));
	temporary_sh("test \"$(ls -A tree/guards/input)\" = a.rules");
}
END_TEST

START_TEST(rules_whose_name_is_back_stay_in_force_until_their_text_comes)
{
	ck_assert_int_eq(program_moves("a.rules", "a.rules~", 0), 0);
	ck_assert(!program_set_is("input/a.rules", program_one)); /* it is going away */
	ck_assert_int_eq(guards_create(&program_fs, "input/a.rules", NULL), 0);
	ck_assert_int_eq(guards_create(&program_fs, "input/a.rules", NULL), -EEXIST);
	ck_assert(program_set_is("input/a.rules", program_one));
	struct handle *h = program_opens("a.rules", O_WRONLY | O_TRUNC);
	program_shows("a.rules", "");
	ck_assert_int_eq(program_writes(h, 0, program_two), 0);
	program_closes(h);
	ck_assert(program_set_is("input/a.rules", program_two));
}
END_TEST

START_TEST(a_backup_that_was_changed_comes_back_as_it_is_then)
{
	ck_assert_int_eq(program_moves("a.rules", "a.off", 0), 0);
	struct node off = program_child(&program_input, "a.off");
	ck_assert_int_ge(
		scratch_write(off.object->scratch, 0, program_two, strlen(program_two)), 0);
	node_put(program_fs.nodes, &off);
	ck_assert_int_eq(program_moves("a.off", "a.rules", 0), 0);
	program_saved_is("input/a.rules", program_two);
	ck_assert(program_set_is("input/a.rules", program_two));
	temporary_sh("test \"$(ls -A tree/guards/input)\" = a.rules");
}
END_TEST

START_TEST(what_tree_keeps_of_a_backup_goes_with_the_backup)
{
	ck_assert_int_eq(program_moves("a.rules", "a.rules~", 0), 0);
	ck_assert_int_eq(program_saved_as("input/a.rules", program_two), 0);
	ck_assert_int_eq(program_moves("a.rules", "a.rules~", 0), 0); /* over the older backup */
	struct node backup = program_child(&program_input, "a.rules~");
	ck_assert_int_eq(rename_drop_scratch(&program_fs, &program_input, "a.rules~", &backup), 0);
	node_put(program_fs.nodes, &backup);
	temporary_sh("test -z \"$(ls -A tree/guards/input)\"");
}
END_TEST

START_TEST(rules_renamed_to_other_rules_are_in_force_under_that_name)
{
	ck_assert_int_eq(program_saved_as("input/b.rules", program_two), 0);
	ck_assert_int_eq(program_moves("a.rules", "b.rules", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(program_moves("a.rules", "c.rules", RENAME_NOREPLACE), 0);
	ck_assert(program_set_is("input/c.rules", program_one));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_null(strstr(status.data, "is in")); /* its rules are not there twice */
	buf_free(&status);
	ck_assert_int_eq(program_moves("c.rules", "b.rules", 0), 0);
	ck_assert(program_set_is("input/b.rules", program_one));
	char **names = gateway_guard_names(program_fs.gateway);
	ck_assert_uint_eq(names_count(names), 1);
	names_free(names);
	temporary_sh("test \"$(ls -A tree/guards/input)\" = b.rules");
}
END_TEST

START_TEST(einval_never_comes_from_a_rename)
{
	program_scratch("new", program_bad);
	ck_assert_int_eq(program_moves("new", "no name.rules", 0), -EPERM);
	ck_assert_int_eq(program_moves("a.rules", "no name.rules", 0), -EPERM);
	program_saved_is("input/a.rules", program_one);
}
END_TEST

START_TEST(scratch_files_of_one_directory_are_not_in_another)
{
	struct node none;
	program_scratch("4913", "");
	ck_assert(program_exists("4913"));
	ck_assert_int_eq(node_child(program_fs.nodes, &program_guards, "4913", &none), -ENOENT);
	char **names = node_scratch_names(program_fs.nodes, &program_guards);
	ck_assert_uint_eq(names_count(names), 0);
	names_free(names);
}
END_TEST

START_TEST(names_say_which_file_it_is)
{
	char file[TREE_GUARDS_NAME];
	ck_assert_int_eq(guards_file(TABLE_GUARDS_INPUT, "a.rules", file), 0);
	ck_assert_str_eq(file, "input/a.rules");
	ck_assert_int_eq(guards_file(TABLE_GUARDS, "moderation", file), 0);
	ck_assert_str_eq(file, "moderation");
	static const char *const others[] = {"a.rules~", ".a.rules.swp", "4913", "sedAbCd",
		"#a.rules#", ".#a.rules", "moderation", ".rules"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_msg(guards_file(TABLE_GUARDS_OUTPUT, others[i], file) == -ENOENT, "%s",
			others[i]);
	ck_assert_int_eq(guards_file(TABLE_GUARDS_INPUT, "a b.rules", file), -EINVAL);
	ck_assert_int_eq(guards_file(TABLE_SESSION, "a.rules", file), -ENOENT);
}
END_TEST

/* ---- passes ---- */

static void older(const char *files)
{
	char script[200];
	snprintf(script, sizeof script, "cd tree/guards && touch -d '1 minute ago' %s", files);
	temporary_sh(script);
}

START_TEST(a_pass_sets_what_tree_has_and_removes_what_it_has_no_longer)
{
	temporary_sh(
		"cd tree/guards && echo 'block two /two2/' > input/b.rules && rm input/a.rules");
	char *deleted[] = {(char[]){"input/a.rules"}, NULL};
	ck_assert(!guards_pass(&program_fs, deleted));
	ck_assert(program_set_is("input/b.rules", program_two));
	char **names = gateway_guard_names(program_fs.gateway);
	ck_assert_uint_eq(names_count(names), 1);
	names_free(names);
}
END_TEST

START_TEST(a_file_renamed_away_in_tree_is_looked_for_again)
{
	temporary_sh("mv tree/guards/input/a.rules tree/guards/input/a.off");
	ck_assert(guards_pass(&program_fs, NULL));
	temporary_sh("mv tree/guards/input/a.off tree/guards/input/a.rules");
	ck_assert(!guards_pass(&program_fs, NULL));
	ck_assert(program_set_is("input/a.rules", program_one));
}
END_TEST

START_TEST(a_file_that_is_found_empty_in_tree_keeps_its_last_rules)
{
	bool young;
	int left = 10; /* tries: it is so for a moment only */
	do {
		ck_assert_int_eq(program_saved_as("input/a.rules", program_one), 0);
		uint64_t from = clock_mono_ns();
		temporary_empty("tree/guards/input/a.rules");
		young = guards_pass(&program_fs, NULL); /* it may still be written */
		ck_assert(young || clock_mono_ns() - from >= TREE_FILE_YOUNG_MS * 1000000ull);
	} while (!young && --left);
	ck_assert(young);
	ck_assert(program_set_is("input/a.rules", program_one));
	older("input/a.rules");
	guards_pass(&program_fs, NULL);
	ck_assert(program_status_has("input/a.rules 1 rule of an earlier text\n"));
	temporary_sh("echo '# none' > tree/guards/input/a.rules");
	ck_assert(!guards_pass(&program_fs, NULL));
	ck_assert(program_status_has("input/a.rules 0 rules\n"));
}
END_TEST

/* What the daemon's status says of it, if anything. */
static bool is_degraded(const char *sentence)
{
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_STATUS, &status), 0);
	bool is = strstr(status.data, sentence);
	buf_free(&status);
	return is;
}

START_TEST(a_judge_that_is_found_empty_in_tree_goes_on)
{
	ck_assert_int_eq(program_saved_as("moderation", "model judge\n"), 0);
	temporary_empty("tree/guards/moderation");
	older("moderation");
	guards_pass(&program_fs, NULL);
	ck_assert(gateway_guard_has_rules(program_fs.gateway, "moderation"));
	ck_assert(is_degraded("guards/moderation in TREE: the file is empty: its last rules stay"));
	temporary_sh("echo '# none' > tree/guards/moderation");
	guards_pass(&program_fs, NULL);
	ck_assert(!gateway_guard_has_rules(program_fs.gateway, "moderation"));
	ck_assert(!is_degraded("guards/moderation"));
}
END_TEST

START_TEST(a_file_that_never_had_rules_is_a_fault_when_empty_and_closes_nothing)
{
	temporary_sh("touch tree/guards/input/b.rules");
	older("input/b.rules");
	guards_pass(&program_fs, NULL);
	guards_pass(&program_fs, NULL);
	ck_assert(is_degraded("guards/input/b.rules in TREE: the file is empty: delete it, or "
			      "write a comment into it\n"));
	ck_assert(program_status_has("input/b.rules 0 rules\n"));
	ck_assert(program_set_is("input/a.rules", program_one));
	temporary_sh("echo '# none' > tree/guards/input/b.rules");
	guards_pass(&program_fs, NULL);
	ck_assert(!is_degraded("b.rules"));
}
END_TEST

START_TEST(a_file_of_rules_with_an_impossible_name_is_reported_as_long_as_it_is_there)
{
	temporary_sh("cd tree/guards/input; echo 'block x /x/' > 'my own.rules';"
		     "cp 'my own.rules' .b.rules; cp 'my own.rules' '#b.rules';"
		     "mv 'my own.rules' \"$(printf 'my\\nown.rules')\"");
	guards_pass(&program_fs, NULL);
	ck_assert(is_degraded("degraded: guards/input/my?own.rules in TREE: not a name of a file "
			      "of rules, and not in force"));
	ck_assert(!is_degraded("b.rules"));
	temporary_sh("rm tree/guards/input/my*");
	guards_pass(&program_fs, NULL);
	ck_assert(!is_degraded("own.rules"));
}
END_TEST

START_TEST(a_fault_that_was_another_files_ends_with_that_file)
{
	ck_assert_int_eq(program_saved_as("input/b.rules", program_one), 1);
	ck_assert_int_eq(guards_delete(&program_fs, "input/a.rules"), 0);
	ck_assert(!guards_pass(&program_fs, NULL));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_str_eq(status.data, "input/b.rules 1 rule\n");
	buf_free(&status);
}
END_TEST

START_TEST(a_file_that_is_too_long_has_a_fault)
{
	struct buf status = {0};
	temporary_sh("yes '# rules' | head -c 300000 > tree/guards/input/b.rules");
	for (int i = 0; i < 2; i++)
		ck_assert(!guards_pass(&program_fs, NULL));
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "input/b.rules:1:1: "));
	ck_assert_ptr_nonnull(strstr(status.data, "closed"));
	buf_free(&status);
}
END_TEST

START_TEST(what_is_no_regular_file_is_reported_and_changes_nothing)
{
	temporary_sh("cd tree/guards/input && echo 'block two /two2/' > ../t && rm a.rules && "
		     "ln -s ../t a.rules");
	guards_pass(&program_fs, NULL);
	ck_assert(program_status_has(
		"input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: not a "
		"regular file\n"));
	struct buf status = {0};
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "guards/input/a.rules in TREE: not a regular"));
	buf_clear(&status);
	temporary_sh("cd tree/guards/input && rm a.rules && cp ../t a.rules");
	guards_pass(&program_fs, NULL);
	ck_assert(program_set_is("input/a.rules", program_two));
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_str_eq(status.data, "ok\n");
	buf_free(&status);
}
END_TEST

START_TEST(root_takes_no_rules_that_others_can_write)
{
	if (run_suite_skips(geteuid() != 0, "only root trusts nobody else"))
		return;
	temporary_sh(
		"cd tree/guards/input && echo 'block two /two2/' > a.rules && chmod 666 a.rules");
	guards_pass(&program_fs, NULL);
	ck_assert(
		program_status_has("input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: "));
	temporary_sh("chmod 644 tree/guards/input/a.rules; chmod 777 tree/guards/input");
	guards_pass(&program_fs, NULL);
	ck_assert(
		program_status_has("input/a.rules 1 rule of an earlier text\ninput/a.rules:1:1: "));
	temporary_sh("chmod 755 tree/guards/input");
	guards_pass(&program_fs, NULL);
	ck_assert(program_set_is("input/a.rules", program_two));
}
END_TEST

START_TEST(what_is_no_regular_file_and_never_was_closes_its_stage)
{
	struct buf status = {0};
	temporary_sh("ln -s a.rules tree/guards/input/new.rules");
	guards_pass(&program_fs, NULL);
	ck_assert_int_eq(gateway_render(program_fs.gateway, GATEWAY_GUARD_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "input/new.rules closed"));
	buf_free(&status);
	temporary_sh("rm tree/guards/input/new.rules");
	guards_pass(&program_fs, (char *[]){(char[]){"input/new.rules"}, NULL});
	ck_assert(program_status_has("input/a.rules 1 rule\n"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/rules_renames");
	TCase *t = tcase_create("rules_renames");
	tcase_add_checked_fixture(t, program_begin, program_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_scratch_file_renamed_over_rules_is_in_force);
	tcase_add_test(t, a_rename_of_a_faulty_text_succeeds);
	tcase_add_test(t, rules_renamed_away_and_back_are_never_out_of_tree);
	tcase_add_test(t, rules_whose_name_is_back_stay_in_force_until_their_text_comes);
	tcase_add_test(t, a_backup_that_was_changed_comes_back_as_it_is_then);
	tcase_add_test(t, what_tree_keeps_of_a_backup_goes_with_the_backup);
	tcase_add_test(t, rules_renamed_to_other_rules_are_in_force_under_that_name);
	tcase_add_test(t, einval_never_comes_from_a_rename);
	tcase_add_test(t, scratch_files_of_one_directory_are_not_in_another);
	tcase_add_test(t, names_say_which_file_it_is);
	tcase_add_test(t, a_pass_sets_what_tree_has_and_removes_what_it_has_no_longer);
	tcase_add_test(t, a_file_renamed_away_in_tree_is_looked_for_again);
	tcase_add_test(t, a_file_that_is_found_empty_in_tree_keeps_its_last_rules);
	tcase_add_test(t, a_judge_that_is_found_empty_in_tree_goes_on);
	tcase_add_test(t, a_file_that_never_had_rules_is_a_fault_when_empty_and_closes_nothing);
	tcase_add_test(
		t, a_file_of_rules_with_an_impossible_name_is_reported_as_long_as_it_is_there);
	tcase_add_test(t, a_fault_that_was_another_files_ends_with_that_file);
	tcase_add_test(t, a_file_that_is_too_long_has_a_fault);
	tcase_add_test(t, what_is_no_regular_file_is_reported_and_changes_nothing);
	tcase_add_test(t, root_takes_no_rules_that_others_can_write);
	tcase_add_test(t, what_is_no_regular_file_and_never_was_closes_its_stage);
	suite_add_tcase(s, t);
	return run_suite(s);
}
