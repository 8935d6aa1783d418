/* SPDX-License-Identifier: Apache-2.0 */
/* llmfs --check: every fault of a TREE, each once, with its line. */
#include "fs/check.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p models/a models/b budgets/alice router cache guards/input "
		     "guards/output; echo 0.4 > models/a/price_input; ln -s a models/default");
}

static void teardown(void)
{
	temporary_remove();
}

/* What is said of the tree; free() it. */
static char *said(int *n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	ck_assert_ptr_nonnull(out);
	*n = check_tree(temporary, out);
	fclose(out);
	return text;
}

static void expect(const char *want)
{
	int n, lines = 0;
	char *text = said(&n);
	for (const char *p = want; *p; p++)
		lines += *p == '\n';
	ck_assert_str_eq(text, want);
	ck_assert_int_eq(n, lines);
	free(text);
}

START_TEST(a_good_tree_has_no_fault)
{
	temporary_sh("echo 'block x /x/' > guards/input/a.rules; echo 5 > budgets/alice/limit;"
		     "echo 'model b' > guards/moderation; echo hello > models/a/README;"
		     "echo x > models/a/model.gguf; echo model.gguf > models/a/path;"
		     "echo b > models/a/fallback; echo 60 > cache/ttl; echo x > cache/stats");
	expect("");
}
END_TEST

START_TEST(a_value_that_a_mount_would_refuse_is_a_fault)
{
	temporary_sh("echo grpc > models/b/protocol; echo much > budgets/alice/limit;"
		     "echo luck > router/policy; echo soon > cache/ttl;"
		     "echo sk-secret > models/a/key; ln -s x models/a/quality");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 6);
	ck_assert_ptr_nonnull(strstr(text, "models/b/protocol:1: must be openai or anthropic\n"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/limit:1: must be dollars"));
	ck_assert_ptr_nonnull(strstr(text, "router/policy:1: "));
	ck_assert_ptr_nonnull(strstr(text, "cache/ttl:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/a/key:1: a secret does not belong in TREE"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/quality:1: not a regular file\n"));
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
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(
		strstr(text, "router/weights:2: load: must be a number from 0 to 1000000\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:3: "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:3: must be user names"));
	free(text);
}
END_TEST

START_TEST(of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix)
{
	/* 64 KiB: one look at each line's prefix would take a quarter of a minute. */
	temporary_sh("{ yes a | head -n 21000; echo no/name; yes b | head -n 11000; } "
		     "> budgets/alice/members");
	int n;
	clock_t began = clock();
	char *text = said(&n);
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
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(strstr(text, "guards/input/a.rules:2:"));
	ck_assert_ptr_nonnull(
		strstr(text, "guards/input/c.rules:1:1: the rule two is in input/b.rules too\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation:2:"));
	free(text);
}
END_TEST

START_TEST(what_is_named_must_be_there)
{
	temporary_sh("ln -sfn gone models/default; echo nowhere.gguf > models/a/path;"
		     "echo 'b nobody' > models/a/fallback; echo mini > cache/embedding_model;"
		     "echo 'model judge' > guards/moderation");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 5);
	ck_assert_ptr_nonnull(strstr(text, "models/default:1: there is no model gone\n"));
	ck_assert_ptr_nonnull(strstr(text, "nowhere.gguf: No such file or directory\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/fallback:1: there is no model nobody\n"));
	ck_assert_ptr_nonnull(strstr(text, "cache/embedding_model:1: there is no model mini\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation:1: there is no model judge\n"));
	free(text);
}
END_TEST

START_TEST(models_need_a_default)
{
	temporary_sh("rm models/default");
	expect("models/default:1: is not there: ln -s NAME models/default, or name one in each "
	       "session\n");
	temporary_sh("rm -r models");
	expect("");
}
END_TEST

START_TEST(a_setting_with_a_slip_in_its_name_is_a_fault)
{
	temporary_sh("echo 1 > models/a/price-input; echo 1 > budgets/alice/limits;"
		     "echo 1 > router/notes.txt; echo 1 > router/.policy.swp");
	expect("models/a/price-input:1: no setting has that name\n"
	       "budgets/alice/limits:1: no setting has that name\n");
}
END_TEST

START_TEST(a_directory_with_nothing_of_a_tree_is_a_fault)
{
	temporary_sh("rm -r models budgets router cache guards; echo x > notes; mkdir src");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, ":1: not a TREE: it has none of models"));
	free(text);
}
END_TEST

START_TEST(names_that_a_mount_would_ignore_are_faults)
{
	temporary_sh("mkdir model guards/extra 'models/a b' .git Docs; echo x > README");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(strstr(text, "model:1: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/extra:1: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a b:1: not a name of a model: "));
	free(text);
}
END_TEST

START_TEST(an_empty_file_of_rules_is_a_fault)
{
	temporary_sh("> guards/input/a.rules; echo '# none' > guards/input/b.rules");
	expect("guards/input/a.rules:1: the file is empty: delete it, or write a comment into "
	       "it\n");
}
END_TEST

START_TEST(a_back_end_that_this_build_has_not_is_a_fault)
{
	temporary_sh("echo cuda > models/a/backend; echo cpu > models/b/backend");
	expect(LLMFS_HAS_CUDA ? ""
			      : "models/a/backend:1: this build has no back end cuda: it has "
				"cpu\n");
}
END_TEST

START_TEST(a_model_of_the_routers_gives_no_embeddings)
{
	temporary_sh("echo auto > cache/embedding_model; echo auto > models/b/fallback");
	expect("cache/embedding_model:1: the model auto is the router's and gives no "
	       "embeddings\n");
	temporary_sh("echo a > cache/embedding_model");
	expect("");
}
END_TEST

START_TEST(a_tree_that_is_not_there_is_an_error)
{
	FILE *out = fopen("/dev/null", "w");
	ck_assert_int_lt(check_tree("/nowhere/at/all", out), 0);
	fclose(out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/check");
	TCase *t = tcase_create("check");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_good_tree_has_no_fault);
	tcase_add_test(t, a_value_that_a_mount_would_refuse_is_a_fault);
	tcase_add_test(t, of_several_lines_the_one_with_the_fault_is_named);
	tcase_add_test(
		t, of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix);
	tcase_add_test(t, rules_are_compiled_and_names_are_unique_in_a_stage);
	tcase_add_test(t, what_is_named_must_be_there);
	tcase_add_test(t, models_need_a_default);
	tcase_add_test(t, a_setting_with_a_slip_in_its_name_is_a_fault);
	tcase_add_test(t, a_directory_with_nothing_of_a_tree_is_a_fault);
	tcase_add_test(t, names_that_a_mount_would_ignore_are_faults);
	tcase_add_test(t, an_empty_file_of_rules_is_a_fault);
	tcase_add_test(t, a_back_end_that_this_build_has_not_is_a_fault);
	tcase_add_test(t, a_model_of_the_routers_gives_no_embeddings);
	tcase_add_test(t, a_tree_that_is_not_there_is_an_error);
	suite_add_tcase(s, t);
	return run_suite(s);
}
