/* SPDX-License-Identifier: Apache-2.0 */
/* Claims: exactly N, never above the limit, never less charged than what was leased. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/book_parts.h"
#include "tests/gateway/book_fixture.h"
#include "tests/run_suite.h"

static struct book_fixture f;

static void setup(void)
{
	book_fixture_make(&f);
}

static void teardown(void)
{
	book_fixture_end(&f);
}

/* A dollar for a million tokens of prompt, a dollar for a token of output. */
static const struct money_price prices = {
	.input = 1000000000, .cached = 500000000, .output = (money)1000000000 * 1000000};

static int claim(struct book_claim **out, const char *user, uint64_t prompt_tok,
	uint64_t output_tok, uint64_t *retry_ms, struct err *err)
{
	const struct book_worst worst = {prompt_tok, output_tok, prices, false, 0, 0};
	return book_claim(out, f.g.book, user, &worst, retry_ms, err);
}

/* One that must be admitted. new. */
static struct book_claim *admitted(const char *user, uint64_t prompt_tok, uint64_t output_tok)
{
	struct book_claim *c = NULL;
	struct err err = {0};
	int r = claim(&c, user, prompt_tok, output_tok, NULL, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return c;
}

static void refused(int code, const char *user, uint64_t prompt_tok, uint64_t output_tok,
	const char *sentence, uint64_t retry_ms)
{
	struct book_claim *c = NULL;
	struct err err = {0};
	uint64_t ms = 12345;
	ck_assert_int_eq(claim(&c, user, prompt_tok, output_tok, &ms, &err), code);
	ck_assert_str_eq(err.text, sentence);
	ck_assert_uint_eq(ms, retry_ms);
}

static uint64_t next_id;

static void start(struct book_claim *c, uint64_t prompt_tok)
{
	const struct book_request request = {++next_id, "s", "m"};
	book_claim_start(c, &request, prompt_tok);
}

static money settle(struct book_claim *c, uint64_t prompt_tok, uint64_t output_tok)
{
	const struct money_tokens tokens = {prompt_tok, 0, output_tok};
	return book_claim_settle(c, &tokens, "done");
}

static void set(const char *name, const char *file, const char *value)
{
	book_fixture_set(&f, name, file, value);
}

/* ---- rate limits ---- */

START_TEST(exactly_n_requests_are_admitted_in_a_minute)
{
	set("alice", "requests_per_minute", "10");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 37);
	for (int i = 0; i < 10; i++)
		settle(admitted("alice", 1, 0), 1, 0);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 23 s", 23000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 59);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 1 s", 1000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	for (int i = 0; i < 10; i++)
		settle(admitted("alice", 1, 0), 1, 0);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 10 requests per minute; try again in 60 s", 60000);
	settle(admitted("bob", 1, 0), 1, 0); /* has none */
}
END_TEST

START_TEST(the_day_and_the_minute_are_counted_apart)
{
	set("alice", "requests_per_day", "3");
	set("alice", "requests_per_minute", "2");
	settle(admitted("alice", 1, 0), 1, 0);
	settle(admitted("alice", 1, 0), 1, 0);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 2 requests per minute; try again in 60 s", 60000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	settle(admitted("alice", 1, 0), 1, 0);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3 requests per day; try again in 43140 s", 43140000);
	set("alice", "requests_per_day", "0");
	refused(-EAGAIN, "alice", 1, 0, "rate limit of alice: no requests are allowed", 0);
}
END_TEST

START_TEST(the_count_goes_on_after_a_restart_and_after_a_kill)
{
	set("alice", "requests_per_minute", "3");
	settle(admitted("alice", 1, 0), 1, 0);
	book_fixture_close(&f);
	book_fixture_open(&f);
	set("alice", "requests_per_minute", "3");
	struct book_claim *c = admitted("alice", 1, 0);
	book_fixture_kill(&f);
	book_claim_return(c); /* of the killed process: is not written */
	book_fixture_close(&f);
	book_fixture_open(&f);
	set("alice", "requests_per_minute", "3");
	settle(admitted("alice", 1, 0), 1, 0);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3 requests per minute; try again in 60 s", 60000);
}
END_TEST

START_TEST(a_ticket_goes_back_only_into_its_own_window)
{
	set("alice", "requests_per_minute", "1");
	book_claim_return(admitted("alice", 1, 0));
	struct book_claim *c = admitted("alice", 1, 0);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	settle(admitted("alice", 1, 0), 1, 0);
	ck_assert_ptr_null(book_claim_return(c));
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1 request per minute; try again in 60 s", 60000);
	ck_assert_ptr_null(book_claim_return(NULL));
}
END_TEST

START_TEST(tokens_are_reserved_at_their_worst_and_counted_as_they_were)
{
	set("alice", "tokens_per_minute", "1000");
	struct book_claim *c = admitted("alice", 100, 500);
	refused(-EAGAIN, "alice", 1, 400,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	book_claim_return(admitted("alice", 1, 399));
	settle(c, 100, 50);
	settle(admitted("alice", 450, 400), 450, 400);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	refused(-EAGAIN, "alice", 1000, 4000,
		"rate limit of alice: this request alone may take 5000 tokens, more than the limit "
		"of 1000 per minute; trying again does not help",
		0);
}
END_TEST

START_TEST(tokens_of_a_window_that_is_over_are_not_counted_in_the_next)
{
	set("alice", "tokens_per_minute", "1000");
	set("alice", "tokens_per_day", "3000");
	struct book_claim *c = admitted("alice", 0, 1000);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	struct book_claim *d = admitted("alice", 0, 1000);
	settle(c, 0, 900);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 1000 tokens per minute; try again in 60 s", 60000);
	settle(d, 0, 800);
	settle(admitted("alice", 0, 200), 0, 200);
	/* The day has seen 1,900. */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 120);
	set("alice", "tokens_per_minute", "");
	settle(admitted("alice", 0, 1100), 0, 1100);
	refused(-EAGAIN, "alice", 1, 0,
		"rate limit of alice: 3000 tokens per day; try again in 43080 s", 43080000);
}
END_TEST

START_TEST(so_many_requests_may_be_in_flight)
{
	set("alice", "requests_in_flight", "2");
	struct book_claim *c = admitted("alice", 1, 0), *d = admitted("alice", 1, 0);
	refused(-EBUSY, "alice", 1, 0,
		"limit of alice: 2 requests in flight; try again when one has ended", 1000);
	book_claim_return(c);
	c = admitted("alice", 1, 0);
	settle(d, 1, 0);
	settle(admitted("alice", 1, 0), 1, 0);
	book_claim_return(c);
}
END_TEST

/* ---- budgets ---- */

START_TEST(what_is_spent_and_reserved_together_stays_within_the_limit)
{
	set("alice", "limit", "5");
	struct book_claim *c = admitted("alice", 0, 3);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "0\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	refused(-EDQUOT, "alice", 12300, 2,
		"budget of alice is reserved by requests under way: this request may cost 2.0123 "
		"dollars, 2 remain of 5 this month",
		1000);
	ck_assert_int_eq(settle(c, 0, 1), 1000000000);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "4\n");
	settle(admitted("alice", 0, 4), 0, 4);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	const uint64_t december_ms = (uint64_t)(5 * 86400 + 43200) * 1000;
	refused(-EDQUOT, "alice", 1, 0,
		"budget of alice is spent: this request may cost 0.000001 dollars, 0 remain of 5 "
		"this month",
		december_ms);
	refused(-EDQUOT, "alice", 0, 6,
		"budget of alice: this request may cost 6 dollars, more than all of it (5 this "
		"month)",
		0);
	settle(admitted("alice", 0, 0), 0, 0); /* free */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + december_ms / 1000);
	settle(admitted("alice", 0, 5), 0, 5);
}
END_TEST

START_TEST(a_limit_of_zero_lets_only_free_requests_pass)
{
	set("alice", "limit", "0");
	refused(-EDQUOT, "alice", 1, 0,
		"budget of alice: this request may cost 0.000001 dollars, more than all of it (0 "
		"this month)",
		0);
	settle(admitted("alice", 0, 0), 0, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	book_fixture_expect(&f, "alice", ACCOUNT_EVENTS, "");
}
END_TEST

START_TEST(a_limit_lowered_below_what_is_spent_refuses_all_that_costs)
{
	set("alice", "limit", "10");
	settle(admitted("alice", 0, 8), 0, 8);
	set("alice", "limit", "5");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "-3\n");
	struct book_claim *c;
	ck_assert_int_eq(claim(&c, "alice", 1, 0, NULL, NULL), -EDQUOT);
	settle(admitted("alice", 0, 0), 0, 0);
	set("alice", "limit", "");
	settle(admitted("alice", 0, 1000), 0, 1000);
}
END_TEST

START_TEST(a_reservation_moves_along_into_the_next_window)
{
	set("alice", "limit", "5");
	set("alice", "window", "day");
	settle(admitted("alice", 0, 2), 0, 2);
	struct book_claim *c = admitted("alice", 0, 3);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 43200);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "0\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	settle(c, 0, 3);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "3\n");
}
END_TEST

START_TEST(a_request_dearer_than_the_sessions_max_cost_is_refused_with_both_numbers)
{
	struct book_worst worst = {500000, 0, prices, true, 100000000, 0};
	struct book_claim *c = NULL;
	struct err err = {0};
	uint64_t ms = 1;
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &worst, &ms, &err), -EDQUOT);
	ck_assert_str_eq(err.text,
		"this request may cost 0.5 dollars, more than the session's max_cost of 0.1");
	ck_assert_uint_eq(ms, 0);
	worst.prompt_tok = 100000;
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &worst, &ms, &err), 0);
	worst.prompt_tok++;
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), -EDQUOT);
	settle(c, 100000, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "0.1\n");
}
END_TEST

START_TEST(a_cached_token_dearer_than_a_fresh_one_is_reserved_for)
{
	set("alice", "limit", "1");
	const struct book_worst worst = {
		1000000, 0, {.input = 500000000, .cached = 1000000001}, false, 0, 0};
	struct book_claim *c;
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &worst, NULL, NULL), -EDQUOT);
}
END_TEST

START_TEST(a_claim_grows_and_shrinks_within_the_limits)
{
	struct err err = {0};
	set("alice", "limit", "5");
	set("alice", "tokens_per_minute", "10");
	struct book_claim *c = admitted("alice", 0, 2), *d = admitted("alice", 0, 1);
	struct book_worst worst = {0, 5, prices, false, 0, 0};
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), -EDQUOT);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	worst.output_tok = 4;
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	worst = (struct book_worst){.output_tok = 10, .price = {0}};
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), -EAGAIN);
	worst.output_tok = 9;
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "4\n");
	/* In the next minute less is less, and more takes all of it there. */
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	worst.output_tok = 3;
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), 0);
	struct book_claim *e = admitted("alice", 8, 0);
	worst.output_tok = 4;
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), -EAGAIN);
	book_claim_return(e);
	ck_assert_int_eq(book_claim_resize(c, &worst, &err), 0);
	refused(-EAGAIN, "alice", 7, 0,
		"rate limit of alice: 10 tokens per minute; try again in 60 s", 60000);
	settle(c, 0, 4);
	settle(d, 0, 1);
	settle(admitted("alice", 6, 0), 6, 0);
}
END_TEST

/* ---- groups ---- */

START_TEST(a_claim_is_on_the_user_and_all_its_groups_or_on_none)
{
	set("staff", "members", "alice\nbob");
	set("staff", "limit", "5");
	set("night", "members", "alice");
	set("night", "requests_per_minute", "1");
	struct book_claim *c = admitted("alice", 0, 2);
	book_fixture_expect(&f, "staff", ACCOUNT_REMAINING, "3\n");
	refused(-EAGAIN, "alice", 0, 2,
		"rate limit of group night: 1 request per minute; try again in 60 s", 60000);
	book_fixture_expect(&f, "staff", ACCOUNT_REMAINING, "3\n");
	refused(-EDQUOT, "bob", 0, 4,
		"budget of group staff is reserved by requests under way: this request may cost 4 "
		"dollars, 3 remain of 5 this month",
		1000);
	settle(c, 0, 1);
	settle(admitted("bob", 0, 3), 0, 3);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "1\n");
	book_fixture_expect(&f, "bob", ACCOUNT_SPENT, "3\n");
	book_fixture_expect(&f, "staff", ACCOUNT_SPENT, "4\n");
	book_fixture_expect(&f, "night", ACCOUNT_SPENT, "1\n");
	ck_assert_uint_eq(
		book_fixture_count(&f, "staff", ACCOUNT_LEDGER, "\"user\": \"alice\""), 1);
	ck_assert_uint_eq(book_fixture_count(&f, "staff", ACCOUNT_LEDGER, "\"user\": \"bob\""), 1);
	set("staff", "members", "alice");
	settle(admitted("bob", 0, 9), 0, 9);
	book_fixture_expect(&f, "staff", ACCOUNT_SPENT, "4\n");
	/* A user's own account that is a group of itself pays once. */
	set("night", "requests_per_minute", "");
	set("alice", "members", "alice\nbob");
	settle(admitted("alice", 0, 0), 0, 0);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 2);
}
END_TEST

START_TEST(a_group_that_is_removed_is_charged_for_what_was_claimed_and_no_more)
{
	set("staff", "members", "alice");
	struct book_claim *c = admitted("alice", 0, 2);
	ck_assert_int_eq(gateway_account_remove(&f.g, "staff", NULL), 0);
	struct book_claim *d = admitted("alice", 0, 5);
	settle(c, 0, 2);
	settle(d, 0, 5);
	set("staff", "limit", "9");
	book_fixture_expect(&f, "staff", ACCOUNT_REMAINING, "7\n");
}
END_TEST

/* ---- the ledger ---- */

START_TEST(a_line_of_the_ledger_says_it_all)
{
	struct book_claim *c = admitted("alice", 200, 3);
	start(c, 200);
	const struct money_tokens tokens = {200, 50, 2};
	ck_assert_int_eq(book_claim_settle(c, &tokens, "cancelled"), 2000175000);
	char *text = book_fixture_view(&f, "alice", ACCOUNT_LEDGER), expected[512];
	snprintf(expected, sizeof expected,
		"{\"time\": 1795608000.000, \"request\": %" PRIu64
		", \"user\": \"alice\", \"session\": \"s\", \"model\": \"m\", \"status\": "
		"\"cancelled\", \"prompt_tokens\": 200, \"cached_tokens\": 50, \"output_tokens\": "
		"2, \"cost\": 2.000175, \"spent\": 2.000175}\n",
		next_id);
	ck_assert_str_eq(text, expected);
	json_error_t error;
	json_t *line = json_loads(text, 0, &error);
	ck_assert_msg(line != NULL, "%s", error.text);
	json_decref(line);
	free(text);
}
END_TEST

START_TEST(more_than_was_reserved_is_charged_and_said)
{
	set("alice", "limit", "5");
	struct book_claim *c = admitted("alice", 0, 2);
	start(c, 0);
	ck_assert_int_eq(settle(c, 0, 7), 7000000000);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"cost\": 7, \"spent\": 7, \"overrun\": true}\n"),
		1);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "-2\n");
	settle(admitted("alice", 0, 0), 0, 0);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "overrun"), 1);
}
END_TEST

START_TEST(names_that_would_break_a_line_do_not)
{
	struct book_claim *c = admitted("alice", 0, 1);
	const struct book_request request = {++next_id, "a\"b\\c\nd\x80", NULL};
	book_claim_start(c, &request, 0);
	settle(c, 0, 1);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"session\": \"a?b?c?d?\""), 1);
	struct book_claim *d = NULL;
	ck_assert_int_eq(claim(&d, "a\nb", 0, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(claim(&d, "", 0, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(claim(&d, "..", 0, 0, NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(request_ids_go_on_behind_those_of_the_ledger)
{
	struct book_claim *c = admitted("alice", 0, 1), *d;
	const struct book_request high = {4711, "s", "m"}, higher = {4712, "s", "m"};
	book_claim_start(c, &high, 0);
	settle(c, 0, 1);
	book_fixture_close(&f);
	book_fixture_open(&f);
	ck_assert_uint_eq(book_last_request(f.g.book), 4711);
	book_claim_start(d = admitted("bob", 0, 1), &higher, 0);
	book_fixture_kill(&f);
	book_claim_return(d);
	book_fixture_close(&f);
	book_fixture_open(&f);
	ck_assert_uint_eq(book_last_request(f.g.book), 4712);
}
END_TEST

START_TEST(there_is_a_ceiling_on_users_without_an_account)
{
	char name[32];
	for (int i = 0; i < BOOK_ACCOUNTS_MAX; i++) {
		snprintf(name, sizeof name, "u%d", i);
		book_claim_return(admitted(name, 0, 0));
	}
	struct book_claim *c;
	struct err err = {0};
	ck_assert_int_eq(claim(&c, "late", 0, 0, NULL, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "mkdir budgets/late"));
	book_claim_return(admitted("u0", 0, 0));
	ck_assert_int_eq(gateway_account_create(&f.g, "late", NULL), 0);
	book_claim_return(admitted("late", 0, 0));
}
END_TEST

/* ---- crashes ---- */

START_TEST(what_a_crash_left_is_charged_as_it_was_leased)
{
	set("staff", "members", "alice");
	set("alice", "tokens_per_minute", "1000");
	struct book_claim *waiting = admitted("alice", 0, 3);
	struct book_claim *begun = admitted("alice", 0, 200), *capped = admitted("alice", 0, 70);
	start(begun, 0);
	ck_assert(book_claim_lease(begun, 1));
	ck_assert(book_claim_lease(begun, BOOK_LEASE_TOK));
	ck_assert(!book_claim_lease(begun, BOOK_LEASE_TOK + 1));
	ck_assert(book_claim_lease(begun, 2 * BOOK_LEASE_TOK));
	start(capped, 500000);
	ck_assert(!book_claim_lease(capped, 65));
	ck_assert(book_claim_lease(capped, 70)); /* all that was reserved */
	settle(admitted("alice", 0, 1), 0, 1);
	book_fixture_kill(&f);
	book_claim_return(waiting);
	book_claim_return(begun);
	book_claim_return(capped);
	for (int again = 0; again < 2; again++) {
		book_fixture_close(&f);
		book_fixture_open(&f);
		set("staff", "members", "alice");
		for (int i = 0; i < 2; i++) {
			const char *name = i ? "staff" : "alice";
			book_fixture_expect(&f, name, ACCOUNT_SPENT, "199.5\n");
			ck_assert_uint_eq(book_fixture_count(&f, name, ACCOUNT_LEDGER, "\n"), 3);
			ck_assert_uint_eq(book_fixture_count(&f, name, ACCOUNT_LEDGER,
						  "\"status\": \"crashed\", \"prompt_tokens\": 0, "
						  "\"cached_tokens\": 0, \"output_tokens\": 128, "
						  "\"cost\": 128, "),
				1);
		}
	}
	/* 128 + 500,070 + 1 tokens of this minute are gone. */
	set("alice", "tokens_per_minute", "500200");
	settle(admitted("alice", 1, 0), 1, 0);
	struct book_claim *c;
	ck_assert_int_eq(claim(&c, "alice", 1, 0, NULL, NULL), -EAGAIN);
}
END_TEST

START_TEST(damaged_entries_are_left_out_and_the_rest_lives)
{
	settle(admitted("alice", 0, 2), 0, 2);
	store_put(f.g.store, "a/bob", "1short", 6);
	store_put(f.g.store, "a/..", "", 0);
	store_put(f.g.store, "ac/0000000000000009", "1garbage", 8);
	char claim_value[1 + 120 + 14] = "3";
	memcpy(claim_value + 121, "s\0m\0-\0a\"b\0bob\0", 14);
	store_put(f.g.store, "ac/000000000000000a", claim_value, sizeof claim_value);
	store_put(f.g.store, "al/alice/0000000000000000", "two\nlines\n", 10);
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "2\n");
	book_fixture_expect(&f, "alice", ACCOUNT_LEDGER, "");
	ck_assert_ptr_null(gateway_account_find(&f.g, "bob"));
	settle(admitted("alice", 0, 2), 0, 2);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 1);
}
END_TEST

/* What the child showed a reader, told through a pipe after the store had it. */
struct shown {
	uint64_t request, output_tok;
};

struct stored {
	struct store_waiter w;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is;
};

static void note_stored(struct store_waiter *w, int status)
{
	struct stored *s = (struct stored *)w;
	pthread_mutex_lock(&s->lock);
	s->is = true;
	pthread_cond_signal(&s->done);
	pthread_mutex_unlock(&s->lock);
}

static void wait_stored(void)
{
	struct stored s = {.w.done = note_stored};
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.done, NULL);
	store_after(f.g.store, &s.w);
	pthread_mutex_lock(&s.lock);
	while (!s.is)
		pthread_cond_wait(&s.done, &s.lock);
	pthread_mutex_unlock(&s.lock);
	pthread_cond_destroy(&s.done);
	pthread_mutex_destroy(&s.lock);
}

/* Asks and answers until it is killed. */
static void serve(int out)
{
	unsigned x = (unsigned)getpid();
	uint64_t id = book_last_request(f.g.book);
	for (;;) {
		struct book_claim *c = NULL;
		if (claim(&c, "alice", 0, 300, NULL, NULL) < 0)
			_exit(1);
		const struct book_request request = {++id, "s", "m"};
		book_claim_start(c, &request, 0);
		wait_stored();
		x = x * 1103515245 + 12345;
		uint64_t total = (x >> 16) % 300;
		for (uint64_t tok = 1; tok <= total; tok++) {
			if (!book_claim_lease(c, tok))
				wait_stored();
			struct shown s = {id, tok};
			if (write(out, &s, sizeof s) != sizeof s)
				_exit(1);
		}
		settle(c, 0, total);
	}
}

/* Kills a server at some point, and notes in shown[id] what its readers got. */
static void serve_and_kill(uint64_t *shown, size_t n_shown, unsigned after_us)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	if (!child) {
		close(ends[0]);
		book_fixture_open(&f);
		serve(ends[1]);
	}
	close(ends[1]);
	struct shown s;
	bool armed = false;
	while (read(ends[0], &s, sizeof s) == sizeof s) {
		if (s.request < n_shown)
			shown[s.request] = s.output_tok;
		if (!armed) {
			armed = true;
			pid_t killer = fork();
			if (!killer) {
				usleep(after_us);
				kill(child, SIGKILL);
				_exit(0);
			}
			waitpid(killer, NULL, 0);
		}
	}
	close(ends[0]);
	waitpid(child, NULL, 0);
}

START_TEST(the_ledger_is_never_less_than_what_was_shown_after_kill_9)
{
	enum { N = 20000, ROUNDS = 20 };
	static uint64_t shown[N], charged[N];
	book_fixture_close(&f);
	for (unsigned round = 0; round < ROUNDS; round++)
		serve_and_kill(shown, N, 500 + round * 777 % 9000);
	book_fixture_open(&f);
	char *text = book_fixture_view(&f, "alice", ACCOUNT_LEDGER), *rest = text, *line;
	unsigned n = 0, crashed = 0;
	uint64_t first = 0, last = 0, sum = 0;
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *o = json_loads(line, 0, NULL);
		ck_assert_msg(o != NULL, "%s", line);
		uint64_t id = (uint64_t)json_integer_value(json_object_get(o, "request"));
		ck_assert_uint_gt(id, last); /* never used twice, in order */
		last = id;
		first = first ? first : id;
		ck_assert_uint_lt(id, N);
		charged[id] = (uint64_t)json_integer_value(json_object_get(o, "output_tokens"));
		crashed += !strcmp(json_string_value(json_object_get(o, "status")), "crashed");
		sum += charged[id];
		n++;
		json_decref(o);
	}
	free(text);
	ck_assert_uint_ge(n, ROUNDS);
	ck_assert_uint_gt(crashed, 0);
	ck_assert_uint_le(crashed, ROUNDS);
	for (uint64_t id = first; id < N; id++) {
		ck_assert_msg(charged[id] >= shown[id],
			"request %" PRIu64 ": %" PRIu64 " < %" PRIu64, id, charged[id], shown[id]);
		ck_assert_uint_le(charged[id], shown[id] + 2 * BOOK_LEASE_TOK);
	}
	if (first == 1) {
		char expected[32];
		snprintf(expected, sizeof expected, "%" PRIu64 "\n", sum);
		book_fixture_expect(&f, "alice", ACCOUNT_SPENT, expected);
	}
}
END_TEST

/* ---- many at once ---- */

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
		if (claim(&c, i & 1 ? "alice" : "bob", 1, 0, NULL, NULL) < 0) {
			atomic_fetch_add(&crowd->refused, 1);
			continue;
		}
		atomic_fetch_add(&crowd->admitted, 1);
		settle(c, 1, 0);
	}
	return NULL;
}

START_TEST(a_crowd_gets_exactly_n_tickets)
{
	set("staff", "members", "alice\nbob");
	set("staff", "requests_per_minute", "123");
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
		book_fixture_close(&f);
		book_fixture_open(&f);
		set("staff", "members", "alice\nbob");
		set("staff", "requests_per_minute", "123");
		struct book_claim *c;
		ck_assert_int_eq(claim(&c, "alice", 1, 0, NULL, NULL), -EAGAIN);
	}
}
END_TEST

/* Over an edge: a minute begins while they ask. */
static void *ask_over_an_edge(void *arg)
{
	struct crowd *crowd = arg;
	for (int i = 0; i < 300; i++) {
		struct book_claim *c = NULL;
		if (claim(&c, "alice", 1, 0, NULL, NULL) < 0) {
			atomic_fetch_add(&crowd->refused, 1);
			continue;
		}
		if (c->claimed_s >= BOOK_FIXTURE_NOON_S + 60)
			atomic_fetch_add(&crowd->later, 1);
		if (atomic_fetch_add(&crowd->admitted, 1) == 70)
			book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
		settle(c, 1, 0);
	}
	return NULL;
}

START_TEST(a_crowd_over_an_edge_gets_at_most_n_on_each_side)
{
	set("alice", "requests_per_minute", "100");
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
		settle(c, 0, tok);
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
		if (claim(c, dice & 1 ? "alice" : "bob", 0, 1 + dice % 7, NULL, NULL) < 0)
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
		char *text = book_fixture_view(&f, names[looks++ % 2], ACCOUNT_REMAINING);
		bool below = *text == '-';
		free(text);
		if (below)
			return NULL;
	}
	return (void *)looks;
}

START_TEST(a_crowd_never_spends_and_reserves_more_than_the_limit)
{
	set("staff", "members", "alice\nbob");
	set("staff", "limit", "1000");
	set("alice", "limit", "600");
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
	book_fixture_expect(&f, "staff", ACCOUNT_SPENT, expected);
	snprintf(expected, sizeof expected, "%u\n", 1000 - atomic_load(&crowd.admitted));
	book_fixture_expect(&f, "staff", ACCOUNT_REMAINING, expected);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book");
	TCase *t = tcase_create("book");
	tcase_add_checked_fixture(t, setup, teardown);
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
	tcase_add_test(t, a_line_of_the_ledger_says_it_all);
	tcase_add_test(t, more_than_was_reserved_is_charged_and_said);
	tcase_add_test(t, names_that_would_break_a_line_do_not);
	tcase_add_test(t, request_ids_go_on_behind_those_of_the_ledger);
	tcase_add_test(t, there_is_a_ceiling_on_users_without_an_account);
	tcase_add_test(t, what_a_crash_left_is_charged_as_it_was_leased);
	tcase_add_test(t, damaged_entries_are_left_out_and_the_rest_lives);
	tcase_add_test(t, the_ledger_is_never_less_than_what_was_shown_after_kill_9);
	tcase_add_test(t, a_crowd_gets_exactly_n_tickets);
	tcase_add_test(t, a_crowd_over_an_edge_gets_at_most_n_on_each_side);
	tcase_add_test(t, a_crowd_never_spends_and_reserves_more_than_the_limit);
	suite_add_tcase(s, t);
	return run_suite(s);
}
