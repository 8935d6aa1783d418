/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting is a row: its file's name, how a value is checked, its default, and the sentence that
 * tells a person what is allowed. A value is kept as the text that was written and parsed when a
 * request begins; a row that was never written costs a NULL. Temperature 0 is the default: greedy,
 * so that the same question gives the same answer.
 */
#include "gateway/settings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/money.h"
#include "gateway/onoff.h"
#include "gateway/prefix.h"

struct row {
	const char *name;
	int (*check)(const struct row *row, const char *value, size_t len);
	const char *default_value;
	const char *allowed;
	double low, high;     /* of numbers */
	struct prefix prefix; /* with the words of check_word */
	size_t max_bytes;
};

/* Digits with an optional point, sign and exponent: what strtod reads, less its words and hex. */
static int check_real(const struct row *row, const char *value, size_t len)
{
	if (!len || len >= 64 || strspn(value, "0123456789.eE+-") != len)
		return -EINVAL;
	char *end;
	double x = strtod(value, &end);
	return end == value + len && isfinite(x) && x >= row->low && x <= row->high ? 0 : -EINVAL;
}

static int check_integer(const struct row *row, const char *value, size_t len)
{
	if (!len || len > 20 || strspn(value, "0123456789") != len)
		return -EINVAL;
	errno = 0;
	unsigned long long x = strtoull(value, NULL, 10);
	if (errno)
		return -EINVAL;
	return (double)x >= row->low && (double)x <= row->high ? 0 : -EINVAL;
}

static int check_seed(const struct row *row, const char *value, size_t len)
{
	return len ? check_integer(row, value, len) : 0;
}

static int check_dollars(const struct row *row, const char *value, size_t len)
{
	money dollars;
	return len ? money_parse(value, len, &dollars) : 0;
}

static int check_word(const struct row *row, const char *value, size_t len)
{
	return prefix_word(&row->prefix, value, len) < 0 ? -EINVAL : 0;
}

static int check_name(const struct row *row, const char *value, size_t len)
{
	return text_is_name(value, len) ? 0 : -EINVAL;
}

static int check_text(const struct row *row, const char *value, size_t len)
{
	return 0;
}

/* Strings of a line each; or, where a NUL is in it, such as end with one each, but perhaps the
 * last: it may be still to come. */
static int check_stop(const struct row *row, const char *value, size_t len)
{
	char end = len && memchr(value, '\0', len) ? '\0' : '\n';
	size_t strings = 0, longest = 0, run = 0;
	for (size_t i = 0; i < len; i++) {
		run = value[i] == end ? 0 : run + 1;
		strings += value[i] == end;
		longest = run > longest ? run : longest;
	}
	strings += end == '\n' || run;
	return strings <= 16 && longest <= 256 ? 0 : -EINVAL;
}

static const char *const formats[] = {"text", "json", NULL};
static const char *const cache_uses[] = {"auto", "all", "off", NULL};
static const char *const truncations[] = {"oldest-turns", "middle", "off", NULL};

enum { SHORT_BYTES = 64, STOP_BYTES = 8192, SYSTEM_BYTES = 1 << 20 };

/* How a value is checked, at its end and before. */
#define REAL(least, most)                                                                          \
	.check = check_real, .prefix = PREFIX_REAL(most), .low = least, .high = most,              \
	.max_bytes = SHORT_BYTES
#define WHOLE(how, least, most)                                                                    \
	.check = how, .prefix = PREFIX_INTEGER(most), .low = least, .high = most,                  \
	.max_bytes = SHORT_BYTES
#define INTEGER(least, most) WHOLE(check_integer, least, most)
#define WORD(list) .check = check_word, .prefix = PREFIX_WORD(list), .max_bytes = SHORT_BYTES

static const struct row rows[N_SETTINGS] = {
	[SETTING_MODEL] = {.name = "model",
		.check = check_name,
		.prefix = PREFIX_NAME,
		.default_value = "default",
		.max_bytes = SHORT_BYTES,
		.allowed = "a name below models/, or default"},
	[SETTING_SYSTEM] = {.name = "system",
		.check = check_text,
		.prefix = PREFIX_ANY,
		.default_value = "",
		.max_bytes = SYSTEM_BYTES,
		.allowed = "any UTF-8 text of at most 1 MiB"},
	[SETTING_TEMPERATURE] = {.name = "temperature",
		REAL(0, 2),
		.default_value = "0",
		.allowed = "a number from 0 (greedy) to 2"},
	[SETTING_TOP_P] = {.name = "top_p",
		REAL(1e-6, 1),
		.default_value = "1",
		.allowed = "a number above 0, at most 1 (off)"},
	[SETTING_TOP_K] = {.name = "top_k",
		INTEGER(0, 1000000),
		.default_value = "0",
		.allowed = "a whole number from 0 (off) to 1000000"},
	[SETTING_MIN_P] = {.name = "min_p",
		REAL(0, 1),
		.default_value = "0",
		.allowed = "a number from 0 (off) to 1"},
	[SETTING_REPETITION_PENALTY] = {.name = "repetition_penalty",
		REAL(0.1, 10),
		.default_value = "1",
		.allowed = "a number from 0.1 to 10; 1 is off"},
	[SETTING_PRESENCE_PENALTY] = {.name = "presence_penalty",
		REAL(-2, 2),
		.default_value = "0",
		.allowed = "a number from -2 to 2; 0 is off"},
	[SETTING_FREQUENCY_PENALTY] = {.name = "frequency_penalty",
		REAL(-2, 2),
		.default_value = "0",
		.allowed = "a number from -2 to 2; 0 is off"},
	[SETTING_MAX_TOKENS] = {.name = "max_tokens",
		INTEGER(1, 1000000),
		.default_value = "1024",
		.allowed = "a whole number from 1 to 1000000"},
	[SETTING_STOP] = {.name = "stop",
		.check = check_stop,
		.prefix = PREFIX_ANY,
		.default_value = "",
		.max_bytes = STOP_BYTES,
		.allowed = "at most 16 lines (or strings that end with a NUL), each a stop string "
			   "of at most 256 bytes"},
	[SETTING_SEED] = {.name = "seed",
		WHOLE(check_seed, 0, 18446744073709551615.0),
		.default_value = "",
		.allowed = "a whole number from 0 to 18446744073709551615, or nothing (random)"},
	[SETTING_FORMAT] = {.name = "format",
		WORD(formats),
		.default_value = "text",
		.allowed = "text or json"},
	[SETTING_IGNORE_EOS] = {.name = "ignore_eos",
		WORD(onoff_words),
		.default_value = "0",
		.allowed = ONOFF_ALLOWED},
	[SETTING_TRUNCATE] = {.name = "truncate",
		WORD(truncations),
		.default_value = "oldest-turns",
		.allowed = "oldest-turns, middle or off"},
	[SETTING_MAX_COST] = {.name = "max_cost",
		.check = check_dollars,
		.prefix = PREFIX_DECIMAL(MONEY_DECIMALS, MONEY_MOST_DOLLARS),
		.default_value = "",
		.max_bytes = SHORT_BYTES,
		.allowed = "dollars that one request may cost at most, as in 0.05, or nothing (no "
			   "ceiling)"},
	[SETTING_PROMPT_BUDGET] = {.name = "prompt_budget",
		INTEGER(0, 1000000000),
		.default_value = "0",
		.allowed = "a whole number from 0 (what the model takes) to 1000000000 (tokens of "
			   "a prompt with its history)"},
	[SETTING_MAX_LATENCY_MS] = {.name = "max_latency_ms",
		INTEGER(0, 86400000),
		.default_value = "0",
		.allowed = "a whole number of milliseconds from 0 (no ceiling) to 86400000 (that "
			   "models/auto may take for an answer)"},
	[SETTING_CACHE] = {.name = "cache",
		WORD(cache_uses),
		.default_value = "auto",
		.allowed = "auto (answers at temperature 0), all (sampled ones, too) or off"},
};

static const char *const names[N_SETTINGS + 1] = {"model", "system", "temperature", "top_p",
	"top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
	"max_tokens", "stop", "seed", "format", "ignore_eos", "truncate", "max_cost",
	"prompt_budget", "max_latency_ms", "cache", NULL};

const char *const *settings_names(void)
{
	return names;
}

const char *settings_name(enum setting i)
{
	return rows[i].name;
}

enum setting settings_find(const char *file)
{
	int i = 0;
	while (i < N_SETTINGS && strcmp(rows[i].name, file))
		i++;
	return (enum setting)i;
}

int settings_check(enum setting i, const char *value, size_t len, struct err *err)
{
	const struct row *row = &rows[i];
	if (len > row->max_bytes)
		return err_set(err, row->max_bytes == SHORT_BYTES ? -EINVAL : -EFBIG,
			"%s: must be %s", row->name, row->allowed);
	if (utf8_valid_prefix(value, len) != len)
		return err_set(err, -EILSEQ, "%s: not UTF-8; must be %s", row->name, row->allowed);
	/* The checks of short values read C strings: a NUL inside makes the lengths differ. */
	char short_value[SHORT_BYTES + 1];
	if (row->max_bytes == SHORT_BYTES) {
		if (len)
			memcpy(short_value, value, len);
		short_value[len] = '\0';
		value = short_value;
	}
	if (row->check(row, value, len) < 0)
		return err_set(err, -EINVAL, "%s: must be %s", row->name, row->allowed);
	return 0;
}

bool settings_is_hopeless(enum setting i, const char *value, size_t len)
{
	return !prefix_fits(&rows[i].prefix, value, len);
}

int settings_set(struct settings *s, enum setting i, const char *value, size_t len, struct err *err)
{
	int r = settings_check(i, value, len, err);
	if (r < 0)
		return r;
	struct text *t = text_new(value, len);
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	text_put(s->value[i]);
	s->value[i] = t;
	return 0;
}

void settings_reset(struct settings *s, enum setting i)
{
	s->value[i] = text_put(s->value[i]);
}

bool settings_is_set(const struct settings *s, enum setting i)
{
	return s->value[i];
}

const char *settings_get(const struct settings *s, enum setting i, size_t *len)
{
	const struct text *t = s->value[i];
	*len = t ? t->len : strlen(rows[i].default_value);
	return t ? t->bytes : rows[i].default_value;
}

double settings_real(const struct settings *s, enum setting i)
{
	size_t len;
	return strtod(settings_get(s, i, &len), NULL);
}

uint64_t settings_integer(const struct settings *s, enum setting i)
{
	size_t len;
	return strtoull(settings_get(s, i, &len), NULL, 10);
}

bool settings_is_on(const struct settings *s, enum setting i)
{
	size_t len;
	const char *value = settings_get(s, i, &len);
	return onoff_is_on(value, len);
}

bool settings_dollars(const struct settings *s, enum setting i, money *out)
{
	size_t len;
	const char *value = settings_get(s, i, &len);
	return len && money_parse(value, len, out) == 0;
}

void settings_copy(struct settings *to, const struct settings *from)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		to->value[i] = text_ref(from->value[i]);
}

void settings_clear(struct settings *s)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		s->value[i] = text_put(s->value[i]);
}
