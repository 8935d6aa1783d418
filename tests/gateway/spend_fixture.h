/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_SPEND_FIXTURE_H
#define TESTS_GATEWAY_SPEND_FIXTURE_H

/* A book (book_fixture.h) for each test, and accounts of it that spend and are told verbs. */

#include "gateway/book_parts.h"
#include "tests/gateway/book_fixture.h"

extern struct book_fixture spend_f;
/* 1 dollar for a token of output. */
extern const struct money_price spend_dollar_a_token;

/* The two of a checked fixture. */
void spend_open(void);
void spend_close(void);
/* A request of `user` that costs so many dollars. */
void spend_dollars(const char *user, uint64_t dollars);
/* What account_ctl returned. */
int spend_ctl(const char *name, const char *line, struct err *err);

#endif
