/* SPDX-License-Identifier: Apache-2.0 */
/* What is written is there after a kill -9, in its order and its groups; what is there is nobody
 * else's. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/store_parts.h"
#include "tests/gateway/store_fixture.h"
#include "tests/run_suite.h"

START_TEST(entries_come_back_in_the_order_of_their_keys_below_a_prefix)
{
	struct store *s = store_fixture_open(store_fixture_dir);
	store_put(s, "t/b/2", "two", 3);
	store_put(s, "t/b/1", "one", 3);
	store_put(s, "s/b", "x", 1);
	store_put(s, "t/c/1", "three", 5);
	store_delete(s, "t/c/1");
	ck_assert_int_eq(store_fixture_wait(s), 0);
	store_free(s);
	s = store_fixture_open(store_fixture_dir);
	struct store_fixture_found f = {""};
	ck_assert_int_eq(store_scan(s, "t/", store_fixture_note, &f), 0);
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
		struct store *s = store_fixture_open(store_fixture_dir);
		store_put(s, "s/a", "kept", 4);
		char ok = store_fixture_wait(s) == 0;
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
	struct store *s = store_fixture_open(store_fixture_dir);
	struct store_fixture_found f = {""};
	store_scan(s, "s/", store_fixture_note, &f);
	ck_assert_str_eq(f.text, "s/a=kept;");
	store_free(s);
}
END_TEST

/* What the database has of it when the process is killed so much later. */
static struct store_fixture_found written_after(unsigned ms)
{
	char path[sizeof store_fixture_dir + 16];
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		struct store *s = store_fixture_open(store_fixture_dir);
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
	snprintf(path, sizeof path, "%s/journal", store_fixture_dir);
	ck_assert_int_eq(unlink(path), 0); /* which has it at once */
	struct store *s = store_fixture_open(store_fixture_dir);
	struct store_fixture_found f = {""};
	store_scan(s, "s/", store_fixture_note, &f);
	store_free(s);
	return f;
}

START_TEST(what_may_be_written_later_is_written_soon_and_in_its_place)
{
	static const char all[] = "s/a=first;s/b=late;s/c=alone;";
	struct store_fixture_found f = written_after(1500);
	/* Within a second, if the machine has that much time for its thread. */
	for (unsigned ms = 3000; ms < 30000 && strcmp(f.text, all) != 0; ms *= 2) {
		store_fixture_teardown();
		store_fixture_setup();
		f = written_after(ms);
	}
	ck_assert_str_eq(f.text, all);
	struct store *s = store_fixture_open(store_fixture_dir);
	f.text[0] = '\0';
	store_scan_from(s, "s/", "s/b", store_fixture_note, &f);
	ck_assert_str_eq(f.text, "s/b=late;s/c=alone;");
	store_free(s);
}
END_TEST

START_TEST(who_waits_within_a_group_is_told_at_its_end_and_not_before)
{
	struct store_fixture_after a = {.w = {.done = store_fixture_done}, .status = 1}, b = a;
	sem_init(&a.told, 0, 0);
	sem_init(&b.told, 0, 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	store_begin(s);
	store_begin(s);
	store_put(s, "s/a", "kept", 4);
	store_after(s, &a.w);
	store_end(s);
	store_after(s, &b.w);
	usleep(50000);
	ck_assert_int_eq(sem_trywait(&a.told), -1);
	ck_assert_int_eq(sem_trywait(&b.told), -1);
	store_end(s);
	store_tell(s); /* on this thread: at once */
	ck_assert_int_eq(sem_trywait(&a.told), 0);
	ck_assert_int_eq(sem_trywait(&b.told), 0);
	ck_assert_int_eq(a.status, 0);
	ck_assert_int_eq(b.status, 0);
	ck_assert_int_eq(store_fixture_wait(s), 0);
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

struct told {
	struct store_fixture_after a; /* first */
	uint64_t at_ns;
};

static void note_when(struct store_waiter *w, int status)
{
	((struct told *)w)->at_ns = clock_mono_ns();
	store_fixture_done(w, status);
}

/* Since when the thread writes what was pending; 0: it does not. */
static uint64_t written_since_ns(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t since_ns = s->any_pending ? 0 : s->disk_since_ns;
	pthread_mutex_unlock(&s->lock);
	return since_ns;
}

/* Whether somebody who came while a change without room in the journal was written is told before
 * the next write would tell him. */
static bool is_told_soon(struct store *s, const char *big, size_t len)
{
	static const uint64_t next_write_ns = 1000000000; /* after the change, on any machine */
	struct told t = {.a.w.done = note_when};
	sem_init(&t.a.told, 0, 0);
	uint64_t begin_ns = clock_mono_ns(), since_ns = 0;
	store_put(s, "s/big", big, len);
	while (!since_ns && clock_mono_ns() - begin_ns < next_write_ns)
		since_ns = written_since_ns(s);
	store_after(s, &t.a.w);
	bool meanwhile = since_ns && written_since_ns(s) == since_ns;
	while (sem_wait(&t.a.told) < 0)
		;
	ck_assert_int_eq(t.a.status, 0);
	sem_destroy(&t.a.told);
	return meanwhile && t.at_ns - begin_ns < next_write_ns;
}

/* What has no room in the journal is written at once. That may take long where others have the
 * disk, but not each time. */
START_TEST(who_comes_while_that_is_written_is_told_as_soon_as_it_is)
{
	enum { BIG = 5 << 20 };
	struct store *s = store_fixture_open(store_fixture_dir);
	char *big = calloc(1, BIG);
	ck_assert_ptr_nonnull(big);
	while (!is_told_soon(s, big, BIG))
		;
	free(big);
	store_free(s);
}
END_TEST

START_TEST(a_group_that_is_open_at_the_end_is_written_whole)
{
	pthread_t closer;
	struct store *s = store_fixture_open(store_fixture_dir);
	store_begin(s);
	store_put(s, "s/a", "one", 3);
	ck_assert_int_eq(pthread_create(&closer, NULL, close_it, s), 0);
	usleep(200000); /* it waits for the group, or will */
	store_put(s, "s/b", "two", 3);
	store_end(s);
	pthread_join(closer, NULL);
	store_put(s, "s/c", "dropped", 7);
	store_free(s);
	store_fixture_expect("s/a=one;s/b=two;");
}
END_TEST

static struct {
	struct store *store;
	sem_t open, change; /* the group is; there is a change beside it */
	atomic_bool over;
} beside;

static void *group_with_a_long_step(void *arg)
{
	store_begin(beside.store);
	store_put(beside.store, "s/a", "first", 5);
	sem_post(&beside.open);
	sem_wait(&beside.change);
	usleep(20000); /* for whoever does not wait */
	store_put(beside.store, "s/b", "second", 6);
	atomic_store(&beside.over, true);
	store_end(beside.store);
	return NULL;
}

START_TEST(who_waits_for_groups_goes_on_when_what_was_queued_before_is_in_one_that_has_ended)
{
	pthread_t other;
	beside.store = store_fixture_open(store_fixture_dir);
	store_await_groups(beside.store); /* there is none */
	sem_init(&beside.open, 0, 0);
	sem_init(&beside.change, 0, 0);
	ck_assert_int_eq(pthread_create(&other, NULL, group_with_a_long_step, NULL), 0);
	sem_wait(&beside.open);
	store_put(beside.store, "s/c", "beside", 6);
	sem_post(&beside.change);
	store_await_groups(beside.store);
	ck_assert(atomic_load(&beside.over));
	pthread_join(other, NULL);
	store_free(beside.store);
	store_fixture_expect("s/a=first;s/b=second;s/c=beside;");
}
END_TEST

static atomic_bool closed;

static void *group_on(void *store)
{
	while (!closed) {
		store_begin(store);
		store_put(store, "s/a", "x", 1);
		store_end(store);
		store_tell(store);
	}
	store_begin(store);
	store_end(store);
	return NULL;
}

/* Whoever still holds a session may go on with it. The thread sanitizer sees whether that is safe.
 */
START_TEST(groups_go_on_beside_the_end_and_behind_it)
{
	pthread_t other;
	struct store *s = store_fixture_open(store_fixture_dir);
	closed = false;
	ck_assert_int_eq(pthread_create(&other, NULL, group_on, s), 0);
	usleep(20000);
	store_close(s);
	usleep(1000);
	closed = true;
	pthread_join(other, NULL);
	store_free(s);
	store_fixture_expect("s/a=x;");
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
	char copy[sizeof store_fixture_dir + 64];
	struct store_fixture_found f = {""};
	w.done = sweep_on;
	enough = false;
	sem_init(&rested, 0, 0);
	swept = store_fixture_open(store_fixture_dir);
	store_put(swept, "s/a", "kept", 4);
	ck_assert_int_eq(store_fixture_wait(swept), 0);
	store_sweep(swept, &w);
	store_put_later(swept, "s/b", "late", 4);
	/* A log of LevelDB has what was written as it is. */
	snprintf(copy, sizeof copy, "grep -qs late %s/store/*.log", store_fixture_dir);
	for (int i = 0; i < 300 && system(copy) != 0; i++)
		usleep(100000);
	int written = system(copy);
	enough = true;
	while (sem_wait(&rested) < 0)
		;
	store_free(swept);
	ck_assert_int_eq(written, 0);
	struct store *s = store_fixture_open(store_fixture_dir);
	store_scan(s, "s/", store_fixture_note, &f);
	store_free(s);
	ck_assert_str_eq(f.text, "s/a=kept;s/b=late;");
	sem_destroy(&rested);
}
END_TEST

START_TEST(a_directory_in_use_is_refused_with_the_pid_of_its_user)
{
	struct store *s = store_fixture_open(store_fixture_dir), *two = NULL;
	struct err err = {0};
	char pid[32];
	snprintf(pid, sizeof pid, "process %ld", (long)getpid());
	ck_assert_int_eq(store_open(&two, store_fixture_dir, &err), -EBUSY);
	ck_assert_msg(strstr(err.text, pid) != NULL, "%s", err.text);
	store_free(s);
	s = store_fixture_open(store_fixture_dir);
	store_free(s);
}
END_TEST

START_TEST(database_and_journal_are_private_in_a_directory_that_is_not)
{
	struct store *s;
	struct stat st;
	char path[128];
	char journal[128];
	snprintf(path, sizeof path, "%s/store", store_fixture_dir);
	snprintf(journal, sizeof journal, "%s/journal", store_fixture_dir);
	ck_assert_int_eq(chmod(store_fixture_dir, 0755), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(chmod(path, 0755), 0);
	close(open(journal, O_CREAT | O_WRONLY, 0644));
	ck_assert_int_eq(chmod(journal, 0644), 0);
	ck_assert_int_eq(store_open(&s, store_fixture_dir, NULL), 0);
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
	snprintf(path, sizeof path, "%s/one/two", store_fixture_dir);
	struct store *s = store_fixture_open(path);
	struct stat st;
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	store_free(s);
}
END_TEST

START_TEST(a_file_in_the_place_of_the_directory_is_refused)
{
	char path[128];
	snprintf(path, sizeof path, "%s/file", store_fixture_dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	struct store *s = NULL;
	struct err err = {0};
	ck_assert_int_lt(store_open(&s, path, &err), 0);
	ck_assert(*err.text);
}
END_TEST

START_TEST(a_store_of_an_earlier_version_is_read_and_no_longer_one_for_those_before)
{
	for (const char *version = "12"; *version; version++) {
		struct store *s = store_fixture_open(store_fixture_dir);
		store_put(s, "version", version, 1);
		store_put(s, "s/a", "kept", 4);
		store_free(s);
		s = store_fixture_open(store_fixture_dir);
		struct store_fixture_found f = {""};
		store_scan(s, "s/", store_fixture_note, &f);
		store_scan(s, "version", store_fixture_note, &f);
		ck_assert_str_eq(f.text, "s/a=kept;version=3;");
		store_free(s);
	}
}
END_TEST

START_TEST(a_store_of_another_version_is_refused)
{
	struct store *s = store_fixture_open(store_fixture_dir);
	struct err err = {0};
	store_put(s, "version", "9", 1);
	store_fixture_wait(s);
	store_free(s);
	ck_assert_int_eq(store_open(&s, store_fixture_dir, &err), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *t = tcase_create("store");
	tcase_add_checked_fixture(t, store_fixture_setup, store_fixture_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, entries_come_back_in_the_order_of_their_keys_below_a_prefix);
	tcase_add_test(t, what_was_told_as_stored_survives_a_kill);
	tcase_add_test(t, what_may_be_written_later_is_written_soon_and_in_its_place);
	tcase_add_test(t, who_waits_within_a_group_is_told_at_its_end_and_not_before);
	tcase_add_test(t,
		who_waits_for_groups_goes_on_when_what_was_queued_before_is_in_one_that_has_ended);
	tcase_add_test(t, who_comes_while_that_is_written_is_told_as_soon_as_it_is);
	tcase_add_test(t, a_group_that_is_open_at_the_end_is_written_whole);
	tcase_add_test(t, sweeps_that_do_not_end_do_not_keep_back_what_may_be_written_later);
	tcase_add_test(t, groups_go_on_beside_the_end_and_behind_it);
	tcase_add_test(t, a_directory_in_use_is_refused_with_the_pid_of_its_user);
	tcase_add_test(t, database_and_journal_are_private_in_a_directory_that_is_not);
	tcase_add_test(t, a_missing_directory_is_made_for_its_owner_only);
	tcase_add_test(t, a_file_in_the_place_of_the_directory_is_refused);
	tcase_add_test(t, a_store_of_an_earlier_version_is_read_and_no_longer_one_for_those_before);
	tcase_add_test(t, a_store_of_another_version_is_refused);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
