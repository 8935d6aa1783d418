/* SPDX-License-Identifier: Apache-2.0 */
/* What L2 keeps survives ends and kills whole, or not at all, and has room for the newest. */
#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/cache_place.h"
#include "tests/gateway/disk_fixture.h"
#include "tests/run_suite.h"

/* ---- ends and kills ---- */

START_TEST(what_was_stored_comes_back_after_a_restart)
{
	cache_fixture_open(&disk_f);
	disk_store(0, 200);
	cache_fixture_reopen(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), 200);
	ck_assert_int_eq(disk_stat("entries"), 0);
	ck_assert_int_eq(disk_served(0, 200), 200);
	ck_assert_int_eq(disk_stat("hits_l2"), 200);
	ck_assert_int_eq(disk_served(0, 200), 200);
	ck_assert_int_eq(disk_stat("hits_l1"), 200);
	disk_assert_well();
}
END_TEST

START_TEST(a_request_right_after_the_start_waits_for_the_store_to_open)
{
	cache_fixture_open(&disk_f);
	disk_store(0, 1);
	cache_fixture_close(&disk_f);
	cache_fixture_open(&disk_f);
	ck_assert_int_eq(disk_served(0, 1), 1);
}
END_TEST

/* Stores, and looks for, and flushes without end. */
static void store_for_ever(int begun)
{
	ssize_t n = write(begun, "", 1);
	(void)n;
	for (int i = 0;; i = (i + 1) % 500) {
		char room[64];
		struct question q = disk_question(i, room);
		struct cache_ticket *t;
		char *text = disk_answer(i);
		struct cache_found found = cache_fixture_ask(&disk_f, &q, &t);
		if (found.outcome == CACHE_HIT && strcmp(found.text->bytes, text))
			_exit(9);
		if (found.outcome == CACHE_MISS)
			cache_fixture_land(&disk_f, t, text);
		else
			cache_fixture_drop(&disk_f, t);
		text_put(found.text);
		free(text);
		if (i % 50 == 49)
			cache_fixture_ctl(&disk_f, i % 100 == 99 ? "flush ada" : "flush bob");
	}
}

static void open_at(const char *path)
{
	cache_fixture_make(&disk_f);
	snprintf(disk_f.path, sizeof disk_f.path, "%s", path);
	cache_fixture_open(&disk_f);
}

/* Kills a process that does that, `us` after it began. */
static void kill_while_storing(const char *path, unsigned us)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		open_at(path);
		rmdir(disk_f.dir);
		store_for_ever(ends[1]);
	}
	char begun;
	ck_assert_int_eq(read(ends[0], &begun, 1), 1);
	usleep(us);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	int status;
	waitpid(child, &status, 0);
	ck_assert(WIFSIGNALED(status)); /* not by itself, with 9 */
	close(ends[0]);
	close(ends[1]);
}

/* In a process of its own: those that it left are whole, and nothing is said. Whether there were
 * any. */
static bool check_what_is_left(const char *path)
{
	int status;
	pid_t child = fork();
	if (!child) {
		open_at(path);
		cache_fixture_settle(&disk_f);
		int n = disk_served(0, 500);
		ck_assert_int_eq(disk_stat("disk_damaged"), 0);
		disk_assert_well();
		cache_fixture_end(&disk_f);
		_exit(n ? 41 : 40);
	}
	waitpid(child, &status, 0);
	ck_assert(WIFEXITED(status));
	ck_assert(WEXITSTATUS(status) == 40 || WEXITSTATUS(status) == 41);
	return WEXITSTATUS(status) == 41;
}

/* Without the fixture: a process with threads is no good to fork. */
START_TEST(a_kill_while_storing_leaves_whole_answers_or_none)
{
	char dir[] = "/tmp/llmfs-cache-XXXXXX", path[64], command[64];
	int seen = 0;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/cache", dir);
	for (unsigned i = 0; i < 12; i++) {
		kill_while_storing(path, 2000 + i * 7001);
		seen += check_what_is_left(path);
	}
	/* A slow machine has stored nothing by then. */
	for (unsigned us = 100000; !seen && us < 20000000; us *= 2) {
		kill_while_storing(path, us);
		seen += check_what_is_left(path);
	}
	ck_assert_int_gt(seen, 0);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(a_flush_outlives_a_kill_before_anything_is_deleted)
{
	struct dirent *e;
	int n = 0;
	cache_fixture_open(&disk_f);
	disk_store(0, 40);
	cache_fixture_settle(&disk_f);
	cache_fixture_close(&disk_f);
	/* What a killed one leaves behind: the file that says so, and every entry. */
	ck_assert_int_eq(cache_place_flush(disk_f.path, "bob", clock_real_ns()), 0);
	cache_fixture_open(&disk_f);
	cache_fixture_settle(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), 20);
	ck_assert_int_eq(disk_served(0, 40), 20);
	DIR *d = opendir(disk_f.path);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "flush-", 6);
	closedir(d);
	ck_assert_int_eq(n, 0);
	cache_fixture_reopen(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), 20);
}
END_TEST

START_TEST(any_number_of_flushes_delays_a_request_no_more_than_one)
{
	cache_fixture_open(&disk_f);
	disk_store(0, 10);
	cache_fixture_settle(&disk_f);
	for (int i = 0; i < 3000; i++)
		cache_fixture_ctl(&disk_f, i % 3 ? "flush" : "flush bob");
	uint64_t begun_ns = clock_mono_ns();
	cache_fixture_settle(&disk_f);
	ck_assert_uint_lt(clock_mono_ns() - begun_ns, 20000000000u);
	disk_assert_works();
	ck_assert_int_eq(disk_served(0, 10), 0);
	DIR *d = opendir(disk_f.path);
	for (struct dirent *e; (e = readdir(d));)
		ck_assert(strncmp(e->d_name, "flush-", 6) != 0);
	closedir(d);
}
END_TEST

/* ---- room ---- */

START_TEST(the_store_keeps_to_its_ceilings)
{
	cache_fixture_open(&disk_f);
	cache_fixture_set(&disk_f, "max_entries", "50");
	disk_store(0, 120);
	cache_fixture_settle(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), 50);
	ck_assert_int_eq(disk_stat("evicted_disk"), 70);
	cache_fixture_forget_memory(&disk_f);
	ck_assert_int_eq(disk_served(0, 70), 0);
	ck_assert_int_eq(disk_served(70, 120), 50);
	cache_fixture_set(&disk_f, "max_disk", "30000");
	ck_assert_int_le(disk_stat("disk_bytes"), 30000);
	int n = disk_stat("disk_entries");
	ck_assert(n > 5 && n < 50);
	cache_fixture_reopen(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), n); /* it was deleted, too */
}
END_TEST

START_TEST(what_was_used_last_stays_in_the_store)
{
	cache_fixture_open(&disk_f);
	cache_fixture_set(&disk_f, "max_memory", "0");
	cache_fixture_set(&disk_f, "max_entries", "50");
	for (int i = 0; i < 100; i++) {
		disk_store(i, i + 1);
		cache_fixture_settle(&disk_f);
		ck_assert_int_eq(disk_served(0, 1), 1);
	}
	ck_assert_int_eq(disk_served(1, 51), 0);
}
END_TEST

START_TEST(an_answer_stored_again_takes_the_place_of_the_old_one)
{
	char room[64];
	struct question q = disk_question(1, room);
	cache_fixture_open(&disk_f);
	cache_fixture_store(&disk_f, &q, "first");
	cache_fixture_set(&disk_f, "ttl", "1");
	usleep(2100000);
	cache_fixture_store(&disk_f, &q, "second");
	cache_fixture_set(&disk_f, "ttl", "");
	cache_fixture_reopen(&disk_f);
	ck_assert_int_eq(disk_stat("disk_entries"), 1);
	ck_assert_int_eq(cache_fixture_hit(&disk_f, &q, "second"), CACHE_L2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_disk");
	TCase *t = tcase_create("cache_disk");
	tcase_add_checked_fixture(t, disk_open, disk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_was_stored_comes_back_after_a_restart);
	tcase_add_test(t, a_request_right_after_the_start_waits_for_the_store_to_open);
	tcase_add_test(t, a_flush_outlives_a_kill_before_anything_is_deleted);
	tcase_add_test(t, any_number_of_flushes_delays_a_request_no_more_than_one);
	tcase_add_test(t, the_store_keeps_to_its_ceilings);
	tcase_add_test(t, what_was_used_last_stays_in_the_store);
	tcase_add_test(t, an_answer_stored_again_takes_the_place_of_the_old_one);
	suite_add_tcase(suite, t);
	TCase *bare = tcase_create("kills");
	tcase_set_timeout(bare, 120);
	tcase_add_test(bare, a_kill_while_storing_leaves_whole_answers_or_none);
	suite_add_tcase(suite, bare);
	return run_suite(suite);
}
