/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/claim_fixture.h"

#include <check.h>

struct book_fixture claim_f;

void claim_open(void)
{
	book_fixture_make(&claim_f);
}

void claim_close(void)
{
	book_fixture_end(&claim_f);
}

/* A dollar for a million tokens of prompt, a dollar for a token of output. */
const struct money_price claim_prices = {
	.input = 1000000000, .cached = 500000000, .output = (money)1000000000 * 1000000};

int claim_try(struct book_claim **out, const char *user, uint64_t prompt_tok, uint64_t output_tok,
	uint64_t *retry_ms, struct err *err)
{
	const struct book_worst worst = {
		.prompt_tok = prompt_tok, .output_tok = output_tok, .price = claim_prices};
	return book_claim(out, claim_f.g.book, user, &worst, retry_ms, err);
}

struct book_claim *claim_admitted(const char *user, uint64_t prompt_tok, uint64_t output_tok)
{
	struct book_claim *c = NULL;
	struct err err = {0};
	int r = claim_try(&c, user, prompt_tok, output_tok, NULL, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return c;
}

void claim_refused(int code, const char *user, uint64_t prompt_tok, uint64_t output_tok,
	const char *sentence, uint64_t retry_ms)
{
	struct book_claim *c = NULL;
	struct err err = {0};
	uint64_t ms = 12345;
	ck_assert_int_eq(claim_try(&c, user, prompt_tok, output_tok, &ms, &err), code);
	ck_assert_str_eq(err.text, sentence);
	ck_assert_uint_eq(ms, retry_ms);
}

uint64_t claim_last_id;

void claim_start(struct book_claim *c, uint64_t prompt_tok)
{
	const struct book_request request = {++claim_last_id, "s", "m"};
	book_claim_start(c, &request, prompt_tok);
}

money claim_settle(struct book_claim *c, uint64_t prompt_tok, uint64_t output_tok)
{
	const struct money_tokens tokens = {prompt_tok, 0, output_tok};
	return book_claim_settle(c, &tokens, "done");
}

void claim_set(const char *name, const char *file, const char *value)
{
	book_fixture_set(&claim_f, name, file, value);
}
