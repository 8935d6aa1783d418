/* SPDX-License-Identifier: Apache-2.0 */
/* Claims: exactly N, never above the limit, on the user and all its groups or on none. */
#include <errno.h>

#include "tests/gateway/claim_fixture.h"
#include "tests/run_suite.h"

/* ---- rate limits ---- */

START_TEST(exactly_n_requests_are_admitted_in_a_minute)
{
	claim_set("alice", "requests_per_minute", "10");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 37);
	for (int i = 0; i < 10; i++)
		claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 23 s", 23000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 59);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 1 s", 1000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	for (int i = 0; i < 10; i++)
		claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 60 s", 60000);
	claim_settle(claim_admitted("bob", 1, 0), 1, 0); /* has none */
}
END_TEST

START_TEST(the_day_and_the_minute_are_counted_apart)
{
	claim_set("alice", "requests_per_day", "3");
	claim_set("alice", "requests_per_minute", "2");
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 2 requests per minute; try again in 60 s", 60000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3 requests per day; try again in 43140 s", 43140000);
	claim_set("alice", "requests_per_day", "0");
	claim_refused(-EAGAIN, "alice", 1, 0, "rate limit of alice: no requests are allowed", 0);
}
END_TEST

START_TEST(the_count_goes_on_after_a_restart_and_after_a_kill)
{
	claim_set("alice", "requests_per_minute", "3");
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	claim_set("alice", "requests_per_minute", "3");
	struct book_claim *c = claim_admitted("alice", 1, 0);
	book_fixture_kill(&claim_f);
	book_claim_return(c); /* of the killed process: is not written */
	book_fixture_close(&claim_f);
	book_fixture_open(&claim_f);
	claim_set("alice", "requests_per_minute", "3");
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3 requests per minute; try again in 60 s", 60000);
}
END_TEST

START_TEST(a_ticket_goes_back_only_into_its_own_window)
{
	claim_set("alice", "requests_per_minute", "1");
	book_claim_return(claim_admitted("alice", 1, 0));
	struct book_claim *c = claim_admitted("alice", 1, 0);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	ck_assert_ptr_null(book_claim_return(c));
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1 request per minute; try again in 60 s", 60000);
	ck_assert_ptr_null(book_claim_return(NULL));
}
END_TEST

START_TEST(tokens_are_reserved_at_their_worst_and_counted_as_they_were)
{
	claim_set("alice", "tokens_per_minute", "1000");
	struct book_claim *c = claim_admitted("alice", 100, 500);
	claim_refused(-EAGAIN, "alice", 1, 400,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	book_claim_return(claim_admitted("alice", 1, 399));
	claim_settle(c, 100, 50);
	claim_settle(claim_admitted("alice", 450, 400), 450, 400);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	claim_refused(-EAGAIN, "alice", 1000, 4000,
		"rate limit of alice: this request alone may take 5000 tokens, more than the limit "
		"of 1000 per minute; trying again does not help",
		0);
}
END_TEST

START_TEST(tokens_of_a_window_that_is_over_are_not_counted_in_the_next)
{
	claim_set("alice", "tokens_per_minute", "1000");
	claim_set("alice", "tokens_per_day", "3000");
	struct book_claim *c = claim_admitted("alice", 0, 1000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	struct book_claim *d = claim_admitted("alice", 0, 1000);
	claim_settle(c, 0, 900);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	claim_settle(d, 0, 800);
	claim_settle(claim_admitted("alice", 0, 200), 0, 200);
	/* The day has seen 1,900. */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 120);
	claim_set("alice", "tokens_per_minute", "");
	claim_settle(claim_admitted("alice", 0, 1100), 0, 1100);
	claim_refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3000 tokens per day; try again in 43080 s", 43080000);
}
END_TEST

START_TEST(so_many_requests_may_be_in_flight)
{
	claim_set("alice", "requests_in_flight", "2");
	struct book_claim *c = claim_admitted("alice", 1, 0), *d = claim_admitted("alice", 1, 0);
	claim_refused(-EBUSY, "alice", 1, 0,
		"limit of alice: 2 requests in flight; try again when one has ended", 1000);
	book_claim_return(c);
	c = claim_admitted("alice", 1, 0);
	claim_settle(d, 1, 0);
	claim_settle(claim_admitted("alice", 1, 0), 1, 0);
	book_claim_return(c);
	/* Nobody's end would make room. */
	claim_set("alice", "requests_in_flight", "0");
	claim_refused(-EBUSY, "alice", 1, 0, "limit of alice: no requests are allowed", 0);
}
END_TEST

/* ---- budgets ---- */

START_TEST(what_is_spent_and_reserved_together_stays_within_the_limit)
{
	claim_set("alice", "limit", "5");
	struct book_claim *c = claim_admitted("alice", 0, 3);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "0\n");
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "2\n");
	claim_refused(-EDQUOT, "alice", 12300, 2,
		"budget of alice is reserved by requests under way: this request may cost 2.0123 "
		"dollars, 2 remain of 5 this month",
		1000);
	ck_assert_int_eq(claim_settle(c, 0, 1), 1000000000);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "4\n");
	claim_settle(claim_admitted("alice", 0, 4), 0, 4);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "0\n");
	const uint64_t december_ms = (uint64_t)(5 * 86400 + 43200) * 1000;
	claim_refused(-EDQUOT, "alice", 1, 0,
		"budget of alice is spent: this request may cost 0.000001 dollars, 0 remain of 5 "
		"this month",
		december_ms);
	claim_refused(-EDQUOT, "alice", 0, 6,
		"budget of alice: this request may cost 6 dollars, more than all of it (5 this "
		"month)",
		0);
	claim_settle(claim_admitted("alice", 0, 0), 0, 0); /* free */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + december_ms / 1000);
	claim_settle(claim_admitted("alice", 0, 5), 0, 5);
}
END_TEST

START_TEST(a_limit_of_zero_lets_only_free_requests_pass)
{
	claim_set("alice", "limit", "0");
	claim_refused(-EDQUOT, "alice", 1, 0,
		"budget of alice: this request may cost 0.000001 dollars, more than all of it (0 "
		"this month)",
		0);
	claim_settle(claim_admitted("alice", 0, 0), 0, 0);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "0\n");
	book_fixture_expect(&claim_f, "alice", ACCOUNT_EVENTS, "");
}
END_TEST

START_TEST(a_limit_lowered_below_what_is_spent_refuses_all_that_costs)
{
	claim_set("alice", "limit", "10");
	claim_settle(claim_admitted("alice", 0, 8), 0, 8);
	claim_set("alice", "limit", "5");
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "-3\n");
	struct book_claim *c;
	ck_assert_int_eq(claim_try(&c, "alice", 1, 0, NULL, NULL), -EDQUOT);
	claim_settle(claim_admitted("alice", 0, 0), 0, 0);
	claim_set("alice", "limit", "");
	claim_settle(claim_admitted("alice", 0, 1000), 0, 1000);
}
END_TEST

START_TEST(a_reservation_moves_along_into_the_next_window)
{
	claim_set("alice", "limit", "5");
	claim_set("alice", "window", "day");
	claim_settle(claim_admitted("alice", 0, 2), 0, 2);
	struct book_claim *c = claim_admitted("alice", 0, 3);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 43200);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "0\n");
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "2\n");
	claim_settle(c, 0, 3);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "3\n");
}
END_TEST

START_TEST(a_request_dearer_than_the_sessions_max_cost_is_refused_with_both_numbers)
{
	struct book_worst worst = {500000, 0, claim_prices, true, 100000000, 0, 0, 0};
	struct book_claim *c = NULL;
	struct err err = {0};
	uint64_t ms = 1;
	ck_assert_int_eq(book_claim(&c, claim_f.g.book, "alice", &worst, &ms, &err), -EDQUOT);
	ck_assert_str_eq(err.text,
		"this request may cost 0.5 dollars, more than the session's max_cost of 0.1");
	ck_assert_uint_eq(ms, 0);
	worst.prompt_tok = 100000;
	ck_assert_int_eq(book_claim(&c, claim_f.g.book, "alice", &worst, &ms, &err), 0);
	worst.prompt_tok++;
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), -EDQUOT);
	claim_settle(c, 100000, 0);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "0.1\n");
}
END_TEST

START_TEST(a_cached_token_dearer_than_a_fresh_one_is_reserved_for)
{
	claim_set("alice", "limit", "1");
	const struct book_worst worst = {
		1000000, 0, {.input = 500000000, .cached = 1000000001}, false, 0, 0, 0, 0};
	struct book_claim *c;
	ck_assert_int_eq(book_claim(&c, claim_f.g.book, "alice", &worst, NULL, NULL), -EDQUOT);
}
END_TEST

START_TEST(a_claim_grows_and_shrinks_within_the_limits)
{
	struct err err = {0};
	claim_set("alice", "limit", "5");
	claim_set("alice", "tokens_per_minute", "10");
	struct book_claim *c = claim_admitted("alice", 0, 2), *d = claim_admitted("alice", 0, 1);
	struct book_worst worst = {0, 5, claim_prices, false, 0, 0, 0, 0};
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), -EDQUOT);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "2\n");
	worst.output_tok = 4;
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), 0);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "0\n");
	worst = (struct book_worst){.output_tok = 10, .price = {0}};
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), -EAGAIN);
	worst.output_tok = 9;
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), 0);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_REMAINING, "4\n");
	/* In the next minute less is less, and more takes all of it there. */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	worst.output_tok = 3;
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), 0);
	struct book_claim *e = claim_admitted("alice", 8, 0);
	worst.output_tok = 4;
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), -EAGAIN);
	book_claim_return(e);
	ck_assert_int_eq(book_claim_resize(c, &worst, NULL, &err), 0);
	claim_refused(-EAGAIN, "alice", 7, 0,
		"rate limit of alice: 10 tokens per minute; try again in 60 s", 60000);
	claim_settle(c, 0, 4);
	claim_settle(d, 0, 1);
	claim_settle(claim_admitted("alice", 6, 0), 6, 0);
}
END_TEST

/* ---- groups ---- */

START_TEST(a_claim_is_on_the_user_and_all_its_groups_or_on_none)
{
	claim_set("staff", "members", "alice\nbob");
	claim_set("staff", "limit", "5");
	claim_set("night", "members", "alice");
	claim_set("night", "requests_per_minute", "1");
	struct book_claim *c = claim_admitted("alice", 0, 2);
	book_fixture_expect(&claim_f, "staff", ACCOUNT_REMAINING, "3\n");
	claim_refused(-EAGAIN, "alice", 0, 2,
		"rate limit of group night: 1 request per minute; try again in 60 s", 60000);
	book_fixture_expect(&claim_f, "staff", ACCOUNT_REMAINING, "3\n");
	claim_refused(-EDQUOT, "bob", 0, 4,
		"budget of group staff is reserved by requests under way: this request may cost 4 "
		"dollars, 3 remain of 5 this month",
		1000);
	claim_settle(c, 0, 1);
	claim_settle(claim_admitted("bob", 0, 3), 0, 3);
	book_fixture_expect(&claim_f, "alice", ACCOUNT_SPENT, "1\n");
	book_fixture_expect(&claim_f, "bob", ACCOUNT_SPENT, "3\n");
	book_fixture_expect(&claim_f, "staff", ACCOUNT_SPENT, "4\n");
	book_fixture_expect(&claim_f, "night", ACCOUNT_SPENT, "1\n");
	ck_assert_uint_eq(
		book_fixture_count(&claim_f, "staff", ACCOUNT_LEDGER, "\"user\": \"alice\""), 1);
	ck_assert_uint_eq(
		book_fixture_count(&claim_f, "staff", ACCOUNT_LEDGER, "\"user\": \"bob\""), 1);
	claim_set("staff", "members", "alice");
	claim_settle(claim_admitted("bob", 0, 9), 0, 9);
	book_fixture_expect(&claim_f, "staff", ACCOUNT_SPENT, "4\n");
	/* A user's own account that is a group of itself pays once. */
	claim_set("night", "requests_per_minute", "");
	claim_set("alice", "members", "alice\nbob");
	claim_settle(claim_admitted("alice", 0, 0), 0, 0);
	ck_assert_uint_eq(book_fixture_count(&claim_f, "alice", ACCOUNT_LEDGER, "\n"), 2);
}
END_TEST

START_TEST(a_group_that_is_removed_is_charged_for_what_was_claimed_and_no_more)
{
	claim_set("staff", "members", "alice");
	struct book_claim *c = claim_admitted("alice", 0, 2);
	ck_assert_int_eq(gateway_account_remove(&claim_f.g, "staff", NULL), 0);
	struct book_claim *d = claim_admitted("alice", 0, 5);
	claim_settle(c, 0, 2);
	claim_settle(d, 0, 5);
	claim_set("staff", "limit", "9");
	book_fixture_expect(&claim_f, "staff", ACCOUNT_REMAINING, "7\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book");
	TCase *t = tcase_create("book");
	tcase_add_checked_fixture(t, claim_open, claim_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, exactly_n_requests_are_admitted_in_a_minute);
	tcase_add_test(t, the_day_and_the_minute_are_counted_apart);
	tcase_add_test(t, the_count_goes_on_after_a_restart_and_after_a_kill);
	tcase_add_test(t, a_ticket_goes_back_only_into_its_own_window);
	tcase_add_test(t, tokens_are_reserved_at_their_worst_and_counted_as_they_were);
	tcase_add_test(t, tokens_of_a_window_that_is_over_are_not_counted_in_the_next);
	tcase_add_test(t, so_many_requests_may_be_in_flight);
	tcase_add_test(t, what_is_spent_and_reserved_together_stays_within_the_limit);
	tcase_add_test(t, a_limit_of_zero_lets_only_free_requests_pass);
	tcase_add_test(t, a_limit_lowered_below_what_is_spent_refuses_all_that_costs);
	tcase_add_test(t, a_reservation_moves_along_into_the_next_window);
	tcase_add_test(t, a_request_dearer_than_the_sessions_max_cost_is_refused_with_both_numbers);
	tcase_add_test(t, a_cached_token_dearer_than_a_fresh_one_is_reserved_for);
	tcase_add_test(t, a_claim_grows_and_shrinks_within_the_limits);
	tcase_add_test(t, a_claim_is_on_the_user_and_all_its_groups_or_on_none);
	tcase_add_test(t, a_group_that_is_removed_is_charged_for_what_was_claimed_and_no_more);
	suite_add_tcase(s, t);
	return run_suite(s);
}
