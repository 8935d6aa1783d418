/* SPDX-License-Identifier: Apache-2.0 */
/* llmfs --check: every fault of a TREE, each once, with its line. What models can do is
 * test_check_models.c's. */
#include "fs/check.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/fs/check_fixture.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

START_TEST(a_good_tree_has_no_fault)
{
	check_make_model("models/a/model.gguf", false);
	temporary_sh("echo 'block x /x/' > guards/input/a.rules; echo 5 > budgets/alice/limit;"
		     "echo 'model b' > guards/moderation; echo hello > models/a/README;"
		     "echo model.gguf > models/a/path; echo b > models/a/fallback;"
		     " echo 60 > cache/ttl; echo x > cache/stats");
	check_expect("");
}
END_TEST

START_TEST(a_value_that_a_mount_would_refuse_is_a_fault)
{
	temporary_sh("echo grpc > models/b/protocol; echo much > budgets/alice/limit;"
		     "echo luck > router/policy; echo soon > cache/ttl;"
		     "echo sk-secret > models/a/key; ln -s x models/a/quality");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 6);
	ck_assert_ptr_nonnull(strstr(text, "models/b/protocol: must be openai or anthropic\n"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/limit: must be dollars"));
	ck_assert_ptr_nonnull(strstr(text, "router/policy: "));
	ck_assert_ptr_nonnull(strstr(text, "cache/ttl: "));
	ck_assert_ptr_nonnull(strstr(text, "models/a/key: a secret does not belong in TREE"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/quality: not a regular file\n"));
	ck_assert_ptr_null(strstr(text, "sk-secret"));
	free(text);
}
END_TEST

START_TEST(of_several_lines_the_one_with_the_fault_is_named)
{
	temporary_sh("printf 'http://x/v1\\nhttp://y/v1\\nftp://z\\nhttp://w/v1\\n' > "
		     "models/b/endpoint; printf 'bob\\ncarol\\nno/name\\n' > budgets/alice/members;"
		     "printf '# mine\\nload -1\\n' > router/weights");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(
		strstr(text, "router/weights:2: load: must be a number from 0 to 1000000\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:3: "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:3: must be user names"));
	free(text);
}
END_TEST

START_TEST(each_line_with_a_fault_is_told)
{
	temporary_sh("printf 'ftp://z\\nhttp://y/v1\\nhttp://w/v1 weight=0\\n' > "
		     "models/b/endpoint; printf 'bob\\nno/name\\ncarol\\nnor this\\n' > "
		     "budgets/alice/members; printf 'luck 1\\nload -1\\ncold 1\\ncold 2\\n' > "
		     "router/weights; printf 'a\\nauto\\nnobody\\na/b\\n' > models/b/fallback");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 10, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:3: "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:2: must be user names"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:4: must be user names"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:1: there is no luck"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:2: load: must be a number"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:4: cold stands in line 3 already"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:2: auto is the router's"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:4: must be names below models/"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:3: there is no model nobody"));
	free(text);
}
END_TEST

START_TEST(a_file_of_one_value_has_one_fault)
{
	temporary_sh("printf 'x\\n5\\n' > models/b/weight; printf '1\\n2\\n' > models/b/quality;"
		     "printf 'ftp://x\\n\\n' > models/b/endpoint");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 3, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/b/weight:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/quality:2: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:1: "));
	free(text);
}
END_TEST

START_TEST(each_rule_with_a_fault_is_told)
{
	temporary_sh(
		"printf 'block one /a/\\nblock two /b/\\n' > guards/input/a.rules;"
		"printf 'blok x /x/\\nwarn two /b/\\n\\nblock y /(/\\nwarn one /c/\\nwarn one "
		"/d/\\n' > guards/input/b.rules; printf 'treshold 1\\nmodel nobody\\naction no\\n' "
		"> guards/moderation");
	check_expect(
		"guards/input/b.rules:1:1: \"blok\" is no action: block, redact or warn\n"
		"guards/input/b.rules:4:11: missing closing parenthesis\n"
		"guards/input/b.rules:6:6: the name one is taken by line 5\n"
		"guards/input/b.rules:2:1: the rule two is in input/a.rules too\n"
		"guards/input/b.rules:5:1: the rule one is in input/a.rules too\n"
		"guards/moderation:1:1: there is no setting treshold; there are model, threshold, "
		"stages, action, replacement, on_error, timeout_ms, window_chars and category\n"
		"guards/moderation:3:8: action: must be block, replace or warn\n"
		"guards/moderation: there is no model nobody\n");
}
END_TEST

START_TEST(a_fault_of_a_whole_file_is_told_once)
{
	temporary_sh("seq 2005 | sed 's/.*/block r& json/' > guards/output/many.rules;"
		     "yes 'blok x /x/' | head -n 150 > guards/output/bent.rules");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 102, "%d: %s", n, text);
	ck_assert_ptr_nonnull(strstr(text, "many.rules:2001:1: a file has at most 2000 rules\n"));
	ck_assert_ptr_nonnull(strstr(text, "bent.rules:100:1: there may be more behind it"));
	free(text);
}
END_TEST

START_TEST(no_more_than_a_hundred_faults_of_a_setting_are_told)
{
	temporary_sh("yes 'no/name' | head -n 100 > budgets/alice/members");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 101, "%d: %s", n, text);
	ck_assert_ptr_nonnull(strstr(text, "members:100: there may be more behind it"));
	free(text);
	temporary_sh("yes 'no/name' | head -n 99 > budgets/alice/members");
	text = check_said(&n);
	ck_assert_msg(n == 99, "%d: %s", n, text);
	free(text);
}
END_TEST

/* One more than a mount takes: guards_files.c. */
START_TEST(there_is_room_for_as_many_files_of_rules_as_in_a_mount)
{
	temporary_sh("mkdir -p guards/input guards/output; for i in $(seq 100 354); do echo "
		     "\"warn r$i /a/\" > guards/input/f$i.rules; done; echo 'model b' > "
		     "guards/moderation");
	check_expect("");
	temporary_sh("echo 'blok x /x/' | tee guards/input/f100.rules > guards/output/z.rules");
	check_expect("guards/input/f100.rules:1:1: \"blok\" is no action: block, redact or warn\n"
		     "guards/output/z.rules:1:1: guards/ has room for 256 files\n");
}
END_TEST

START_TEST(rules_with_a_fault_count_among_those_that_a_file_may_have)
{
	temporary_sh("{ seq 1999 | sed 's/.*/block r& json/'; echo 'blok x json'; } > "
		     "guards/output/many.rules");
	check_expect(
		"guards/output/many.rules:2000:1: \"blok\" is no action: block, redact or warn\n");
	temporary_sh("{ echo 'blok x json'; seq 2000 | sed 's/.*/block r& json/'; } > "
		     "guards/output/many.rules");
	check_expect("guards/output/many.rules:1:1: \"blok\" is no action: block, redact or warn\n"
		     "guards/output/many.rules:2001:1: a file has at most 2000 rules\n");
}
END_TEST

START_TEST(of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix)
{
	/* 64 KiB: one look at each line's prefix would take a quarter of a minute. */
	temporary_sh("{ yes a | head -n 21000; echo no/name; yes b | head -n 11000; } "
		     "> budgets/alice/members");
	int n;
	clock_t began = clock();
	char *text = check_said(&n);
	clock_t took = clock() - began;
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:21001: must be user names"));
	ck_assert_int_lt(took, 3 * CLOCKS_PER_SEC);
	free(text);
}
END_TEST

START_TEST(rules_are_compiled_and_names_are_unique_in_a_stage)
{
	temporary_sh("printf '# x\\nblock one /a(/\\n' > guards/input/a.rules;"
		     "printf 'block two /a/\\n' > guards/input/b.rules;"
		     "printf 'warn two /b/\\n' > guards/input/c.rules;"
		     "printf 'warn two /b/\\n' > guards/output/c.rules;"
		     "printf 'model judge\\nthreshold 2\\n' > guards/moderation");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 4); /* and there is no such judge */
	ck_assert_ptr_nonnull(strstr(text, "guards/input/a.rules:2:"));
	ck_assert_ptr_nonnull(
		strstr(text, "guards/input/c.rules:1:1: the rule two is in input/b.rules too\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation:2:"));
	free(text);
}
END_TEST

START_TEST(a_setting_with_a_slip_in_its_name_is_a_fault)
{
	temporary_sh("echo 1 > models/a/price-input; echo 1 > budgets/alice/limits;"
		     "echo 1 > router/notes.txt; echo 1 > router/.policy.swp");
	check_expect("models/a/price-input: no setting has that name: did you mean price_input?\n"
		     "budgets/alice/limits: no setting has that name: did you mean limit?\n");
}
END_TEST

START_TEST(a_directory_with_nothing_of_a_tree_is_a_fault)
{
	temporary_sh("rm -r models budgets router cache guards; echo x > notes; mkdir src");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, ": not a TREE: it has none of models"));
	free(text);
}
END_TEST

START_TEST(names_that_a_mount_would_ignore_are_faults)
{
	temporary_sh("mkdir model docs keys evals metrics guards/extra 'models/a b' .git Docs;"
		     "echo x > README");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 4);
	ck_assert_ptr_nonnull(strstr(text, "docs: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(
		strstr(text, "model: no directory of TREE has that name: did you mean models?\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/extra: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a b: not a name of a model: "));
	free(text);
}
END_TEST

START_TEST(an_empty_file_of_rules_is_a_fault)
{
	temporary_sh("> guards/input/a.rules; echo '# none' > guards/input/b.rules");
	check_expect("guards/input/a.rules: the file is empty: delete it, or write a comment into "
		     "it\n");
}
END_TEST

/* The output has it somewhere. */
static void expect_line(const char *line)
{
	int n;
	char *text = check_said(&n);
	ck_assert_msg(strstr(text, line) != NULL, "%s is not in:\n%s", line, text);
	free(text);
}

START_TEST(what_lies_astray_is_told_and_what_is_peoples_is_not)
{
	check_expect("");
	temporary_sh("mkdir -p guards/input guards/output budgets router cache;"
		     "cd guards/output; touch x.rules~ x.rules.bak '#x#' .y NOTES x.md");
	check_expect("");
	temporary_sh(
		"cp guards/output/x.md guards/output/old.rule; mkdir guards/input/more;"
		"touch guards/input/mine guards/input/a.RULES guards/input/b.rules.txt;"
		"touch budgets/carol; mkdir budgets/bob budgets/bob/limits router/weight cache/d");
	expect_line("guards/output/old.rule: not in force: files of rules are called NAME.rules\n");
	expect_line("guards/input/mine: not in force: ");
	expect_line("guards/input/a.RULES: not in force: ");
	expect_line("guards/input/b.rules.txt: not in force: ");
	expect_line("guards/input/more: no directory of TREE has that name\n");
	expect_line("budgets/carol: not a directory, and thus no ");
	expect_line(
		"budgets/bob/limits: no directory of TREE has that name: did you mean limit?\n");
	expect_line("router/weight: no directory of TREE has that name: did you mean weights?\n");
	expect_line("cache/d: no directory of TREE has that name\n");
}
END_TEST

START_TEST(a_name_is_no_line_and_no_command_to_a_terminal)
{
	temporary_sh("rm -r models; echo 'block x /x/' > "
		     "\"$(printf 'guards/input/a\\nbudgets-x:1: \\033[31m\\302\\233.rules')\";"
		     "mkdir \"$(printf 'budgets/b\\303\\274\\377')\"");
	int n;
	char *text = check_said(&n);
	int lines = 0;
	for (char *p = text; *p; p++)
		lines += *p == '\n';
	ck_assert_int_eq(lines, n);
	ck_assert_ptr_nonnull(strstr(text, "guards/input/a?budgets-x:1: ?[31m??.rules: not a "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/b\303\274?: not a name of a "));
	ck_assert_ptr_null(strchr(text, '\033'));
	free(text);
}
END_TEST

START_TEST(symlinks_for_directories_are_faults)
{
	temporary_sh("mkdir Elsewhere; ln -s ../Elsewhere models/c; ln -s bob budgets/carol;"
		     "rm -r router; ln -s Elsewhere router");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(strstr(text, "models/c: a symlink, which is not followed"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/carol: a symlink, which is not followed"));
	ck_assert_ptr_nonnull(strstr(text, "router: is not a directory (symlinks are not"));
	free(text);
	temporary_sh("mv models Elsewhere; ln -s Elsewhere/models models");
	text = check_said(&n);
	ck_assert_ptr_nonnull(strstr(text, "models: is not a directory (symlinks are not"));
	free(text);
}
END_TEST

START_TEST(files_of_rules_with_impossible_names_are_faults)
{
	temporary_sh("cd guards/input; echo 'block x /x/' > 'my own.rules';"
		     "echo > '.a.rules.swp'; echo > '#a.rules'; echo > notes.txt;"
		     "echo 'block x /x/' > $(printf 'x%.0s' $(seq 60)).rules");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 2);
	ck_assert_ptr_nonnull(
		strstr(text, "guards/input/my own.rules: not a name of a file of rules"));
	ck_assert_ptr_nonnull(strstr(text, "xxx.rules: not a name of a file of rules"));
	free(text);
}
END_TEST

START_TEST(a_tree_that_is_not_there_is_an_error)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	ck_assert_int_lt(check_tree("/nowhere/at/all", out), 0);
	fclose(out);
	ck_assert_str_eq(text, "TREE /nowhere/at/all: No such file or directory\n");
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/check");
	TCase *t = tcase_create("check");
	tcase_add_checked_fixture(t, check_setup, check_teardown);
	tcase_add_test(t, a_good_tree_has_no_fault);
	tcase_add_test(t, a_value_that_a_mount_would_refuse_is_a_fault);
	tcase_add_test(t, of_several_lines_the_one_with_the_fault_is_named);
	tcase_add_test(t, each_line_with_a_fault_is_told);
	tcase_add_test(t, a_file_of_one_value_has_one_fault);
	tcase_add_test(t, each_rule_with_a_fault_is_told);
	tcase_add_test(t, a_fault_of_a_whole_file_is_told_once);
	tcase_add_test(t, no_more_than_a_hundred_faults_of_a_setting_are_told);
	tcase_add_test(t, there_is_room_for_as_many_files_of_rules_as_in_a_mount);
	tcase_add_test(t, rules_with_a_fault_count_among_those_that_a_file_may_have);
	tcase_add_test(
		t, of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix);
	tcase_add_test(t, rules_are_compiled_and_names_are_unique_in_a_stage);
	tcase_add_test(t, a_setting_with_a_slip_in_its_name_is_a_fault);
	tcase_add_test(t, a_directory_with_nothing_of_a_tree_is_a_fault);
	tcase_add_test(t, names_that_a_mount_would_ignore_are_faults);
	tcase_add_test(t, an_empty_file_of_rules_is_a_fault);
	tcase_add_test(t, what_lies_astray_is_told_and_what_is_peoples_is_not);
	tcase_add_test(t, a_name_is_no_line_and_no_command_to_a_terminal);
	tcase_add_test(t, symlinks_for_directories_are_faults);
	tcase_add_test(t, files_of_rules_with_impossible_names_are_faults);
	tcase_add_test(t, a_tree_that_is_not_there_is_an_error);
	suite_add_tcase(s, t);
	return run_suite(s);
}
