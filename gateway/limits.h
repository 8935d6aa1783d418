/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_LIMITS_H
#define GATEWAY_LIMITS_H

/* The settings of an account: one table of names, checks, defaults and what is allowed; and their
 * values as numbers. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/money.h"
#include "gateway/text.h"
#include "gateway/window.h"

enum limits_setting {
	LIMITS_LIMIT,
	LIMITS_WINDOW,
	LIMITS_REQUESTS_PER_MINUTE,
	LIMITS_REQUESTS_PER_DAY,
	LIMITS_TOKENS_PER_MINUTE,
	LIMITS_TOKENS_PER_DAY,
	LIMITS_REQUESTS_IN_FLIGHT,
	LIMITS_ALERTS,
	LIMITS_MEMBERS,
	LIMITS_LEDGER_DAYS,
	N_LIMITS
};

/* What is counted in windows of its own. */
enum rate { REQUESTS_MINUTE, REQUESTS_DAY, TOKENS_MINUTE, TOKENS_DAY, N_RATES };

#define LIMITS_NONE UINT64_MAX
#define LIMITS_ALERTS_MAX 16
#define LIMITS_ALERT_ONE 1000000000 /* an alert at the whole limit */

struct limits {
	struct text *value[N_LIMITS]; /* as written; NULL is the default */
	bool has_budget;
	money budget;
	enum window_kind window;
	uint64_t rate[N_RATES], in_flight;     /* LIMITS_NONE: none */
	uint64_t ledger_days;                  /* 0: for ever */
	uint32_t alert_ppb[LIMITS_ALERTS_MAX]; /* [n_alerts], rising, above 0 */
	size_t n_alerts;
	char (*members)[TEXT_NAME_SIZE]; /* [n_members], sorted */
	size_t n_members;
	uint32_t broken; /* bits by enum limits_setting: a fault, and no value before it */
};

/* All defaults. */
void limits_init(struct limits *l);
/* Frees what it holds. All defaults afterwards; accepts zeroed memory. */
void limits_clear(struct limits *l);

/* The index of a file, or N_LIMITS. */
enum limits_setting limits_find(const char *file);
const char *const *limits_names(void);
/* Whether the value is allowed: 0, -EINVAL with what is. "" is the default. */
int limits_check(enum limits_setting i, const char *value, size_t len, struct err *err);
/* As settings_is_hopeless. */
bool limits_is_hopeless(enum limits_setting i, const char *value, size_t len);
/* Checks and takes it. -ENOMEM besides. */
int limits_set(
	struct limits *l, enum limits_setting i, const char *value, size_t len, struct err *err);
/* borrows the value, set or default. */
const char *limits_get(const struct limits *l, enum limits_setting i, size_t *len);
/* Its file has a fault: the value before stays; without one, it is broken until it is set again. */
void limits_break(struct limits *l, enum limits_setting i);
/* What a setting must be. */
const char *limits_allowed(enum limits_setting i);
bool limits_has_member(const struct limits *l, const char *name);

#endif
