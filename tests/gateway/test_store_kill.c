/* SPDX-License-Identifier: Apache-2.0 */
/* What was told as stored is there after a kill -9 at any moment: by the journal, past it when it
 * is full, and without one. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/store.h"
#include "tests/gateway/store_fixture.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

enum { WRITERS = 3, KILLS = 40 };

/* What the child has been told, shared with it. */
static struct told {
	atomic_uint n[WRITERS];
	atomic_uint others; /* told on another thread than the caller's */
	atomic_int status;  /* of those that were told that it failed */
	atomic_uint failed;
} * told;

static void setup(void)
{
	store_fixture_setup();
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(told != MAP_FAILED);
}

static void teardown(void)
{
	munmap(told, sizeof *told);
	store_fixture_teardown();
}

static struct store *open_store(void)
{
	return store_fixture_open(store_fixture_dir);
}

/* ---- who writes ---- */

struct after {
	struct store_fixture_after a;
	pthread_t caller;
};

static void done(struct store_waiter *w, int status)
{
	struct after *after = (struct after *)w;
	told->others += !pthread_equal(after->caller, pthread_self());
	store_fixture_done(w, status);
}

static int wait_stored(struct store *s)
{
	struct after after = {.a.w.done = done, .caller = pthread_self()};
	return store_fixture_wait_by(s, &after.a);
}

struct writer {
	struct store *s;
	unsigned i;
	size_t len; /* of the longest value */
};

/* Two entries in a group, which are the same or one is torn; and one that is there in between only:
 * when a group is whole there is none. */
static void write_group(const struct writer *w, unsigned n)
{
	char key[32], *value = malloc(w->len + 16);
	int len = snprintf(value, 16, "%u ", n);
	memset(value + len, 'x', w->len);
	store_begin(w->s);
	size_t all = (size_t)len + w->len - n % (w->len / 2);
	snprintf(key, sizeof key, "a/%u", w->i);
	store_put(w->s, key, value, all);
	snprintf(key, sizeof key, "t/%u", w->i);
	store_put(w->s, key, "", 0);
	snprintf(key, sizeof key, "b/%u", w->i);
	store_put(w->s, key, value, all);
	snprintf(key, sizeof key, "t/%u", w->i);
	store_delete(w->s, key);
	store_end(w->s);
	free(value);
}

static void *write_on(void *arg)
{
	struct writer *w = arg;
	for (unsigned n = told->n[w->i] + 1;; n++) {
		write_group(w, n);
		int r = wait_stored(w->s);
		if (r == 0) {
			told->n[w->i] = n;
			continue;
		}
		told->status = r;
		told->failed++;
	}
	return NULL;
}

/* A child that writes until it is killed. */
static pid_t start_writers(size_t len)
{
	pid_t child = fork();
	if (child)
		return child;
	struct store *s = NULL;
	struct err err;
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	if (store_open(&s, store_fixture_dir, &err) < 0)
		_exit(1);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){s, i, len};
		pthread_create(&threads[i], NULL, write_on, &writers[i]);
	}
	for (;;)
		pause();
}

static void await(atomic_uint *n, unsigned least)
{
	for (int i = 0; i < 60000 && *n < least; i++)
		usleep(1000);
	ck_assert_uint_ge(*n, least);
}

static void end(pid_t child)
{
	int status;
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
}

/* ---- what is there ---- */

struct found {
	unsigned n[2][WRITERS]; /* of a/ and b/ */
	size_t len[2][WRITERS];
	unsigned others;
};

static int note(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct found *f = arg;
	unsigned kind = *key == 'a' ? 0 : 1, i = (unsigned)key[2] - '0';
	if (key_len != 3 || (*key != 'a' && *key != 'b') || i >= WRITERS) {
		f->others += memcmp(key, "version", key_len < 7 ? key_len : 7) != 0 &&
			     memcmp(key, "journal", key_len < 7 ? key_len : 7) != 0;
		return 0;
	}
	f->n[kind][i] = (unsigned)strtoul(value, NULL, 10);
	f->len[kind][i] = value_len;
	return 0;
}

static void look_at_all(void)
{
	struct found f = {0};
	struct store *s = open_store();
	ck_assert_int_ge(store_scan(s, "", note, &f), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		ck_assert_uint_ge(f.n[0][i], told->n[i]);
		ck_assert_uint_le(f.n[0][i], told->n[i] + 1);
		ck_assert_uint_eq(f.n[0][i], f.n[1][i]);
		ck_assert_uint_eq(f.len[0][i], f.len[1][i]);
	}
	ck_assert_uint_eq(f.others, 0);
	store_free(s);
}

/* All that was told, whole groups, and nothing else. In a process of its own: one that has had
 * LevelDB's thread forks children that never get one, and wait for it after two full buffers. */
static void check_all(void)
{
	int status;
	pid_t child = fork();
	if (!child) {
		look_at_all();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void kill_often(size_t len, unsigned kills)
{
	for (unsigned k = 0; k < kills; k++) {
		pid_t child = start_writers(len);
		await(&told->n[0], told->n[0] + 1);
		usleep(k * 997 % 30000);
		end(child);
		check_all();
	}
}

START_TEST(a_kill_at_any_moment_leaves_whole_groups_and_all_that_was_told)
{
	kill_often(300, KILLS);
}
END_TEST

START_TEST(what_the_journal_has_is_told_by_the_one_who_asks)
{
	struct store *s = open_store();
	struct writer w = {s, 0, 300};
	for (unsigned n = 1; n <= 50; n++) {
		write_group(&w, n);
		ck_assert_int_eq(wait_stored(s), 0);
	}
	ck_assert_uint_eq(told->others, 0);
	told->n[0] = 50;
	store_free(s);
	check_all();
}
END_TEST

START_TEST(groups_that_fill_the_journal_go_past_it)
{
	kill_often(400000, 10);
	ck_assert_uint_gt(told->others, 0);
}
END_TEST

START_TEST(a_group_larger_than_the_journal_is_told_when_the_database_has_it)
{
	kill_often(6 << 20, 4);
	ck_assert_uint_gt(told->others, 0);
}
END_TEST

START_TEST(without_a_journal_those_who_wait_wait_for_the_database)
{
	char path[80];
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	kill_often(300, 5);
	ck_assert_uint_gt(told->others, 0);
}
END_TEST

START_TEST(a_journal_that_is_cut_off_under_it_costs_nothing_but_time)
{
	char path[80];
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	pid_t child = start_writers(300);
	await(&told->n[0], 10);
	ck_assert_int_eq(truncate(path, 0), 0);
	unsigned cut = told->n[0];
	await(&told->n[0], cut + 1000);
	for (unsigned i = 0; i < WRITERS; i++) /* a group since then: the database has all before */
		await(&told->n[i], told->n[i] + 10);
	ck_assert_uint_gt(told->others, 0);
	end(child);
	check_all();
}
END_TEST

/* The disk is full, and the thread learns of it after those who were told. */
START_TEST(what_was_told_before_a_full_disk_was_noticed_is_kept)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	char path[80], block[4096];
	struct err err;
	struct found f = {0};
	ck_assert_int_eq(mount("none", store_fixture_dir, "tmpfs", 0, "size=12m,mode=0700"), 0);
	struct store *s = open_store();
	snprintf(path, sizeof path, "%s/filler", store_fixture_dir);
	memset(block, 'x', sizeof block);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
	store_free(s);
	unlink(path);
	pid_t child = start_writers(30000);
	await(&told->n[0], 1);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	for (int i = 0; i < 60000 && !told->status; i++) {
		while (write(fd, block, sizeof block) > 0)
			;
		usleep(1000);
	}
	ck_assert_int_eq(told->status, -ENOSPC);
	await(&told->failed, 200); /* 12 MB: the journal would be full thrice, if it took them */
	close(fd);
	end(child);
	unlink(path);
	s = open_store();
	ck_assert_int_eq(store_state(s, &err), 0);
	ck_assert_int_ge(store_scan(s, "", note, &f), 0);
	for (unsigned i = 0; i < WRITERS; i++)
		ck_assert_uint_ge(f.n[0][i], told->n[i]);
	store_free(s);
}
END_TEST

/* The database's last change becomes a table, as at a start, of which then a part is lost. */
static void damage_database(void)
{
	char path[80], last[256] = "", *message = NULL;
	leveldb_options_t *options = leveldb_options_create();
	snprintf(path, sizeof path, "%s/store", store_fixture_dir);
	leveldb_t *db = leveldb_open(options, path, &message);
	ck_assert_msg(!message, "%s", message);
	leveldb_close(db);
	leveldb_options_destroy(options);
	DIR *d = opendir(path);
	for (struct dirent *e; (e = readdir(d));) /* their names are numbers of one length */
		if (strstr(e->d_name, ".ldb") && strcmp(e->d_name, last) > 0)
			snprintf(last, sizeof last, "%s", e->d_name);
	int fd = openat(dirfd(d), last, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, "        ", 8, 0), 8);
	close(fd);
	closedir(d);
}

START_TEST(where_a_start_cannot_know_what_the_journal_is_for_it_leaves_it_alone)
{
	static char before[1 << 16], now[1 << 16];
	char path[80];
	struct err err = {0};
	store_free(open_store());
	pid_t child = fork();
	if (!child) {
		struct store *s = open_store();
		store_put(s, "s/a", "kept", 4);
		told->status = wait_stored(s);
		told->others = 1;
		pause();
		_exit(1);
	}
	await(&told->others, 1);
	ck_assert_int_eq(told->status, 0);
	end(child);
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(pread(fd, before, sizeof before, 0), sizeof before);
	damage_database();
	struct store *s = NULL;
	ck_assert_int_eq(store_open(&s, store_fixture_dir, &err), -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, "cannot be read"));
	ck_assert_int_eq(pread(fd, now, sizeof now, 0), sizeof now);
	ck_assert_mem_eq(now, before, sizeof now);
	ck_assert_ptr_nonnull(memmem(now, sizeof now, "kept", 4));
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_kill");
	own_mounts();
	TCase *t = tcase_create("store_kill");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 200);
	tcase_add_test(t, a_kill_at_any_moment_leaves_whole_groups_and_all_that_was_told);
	tcase_add_test(t, what_the_journal_has_is_told_by_the_one_who_asks);
	tcase_add_test(t, groups_that_fill_the_journal_go_past_it);
	tcase_add_test(t, a_group_larger_than_the_journal_is_told_when_the_database_has_it);
	tcase_add_test(t, without_a_journal_those_who_wait_wait_for_the_database);
	tcase_add_test(t, a_journal_that_is_cut_off_under_it_costs_nothing_but_time);
	tcase_add_test(t, what_was_told_before_a_full_disk_was_noticed_is_kept);
	tcase_add_test(t, where_a_start_cannot_know_what_the_journal_is_for_it_leaves_it_alone);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
