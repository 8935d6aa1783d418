/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_MONEY_H
#define GATEWAY_MONEY_H

/* Dollars as integers of 10^-9 dollars ("nanodollars"), and what tokens cost. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

typedef int64_t money; /* nanodollars */

#define MONEY_DECIMALS 9
#define MONEY_MOST_DOLLARS 1000000000
/* Of decimal text: digits, at most one point, at most nine decimals ("12", "0.000000001", ".5").
 * 0; -EINVAL; -ERANGE: more than a billion dollars. */
int money_parse(const char *text, size_t len, money *out);
/* Appends the shortest exact decimal form: "12", "0.5", "-0.000000001". Errors as buf_append. */
int money_print(money m, struct buf *out);
/* The same as a C string in `room`, which it returns. */
#define MONEY_TEXT_SIZE 24
const char *money_text(money m, char room[MONEY_TEXT_SIZE]);

/* Nanodollars per million tokens. All zero: it is free. */
struct money_price {
	money input, cached, output; /* of prompt tokens, of those of them found in a cache, of
					answers' tokens */
};

struct money_tokens {
	uint64_t prompt, cached, output; /* cached: of the prompt's, already in it */
};

/* Saturates instead of overflowing. */
money money_add(money a, money b);
/* The exact cost, rounded up to a nanodollar; saturates, too. */
money money_cost(const struct money_price *price, const struct money_tokens *tokens);
/* At most: every token of the prompt at the dearer of its two prices. */
money money_worst(const struct money_price *price, uint64_t prompt_tok, uint64_t output_tok);

#endif
