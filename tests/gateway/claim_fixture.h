/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_CLAIM_FIXTURE_H
#define TESTS_GATEWAY_CLAIM_FIXTURE_H

/* A book (book_fixture.h) for each test, and claims on it in one line: those that must be admitted,
 * those that must be refused. */

#include "gateway/book_parts.h"
#include "tests/gateway/book_fixture.h"

extern struct book_fixture claim_f;
/* A dollar for a million tokens of prompt, a dollar for a token of output. */
extern const struct money_price claim_prices;
extern uint64_t claim_last_id; /* of claim_start */

/* The two of a checked fixture. */
void claim_open(void);
void claim_close(void);
/* What book_claim returned. */
int claim_try(struct book_claim **out, const char *user, uint64_t prompt_tok, uint64_t output_tok,
	uint64_t *retry_ms, struct err *err);
/* One that must be admitted. new. */
struct book_claim *claim_admitted(const char *user, uint64_t prompt_tok, uint64_t output_tok);
/* With this code, sentence and time to wait. */
void claim_refused(int code, const char *user, uint64_t prompt_tok, uint64_t output_tok,
	const char *sentence, uint64_t retry_ms);
/* Of session "s" and model "m". */
void claim_start(struct book_claim *c, uint64_t prompt_tok);
/* As done. */
money claim_settle(struct book_claim *c, uint64_t prompt_tok, uint64_t output_tok);
/* book_fixture_set. */
void claim_set(const char *name, const char *file, const char *value);

#endif
