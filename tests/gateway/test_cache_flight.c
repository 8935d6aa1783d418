/* SPDX-License-Identifier: Apache-2.0 */
/* Of equal requests under way one computes and the others read its answer. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/cache_fixture.h"
#include "tests/run_suite.h"

enum { N = 50 };

static struct cache_fixture f;
static struct answer *answers[N];
static struct cache_ticket *tickets[N];
static struct cache_found found[N];

static void setup(void)
{
	cache_fixture_make(&f);
	cache_fixture_open(&f);
	for (size_t i = 0; i < N; i++)
		answers[i] = answer_new(f.g);
}

static void teardown(void)
{
	for (size_t i = 0; i < N; i++)
		answers[i] = answer_put(answers[i]);
	cache_key_mask = UINT64_MAX;
	cache_fixture_end(&f);
}

static enum cache_outcome ask(size_t i, struct question q)
{
	q.answer = answers[i];
	found[i] = cache_fixture_ask(&f, &q, &tickets[i]);
	return found[i].outcome;
}

static void drop(size_t i)
{
	cache_fixture_drop(&f, tickets[i]);
	found[i].leader = answer_put(found[i].leader);
	text_put(found[i].text);
	found[i].text = NULL;
}

static const struct question same = {.prompt = "same"};

START_TEST(equal_requests_are_computed_once_and_all_get_the_answer)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	for (size_t i = 1; i < N; i++) {
		ck_assert_int_eq(ask(i, same), CACHE_FOLLOW);
		ck_assert_ptr_eq(found[i].leader, answers[0]);
		ck_assert_int_eq(found[i].level, CACHE_FLIGHT);
	}
	answer_append(answers[0], "answer", 6);
	answer_end(answers[0], 0, false);
	cache_fixture_land(&f, tickets[0], "answer");
	for (size_t i = 1; i < N; i++) {
		char bytes[16];
		size_t n;
		ck_assert_int_eq(answer_read(found[i].leader, 0, bytes, sizeof bytes, &n), 0);
		ck_assert_uint_eq(n, 6);
		ck_assert(!memcmp(bytes, "answer", 6));
		drop(i);
	}
	ck_assert_int_eq((int)cache_fixture_stat(&f, "misses"), 1);
	ck_assert_int_eq((int)cache_fixture_stat(&f, "hits_flight"), N - 1);
	ck_assert_int_eq(cache_fixture_hit(&f, &same, "answer"), CACHE_L1);
}
END_TEST

START_TEST(when_the_leader_is_dropped_the_first_to_come_again_leads)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	ck_assert_int_eq(ask(1, same), CACHE_FOLLOW);
	ck_assert_int_eq(ask(2, same), CACHE_FOLLOW);
	drop(0);
	ck_assert_int_eq((int)cache_fixture_stat(&f, "hits_flight"), 0);
	drop(1);
	ck_assert_int_eq(ask(1, same), CACHE_MISS);
	drop(2);
	ck_assert_int_eq(ask(2, same), CACHE_FOLLOW);
	ck_assert_ptr_eq(found[2].leader, answers[1]);
	cache_fixture_land(&f, tickets[1], "answer");
	drop(2);
	ck_assert_int_eq(cache_fixture_hit(&f, &same, "answer"), CACHE_L1);
}
END_TEST

START_TEST(a_follower_that_leaves_is_no_hit)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	ck_assert_int_eq(ask(1, same), CACHE_FOLLOW);
	drop(1);
	cache_fixture_land(&f, tickets[0], "answer");
	ck_assert_int_eq((int)cache_fixture_stat(&f, "hits_flight"), 0);
}
END_TEST

static void assert_apart(void)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	ck_assert_int_eq(ask(1, (struct question){.prompt = "sane"}), CACHE_MISS);
	ck_assert_int_eq(ask(2, (struct question){.prompt = "same", .user = "bob"}), CACHE_MISS);
	ck_assert_int_eq(
		ask(3, (struct question){.prompt = "same", .system = "be short"}), CACHE_MISS);
	ck_assert_int_eq(ask(4, (struct question){.prompt = "same", .unstored = true}), CACHE_MISS);
	ck_assert_ptr_null(tickets[4]);
	for (size_t i = 0; i < 4; i++)
		drop(i);
}

START_TEST(another_user_or_prompt_or_a_sampled_answer_is_no_flight_of_ours)
{
	assert_apart();
	cache_key_mask = 0;
	assert_apart();
}
END_TEST

START_TEST(those_who_follow_a_leader_that_hits_are_served_by_it)
{
	cache_fixture_store(&f, &same, "kept");
	cache_disk_settle(f.c->disk);
	cache_fixture_forget_memory(&f);
	ck_assert_int_eq(ask(0, same), CACHE_HIT);
	ck_assert_int_eq(found[0].level, CACHE_L2);
	ck_assert_str_eq(found[0].text->bytes, "kept");
	ck_assert_int_eq(ask(1, same), CACHE_HIT); /* it is in memory again */
	ck_assert_int_eq(found[1].level, CACHE_L1);
	drop(0);
	drop(1);
}
END_TEST

START_TEST(what_a_follower_lands_is_not_stored)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	ck_assert_int_eq(ask(1, same), CACHE_FOLLOW);
	cache_fixture_land(&f, tickets[1], "not its own");
	answer_put(found[1].leader);
	drop(0);
	ck_assert_int_eq((int)cache_fixture_stat(&f, "stored"), 0);
}
END_TEST

START_TEST(followers_of_a_flight_that_is_over_may_leave_in_any_order)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	for (size_t i = 1; i < 5; i++)
		ck_assert_int_eq(ask(i, same), CACHE_FOLLOW);
	drop(3);
	drop(0);
	drop(1);
	drop(4);
	drop(2);
}
END_TEST

START_TEST(one_that_began_before_a_flush_is_not_followed_after_it)
{
	ck_assert_int_eq(ask(0, same), CACHE_MISS);
	cache_fixture_ctl(&f, "flush ada");
	ck_assert_int_eq(ask(1, same), CACHE_MISS);
	ck_assert_int_eq(ask(2, same), CACHE_FOLLOW);
	ck_assert_ptr_eq(found[2].leader, answers[1]);
	cache_fixture_land(&f, tickets[0], "old");
	ck_assert_int_eq(ask(3, same), CACHE_FOLLOW);
	ck_assert_ptr_eq(found[3].leader, answers[1]);
	cache_fixture_land(&f, tickets[1], "new");
	drop(2);
	drop(3);
	ck_assert_int_eq(cache_fixture_hit(&f, &same, "new"), CACHE_L1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_flight");
	TCase *t = tcase_create("cache_flight");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, equal_requests_are_computed_once_and_all_get_the_answer);
	tcase_add_test(t, when_the_leader_is_dropped_the_first_to_come_again_leads);
	tcase_add_test(t, a_follower_that_leaves_is_no_hit);
	tcase_add_test(t, another_user_or_prompt_or_a_sampled_answer_is_no_flight_of_ours);
	tcase_add_test(t, those_who_follow_a_leader_that_hits_are_served_by_it);
	tcase_add_test(t, what_a_follower_lands_is_not_stored);
	tcase_add_test(t, followers_of_a_flight_that_is_over_may_leave_in_any_order);
	tcase_add_test(t, one_that_began_before_a_flush_is_not_followed_after_it);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
