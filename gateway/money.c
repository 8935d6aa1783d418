/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Money as whole numbers: what is read, what is printed and what is summed are the same value to
 * the last digit. A request's cost is one sum of products in 128 bits, rounded up once at its end;
 * so it never depends on how its tokens were counted up.
 */
#include "gateway/money.h"

#include <errno.h>
#include <string.h>

enum { DECIMALS = MONEY_DECIMALS };
static const uint64_t dollar = 1000000000;
static const uint64_t most = MONEY_MOST_DOLLARS * 1000000000ull; /* a billion dollars */

int money_parse(const char *text, size_t len, money *out)
{
	uint64_t m = 0;
	int decimals = -1; /* -1: before the point */
	bool any = false, too_much = false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' && decimals < 0) {
			decimals = 0;
			continue;
		}
		if (text[i] < '0' || text[i] > '9' || decimals == DECIMALS)
			return -EINVAL;
		any = true;
		decimals += decimals >= 0;
		too_much |= m > most / 10;
		m = too_much ? 0 : m * 10 + (uint64_t)(text[i] - '0');
	}
	if (!any)
		return -EINVAL;
	for (int i = decimals < 0 ? 0 : decimals; i < DECIMALS; i++) {
		too_much |= m > most / 10;
		m = too_much ? 0 : m * 10;
	}
	if (too_much || m > most)
		return -ERANGE;
	*out = (money)m;
	return 0;
}

const char *money_text(money m, char room[MONEY_TEXT_SIZE])
{
	char *p = room + MONEY_TEXT_SIZE;
	*--p = '\0';
	uint64_t rest = m < 0 ? -(uint64_t)m : (uint64_t)m, whole = rest / dollar;
	uint64_t part = rest % dollar;
	bool shown = false;
	for (int i = 0; i < DECIMALS; i++, part /= 10) {
		shown |= part % 10 != 0;
		if (shown)
			*--p = (char)('0' + part % 10);
	}
	if (shown)
		*--p = '.';
	do
		*--p = (char)('0' + whole % 10);
	while (whole /= 10);
	if (m < 0)
		*--p = '-';
	return memmove(room, p, (size_t)(room + MONEY_TEXT_SIZE - p));
}

int money_print(money m, struct buf *out)
{
	char room[MONEY_TEXT_SIZE];
	return buf_append_str(out, money_text(m, room));
}

static unsigned __int128 product(uint64_t tokens, money price)
{
	return price > 0 ? (unsigned __int128)tokens * (uint64_t)price : 0;
}

money money_cost(const struct money_price *price, const struct money_tokens *tokens)
{
	static const uint64_t million = 1000000;
	uint64_t cached = tokens->cached < tokens->prompt ? tokens->cached : tokens->prompt;
	/* At most 2 * (2^64 - 1) * (2^63 - 1): it fits. */
	unsigned __int128 sum = product(tokens->prompt - cached, price->input) +
				product(cached, price->cached) +
				product(tokens->output, price->output);
	unsigned __int128 cost = sum / million + (sum % million != 0);
	return cost > INT64_MAX ? INT64_MAX : (money)cost;
}

money money_add(money a, money b)
{
	money sum;
	if (!__builtin_add_overflow(a, b, &sum))
		return sum;
	return a > 0 ? INT64_MAX : INT64_MIN;
}

money money_worst(const struct money_price *price, uint64_t prompt_tok, uint64_t output_tok)
{
	struct money_tokens t = {prompt_tok, 0, output_tok};
	money uncached = money_cost(price, &t);
	t.cached = t.prompt;
	money cached = money_cost(price, &t);
	return cached > uncached ? cached : uncached;
}
