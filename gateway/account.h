/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ACCOUNT_H
#define GATEWAY_ACCOUNT_H

/* One account: its limits, what was used of them and what is reserved, its two logs. Everything
 * here with the book's lock held, but for account_ref and account_put. */

#include <stdatomic.h>

#include "gateway/book.h"
#include "gateway/ledger.h"
#include "gateway/limits.h"

struct account {
	atomic_uint refs;
	struct book *b; /* holds a reference on its memory */
	char name[TEXT_NAME_SIZE];
	char key[2 + TEXT_NAME_SIZE]; /* of its record */

	bool configured;
	bool asked;  /* a claim was made in its name: it is a user's, and is shown */
	bool listed; /* the book has it */
	struct limits limits;

	/* Tickets and tokens, counted whether or not there is a limit. */
	struct account_rate {
		struct window w;
		uint64_t used, reserved; /* in w */
	} rates[N_RATES];
	uint64_t in_flight;

	/* Spent in each kind of window (not by the minute), so that another `window` shows what it
	 * should. */
	struct account_sum {
		struct window w;
		money spent;
	} sums[N_WINDOWS];
	__int128 reserved; /* money of claims; they move along into the next window */

	/* Alerts up to this one were given, in that window and at that limit. */
	struct account_alert {
		uint64_t kind, begin_s, limit, ppb;
	} alert;

	uint64_t uid_1;        /* of the user who asked last in its name, plus one; 0: none has */
	uint64_t last_request; /* the highest id in the ledger */
	struct ledger ledger, events;
	struct list dirty; /* in the book's list of those whose watchers are to be told */

	struct account **groups; /* [n_groups], valid while groups_age is the book's */
	size_t n_groups;
	uint64_t groups_age;

	uint64_t view_bytes[2],
		view_ns[2]; /* spent, remaining: the last rendering; the last change */
};

/* What a claim wants, or has. */
struct account_ask {
	uint64_t tok;
	money cost;
};

/* What a claim has of one account: asked for as `struct account_ask`, in these windows. */
struct account_hold {
	struct account *a;
	uint64_t begin_s[N_RATES];
};

/* new, with a reference on b; NULL when memory is out. */
struct account *account_make(struct book *b, const char *name);
/* Its own limits, or, when it is not configured, default's. borrows. */
const struct limits *account_limits(const struct account *a);
bool account_is_shown(const struct account *a);
/* Opens the windows that have come. */
void account_roll(struct account *a, uint64_t now_s);
/* Leaves windows that have not come yet: the clock was wrong once, and somebody says so. */
void account_leave_future(struct account *a, uint64_t now_s);
/* What is spent in the window that counts. */
struct account_sum *account_sum(struct account *a);

/* Whether `want` instead of `had` is within all limits. had NULL: a new claim. Errors as
 * book_claim. Rolled before. */
int account_admits(struct account *a, const struct account_hold *h, const struct account_ask *had,
	const struct account_ask *want, uint64_t now_ns, uint64_t *retry_ms, struct err *err);
/* Takes it, after account_admits. had NULL: a new claim, h is filled in. */
void account_take(
	struct account_hold *h, const struct account_ask *had, const struct account_ask *want);
/* The claim ends: reservations go, `tok` tokens are counted if their window is still open. */
void account_let_go(struct account_hold *h, const struct account_ask *had, uint64_t tok);
/* The tickets go back, if their windows are still open. */
void account_untake(struct account_hold *h);
/* cost (may be < 0) is spent. Alerts that this crosses get their line in events. */
void account_spend(struct account *a, money cost, uint64_t now_ns);

#endif
