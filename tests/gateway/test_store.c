/* SPDX-License-Identifier: Apache-2.0 */
/* What is written is there after a kill -9; what cannot be written is said. */
#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "gateway/store.h"

static char dir[64];

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

/* What is there of it when the process is killed so much later. */
static struct found written_after(unsigned ms)
{
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

START_TEST(the_database_is_private_in_a_directory_that_is_not)
{
	struct store *s;
	struct stat st;
	char path[128];
	snprintf(path, sizeof path, "%s/store", dir);
	ck_assert_int_eq(chmod(dir, 0755), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(chmod(path, 0755), 0);
	ck_assert_int_eq(store_open(&s, dir, NULL), 0);
	store_free(s);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
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

START_TEST(a_full_disk_is_said_and_left_behind_when_there_is_room_again)
{
	ck_assert_int_eq(mount("none", dir, "tmpfs", 0, "size=1m,mode=0700"), 0);
	struct store *s = open_store(dir);
	char path[128], block[4096];
	struct err err = {0};
	memset(block, 'x', sizeof block);
	snprintf(path, sizeof path, "%s/filler", dir);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
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
	Suite *suite = suite_create("store");
	TCase *t = tcase_create("store");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, entries_come_back_in_the_order_of_their_keys_below_a_prefix);
	tcase_add_test(t, what_was_told_as_stored_survives_a_kill);
	tcase_add_test(t, what_may_be_written_later_is_written_soon_and_in_its_place);
	tcase_add_test(t, sweeps_that_do_not_end_do_not_keep_back_what_may_be_written_later);
	tcase_add_test(t, a_directory_in_use_is_refused_with_the_pid_of_its_user);
	tcase_add_test(t, the_database_is_private_in_a_directory_that_is_not);
	tcase_add_test(t, a_missing_directory_is_made_for_its_owner_only);
	tcase_add_test(t, a_file_in_the_place_of_the_directory_is_refused);
	tcase_add_test(t, a_store_of_another_version_is_refused);
	if (geteuid() == 0) /* it mounts a small disk */
		tcase_add_test(t, a_full_disk_is_said_and_left_behind_when_there_is_room_again);
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
