/* SPDX-License-Identifier: Apache-2.0 */
/* The journal gives back exactly the changes of whole groups behind a mark, whatever was left in
 * its file. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "gateway/store_journal.h"
#include "tests/run_suite.h"

enum { RING = 4 << 20, PAGE = 4096 };

static char dir[64], path[80];
static struct store_journal j;
static struct err err;

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-journal-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/journal", dir);
	ck_assert_msg(store_journal_open(&j, dir, &err) == 0, "%s", err.text);
}

static int remove_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(name);
}

static void teardown(void)
{
	store_journal_close(&j);
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *key, const char *value)
{
	store_journal_put(&j, key, strlen(key), value, value ? strlen(value) : 0);
}

/* One group of one change. */
static void put_alone(const char *key, const char *value)
{
	put(key, value);
	store_journal_commit(&j);
}

static int note(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct buf *b = arg;
	buf_append(b, key, key_len);
	buf_append(b, value ? "=" : "!", 1);
	buf_append(b, value, value_len);
	return buf_append(b, ";", 1);
}

/* new: what a start would find, one change after the other. */
static char *found_behind(const struct store_journal_mark *m)
{
	struct buf b = {0};
	int r = store_journal_replay(dir, m, note, &b, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	buf_append(&b, "", 1);
	return b.data;
}

#define assert_found(mark, text)                                                                   \
	do {                                                                                       \
		char *found_ = found_behind(mark);                                                 \
		ck_assert_str_eq(found_, text);                                                    \
		free(found_);                                                                      \
	} while (0)

START_TEST(changes_of_whole_groups_come_back_in_their_order)
{
	struct store_journal_mark m;
	store_journal_take(&j, &m);
	put("a", "1");
	put("b", NULL);
	store_journal_commit(&j);
	put_alone("a", "");
	ck_assert(store_journal_is_safe(&j));
	put("c", "no end");
	assert_found(&m, "a=1;b!;a=;");
}
END_TEST

START_TEST(what_the_database_has_does_not_come_back)
{
	struct store_journal_mark m;
	put_alone("a", "1");
	store_journal_take(&j, &m);
	put_alone("a", "2");
	assert_found(&m, "a=2;");
	store_journal_written(&j);
	assert_found(&m, "a=2;");
	store_journal_take(&j, &m);
	assert_found(&m, "");
}
END_TEST

START_TEST(a_mark_is_kept_as_it_was_and_another_is_none)
{
	char bytes[STORE_JOURNAL_MARK_SIZE];
	struct store_journal_mark m, other = {0};
	put_alone("a", "1");
	store_journal_take(&j, &m);
	store_journal_mark_put(&m, bytes);
	ck_assert(store_journal_mark_get(&other, bytes, sizeof bytes));
	put_alone("a", "2");
	assert_found(&other, "a=2;");
	ck_assert(!store_journal_mark_get(&other, bytes, sizeof bytes - 1));
}
END_TEST

START_TEST(a_journal_that_was_opened_anew_has_nothing_of_before)
{
	struct store_journal_mark m, fresh;
	store_journal_take(&j, &m);
	put_alone("a", "1");
	store_journal_close(&j);
	assert_found(&m, "a=1;");
	ck_assert_int_eq(store_journal_open(&j, dir, &err), 0);
	store_journal_take(&j, &fresh);
	ck_assert(fresh.run != m.run);
	assert_found(&m, "");
	put_alone("b", "2");
	assert_found(&m, "");
	assert_found(&fresh, "b=2;");
}
END_TEST

START_TEST(no_journal_is_nothing_to_come_back)
{
	struct store_journal_mark m;
	store_journal_take(&j, &m);
	unlink(path);
	assert_found(&m, "");
}
END_TEST

/* Groups of all sizes, many laps of the ring. Behind the last mark are always those since. */
START_TEST(the_ring_is_used_over_and_over)
{
	char *value = malloc(40001);
	struct store_journal_mark m;
	struct buf since = {0};
	unsigned seed = 1;
	store_journal_take(&j, &m);
	memset(value, 'x', 40000);
	for (int i = 0; i < 3000; i++) {
		char key[32];
		unsigned n = (seed = seed * 1103515245u + 12345u) >> 8;
		n = n % 16 ? n % 2000 : n % 40000;
		value[n] = '\0';
		snprintf(key, sizeof key, "k%u", n % 7);
		put_alone(key, value);
		note(&since, key, strlen(key), value, n);
		value[n] = 'x';
		ck_assert(store_journal_is_safe(&j));
		if (i % 97)
			continue;
		buf_append(&since, "", 1);
		assert_found(&m, since.data);
		store_journal_take(&j, &m);
		store_journal_written(&j);
		buf_free(&since);
	}
	buf_free(&since);
	free(value);
}
END_TEST

START_TEST(what_does_not_fit_is_refused_and_nothing_behind_it_comes_back)
{
	struct store_journal_mark m, behind;
	char *big = malloc(1 << 20);
	memset(big, 'x', 1 << 20);
	big[(1 << 20) - 1] = '\0';
	store_journal_take(&j, &m);
	put_alone("first", "1");
	for (int i = 0; i < 3; i++)
		put_alone("big", big);
	ck_assert(store_journal_is_safe(&j) && store_journal_fills(&j));
	put("of the same group", "1");
	put("big", big);
	ck_assert(!store_journal_is_safe(&j));
	store_journal_commit(&j);
	put_alone("small", "1"); /* not though it would fit: what is before it is missing */
	ck_assert(!store_journal_is_safe(&j));
	store_journal_take(&j, &behind);
	put_alone("later", "2");
	ck_assert(!store_journal_is_safe(&j)); /* what is before it is nowhere yet */
	char *found = found_behind(&m);
	ck_assert_int_eq(strncmp(found, "first=1;big=", 12), 0);
	ck_assert_ptr_null(strstr(found, "same group"));
	ck_assert_ptr_null(strstr(found, "small"));
	ck_assert_ptr_null(strstr(found, "later"));
	free(found);
	store_journal_written(&j);
	ck_assert(store_journal_is_safe(&j));
	assert_found(&behind, "later=2;");
	free(big);
}
END_TEST

START_TEST(a_refusal_while_the_last_one_is_written_waits_for_the_next_write)
{
	struct store_journal_mark m;
	char *big = calloc(1, 5 << 20);
	memset(big, 'x', (5 << 20) - 1);
	put_alone("big", big);
	store_journal_take(&j, &m);
	put_alone("big", big);
	store_journal_written(&j);
	ck_assert(!store_journal_is_safe(&j));
	store_journal_take(&j, &m);
	put_alone("a", "1");
	assert_found(&m, "a=1;");
	store_journal_written(&j);
	ck_assert(store_journal_is_safe(&j));
	assert_found(&m, "a=1;");
	free(big);
}
END_TEST

START_TEST(what_came_while_the_last_was_written_is_not_overwritten)
{
	struct store_journal_mark m;
	char *big = malloc(1 << 20);
	memset(big, 'x', 1 << 20);
	big[(1 << 20) - 1] = '\0';
	store_journal_take(&j, &m);
	for (int i = 0; i < 3; i++)
		put_alone("big", big);
	store_journal_written(&j);
	put_alone("big", big); /* fits */
	char *before = found_behind(&m);
	for (int i = 0; i < 4; i++)
		put_alone("big", big);
	ck_assert(!store_journal_is_safe(&j));
	char *found = found_behind(&m);
	ck_assert_uint_ge(strlen(before), 3 << 20);
	ck_assert(!strcmp(found, before));
	free(found);
	free(before);
	free(big);
}
END_TEST

/* One group that takes that many. */
static void put_bytes(size_t bytes, char fill)
{
	char value[8192];
	size_t n = bytes - 32 - 8 - 1; /* head, lengths, key */
	memset(value, fill, n);
	store_journal_put(&j, "k", 1, value, n);
	store_journal_commit(&j);
}

START_TEST(the_ring_takes_groups_up_to_its_last_byte_and_not_one_word_more)
{
	for (int more = 0; more <= 64; more += 8) {
		struct store_journal_mark m;
		put_bytes(1000, 'a'); /* so that it is not full at its end */
		store_journal_take(&j, &m);
		store_journal_written(&j);
		for (int i = 0; i < RING / PAGE - 1; i++)
			put_bytes(PAGE, 'b');
		ck_assert(store_journal_is_safe(&j));
		put_bytes((size_t)(PAGE + more), 'c');
		ck_assert_int_eq(store_journal_is_safe(&j), !more);
		char *found = found_behind(&m);
		size_t each = PAGE - 32 - 8 + 2; /* of all of it: =, ; */
		ck_assert_uint_eq(strlen(found), (size_t)(RING / PAGE - (more != 0)) * each);
		free(found);
		store_journal_take(&j, &m);
		store_journal_written(&j);
	}
}
END_TEST

static void change_byte(off_t at)
{
	char c;
	int fd = open(path, O_RDWR);
	ck_assert_int_eq(pread(fd, &c, 1, at), 1);
	c ^= 0x20;
	ck_assert_int_eq(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* Whatever one changed byte does, what comes back is a beginning of what was written. */
START_TEST(behind_a_damaged_group_nothing_comes_back)
{
	struct store_journal_mark m;
	char value[16];
	store_journal_take(&j, &m);
	for (int i = 0; i < 20; i++) {
		snprintf(value, sizeof value, "%d", i);
		put_alone("key", value);
	}
	char *all = found_behind(&m);
	off_t end = (off_t)j.end;
	for (off_t at = 0; at < end; at++) {
		change_byte(at);
		char *found = found_behind(&m);
		ck_assert_uint_lt(strlen(found), strlen(all));
		ck_assert_int_eq(strncmp(found, all, strlen(found)), 0);
		free(found);
		change_byte(at);
	}
	assert_found(&m, all);
	free(all);
}
END_TEST

/* After a power cut: the first half of a head is on the disk, the rest of it and its changes are
 * there as they were a lap before, whole. */
START_TEST(a_head_of_which_the_disk_has_half_does_not_bring_back_what_was_there_before)
{
	char page[PAGE];
	struct store_journal_mark m;
	int fd = open(path, O_RDWR);
	for (int i = 0; i < 3;
		i++) { /* a half of the ring each: the third is where the first was */
		store_journal_take(&j, &m);
		store_journal_written(&j);
		put_bytes(PAGE - 16, 'a');
		if (i < 2)
			put_bytes(PAGE, 'b'); /* its head is on two pages */
	}
	ck_assert_uint_eq(m.at, 0);
	ck_assert_uint_eq(j.end % (1 << 20), PAGE - 16);
	ck_assert_int_eq(pread(fd, page, PAGE, PAGE), PAGE);
	put_bytes(PAGE, 'c');
	char *found = found_behind(&m);
	ck_assert_ptr_nonnull(strchr(found, 'c'));
	free(found);
	ck_assert_int_eq(pwrite(fd, page, PAGE, PAGE), PAGE);
	close(fd);
	found = found_behind(&m);
	ck_assert_uint_eq(found[2], 'a');
	ck_assert_ptr_null(strchr(found, 'b'));
	ck_assert_ptr_null(strchr(found, 'c'));
	free(found);
}
END_TEST

/* A kill while the database is written: the mark is the one before. */
START_TEST(what_was_taken_and_not_written_comes_back_with_what_came_meanwhile)
{
	struct store_journal_mark before, m;
	store_journal_take(&j, &before);
	for (int i = 0; i < 8; i++) {
		put_alone("taken", "1");
		store_journal_take(&j, &m);
		put_alone("meanwhile", "2");
		assert_found(&before, "taken=1;meanwhile=2;");
		assert_found(&m, "meanwhile=2;");
		store_journal_written(&j);
		assert_found(&m, "meanwhile=2;");
		store_journal_take(&j, &before);
		store_journal_written(&j);
	}
	/* Again and again, as when the disk is full. */
	for (int i = 0; i < 8; i++) {
		put_alone("x", "3");
		store_journal_take(&j, &m);
	}
	assert_found(&before, "x=3;x=3;x=3;x=3;x=3;x=3;x=3;x=3;");
}
END_TEST

/* As when somebody waits for what was taken before: the database keeps the mark that it has. */
START_TEST(what_is_taken_without_a_change_leaves_the_mark_where_it_is)
{
	struct store_journal_mark m, same;
	store_journal_take(&j, &m);
	for (int i = 0; i < RING / PAGE * 5 / 8; i++)
		put_bytes(PAGE, 'a');
	store_journal_take(&j, &m); /* no room to go on at a half */
	ck_assert_uint_ne(m.at % (RING / 2), 0);
	store_journal_written(&j);
	store_journal_take(&j, &same);
	ck_assert_mem_eq(&same, &m, sizeof m);
	store_journal_written(&j);
	size_t n = 0, each = PAGE - 32 - 8 + 2; /* of all of it: =, ; */
	for (put_bytes(PAGE, 'b'); store_journal_is_safe(&j); put_bytes(PAGE, 'b'))
		n++;
	char *found = found_behind(&m);
	ck_assert_uint_eq(strlen(found), n * each);
	free(found);
}
END_TEST

/* However often it is taken, only the first pages of its halves are written to. */
START_TEST(little_at_a_time_uses_few_pages_again_and_again)
{
	struct store_journal_mark m;
	for (int i = 0; i < 10000; i++) {
		put_alone("key", "value");
		ck_assert_uint_lt(j.end % (2 << 20), 4096);
		store_journal_take(&j, &m);
		store_journal_written(&j);
	}
}
END_TEST

START_TEST(a_file_that_is_cut_off_under_it_refuses_and_harms_nobody)
{
	struct store_journal_mark m;
	store_journal_take(&j, &m);
	put_alone("a", "1");
	ck_assert_int_eq(truncate(path, 0), 0);
	put_alone("b", "2");
	ck_assert(!store_journal_is_safe(&j));
	store_journal_take(&j, &m);
	store_journal_written(&j);
	put_alone("c", "3");
	ck_assert(!store_journal_is_safe(&j));
	store_journal_prepare(&j, 0);
}
END_TEST

START_TEST(what_stands_in_its_place_is_said)
{
	struct store_journal other;
	struct store_journal_mark m = {.run = 1};
	store_journal_close(&j);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(store_journal_open(&other, dir, &err), -EISDIR);
	ck_assert_ptr_nonnull(strstr(err.text, path));
	store_journal_put(&other, "a", 1, "1", 1);
	store_journal_commit(&other);
	ck_assert(!store_journal_is_safe(&other));
	ck_assert_int_eq(store_journal_replay(dir, &m, note, NULL, &err), -EIO);
	rmdir(path);
	ck_assert_int_eq(symlink("/etc/passwd", path), 0);
	ck_assert_int_eq(store_journal_open(&other, dir, &err), -ELOOP);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	TCase *t = tcase_create("store_journal");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, changes_of_whole_groups_come_back_in_their_order);
	tcase_add_test(t, what_the_database_has_does_not_come_back);
	tcase_add_test(t, a_mark_is_kept_as_it_was_and_another_is_none);
	tcase_add_test(t, a_journal_that_was_opened_anew_has_nothing_of_before);
	tcase_add_test(t, no_journal_is_nothing_to_come_back);
	tcase_add_test(t, the_ring_is_used_over_and_over);
	tcase_add_test(t, what_does_not_fit_is_refused_and_nothing_behind_it_comes_back);
	tcase_add_test(t, a_refusal_while_the_last_one_is_written_waits_for_the_next_write);
	tcase_add_test(t, what_came_while_the_last_was_written_is_not_overwritten);
	tcase_add_test(t, the_ring_takes_groups_up_to_its_last_byte_and_not_one_word_more);
	tcase_add_test(t, behind_a_damaged_group_nothing_comes_back);
	tcase_add_test(
		t, a_head_of_which_the_disk_has_half_does_not_bring_back_what_was_there_before);
	tcase_add_test(t, what_was_taken_and_not_written_comes_back_with_what_came_meanwhile);
	tcase_add_test(t, what_is_taken_without_a_change_leaves_the_mark_where_it_is);
	tcase_add_test(t, little_at_a_time_uses_few_pages_again_and_again);
	tcase_add_test(t, a_file_that_is_cut_off_under_it_refuses_and_harms_nobody);
	tcase_add_test(t, what_stands_in_its_place_is_said);
	Suite *suite = suite_create("store_journal");
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
