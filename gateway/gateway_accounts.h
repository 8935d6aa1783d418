/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_ACCOUNTS_H
#define GATEWAY_GATEWAY_ACCOUNTS_H

/* The door of the gateway: accounts, budgets/NAME. */

#include "gateway/gateway.h"

/*
 * An account has limits, a budget, and what was used of them. It is a user's (by name), a group's
 * (it has members), or `default`, the template for users without one of their own. Accounts of such
 * users exist as soon as they ask something ("unconfigured": they show what default says).
 */
struct account; /* reference counted */

/* Makes it a configured one. Names as sessions'. -EEXIST: it is configured already; -EINVAL. */
int gateway_account_create(struct gateway *g, const char *name, struct err *err);
/* Not configured any more; what was used is kept. -ENOENT. */
int gateway_account_remove(struct gateway *g, const char *name, struct err *err);
struct account *gateway_account_find(struct gateway *g, const char *name); /* new or NULL */
struct account *account_ref(struct account *a);
struct account *account_put(struct account *a); /* accepts NULL, returns NULL */
const char *account_name(const struct account *a);
bool account_is_configured(struct account *a);
/* Whose it is: the uid that asked last in its name. False: nobody has (a group, a template). */
bool account_uid(struct account *a, uid_t *uid);
char **gateway_account_names(struct gateway *g); /* all, as gateway_session_names */

/*
 * Settings, by file name: limit (dollars, "" none), window (day week month total),
 * requests_per_minute requests_per_day tokens_per_minute tokens_per_day requests_in_flight (whole
 * numbers, "" none), alerts (fractions of the limit, with spaces; "" is 0.8 1; off), members (a
 * name a line: makes it a group). value without the trailing newline; "" resets. Not kept over a
 * restart: a front end sets them again from its files. -EINVAL with what is allowed; -ENOENT: no
 * such setting, or the account is not a configured one.
 */
const char *const *account_setting_names(void); /* ends with NULL */
int account_setting_check(const char *file, const char *value, size_t len, struct err *err);
bool account_setting_is_hopeless(const char *file, const char *value, size_t len);
int account_setting_set(
	struct account *a, const char *file, const char *value, size_t len, struct err *err);
/* What the file of a setting holds is no value: the one before stays in force; where there is none
 * (at a start) whatever it limits is refused, until it is set again. */
void account_setting_fail(struct account *a, const char *file);
/* Appends the value, set or default, no newline. An unconfigured account shows default's. */
int account_setting_get(struct account *a, const char *file, struct buf *out);
/* One verb: "reset" (what was spent in the window becomes 0, its alerts can be given again, and
 * windows in which a clock that went wrong has left the account are closed; the ledger says so),
 * "credit DOLLARS" (spent becomes less by so much). -EINVAL with the verbs. */
int account_ctl(struct account *a, const char *line, size_t len, struct err *err);
bool account_ctl_is_hopeless(const char *line, size_t len);

/* What is left to a user by the rate limits of the minute, of the account or the group that leaves
 * least; for headers of HTTP. Tokens of requests under way count with all that they may take. */
struct gateway_rate {
	uint64_t limit, remaining; /* UINT64_MAX, both: there is none */
	uint64_t reset_ms;         /* until the window ends */
};
struct gateway_rates {
	struct gateway_rate requests, tokens;
};
/* Makes no account of who has none: default says what he has. Asks for the user's name as draft_new
 * does; else a few comparisons. */
void gateway_rates(struct gateway *g, uid_t uid, struct gateway_rates *out);

enum account_view {
	ACCOUNT_SPENT,     /* dollars in this window, settled */
	ACCOUNT_REMAINING, /* dollars: limit less spent less reserved; "unlimited" */
	ACCOUNT_LEDGER,    /* a log, JSON lines, the newest 192 to 256 KiB of it; of
			      very many accounts that are idle, 7 to 8 */
	ACCOUNT_EVENTS,    /* a log, JSON lines: alerts */
};
int account_render(struct account *a, enum account_view view, struct buf *out);
/* As session_view_size and session_watch, for LEDGER and EVENTS. */
void account_view_size(
	struct account *a, enum account_view view, uint64_t *bytes, uint64_t *changed_ns);
int account_watch(struct account *a, enum account_view view, uint64_t bytes, gateway_wake_fn *wake,
	void *arg, gateway_waiter *id);
bool account_unwatch(struct account *a, gateway_waiter id);

#endif
