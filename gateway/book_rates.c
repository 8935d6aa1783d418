/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rate limits leave to a user: for a front end that says so beside each answer.
 *
 * A look, not a claim: nothing is reserved by it, and what it says may be gone a moment later. So
 * it makes no account either: who has not asked yet has what the template says, and the groups that
 * name him.
 *
 * What is left of tokens is what no claim could be refused for: those of requests under way count
 * with all that they may take, as they do when a claim is admitted.
 *
 * Any thread. Lock: the book's, for a few comparisons.
 */
#include "gateway/book_parts.h"
#include "gateway/users.h"

static const uint64_t second_ns = 1000000000;

static void none(struct gateway_rate *out, uint64_t now_ns)
{
	struct window w = window_at(WINDOW_MINUTE, now_ns / second_ns);
	out->limit = out->remaining = UINT64_MAX;
	out->reset_ms = (w.end_s * second_ns - now_ns + 999999) / 1000000;
}

/* limit: of that account, or its template. Takes it if it leaves less, or is lower. */
static void narrow(
	struct gateway_rate *out, uint64_t limit, const struct account_rate *rate, uint64_t now_ns)
{
	uint64_t taken = rate ? rate->used + rate->reserved : 0;
	uint64_t left = limit > taken ? limit - taken : 0;
	if (limit == LIMITS_NONE || left > out->remaining ||
		(left == out->remaining && limit >= out->limit))
		return;
	out->limit = limit;
	out->remaining = left;
	/* After the clock was set back its window is longer than a minute. */
	if (rate)
		out->reset_ms = (rate->w.end_s * second_ns - now_ns + 999999) / 1000000;
}

/* a NULL: of somebody who has no account yet. */
static void look_at(
	struct gateway_rates *out, const struct limits *l, struct account *a, uint64_t now_ns)
{
	if (a)
		account_roll(a, now_ns / second_ns);
	narrow(&out->requests, l->rate[REQUESTS_MINUTE], a ? &a->rates[REQUESTS_MINUTE] : NULL,
		now_ns);
	narrow(&out->tokens, l->rate[TOKENS_MINUTE], a ? &a->rates[TOKENS_MINUTE] : NULL, now_ns);
}

static void look_at_groups(struct gateway_rates *out, struct book *b, struct account *a,
	const char *user, uint64_t now_ns)
{
	bool known = a && book_find_groups(b, a) == 0;
	size_t n = known ? a->n_groups : b->groups.n;
	for (size_t i = 0; i < n; i++) {
		struct account *group = known ? a->groups[i] : b->groups.rows[i].object;
		if (known || limits_has_member(&group->limits, user))
			look_at(out, account_limits(group), group, now_ns);
	}
}

void book_rates(struct book *b, const char *user, struct gateway_rates *out)
{
	uint64_t now_ns = book_now_ns();
	none(&out->requests, now_ns);
	none(&out->tokens, now_ns);
	pthread_mutex_lock(&b->lock);
	struct account *a = book_find(b, user);
	if (a || b->fallback)
		look_at(out, a ? account_limits(a) : &b->fallback->limits, a, now_ns);
	look_at_groups(out, b, a, user, now_ns);
	pthread_mutex_unlock(&b->lock);
}

void gateway_rates(struct gateway *g, uid_t uid, struct gateway_rates *out)
{
	char user[TEXT_NAME_SIZE];
	users_name(g->users, uid, user);
	book_rates(g->book, user, out);
}
