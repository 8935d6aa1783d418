/* SPDX-License-Identifier: Apache-2.0 */
/* Which threads of a gateway give way to the others, by what the kernel says of them. */
#include "gateway/compaction.h"

#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/background.h"
#include "base/clock.h"
#include "gateway/gateway.h"
#include "tests/run_suite.h"

static char dir[64];

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-compaction-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- threads ---- */

static bool is_called(const char *tid, const char *name)
{
	char path[64], comm[32] = "";
	snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", tid);
	FILE *f = fopen(path, "r");
	bool read = f && fgets(comm, sizeof comm, f);
	if (f)
		fclose(f);
	comm[strcspn(comm, "\n")] = '\0';
	return read && !strcmp(comm, name);
}

/* How many threads there are, of that name; NULL: of any. *tid: the last of them. */
static size_t threads(const char *name, int *tid)
{
	size_t n = 0;
	DIR *d = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (*e->d_name == '.' || (name && !is_called(e->d_name, name)))
			continue;
		n++;
		if (tid)
			*tid = atoi(e->d_name);
	}
	closedir(d);
	return n;
}

static int nice_of(int tid)
{
	return getpriority(PRIO_PROCESS, (id_t)tid);
}

static bool is_batch(int tid)
{
	return sched_getscheduler(tid) == SCHED_BATCH && nice_of(tid) == nice_of(getpid());
}

static bool is_behind(int tid)
{
	int own = nice_of(getpid());
	int then = own + BACKGROUND_NICE < 19 ? own + BACKGROUND_NICE : 19;
	return sched_getscheduler(tid) == SCHED_BATCH && nice_of(tid) == then;
}

static bool is_ordinary(int tid)
{
	return sched_getscheduler(tid) == SCHED_OTHER && nice_of(tid) == nice_of(getpid());
}

/* Waits until there is just one of that name. */
static int thread_called(const char *name)
{
	int tid = 0;
	uint64_t until_ns = clock_mono_ns() + 20000000000u;
	while (threads(name, &tid) != 1) {
		ck_assert_msg(clock_mono_ns() < until_ns, "no thread %s", name);
		usleep(1000);
	}
	return tid;
}

static void assert_becomes(bool (*is)(int tid), const char *name)
{
	int tid = thread_called(name);
	uint64_t until_ns = clock_mono_ns() + 20000000000u;
	while (!is(tid)) {
		ck_assert_msg(clock_mono_ns() < until_ns, "thread %s is another kind", name);
		usleep(1000);
	}
}

/* ---- databases ---- */

static leveldb_t *open_database(const char *name)
{
	char path[128], *message = NULL;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	leveldb_options_t *options = leveldb_options_create();
	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_write_buffer_size(options, 64 << 10);
	leveldb_t *db = compaction_open(options, path, &message);
	leveldb_options_destroy(options);
	ck_assert_ptr_null(message);
	ck_assert_ptr_nonnull(db);
	return db;
}

/* More than its memory takes, so that it is flushed, and compacted too. */
static void fill(leveldb_t *db)
{
	static char value[1000];
	leveldb_writeoptions_t *plain = leveldb_writeoptions_create();
	for (int i = 0; i < 2000; i++) {
		char key[16], *message = NULL;
		int n = snprintf(key, sizeof key, "%d", i * 7919 % 2000);
		leveldb_put(db, plain, key, (size_t)n, value, sizeof value, &message);
		ck_assert_ptr_null(message);
	}
	leveldb_writeoptions_destroy(plain);
}

START_TEST(leveldb_has_one_thread_which_preempts_nobody_and_keeps_its_share)
{
	leveldb_t *one = open_database("one");
	ck_assert(is_batch(thread_called("compaction")));
	size_t before = threads(NULL, NULL); /* a sanitizer's own among them */
	leveldb_t *two = open_database("two");
	fill(one);
	fill(two);
	ck_assert(is_batch(thread_called("compaction")));
	ck_assert_uint_eq(threads(NULL, NULL), before);
	leveldb_close(one);
	leveldb_close(two);
}
END_TEST

START_TEST(a_database_that_cannot_be_opened_says_why_and_the_next_one_is_the_first)
{
	char *message = NULL;
	leveldb_options_t *options = leveldb_options_create();
	ck_assert_ptr_null(compaction_open(options, "/proc/nowhere", &message));
	ck_assert_ptr_nonnull(message);
	leveldb_free(message);
	leveldb_options_destroy(options);
	leveldb_t *db = open_database("one");
	ck_assert(is_batch(thread_called("compaction")));
	leveldb_close(db);
}
END_TEST

static struct gateway *open_gateway(void)
{
	struct gateway *g = NULL;
	struct err err = {0};
	struct gateway_options options = {.state_dir = dir, .daemon_uid = getuid()};
	ck_assert_msg(gateway_open(&g, &options, &err) == 0, "%s", err.text);
	return g;
}

START_TEST(of_a_gateway_the_threads_that_hardly_anybody_waits_for_preempt_nobody)
{
	struct gateway *g = open_gateway();
	ck_assert(is_batch(thread_called("compaction")));
	assert_becomes(is_behind, "cache");
	assert_becomes(is_batch, "store");
	ck_assert(is_ordinary(thread_called("gateway")));
	ck_assert(is_ordinary(thread_called("texts")));
	gateway_free(g);
}
END_TEST

START_TEST(a_store_without_a_journal_is_waited_for)
{
	char path[80];
	snprintf(path, sizeof path, "%s/journal", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	struct gateway *g = open_gateway();
	assert_becomes(is_behind, "cache");
	usleep(100000); /* long enough, mostly, for one that would do so, too */
	ck_assert(is_ordinary(thread_called("store")));
	gateway_free(g);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compaction");
	TCase *t = tcase_create("compaction");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, leveldb_has_one_thread_which_preempts_nobody_and_keeps_its_share);
	tcase_add_test(t, a_database_that_cannot_be_opened_says_why_and_the_next_one_is_the_first);
	tcase_add_test(t, of_a_gateway_the_threads_that_hardly_anybody_waits_for_preempt_nobody);
	tcase_add_test(t, a_store_without_a_journal_is_waited_for);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
