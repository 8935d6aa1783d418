/* SPDX-License-Identifier: Apache-2.0 */
/* A kill and a power cut at any moment of a store that puts, takes and writes at random: takes that
 * fail, takes of nothing, refusals, a ring that is full. */
#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/store_journal.h"
#include "tests/run_suite.h"

enum { RING = 4 << 20, PAGE = 4096 };

static char dir[64];
static struct store_journal j;
static struct err err;

static void setup(void)
{
	strcpy(dir, "/tmp/llmfs-journal-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
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

enum { GROUPS = 6000 };

/* A store, of which only the marks are there. Groups are numbered; a number that did not get in is
 * a hole, behind which nothing comes back. */
static struct {
	bool in[GROUPS];
	unsigned n;
	struct store_journal_mark mark, put, taken; /* the database's; its stuck one's; the last */
	unsigned mark_n, put_n, taken_n;            /* groups before it */
	bool changed, writes;                       /* since the last take; one is under way */
	bool hangs;                                 /* the disk, at times */
	unsigned seed, pace; /* so many groups come while the store does one thing */
} store;

static unsigned draw(unsigned below)
{
	store.seed = store.seed * 1103515245u + 12345u;
	return (store.seed >> 8) % below;
}

static void put_next(void)
{
	static char value[400000];
	char key[16];
	int len = snprintf(key, sizeof key, "%u", store.n);
	unsigned kind = draw(20);
	size_t n = draw(kind == 0 ? sizeof value : kind < 4 ? 9000 : 200);
	if (store.hangs && kind == 19 && draw(8) == 0)
		store_journal_refuse(&j);
	store_journal_put(&j, key, (size_t)len, value, n);
	store_journal_commit(&j);
	store.in[store.n++] = !j.refused;
	store.changed = true;
}

static void take_all(void)
{
	store_journal_take(&j, &store.taken);
	store.taken_n = store.n;
	if (store.changed) {
		store.put = store.taken;
		store.put_n = store.taken_n;
	}
	store.changed = false;
}

static void write_all(void)
{
	store.mark = store.put;
	store.mark_n = store.put_n;
	store_journal_written(&j);
}

static int next_number(void *arg, const char *key, size_t key_len, const char *value, size_t len)
{
	unsigned *n = arg;
	char text[16];
	int text_len = snprintf(text, sizeof text, "%u", *n);
	ck_assert_uint_eq(key_len, (size_t)text_len);
	ck_assert_mem_eq(key, text, key_len);
	ck_assert(*n < store.n && store.in[*n]);
	(*n)++;
	return 0;
}

/* What a start finds behind a mark: numbers in a row from there on, and none that did not get in.
 * The one behind them. */
static unsigned found_until(const char *in, const struct store_journal_mark *m, unsigned from)
{
	unsigned n = from;
	ck_assert_int_eq(store_journal_replay(in, m, next_number, &n, &err), 0);
	return n;
}

static void expect_all_behind_the_mark(void)
{
	unsigned n = store.mark_n;
	while (n < store.n && store.in[n])
		n++;
	ck_assert_uint_eq(found_until(dir, &store.mark, store.mark_n), n);
	ck_assert(!store_journal_is_safe(&j) || n == store.n);
}

static void start_store(unsigned seed)
{
	memset(&store, 0, sizeof store);
	store.seed = seed;
	store.pace = 2;
	store.hangs = seed & 1;
	store.changed = true; /* the first mark is always written */
	take_all();
	write_all();
}

/* Of the store, or of who puts. */
static void step(void)
{
	if (draw(store.pace)) {
		put_next();
	} else if (!store.writes) {
		take_all();
		store.writes = true;
	} else {
		if (draw(4)) /* else it cannot be written, and is kept */
			write_all();
		store.writes = false;
		store.pace = 2u << draw(10);
	}
}

/* Takes that fail, takes of nothing, changes meanwhile, refusals, a ring that is full. */
START_TEST(a_kill_between_any_two_steps_loses_nothing_that_was_safe)
{
	start_store((unsigned)_i + 1);
	while (store.n < GROUPS) {
		step();
		if (draw(24) == 0)
			expect_all_behind_the_mark();
	}
}
END_TEST

/* The file as it is now and was at some earlier times, with the marks of then. */
enum { AGES = 4 };
static struct {
	char bytes[RING];
	struct store_journal_mark mark;
	unsigned mark_n;
} ages[AGES];

static void remember(unsigned age)
{
	memcpy(ages[age].bytes, j.bytes, RING);
	ages[age].mark = store.mark;
	ages[age].mark_n = store.mark_n;
}

/* Of the power: each page, and the mark, is of some age. */
static void cut(const char *other)
{
	char name[96];
	snprintf(name, sizeof name, "%s/journal", other);
	FILE *f = fopen(name, "w");
	ck_assert_ptr_nonnull(f);
	for (size_t at = 0; at < RING; at += PAGE)
		ck_assert_uint_eq(fwrite(ages[draw(AGES)].bytes + at, PAGE, 1, f), 1);
	ck_assert_int_eq(fclose(f), 0);
	for (unsigned i = 0; i < AGES; i++)
		found_until(other, &ages[i].mark, ages[i].mark_n);
}

START_TEST(after_a_power_cut_with_pages_of_any_age_a_beginning_comes_back)
{
	char other[80];
	snprintf(other, sizeof other, "%s/other", dir);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	start_store((unsigned)_i + 100);
	for (unsigned i = 0; i < AGES; i++)
		remember(i);
	while (store.n < GROUPS) {
		step();
		if (draw(128))
			continue;
		remember(draw(AGES));
		cut(other);
	}
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *suite = suite_create("store_journal_steps");
	TCase *t = tcase_create("steps");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, a_kill_between_any_two_steps_loses_nothing_that_was_safe, 0, 4);
	tcase_add_loop_test(
		t, after_a_power_cut_with_pages_of_any_age_a_beginning_comes_back, 0, 2);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
