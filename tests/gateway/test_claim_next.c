/* SPDX-License-Identifier: Apache-2.0 */
/* One request, several models: each has its part of the claim, and nothing of it is forgotten. */
#include <errno.h>

#include "gateway/book.h"
#include "tests/gateway/book_fixture.h"
#include "tests/run_suite.h"

static struct book_fixture f;

static void setup(void)
{
	book_fixture_make(&f);
	book_fixture_set(&f, "alice", "limit", "10");
}

static void teardown(void)
{
	book_fixture_end(&f);
}

/* So many dollars for a token of output; the prompt is free. */
static struct book_worst worst(uint64_t output_tok, money dollars)
{
	return (struct book_worst){
		.output_tok = output_tok, .price = {.output = dollars * 1000000000 * 1000000}};
}

static struct book_claim *begun(uint64_t output_tok, money dollars)
{
	struct book_claim *c = NULL;
	const struct book_worst w = worst(output_tok, dollars);
	const struct book_request about = {7, "s", "cheap"};
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 100);
	return c;
}

START_TEST(each_model_that_had_a_part_has_a_line_of_what_it_took)
{
	struct book_claim *c = begun(3, 1);
	const struct book_worst dearer = worst(2, 3);
	const struct book_request about = {7, "s", "dear"};
	book_claim_next(c, &(struct money_tokens){100, 50, 2}, "failed");
	ck_assert_int_eq(book_claim_resize(c, &dearer, NULL, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "2\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n"); /* 10 - 2 - 2 x 3 */
	book_claim_start(c, &about, 110);
	ck_assert_int_eq(
		book_claim_settle(c, &(struct money_tokens){110, 0, 1}, "done"), 5000000000);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "5\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 2);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
			"\"model\": \"cheap\", \"status\": \"failed\", \"prompt_tokens\": "
			"100, \"cached_tokens\": 50, \"output_tokens\": 2, \"cost\": 2, "
			"\"spent\": 2, \"step\": true}\n"),
		1);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"model\": \"dear\", \"status\": \"done\", \"prompt_tokens\": "
				  "110, \"cached_tokens\": 0, \"output_tokens\": 1, \"cost\": 3, "
				  "\"spent\": 5}\n"),
		1);
}
END_TEST

START_TEST(what_is_reserved_for_the_next_model_is_nobody_elses_meanwhile)
{
	struct book_claim *c = begun(8, 1), *other = NULL;
	const struct book_worst more = worst(3, 1);
	struct err err;
	book_claim_next(c, &(struct money_tokens){0, 0, 2}, "failed");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n"); /* 10 - 2 spent - 6 reserved */
	ck_assert_int_eq(book_claim(&other, f.g.book, "alice", &more, NULL, &err), -EDQUOT);
	ck_assert_int_eq(book_claim_settle(c, &(struct money_tokens){0}, "failed"), 2000000000);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "8\n");
}
END_TEST

START_TEST(a_model_that_took_nothing_has_no_line)
{
	struct book_claim *c = begun(3, 1);
	book_claim_next(c, &(struct money_tokens){0}, "failed");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 0);
	book_claim_settle(c, &(struct money_tokens){0, 0, 1}, "done");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 1);
}
END_TEST

START_TEST(a_second_model_that_would_pass_the_limit_is_refused_and_the_first_is_charged)
{
	struct book_claim *c = begun(8, 1);
	const struct book_worst dearer = worst(1, 3);
	struct err err;
	book_claim_next(c, &(struct money_tokens){0, 0, 8}, "failed");
	ck_assert_int_eq(book_claim_resize(c, &dearer, NULL, &err), -EDQUOT);
	ck_assert_int_eq(
		book_claim_settle(c, &(struct money_tokens){0, 0, 0}, "failed"), 8000000000);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "8\n");
}
END_TEST

START_TEST(max_cost_is_of_the_whole_request)
{
	struct book_claim *c = begun(3, 1);
	struct book_worst next = worst(2, 1);
	struct err err;
	next.has_max_cost = true;
	next.max_cost = 4000000000;
	book_claim_next(c, &(struct money_tokens){0, 0, 3}, "failed");
	ck_assert_int_eq(book_claim_resize(c, &next, NULL, &err), -EDQUOT);
	ck_assert_str_eq(err.text, "this request may cost 5 dollars, more than the session's "
				   "max_cost of 4");
	book_claim_settle(c, &(struct money_tokens){0, 0, 0}, "failed");
}
END_TEST

START_TEST(a_kill_charges_all_models_that_had_a_part)
{
	struct book_claim *c = begun(3, 1);
	const struct book_worst dearer = worst(2, 3);
	const struct book_request about = {7, "s", "dear"};
	book_claim_next(c, &(struct money_tokens){100, 50, 3}, "failed");
	ck_assert_int_eq(book_claim_resize(c, &dearer, NULL, NULL), 0);
	book_claim_start(c, &about, 110);
	book_fixture_kill(&f);
	book_claim_return(c);
	book_fixture_close(&f);
	book_fixture_open(&f);
	/* 3 x 1, and the first lease of the second: all of its two tokens. */
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "9\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"status\": \"crashed\", \"prompt_tokens\": 110, "
				  "\"cached_tokens\": 0, \"output_tokens\": 2, \"cost\": 6,"),
		1);
	struct book_crash crash;
	ck_assert(book_crash(f.g.book, 0, &crash));
	ck_assert_uint_eq(crash.request, 7);
	ck_assert_str_eq(crash.model, "dear");
	ck_assert_uint_eq(crash.tokens.prompt, 210);
	ck_assert_uint_eq(crash.tokens.output, 5);
	ck_assert_int_eq(crash.cost, 9000000000);
}
END_TEST

/* Of as many dollars, a token each. */
static int ask_judge(struct book_claim *c, const char *model, uint64_t tok, struct err *err)
{
	const struct book_judge j = {.what = BOOK_JUDGE,
		.model = model,
		.price = {.input = (money)1000000000 * 1000000},
		.prompt_tok = tok};
	return book_claim_judge(c, &j, err);
}

START_TEST(a_judge_behind_a_step_is_not_refused_for_what_the_step_has_paid)
{
	struct book_claim *c = begun(8, 1);
	struct err err = {0};
	book_claim_next(c, &(struct money_tokens){0, 0, 6}, "done");
	ck_assert_msg(ask_judge(c, "judge", 4, &err) == 0, "%s", err.text); /* 10 - 6 */
	ck_assert_int_eq(ask_judge(c, "judge", 1, NULL), -EDQUOT);
	book_claim_settle(c, &(struct money_tokens){0}, "done");
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "10\n");
}
END_TEST

START_TEST(max_cost_is_of_all_judges_too)
{
	struct book_claim *c = NULL;
	const struct book_worst w = {.has_max_cost = true, .max_cost = 4000000000};
	const struct book_request about = {7, "s", "cheap"};
	struct err err;
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	ck_assert_int_eq(ask_judge(c, "one", 2, NULL), 0);
	book_claim_judged(c, &(struct money_tokens){.prompt = 2});
	ck_assert_int_eq(ask_judge(c, "another", 3, &err), -EDQUOT);
	ck_assert_str_eq(err.text, "this request may cost 5 dollars, more than the session's "
				   "max_cost of 4");
	ck_assert_int_eq(ask_judge(c, "another", 2, NULL), 0);
	ck_assert_int_eq(book_claim_settle(c, &(struct money_tokens){0}, "done"), 4000000000);
}
END_TEST

START_TEST(a_step_that_took_what_judges_have_had_is_an_overrun)
{
	struct book_claim *c = NULL;
	struct book_worst w = worst(3, 1);
	const struct book_request about = {7, "s", "cheap"};
	w.judges = 4000000000;
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	ck_assert_int_eq(ask_judge(c, "judge", 4, NULL), 0);
	book_claim_judged(c, &(struct money_tokens){.prompt = 4});
	book_claim_next(c, &(struct money_tokens){0, 0, 5}, "failed"); /* 5 + 4 of 3 + 4 */
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"step\": true, \"overrun\": true}"),
		1);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "1\n"); /* the judge's 4 are its own */
	ck_assert_int_eq(book_claim_settle(c, &(struct money_tokens){0}, "failed"), 9000000000);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "overrun"), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/claim_next");
	TCase *t = tcase_create("claim_next");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, each_model_that_had_a_part_has_a_line_of_what_it_took);
	tcase_add_test(
		t, a_second_model_that_would_pass_the_limit_is_refused_and_the_first_is_charged);
	tcase_add_test(t, what_is_reserved_for_the_next_model_is_nobody_elses_meanwhile);
	tcase_add_test(t, a_model_that_took_nothing_has_no_line);
	tcase_add_test(t, max_cost_is_of_the_whole_request);
	tcase_add_test(t, a_judge_behind_a_step_is_not_refused_for_what_the_step_has_paid);
	tcase_add_test(t, max_cost_is_of_all_judges_too);
	tcase_add_test(t, a_step_that_took_what_judges_have_had_is_an_overrun);
	tcase_add_test(t, a_kill_charges_all_models_that_had_a_part);
	suite_add_tcase(s, t);
	return run_suite(s);
}
