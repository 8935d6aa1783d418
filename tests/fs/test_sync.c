/* SPDX-License-Identifier: Apache-2.0 */
/* Collections between a TREE and a real gateway. */
#include "fs/sync.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/tree_file.h"

#include "base/clock.h"
#include "gateway/gateway_accounts.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_parts.h"

#include <errno.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;
static const struct collection *const budgets = &collection_budgets;

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p tree/budgets/alice state; echo 5 > tree/budgets/alice/limit");
	char path[128];
	struct err err = {{0}};
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	char tree[128];
	snprintf(tree, sizeof tree, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, tree, NULL), 0);
	sync_all(&fs, NULL);
}

static void teardown(void)
{
	fs.gateway = gateway_free(fs.gateway);
	fs.tree = tree_free(fs.tree);
	temporary_remove();
}

/* "" also where there is no such account. */
static const char *value(const char *name, const char *file)
{
	static struct buf text;
	buf_free(&text);
	struct account *a = gateway_account_find(fs.gateway, name);
	if (a)
		ck_assert_int_eq(account_setting_get(a, file, &text), 0);
	account_put(a);
	return text.data ? text.data : "";
}

static int set(const char *name, const char *file, const char *text)
{
	return sync_setting_set(&fs, budgets, name, file, text, strlen(text), NULL);
}

START_TEST(accounts_in_tree_are_configured_with_their_settings)
{
	ck_assert_str_eq(value("alice", "limit"), "5");
	temporary_sh("mkdir tree/budgets/bob; echo 3 > tree/budgets/bob/requests_per_minute; "
		     "echo 6 > tree/budgets/alice/limit");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("alice", "limit"), "6");
	ck_assert_str_eq(value("bob", "requests_per_minute"), "3");
	temporary_sh("rm tree/budgets/alice/limit; rm -r tree/budgets/bob");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("alice", "limit"), "");
	ck_assert_ptr_null(gateway_account_find(fs.gateway, "bob"));
}
END_TEST

START_TEST(a_bad_value_in_tree_is_reported_and_the_old_one_stays)
{
	struct buf status = {0};
	temporary_sh("echo lots > tree/budgets/alice/limit");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("alice", "limit"), "5");
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_ptr_nonnull(strstr(status.data, "budgets/alice/limit in TREE"));
	buf_clear(&status);
	temporary_sh("rm -r tree/budgets/alice");
	sync_all(&fs, NULL);
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &status), 0);
	ck_assert_str_eq(status.data, "ok\n");
	buf_free(&status);
}
END_TEST

static bool is_degraded(const char *sentence)
{
	struct buf status = {0};
	sync_all(&fs, NULL);
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &status), 0);
	bool is = strstr(status.data, sentence);
	buf_free(&status);
	return is;
}

START_TEST(a_symlink_for_a_directory_is_reported_until_it_is_one)
{
	temporary_sh(
		"mkdir -p tree/models/a; echo http://127.0.0.1:9 > tree/models/a/endpoint;"
		"ln -s alice tree/budgets/bob; ln -s a tree/models/b; ln -s a tree/models/default");
	ck_assert(is_degraded("models/b/ in TREE: a symlink, which is not followed"));
	ck_assert(is_degraded("budgets/bob/ in TREE: a symlink, which is not followed"));
	ck_assert(!is_degraded("models/default"));
	temporary_sh("rm tree/budgets/bob tree/models/b; mkdir tree/models/b");
	ck_assert(!is_degraded("a symlink"));
	temporary_sh("mv tree/models tree/m; ln -s m tree/models");
	ck_assert(is_degraded("models in TREE is not a directory"));
	temporary_sh("rm tree/models; mv tree/m tree/models");
	ck_assert(!is_degraded("is not a directory"));
}
END_TEST

static const char *status(void)
{
	static struct buf text;
	buf_free(&text);
	ck_assert_int_eq(gateway_render(fs.gateway, GATEWAY_STATUS, &text), 0);
	return text.data;
}

/* What is logged by some passes. */
static int lines_of_passes(int n)
{
	char path[128];
	snprintf(path, sizeof path, "%s/log", temporary);
	FILE *file = fopen(path, "w+");
	int before = dup(2), lines = 0;
	ck_assert(file && before >= 0 && dup2(fileno(file), 2) == 2);
	for (int i = 0; i < n; i++)
		sync_all(&fs, NULL);
	ck_assert_int_eq(dup2(before, 2), 2);
	close(before);
	rewind(file);
	for (int c; (c = fgetc(file)) != EOF;)
		lines += c == '\n';
	fclose(file);
	return lines;
}

START_TEST(a_pass_while_default_is_being_replaced_has_nothing_to_say)
{
	temporary_sh("mkdir -p tree/models/a; echo http://127.0.0.1:9 > tree/models/a/endpoint;"
		     "ln -s a tree/models/default; ln -s a tree/models/.default.llmfs-4711");
	ck_assert_int_eq(lines_of_passes(2), 0);
	ck_assert_str_eq(status(), "ok\n");
	temporary_sh("mv -T tree/models/.default.llmfs-4711 tree/models/default");
	ck_assert_int_eq(lines_of_passes(2), 0);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(a_directory_that_becomes_a_symlink_is_reported_from_the_first_pass_on)
{
	temporary_sh("mkdir -p tree/models/a");
	sync_all(&fs, NULL);
	temporary_sh("mv tree/models/a tree/models/b; ln -s b tree/models/a");
	for (int i = 0; i < 3; i++)
		ck_assert(is_degraded("models/a/ in TREE: a symlink, which is not followed"));
	ck_assert_ptr_null(gateway_model_find(fs.gateway, "a"));
	temporary_sh("rm tree/models/a; mv tree/models/b tree/models/a");
	ck_assert(!is_degraded("a symlink"));
}
END_TEST

START_TEST(a_fault_in_tree_is_logged_once_each_time_it_begins)
{
	temporary_sh("ln -s alice tree/budgets/bob; echo lots > tree/budgets/alice/limit");
	ck_assert_int_eq(lines_of_passes(4), 2);
	temporary_sh("rm tree/budgets/bob; echo 5 > tree/budgets/alice/limit");
	ck_assert_int_eq(lines_of_passes(2), 0);
	temporary_sh("ln -s alice tree/budgets/bob");
	ck_assert_int_eq(lines_of_passes(2), 1);
}
END_TEST

START_TEST(models_that_cannot_be_looked_up_stay_and_are_reported)
{
	temporary_sh("mkdir -p tree/models/a");
	sync_all(&fs, NULL);
	if (geteuid() == 0) {
		/* Files in the state come and go. */
		temporary_sh(
			"chown -R 65534:65534 tree; chown 65534:65534 . $(find state -type d)");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	temporary_sh("chmod a-x tree/models");
	ck_assert(is_degraded("models in TREE cannot be read"));
	struct model *a = gateway_model_find(fs.gateway, "a");
	ck_assert_ptr_nonnull(a);
	model_put(a);
	temporary_sh("chmod a+x tree/models");
	ck_assert(!is_degraded("cannot be read"));
	ck_assert_int_eq(seteuid(getuid()), 0);
}
END_TEST

START_TEST(a_setting_that_was_just_truncated_in_tree_is_not_yet_believed)
{
	bool young;
	int left = 10; /* tries: it is so for a moment only */
	do {
		ck_assert_int_eq(set("alice", "limit", "5"), 0);
		uint64_t from = clock_mono_ns();
		temporary_empty("tree/budgets/alice/limit");
		young = sync_all(&fs, NULL);
		ck_assert(young || clock_mono_ns() - from >= TREE_FILE_YOUNG_MS * 1000000ull);
	} while (!young && --left);
	ck_assert(young);
	ck_assert_str_eq(value("alice", "limit"), "5");
	temporary_sh("touch -d '1 minute ago' tree/budgets/alice/limit");
	ck_assert(!sync_all(&fs, NULL));
	ck_assert_str_eq(value("alice", "limit"), "");
}
END_TEST

START_TEST(default_is_always_there_and_loses_its_settings_with_its_directory)
{
	char **names = gateway_account_names(fs.gateway);
	ck_assert(names_has(names, "default"));
	names_free(names);
	ck_assert_int_eq(set("default", "limit", "7"), 0);
	temporary_sh("test $(cat tree/budgets/default/limit) = 7");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("default", "limit"), "7");
	ck_assert_int_eq(sync_remove(&fs, budgets, "default", NULL), -EBUSY);
	temporary_sh("rm -r tree/budgets");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("default", "limit"), "");
	ck_assert_ptr_null(gateway_account_find(fs.gateway, "alice"));
}
END_TEST

START_TEST(a_refused_value_reaches_neither_tree_nor_gateway)
{
	ck_assert_int_eq(set("alice", "limit", "lots"), -EINVAL);
	ck_assert_int_eq(set("nobody", "limit", "1"), -ENOENT);
	temporary_sh("test $(cat tree/budgets/alice/limit) = 5");
	ck_assert_str_eq(value("alice", "limit"), "5");
	ck_assert_int_eq(set("alice", "limit", ""), 0);
	temporary_sh("test ! -e tree/budgets/alice/limit");
	ck_assert_str_eq(value("alice", "limit"), "");
}
END_TEST

START_TEST(an_account_is_made_and_removed_in_both)
{
	ck_assert_int_eq(sync_make(&fs, budgets, "bob", NULL), 0);
	ck_assert_int_eq(sync_make(&fs, budgets, "bob", NULL), -EEXIST);
	ck_assert_int_eq(sync_make(&fs, budgets, "b b", NULL), -EINVAL);
	ck_assert_int_eq(set("bob", "members", "alice\ncarol"), 0);
	temporary_sh("test \"$(cat tree/budgets/bob/members)\" = \"$(printf 'alice\\ncarol')\"");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value("bob", "members"), "alice\ncarol");
	temporary_sh("touch tree/budgets/bob/notes");
	ck_assert_int_eq(sync_remove(&fs, budgets, "bob", NULL), -ENOTEMPTY);
	temporary_sh("rm tree/budgets/bob/notes");
	ck_assert_int_eq(sync_remove(&fs, budgets, "bob", NULL), 0);
	temporary_sh("test ! -e tree/budgets/bob");
	ck_assert_ptr_null(gateway_account_find(fs.gateway, "bob"));
}
END_TEST

START_TEST(prices_of_a_model_in_tree_are_in_force)
{
	struct buf text = {0};
	temporary_sh("mkdir -p tree/models/m; echo 0.25 > tree/models/m/price_input");
	sync_all(&fs, NULL);
	struct model *m = gateway_model_find(fs.gateway, "m");
	ck_assert_ptr_nonnull(m);
	ck_assert_int_eq(model_setting_get(m, "price_input", &text), 0);
	ck_assert_str_eq(text.data, "0.25");
	buf_free(&text);
	model_put(m);
}
END_TEST

static const char *part(enum gateway_part which, const char *file)
{
	static struct buf text;
	buf_free(&text);
	ck_assert_int_eq(gateway_part_setting_get(fs.gateway, which, file, &text), 0);
	return text.data ? text.data : "";
}

START_TEST(settings_of_router_and_cache_in_tree_are_in_force_and_end_with_their_file)
{
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "86400");
	temporary_sh("mkdir tree/cache tree/router; echo 60 > tree/cache/ttl; "
		     "echo cost > tree/router/policy");
	sync_all(&fs, NULL);
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "60");
	ck_assert_str_eq(part(GATEWAY_ROUTER, "policy"), "cost");
	temporary_sh("rm tree/cache/ttl; rm -r tree/router");
	sync_all(&fs, NULL);
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "86400");
	ck_assert_str_eq(part(GATEWAY_ROUTER, "policy"), "balanced");
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(a_setting_of_the_cache_is_set_in_both_and_a_refused_one_in_neither)
{
	const struct collection *c = &collection_cache;
	ck_assert_int_eq(sync_setting_set(&fs, c, "", "ttl", "60", 2, NULL), 0);
	temporary_sh("test $(cat tree/cache/ttl) = 60");
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "60");
	ck_assert_int_eq(sync_setting_set(&fs, c, "", "ttl", "soon", 4, NULL), -EINVAL);
	temporary_sh("test $(cat tree/cache/ttl) = 60");
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "60");
	ck_assert_int_eq(sync_setting_set(&fs, c, "", "ttl", "", 0, NULL), 0);
	temporary_sh("test ! -e tree/cache/ttl");
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "86400");
}
END_TEST

START_TEST(a_fault_of_the_cache_is_reported_and_the_old_value_stays_until_it_ends)
{
	temporary_sh("mkdir tree/cache; echo 60 > tree/cache/ttl");
	sync_all(&fs, NULL);
	temporary_sh("echo soon > tree/cache/ttl");
	sync_all(&fs, NULL);
	ck_assert_ptr_nonnull(strstr(status(), "cache/ttl in TREE"));
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "60");
	temporary_sh("echo 60 > tree/cache/ttl");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
	ck_assert_str_eq(part(GATEWAY_CACHE, "ttl"), "60");
}
END_TEST

START_TEST(virtual_models_are_not_made_or_removed_and_tree_does_not_touch_them)
{
	const struct collection *c = &collection_models;
	ck_assert_int_eq(sync_make(&fs, c, "auto", NULL), -EEXIST);
	ck_assert_int_eq(sync_remove(&fs, c, "cascade", NULL), -EPERM);
	temporary_sh("mkdir -p tree/models/auto; echo /x > tree/models/auto/path; "
		     "echo env:A > tree/models/auto/key; ln -s auto tree/models/default");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
	ck_assert_int_eq(sync_remove(&fs, c, "auto", NULL), -EPERM);
	temporary_sh("test -e tree/models/auto/path && test ! -e state/keys/auto");
	struct model *m = gateway_model_find(fs.gateway, "default");
	ck_assert_ptr_nonnull(m);
	ck_assert(model_is_virtual(m));
	model_put(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/sync");
	TCase *t = tcase_create("sync");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, accounts_in_tree_are_configured_with_their_settings);
	tcase_add_test(t, a_bad_value_in_tree_is_reported_and_the_old_one_stays);
	tcase_add_test(t, a_symlink_for_a_directory_is_reported_until_it_is_one);
	tcase_add_test(t, a_pass_while_default_is_being_replaced_has_nothing_to_say);
	tcase_add_test(t, a_directory_that_becomes_a_symlink_is_reported_from_the_first_pass_on);
	tcase_add_test(t, a_fault_in_tree_is_logged_once_each_time_it_begins);
	tcase_add_test(t, models_that_cannot_be_looked_up_stay_and_are_reported);
	tcase_add_test(t, a_setting_that_was_just_truncated_in_tree_is_not_yet_believed);
	tcase_add_test(t, default_is_always_there_and_loses_its_settings_with_its_directory);
	tcase_add_test(t, a_refused_value_reaches_neither_tree_nor_gateway);
	tcase_add_test(t, an_account_is_made_and_removed_in_both);
	tcase_add_test(t, prices_of_a_model_in_tree_are_in_force);
	tcase_add_test(
		t, settings_of_router_and_cache_in_tree_are_in_force_and_end_with_their_file);
	tcase_add_test(t, a_setting_of_the_cache_is_set_in_both_and_a_refused_one_in_neither);
	tcase_add_test(t, a_fault_of_the_cache_is_reported_and_the_old_value_stays_until_it_ends);
	tcase_add_test(t, virtual_models_are_not_made_or_removed_and_tree_does_not_touch_them);
	suite_add_tcase(s, t);
	return run_suite(s);
}
