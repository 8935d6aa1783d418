/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/tree_guards.h"

#include "fs/names.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct tree *tree;

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p guards/input; printf 'block x /x/' > guards/input/a.rules");
	ck_assert_int_eq(tree_open(&tree, temporary, NULL), 0);
}

static void teardown(void)
{
	tree = tree_free(tree);
	temporary_remove();
}

static int set(const char *file, const char *text, size_t len)
{
	struct tree_file_write w;
	int r = tree_guards_write(&w, tree, file, text, len);
	if (r < 0)
		return r;
	r = tree_file_write_take(&w);
	tree_file_write_end(&w);
	return r;
}

static const char *text_of(const char *file)
{
	static struct buf text;
	buf_free(&text);
	ck_assert_int_eq(tree_guards_get(tree, file, &text), 0);
	return text.data ? text.data : "";
}

START_TEST(a_text_is_kept_byte_for_byte)
{
	struct buf text = {0};
	ck_assert_str_eq(text_of("input/a.rules"), "block x /x/");
	ck_assert_int_eq(set("output/b.rules", "a\0\n\n", 4), 0);
	ck_assert_int_eq(tree_guards_get(tree, "output/b.rules", &text), 0);
	ck_assert_uint_eq(text.len, 4);
	ck_assert_mem_eq(text.data, "a\0\n\n", 4);
	buf_free(&text);
	temporary_sh("test \"$(ls -A guards/output)\" = b.rules");
}
END_TEST

START_TEST(a_directory_that_cannot_hold_rules_is_told_from_one_that_is_not_there)
{
	struct rlimit few, all;
	ck_assert_int_eq(tree_guards_dir_check(tree, "input"), 0);
	ck_assert_int_eq(tree_guards_dir_check(tree, "output"), 0); /* there is none */
	temporary_sh("mkdir elsewhere && ln -s ../elsewhere guards/output");
	ck_assert_int_lt(tree_guards_dir_check(tree, "output"), 0);
	temporary_sh("rm guards/output && echo text > guards/output");
	ck_assert_int_eq(tree_guards_dir_check(tree, "output"), -ENOTDIR);
	/* Not known: no word that all is well. */
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
	few = (struct rlimit){0, all.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	int r = tree_guards_dir_check(tree, "input");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
	ck_assert_int_eq(r, -EMFILE);
}
END_TEST

START_TEST(a_text_that_is_not_taken_leaves_nothing)
{
	struct tree_file_write w;
	ck_assert_int_eq(tree_guards_write(&w, tree, "input/a.rules", "new", 3), 0);
	ck_assert_str_eq(text_of("input/a.rules"), "block x /x/");
	tree_file_write_end(&w);
	ck_assert_str_eq(text_of("input/a.rules"), "block x /x/");
	temporary_sh("test \"$(ls -A guards/input)\" = a.rules");
}
END_TEST

START_TEST(directories_are_made_to_write_and_not_needed_to_read)
{
	struct stat st;
	struct buf text = {0};
	temporary_sh("rm -r guards");
	ck_assert_int_eq(tree_guards_get(tree, "input/a.rules", &text), -ENOENT);
	ck_assert_int_eq(tree_guards_stat(tree, "moderation", &st), -ENOENT);
	ck_assert_int_eq(tree_guards_remove(tree, "input/a.rules"), 0);
	char **names = tree_guards_names(tree);
	ck_assert_uint_eq(names_count(names), 0);
	ck_assert_ptr_nonnull(names);
	names_free(names);
	ck_assert_int_eq(tree_guards_create(tree, "input/a.rules"), 0);
	ck_assert_int_eq(tree_guards_create(tree, "input/a.rules"), -EEXIST);
	ck_assert_int_eq(set("moderation", "x", 1), 0);
	temporary_sh("test -f guards/input/a.rules -a -f guards/moderation");
}
END_TEST

START_TEST(only_names_of_rules_are_listed_whatever_they_are)
{
	temporary_sh(
		"cd guards && touch input/.b.rules.swp input/a.rules~ input/4913 moderation && "
		"mkdir output && ln -s /etc/passwd output/z.rules && mkfifo input/f.rules && "
		"touch 'input/a b.rules'");
	char **names = tree_guards_names(tree);
	ck_assert_uint_eq(names_count(names), 4);
	ck_assert_str_eq(names[0], "input/a.rules");
	ck_assert_str_eq(names[1], "input/f.rules");
	ck_assert_str_eq(names[2], "moderation");
	ck_assert_str_eq(names[3], "output/z.rules");
	names_free(names);
}
END_TEST

START_TEST(what_is_not_a_regular_file_is_no_text)
{
	struct stat st;
	struct buf text = {0};
	temporary_sh("ln -s /etc/passwd guards/input/l.rules; mkfifo guards/input/f.rules; "
		     "mkdir guards/moderation; ln -s / guards/output");
	ck_assert_int_eq(tree_guards_get(tree, "input/l.rules", &text), -EINVAL);
	ck_assert_int_eq(tree_guards_get(tree, "input/f.rules", &text), -EINVAL);
	ck_assert_int_eq(tree_guards_stat(tree, "input/l.rules", &st), -EINVAL);
	ck_assert_int_eq(tree_guards_stat(tree, "moderation", &st), -EINVAL);
	ck_assert_int_lt(set("output/x.rules", "x", 1), 0);
	ck_assert_uint_eq(text.len, 0);
	temporary_sh("test ! -e /x.rules");
}
END_TEST

START_TEST(what_is_put_aside_replaces_no_other_file)
{
	char kept[TREE_GUARDS_NAME];
	temporary_sh("cd guards/input && echo mine > a.rules~ && cp a.rules b.rules");
	ck_assert_int_eq(tree_guards_put_aside(tree, "input/a.rules", "a.rules~", kept), 0);
	ck_assert_str_eq(kept, "input/a.rules~.1");
	ck_assert_str_eq(text_of(kept), "block x /x/");
	ck_assert_str_eq(text_of("input/a.rules~"), "mine\n");
	ck_assert_int_eq(tree_guards_put_aside(tree, "input/b.rules", "b.off", kept), 0);
	ck_assert_str_eq(kept, "input/b.off");
	temporary_sh("for i in 1 2 3 4 5 6 7 8 9; do touch guards/input/n.$i; done; "
		     "touch guards/input/n guards/input/c.rules");
	ck_assert_int_eq(tree_guards_put_aside(tree, "input/c.rules", "n", kept), -EEXIST);
	temporary_sh("test -f guards/input/c.rules");
}
END_TEST

START_TEST(a_text_of_256_kib_and_no_more_is_read)
{
	struct buf text = {0};
	temporary_sh("head -c 262144 /dev/zero > guards/input/big.rules");
	ck_assert_int_eq(tree_guards_get(tree, "input/big.rules", &text), 0);
	ck_assert_uint_eq(text.len, TREE_GUARDS_MAX);
	buf_clear(&text);
	temporary_sh("echo >> guards/input/big.rules");
	ck_assert_int_eq(tree_guards_get(tree, "input/big.rules", &text), -EFBIG);
	ck_assert_uint_eq(text.len, 0);
	buf_free(&text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/tree_guards");
	TCase *t = tcase_create("tree_guards");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_directory_that_cannot_hold_rules_is_told_from_one_that_is_not_there);
	tcase_add_test(t, a_text_is_kept_byte_for_byte);
	tcase_add_test(t, a_text_that_is_not_taken_leaves_nothing);
	tcase_add_test(t, directories_are_made_to_write_and_not_needed_to_read);
	tcase_add_test(t, only_names_of_rules_are_listed_whatever_they_are);
	tcase_add_test(t, what_is_not_a_regular_file_is_no_text);
	tcase_add_test(t, what_is_put_aside_replaces_no_other_file);
	tcase_add_test(t, a_text_of_256_kib_and_no_more_is_read);
	suite_add_tcase(s, t);
	return run_suite(s);
}
