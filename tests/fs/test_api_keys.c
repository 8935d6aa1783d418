/* SPDX-License-Identifier: Apache-2.0 */
/* API keys between a TREE and a real gateway: what becomes of a secret whose directory goes. With a
 * user database of the test's own. */
#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/keys_seen.h"
#include "fs/sync.h"
#include "fs/sync_pass.h"
#include "fs/tree.h"

#include "gateway/gateway_keys.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;
static char secret[API_KEY_SECRET];
static bool knows_alice = true;

int getpwnam_r(
	const char *name, struct passwd *row, char *strings, size_t size, struct passwd **found)
{
	*found = NULL;
	if (strcmp(name, "alice") || !knows_alice)
		return 0;
	memset(row, 0, sizeof *row);
	row->pw_uid = 1234;
	*found = row;
	return 0;
}

static void start(void)
{
	char path[128];
	struct err err = {{0}};
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	sync_all(&fs, NULL);
}

static void setup(void)
{
	char path[128];
	temporary_make();
	temporary_sh("mkdir -p tree/keys/me tree/keys/other state; echo alice > tree/keys/me/user");
	snprintf(path, sizeof path, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, path, NULL), 0);
	start();
	struct api_key *k = gateway_api_key_find(fs.gateway, "me");
	ck_assert_int_eq(api_key_ctl(k, "new", 3, secret, NULL), 0);
	api_key_put(k);
	sync_all(&fs, NULL);
}

static void teardown(void)
{
	fs.gateway = gateway_free(fs.gateway);
	fs.tree = tree_free(fs.tree);
	temporary_remove();
}

static bool lets_in(void)
{
	struct api_key *k = NULL;
	uid_t uid;
	int r = gateway_api_key_check(fs.gateway, secret, strlen(secret), &k, &uid, NULL);
	api_key_put(k);
	return r == 0;
}

static void passes_after(unsigned ms)
{
	usleep(ms * 1000);
	sync_all(&fs, NULL);
}

static void is_forgotten(void)
{
	temporary_sh("test ! -e state/api_keys/me");
	ck_assert(!lets_in());
	ck_assert_int_eq(keys_seen_due_ms(), -1);
}

START_TEST(a_secret_is_out_of_force_with_its_directory_and_in_force_again_when_that_is_back)
{
	ck_assert(lets_in());
	ck_assert_int_eq(keys_seen_due_ms(), -1);
	temporary_sh("mv tree/keys/me away");
	sync_all(&fs, NULL);
	ck_assert(!lets_in());
	ck_assert_int_gt(keys_seen_due_ms(), KEYS_SEEN_KEEP_MS / 2);
	temporary_sh("mv away tree/keys/me");
	sync_all(&fs, NULL);
	ck_assert(lets_in());
	ck_assert_int_eq(keys_seen_due_ms(), -1);
}
END_TEST

START_TEST(a_secret_is_forgotten_when_its_directory_is_not_back_in_time)
{
	keys_seen_keep(20);
	temporary_sh("mv tree/keys/me away");
	sync_all(&fs, NULL);
	temporary_sh("test -e state/api_keys/me");
	passes_after(30);
	is_forgotten();
	temporary_sh("mv away tree/keys/me");
	sync_all(&fs, NULL);
	is_forgotten();
}
END_TEST

START_TEST(a_key_that_is_removed_or_made_in_the_mount_has_no_secret_of_one_before_it)
{
	ck_assert_int_eq(sync_remove(&fs, &collection_keys, "me", NULL), 0);
	temporary_sh("test ! -e tree/keys/me; test ! -e state/api_keys/me");
	temporary_sh("mkdir tree/keys/me; echo alice > tree/keys/me/user");
	sync_all(&fs, NULL);
	ck_assert(!lets_in());
	struct api_key *k = gateway_api_key_find(fs.gateway, "me");
	ck_assert_int_eq(api_key_ctl(k, "new", 3, secret, NULL), 0);
	api_key_put(k);
	ck_assert(lets_in());
	temporary_sh("rm -r tree/keys/me");
	sync_all(&fs, NULL);
	temporary_sh("test -e state/api_keys/me");
	ck_assert_int_eq(sync_make(&fs, &collection_keys, "me", NULL), 0);
	temporary_sh("test ! -e state/api_keys/me; echo alice > tree/keys/me/user");
	sync_all(&fs, NULL);
	is_forgotten();
}
END_TEST

static void restart(const char *script)
{
	fs.gateway = gateway_free(fs.gateway);
	keys_seen_forget(&collection_keys, "me"); /* as another process */
	keys_seen_forget(&collection_keys, "other");
	temporary_sh(script);
	start();
}

START_TEST(a_start_without_the_directory_waits_for_it_as_long)
{
	restart("mv tree/keys/me away");
	ck_assert(!lets_in());
	temporary_sh("test -e state/api_keys/me");
	ck_assert_int_gt(keys_seen_due_ms(), KEYS_SEEN_KEEP_MS / 2);
	temporary_sh("mv away tree/keys/me");
	sync_all(&fs, NULL);
	ck_assert(lets_in());
	keys_seen_keep(20);
	restart("mv tree/keys/me away");
	passes_after(30);
	is_forgotten();
	restart("mv away tree/keys/me");
	is_forgotten();
}
END_TEST

/* What is done to TREE is no end of the key, and its undoing brings it back. */
static void stays(const char *doing, const char *undoing, bool with_a_start)
{
	if (with_a_start)
		restart(doing);
	else
		temporary_sh(doing);
	for (int i = 0; i < 3; i++) {
		passes_after(10);
		ck_assert(!lets_in());
	}
	temporary_sh(undoing);
	sync_all(&fs, NULL);
	ck_assert_msg(lets_in(), "%s", doing);
	ck_assert_int_eq(keys_seen_due_ms(), -1);
}

START_TEST(a_secret_stays_while_keys_is_not_there_or_another_directory)
{
	keys_seen_keep(5);
	for (int i = 0; i < 2; i++) {
		stays("mv tree/keys x", "mv x tree/keys", i);
		stays("mv tree/keys x; touch tree/keys", "rm tree/keys; mv x tree/keys", i);
		stays("mv tree/keys/me x; touch tree/keys/me", "rm tree/keys/me; mv x tree/keys/me",
			i);
	}
	stays("mv tree/keys x; mkdir tree/keys", "rmdir tree/keys; mv x tree/keys", false);
}
END_TEST

START_TEST(a_user_whom_the_system_does_not_know_yet_is_asked_for_again)
{
	ck_assert_int_eq(sync_pass_due_ms(), -1);
	knows_alice = false;
	restart(":");
	ck_assert(!lets_in());
	ck_assert_int_eq(sync_pass_due_ms(), SYNC_PASS_ASK_MS);
	sync_all(&fs, NULL);
	ck_assert_int_eq(sync_pass_due_ms(), SYNC_PASS_ASK_MS);
	knows_alice = true;
	sync_all(&fs, NULL);
	ck_assert(lets_in());
	ck_assert_int_eq(sync_pass_due_ms(), -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_keys");
	TCase *t = tcase_create("tree");
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t,
		a_secret_is_out_of_force_with_its_directory_and_in_force_again_when_that_is_back);
	tcase_add_test(t, a_secret_is_forgotten_when_its_directory_is_not_back_in_time);
	tcase_add_test(
		t, a_key_that_is_removed_or_made_in_the_mount_has_no_secret_of_one_before_it);
	tcase_add_test(t, a_start_without_the_directory_waits_for_it_as_long);
	tcase_add_test(t, a_secret_stays_while_keys_is_not_there_or_another_directory);
	tcase_add_test(t, a_user_whom_the_system_does_not_know_yet_is_asked_for_again);
	suite_add_tcase(s, t);
	return run_suite(s);
}
