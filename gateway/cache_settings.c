/* SPDX-License-Identifier: Apache-2.0 */
/* A value is read into the struct when it is set, so that a look-up reads numbers; what was written
 * is kept beside it, to be shown as it was. */
#include "gateway/cache_settings.h"

#include <errno.h>
#include <string.h>

#include "gateway/cache.h"
#include "gateway/money.h"
#include "gateway/onoff.h"
#include "gateway/prefix.h"

struct row {
	const char *name, *standard, *allowed;
	bool (*read)(
		const struct row *row, struct cache_settings *s, const char *value, size_t len);
	struct prefix prefix; /* with the words and the greatest number that `read` takes */
};

static bool read_number(const struct row *row, const char *value, size_t len, uint64_t *out)
{
	uint64_t n = 0, most = (uint64_t)row->prefix.most;
	for (size_t i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9' || n > most)
			return false;
		n = n * 10 + (uint64_t)(value[i] - '0');
	}
	*out = n;
	return len && n <= most;
}

static bool read_enabled(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	s->enabled = onoff_is_on(value, len);
	return prefix_word(&row->prefix, value, len) >= 0;
}

static bool read_ttl(const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	return read_number(row, value, len, &s->ttl_s);
}

/* Decimals as money has them: digits, a point, at most nine decimals. */
static bool read_threshold(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	money billionths;
	if (money_parse(value, len, &billionths) < 0 || billionths > 1000000000)
		return false;
	s->threshold = (double)billionths / 1e9;
	return true;
}

static bool read_scope(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	int i = prefix_word(&row->prefix, value, len);
	s->global = i == 1;
	return i >= 0;
}

static bool read_model(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	if (len && !text_is_name(value, len))
		return false;
	if (len)
		memcpy(s->model, value, len);
	s->model[len] = '\0';
	return true;
}

static bool read_max_memory(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	return read_number(row, value, len, &s->max_memory);
}

static bool read_max_entries(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	return read_number(row, value, len, &s->max_entries);
}

static bool read_max_disk(
	const struct row *row, struct cache_settings *s, const char *value, size_t len)
{
	return read_number(row, value, len, &s->max_disk);
}

static const char *const scopes[] = {"user", "global", NULL};

static const struct row rows[N_CACHE_SETTINGS] = {
	[CACHE_ENABLED] = {"enabled", "1", ONOFF_ALLOWED, read_enabled, PREFIX_WORD(onoff_words)},
	[CACHE_TTL] = {"ttl", "86400",
		"whole seconds, at most 3153600000 (0: answers do not grow too old)", read_ttl,
		PREFIX_INTEGER(3153600000)},
	[CACHE_THRESHOLD] = {"threshold", "0.95", "a number from 0 to 1, with at most 9 decimals",
		read_threshold, PREFIX_DECIMAL(MONEY_DECIMALS, 1)},
	[CACHE_SCOPE] = {"scope", "user", "user or global", read_scope, PREFIX_WORD(scopes)},
	[CACHE_EMBEDDING_MODEL] = {"embedding_model", "",
		"the name of a model, or nothing (no answers to prompts that are merely alike)",
		read_model, PREFIX_NAME},
	[CACHE_MAX_MEMORY] = {"max_memory", "67108864", "bytes, at most 1099511627776",
		read_max_memory, PREFIX_INTEGER(1099511627776)},
	[CACHE_MAX_ENTRIES] = {"max_entries", "100000", "a whole number, at most 1000000",
		read_max_entries, PREFIX_INTEGER(1000000)},
	[CACHE_MAX_DISK] = {"max_disk", "1073741824", "bytes, at most 1099511627776", read_max_disk,
		PREFIX_INTEGER(1099511627776)},
};

static const char *const names[N_CACHE_SETTINGS + 1] = {"enabled", "ttl", "threshold", "scope",
	"embedding_model", "max_memory", "max_entries", "max_disk", NULL};

const char *const *cache_setting_names(void)
{
	return names;
}

enum cache_setting cache_settings_find(const char *file)
{
	unsigned i = 0;
	while (i < N_CACHE_SETTINGS && strcmp(rows[i].name, file))
		i++;
	return (enum cache_setting)i;
}

static int check(enum cache_setting i, const char *value, size_t len, struct err *err)
{
	struct cache_settings s = {0};
	if (!len || rows[i].read(&rows[i], &s, value, len))
		return 0;
	if (!*rows[i].standard) /* its words say what nothing means */
		return err_set(err, -EINVAL, "%s: must be %s", rows[i].name, rows[i].allowed);
	return err_set(err, -EINVAL, "%s: must be %s, or nothing (%s)", rows[i].name,
		rows[i].allowed, rows[i].standard);
}

int cache_setting_check(const char *file, const char *value, size_t len, struct err *err)
{
	enum cache_setting i = cache_settings_find(file);
	if (i == N_CACHE_SETTINGS)
		return err_set(err, -ENOENT, "the cache has no setting %s", file);
	return check(i, value, len, err);
}

bool cache_setting_is_hopeless(const char *file, const char *value, size_t len)
{
	enum cache_setting i = cache_settings_find(file);
	return i < N_CACHE_SETTINGS && !prefix_fits(&rows[i].prefix, value, len);
}

/* What was checked; or the default, with len 0. */
static bool read_value(
	struct cache_settings *s, enum cache_setting i, const char *value, size_t len)
{
	const struct row *row = &rows[i];
	return len ? row->read(row, s, value, len)
		   : row->read(row, s, row->standard, strlen(row->standard));
}

void cache_settings_init(struct cache_settings *s)
{
	*s = (struct cache_settings){0};
	for (size_t i = 0; i < N_CACHE_SETTINGS; i++)
		read_value(s, (enum cache_setting)i, "", 0);
}

void cache_settings_clear(struct cache_settings *s)
{
	for (size_t i = 0; i < N_CACHE_SETTINGS; i++)
		s->set[i] = text_put(s->set[i]);
}

int cache_settings_set(struct cache_settings *s, enum cache_setting i, const char *value,
	size_t len, struct err *err)
{
	int r = check(i, value, len, err);
	struct text *t = r == 0 && len ? text_new(value, len) : NULL;
	if (r < 0)
		return r;
	if (len && !t)
		return err_set(err, -ENOMEM, "out of memory");
	text_put(s->set[i]);
	s->set[i] = t;
	s->failed &= ~(1u << i);
	read_value(s, i, value, len);
	return 0;
}

const char *cache_settings_get(const struct cache_settings *s, enum cache_setting i, size_t *len)
{
	const char *value = s->set[i] ? s->set[i]->bytes : rows[i].standard;
	*len = strlen(value);
	return value;
}

bool cache_settings_on(const struct cache_settings *s)
{
	return s->enabled && !s->failed;
}
