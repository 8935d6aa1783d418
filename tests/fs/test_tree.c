/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/tree.h"

#include "fs/collection.h"
#include "fs/names.h"
#include "fs/tree_file.h"

#include <sys/resource.h>
#include <errno.h>
#include <sys/stat.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static const struct collection *const models = &collection_models;
static struct tree *tree;

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p models/a models/b; echo m.gguf > models/a/path; "
		     "ln -s a models/default; echo hello > README");
	ck_assert_int_eq(tree_open(&tree, temporary, NULL), 0);
}

static void teardown(void)
{
	tree = tree_free(tree);
	temporary_remove();
}

static int get(const char *name, const char *file, struct buf *out)
{
	buf_free(out);
	return tree_setting_get(tree, models, name, file, out);
}

START_TEST(only_directories_with_good_names_are_models)
{
	temporary_sh("mkdir 'models/sp ace' models/.hidden; touch models/file; "
		     "ln -s a models/link; mkdir models/$(printf 'x%.0s' $(seq 65))");
	char **names = tree_names(tree, models);
	ck_assert_uint_eq(names_count(names), 3);
	ck_assert_str_eq(names[0], ".hidden");
	ck_assert_str_eq(names[1], "a");
	ck_assert_str_eq(names[2], "b");
	names_free(names);
}
END_TEST

START_TEST(models_that_cannot_be_read_now_have_not_gone)
{
	struct rlimit before, none;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	char **names = tree_names(tree, models);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_ptr_null(names);
	temporary_sh("rm -r models");
	names = tree_names(tree, models);
	ck_assert_uint_eq(names_count(names), 0);
	ck_assert_ptr_nonnull(names);
	names_free(names);
}
END_TEST

static int has_gone(const char *name)
{
	struct tree_place in = tree_place_open(tree, models);
	int r = tree_has_gone(&in, name);
	tree_place_close(&in);
	return r;
}

START_TEST(only_what_can_be_looked_up_has_gone)
{
	ck_assert_int_eq(has_gone("a"), 0);
	ck_assert_int_eq(has_gone("c"), 1);
	temporary_sh("rm -r models/b; ln -s a models/b; touch models/c");
	ck_assert_int_eq(has_gone("b"), 0);
	ck_assert_int_eq(has_gone("c"), 0);
	ck_assert_int_eq(tree_dir_check(tree, models), 0);
	if (geteuid() == 0) {
		temporary_sh("chown -R 65534:65534 .");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	temporary_sh("chmod a-x models");
	ck_assert_int_eq(has_gone("d"), -EACCES);
	ck_assert_int_eq(tree_dir_check(tree, models), -EACCES);
	ck_assert_ptr_null(tree_names(tree, models));
	ck_assert_ptr_null(tree_links(tree, models));
	temporary_sh("chmod 755 models");
	ck_assert_int_eq(seteuid(getuid()), 0);
	temporary_sh("mv models m; ln -s m models");
	ck_assert_int_lt(has_gone("d"), 0);
	temporary_sh("rm models");
	ck_assert_int_eq(has_gone("a"), -ENOENT);
}
END_TEST

START_TEST(a_setting_is_read_without_its_newline)
{
	struct buf text = {0};
	ck_assert_int_eq(get("a", "path", &text), 0);
	ck_assert_str_eq(text.data, "m.gguf");
	temporary_sh("printf 'm.gguf\\r\\n' > models/a/path");
	buf_clear(&text);
	ck_assert_int_eq(get("a", "path", &text), 0);
	ck_assert_str_eq(text.data, "m.gguf");
	ck_assert_uint_eq(text.len, 6);
	ck_assert_int_eq(get("b", "path", &text), -ENOENT);
	ck_assert_int_eq(get("nobody", "path", &text), -ENOENT);
	ck_assert_int_eq(get("..", "path", &text), -ENOENT);
	buf_free(&text);
}
END_TEST

START_TEST(what_is_not_a_regular_file_is_refused_without_waiting)
{
	struct buf text = {0};
	temporary_sh("mkfifo models/b/path; ln -s /etc/passwd models/b/template");
	ck_assert_int_eq(get("b", "path", &text), -EINVAL);
	ck_assert_int_eq(get("b", "template", &text), -EINVAL);
	ck_assert_uint_eq(text.len, 0);
	buf_free(&text);
}
END_TEST

START_TEST(a_huge_file_is_refused)
{
	struct buf text = {0};
	temporary_sh("head -c 100000 /dev/zero > models/b/path");
	ck_assert_int_eq(get("b", "path", &text), -EFBIG);
	ck_assert_uint_eq(text.len, 0);
	buf_free(&text);
}
END_TEST

START_TEST(a_setting_is_replaced_whole_and_removed_by_the_empty_text)
{
	struct buf text = {0};
	ck_assert_int_eq(tree_setting_set(tree, models, "a", "path", "other.gguf", 10), 0);
	ck_assert_int_eq(get("a", "path", &text), 0);
	ck_assert_str_eq(text.data, "other.gguf");
	temporary_sh("test \"$(ls -A models/a)\" = path");
	ck_assert_int_eq(tree_setting_set(tree, models, "a", "path", "", 0), 0);
	ck_assert_int_eq(tree_setting_set(tree, models, "a", "path", "", 0), 0);
	ck_assert_int_eq(get("a", "path", &text), -ENOENT);
	buf_free(&text);
}
END_TEST

START_TEST(paths_are_relative_to_the_models_directory)
{
	struct buf path = {0};
	char want[128];
	ck_assert_int_eq(tree_resolve(tree, models, "a", "path", "m.gguf", 6, &path), 0);
	snprintf(want, sizeof want, "%s/models/a/m.gguf", tree_path(tree));
	ck_assert_str_eq(path.data, want);
	buf_clear(&path);
	ck_assert_int_eq(tree_resolve(tree, models, "a", "path", "/x.gguf", 7, &path), 0);
	ck_assert_str_eq(path.data, "/x.gguf");
	buf_clear(&path);
	ck_assert_int_eq(tree_resolve(tree, models, "a", "path", "", 0, &path), 0);
	ck_assert_uint_eq(path.len, 0);
	buf_free(&path);
}
END_TEST

START_TEST(default_is_a_link_to_a_bare_name_or_nothing)
{
	struct buf name = {0};
	ck_assert_int_eq(tree_default_get(tree, &name), 0);
	ck_assert_str_eq(name.data, "a");
	buf_clear(&name);
	ck_assert_int_eq(tree_default_set(tree, "b"), 0);
	temporary_sh("test $(readlink models/default) = b");
	ck_assert_int_eq(tree_default_set(tree, "../b"), -EINVAL);
	ck_assert_int_eq(tree_default_set(tree, NULL), 0);
	ck_assert_int_eq(tree_default_set(tree, NULL), 0);
	ck_assert_int_eq(tree_default_get(tree, &name), 0);
	ck_assert_uint_eq(name.len, 0);
	temporary_sh("ln -s b/ models/default"); /* as a shell completes it */
	ck_assert_int_eq(tree_default_get(tree, &name), 0);
	ck_assert_str_eq(name.data, "b");
	buf_clear(&name);
	temporary_sh("ln -sfn /etc models/default");
	ck_assert_int_eq(tree_default_get(tree, &name), 0);
	ck_assert_uint_eq(name.len, 0);
	buf_free(&name);
}
END_TEST

START_TEST(a_temporary_file_that_a_kill_left_keeps_no_model_from_being_removed)
{
	temporary_sh("touch models/a/.path.llmfs-99999999 models/a/.x.llmfs-1");
	ck_assert_int_eq(tree_remove(tree, models, "a"), 0);
	temporary_sh("test ! -e models/a; touch models/b/.path.llmfs-99999999 models/b/mine");
	ck_assert_int_eq(tree_remove(tree, models, "b"), -ENOTEMPTY);
	temporary_sh("test -e models/b/.path.llmfs-99999999"); /* nothing was removed */
}
END_TEST

START_TEST(a_start_removes_what_a_kill_left_and_nothing_else)
{
	char command[512], mine[TREE_FILE_BESIDE];
	temporary_sh(
		"mkdir -p models/.m.llmfs-99999999 budgets/x router guards/input guards/output;"
		"for d in models models/a budgets budgets/x router guards guards/input "
		"guards/output; do echo > $d/.y.llmfs-99999999; done;"
		"ln -s a models/.default.llmfs-99999998");
	/* One of a process that lives, one of this one (a number may come again), a person's. */
	tree_file_name_beside("path", mine);
	snprintf(command, sizeof command,
		"touch models/a/.path.llmfs-%d models/b/%s models/b/.path.llmfs-x router/z",
		(int)getppid(), mine);
	temporary_sh(command);
	tree_sweep(tree);
	snprintf(command, sizeof command,
		"test \"$(find . -mindepth 2 ! -type d | grep -v -e '/path$' -e /default | sort)\" "
		"= "
		"\"$(printf './models/a/.path.llmfs-%d\\n./models/b/.path.llmfs-x\\n./router/z')\" "
		"&& "
		"test -d models/.m.llmfs-99999999 && test -L models/default",
		(int)getppid());
	temporary_sh(command);
}
END_TEST

START_TEST(what_is_about_to_replace_default_is_no_symlink_of_a_persons)
{
	char ours[TREE_FILE_BESIDE];
	tree_file_name_beside("default", ours);
	ck_assert(tree_file_is_beside(ours));
	ck_assert(tree_file_is_beside(".a.llmfs-x.llmfs-12"));
	static const char *const others[] = {".default.llmfs-", ".default.llmfs-1x", ".default",
		"default.llmfs-1", "..llmfs-1", ".llmfs-1", ".a.llmfs-1.llmfs-x", "", "."};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_msg(!tree_file_is_beside(others[i]), "%s", others[i]);
	char command[512];
	snprintf(command, sizeof command, "cd models && ln -s b '%s' && ln -s b .default.llmfs-x",
		ours);
	temporary_sh(command);
	char **links = tree_links(tree, models);
	ck_assert_uint_eq(names_count(links), 1);
	ck_assert_str_eq(links[0], ".default.llmfs-x");
	names_free(links);
	/* One that a kill left is in nobody's way. */
	ck_assert_int_eq(tree_default_set(tree, "a"), 0);
	temporary_sh("test $(readlink models/default) = a");
}
END_TEST

START_TEST(a_single_collection_has_its_files_in_its_own_directory)
{
	const struct collection *router = &collection_router;
	struct buf text = {0};
	struct stat st;
	ck_assert_int_eq(tree_setting_get(tree, router, "", "policy", &text), -ENOENT);
	ck_assert_int_eq(tree_setting_set(tree, router, "", "policy", "", 0), 0);
	temporary_sh("test ! -e router");
	ck_assert_int_eq(tree_setting_set(tree, router, "", "policy", "cost", 4), 0);
	temporary_sh("test \"$(cat router/policy)\" = cost && test \"$(ls -A router)\" = policy");
	ck_assert_int_eq(tree_setting_get(tree, router, "", "policy", &text), 0);
	ck_assert_str_eq(text.data, "cost");
	ck_assert_int_eq(tree_setting_stat(tree, router, "", "policy", &st), 0);
	ck_assert_int_eq(tree_setting_set(tree, router, "", "policy", "", 0), 0);
	temporary_sh("test ! -e router/policy");
	buf_free(&text);
}
END_TEST

START_TEST(a_reference_to_a_key_goes_with_its_model)
{
	temporary_sh("echo env:A > models/a/key");
	ck_assert_int_eq(tree_remove(tree, models, "a"), 0);
	temporary_sh("test ! -e models/a");
}
END_TEST

START_TEST(a_model_with_files_of_the_user_is_not_removed)
{
	temporary_sh("touch models/a/weights.gguf");
	ck_assert_int_eq(tree_remove(tree, models, "a"), -ENOTEMPTY);
	temporary_sh("test -f models/a/path; rm models/a/weights.gguf");
	ck_assert_int_eq(tree_remove(tree, models, "a"), 0);
	temporary_sh("test ! -e models/a");
	ck_assert_int_eq(tree_remove(tree, models, "a"), 0);
	ck_assert_int_eq(tree_make(tree, models, "a"), 0);
	ck_assert_int_eq(tree_make(tree, models, "a"), -EEXIST);
	ck_assert_int_eq(tree_make(tree, models, "a/b"), -EINVAL);
}
END_TEST

START_TEST(root_takes_nothing_that_others_can_write)
{
	struct tree *other = NULL;
	struct err err = {{0}};
	if (run_suite_skips(geteuid() != 0, "only root trusts nobody else"))
		return;
	ck_assert_int_eq(tree_trusted(tree, "models/a/path", NULL), 0);
	temporary_sh("chmod 666 models/a/path");
	ck_assert_int_eq(tree_trusted(tree, "models/a/path", &err), -EPERM);
	ck_assert_ptr_nonnull(strstr(err.text, "models/a/path"));
	temporary_sh("chmod 644 models/a/path; chmod 777 models/a");
	ck_assert_int_eq(tree_trusted(tree, "models/a/path", NULL), -EPERM);
	temporary_sh("chown 12345 .");
	ck_assert_int_eq(tree_open(&other, temporary, &err), -EPERM);
	ck_assert_ptr_null(other);
}
END_TEST

START_TEST(names_of_models_are_checked)
{
	static const char *const bad[] = {"", ".", "..", "default", "a/b", "a b", "\xc3\xa4"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!tree_name_ok(models, bad[i]), "%s", bad[i]);
	ck_assert(tree_name_ok(models, "Llama-3.1_8b"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/tree");
	TCase *t = tcase_create("tree");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, only_directories_with_good_names_are_models);
	tcase_add_test(t, models_that_cannot_be_read_now_have_not_gone);
	tcase_add_test(t, only_what_can_be_looked_up_has_gone);
	tcase_add_test(t, a_setting_is_read_without_its_newline);
	tcase_add_test(t, what_is_not_a_regular_file_is_refused_without_waiting);
	tcase_add_test(t, a_huge_file_is_refused);
	tcase_add_test(t, a_setting_is_replaced_whole_and_removed_by_the_empty_text);
	tcase_add_test(t, paths_are_relative_to_the_models_directory);
	tcase_add_test(t, default_is_a_link_to_a_bare_name_or_nothing);
	tcase_add_test(t, a_temporary_file_that_a_kill_left_keeps_no_model_from_being_removed);
	tcase_add_test(t, a_start_removes_what_a_kill_left_and_nothing_else);
	tcase_add_test(t, what_is_about_to_replace_default_is_no_symlink_of_a_persons);
	tcase_add_test(t, a_single_collection_has_its_files_in_its_own_directory);
	tcase_add_test(t, a_reference_to_a_key_goes_with_its_model);
	tcase_add_test(t, a_model_with_files_of_the_user_is_not_removed);
	tcase_add_test(t, root_takes_nothing_that_others_can_write);
	tcase_add_test(t, names_of_models_are_checked);
	suite_add_tcase(s, t);
	return run_suite(s);
}
