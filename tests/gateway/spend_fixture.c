/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/spend_fixture.h"

#include <check.h>
#include <string.h>

struct book_fixture spend_f;

void spend_open(void)
{
	book_fixture_make(&spend_f);
}

void spend_close(void)
{
	book_fixture_end(&spend_f);
}

/* 1 dollar for a token of output. */
const struct money_price spend_dollar_a_token = {.output = (money)1000000000 * 1000000};

static uint64_t next_id;

void spend_dollars(const char *user, uint64_t dollars)
{
	const struct book_worst worst = {.output_tok = dollars, .price = spend_dollar_a_token};
	const struct book_request request = {++next_id, "s", "m"};
	const struct money_tokens tokens = {.output = dollars};
	struct book_claim *c = NULL;
	struct err err = {0};
	ck_assert_msg(
		book_claim(&c, spend_f.g.book, user, &worst, NULL, &err) == 0, "%s", err.text);
	book_claim_start(c, &request, 0);
	book_claim_settle(c, &tokens, "done");
}

int spend_ctl(const char *name, const char *line, struct err *err)
{
	struct account *a = gateway_account_find(&spend_f.g, name);
	int r = account_ctl(a, line, strlen(line), err);
	account_put(a);
	return r;
}
