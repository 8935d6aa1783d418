/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sums of an account, and what they say to a claim.
 *
 * A ticket or a token belongs to the window in which it was claimed: when that is over, settling or
 * giving back changes nothing any more. Money belongs to the window in which it is settled, and a
 * reservation to whichever is open: a request that runs across midnight holds its worst case
 * against the new day. So spent + reserved <= limit at every instant, also over a border.
 *
 * The invariant is kept by order alone: account_admits compares, account_take adds, and the book's
 * lock is held from the first account's comparison to the last one's addition.
 *
 * Refusals are sentences with both numbers. The one who is refused may be told of a group by name,
 * not of its members.
 */
#include "gateway/account.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/book_parts.h"

static const uint64_t second_ns = 1000000000;

struct account *account_make(struct book *b, const char *name)
{
	struct account *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	atomic_init(&a->refs, 1);
	a->b = book_ref(b);
	memcpy(a->name, name, strnlen(name, TEXT_NAME_MAX));
	snprintf(a->key, sizeof a->key, "a/%s", a->name);
	limits_init(&a->limits);
	ledger_init(&a->ledger, "al", a->name);
	ledger_init(&a->events, "ae", a->name);
	list_init(&a->dirty);
	return a;
}

struct account *account_ref(struct account *a)
{
	atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

struct account *account_put(struct account *a)
{
	if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	limits_clear(&a->limits);
	ledger_free(&a->ledger);
	ledger_free(&a->events);
	free(a->groups);
	book_put(a->b);
	free(a);
	return NULL;
}

const char *account_name(const struct account *a)
{
	return a->name;
}

const struct limits *account_limits(const struct account *a)
{
	const struct account *shared = a->b->fallback;
	return a->configured || !shared ? &a->limits : &shared->limits;
}

bool account_is_shown(const struct account *a)
{
	return a->configured || a->asked;
}

static enum window_kind rate_window(enum rate r)
{
	return r == REQUESTS_MINUTE || r == TOKENS_MINUTE ? WINDOW_MINUTE : WINDOW_DAY;
}

void account_roll(struct account *a, uint64_t now_s)
{
	for (int r = 0; r < N_RATES; r++)
		if (window_roll(&a->rates[r].w, rate_window((enum rate)r), now_s))
			a->rates[r].used = a->rates[r].reserved = 0;
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		if (window_roll(&a->sums[k].w, (enum window_kind)k, now_s))
			a->sums[k].spent = 0;
}

void account_leave_future(struct account *a, uint64_t now_s)
{
	for (int r = 0; r < N_RATES; r++)
		if (a->rates[r].w.begin_s > now_s)
			a->rates[r].w = (struct window){0};
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		if (a->sums[k].w.begin_s > now_s)
			a->sums[k].w = (struct window){0};
	account_roll(a, now_s);
}

struct account_sum *account_sum(struct account *a)
{
	return &a->sums[account_limits(a)->window];
}

/* ---- may it? ---- */

/* "group staff" or "alice". */
static const char *who(const struct account *a, char room[8 + TEXT_NAME_SIZE])
{
	snprintf(room, 8 + TEXT_NAME_SIZE, "%s%s",
		a->configured && a->limits.n_members ? "group " : "", a->name);
	return room;
}

static uint64_t ms_until(uint64_t end_s, uint64_t now_ns)
{
	if (end_s > UINT64_MAX / second_ns || end_s * second_ns <= now_ns)
		return 0;
	return (end_s * second_ns - now_ns + 999999) / 1000000;
}

static int refuse_rate(
	const struct account *a, enum rate r, uint64_t now_ns, uint64_t *retry_ms, struct err *err)
{
	char room[8 + TEXT_NAME_SIZE];
	uint64_t limit = account_limits(a)->rate[r];
	bool requests = r == REQUESTS_MINUTE || r == REQUESTS_DAY;
	const char *what = requests ? limit == 1 ? "request" : "requests" : "tokens";
	const char *window = window_name(rate_window(r));
	if (!limit)
		return err_set(err, -EAGAIN, "rate limit of %s: no %s are allowed", who(a, room),
			requests ? "requests" : "tokens");
	*retry_ms = ms_until(a->rates[r].w.end_s, now_ns);
	return err_set(err, -EAGAIN,
		"rate limit of %s: %" PRIu64 " %s per %s; try again in %" PRIu64 " s", who(a, room),
		limit, what, window, (*retry_ms + 999) / 1000);
}

static int admits_requests(
	const struct account *a, uint64_t now_ns, uint64_t *retry_ms, struct err *err)
{
	const struct limits *l = account_limits(a);
	char room[8 + TEXT_NAME_SIZE];
	if (l->in_flight == 0) {
		*retry_ms = 0;
		return err_set(err, -EBUSY, "limit of %s: no requests are allowed", who(a, room));
	}
	if (a->in_flight >= l->in_flight) {
		*retry_ms = 1000;
		return err_set(err, -EBUSY,
			"limit of %s: %" PRIu64 " requests in flight; try again when one has ended",
			who(a, room), l->in_flight);
	}
	for (int r = REQUESTS_MINUTE; r <= REQUESTS_DAY; r++)
		if (a->rates[r].used >= l->rate[r])
			return refuse_rate(a, (enum rate)r, now_ns, retry_ms, err);
	return 0;
}

/* What of `had` stands in the window that is open. */
static uint64_t counted(const struct account_hold *h, const struct account_ask *had, enum rate r)
{
	return had && h->begin_s[r] == h->a->rates[r].w.begin_s ? had->tok : 0;
}

static int admits_tokens(const struct account *a, const struct account_hold *h,
	const struct account_ask *had, const struct account_ask *want, uint64_t now_ns,
	uint64_t *retry_ms, struct err *err)
{
	char room[8 + TEXT_NAME_SIZE];
	if (want->tok <= (had ? had->tok : 0))
		return 0;
	for (int i = TOKENS_MINUTE; i <= TOKENS_DAY; i++) {
		enum rate r = (enum rate)i;
		uint64_t limit = account_limits(a)->rate[r];
		if (limit == LIMITS_NONE)
			continue;
		if (limit && want->tok > limit)
			return err_set(err, -EAGAIN,
				"rate limit of %s: this request alone may take %" PRIu64
				" tokens, more than the limit of %" PRIu64
				" per %s; trying again does not help",
				who(a, room), want->tok, limit, window_name(rate_window(r)));
		uint64_t taken = a->rates[r].used + a->rates[r].reserved - counted(h, had, r);
		if (taken > limit || want->tok > limit - taken)
			return refuse_rate(a, r, now_ns, retry_ms, err);
	}
	return 0;
}

static const char *const in_window[N_WINDOWS] = {
	[WINDOW_DAY] = "today",
	[WINDOW_WEEK] = "this week",
	[WINDOW_MONTH] = "this month",
	[WINDOW_TOTAL] = "in total",
};

static money narrow(__int128 m)
{
	return m > INT64_MAX ? INT64_MAX : m < INT64_MIN ? INT64_MIN : (money)m;
}

static int admits_money(struct account *a, const struct account_ask *had,
	const struct account_ask *want, uint64_t now_ns, uint64_t *retry_ms, struct err *err)
{
	const struct limits *l = account_limits(a);
	const struct account_sum *sum = account_sum(a);
	money has = had ? had->cost : 0;
	if (!l->has_budget || want->cost <= has)
		return 0;
	__int128 unspent = (__int128)l->budget - sum->spent, rest = unspent - a->reserved + has;
	if (want->cost <= rest)
		return 0;
	char name[8 + TEXT_NAME_SIZE], cost[MONEY_TEXT_SIZE], left[MONEY_TEXT_SIZE],
		limit[MONEY_TEXT_SIZE];
	money_text(want->cost, cost);
	money_text(rest > 0 ? narrow(rest) : 0, left);
	money_text(l->budget, limit);
	const char *when = in_window[l->window];
	if (want->cost > l->budget)
		return err_set(err, -EDQUOT,
			"budget of %s: this request may cost %s dollars, more than all of it (%s "
			"%s)",
			who(a, name), cost, limit, when);
	if (want->cost <= unspent) {
		*retry_ms = 1000;
		return err_set(err, -EDQUOT,
			"budget of %s is reserved by requests under way: this request may cost %s "
			"dollars, %s remain of %s %s",
			who(a, name), cost, left, limit, when);
	}
	*retry_ms = ms_until(sum->w.end_s, now_ns);
	return err_set(err, -EDQUOT,
		"budget of %s %s: this request may cost %s dollars, %s remain of %s %s",
		who(a, name), unspent > 0 ? "does not reach" : "is spent", cost, left, limit, when);
}

/* Members and alerts limit nothing by themselves. */
static int check_broken(const struct account *a, struct err *err)
{
	char room[8 + TEXT_NAME_SIZE];
	uint32_t broken = account_limits(a)->broken & ((UINT32_C(1) << LIMITS_ALERTS) - 1);
	if (!broken)
		return 0;
	enum limits_setting i = (enum limits_setting)__builtin_ctz(broken);
	return err_set(err, -EDQUOT,
		"budget of %s is closed: its file %s has a fault; it must be %s", who(a, room),
		limits_names()[i], limits_allowed(i));
}

int account_admits(struct account *a, const struct account_hold *h, const struct account_ask *had,
	const struct account_ask *want, uint64_t now_ns, uint64_t *retry_ms, struct err *err)
{
	int r = check_broken(a, err);
	r = r || had ? r : admits_requests(a, now_ns, retry_ms, err);
	r = r ? r : admits_tokens(a, h, had, want, now_ns, retry_ms, err);
	return r ? r : admits_money(a, had, want, now_ns, retry_ms, err);
}

/* ---- taking and giving back ---- */

static void take_tokens(
	struct account_hold *h, const struct account_ask *had, const struct account_ask *want)
{
	for (int i = TOKENS_MINUTE; i <= TOKENS_DAY; i++) {
		struct account_rate *c = &h->a->rates[i];
		if (h->begin_s[i] == c->w.begin_s) {
			c->reserved += want->tok - (had ? had->tok : 0);
		} else if (want->tok > (had ? had->tok : 0)) {
			/* More, and the window it was in is over: all of it is in this one now. */
			h->begin_s[i] = c->w.begin_s;
			c->reserved += want->tok;
		}
	}
}

void account_take(
	struct account_hold *h, const struct account_ask *had, const struct account_ask *want)
{
	struct account *a = h->a;
	if (!had) {
		for (int r = 0; r < N_RATES; r++)
			h->begin_s[r] = a->rates[r].w.begin_s;
		a->rates[REQUESTS_MINUTE].used++;
		a->rates[REQUESTS_DAY].used++;
		a->in_flight++;
	}
	take_tokens(h, had, want);
	a->reserved += want->cost - (had ? had->cost : 0);
}

void account_let_go(struct account_hold *h, const struct account_ask *had, uint64_t tok)
{
	struct account *a = h->a;
	for (int r = TOKENS_MINUTE; r <= TOKENS_DAY; r++) {
		if (h->begin_s[r] != a->rates[r].w.begin_s)
			continue;
		/* Less is there when a wrong clock was set right and the windows were reset. */
		a->rates[r].reserved -=
			had->tok < a->rates[r].reserved ? had->tok : a->rates[r].reserved;
		a->rates[r].used += tok;
	}
	a->reserved -= had->cost;
	a->in_flight--;
}

void account_untake(struct account_hold *h)
{
	for (int r = REQUESTS_MINUTE; r <= REQUESTS_DAY; r++)
		if (h->begin_s[r] == h->a->rates[r].w.begin_s && h->a->rates[r].used)
			h->a->rates[r].used--;
}

/* ---- spending ---- */

/* The share of the limit that `spent` is, in parts per billion, rounded down. */
static uint64_t share(money spent, money limit)
{
	if (spent <= 0)
		return 0;
	unsigned __int128 ppb = (unsigned __int128)spent * LIMITS_ALERT_ONE / (uint64_t)limit;
	return ppb > UINT32_MAX ? UINT32_MAX : (uint64_t)ppb;
}

static void add_alert(struct account *a, uint64_t ppb, uint64_t now_ns)
{
	const struct limits *l = account_limits(a);
	char fraction[MONEY_TEXT_SIZE], spent[MONEY_TEXT_SIZE], limit[MONEY_TEXT_SIZE];
	char line[LEDGER_LINE_MAX];
	char *p = text_time(line, now_ns);
	p += sprintf(p,
		", \"account\": \"%s\", \"fraction\": %s, \"spent\": %s, \"limit\": %s, "
		"\"window\": \"%s\"}\n",
		a->name, money_text((money)ppb, fraction), money_text(account_sum(a)->spent, spent),
		money_text(l->budget, limit), window_name(l->window));
	ledger_add(&a->events, a->b->store, line, (size_t)(p - line), now_ns);
	book_log_grew(a, &a->events);
}

/* What was crossed on the way from `before` to what is spent now. An alert is given once in a
 * window; after a change of the limit those count as given that the sum had passed before. */
static void give_alerts(struct account *a, money before, uint64_t now_ns)
{
	const struct limits *l = account_limits(a);
	if (!l->has_budget || l->budget <= 0)
		return;
	const struct account_sum *sum = account_sum(a);
	struct account_alert *given = &a->alert;
	if (given->kind != l->window || given->begin_s != sum->w.begin_s ||
		given->limit != (uint64_t)l->budget)
		*given = (struct account_alert){
			l->window, sum->w.begin_s, (uint64_t)l->budget, share(before, l->budget)};
	uint64_t now = share(sum->spent, l->budget);
	for (size_t i = 0; i < l->n_alerts; i++) {
		if (l->alert_ppb[i] <= given->ppb || l->alert_ppb[i] > now)
			continue;
		given->ppb = l->alert_ppb[i];
		add_alert(a, given->ppb, now_ns);
	}
}

void account_spend(struct account *a, money cost, uint64_t now_ns)
{
	money before = account_sum(a)->spent;
	for (int k = WINDOW_DAY; k < N_WINDOWS; k++)
		a->sums[k].spent = narrow((__int128)a->sums[k].spent + cost);
	a->view_ns[ACCOUNT_SPENT] = a->view_ns[ACCOUNT_REMAINING] = now_ns;
	give_alerts(a, before, now_ns);
}
