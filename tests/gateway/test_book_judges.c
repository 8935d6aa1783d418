/* SPDX-License-Identifier: Apache-2.0 */
/* What judges cost: set aside, covered before they are asked, charged in a line of its own. */
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

static const money dollar = 1000000000;

/* Answers cost nothing; `aside` dollars for judges. */
static struct book_claim *begun(money aside)
{
	struct book_claim *c = NULL;
	const struct book_worst w = {.judges = aside * dollar};
	const struct book_request about = {7, "s", "model"};
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	return c;
}

/* A dollar for each token of the prompt, two for one of the verdict. */
static int ask(struct book_claim *c, const char *model, uint64_t prompt_tok, uint64_t output_tok,
	struct err *err)
{
	const struct book_judge j = {BOOK_JUDGE, model,
		{.input = dollar * 1000000, .cached = 0, .output = 2 * dollar * 1000000},
		prompt_tok, output_tok, 0};
	return book_claim_judge(c, &j, err);
}

static void took(struct book_claim *c, uint64_t prompt, uint64_t cached, uint64_t output)
{
	book_claim_judged(c, &(struct money_tokens){prompt, cached, output});
}

static const struct money_tokens nothing;

START_TEST(what_a_judge_took_is_charged_in_a_line_of_its_own)
{
	struct book_claim *c = begun(5);
	struct money_tokens judges;
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n");
	ck_assert_int_eq(ask(c, "judge", 3, 1, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n"); /* within what is set aside */
	took(c, 3, 1, 1);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n"); /* 4 used, 1 aside */
	ck_assert_int_eq(book_claim_judges(c, BOOK_JUDGE, &judges), 4 * dollar);
	ck_assert_uint_eq(judges.cached, 1);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 4 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "4\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "6\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 2);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
			"\"request\": 7, \"user\": \"alice\", \"session\": \"s\", "
			"\"model\": \"judge\", \"status\": \"done\", \"prompt_tokens\": 3, "
			"\"cached_tokens\": 1, \"output_tokens\": 1, \"cost\": 4, "
			"\"spent\": 4, \"judge\": true}"),
		1);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"model\": \"model\""), 1);
}
END_TEST

START_TEST(a_judge_that_cannot_be_paid_is_not_asked)
{
	struct book_claim *c = begun(0);
	struct err err;
	ck_assert_int_eq(ask(c, "judge", 6, 1, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	took(c, 6, 0, 1);
	ck_assert_int_eq(ask(c, "judge", 1, 1, &err), -EDQUOT);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	ck_assert_int_eq(ask(c, "judge", 2, 0, NULL), 0); /* just enough */
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	took(c, 2, 2, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 8 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "8\n");
}
END_TEST

START_TEST(one_that_never_answered_is_charged_for_its_prompt)
{
	struct book_claim *c = begun(0);
	ck_assert_int_eq(ask(c, "judge", 2, 1, NULL), 0);
	ck_assert_int_eq(ask(c, "judge", 1, 1, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n"); /* 10 - 2 - (1 + 2) */
	ck_assert_int_eq(book_claim_settle(c, &nothing, "cancelled"), 3 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "7\n");
}
END_TEST

START_TEST(one_that_never_answered_is_charged_for_what_its_prompt_probably_was)
{
	struct book_claim *c = begun(0);
	const struct book_judge j = {.model = "judge",
		.price = {.input = dollar * 1000000},
		.prompt_tok = 8,
		.likely_tok = 2};
	ck_assert_int_eq(book_claim_judge(c, &j, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n"); /* what it may be is covered */
	ck_assert_int_eq(book_claim_settle(c, &nothing, "cancelled"), 2 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "8\n");
}
END_TEST

START_TEST(another_judge_has_a_line_of_its_own)
{
	struct book_claim *c = begun(0);
	ck_assert_int_eq(ask(c, "first", 2, 0, NULL), 0);
	took(c, 2, 0, 0);
	ck_assert_int_eq(ask(c, "second", 3, 0, NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "2\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n");
	took(c, 3, 0, 0);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 5 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "5\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "5\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"judge\": true"), 2);
}
END_TEST

/* A dollar for each token of the text. */
static int embed(struct book_claim *c, const char *model, uint64_t tok)
{
	const struct book_judge j = {.what = BOOK_EMBEDDING,
		.model = model,
		.price = {.input = dollar * 1000000},
		.prompt_tok = tok};
	return book_claim_judge(c, &j, NULL);
}

START_TEST(the_caches_vector_has_a_line_of_its_own_even_of_the_same_model)
{
	struct book_claim *c = begun(0);
	struct money_tokens had;
	ck_assert_int_eq(ask(c, "one", 2, 0, NULL), 0);
	took(c, 2, 0, 0);
	ck_assert_int_eq(embed(c, "one", 4), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "2\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "4\n");
	took(c, 3, 0, 0);
	ck_assert_int_eq(book_claim_judges(c, BOOK_EMBEDDING, &had), 3 * dollar);
	ck_assert_uint_eq(had.prompt, 3);
	ck_assert_int_eq(book_claim_judges(c, BOOK_JUDGE, &had), 2 * dollar);
	ck_assert_int_eq(ask(c, "one", 1, 0, NULL), 0);
	took(c, 1, 0, 0);
	ck_assert_int_eq(book_claim_judges(c, BOOK_EMBEDDING, &had), 3 * dollar);
	ck_assert_int_eq(book_claim_judges(c, BOOK_JUDGE, &had), 3 * dollar);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 6 * dollar);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "6\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"judge\": true"), 2);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"cost\": 3, \"spent\": 5, \"embedding\": true}"),
		1);
}
END_TEST

START_TEST(a_vector_is_not_paid_with_what_is_set_aside_for_judges)
{
	struct book_claim *c = begun(8), *other = begun(2);
	ck_assert_int_eq(embed(c, "minilm", 1), -EDQUOT);
	ck_assert_int_eq(ask(c, "judge", 8, 0, NULL), 0);
	took(c, 8, 0, 0);
	book_claim_return(other);
	ck_assert_int_eq(embed(c, "minilm", 2), 0);
	took(c, 2, 0, 0);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 10 * dollar);
}
END_TEST

START_TEST(what_is_set_aside_for_a_vector_pays_it_and_no_judge)
{
	struct book_claim *c = NULL;
	const struct book_worst w = {.judges = 3 * dollar, .lookup = 7 * dollar};
	const struct book_request about = {7, "s", "model"};
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	ck_assert_int_eq(ask(c, "judge", 4, 0, NULL), -EDQUOT);
	ck_assert_int_eq(embed(c, "minilm", 7), 0);
	took(c, 5, 0, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	ck_assert_int_eq(ask(c, "judge", 3, 0, NULL), 0);
	took(c, 3, 0, 0);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 8 * dollar);
}
END_TEST

/* A dollar for each token. */
static int opine(struct book_claim *c, const char *model, uint64_t tok)
{
	const struct book_judge j = {.what = BOOK_OPINION,
		.model = model,
		.price = {.input = dollar * 1000000},
		.prompt_tok = tok};
	return book_claim_judge(c, &j, NULL);
}

START_TEST(what_the_router_asks_is_not_paid_with_what_is_set_aside_for_judges)
{
	struct book_claim *c = NULL;
	struct money_tokens had;
	const struct book_worst w = {.judges = 7 * dollar, .opinions = 3 * dollar};
	const struct book_request about = {7, "s", "model"};
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "0\n");
	ck_assert_int_eq(opine(c, "clever", 4), -EDQUOT);
	ck_assert_int_eq(opine(c, "clever", 3), 0);
	took(c, 3, 0, 0);
	ck_assert_int_eq(opine(c, "clever", 1), -EDQUOT); /* that was all of it */
	ck_assert_int_eq(ask(c, "clever", 7, 0, NULL), 0);
	took(c, 7, 0, 0);
	ck_assert_int_eq(book_claim_judges(c, BOOK_OPINION, &had), 3 * dollar);
	ck_assert_int_eq(book_claim_judges(c, BOOK_JUDGE, &had), 7 * dollar);
	ck_assert_int_eq(book_claim_settle(c, &nothing, "done"), 10 * dollar);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"judge\": true"), 2);
}
END_TEST

START_TEST(a_kill_charges_a_vector_as_what_it_is)
{
	struct book_claim *c = begun(0);
	ck_assert_int_eq(embed(c, "minilm", 3), 0);
	book_fixture_kill(&f);
	book_claim_return(c);
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "3\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"model\": \"minilm\", \"status\": \"crashed\""),
		1);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"embedding\": true"), 1);
}
END_TEST

static void price_answers(struct book_worst *w)
{
	*w = (struct book_worst){.output_tok = 100,
		.price = {.output = dollar * 1000000 / 50},
		.lookup = 3 * dollar};
}

START_TEST(what_only_looked_is_charged_for_that_and_gives_its_ticket_back)
{
	struct book_claim *c = NULL;
	struct book_worst w;
	const struct book_request about = {7, "s", "model"};
	price_answers(&w);
	book_fixture_set(&f, "alice", "requests_per_minute", "1");
	for (int i = 1; i < 3; i++) {
		ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
		book_claim_begin(c, &about);
		ck_assert_uint_eq(book_claim_leased(c), 0);
		ck_assert_int_eq(embed(c, "minilm", 3), 0);
		took(c, 2, 0, 0);
		book_claim_return(c);
		book_fixture_expect(&f, "alice", ACCOUNT_SPENT, i == 1 ? "2\n" : "4\n");
		book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, i == 1 ? "8\n" : "6\n");
	}
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\n"), 2);
	ck_assert_uint_eq(
		book_fixture_count(&f, "alice", ACCOUNT_LEDGER, "\"embedding\": true"), 2);
}
END_TEST

START_TEST(a_kill_charges_no_answer_before_it_is_started)
{
	struct book_claim *c = NULL;
	struct book_worst w;
	const struct book_request about = {7, "s", "model"};
	price_answers(&w);
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_begin(c, &about);
	ck_assert_int_eq(embed(c, "minilm", 3), 0);
	book_fixture_kill(&f);
	book_claim_return(c);
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "3\n");
}
END_TEST

START_TEST(judges_count_against_max_cost_and_not_in_rates)
{
	struct book_claim *c = NULL;
	struct err err;
	const struct book_worst w = {.has_max_cost = true, .max_cost = 2 * dollar};
	const struct book_request about = {7, "s", "model"};
	book_fixture_set(&f, "alice", "tokens_per_minute", "1");
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &w, NULL, NULL), 0);
	book_claim_start(c, &about, 0);
	ck_assert_int_eq(ask(c, "judge", 3, 0, &err), -EDQUOT);
	ck_assert_str_eq(err.text, "this request may cost 3 dollars, more than the session's "
				   "max_cost of 2");
	ck_assert_int_eq(ask(c, "judge", 2, 0, &err), 0);
	took(c, 2, 0, 0);
	book_claim_settle(c, &nothing, "done");
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &(struct book_worst){.prompt_tok = 1},
				 NULL, &err),
		0);
	book_claim_return(c);
}
END_TEST

START_TEST(a_kill_charges_what_judges_had_and_what_they_were_asked)
{
	struct book_claim *c = begun(0);
	ck_assert_int_eq(ask(c, "judge", 2, 1, NULL), 0);
	took(c, 2, 0, 1);
	ck_assert_int_eq(ask(c, "judge", 3, 1, NULL), 0);
	book_fixture_kill(&f);
	book_claim_return(c);
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "7\n"); /* 2 + 2 + 3 */
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"model\": \"judge\", \"status\": \"crashed\", "
				  "\"prompt_tokens\": 5, \"cached_tokens\": 0, "
				  "\"output_tokens\": 1, \"cost\": 7,"),
		1);
	struct book_crash crash;
	ck_assert(book_crash(f.g.book, 0, &crash));
	ck_assert_int_eq(crash.cost, 7 * dollar);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/book_judges");
	TCase *c = tcase_create("judges");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, what_a_judge_took_is_charged_in_a_line_of_its_own);
	tcase_add_test(c, a_judge_that_cannot_be_paid_is_not_asked);
	tcase_add_test(c, one_that_never_answered_is_charged_for_its_prompt);
	tcase_add_test(c, one_that_never_answered_is_charged_for_what_its_prompt_probably_was);
	tcase_add_test(c, another_judge_has_a_line_of_its_own);
	tcase_add_test(c, the_caches_vector_has_a_line_of_its_own_even_of_the_same_model);
	tcase_add_test(c, a_vector_is_not_paid_with_what_is_set_aside_for_judges);
	tcase_add_test(c, what_is_set_aside_for_a_vector_pays_it_and_no_judge);
	tcase_add_test(c, what_the_router_asks_is_not_paid_with_what_is_set_aside_for_judges);
	tcase_add_test(c, a_kill_charges_a_vector_as_what_it_is);
	tcase_add_test(c, what_only_looked_is_charged_for_that_and_gives_its_ticket_back);
	tcase_add_test(c, a_kill_charges_no_answer_before_it_is_started);
	tcase_add_test(c, judges_count_against_max_cost_and_not_in_rates);
	tcase_add_test(c, a_kill_charges_what_judges_had_and_what_they_were_asked);
	suite_add_tcase(s, c);
	return run_suite(s);
}
