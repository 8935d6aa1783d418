/* SPDX-License-Identifier: Apache-2.0 */
/* What L2 keeps survives ends and kills whole, or not at all; and no damage to its files, nor a
 * full disk, stops a request or is served. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/cache_place.h"
#include "tests/gateway/cache_fixture.h"
#include "tests/run_suite.h"

static struct cache_fixture f;

static void setup(void)
{
	cache_fixture_make(&f);
}

static void teardown(void)
{
	cache_fixture_end(&f);
}

static int stat_of(const char *name)
{
	return (int)cache_fixture_stat(&f, name);
}

/* Of entry i: a text that says which one it is, of up to 3000 bytes. */
static struct question question_of(int i, char room[64])
{
	snprintf(room, 64, "question %d", i);
	return (struct question){.prompt = room, .user = i % 2 ? "bob" : "ada"};
}

static char *answer_of_question(int i)
{
	size_t n = 20 + (size_t)i * 7919 % 3000;
	char *text = malloc(n + 1);
	int head = snprintf(text, n, "answer %d ", i);
	for (size_t at = (size_t)head; at < n; at++)
		text[at] = (char)('a' + (i + (int)at) % 26);
	text[n] = '\0';
	return text;
}

static void store(int from, int to)
{
	char room[64];
	for (int i = from; i < to; i++) {
		struct question q = question_of(i, room);
		char *text = answer_of_question(i);
		cache_fixture_store(&f, &q, text);
		free(text);
	}
}

/* How many of them are served; a wrong text fails. */
static int served(int from, int to)
{
	char room[64];
	int n = 0;
	for (int i = from; i < to; i++) {
		struct question q = question_of(i, room);
		char *text = answer_of_question(i);
		n += cache_fixture_hit(&f, &q, text) != 0;
		free(text);
	}
	return n;
}

static void assert_well(void)
{
	ck_assert_str_eq(cache_fixture_fault(&f, "cache"), "");
}

/* It works: what is stored now comes back. */
static void assert_works(void)
{
	store(100000, 100020);
	cache_fixture_settle(&f);
	cache_fixture_forget_memory(&f);
	ck_assert_int_eq(served(100000, 100020), 20);
	cache_fixture_ctl(&f, "flush");
	cache_fixture_settle(&f);
}

/* ---- ends and kills ---- */

START_TEST(what_was_stored_comes_back_after_a_restart)
{
	cache_fixture_open(&f);
	store(0, 200);
	cache_fixture_reopen(&f);
	ck_assert_int_eq(stat_of("disk_entries"), 200);
	ck_assert_int_eq(stat_of("entries"), 0);
	ck_assert_int_eq(served(0, 200), 200);
	ck_assert_int_eq(stat_of("hits_l2"), 200);
	ck_assert_int_eq(served(0, 200), 200);
	ck_assert_int_eq(stat_of("hits_l1"), 200);
	assert_well();
}
END_TEST

START_TEST(a_request_right_after_the_start_waits_for_the_store_to_open)
{
	cache_fixture_open(&f);
	store(0, 1);
	cache_fixture_close(&f);
	cache_fixture_open(&f);
	ck_assert_int_eq(served(0, 1), 1);
}
END_TEST

/* Stores, and looks for, and flushes without end. */
static void store_for_ever(int begun)
{
	ssize_t n = write(begun, "", 1);
	(void)n;
	for (int i = 0;; i = (i + 1) % 500) {
		char room[64];
		struct question q = question_of(i, room);
		struct cache_ticket *t;
		char *text = answer_of_question(i);
		struct cache_found found = cache_fixture_ask(&f, &q, &t);
		if (found.outcome == CACHE_HIT && strcmp(found.text->bytes, text))
			_exit(9);
		if (found.outcome == CACHE_MISS)
			cache_fixture_land(&f, t, text);
		else
			cache_fixture_drop(&f, t);
		text_put(found.text);
		free(text);
		if (i % 50 == 49)
			cache_fixture_ctl(&f, i % 100 == 99 ? "flush ada" : "flush bob");
	}
}

static void open_at(const char *path)
{
	cache_fixture_make(&f);
	snprintf(f.path, sizeof f.path, "%s", path);
	cache_fixture_open(&f);
}

/* Kills a process that does that, `us` after it began. */
static void kill_while_storing(const char *path, unsigned us)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		open_at(path);
		rmdir(f.dir);
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
		cache_fixture_settle(&f);
		int n = served(0, 500);
		ck_assert_int_eq(stat_of("disk_damaged"), 0);
		assert_well();
		cache_fixture_end(&f);
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
	ck_assert_int_gt(seen, 0);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(a_flush_outlives_a_kill_before_anything_is_deleted)
{
	struct dirent *e;
	int n = 0;
	cache_fixture_open(&f);
	store(0, 40);
	cache_fixture_settle(&f);
	cache_fixture_close(&f);
	/* What a killed one leaves behind: the file that says so, and every entry. */
	ck_assert_int_eq(cache_place_flush(f.path, "bob", clock_real_ns()), 0);
	cache_fixture_open(&f);
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat_of("disk_entries"), 20);
	ck_assert_int_eq(served(0, 40), 20);
	DIR *d = opendir(f.path);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "flush-", 6);
	closedir(d);
	ck_assert_int_eq(n, 0);
	cache_fixture_reopen(&f);
	ck_assert_int_eq(stat_of("disk_entries"), 20);
}
END_TEST

START_TEST(any_number_of_flushes_delays_a_request_no_more_than_one)
{
	cache_fixture_open(&f);
	store(0, 10);
	cache_fixture_settle(&f);
	for (int i = 0; i < 3000; i++)
		cache_fixture_ctl(&f, i % 3 ? "flush" : "flush bob");
	uint64_t begun_ns = clock_mono_ns();
	cache_fixture_settle(&f);
	ck_assert_uint_lt(clock_mono_ns() - begun_ns, 20000000000u);
	assert_works();
	ck_assert_int_eq(served(0, 10), 0);
	DIR *d = opendir(f.path);
	for (struct dirent *e; (e = readdir(d));)
		ck_assert(strncmp(e->d_name, "flush-", 6) != 0);
	closedir(d);
}
END_TEST

/* ---- room ---- */

START_TEST(the_store_keeps_to_its_ceilings)
{
	cache_fixture_open(&f);
	cache_fixture_set(&f, "max_entries", "50");
	store(0, 120);
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat_of("disk_entries"), 50);
	ck_assert_int_eq(stat_of("evicted_disk"), 70);
	cache_fixture_forget_memory(&f);
	ck_assert_int_eq(served(0, 70), 0);
	ck_assert_int_eq(served(70, 120), 50);
	cache_fixture_set(&f, "max_disk", "30000");
	ck_assert_int_le(stat_of("disk_bytes"), 30000);
	int n = stat_of("disk_entries");
	ck_assert(n > 5 && n < 50);
	cache_fixture_reopen(&f);
	ck_assert_int_eq(stat_of("disk_entries"), n); /* it was deleted, too */
}
END_TEST

START_TEST(what_was_used_last_stays_in_the_store)
{
	cache_fixture_open(&f);
	cache_fixture_set(&f, "max_memory", "0");
	cache_fixture_set(&f, "max_entries", "50");
	for (int i = 0; i < 100; i++) {
		store(i, i + 1);
		cache_fixture_settle(&f);
		ck_assert_int_eq(served(0, 1), 1);
	}
	ck_assert_int_eq(served(1, 51), 0);
}
END_TEST

START_TEST(an_answer_stored_again_takes_the_place_of_the_old_one)
{
	char room[64];
	struct question q = question_of(1, room);
	cache_fixture_open(&f);
	cache_fixture_store(&f, &q, "first");
	cache_fixture_set(&f, "ttl", "1");
	usleep(2100000);
	cache_fixture_store(&f, &q, "second");
	cache_fixture_set(&f, "ttl", "");
	cache_fixture_reopen(&f);
	ck_assert_int_eq(stat_of("disk_entries"), 1);
	ck_assert_int_eq(cache_fixture_hit(&f, &q, "second"), CACHE_L2);
}
END_TEST

/* ---- damage ---- */

static void fill_and_close(void)
{
	cache_fixture_open(&f);
	store(0, 300);
	cache_fixture_reopen(&f); /* the log becomes a table */
	cache_fixture_close(&f);
}

/* Calls `damage` for each file of LevelDB whose name has that in it, one after another, on a copy
 * of the store, and sees that nothing wrong is served and the cache works. */
static void assert_survives(const char *part, void (*damage)(const char *path), bool is_said)
{
	char command[600], db[160], path[256];
	int n = 0, said = 0, lost = 0;
	snprintf(command, sizeof command, "rm -rf %s* %s/copy", f.path, f.dir);
	ck_assert_int_eq(system(command), 0);
	fill_and_close();
	snprintf(db, sizeof db, "%s/db", f.path);
	snprintf(command, sizeof command, "cp -a %s %s/copy", f.path, f.dir);
	ck_assert_int_eq(system(command), 0);
	struct dirent *e;
	DIR *d = opendir(db);
	char names[64][64];
	while ((e = readdir(d)) && n < 64)
		if (strstr(e->d_name, part) && e->d_name[0] != '.')
			snprintf(names[n++], 64, "%.63s", e->d_name);
	closedir(d);
	ck_assert_int_gt(n, 0);
	for (int i = 0; i < n; i++) {
		snprintf(command, sizeof command, "rm -rf %s* && cp -a %s/copy %s", f.path, f.dir,
			f.path);
		ck_assert_int_eq(system(command), 0);
		snprintf(path, sizeof path, "%s/%.63s", db, names[i]);
		damage(path);
		cache_fixture_open(&f);
		cache_fixture_settle(&f);
		int there = served(0, 300);
		cache_fixture_settle(&f);
		cache_fixture_forget_memory(&f);
		lost += 300 - there;
		const char *fault = cache_fixture_fault(&f, "cache");
		if (*fault) {
			ck_assert_msg(strstr(fault, "damaged"), "%s", fault);
			ck_assert_msg(strstr(fault, "cache.bad-"), "%s", fault);
			said++;
		}
		ck_assert_msg(
			!there || there == 300 || *fault || !is_said, "%d of 300, not said", there);
		assert_works();
		assert_well(); /* after a flush of all, somebody has looked */
		cache_fixture_close(&f);
	}
	if (is_said)
		ck_assert_msg(said == n, "%d of %d said, %d entries lost", said, n, lost);
}

static void flip(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDWR);
	ck_assert_int_eq(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 1 + st.st_size / 23) {
		unsigned char byte;
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x41;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
}

static void halve(const char *path)
{
	struct stat st;
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
}

static void empty(const char *path)
{
	ck_assert_int_eq(truncate(path, 0), 0);
}

static void rubbish(const char *path)
{
	FILE *file = fopen(path, "w");
	for (int i = 0; i < 5000; i++)
		fputc(i * 31 % 251, file);
	fclose(file);
}

static void take_away(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
}

START_TEST(a_table_with_flipped_bytes_is_set_aside_and_said)
{
	assert_survives(".ldb", flip, true);
}
END_TEST

START_TEST(a_table_that_was_cut_or_lost_is_set_aside_and_said)
{
	assert_survives(".ldb", halve, true);
	assert_survives(".ldb", empty, true);
	assert_survives(".ldb", take_away, true);
}
END_TEST

START_TEST(a_manifest_that_is_damaged_is_set_aside_and_said)
{
	assert_survives("MANIFEST", flip, true);
	assert_survives("MANIFEST", rubbish, true);
	assert_survives("MANIFEST", take_away, true);
	assert_survives("CURRENT", rubbish, true);
}
END_TEST

START_TEST(a_log_that_is_damaged_costs_what_was_in_it_at_most)
{
	assert_survives(".log", flip, false);
	assert_survives(".log", halve, false);
	assert_survives(".log", rubbish, false);
	assert_survives("CURRENT", take_away, false); /* LevelDB begins anew by itself */
}
END_TEST

START_TEST(only_the_newest_damaged_store_is_kept)
{
	char aside[512], path[160];
	struct err err;
	int n = 0;
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/db/lost", f.path);
		ck_assert_int_eq(cache_place_make(f.path, &err), 0);
		ck_assert_int_eq(mkdir(path, 0700), 0);
		ck_assert_int_eq(cache_place_set_aside(f.path, aside, sizeof aside, &err), 0);
	}
	struct dirent *e;
	DIR *d = opendir(f.dir);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "cache.bad-", 10);
	closedir(d);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(access(aside, F_OK), 0);
}
END_TEST

START_TEST(a_file_in_the_place_of_the_directory_is_set_aside)
{
	close(open(f.path, O_CREAT | O_WRONLY, 0600));
	cache_fixture_open(&f);
	cache_fixture_settle(&f);
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&f, "cache"), "cache.bad-"));
	assert_works();
}
END_TEST

START_TEST(the_directory_is_private)
{
	struct stat st;
	ck_assert_int_eq(mkdir(f.path, 0755), 0);
	cache_fixture_open(&f);
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat(f.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
}
END_TEST

/* Waits up to 20 s. */
static bool comes_to_be_well(void)
{
	for (int i = 0; i < 2000 && *cache_fixture_fault(&f, "cache"); i++)
		usleep(10000);
	return !*cache_fixture_fault(&f, "cache");
}

START_TEST(a_place_that_cannot_be_used_is_said_and_memory_goes_on)
{
	char gone[128];
	snprintf(gone, sizeof gone, "%s/gone", f.dir);
	snprintf(f.path, sizeof f.path, "%s/gone/cache", f.dir);
	cache_fixture_open(&f);
	cache_fixture_settle(&f);
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&f, "cache"), "does not work"));
	store(0, 10);
	ck_assert_int_eq(served(0, 10), 10);
	ck_assert_int_eq(stat_of("hits_l1"), 10);
	ck_assert_int_eq(stat_of("disk_dropped"), 10);
	ck_assert_int_eq(mkdir(gone, 0700), 0);
	ck_assert(comes_to_be_well());
	assert_works();
}
END_TEST

START_TEST(a_full_disk_is_said_and_left_behind_when_there_is_room_again)
{
	ck_assert_int_eq(mount("none", f.dir, "tmpfs", 0, "size=2m,mode=0700"), 0);
	char path[128], block[4096];
	memset(block, 'x', sizeof block);
	cache_fixture_open(&f);
	cache_fixture_settle(&f);
	store(0, 5);
	cache_fixture_settle(&f);
	snprintf(path, sizeof path, "%s/filler", f.dir);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
	for (int i = 5; i < 400 && !*cache_fixture_fault(&f, "cache"); i++) {
		store(i, i + 1);
		cache_disk_settle(f.c->disk);
	}
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&f, "cache"), "No space left"));
	ck_assert_int_eq(served(0, 5), 5); /* from memory */
	store(1000, 1005);
	ck_assert_int_eq(served(1000, 1005), 5);
	unlink(path);
	ck_assert(comes_to_be_well());
	assert_works();
	cache_fixture_close(&f);
	umount2(f.dir, MNT_DETACH);
}
END_TEST

/* ---- foreign records ---- */

START_TEST(a_record_of_another_place_or_with_any_byte_changed_is_not_believed)
{
	struct cache_id id = {1, 2}, other = {1, 3};
	struct buf out = {0};
	struct cache_record back, r = {.kind = CACHE_RECORD_ANSWER,
					  .serial = 5,
					  .stored_s = 6,
					  .prompt_tok = 7,
					  .output_tok = 8,
					  .finish = {"stop", 4},
					  .user = {"ada", 3},
					  .key = {"k", 1},
					  .text = {"text", 4}};
	ck_assert_int_eq(cache_record_write(&out, &r, &id), 0);
	ck_assert(cache_record_read(&back, CACHE_RECORD_ANSWER, &id, out.data, out.len));
	ck_assert_uint_eq(back.serial, 5);
	ck_assert_uint_eq(back.output_tok, 8);
	ck_assert(cache_record_is(back.text, "text"));
	ck_assert(cache_record_is(back.scope, ""));
	ck_assert(!cache_record_read(&back, CACHE_RECORD_ANSWER, &other, out.data, out.len));
	ck_assert(!cache_record_read(&back, CACHE_RECORD_NOTE, &id, out.data, out.len));
	for (size_t i = 0; i < out.len; i++) {
		ck_assert(!cache_record_read(&back, CACHE_RECORD_ANSWER, &id, out.data, i));
		out.data[i] ^= 1;
		ck_assert(!cache_record_read(&back, CACHE_RECORD_ANSWER, &id, out.data, out.len));
		out.data[i] ^= 1;
	}
	buf_free(&out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_disk");
	TCase *t = tcase_create("cache_disk");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_was_stored_comes_back_after_a_restart);
	tcase_add_test(t, a_request_right_after_the_start_waits_for_the_store_to_open);
	tcase_add_test(t, a_flush_outlives_a_kill_before_anything_is_deleted);
	tcase_add_test(t, any_number_of_flushes_delays_a_request_no_more_than_one);
	tcase_add_test(t, the_store_keeps_to_its_ceilings);
	tcase_add_test(t, what_was_used_last_stays_in_the_store);
	tcase_add_test(t, an_answer_stored_again_takes_the_place_of_the_old_one);
	tcase_add_test(t, a_table_with_flipped_bytes_is_set_aside_and_said);
	tcase_add_test(t, a_table_that_was_cut_or_lost_is_set_aside_and_said);
	tcase_add_test(t, a_manifest_that_is_damaged_is_set_aside_and_said);
	tcase_add_test(t, a_log_that_is_damaged_costs_what_was_in_it_at_most);
	tcase_add_test(t, only_the_newest_damaged_store_is_kept);
	tcase_add_test(t, a_file_in_the_place_of_the_directory_is_set_aside);
	tcase_add_test(t, the_directory_is_private);
	tcase_add_test(t, a_place_that_cannot_be_used_is_said_and_memory_goes_on);
	if (geteuid() == 0) /* it mounts a small disk */
		tcase_add_test(t, a_full_disk_is_said_and_left_behind_when_there_is_room_again);
	tcase_add_test(t, a_record_of_another_place_or_with_any_byte_changed_is_not_believed);
	suite_add_tcase(suite, t);
	TCase *bare = tcase_create("kills");
	tcase_set_timeout(bare, 120);
	tcase_add_test(bare, a_kill_while_storing_leaves_whole_answers_or_none);
	suite_add_tcase(suite, bare);
	return run_suite(suite);
}
