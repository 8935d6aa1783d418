/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of models between a TREE and a real gateway, which keeps them in state/keys. */
#include "fs/keys.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/keys_seen.h"
#include "fs/sync.h"
#include "fs/tree.h"

#include "gateway/gateway_models.h"

#include <errno.h>
#include <pthread.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;
static struct model *m;

static void setup(void)
{
	char path[128];
	struct err err = {{0}};
	temporary_make();
	temporary_sh(
		"mkdir -p tree/models/m tree/models/other state; ln -s other tree/models/default;"
		"echo http://127.0.0.1:9/v1 > tree/models/other/endpoint");
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	snprintf(path, sizeof path, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, path, NULL), 0);
	sync_all(&fs, NULL);
	m = gateway_model_find(fs.gateway, "m");
	ck_assert_ptr_nonnull(m);
}

static void teardown(void)
{
	m = model_put(m);
	fs.gateway = gateway_free(fs.gateway);
	fs.tree = tree_free(fs.tree);
	temporary_remove();
}

static const char *status(void)
{
	static struct buf text;
	buf_free(&text);
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &text), 0);
	return text.data;
}

START_TEST(a_reference_to_a_key_is_set_once_and_again_when_it_changes)
{
	temporary_sh("echo env:A > tree/models/m/key");
	keys_pass(&fs);
	temporary_sh("grep -q env:A state/keys/m");
	/* Not what TREE says, and yet it stays as long as TREE says the same. */
	ck_assert_int_eq(model_key_set(m, "sk-b", 4, NULL), 0);
	keys_pass(&fs);
	temporary_sh("grep -q sk-b state/keys/m; echo env:C > tree/models/m/key");
	keys_pass(&fs);
	temporary_sh("grep -q env:C state/keys/m; rm tree/models/m/key");
	keys_pass(&fs);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

START_TEST(a_key_of_the_mount_takes_the_reference_out_of_tree_unless_it_is_refused)
{
	temporary_sh("echo env:A > tree/models/m/key");
	keys_pass(&fs);
	ck_assert_int_eq(keys_set(&fs, m, "a\nb", 3, NULL), -EINVAL);
	temporary_sh("test $(cat tree/models/m/key) = env:A; grep -q env:A state/keys/m");
	ck_assert_int_eq(keys_set(&fs, m, "sk-b", 4, NULL), 0);
	temporary_sh("test ! -e tree/models/m/key; grep -q sk-b state/keys/m");
	keys_pass(&fs);
	temporary_sh("grep -q sk-b state/keys/m");
	temporary_sh("echo sk-literal > tree/models/m/key");
	keys_pass(&fs);
	ck_assert_ptr_nonnull(strstr(status(), "models/m/key: a secret does not belong in TREE"));
	ck_assert_ptr_null(strstr(status(), "sk-literal"));
	temporary_sh("grep -q sk-b state/keys/m; rm tree/models/m/key");
	keys_pass(&fs);
	ck_assert_str_eq(status(), "ok\n");
	temporary_sh("grep -q sk-b state/keys/m");
}
END_TEST

START_TEST(a_key_of_the_mount_is_not_touched_by_a_tree_without_one)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	ck_assert(!keys_pass(&fs));
	temporary_sh("grep -q sk-a state/keys/m; test ! -e tree/models/m/key");
	ck_assert_int_eq(keys_set(&fs, m, "", 0, NULL), 0);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

START_TEST(an_empty_file_is_not_believed_while_it_is_young_and_then_is_none)
{
	temporary_sh("echo env:A > tree/models/m/key");
	keys_pass(&fs);
	temporary_sh(": > tree/models/m/key");
	ck_assert(keys_pass(&fs));
	temporary_sh("grep -q env:A state/keys/m; touch -d '1 minute ago' tree/models/m/key");
	ck_assert(!keys_pass(&fs));
	temporary_sh("test ! -e state/keys/m");
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(what_was_reported_of_a_model_goes_with_it)
{
	temporary_sh("mkfifo tree/models/m/key");
	keys_pass(&fs);
	ck_assert_ptr_nonnull(strstr(status(), "models/m/key: not a regular file"));
	temporary_sh("rm -r tree/models/m");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(a_key_goes_with_a_model_that_is_removed_in_the_mount)
{
	temporary_sh("echo env:A > tree/models/m/key");
	keys_pass(&fs);
	temporary_sh("test -e state/keys/m");
	ck_assert_int_eq(sync_remove(&fs, &collection_models, "m", NULL), 0);
	temporary_sh("test ! -e tree/models/m; test ! -e state/keys/m");
	ck_assert_int_eq(sync_make(&fs, &collection_models, "m", NULL), 0);
	sync_all(&fs, NULL);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

START_TEST(a_model_that_is_made_in_the_mount_has_no_key_of_one_before_it)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	sync_all(&fs, NULL);
	temporary_sh("grep -q sk-a state/keys/m; rm -r tree/models/m");
	sync_all(&fs, NULL);
	temporary_sh("grep -q sk-a state/keys/m"); /* for a minute */
	ck_assert_int_eq(sync_make(&fs, &collection_models, "m", NULL), 0);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

static void passes_for(unsigned ms)
{
	usleep(ms * 1000);
	sync_all(&fs, NULL);
}

START_TEST(a_key_of_the_mount_outlasts_its_directory_in_tree_for_a_while_and_no_longer)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	temporary_sh("mv tree/models/m away");
	sync_all(&fs, NULL);
	ck_assert_ptr_null(gateway_model_find(fs.gateway, "m"));
	ck_assert_int_gt(keys_seen_due_ms(), KEYS_SEEN_KEEP_MS / 2);
	temporary_sh("grep -q sk-a state/keys/m; mv away tree/models/m");
	sync_all(&fs, NULL);
	temporary_sh("grep -q sk-a state/keys/m");
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	keys_seen_keep(20);
	temporary_sh("mv tree/models/m away");
	sync_all(&fs, NULL);
	passes_for(30);
	temporary_sh("test ! -e state/keys/m; mv away tree/models/m");
	sync_all(&fs, NULL);
	temporary_sh("test ! -e state/keys/m");
	ck_assert_int_eq(keys_seen_due_ms(), -1);
}
END_TEST

START_TEST(a_key_that_a_start_finds_without_its_model_stays)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	m = model_put(m);
	fs.gateway = gateway_free(fs.gateway);
	/* Of another TREE's model, it may be, that was served with the same state. */
	temporary_sh("mv state/keys/m state/keys/elsewhere");
	char path[128];
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_int_eq(gateway_open(&fs.gateway, &o, NULL), 0);
	keys_seen_keep(5);
	sync_all(&fs, NULL);
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	passes_for(10);
	temporary_sh("grep -q sk-a state/keys/elsewhere");
}
END_TEST

/* As a user to whom the mode of a file says what he may do. */
static void be_nobody(void)
{
	if (geteuid() != 0)
		return;
	/* Files in the state come and go. */
	temporary_sh("chown -R 65534:65534 tree; chown 65534:65534 . $(find state -type d)");
	ck_assert_int_eq(seteuid(65534), 0);
}

static void be_oneself(void)
{
	ck_assert_int_eq(seteuid(getuid()), 0);
}

/* What is done to TREE is not the end of m, and its undoing brings m back. */
static void expect_key_stays(const char *doing, const char *undoing)
{
	be_nobody();
	temporary_sh(doing);
	for (int i = 0; i < 3; i++)
		passes_for(10);
	temporary_sh(undoing);
	sync_all(&fs, NULL);
	be_oneself();
	temporary_sh("grep -q sk-a state/keys/m");
	ck_assert_int_eq(keys_seen_due_ms(), -1);
}

START_TEST(a_key_stays_where_its_model_is_there_or_cannot_be_asked_for)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	keys_seen_keep(5);
	keys_pass(&fs);
	expect_key_stays("chmod a-x tree/models", "chmod a+x tree/models");
	expect_key_stays("chmod 0 tree/models", "chmod 755 tree/models");
	expect_key_stays("mv tree/models tree/x; ln -s x tree/models",
		"rm tree/models; mv tree/x tree/models");
	expect_key_stays("mv tree/models tree/x; touch tree/models",
		"rm tree/models; mv tree/x tree/models");
	expect_key_stays("mv tree/models x", "mv x tree/models");
	expect_key_stays(
		"mv tree/models x; mkdir tree/models", "rmdir tree/models; mv x tree/models");
	expect_key_stays("mv tree/models/m tree/models/m2; ln -s m2 tree/models/m",
		"rm tree/models/m; mv tree/models/m2 tree/models/m");
	expect_key_stays(
		"mv tree/models/m x; touch tree/models/m", "rm tree/models/m; mv x tree/models/m");
}
END_TEST

START_TEST(a_key_that_is_due_waits_for_a_tree_that_can_be_read)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	keys_seen_keep(500);
	temporary_sh("mv tree/models/m away");
	sync_all(&fs, NULL);
	be_nobody();
	temporary_sh("chmod 0 tree/models");
	usleep(600 * 1000);
	keys_pass(&fs);
	ck_assert_int_gt(keys_seen_due_ms(), 0);
	temporary_sh("chmod 644 tree/models");
	usleep(600 * 1000);
	keys_pass(&fs);
	ck_assert_int_gt(keys_seen_due_ms(), 0);
	temporary_sh("chmod 755 tree/models");
	usleep(600 * 1000);
	keys_pass(&fs);
	be_oneself();
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

START_TEST(a_key_that_cannot_be_forgotten_is_tried_again)
{
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	keys_seen_keep(500);
	temporary_sh("mv tree/models/m away");
	sync_all(&fs, NULL);
	be_nobody();
	temporary_sh("chmod a-w state/keys");
	usleep(600 * 1000);
	keys_pass(&fs);
	temporary_sh("grep -q sk-a state/keys/m");
	ck_assert_int_gt(keys_seen_due_ms(), 0);
	temporary_sh("chmod u+w state/keys");
	usleep(600 * 1000);
	keys_pass(&fs);
	be_oneself();
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

static void *one_pass(void *arg)
{
	keys_pass(arg);
	return NULL;
}

START_TEST(a_key_that_is_written_while_its_time_is_over_is_not_taken_for_the_one_before)
{
	/* Long passes, with which the model and its key come. */
	temporary_sh("seq -f 'tree/models/x%g' 100 | xargs mkdir");
	ck_assert_int_eq(keys_set(&fs, m, "sk-a", 4, NULL), 0);
	keys_seen_keep(1);
	for (unsigned i = 0; i < 40; i++) {
		pthread_t thread;
		m = model_put(m);
		sync_all(&fs, NULL); /* sees m */
		temporary_sh("rm -r tree/models/m");
		sync_all(&fs, NULL);
		usleep(1500);
		ck_assert_int_eq(pthread_create(&thread, NULL, one_pass, &fs), 0);
		usleep(i * 50);
		ck_assert_int_eq(sync_make(&fs, &collection_models, "m", NULL), 0);
		m = gateway_model_find(fs.gateway, "m");
		ck_assert_int_eq(keys_set(&fs, m, "sk-b", 4, NULL), 0);
		pthread_join(thread, NULL);
		temporary_sh("grep -q sk-b state/keys/m");
	}
}
END_TEST

START_TEST(nothing_of_what_is_refused_is_said)
{
	static const char *const bad[] = {"sk-literal", "env:sk literal", "file:sk-literal"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char script[128];
		snprintf(script, sizeof script, "echo '%s' > tree/models/m/key", bad[i]);
		temporary_sh(script);
		keys_pass(&fs);
		ck_assert_msg(strstr(status(), "models/m/key: ") != NULL, "%s", bad[i]);
		ck_assert_msg(strstr(status(), "literal") == NULL, "%s", status());
	}
	temporary_sh("test ! -e state/keys/m");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/keys");
	TCase *t = tcase_create("keys");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_reference_to_a_key_is_set_once_and_again_when_it_changes);
	tcase_add_test(t, a_key_of_the_mount_takes_the_reference_out_of_tree_unless_it_is_refused);
	tcase_add_test(t, a_key_of_the_mount_is_not_touched_by_a_tree_without_one);
	tcase_add_test(t, an_empty_file_is_not_believed_while_it_is_young_and_then_is_none);
	tcase_add_test(t, what_was_reported_of_a_model_goes_with_it);
	tcase_add_test(t, a_key_goes_with_a_model_that_is_removed_in_the_mount);
	tcase_add_test(t, a_model_that_is_made_in_the_mount_has_no_key_of_one_before_it);
	tcase_add_test(
		t, a_key_of_the_mount_outlasts_its_directory_in_tree_for_a_while_and_no_longer);
	tcase_add_test(t, a_key_that_a_start_finds_without_its_model_stays);
	tcase_add_test(t, a_key_stays_where_its_model_is_there_or_cannot_be_asked_for);
	tcase_add_test(t, a_key_that_is_due_waits_for_a_tree_that_can_be_read);
	tcase_add_test(t, a_key_that_cannot_be_forgotten_is_tried_again);
	tcase_add_test(
		t, a_key_that_is_written_while_its_time_is_over_is_not_taken_for_the_one_before);
	tcase_add_test(t, nothing_of_what_is_refused_is_said);
	suite_add_tcase(s, t);
	return run_suite(s);
}
