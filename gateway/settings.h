/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SETTINGS_H
#define GATEWAY_SETTINGS_H

/* The settings of a session: one table of names, checks, defaults and what is allowed. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/money.h"
#include "gateway/text.h"

enum setting {
	SETTING_MODEL,
	SETTING_SYSTEM,
	SETTING_TEMPERATURE,
	SETTING_TOP_P,
	SETTING_TOP_K,
	SETTING_MIN_P,
	SETTING_REPETITION_PENALTY,
	SETTING_PRESENCE_PENALTY,
	SETTING_FREQUENCY_PENALTY,
	SETTING_MAX_TOKENS,
	SETTING_STOP,
	SETTING_SEED,
	SETTING_FORMAT,
	SETTING_IGNORE_EOS,
	SETTING_TRUNCATE,
	SETTING_MAX_COST,
	SETTING_PROMPT_BUDGET,
	SETTING_MAX_LATENCY_MS, /* of a request that the router places; 0: none */
	SETTING_CACHE,          /* auto: what is deterministic; off; all: sampled answers too */
	N_SETTINGS
};

/* Values that were set; NULL is the default. Zeroed memory is all defaults. */
struct settings {
	struct text *value[N_SETTINGS];
};

/* The index of a file, or N_SETTINGS. */
enum setting settings_find(const char *file);
const char *settings_name(enum setting i);
const char *const *settings_names(void);

/* Whether the value is allowed: 0, -EINVAL with what is, -EILSEQ, -EFBIG. Says nothing about
 * whether a model of that name exists. */
int settings_check(enum setting i, const char *value, size_t len, struct err *err);
/* Whether the value is not allowed, whatever bytes come after it; false where that is not known. */
bool settings_is_hopeless(enum setting i, const char *value, size_t len);
/* Checks and takes it. -ENOMEM besides. */
int settings_set(
	struct settings *s, enum setting i, const char *value, size_t len, struct err *err);
void settings_reset(struct settings *s, enum setting i);
/* borrows the value, set or default. */
const char *settings_get(const struct settings *s, enum setting i, size_t *len);
bool settings_is_set(const struct settings *s, enum setting i);

/* The numbers of checked values. */
double settings_real(const struct settings *s, enum setting i);
uint64_t settings_integer(const struct settings *s, enum setting i);
bool settings_is_on(const struct settings *s, enum setting i); /* onoff.h */
/* False: it has none. */
bool settings_dollars(const struct settings *s, enum setting i, money *out);

/* *to shares the values of *from. */
void settings_copy(struct settings *to, const struct settings *from);
void settings_clear(struct settings *s);

#endif
