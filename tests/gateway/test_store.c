/* SPDX-License-Identifier: Apache-2.0 */
/* What is written is there after a kill -9; what cannot be written is said. */
#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/store.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

static char dir[64];
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

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	umount2(dir, MNT_DETACH); /* of the full disk */
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

struct after {
	struct store_waiter w;
	sem_t told;
	int status;
};

static void done(struct store_waiter *w, int status)
{
	struct after *a = (struct after *)w;
	a->status = status;
	sem_post(&a->told);
}

static int wait_stored(struct store *s)
{
	struct after a = {.w = {.done = done}};
	sem_init(&a.told, 0, 0);
	store_after(s, &a.w);
	while (sem_wait(&a.told) < 0)
		;
	sem_destroy(&a.told);
	return a.status;
}

static struct store *open_store(const char *where)
{
	struct store *s = NULL;
	struct err err = {0};
	int r = store_open(&s, where, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return s;
}

struct found {
	char text[256];
};

static int note(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct found *f = arg;
	size_t used = strlen(f->text);
	snprintf(f->text + used, sizeof f->text - used, "%.*s=%.*s;", (int)key_len, key,
		(int)value_len, value);
	return 0;
}

START_TEST(entries_come_back_in_the_order_of_their_keys_below_a_prefix)
{
	struct store *s = open_store(dir);
	store_put(s, "t/b/2", "two", 3);
	store_put(s, "t/b/1", "one", 3);
	store_put(s, "s/b", "x", 1);
	store_put(s, "t/c/1", "three", 5);
	store_delete(s, "t/c/1");
	ck_assert_int_eq(wait_stored(s), 0);
	store_free(s);
	s = open_store(dir);
	struct found f = {""};
	ck_assert_int_eq(store_scan(s, "t/", note, &f), 0);
	ck_assert_str_eq(f.text, "t/b/1=one;t/b/2=two;");
	store_free(s);
}
END_TEST

START_TEST(what_was_told_as_stored_survives_a_kill)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		struct store *s = open_store(dir);
		store_put(s, "s/a", "kept", 4);
		char ok = wait_stored(s) == 0;
		ssize_t n = write(ends[1], &ok, 1);
		(void)n;
		pause();
		_exit(1);
	}
	char ok = 0;
	ck_assert_int_eq(read(ends[0], &ok, 1), 1);
	ck_assert(ok);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	struct store *s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	ck_assert_str_eq(f.text, "s/a=kept;");
	store_free(s);
}
END_TEST

/* What the database has of it when the process is killed so much later. */
static struct found written_after(unsigned ms)
{
	char path[sizeof dir + 16];
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		struct store *s = open_store(dir);
		usleep(50000); /* the thread sleeps: nobody else would wake it */
		store_put_later(s, "s/a", "first", 5);
		usleep(50000);
		store_put_later(s, "s/b", "early", 5);
		store_put(s, "s/b", "late", 4);
		store_begin(s);
		store_put_later(s, "s/c", "alone", 5);
		store_end(s);
		usleep(ms * 1000);
		ssize_t n = write(ends[1], "", 1);
		(void)n;
		pause();
		_exit(1);
	}
	char ok;
	ck_assert_int_eq(read(ends[0], &ok, 1), 1);
	close(ends[0]);
	close(ends[1]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	snprintf(path, sizeof path, "%s/journal", dir);
	ck_assert_int_eq(unlink(path), 0); /* which has it at once */
	struct store *s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	store_free(s);
	return f;
}

START_TEST(what_may_be_written_later_is_written_soon_and_in_its_place)
{
	static const char all[] = "s/a=first;s/b=late;s/c=alone;";
	struct found f = written_after(1500);
	/* Within a second, if the machine has that much time for its thread. */
	for (unsigned ms = 3000; ms < 30000 && strcmp(f.text, all) != 0; ms *= 2) {
		teardown();
		setup();
		f = written_after(ms);
	}
	ck_assert_str_eq(f.text, all);
	struct store *s = open_store(dir);
	f.text[0] = '\0';
	store_scan_from(s, "s/", "s/b", note, &f);
	ck_assert_str_eq(f.text, "s/b=late;s/c=alone;");
	store_free(s);
}
END_TEST

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
	char path[sizeof dir + 16];
	snprintf(path, sizeof path, "%s/journal", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	struct store *s = open_store(dir);
	unsigned before = syncs;
	uint64_t since_ns = clock_mono_ns();
	store_put_later(s, "s/a", "first", 5);
	usleep(800000);
	store_put(s, "s/b", "second", 6);
	ck_assert_int_eq(wait_stored(s), 0);
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
		teardown();
		setup();
		ns = synced_after();
	}
	ck_assert_uint_lt(ns, 1600000000);
}
END_TEST

START_TEST(what_the_journal_has_is_on_the_disk_soon)
{
	struct store *s = open_store(dir);
	unsigned before = syncs;
	usleep(50000); /* the thread sleeps: nobody else would wake it */
	store_put(s, "s/a", "kept", 4);
	ck_assert_int_eq(wait_stored(s), 0);
	await_sync(before);
	store_free(s);
}
END_TEST

START_TEST(a_group_that_was_waited_for_is_on_the_disk_soon_after_its_end)
{
	struct store *s = open_store(dir);
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
		struct store *s = open_store(dir);
		store_put(s, "s/a", value, strlen(value));
		_exit(wait_stored(s));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The journal is made anew then, so the disk must have what was in it. */
START_TEST(what_a_start_finds_in_the_journal_is_on_the_disk_before_the_start_is_over)
{
	put_and_crash("kept");
	unsigned before = others_syncs;
	struct store *s = open_store(dir);
	ck_assert_uint_gt(others_syncs, before);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	ck_assert_str_eq(f.text, "s/a=kept;");
	store_free(s);
}
END_TEST

START_TEST(who_waits_within_a_group_is_told_at_its_end_and_not_before)
{
	struct after a = {.w = {.done = done}, .status = 1}, b = a;
	sem_init(&a.told, 0, 0);
	sem_init(&b.told, 0, 0);
	struct store *s = open_store(dir);
	store_begin(s);
	store_begin(s);
	store_put(s, "s/a", "kept", 4);
	store_after(s, &a.w);
	store_end_and_tell(s);
	store_after(s, &b.w);
	usleep(50000);
	ck_assert_int_eq(sem_trywait(&a.told), -1);
	ck_assert_int_eq(sem_trywait(&b.told), -1);
	store_end_and_tell(s); /* on this thread: at once */
	ck_assert_int_eq(sem_trywait(&a.told), 0);
	ck_assert_int_eq(sem_trywait(&b.told), 0);
	ck_assert_int_eq(a.status, 0);
	ck_assert_int_eq(b.status, 0);
	ck_assert_int_eq(wait_stored(s), 0);
	ck_assert_int_eq(sem_trywait(&a.told), -1); /* and not once more */
	store_free(s);
	sem_destroy(&a.told);
	sem_destroy(&b.told);
}
END_TEST

static void *close_it(void *store)
{
	store_close(store);
	return NULL;
}

START_TEST(a_group_that_is_open_at_the_end_is_written_whole)
{
	pthread_t closer;
	struct store *s = open_store(dir);
	store_begin(s);
	store_put(s, "s/a", "one", 3);
	ck_assert_int_eq(pthread_create(&closer, NULL, close_it, s), 0);
	usleep(200000); /* it waits for the group, or will */
	store_put(s, "s/b", "two", 3);
	store_end(s);
	pthread_join(closer, NULL);
	store_put(s, "s/c", "dropped", 7);
	store_free(s);
	s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	ck_assert_str_eq(f.text, "s/a=one;s/b=two;");
	store_free(s);
}
END_TEST

static struct store *swept;
static atomic_bool enough;
static sem_t rested;

static bool is_old(struct store_sweep *w, const char *value, size_t len)
{
	return false;
}

/* As if there were always one more log to go through. */
static void sweep_on(struct store_sweep *w)
{
	if (enough)
		sem_post(&rested);
	else
		store_sweep(swept, w);
}

START_TEST(sweeps_that_do_not_end_do_not_keep_back_what_may_be_written_later)
{
	struct store_sweep w = {.from = "s/", .prefix_len = 2, .most = 1, .old = is_old};
	char copy[sizeof dir + 64];
	struct found f = {""};
	w.done = sweep_on;
	enough = false;
	sem_init(&rested, 0, 0);
	swept = open_store(dir);
	store_put(swept, "s/a", "kept", 4);
	ck_assert_int_eq(wait_stored(swept), 0);
	store_sweep(swept, &w);
	store_put_later(swept, "s/b", "late", 4);
	/* A log of LevelDB has what was written as it is. */
	snprintf(copy, sizeof copy, "grep -qs late %s/store/*.log", dir);
	for (int i = 0; i < 300 && system(copy) != 0; i++)
		usleep(100000);
	int written = system(copy);
	enough = true;
	while (sem_wait(&rested) < 0)
		;
	store_free(swept);
	ck_assert_int_eq(written, 0);
	struct store *s = open_store(dir);
	store_scan(s, "s/", note, &f);
	store_free(s);
	ck_assert_str_eq(f.text, "s/a=kept;s/b=late;");
	sem_destroy(&rested);
}
END_TEST

START_TEST(a_directory_in_use_is_refused_with_the_pid_of_its_user)
{
	struct store *s = open_store(dir), *two = NULL;
	struct err err = {0};
	char pid[32];
	snprintf(pid, sizeof pid, "process %ld", (long)getpid());
	ck_assert_int_eq(store_open(&two, dir, &err), -EBUSY);
	ck_assert_msg(strstr(err.text, pid) != NULL, "%s", err.text);
	store_free(s);
	s = open_store(dir);
	store_free(s);
}
END_TEST

START_TEST(database_and_journal_are_private_in_a_directory_that_is_not)
{
	struct store *s;
	struct stat st;
	char path[128];
	char journal[128];
	snprintf(path, sizeof path, "%s/store", dir);
	snprintf(journal, sizeof journal, "%s/journal", dir);
	ck_assert_int_eq(chmod(dir, 0755), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(chmod(path, 0755), 0);
	close(open(journal, O_CREAT | O_WRONLY, 0644));
	ck_assert_int_eq(chmod(journal, 0644), 0);
	ck_assert_int_eq(store_open(&s, dir, NULL), 0);
	store_free(s);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert_int_eq(stat(journal, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_missing_directory_is_made_for_its_owner_only)
{
	char path[128];
	snprintf(path, sizeof path, "%s/one/two", dir);
	struct store *s = open_store(path);
	struct stat st;
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	store_free(s);
}
END_TEST

START_TEST(a_file_in_the_place_of_the_directory_is_refused)
{
	char path[128];
	snprintf(path, sizeof path, "%s/file", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	struct store *s = NULL;
	struct err err = {0};
	ck_assert_int_lt(store_open(&s, path, &err), 0);
	ck_assert(*err.text);
}
END_TEST

START_TEST(a_store_of_version_1_is_read_and_no_longer_one_for_those_of_version_1)
{
	struct store *s = open_store(dir);
	store_put(s, "version", "1", 1);
	store_put(s, "s/a", "kept", 4);
	store_free(s);
	s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	store_scan(s, "version", note, &f);
	ck_assert_str_eq(f.text, "s/a=kept;version=2;");
	store_free(s);
}
END_TEST

START_TEST(a_store_of_another_version_is_refused)
{
	struct store *s = open_store(dir);
	struct err err = {0};
	store_put(s, "version", "9", 1);
	wait_stored(s);
	store_free(s);
	ck_assert_int_eq(store_open(&s, dir, &err), -ENOTSUP);
}
END_TEST

/* A journal that can be read and not be made anew, whatever the reason. */
START_TEST(what_came_back_once_does_not_come_back_over_what_is_newer)
{
	if (run_suite_skips(geteuid() != 0, "only root can make a file one that is only read"))
		return;
	char path[128];
	struct found f = {""};
	snprintf(path, sizeof path, "%s/journal", dir);
	put_and_crash("old");
	ck_assert_int_eq(mount(path, path, NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	struct store *s = open_store(dir);
	store_scan(s, "s/", note, &f);
	store_put(s, "s/a", "new", 3);
	ck_assert_int_eq(wait_stored(s), 0);
	store_free(s);
	s = open_store(dir);
	store_scan(s, "s/", note, &f);
	store_free(s);
	umount2(path, MNT_DETACH);
	ck_assert_str_eq(f.text, "s/a=old;s/a=new;");
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
	ck_assert_int_eq(mount("none", dir, "tmpfs", 0, "size=12m,mode=0700"), 0);
	struct store *s = open_store(dir);
	memset(block, 'x', sizeof block);
	snprintf(path, sizeof path, "%s/filler", dir);
	fill_disk(path);
	/* What is told before it is noticed, the journal has. */
	for (int i = 0; i < 1000 && store_state(s, NULL) == 0; i++) {
		int r = (store_put(s, "s/a", block, sizeof block), wait_stored(s));
		ck_assert(r == 0 || r == -ENOSPC);
		usleep(10000);
	}
	ck_assert_int_eq(store_state(s, NULL), -ENOSPC);
	for (int i = 0; i < 20; i++) {
		int n = snprintf(block, sizeof block, "%d", i);
		store_put(s, "s/a", block, (size_t)n);
		ck_assert_int_eq(wait_stored(s), -ENOSPC);
	}
	unlink(path);
	for (int i = 0; i < 300 && store_state(s, NULL) < 0; i++)
		usleep(100000);
	store_put(s, "s/b", "later", 5);
	ck_assert_int_eq(wait_stored(s), 0);
	store_free(s);
	s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/", note, &f);
	ck_assert_str_eq(f.text, "s/a=19;s/b=later;"); /* in their order, what was stuck first */
	store_free(s);
}
END_TEST

START_TEST(a_full_disk_is_said_and_left_behind_when_there_is_room_again)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	ck_assert_int_eq(mount("none", dir, "tmpfs", 0, "size=1m,mode=0700"), 0);
	struct store *s = open_store(dir);
	char path[128], block[4096];
	struct err err = {0};
	memset(block, 'x', sizeof block);
	snprintf(path, sizeof path, "%s/filler", dir);
	fill_disk(path);
	int r = 0;
	for (int i = 0; i < 100 && r == 0; i++) {
		store_put(s, "s/a", block, sizeof block);
		r = wait_stored(s);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_int_eq(store_state(s, &err), -ENOSPC);
	ck_assert(strstr(err.text, "no space") != NULL);
	unlink(path);
	for (int i = 0; i < 100 && store_state(s, NULL) < 0; i++)
		usleep(100000);
	ck_assert_int_eq(store_state(s, NULL), 0);
	store_put(s, "s/b", "later", 5);
	ck_assert_int_eq(wait_stored(s), 0);
	store_free(s);
	s = open_store(dir);
	struct found f = {""};
	store_scan(s, "s/b", note, &f);
	ck_assert_str_eq(f.text, "s/b=later;");
	store_free(s);
}
END_TEST

int main(void)
{
	own_mounts();
	Suite *suite = suite_create("store");
	TCase *t = tcase_create("store");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, entries_come_back_in_the_order_of_their_keys_below_a_prefix);
	tcase_add_test(t, what_was_told_as_stored_survives_a_kill);
	tcase_add_test(t, what_may_be_written_later_is_written_soon_and_in_its_place);
	tcase_add_test(t, sweeps_that_do_not_end_do_not_keep_back_what_may_be_written_later);
	tcase_add_test(t, a_power_cut_costs_a_second_of_what_was_queued_not_of_what_was_written);
	tcase_add_test(t, what_the_journal_has_is_on_the_disk_soon);
	tcase_add_test(t, a_group_that_was_waited_for_is_on_the_disk_soon_after_its_end);
	tcase_add_test(
		t, what_a_start_finds_in_the_journal_is_on_the_disk_before_the_start_is_over);
	tcase_add_test(t, who_waits_within_a_group_is_told_at_its_end_and_not_before);
	tcase_add_test(t, a_group_that_is_open_at_the_end_is_written_whole);
	tcase_add_test(t, a_directory_in_use_is_refused_with_the_pid_of_its_user);
	tcase_add_test(t, database_and_journal_are_private_in_a_directory_that_is_not);
	tcase_add_test(t, a_missing_directory_is_made_for_its_owner_only);
	tcase_add_test(t, a_file_in_the_place_of_the_directory_is_refused);
	tcase_add_test(t, a_store_of_version_1_is_read_and_no_longer_one_for_those_of_version_1);
	tcase_add_test(t, a_store_of_another_version_is_refused);
	tcase_add_test(t, what_came_back_once_does_not_come_back_over_what_is_newer);
	tcase_add_test(t, a_full_disk_is_said_and_left_behind_when_there_is_room_again);
	tcase_add_test(t, while_the_disk_is_full_nobody_is_told_that_the_journal_has_it);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
