/* SPDX-License-Identifier: Apache-2.0 */
/* What the rate limits of the minute leave to a user. */
#include <errno.h>

#include "tests/gateway/spend_fixture.h"
#include "tests/run_suite.h"

static void rates_are(const char *user, struct gateway_rate requests, struct gateway_rate tokens)
{
	struct gateway_rates r;
	book_rates(spend_f.g.book, user, &r);
	ck_assert_uint_eq(r.requests.limit, requests.limit);
	ck_assert_uint_eq(r.requests.remaining, requests.remaining);
	ck_assert_uint_eq(r.requests.reset_ms, requests.reset_ms);
	ck_assert_uint_eq(r.tokens.limit, tokens.limit);
	ck_assert_uint_eq(r.tokens.remaining, tokens.remaining);
	ck_assert_uint_eq(r.tokens.reset_ms, tokens.reset_ms);
}

#define RATE(limit, left, ms) ((struct gateway_rate){limit, left, ms})
#define NO_RATE(ms) RATE(UINT64_MAX, UINT64_MAX, ms)

/* Of that many tokens at most. */
static struct book_claim *claim(const char *user, uint64_t tok)
{
	struct book_claim *c;
	const struct book_worst worst = {.output_tok = tok};
	ck_assert_int_eq(book_claim(&c, spend_f.g.book, user, &worst, NULL, NULL), 0);
	return c;
}

START_TEST(without_limits_there_is_none_and_the_minute_has_its_end)
{
	rates_are("ada", NO_RATE(60000), NO_RATE(60000));
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 59);
	book_claim_return(claim("ada", 10));
	rates_are("ada", NO_RATE(1000), NO_RATE(1000));
}
END_TEST

START_TEST(requests_and_tokens_that_are_used_or_reserved_are_gone_until_the_minute_ends)
{
	book_fixture_set(&spend_f, "ada", "requests_per_minute", "3");
	book_fixture_set(&spend_f, "ada", "tokens_per_minute", "100");
	rates_are("ada", RATE(3, 3, 60000), RATE(100, 100, 60000));
	struct book_claim *c = claim("ada", 70);
	rates_are("ada", RATE(3, 2, 60000), RATE(100, 30, 60000));
	book_claim_start(c, &(struct book_request){1, "http", "m"}, 1);
	book_claim_settle(c, &(struct money_tokens){.prompt = 1, .output = 9}, "done");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 15);
	rates_are("ada", RATE(3, 2, 45000), RATE(100, 90, 45000));
	book_claim_return(claim("ada", 70)); /* a ticket that goes back */
	rates_are("ada", RATE(3, 2, 45000), RATE(100, 90, 45000));
	book_fixture_set(&spend_f, "ada", "tokens_per_minute", "5"); /* less than was used */
	rates_are("ada", RATE(3, 2, 45000), RATE(5, 0, 45000));
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 60);
	rates_are("ada", RATE(3, 3, 60000), RATE(5, 5, 60000));
}
END_TEST

START_TEST(the_group_counts_where_it_leaves_less)
{
	book_fixture_set(&spend_f, "ada", "requests_per_minute", "3");
	book_fixture_set(&spend_f, "staff", "requests_per_minute", "4");
	book_fixture_set(&spend_f, "staff", "tokens_per_minute", "100");
	book_fixture_set(&spend_f, "staff", "members", "ada\nbob");
	rates_are("ada", RATE(3, 3, 60000), RATE(100, 100, 60000));
	rates_are("bob", RATE(4, 4, 60000), RATE(100, 100, 60000)); /* has no account yet */
	struct book_claim *a = claim("bob", 60), *b = claim("bob", 10);
	rates_are("ada", RATE(4, 2, 60000), RATE(100, 30, 60000));
	rates_are("eve", NO_RATE(60000), NO_RATE(60000));
	book_claim_return(a);
	book_claim_return(b);
	rates_are("ada", RATE(3, 3, 60000), RATE(100, 100, 60000));
	rates_are("bob", RATE(4, 4, 60000), RATE(100, 100, 60000));
	book_fixture_set(&spend_f, "staff", "members", "");
	rates_are("bob", NO_RATE(60000), NO_RATE(60000));
}
END_TEST

START_TEST(who_has_not_asked_has_the_template_and_gets_no_account_by_a_look)
{
	book_fixture_set(&spend_f, "default", "requests_per_minute", "2");
	rates_are("ada", RATE(2, 2, 60000), NO_RATE(60000));
	ck_assert_ptr_null(gateway_account_find(&spend_f.g, "ada"));
	struct book_claim *c = claim("ada", 1);
	rates_are("ada", RATE(2, 1, 60000), NO_RATE(60000));
	rates_are("bob", RATE(2, 2, 60000), NO_RATE(60000));
	book_claim_return(c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gateway/book_rates");
	TCase *t = tcase_create("rates");
	tcase_add_checked_fixture(t, spend_open, spend_close);
	tcase_add_test(t, without_limits_there_is_none_and_the_minute_has_its_end);
	tcase_add_test(
		t, requests_and_tokens_that_are_used_or_reserved_are_gone_until_the_minute_ends);
	tcase_add_test(t, the_group_counts_where_it_leaves_less);
	tcase_add_test(t, who_has_not_asked_has_the_template_and_gets_no_account_by_a_look);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
