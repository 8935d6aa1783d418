/* SPDX-License-Identifier: Apache-2.0 */
/* The store and its disk: when it has what was queued, and what is when it is full or does not
 * answer. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/store.h"
#include "tests/gateway/store_fixture.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

/* Of the database's log: how often the disk was waited for, by the store's thread and by others,
 * and when the former did last. */
static atomic_uint syncs, others_syncs;
static _Atomic(uint64_t) synced_ns;

/* In front of the C library's, for LevelDB. */
__attribute__((visibility("default"))) int fdatasync(int fd)
{
	char name[64], path[256];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, sizeof path);
	bool is_log = n > 4 && !memcmp(path + n - 4, ".log", 4);
	int r = (int)syscall(SYS_fdatasync, fd);
	pthread_getname_np(pthread_self(), name, sizeof name);
	if (is_log && !strcmp(name, "store")) {
		synced_ns = clock_mono_ns();
		syncs++;
	} else if (is_log) {
		others_syncs++;
	}
	return r;
}

static void await_sync(unsigned before)
{
	for (int i = 0; i < 30000 && syncs == before; i++)
		usleep(1000);
	ck_assert_uint_ne(syncs, before);
}

/* The time from the moment when the first of two changes is queued until the disk has both. The
 * second one, 0.8 s later, is written at once, as there is no journal. */
static uint64_t synced_after(void)
{
	char path[sizeof store_fixture_dir + 16];
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	unsigned before = syncs;
	uint64_t since_ns = clock_mono_ns();
	store_put_later(s, "s/a", "first", 5);
	usleep(800000);
	store_put(s, "s/b", "second", 6);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	await_sync(before);
	uint64_t ns = synced_ns - since_ns;
	store_free(s);
	return ns;
}

START_TEST(a_power_cut_costs_a_second_of_what_was_queued_not_of_what_was_written)
{
	uint64_t ns = synced_after();
	/* If the machine has any time for its thread. */
	for (int i = 0; i < 8 && ns > 1600000000; i++) {
		store_fixture_teardown();
		store_fixture_setup();
		ns = synced_after();
	}
	ck_assert_uint_lt(ns, 1600000000);
}
END_TEST

START_TEST(what_the_journal_has_is_on_the_disk_soon)
{
	struct store *s = store_fixture_open(store_fixture_dir);
	unsigned before = syncs;
	usleep(50000); /* the thread sleeps: nobody else would wake it */
	store_put(s, "s/a", "kept", 4);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	await_sync(before);
	store_free(s);
}
END_TEST

START_TEST(a_group_that_was_waited_for_is_on_the_disk_soon_after_its_end)
{
	struct store *s = store_fixture_open(store_fixture_dir);
	unsigned before = syncs;
	usleep(50000);
	store_put(s, "s/a", "1", 1);
	store_begin(s);
	store_put(s, "s/a", "2", 1);
	usleep(1500000); /* it is late, and the thread waits for its end */
	store_end(s);
	await_sync(before);
	store_free(s);
}
END_TEST

/* What only the journal has. */
static void put_and_crash(const char *value)
{
	int status;
	pid_t child = fork();
	if (!child) {
		struct store *s = store_fixture_open(store_fixture_dir);
		store_put(s, "s/a", value, strlen(value));
		_exit(store_fixture_wait(s));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The journal is made anew then, so the disk must have what was in it. */
START_TEST(what_a_start_finds_in_the_journal_is_on_the_disk_before_the_start_is_over)
{
	put_and_crash("kept");
	unsigned before = others_syncs;
	struct store *s = store_fixture_open(store_fixture_dir);
	ck_assert_uint_gt(others_syncs, before);
	struct store_fixture_found f = {""};
	store_scan(s, "s/", store_fixture_note, &f);
	ck_assert_str_eq(f.text, "s/a=kept;");
	store_free(s);
}
END_TEST

START_TEST(what_came_back_once_does_not_come_back_over_what_is_newer)
{
	if (run_suite_skips(geteuid() != 0, "only root can make a file one that is only read"))
		return;
	char path[128];
	struct store_fixture_found f = {""};
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	put_and_crash("old");
	ck_assert_int_eq(mount(path, path, NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	store_scan(s, "s/", store_fixture_note, &f);
	store_put(s, "s/a", "new", 3);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	store_free(s);
	s = store_fixture_open(store_fixture_dir);
	store_scan(s, "s/", store_fixture_note, &f);
	store_free(s);
	umount2(path, MNT_DETACH);
	ck_assert_str_eq(f.text, "s/a=old;s/a=new;");
}
END_TEST

/* ---- a disk that does not answer: the store's thread is kept as by one ---- */

static sem_t held, let_go;

static bool hold(struct store_sweep *w, const char *value, size_t len)
{
	sem_post(&held);
	while (sem_wait(&let_go) < 0)
		;
	return false;
}

static void be_done(struct store_sweep *w)
{
}

/* Whether store_after tells on the spot. */
static bool is_told_at_once(struct store *s, struct store_fixture_after *a)
{
	*a = (struct store_fixture_after){.w = {.done = store_fixture_done}};
	sem_init(&a->told, 0, 0);
	store_after(s, &a->w);
	return sem_trywait(&a->told) == 0;
}

START_TEST(while_the_disk_hangs_nobody_goes_by_the_journal_and_then_all_do_again)
{
	struct store_sweep w = {
		.from = "s/", .prefix_len = 2, .most = 1, .old = hold, .done = be_done};
	struct store_fixture_after now, later, again;
	sem_init(&held, 0, 0);
	sem_init(&let_go, 0, 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	store_put(s, "s/a", "1", 1);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	store_sweep(s, &w);
	while (sem_wait(&held) < 0)
		;
	usleep(1200000);
	ck_assert(is_told_at_once(s, &now)); /* of what it has already */
	store_put(s, "s/a", "2", 1);
	ck_assert(!is_told_at_once(s, &later));
	sem_post(&let_go);
	while (sem_wait(&later.told) < 0)
		;
	ck_assert_int_eq(later.status, 0);
	store_put(s, "s/a", "3", 1);
	ck_assert(is_told_at_once(s, &again));
	store_free(s);
	store_fixture_expect("s/a=3;");
}
END_TEST

START_TEST(on_a_file_system_that_is_perhaps_not_of_this_machine_there_is_no_journal)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount one of another kind"))
		return;
	struct store_fixture_after a;
	ck_assert_int_eq(mount("none", store_fixture_dir, "ramfs", 0, "mode=0700"), 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	store_put(s, "s/a", "1", 1);
	bool at_once = is_told_at_once(s, &a);
	while (!at_once && sem_wait(&a.told) < 0)
		;
	ck_assert_int_eq(a.status, 0);
	char path[128];
	struct stat st;
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	ck_assert(stat(path, &st) < 0 || st.st_size == 0);
	store_free(s);
}
END_TEST

static void fill_disk(const char *path)
{
	char block[4096];
	memset(block, 'x', sizeof block);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
}

START_TEST(while_the_disk_is_full_nobody_is_told_that_the_journal_has_it)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	char path[128], block[4096];
	ck_assert_int_eq(mount("none", store_fixture_dir, "tmpfs", 0, "size=12m,mode=0700"), 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	memset(block, 'x', sizeof block);
	snprintf(path, sizeof path, "%s/filler", store_fixture_dir);
	fill_disk(path);
	/* What is told before it is noticed, the journal has. */
	for (int i = 0; i < 1000 && store_state(s, NULL) == 0; i++) {
		int r = (store_put(s, "s/a", block, sizeof block), store_fixture_wait(s));
		ck_assert(r == 0 || r == -ENOSPC);
		usleep(10000);
	}
	ck_assert_int_eq(store_state(s, NULL), -ENOSPC);
	for (int i = 0; i < 20; i++) {
		int n = snprintf(block, sizeof block, "%d", i);
		store_put(s, "s/a", block, (size_t)n);
		ck_assert_int_eq(store_fixture_wait(s), -ENOSPC);
	}
	unlink(path);
	for (int i = 0; i < 300 && store_state(s, NULL) < 0; i++)
		usleep(100000);
	store_put(s, "s/b", "later", 5);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	store_free(s);
	store_fixture_expect("s/a=19;s/b=later;"); /* in their order, what was stuck first */
}
END_TEST

START_TEST(a_full_disk_is_said_and_left_behind_when_there_is_room_again)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	ck_assert_int_eq(mount("none", store_fixture_dir, "tmpfs", 0, "size=1m,mode=0700"), 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	char path[128], block[4096];
	struct err err = {0};
	memset(block, 'x', sizeof block);
	snprintf(path, sizeof path, "%s/filler", store_fixture_dir);
	fill_disk(path);
	int r = 0;
	for (int i = 0; i < 100 && r == 0; i++) {
		store_put(s, "s/a", block, sizeof block);
		r = store_fixture_wait(s);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_int_eq(store_state(s, &err), -ENOSPC);
	ck_assert(strstr(err.text, "no space") != NULL);
	unlink(path);
	for (int i = 0; i < 100 && store_state(s, NULL) < 0; i++)
		usleep(100000);
	ck_assert_int_eq(store_state(s, NULL), 0);
	store_put(s, "s/b", "later", 5);
	ck_assert_int_eq(store_fixture_wait(s), 0);
	store_free(s);
	s = store_fixture_open(store_fixture_dir);
	struct store_fixture_found f = {""};
	store_scan(s, "s/b", store_fixture_note, &f);
	ck_assert_str_eq(f.text, "s/b=later;");
	store_free(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_disk");
	TCase *t = tcase_create("store_disk");
	own_mounts();
	tcase_add_checked_fixture(t, store_fixture_setup, store_fixture_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_power_cut_costs_a_second_of_what_was_queued_not_of_what_was_written);
	tcase_add_test(t, what_the_journal_has_is_on_the_disk_soon);
	tcase_add_test(t, a_group_that_was_waited_for_is_on_the_disk_soon_after_its_end);
	tcase_add_test(
		t, what_a_start_finds_in_the_journal_is_on_the_disk_before_the_start_is_over);
	tcase_add_test(t, what_came_back_once_does_not_come_back_over_what_is_newer);
	tcase_add_test(t, while_the_disk_hangs_nobody_goes_by_the_journal_and_then_all_do_again);
	tcase_add_test(t, on_a_file_system_that_is_perhaps_not_of_this_machine_there_is_no_journal);
	tcase_add_test(t, while_the_disk_is_full_nobody_is_told_that_the_journal_has_it);
	tcase_add_test(t, a_full_disk_is_said_and_left_behind_when_there_is_room_again);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
