/* SPDX-License-Identifier: Apache-2.0 */
/* Claims of many threads at once: exactly N tickets, and never more than the limit. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/gateway/claim_fixture.h"
#include "tests/run_suite.h"

enum { THREADS = 8 };

struct crowd {
	atomic_uint admitted, refused, later;
	atomic_bool over;
};

static void *ask_once_each(void *arg)
{
	struct crowd *crowd = arg;
	for (int i = 0; i < 200; i++) {
		struct book_claim *c = NULL;
		if (claim_try(&c, i & 1 ? "alice" : "bob", 1, 0, NULL, NULL) < 0) {
			atomic_fetch_add(&crowd->refused, 1);
			continue;
		}
		atomic_fetch_add(&crowd->admitted, 1);
		claim_settle(c, 1, 0);
	}
	return NULL;
}

START_TEST(a_crowd_gets_exactly_n_tickets)
{
	claim_set("staff", "members", "alice\nbob");
	claim_set("staff", "requests_per_minute", "123");
	for (unsigned minute = 0; minute < 3; minute++) {
		struct crowd crowd = {0};
		pthread_t threads[THREADS];
		book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60 * minute);
		for (int i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, ask_once_each, &crowd);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		ck_assert_uint_eq(atomic_load(&crowd.admitted), 123);
		ck_assert_uint_eq(atomic_load(&crowd.refused), THREADS * 200 - 123);
		book_fixture_close(&claim_f);
		book_fixture_open(&claim_f);
		claim_set("staff", "members", "alice\nbob");
		claim_set("staff", "requests_per_minute", "123");
		struct book_claim *c;
		ck_assert_int_eq(claim_try(&c, "alice", 1, 0, NULL, NULL), -EAGAIN);
	}
}
END_TEST

/* Over an edge: a minute begins while they ask. */
static void *ask_over_an_edge(void *arg)
{
	struct crowd *crowd = arg;
	for (int i = 0; i < 300; i++) {
		struct book_claim *c = NULL;
		if (claim_try(&c, "alice", 1, 0, NULL, NULL) < 0) {
			atomic_fetch_add(&crowd->refused, 1);
			continue;
		}
		if (c->claimed_s >= BOOK_FIXTURE_NOON_S + 60)
			atomic_fetch_add(&crowd->later, 1);
		if (atomic_fetch_add(&crowd->admitted, 1) == 70)
			book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
		claim_settle(c, 1, 0);
	}
	return NULL;
}

START_TEST(a_crowd_over_an_edge_gets_at_most_n_on_each_side)
{
	claim_set("alice", "requests_per_minute", "100");
	struct crowd crowd = {0};
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, ask_over_an_edge, &crowd);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* 71 before the edge, and what others had until the clock was set. */
	unsigned later = atomic_load(&crowd.later), earlier = atomic_load(&crowd.admitted) - later;
	ck_assert_uint_ge(earlier, 71);
	ck_assert_uint_le(earlier, 100);
	ck_assert_uint_eq(later, 100);
}
END_TEST

enum { HELD = 6 }; /* claims that each of the crowd has at a time */

/* Ends one: given back, or settled for at most what it claimed. */
static void end_at_random(struct crowd *crowd, struct book_claim *c, unsigned dice)
{
	if (c && dice % 5 == 0) {
		book_claim_return(c);
	} else if (c) {
		const uint64_t most = c->worst.output_tok;
		const struct book_request request = {dice, "s", "m"};
		book_claim_start(c, &request, 0);
		book_claim_lease(c, most);
		unsigned tok = (unsigned)(dice / 5 % (most + 1));
		claim_settle(c, 0, tok);
		atomic_fetch_add(&crowd->admitted, tok);
	}
}

static void *spend_at_random(void *arg)
{
	struct crowd *crowd = arg;
	struct book_claim *held[HELD] = {NULL};
	unsigned x = (unsigned)(uintptr_t)&x >> 4;
	for (int i = 0; i < 500; i++) {
		x = x * 1103515245 + 12345;
		unsigned dice = x >> 16;
		struct book_claim **c = &held[i % HELD];
		end_at_random(crowd, *c, dice);
		*c = NULL;
		if (claim_try(c, dice & 1 ? "alice" : "bob", 0, 1 + dice % 7, NULL, NULL) < 0)
			atomic_fetch_add(&crowd->refused, 1);
	}
	for (unsigned i = 0; i < HELD; i++)
		end_at_random(crowd, held[i], i);
	return NULL;
}

static void *check_remaining(void *arg)
{
	struct crowd *crowd = arg;
	uintptr_t looks = 1;
	static const char *const names[] = {"staff", "alice"};
	while (!atomic_load(&crowd->over)) {
		char *text = book_fixture_view(&claim_f, names[looks++ % 2], ACCOUNT_REMAINING);
		bool below = *text == '-';
		free(text);
		if (below)
			return NULL;
	}
	return (void *)looks;
}

START_TEST(a_crowd_never_spends_and_reserves_more_than_the_limit)
{
	claim_set("staff", "members", "alice\nbob");
	claim_set("staff", "limit", "1000");
	claim_set("alice", "limit", "600");
	struct crowd crowd = {0};
	pthread_t threads[THREADS], checker;
	void *looks = NULL;
	pthread_create(&checker, NULL, check_remaining, &crowd);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, spend_at_random, &crowd);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&crowd.over, true);
	pthread_join(checker, &looks);
	ck_assert_msg(looks != NULL, "a sum was above its limit");
	ck_assert_uint_gt(atomic_load(&crowd.refused), 0);
	char expected[32];
	snprintf(expected, sizeof expected, "%u\n", atomic_load(&crowd.admitted));
	book_fixture_expect(&claim_f, "staff", ACCOUNT_SPENT, expected);
	snprintf(expected, sizeof expected, "%u\n", 1000 - atomic_load(&crowd.admitted));
	book_fixture_expect(&claim_f, "staff", ACCOUNT_REMAINING, expected);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book_crowd");
	TCase *t = tcase_create("book_crowd");
	tcase_add_checked_fixture(t, claim_open, claim_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_crowd_gets_exactly_n_tickets);
	tcase_add_test(t, a_crowd_over_an_edge_gets_at_most_n_on_each_side);
	tcase_add_test(t, a_crowd_never_spends_and_reserves_more_than_the_limit);
	suite_add_tcase(s, t);
	return run_suite(s);
}
