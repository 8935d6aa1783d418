/* SPDX-License-Identifier: Apache-2.0 */
/* Old lines of ledgers go, from the store as well; sums stay. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/book_parts.h"
#include "gateway/store.h"
#include "tests/gateway/book_fixture.h"
#include "tests/run_suite.h"

enum { DAY_S = 86400, NOON_S = BOOK_FIXTURE_NOON_S };
static struct book_fixture f;

static void setup(void)
{
	book_fixture_make(&f);
}

static void teardown(void)
{
	book_fixture_end(&f);
}

/* A request of a dollar. */
static void spend(const char *user)
{
	static uint64_t id;
	struct book_claim *c = NULL;
	const struct book_worst w = {
		.output_tok = 1, .price = {.output = (money)1000000000 * 1000000}};
	const struct book_request about = {++id, "s", "m"};
	ck_assert_int_eq(book_claim(&c, f.g.book, user, &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	book_claim_settle(c, &(struct money_tokens){0, 0, 1}, "done");
}

static unsigned lines(const char *user)
{
	return book_fixture_count(&f, user, ACCOUNT_LEDGER, "\n");
}

/* Waits until the store's first line is that one; a round is under way. */
static void wait_for_oldest(const char *user, uint64_t serial)
{
	uint64_t oldest = 0;
	for (int i = 0; i < 60000 && oldest != serial; i++) {
		pthread_mutex_lock(&f.g.book->lock);
		oldest = book_find(f.g.book, user)->ledger.oldest;
		pthread_mutex_unlock(&f.g.book->lock);
		usleep(1000);
	}
	ck_assert_uint_eq(oldest, serial);
}

/* Waits until the memory has so many; a round is under way. */
static void wait_for_lines(const char *user, unsigned n)
{
	for (int i = 0; i < 60000 && lines(user) != n; i++)
		usleep(1000);
	ck_assert_uint_eq(lines(user), n);
}

static int count(void *arg, const char *key, size_t key_len, const char *value, size_t len)
{
	++*(unsigned *)arg;
	return 0;
}

/* Lines in the store: of a closed book. */
static unsigned stored(const char *prefix)
{
	struct store *s;
	struct err err;
	unsigned n = 0;
	ck_assert_int_eq(store_open(&s, f.dir, &err), 0);
	ck_assert_int_eq(store_scan(s, prefix, count, &n), 0);
	store_free(s);
	return n;
}

START_TEST(lines_older_than_ledger_days_go_and_what_was_spent_stays)
{
	book_fixture_set(&f, "alice", "ledger_days", "30");
	book_fixture_set(&f, "alice", "window", "total");
	for (int day = 0; day < 40; day++) {
		book_fixture_set_s(NOON_S + (unsigned)day * DAY_S);
		spend("alice");
	}
	book_sweep(f.g.book);
	wait_for_lines("alice", 31); /* of today and of 30 days before */
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "40\n");
	spend("alice");
	ck_assert_uint_eq(lines("alice"), 32);
	book_fixture_close(&f);
	ck_assert_uint_eq(stored("al/alice/"), 32);
	book_fixture_open(&f);
	ck_assert_uint_eq(lines("alice"), 32);
	book_fixture_set(&f, "alice", "window", "total");
	book_fixture_set(&f, "alice", "ledger_days", "1");
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "41\n");
	book_sweep(f.g.book);
	wait_for_lines("alice", 3);
	/* All of them, and then new ones. */
	book_fixture_set_s(NOON_S + 400u * DAY_S);
	book_sweep(f.g.book);
	wait_for_lines("alice", 0);
	spend("alice");
	book_fixture_close(&f);
	ck_assert_uint_eq(stored("al/alice/"), 1);
	book_fixture_open(&f);
	ck_assert_uint_eq(lines("alice"), 1);
}
END_TEST

START_TEST(zero_days_is_for_ever_and_the_default_is_400)
{
	book_fixture_set(&f, "alice", "ledger_days", "0");
	spend("alice");
	spend("bob");
	book_fixture_set_s(NOON_S + 399u * DAY_S);
	spend("carol");
	book_sweep(f.g.book);
	book_fixture_set_s(NOON_S + 401u * DAY_S);
	spend("carol");
	book_sweep(f.g.book);
	wait_for_lines("bob", 0);
	ck_assert_uint_eq(lines("alice"), 1);
	ck_assert_uint_eq(lines("carol"), 2);
}
END_TEST

START_TEST(thousands_of_lines_go_in_portions_and_a_damaged_one_with_them)
{
	for (int i = 0; i < 3500; i++)
		spend("alice");
	store_put(f.g.store, "al/alice/0000000000000003", "no line", 7);
	book_fixture_set_s(NOON_S + 500u * DAY_S);
	spend("alice");
	book_sweep(f.g.book);
	wait_for_oldest("alice", 3500);
	ck_assert_uint_eq(lines("alice"), 1);
	book_fixture_close(&f);
	ck_assert_uint_eq(stored("al/alice/"), 1);
	book_fixture_open(&f);
}
END_TEST

START_TEST(a_book_that_is_closed_in_the_middle_of_it_is_whole_afterwards)
{
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 1200; i++)
			spend("alice");
		book_fixture_set_s(NOON_S + (unsigned)(round + 1) * 500u * DAY_S);
		spend("alice");
		book_sweep(f.g.book);
		usleep((useconds_t)round * 100);
		book_fixture_close(&f);
		book_fixture_open(&f);
		ck_assert_uint_ge(lines("alice"), 1);
	}
	book_sweep(f.g.book);
	wait_for_lines("alice", 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book_sweep");
	TCase *t = tcase_create("book_sweep");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, lines_older_than_ledger_days_go_and_what_was_spent_stays);
	tcase_add_test(t, zero_days_is_for_ever_and_the_default_is_400);
	tcase_add_test(t, thousands_of_lines_go_in_portions_and_a_damaged_one_with_them);
	tcase_add_test(t, a_book_that_is_closed_in_the_middle_of_it_is_whole_afterwards);
	suite_add_tcase(s, t);
	return run_suite(s);
}
