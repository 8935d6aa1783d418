/* SPDX-License-Identifier: Apache-2.0 */
/* What guards/error says of changes through the mount. */
#include "fs/guards.h"

#include <pthread.h>
#include <string.h>

#include "fs/faults.h"
#include "tests/fs/program_fixture.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static void setup(void)
{
	program_begin();
	program_fs.faults = faults_new();
	ck_assert_ptr_nonnull(program_fs.faults);
}

static void teardown(void)
{
	program_fs.faults = faults_free(program_fs.faults);
	program_end();
}

static const char *error(void)
{
	static struct buf text;
	struct node node = program_child(&program_guards, "error");
	buf_free(&text);
	ck_assert_int_eq(faults_render(&program_fs, &node, &text), 0);
	node_put(program_fs.nodes, &node);
	return text.data ? text.data : "";
}

START_TEST(a_fault_ends_with_its_file_and_not_with_another)
{
	ck_assert_int_eq(program_saved_as("input/b.rules", program_bad), 1);
	ck_assert_int_eq(strncmp(error(), "input/b.rules:1:", 16), 0);
	ck_assert_int_eq(guards_delete(&program_fs, "input/a.rules"), 0);
	ck_assert_int_eq(strncmp(error(), "input/b.rules:1:", 16), 0);
	ck_assert_int_eq(guards_delete(&program_fs, "input/b.rules"), 0);
	ck_assert_str_eq(error(), "");
}
END_TEST

START_TEST(a_fault_ends_when_its_file_is_put_aside)
{
	char kept[TREE_GUARDS_NAME];
	ck_assert_int_eq(program_saved_as("input/b.rules", program_bad), 1);
	ck_assert_int_eq(guards_put_aside(&program_fs, "input/b.rules", "b.old", kept), 0);
	ck_assert_str_eq(error(), "");
}
END_TEST

static void *saves_with_a_fault(void *arg)
{
	program_saved_as("input/a.rules", program_bad);
	return NULL;
}

START_TEST(of_two_saves_at_a_time_the_later_one_is_told_of)
{
	for (int i = 0; i < 300; i++) {
		pthread_t thread;
		struct buf text = {0};
		ck_assert_int_eq(pthread_create(&thread, NULL, saves_with_a_fault, NULL), 0);
		ck_assert_int_eq(program_saved_as("input/a.rules", program_two), 0);
		pthread_join(thread, NULL);
		ck_assert_int_eq(tree_guards_get(program_fs.tree, "input/a.rules", &text), 0);
		bool is_bad = strcmp(text.data, program_bad) == 0;
		ck_assert_msg((*error() != '\0') == is_bad, "%s: %s", text.data, error());
		buf_free(&text);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/guards");
	TCase *t = tcase_create("guards");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_fault_ends_with_its_file_and_not_with_another);
	tcase_add_test(t, a_fault_ends_when_its_file_is_put_aside);
	tcase_add_test(t, of_two_saves_at_a_time_the_later_one_is_told_of);
	suite_add_tcase(s, t);
	return run_suite(s);
}
