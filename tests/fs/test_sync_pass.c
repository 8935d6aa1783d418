/* SPDX-License-Identifier: Apache-2.0 */
/* Passes beside changes through the mount: what TREE said before one of them, and whose turn it is.
 */
#include "fs/sync_pass.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/guards.h"
#include "fs/sync.h"
#include "fs/tree.h"

#include "gateway/gateway_accounts.h"
#include "gateway/gateway_guards.h"
#include "gateway/gateway_models.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static struct fs fs;
static const struct collection *const budgets = &collection_budgets, *const models =
									     &collection_models;

static void setup(void)
{
	char path[128];
	struct err err = {{0}};
	temporary_make();
	temporary_sh(
		"mkdir -p tree/budgets/alice tree/models/a tree/models/b tree/router tree/cache "
		"state; echo 5 > tree/budgets/alice/limit; ln -s a tree/models/default;"
		"echo 1 > tree/models/a/price_input; echo 0.5 > tree/router/threshold;"
		"echo 60 > tree/cache/ttl");
	snprintf(path, sizeof path, "%s/state", temporary);
	struct gateway_options o = {.state_dir = path};
	ck_assert_msg(gateway_open(&fs.gateway, &o, &err) == 0, "%s", err.text);
	snprintf(path, sizeof path, "%s/tree", temporary);
	ck_assert_int_eq(tree_open(&fs.tree, path, NULL), 0);
	sync_all(&fs, NULL);
}

static void teardown(void)
{
	fs.gateway = gateway_free(fs.gateway);
	fs.tree = tree_free(fs.tree);
	temporary_remove();
}

static int set(const struct collection *c, const char *name, const char *file, const char *text)
{
	return sync_setting_set(&fs, c, name, file, text, strlen(text), NULL);
}

/* What is in force. */
static const char *value(const struct collection *c, const char *name, const char *file)
{
	static struct buf text;
	buf_free(&text);
	void *it = c->find(fs.gateway, name);
	if (it) {
		ck_assert_int_eq(c->get(it, file, &text), 0);
		c->put(it);
	}
	return text.data ? text.data : "";
}

static bool is_there(const struct collection *c, const char *name)
{
	void *it = c->find(fs.gateway, name);
	bool is = it && c->is_configured(it);
	if (it)
		c->put(it);
	return is;
}

static int follow_setting(const struct collection *c, const char *name, const char *file,
	struct sync_pass_sight *sight)
{
	void *it = c->find(fs.gateway, name);
	int r = sync_pass_follow_setting(&fs, c, it, file, false, sight);
	c->put(it);
	buf_free(&sight->text);
	return r;
}

/* ---- what is old when it is known ---- */

START_TEST(a_text_read_before_a_change_does_not_come_into_force_after_it)
{
	static const struct {
		const struct collection *c;
		const char *name, *file, *before, *after;
	} settings[] = {
		{&collection_budgets, "alice", "limit", "5", "7"},
		{&collection_models, "a", "price_input", "1", "2"},
		{&collection_router, "", "threshold", "0.5", "0.7"},
		{&collection_cache, "", "ttl", "60", "70"},
	};
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const struct collection *c = settings[i].c;
		const char *name = settings[i].name, *file = settings[i].file;
		struct sync_pass_sight sight;
		sync_pass_look_setting(&fs, c, name, file, &sight);
		ck_assert_str_eq(sight.text.data, settings[i].before);
		ck_assert_int_eq(set(c, name, file, settings[i].after), 0);
		ck_assert_int_eq(follow_setting(c, name, file, &sight), 1);
		ck_assert_str_eq(value(c, name, file), settings[i].after);
		/* Nor after a reset. */
		sync_pass_look_setting(&fs, c, name, file, &sight);
		ck_assert_int_eq(set(c, name, file, ""), 0);
		ck_assert_int_eq(follow_setting(c, name, file, &sight), 1);
		ck_assert_str_ne(value(c, name, file), settings[i].after);
		sync_all(&fs, NULL);
		ck_assert_str_ne(value(c, name, file), settings[i].after);
	}
}
END_TEST

START_TEST(a_fault_read_before_a_change_says_nothing_of_what_is_set)
{
	struct sync_pass_sight sight;
	const struct collection *cache = &collection_cache;
	temporary_sh("rm tree/cache/ttl; mkdir tree/cache/ttl");
	sync_pass_look_setting(&fs, cache, "", "ttl", &sight);
	ck_assert_int_eq(sight.r, -EINVAL);
	temporary_sh("rmdir tree/cache/ttl");
	ck_assert_int_eq(set(cache, "", "ttl", "70"), 0);
	ck_assert_int_eq(follow_setting(cache, "", "ttl", &sight), 1);
	ck_assert_str_eq(value(cache, "", "ttl"), "70");
}
END_TEST

START_TEST(an_edit_of_tree_is_taken_also_after_a_change)
{
	struct sync_pass_sight sight;
	ck_assert_int_eq(set(budgets, "alice", "limit", "7"), 0);
	temporary_sh("echo 9 > tree/budgets/alice/limit");
	sync_pass_look_setting(&fs, budgets, "alice", "limit", &sight);
	/* Of another one. */
	ck_assert_int_eq(set(models, "a", "price_input", "2"), 0);
	ck_assert_int_eq(follow_setting(budgets, "alice", "limit", &sight), 0);
	ck_assert_str_eq(value(budgets, "alice", "limit"), "9");
}
END_TEST

START_TEST(one_that_was_there_before_its_removal_is_not_brought_back)
{
	struct sync_pass_sight sight;
	sync_pass_look(&fs, budgets, "alice", &sight);
	ck_assert_int_eq(sight.r, 1);
	ck_assert_int_eq(sync_remove(&fs, budgets, "alice", NULL), 0);
	ck_assert_int_eq(sync_pass_follow(&fs, budgets, "alice", &sight), 1);
	ck_assert(!is_there(budgets, "alice"));
	sync_pass_look(&fs, models, "b", &sight);
	ck_assert_int_eq(sync_remove(&fs, models, "b", NULL), 0);
	ck_assert_int_eq(sync_pass_follow(&fs, models, "b", &sight), 1);
	ck_assert(!is_there(models, "b"));
}
END_TEST

START_TEST(one_that_was_not_there_before_it_was_made_is_not_removed)
{
	struct sync_pass_sight sight;
	sync_pass_look(&fs, budgets, "bob", &sight);
	ck_assert_int_eq(sight.r, 0);
	ck_assert_int_eq(sync_make(&fs, budgets, "bob", NULL), 0);
	ck_assert_int_eq(sync_pass_follow(&fs, budgets, "bob", &sight), 1);
	ck_assert(is_there(budgets, "bob"));
	sync_pass_look(&fs, models, "c", &sight);
	ck_assert_int_eq(sync_make(&fs, models, "c", NULL), 0);
	ck_assert_int_eq(sync_pass_follow(&fs, models, "c", &sight), 1);
	ck_assert(is_there(models, "c"));
	sync_all(&fs, NULL);
	ck_assert(is_there(budgets, "bob") && is_there(models, "c"));
}
END_TEST

START_TEST(of_one_that_has_gone_nothing_is_set_nor_said)
{
	struct sync_pass_sight sight;
	void *it = budgets->find(fs.gateway, "alice");
	ck_assert_int_eq(sync_remove(&fs, budgets, "alice", NULL), 0);
	sync_pass_look_setting(&fs, budgets, "alice", "window", &sight);
	ck_assert_int_eq(sync_pass_follow_setting(&fs, budgets, it, "window", true, &sight), 0);
	buf_free(&sight.text);
	budgets->put(it);
}
END_TEST

START_TEST(a_link_read_before_it_was_turned_does_not_turn_back)
{
	struct sync_pass_sight sight;
	sync_pass_look_default(&fs, &sight);
	ck_assert_str_eq(sight.text.data, "a");
	ck_assert_int_eq(sync_default_set(&fs, "b", NULL), 0);
	ck_assert_int_eq(sync_pass_follow_default(&fs, &sight), 1);
	ck_assert(sync_is_default(&fs, "b"));
	buf_free(&sight.text);
}
END_TEST

START_TEST(a_model_that_has_gone_goes_also_where_default_points_to_it)
{
	temporary_sh("rm -r tree/models/a");
	sync_all(&fs, NULL);
	ck_assert(!is_there(models, "a"));
	ck_assert(sync_is_default(&fs, "a"));
	ck_assert_int_eq(sync_make(&fs, models, "a", NULL), 0);
	ck_assert_int_eq(sync_remove(&fs, models, "a", NULL), -EBUSY);
	ck_assert(is_there(models, "a"));
}
END_TEST

/* ---- in its turn ---- */

static pthread_t beside;
static bool beside_joined;

static void *change_to_nine(void *arg)
{
	ck_assert_int_eq(set(budgets, "alice", "limit", "9"), 0);
	return NULL;
}

/* Where the gateway is about to be told of a text, somebody else begins a change, and has some time
 * to come through with it. */
static int set_with_another_beside(
	void *it, const char *file, const char *text, size_t len, struct err *err)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 200000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	ck_assert_int_eq(pthread_create(&beside, NULL, change_to_nine, NULL), 0);
	beside_joined = pthread_timedjoin_np(beside, NULL, &until) == 0;
	return budgets->set(it, file, text, len, err);
}

static void assert_nine_in_both(void)
{
	ck_assert(!beside_joined);
	pthread_join(beside, NULL);
	ck_assert_str_eq(value(budgets, "alice", "limit"), "9");
	temporary_sh("test $(cat tree/budgets/alice/limit) = 9");
}

START_TEST(no_change_comes_between_what_a_pass_knows_and_what_it_sets)
{
	struct collection slow = collection_budgets;
	struct sync_pass_sight sight;
	slow.set = set_with_another_beside;
	temporary_sh("echo 6 > tree/budgets/alice/limit");
	sync_pass_look_setting(&fs, &slow, "alice", "limit", &sight);
	ck_assert_int_eq(follow_setting(&slow, "alice", "limit", &sight), 0);
	assert_nine_in_both();
}
END_TEST

START_TEST(of_two_changes_at_once_tree_and_gateway_have_the_same)
{
	struct collection slow = collection_budgets;
	slow.set = set_with_another_beside;
	ck_assert_int_eq(set(&slow, "alice", "limit", "7"), 0);
	assert_nine_in_both();
}
END_TEST

static int check_while_it_is_replaced(
	const char *file, const char *text, size_t len, struct err *err)
{
	ck_assert_int_eq(sync_remove(&fs, models, "b", NULL), 0);
	ck_assert_int_eq(sync_make(&fs, models, "b", NULL), 0);
	return models->check(file, text, len, err);
}

START_TEST(what_one_that_has_gone_was_to_be_told_its_successor_is_not)
{
	struct collection replaced = collection_models;
	replaced.check = check_while_it_is_replaced;
	ck_assert_int_eq(set(&replaced, "b", "price_input", "3"), -ENOENT);
	ck_assert_str_eq(value(models, "b", "price_input"), "");
	temporary_sh("test -z \"$(ls -A tree/models/b)\"");
}
END_TEST

/* ---- what fails ---- */

START_TEST(what_tree_cannot_store_the_gateway_is_not_told)
{
	temporary_sh("rm tree/budgets/alice/limit; mkdir tree/budgets/alice/limit");
	ck_assert_int_eq(set(budgets, "alice", "limit", "7"), -EISDIR);
	ck_assert_str_eq(value(budgets, "alice", "limit"), "5");
	temporary_sh("rm -r tree/budgets/alice");
	ck_assert_int_eq(set(budgets, "alice", "limit", "7"), -ENOENT);
	ck_assert_str_eq(value(budgets, "alice", "limit"), "5");
}
END_TEST

START_TEST(what_the_gateway_refuses_tree_is_given_back)
{
	ck_assert_int_eq(set(models, "a", "fallback", "b"), 0);
	ck_assert_int_eq(set(models, "a", "fallback", "a"), -EINVAL); /* itself */
	temporary_sh("test $(cat tree/models/a/fallback) = b");
	ck_assert_str_eq(value(models, "a", "fallback"), "b");
}
END_TEST

START_TEST(one_whose_directory_may_not_be_removed_keeps_its_limits)
{
	bool is_root = geteuid() == 0;
	temporary_sh("chmod 777 tree/budgets/alice; chmod 555 tree/budgets; chmod a+x .");
	if (is_root)
		ck_assert_int_eq(seteuid(65534), 0);
	ck_assert_int_eq(sync_remove(&fs, budgets, "alice", NULL), -EACCES);
	if (is_root)
		ck_assert_int_eq(seteuid(0), 0);
	temporary_sh("chmod 755 tree/budgets tree/budgets/alice");
	sync_all(&fs, NULL);
	ck_assert_str_eq(value(budgets, "alice", "limit"), "5");
}
END_TEST

static bool is_never(void *it)
{
	return false;
}

static int set_no_requests(
	void *it, const char *file, const char *text, size_t len, struct err *err)
{
	return strcmp(file, "requests_per_day") ? budgets->set(it, file, text, len, err) : -ENOMEM;
}

START_TEST(who_cannot_be_given_all_limits_of_default_is_given_none_of_its_own)
{
	struct collection failing = collection_budgets;
	failing.is_configured = is_never;
	failing.set = set_no_requests;
	ck_assert_int_eq(set(budgets, "default", "limit", "3"), 0);
	ck_assert_int_eq(set(budgets, "default", "requests_per_day", "4"), 0);
	temporary_sh("rm -r tree/budgets/alice");
	ck_assert_int_eq(set(&failing, "alice", "window", "day"), -ENOMEM);
	temporary_sh("test ! -e tree/budgets/alice");
	ck_assert(!is_there(budgets, "alice"));
}
END_TEST

START_TEST(who_cannot_be_given_its_first_limit_follows_default_still)
{
	struct collection failing = collection_budgets;
	failing.is_configured = is_never;
	failing.set = set_no_requests;
	temporary_sh("rm -r tree/budgets/alice");
	ck_assert_int_eq(set(&failing, "alice", "requests_per_day", "4"), -ENOMEM);
	temporary_sh("test ! -e tree/budgets/alice");
	ck_assert(!is_there(budgets, "alice"));
}
END_TEST

/* ---- changes without end ---- */

static void wait_in_its_turn(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static int set_slowly(void *it, const char *file, const char *text, size_t len, struct err *err)
{
	wait_in_its_turn();
	return budgets->set(it, file, text, len, err);
}

static int still(const void *arg)
{
	wait_in_its_turn();
	return 0;
}

static _Atomic bool stop;

static void *change_others_without_end(void *arg)
{
	struct collection slow = collection_budgets;
	slow.set = set_slowly;
	while (!stop) {
		set(&slow, "alice", "requests_per_day", "4");
		guards_save(&fs, "input/a.rules", "warn a /a/\n", 11, still, NULL);
	}
	return NULL;
}

START_TEST(changes_without_end_keep_no_edit_of_tree_from_coming_into_force)
{
	pthread_t changers[4];
	char gone[] = "input/c.rules", *deleted[] = {gone, NULL};
	stop = false;
	temporary_sh("mkdir -p tree/guards/input; echo 'warn c /c/' > tree/guards/input/c.rules");
	sync_all(&fs, NULL);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(
			pthread_create(&changers[i], NULL, change_others_without_end, NULL), 0);
	temporary_sh("sleep 0.1; echo 9 > tree/budgets/alice/limit; rm tree/guards/input/c.rules;"
		     "echo 'warn b /b/' > tree/guards/input/b.rules");
	sync_all(&fs, deleted);
	bool is = strcmp(value(budgets, "alice", "limit"), "9") == 0;
	bool has_rules = gateway_guard_has_rules(fs.gateway, "input/b.rules") &&
			 !gateway_guard_has_rules(fs.gateway, "input/c.rules");
	stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(changers[i], NULL);
	ck_assert(is && has_rules);
}
END_TEST

START_TEST(where_default_points_to_stays_while_tree_cannot_say)
{
	struct sync_pass_sight sight;
	sync_pass_look_default(&fs, &sight);
	buf_free(&sight.text);
	sight.r = -EIO;
	ck_assert_int_eq(sync_pass_follow_default(&fs, &sight), 0);
	ck_assert(sync_is_default(&fs, "a"));
}
END_TEST

static void *write_again_and_again(void *arg)
{
	while (!stop)
		set(budgets, "bob", "limit", "1"); /* there, or not there */
	return NULL;
}

START_TEST(one_is_removed_while_others_write_to_it)
{
	pthread_t writers[2];
	stop = false;
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&writers[i], NULL, write_again_and_again, NULL), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(sync_make(&fs, budgets, "bob", NULL), 0);
		while (i % 2 && !*value(budgets, "bob", "limit"))
			;
		ck_assert_int_eq(sync_remove(&fs, budgets, "bob", NULL), 0);
		ck_assert(!is_there(budgets, "bob"));
	}
	stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(writers[i], NULL);
	temporary_sh("test ! -e tree/budgets/bob");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/sync_pass");
	TCase *t = tcase_create("sync_pass");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_text_read_before_a_change_does_not_come_into_force_after_it);
	tcase_add_test(t, a_fault_read_before_a_change_says_nothing_of_what_is_set);
	tcase_add_test(t, an_edit_of_tree_is_taken_also_after_a_change);
	tcase_add_test(t, one_that_was_there_before_its_removal_is_not_brought_back);
	tcase_add_test(t, one_that_was_not_there_before_it_was_made_is_not_removed);
	tcase_add_test(t, of_one_that_has_gone_nothing_is_set_nor_said);
	tcase_add_test(t, a_link_read_before_it_was_turned_does_not_turn_back);
	tcase_add_test(t, a_model_that_has_gone_goes_also_where_default_points_to_it);
	tcase_add_test(t, no_change_comes_between_what_a_pass_knows_and_what_it_sets);
	tcase_add_test(t, of_two_changes_at_once_tree_and_gateway_have_the_same);
	tcase_add_test(t, what_one_that_has_gone_was_to_be_told_its_successor_is_not);
	tcase_add_test(t, what_tree_cannot_store_the_gateway_is_not_told);
	tcase_add_test(t, what_the_gateway_refuses_tree_is_given_back);
	tcase_add_test(t, one_whose_directory_may_not_be_removed_keeps_its_limits);
	tcase_add_test(t, who_cannot_be_given_all_limits_of_default_is_given_none_of_its_own);
	tcase_add_test(t, who_cannot_be_given_its_first_limit_follows_default_still);
	tcase_add_test(t, changes_without_end_keep_no_edit_of_tree_from_coming_into_force);
	tcase_add_test(t, where_default_points_to_stays_while_tree_cannot_say);
	tcase_add_test(t, one_is_removed_while_others_write_to_it);
	suite_add_tcase(s, t);
	return run_suite(s);
}
