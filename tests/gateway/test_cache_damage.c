/* SPDX-License-Identifier: Apache-2.0 */
/* No damage to L2's files, nor a full disk, stops a request or is served. */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/cache_place.h"
#include "tests/gateway/disk_fixture.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

/* ---- damage ---- */

static void fill_and_close(void)
{
	cache_fixture_open(&disk_f);
	disk_store(0, 300);
	cache_fixture_reopen(&disk_f); /* the log becomes a table */
	cache_fixture_close(&disk_f);
}

/* Calls `damage` for each file of LevelDB whose name has that in it, one after another, on a copy
 * of the store, and sees that nothing wrong is served and the cache works. */
static void assert_survives(const char *part, void (*damage)(const char *path), bool is_said)
{
	char command[600], db[160], path[256];
	int n = 0, said = 0, lost = 0;
	snprintf(command, sizeof command, "rm -rf %s* %s/copy", disk_f.path, disk_f.dir);
	ck_assert_int_eq(system(command), 0);
	fill_and_close();
	snprintf(db, sizeof db, "%s/db", disk_f.path);
	snprintf(command, sizeof command, "cp -a %s %s/copy", disk_f.path, disk_f.dir);
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
		snprintf(command, sizeof command, "rm -rf %s* && cp -a %s/copy %s", disk_f.path,
			disk_f.dir, disk_f.path);
		ck_assert_int_eq(system(command), 0);
		snprintf(path, sizeof path, "%s/%.63s", db, names[i]);
		damage(path);
		cache_fixture_open(&disk_f);
		cache_fixture_settle(&disk_f);
		int there = disk_served(0, 300);
		cache_fixture_settle(&disk_f);
		cache_fixture_forget_memory(&disk_f);
		lost += 300 - there;
		const char *fault = cache_fixture_fault(&disk_f, "cache");
		if (*fault) {
			ck_assert_msg(strstr(fault, "damaged"), "%s", fault);
			ck_assert_msg(strstr(fault, "cache.bad-"), "%s", fault);
			said++;
		}
		ck_assert_msg(
			!there || there == 300 || *fault || !is_said, "%d of 300, not said", there);
		disk_assert_works();
		disk_assert_well(); /* after a flush of all, somebody has looked */
		cache_fixture_close(&disk_f);
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
		snprintf(path, sizeof path, "%s/db/lost", disk_f.path);
		ck_assert_int_eq(cache_place_make(disk_f.path, &err), 0);
		ck_assert_int_eq(mkdir(path, 0700), 0);
		ck_assert_int_eq(cache_place_set_aside(disk_f.path, aside, sizeof aside, &err), 0);
	}
	struct dirent *e;
	DIR *d = opendir(disk_f.dir);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "cache.bad-", 10);
	closedir(d);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(access(aside, F_OK), 0);
}
END_TEST

START_TEST(a_file_in_the_place_of_the_directory_is_set_aside)
{
	close(open(disk_f.path, O_CREAT | O_WRONLY, 0600));
	cache_fixture_open(&disk_f);
	cache_fixture_settle(&disk_f);
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&disk_f, "cache"), "cache.bad-"));
	disk_assert_works();
}
END_TEST

START_TEST(the_directory_is_private)
{
	struct stat st;
	ck_assert_int_eq(mkdir(disk_f.path, 0755), 0);
	cache_fixture_open(&disk_f);
	cache_fixture_settle(&disk_f);
	ck_assert_int_eq(stat(disk_f.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
}
END_TEST

/* Waits up to 20 s. */
static bool comes_to_be_well(void)
{
	for (int i = 0; i < 2000 && *cache_fixture_fault(&disk_f, "cache"); i++)
		usleep(10000);
	return !*cache_fixture_fault(&disk_f, "cache");
}

START_TEST(a_place_that_cannot_be_used_is_said_and_memory_goes_on)
{
	char gone[128];
	snprintf(gone, sizeof gone, "%s/gone", disk_f.dir);
	snprintf(disk_f.path, sizeof disk_f.path, "%s/gone/cache", disk_f.dir);
	cache_fixture_open(&disk_f);
	cache_fixture_settle(&disk_f);
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&disk_f, "cache"), "does not work"));
	disk_store(0, 10);
	ck_assert_int_eq(disk_served(0, 10), 10);
	ck_assert_int_eq(disk_stat("hits_l1"), 10);
	ck_assert_int_eq(disk_stat("disk_dropped"), 10);
	ck_assert_int_eq(mkdir(gone, 0700), 0);
	ck_assert(comes_to_be_well());
	disk_assert_works();
}
END_TEST

START_TEST(a_full_disk_is_said_and_left_behind_when_there_is_room_again)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	ck_assert_int_eq(mount("none", disk_f.dir, "tmpfs", 0, "size=2m,mode=0700"), 0);
	char path[128], block[4096];
	memset(block, 'x', sizeof block);
	cache_fixture_open(&disk_f);
	cache_fixture_settle(&disk_f);
	disk_store(0, 5);
	cache_fixture_settle(&disk_f);
	snprintf(path, sizeof path, "%s/filler", disk_f.dir);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
	for (int i = 5; i < 400 && !*cache_fixture_fault(&disk_f, "cache"); i++) {
		disk_store(i, i + 1);
		cache_disk_settle(disk_f.c->disk);
	}
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&disk_f, "cache"), "No space left"));
	ck_assert_int_eq(disk_served(0, 5), 5); /* from memory */
	disk_store(1000, 1005);
	ck_assert_int_eq(disk_served(1000, 1005), 5);
	unlink(path);
	ck_assert(comes_to_be_well());
	disk_assert_works();
	cache_fixture_close(&disk_f);
	umount2(disk_f.dir, MNT_DETACH);
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
	own_mounts();
	Suite *suite = suite_create("cache_damage");
	TCase *t = tcase_create("cache_damage");
	tcase_add_checked_fixture(t, disk_open, disk_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_table_with_flipped_bytes_is_set_aside_and_said);
	tcase_add_test(t, a_table_that_was_cut_or_lost_is_set_aside_and_said);
	tcase_add_test(t, a_manifest_that_is_damaged_is_set_aside_and_said);
	tcase_add_test(t, a_log_that_is_damaged_costs_what_was_in_it_at_most);
	tcase_add_test(t, only_the_newest_damaged_store_is_kept);
	tcase_add_test(t, a_file_in_the_place_of_the_directory_is_set_aside);
	tcase_add_test(t, the_directory_is_private);
	tcase_add_test(t, a_place_that_cannot_be_used_is_said_and_memory_goes_on);
	tcase_add_test(t, a_full_disk_is_said_and_left_behind_when_there_is_room_again);
	tcase_add_test(t, a_record_of_another_place_or_with_any_byte_changed_is_not_believed);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
