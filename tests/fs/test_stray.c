/* SPDX-License-Identifier: Apache-2.0 */
/* Names in TREE that mean nothing there, between a TREE and the `status` of a real gateway; what
 * is one of them is test_check.c's. */
#include "fs/stray.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/fs.h"
#include "fs/node.h"
#include "fs/scratch.h"
#include "fs/stray_pass.h"
#include "fs/sync.h"
#include "fs/tree.h"
#include "gateway/gateway.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p tree/models tree/budgets/alice tree/router tree/cache "
		     "tree/guards/input tree/guards/output state");
	char path[128];
	struct err err = {{0}};
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	snprintf(path, sizeof path, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, path, NULL), 0);
	fs.starting = true;
}

static void teardown(void)
{
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

#define STATUS_HAS(line) ck_assert_msg(strstr(status(), line "\n"), "%s", status())

START_TEST(a_misspelt_file_is_in_status_until_it_is_gone)
{
	temporary_sh("cd tree; mkdir models/big gards; ln -s big models/default;"
		     "echo http://127.0.0.1:9/v1 > models/big/endpoint;"
		     "echo 5 | tee budgets/alice/limt models/big/qualty router/polcy "
		     "cache/treshold foo guards/output/mine.rule > x.md");
	sync_all(&fs, NULL);
	STATUS_HAS("degraded: budgets/alice/limt in TREE: no setting has that name: did you mean "
		   "limit?");
	STATUS_HAS("degraded: models/big/qualty in TREE: no setting has that name: did you mean "
		   "quality?");
	STATUS_HAS("degraded: router/polcy in TREE: no setting has that name: did you mean "
		   "policy?");
	STATUS_HAS("degraded: cache/treshold in TREE: no setting has that name: did you mean "
		   "threshold?");
	STATUS_HAS("degraded: gards in TREE: no directory of TREE has that name: did you mean "
		   "guards?");
	ck_assert_msg(!strstr(status(), "foo"), "%s", status());
	STATUS_HAS("degraded: guards/output/mine.rule in TREE: not in force: files of rules are "
		   "called NAME.rules");
	temporary_sh("cd tree; rmdir gards; rm -r models; rm router/polcy cache/treshold foo "
		     "guards/output/mine.rule; mv budgets/alice/limt budgets/alice/limit");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(what_is_peoples_and_editors_is_no_fault)
{
	temporary_sh("cd tree; touch README NOTES.txt .limit.swp budgets/alice/.limit.swp "
		     "budgets/alice/limit~ 'budgets/alice/#limit#' budgets/alice/4913 "
		     "budgets/alice/limit.bak router/policy.orig guards/input/a.rules~;"
		     "mkdir .git Docs docs scripts systemd keys evals metrics trace sessions;"
		     "touch makefile");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(one_made_this_moment_may_be_on_its_way_to_another_name)
{
	fs.starting = false;
	bool young = false;
	/* Who is slower than the moment has another try. */
	for (int i = 0; i < 100 && !young; i++) {
		temporary_sh("rm -f tree/budgets/alice/limt");
		sync_all(&fs, NULL);
		temporary_sh("echo 5 > tree/budgets/alice/limt");
		young = sync_all(&fs, NULL);
	}
	ck_assert(young);
	ck_assert_str_eq(status(), "ok\n");
	temporary_sh("touch -d '1 minute ago' tree/budgets/alice/limt");
	ck_assert(!sync_all(&fs, NULL));
	STATUS_HAS("degraded: budgets/alice/limt in TREE: no setting has that name: did you mean "
		   "limit?");
	/* One that is told of already is not forgotten for being written again. */
	temporary_sh("echo 6 > tree/budgets/alice/limt");
	sync_all(&fs, NULL);
	ck_assert_ptr_nonnull(strstr(status(), "budgets/alice/limt"));
}
END_TEST

START_TEST(of_very_many_the_first_are_named_and_the_others_counted)
{
	temporary_sh(
		"cd tree/router; for a in a b c d e f g h i j; do for b in a b c d e f g h i j; "
		"do : > stray$a$b; done; done");
	sync_all(&fs, NULL);
	size_t lines = 0;
	for (const char *p = status(); *p; p++)
		lines += *p == '\n';
	ck_assert_uint_eq(lines, STRAY_PASS_MOST + 1);
	STATUS_HAS(
		"degraded: 36 more names in TREE mean nothing there: llmfs --check TREE has all");
	temporary_sh("rm tree/router/stray*");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(one_that_is_written_again_and_again_was_made_when_it_was_made)
{
	struct statx x;
	char path[128];
	fs.starting = false;
	temporary_sh("touch tree/router/polcy");
	snprintf(path, sizeof path, "%s/tree/router/polcy", temporary);
	ck_assert_int_eq(statx(AT_FDCWD, path, 0, STATX_BTIME, &x), 0);
	if (run_suite_skips(!(x.stx_mask & STATX_BTIME), "this filesystem keeps no such time"))
		return;
	usleep(1300000);
	temporary_sh("echo 5 > tree/router/polcy");
	ck_assert(!sync_all(&fs, NULL));
	STATUS_HAS(
		"degraded: router/polcy in TREE: no setting has that name: did you mean policy?");
}
END_TEST

static void put_scratch(const char *dir, const char *name)
{
	struct node at, next, made;
	char path[64], *rest = path, *part;
	snprintf(path, sizeof path, "%s", dir);
	ck_assert_int_eq(node_of_ino(fs.nodes, 1, &at), 0);
	while ((part = strsep(&rest, "/"))) {
		ck_assert_int_eq(node_child(fs.nodes, &at, part, &next), 0);
		node_put(fs.nodes, &at);
		at = next;
	}
	struct scratch *scratch = scratch_new(S_IFREG | 0644, 0, 0);
	ck_assert_int_eq(node_scratch_add(fs.nodes, &at, name, scratch, &made), 0);
	node_put(fs.nodes, &made);
	node_put(fs.nodes, &at);
}

START_TEST(scratch_files_that_stay_are_named_or_counted_and_then_no_pass_is_due)
{
	fs.nodes = nodes_new(fs.gateway, fs.tree);
	temporary_sh("cd tree/router; for a in a b c d e f; do for b in a b c d e f g h i j; "
		     "do : > stray$a$b; done; done; rm strayaa");
	static const char *const slips[][2] = {{"router", "polcy"}, {"guards/input", "mine.rule"},
		{"guards/output", "mine"}, {"guards", "moderatio"}, {"cache", "treshold"},
		{"router", "one"}, {"router", "two"}};
	put_scratch("router", ".policy.swp");
	put_scratch("guards/input", "a.rules~");
	put_scratch("guards/input", "notes.txt");
	sync_all(&fs, NULL);
	ck_assert_int_eq(stray_pass_due_ms(), -1); /* of editors' none is to come */
	for (size_t i = 0; i < sizeof slips / sizeof *slips; i++)
		put_scratch(slips[i][0], slips[i][1]);
	sync_all(&fs, NULL);
	int ms = stray_pass_due_ms();
	ck_assert_int_gt(ms, 0);
	ck_assert_int_le(ms, STRAY_PASS_SETTLED_MS);
	while ((ms = stray_pass_due_ms()) > 0) {
		usleep((useconds_t)ms * 1000);
		sync_all(&fs, NULL);
	}
	ck_assert_int_eq(ms, -1); /* a fault that lasts asks for none */
	STATUS_HAS("degraded: 2 more names in TREE and on the mount mean nothing there: llmfs "
		   "--check TREE has all of TREE's");
	temporary_sh("rm tree/router/stray*");
	sync_all(&fs, NULL);
	STATUS_HAS("degraded: router/polcy on the mount is no setting, and in memory only: did you "
		   "mean policy?");
	STATUS_HAS("degraded: guards/input/mine.rule on the mount is not in force, and in memory "
		   "only: files of rules are called NAME.rules");
	STATUS_HAS("degraded: guards/output/mine on the mount is not in force, and in memory "
		   "only: files of rules are called NAME.rules");
	STATUS_HAS("degraded: guards/moderatio on the mount is no setting, and in memory only: did "
		   "you mean moderation?");
	ck_assert_msg(!strstr(status(), "more names") && !strstr(status(), "swp") &&
			      !strstr(status(), "notes") && !strstr(status(), "rules~"),
		"%s", status());
	fs.nodes = nodes_free(fs.nodes);
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(long_names_with_the_same_beginning_are_told_and_taken_back_each_for_itself)
{
	char name[100];
	memset(name, 'x', sizeof name);
	name[sizeof name - 1] = '\0';
	char command[512];
	snprintf(command, sizeof command,
		"cd tree/budgets; mkdir %.64s; cd %.64s; touch %sa %sb %sc", name, name, name, name,
		name);
	temporary_sh(command);
	sync_all(&fs, NULL);
	size_t lines = 0;
	for (const char *p = status(); *p; p++)
		lines += *p == '\n';
	ck_assert_uint_eq(lines, 3);
	snprintf(command, sizeof command, "rm tree/budgets/%.64s/%sb", name, name);
	temporary_sh(command);
	sync_all(&fs, NULL);
	ck_assert_msg(strstr(status(), "xa in TREE") && strstr(status(), "xc in TREE") &&
			      !strstr(status(), "xb in TREE"),
		"%s", status());
}
END_TEST

START_TEST(what_became_another_fault_has_its_sentence)
{
	temporary_sh("touch tree/router/polcy");
	sync_all(&fs, NULL);
	STATUS_HAS(
		"degraded: router/polcy in TREE: no setting has that name: did you mean policy?");
	temporary_sh("rm tree/router/polcy; mkdir tree/router/polcy");
	sync_all(&fs, NULL);
	STATUS_HAS(
		"degraded: router/polcy in TREE: no directory of TREE has that name: did you mean "
		"policy?");
}
END_TEST

START_TEST(a_directory_that_is_no_tree_at_all_is_not_gone_through)
{
	temporary_sh("cd tree; rm -r *; touch notes; mkdir src");
	sync_all(&fs, NULL);
	ck_assert_str_eq(status(), "ok\n");
}
END_TEST

START_TEST(no_symlink_is_followed)
{
	temporary_sh(
		"mkdir -p other/input other/alice; touch other/input/mine.rule other/moderatio "
		"other/alice/limt; cd tree; rm -r guards budgets;"
		"ln -s ../other guards; ln -s ../other budgets");
	sync_all(&fs, NULL);
	ck_assert_msg(!strstr(status(), "mine.rule") && !strstr(status(), "moderatio ") &&
			      !strstr(status(), "limt "),
		"%s", status());
	temporary_sh("cd tree; rm guards; mkdir guards; ln -s ../../other/input guards/input");
	sync_all(&fs, NULL);
	ck_assert_msg(!strstr(status(), "mine.rule"), "%s", status());
}
END_TEST

START_TEST(a_slip_is_a_letter_or_two_and_what_has_no_more_letters_is_none)
{
	static const struct {
		enum table_place place;
		const char *name, *meant;
	} slips[] = {
		{TABLE_ACCOUNT, "limt", "limit"},
		{TABLE_ACCOUNT, "limits", "limit"},
		{TABLE_ACCOUNT, "ilmit", "limit"},
		{TABLE_ACCOUNT, "imits", "limit"},
		{TABLE_ACCOUNT, "bounds", NULL},
		{TABLE_ACCOUNT, "li", NULL},
		{TABLE_ACCOUNT, "usag", NULL}, /* a view: not to be set */
		{TABLE_ROOT, "model", "models"},
		{TABLE_ROOT, "session", NULL}, /* not TREE's */
		{TABLE_ROOT, "a-name-that-is-longer-than-any-there-is-of-a-file", NULL},
	};
	for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
		const char *meant = stray_meant(slips[i].place, slips[i].name);
		ck_assert_msg(slips[i].meant ? meant && !strcmp(meant, slips[i].meant) : !meant,
			"%s: %s", slips[i].name, meant ? meant : "none");
	}
}
END_TEST

START_TEST(where_something_is_mounted_is_nothing_of_trees)
{
	if (run_suite_skips(geteuid() != 0 || system("mkdir -p /tmp/stray.$PPID && mount -t tmpfs "
						     "none /tmp/stray.$PPID 2>/dev/null") != 0,
		    "only who may mount can try"))
		return;
	(void)!system("umount /tmp/stray.$PPID; rmdir /tmp/stray.$PPID");
	temporary_sh("mkdir tree/gards");
	sync_all(&fs, NULL);
	STATUS_HAS("degraded: gards in TREE: no directory of TREE has that name: did you mean "
		   "guards?");
	temporary_sh("mount -t tmpfs none tree/gards");
	sync_all(&fs, NULL);
	const char *said = status();
	temporary_sh("umount tree/gards");
	ck_assert_str_eq(said, "ok\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/stray");
	TCase *t = tcase_create("stray");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_misspelt_file_is_in_status_until_it_is_gone);
	tcase_add_test(t, what_is_peoples_and_editors_is_no_fault);
	tcase_add_test(t, one_made_this_moment_may_be_on_its_way_to_another_name);
	tcase_add_test(t, of_very_many_the_first_are_named_and_the_others_counted);
	tcase_add_test(t, one_that_is_written_again_and_again_was_made_when_it_was_made);
	tcase_add_test(t, scratch_files_that_stay_are_named_or_counted_and_then_no_pass_is_due);
	tcase_add_test(
		t, long_names_with_the_same_beginning_are_told_and_taken_back_each_for_itself);
	tcase_add_test(t, what_became_another_fault_has_its_sentence);
	tcase_add_test(t, a_directory_that_is_no_tree_at_all_is_not_gone_through);
	tcase_add_test(t, no_symlink_is_followed);
	tcase_add_test(t, a_slip_is_a_letter_or_two_and_what_has_no_more_letters_is_none);
	tcase_add_test(t, where_something_is_mounted_is_nothing_of_trees);
	suite_add_tcase(s, t);
	return run_suite(s);
}
