/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting is a row: its file's name, how it is read, its default, and the sentence that tells a
 * person what is allowed. A value is kept twice: as it was written, for who reads the file, and as
 * numbers, because each claim compares with them. Each reader fills one part of a struct limits; a
 * value is tried on an empty one first, so that a refused one changes nothing.
 */
#include "gateway/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/prefix.h"

struct row {
	const char *name;
	int (*read)(struct limits *l, enum limits_setting i, const char *value, size_t len);
	const char *default_value;
	const char *allowed;
	size_t max_bytes;
	struct prefix prefix;
};

enum { SHORT_BYTES = 64, ALERT_BYTES = 256, MEMBER_BYTES = 64 << 10 };

static int read_limit(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	l->has_budget = len > 0;
	l->budget = 0;
	return len ? money_parse(value, len, &l->budget) : 0;
}

static int read_window(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	enum window_kind kind = window_find(value, len);
	if (kind == WINDOW_MINUTE || kind == N_WINDOWS)
		return -EINVAL;
	l->window = kind;
	return 0;
}

static bool begins_window(const struct prefix *p, const char *value, size_t len)
{
	for (int kind = WINDOW_MINUTE + 1; kind < N_WINDOWS; kind++)
		if (!strncmp(window_name((enum window_kind)kind), value, len))
			return true;
	return false;
}

static uint64_t *number_of(struct limits *l, enum limits_setting i)
{
	switch (i) {
	case LIMITS_REQUESTS_PER_MINUTE:
		return &l->rate[REQUESTS_MINUTE];
	case LIMITS_REQUESTS_PER_DAY:
		return &l->rate[REQUESTS_DAY];
	case LIMITS_TOKENS_PER_MINUTE:
		return &l->rate[TOKENS_MINUTE];
	case LIMITS_TOKENS_PER_DAY:
		return &l->rate[TOKENS_DAY];
	default:
		return &l->in_flight;
	}
}

/* At most so many digits. */
static int read_digits(const char *value, size_t len, size_t most, uint64_t *n)
{
	*n = 0;
	if (len > most)
		return -EINVAL;
	for (size_t k = 0; k < len; k++) {
		if (value[k] < '0' || value[k] > '9')
			return -EINVAL;
		*n = *n * 10 + (uint64_t)(value[k] - '0');
	}
	return 0;
}

static int read_number(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	uint64_t n;
	if (read_digits(value, len, 15, &n) < 0)
		return -EINVAL;
	*number_of(l, i) = len ? n : LIMITS_NONE;
	return 0;
}

static int read_days(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	return len ? read_digits(value, len, 5, &l->ledger_days) : -EINVAL;
}

static int read_alerts(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	l->n_alerts = 0;
	if (len == 3 && !memcmp(value, "off", 3))
		return 0;
	for (size_t k = 0; k < len;) {
		size_t end = k;
		while (end < len && value[end] != ' ')
			end++;
		money m;
		if (end > k) {
			if (l->n_alerts == LIMITS_ALERTS_MAX ||
				money_parse(value + k, end - k, &m) < 0 || m < 1 ||
				m > LIMITS_ALERT_ONE)
				return -EINVAL;
			if (l->n_alerts && m <= l->alert_ppb[l->n_alerts - 1])
				return -EINVAL;
			l->alert_ppb[l->n_alerts++] = (uint32_t)m;
		}
		k = end + 1;
	}
	return l->n_alerts ? 0 : -EINVAL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Empty lines do not count. */
static int read_members(struct limits *l, enum limits_setting i, const char *value, size_t len)
{
	free(l->members);
	l->members = NULL;
	l->n_members = 0;
	size_t lines = 1;
	for (size_t k = 0; k < len; k++)
		lines += value[k] == '\n';
	if (!len)
		return 0;
	l->members = calloc(lines, sizeof *l->members);
	if (!l->members)
		return -ENOMEM;
	for (size_t k = 0; k < len;) {
		const char *newline = memchr(value + k, '\n', len - k);
		size_t n = newline ? (size_t)(newline - value) - k : len - k;
		if (n && !text_is_name(value + k, n))
			return -EINVAL;
		if (n)
			memcpy(l->members[l->n_members++], value + k, n);
		k += n + 1;
	}
	qsort(l->members, l->n_members, sizeof *l->members, compare_names);
	return 0;
}

#define NUMBER_ROW(file)                                                                           \
	{                                                                                          \
		file, read_number, "",                                                             \
			"a whole number of at most 15 digits, or nothing (no limit)", SHORT_BYTES, \
			PREFIX_INTEGER(999999999999999)                                            \
	}

static const struct row rows[N_LIMITS] = {
	[LIMITS_LIMIT] = {"limit", read_limit, "",
		"dollars, from 0 to 1000000000 with at most 9 decimals, or nothing (no limit)",
		SHORT_BYTES, PREFIX_DECIMAL(MONEY_DECIMALS, MONEY_MOST_DOLLARS)},
	[LIMITS_WINDOW] = {"window", read_window, "month", "day, week, month or total", SHORT_BYTES,
		PREFIX_OF(begins_window)},
	[LIMITS_REQUESTS_PER_MINUTE] = NUMBER_ROW("requests_per_minute"),
	[LIMITS_REQUESTS_PER_DAY] = NUMBER_ROW("requests_per_day"),
	[LIMITS_TOKENS_PER_MINUTE] = NUMBER_ROW("tokens_per_minute"),
	[LIMITS_TOKENS_PER_DAY] = NUMBER_ROW("tokens_per_day"),
	[LIMITS_REQUESTS_IN_FLIGHT] = NUMBER_ROW("requests_in_flight"),
	[LIMITS_ALERTS] = {"alerts", read_alerts, "0.8 1",
		"at most 16 rising fractions of the limit, above 0 and at most 1, with spaces, or "
		"off",
		ALERT_BYTES, PREFIX_ANY},
	[LIMITS_MEMBERS] = {"members", read_members, "",
		"user names of A-Z a-z 0-9 . _ -, one a line, at most 64 KiB", MEMBER_BYTES,
		PREFIX_ANY},
	[LIMITS_LEDGER_DAYS] = {"ledger_days", read_days, "400",
		"a whole number of days, from 1 to 99999, or 0: for ever", SHORT_BYTES,
		PREFIX_INTEGER(99999)},
};

static const char *const names[N_LIMITS + 1] = {"limit", "window", "requests_per_minute",
	"requests_per_day", "tokens_per_minute", "tokens_per_day", "requests_in_flight", "alerts",
	"members", "ledger_days", NULL};

const char *const *limits_names(void)
{
	return names;
}

enum limits_setting limits_find(const char *file)
{
	int i = 0;
	while (i < N_LIMITS && strcmp(rows[i].name, file))
		i++;
	return (enum limits_setting)i;
}

/* "" is the default's text. */
static int read_value(
	struct limits *l, enum limits_setting i, const char *value, size_t len, struct err *err)
{
	const struct row *row = &rows[i];
	if (!len) {
		value = row->default_value;
		len = strlen(value);
	}
	int r = len > row->max_bytes ? -EINVAL : row->read(l, i, value, len);
	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	return r ? err_set(err, -EINVAL, "%s: must be %s", row->name, row->allowed) : 0;
}

bool limits_is_hopeless(enum limits_setting i, const char *value, size_t len)
{
	return !prefix_fits(&rows[i].prefix, value, len);
}

void limits_init(struct limits *l)
{
	*l = (struct limits){0};
	for (int i = 0; i < N_LIMITS; i++)
		read_value(l, (enum limits_setting)i, "", 0, NULL);
}

void limits_clear(struct limits *l)
{
	for (size_t i = 0; i < N_LIMITS; i++)
		text_put(l->value[i]);
	free(l->members);
	limits_init(l);
}

int limits_check(enum limits_setting i, const char *value, size_t len, struct err *err)
{
	struct limits l = {0};
	int r = read_value(&l, i, value, len, err);
	free(l.members);
	return r;
}

int limits_set(
	struct limits *l, enum limits_setting i, const char *value, size_t len, struct err *err)
{
	int r = limits_check(i, value, len, err);
	struct text *t = r == 0 && len ? text_new(value, len) : NULL;
	if (r == 0 && len && !t)
		r = err_set(err, -ENOMEM, "out of memory");
	r = r ? r : read_value(l, i, value, len, err);
	if (r < 0) {
		text_put(t);
		return r;
	}
	text_put(l->value[i]);
	l->value[i] = t;
	l->broken &= ~(UINT32_C(1) << i);
	return 0;
}

void limits_break(struct limits *l, enum limits_setting i)
{
	if (!l->value[i])
		l->broken |= UINT32_C(1) << i;
}

const char *limits_allowed(enum limits_setting i)
{
	return rows[i].allowed;
}

const char *limits_get(const struct limits *l, enum limits_setting i, size_t *len)
{
	const struct text *t = l->value[i];
	*len = t ? t->len : strlen(rows[i].default_value);
	return t ? t->bytes : rows[i].default_value;
}

bool limits_has_member(const struct limits *l, const char *name)
{
	return l->n_members &&
	       bsearch(name, l->members, l->n_members, sizeof *l->members, compare_names);
}
