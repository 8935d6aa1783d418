/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting is read into a value of its own and then takes the place of the one before: so a text
 * that is refused changes nothing, and the user database, which may be another machine, is asked
 * while nobody waits for the key.
 *
 * A user is a uid from the moment it is set. One who is given another number later is the old one
 * until the file is written again or the daemon starts.
 *
 * Scopes are read anew from their text when a model is to be named: there are few words, and
 * nothing to keep in step with it.
 */
#include "gateway/api_grant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/text.h"
#include "gateway/users.h"

enum { MOST_BYTES = 4096, MOST_USER = 255 };

static const char *const names[] = {"user", "scopes", "expires", NULL};
static const char model_word[] = "model:";
static const struct {
	const char *word;
	enum api_scope scope;
} scopes[] = {{"chat", API_CHAT}, {"completions", API_COMPLETIONS}, {"embeddings", API_EMBEDDINGS},
	{"models", API_MODELS}};
enum { SCOPES = sizeof scopes / sizeof *scopes };

const char *const *api_grant_names(void)
{
	return names;
}

int api_grant_find(const char *file, struct err *err)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(names[i], file))
			return i;
	return err_set(err, -ENOENT, "an API key has no setting %s", file);
}

/* ---- user ---- */

static bool is_user(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] <= ' ' || value[i] > '~' || value[i] == ':' || value[i] == '/')
			return false;
	return len <= MOST_USER;
}

static int read_user(struct api_grant_value *v, size_t len, struct err *err)
{
	if (len && strspn(v->text, "0123456789") == len) {
		/* (uid_t)-1 is nobody's: it means "leave it as it is". */
		unsigned long long uid = len < 11 ? strtoull(v->text, NULL, 10) : UINT64_MAX;
		v->uid = (uid_t)uid;
		return uid < UINT32_MAX ? 0
					: err_set(err, -EINVAL, "user: %.20s is no uid", v->text);
	}
	if (!is_user(v->text, len))
		return err_set(err, -EINVAL,
			"user: must be a name of the system's user database, or a uid in digits");
	int r = users_uid(v->text, &v->uid);
	if (r < 0)
		return err_set(err, -EIO, "user: the system's user database cannot be asked: %s",
			strerror(-r));
	return r == 0 ? 0 : err_set(err, -EINVAL, "user: the system has no user %s", v->text);
}

/* ---- scopes ---- */

/* The next word of *at, which goes on behind it; NULL: there is none. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word = *at + strspn(*at, " ");
	*len = strcspn(word, " ");
	*at = word + *len;
	return *len ? word : NULL;
}

static bool begins_model(const char *word, size_t len)
{
	const size_t own = sizeof model_word - 1;
	return len >= own && !memcmp(word, model_word, own);
}

/* 0: it is none of the four. */
static unsigned scope_of(const char *word, size_t len)
{
	for (size_t i = 0; i < SCOPES; i++)
		if (strlen(scopes[i].word) == len && !memcmp(scopes[i].word, word, len))
			return scopes[i].scope;
	return 0;
}

static bool is_model_word(const char *word, size_t len)
{
	const size_t own = sizeof model_word - 1;
	return begins_model(word, len) && text_is_name(word + own, len - own);
}

static int read_scopes(struct api_grant_value *v, size_t text_len, struct err *err)
{
	const char *at = v->text, *word;
	size_t len;
	while ((word = next_word(&at, &len))) {
		unsigned scope = scope_of(word, len);
		if (!scope && !is_model_word(word, len))
			return err_set(err, -EINVAL,
				"scopes: must be words of chat, completions, embeddings, models "
				"and model:NAME, or nothing for all");
		v->scopes |= scope;
		v->names_models = v->names_models || !scope;
	}
	return 0;
}

/* The beginnings of "model:" are those of "models". */
static bool may_be_scope(const char *word, size_t len)
{
	const size_t own = sizeof model_word - 1;
	if (begins_model(word, len))
		return len == own || text_is_name(word + own, len - own) ||
		       /* the beginning of ".x" is no name */
		       (len - own <= 2 && word[own] == '.');
	for (size_t i = 0; i < SCOPES; i++)
		if (!strncmp(scopes[i].word, word, len))
			return true;
	return false;
}

static bool scopes_hopeless(const char *value, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;
		while (i + n < len && value[i + n] != ' ')
			n++;
		bool is_last = i + n == len;
		if (n && !(is_last ? may_be_scope(value + i, n)
				   : scope_of(value + i, n) || is_model_word(value + i, n)))
			return true;
		i += n + 1;
	}
	return false;
}

/* ---- expires ---- */

static const char day_form[] = "0000-00-00", instant_form[] = "0000-00-00T00:00:00Z";

/* Whether text[0..len) is the beginning of that form: a 0 is any digit. */
static bool follows(const char *form, const char *text, size_t len)
{
	if (len > strlen(form))
		return false;
	for (size_t i = 0; i < len; i++)
		if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
			return false;
	return true;
}

static int number(const char *text, size_t n)
{
	int x = 0;
	for (size_t i = 0; i < n; i++)
		x = x * 10 + (text[i] - '0');
	return x;
}

/* False: there is no such day, or no such time of a day. */
static bool instant_of(const char *text, bool has_time, int64_t *out_s)
{
	struct tm t = {.tm_year = number(text, 4) - 1900,
		.tm_mon = number(text + 5, 2) - 1,
		.tm_mday = number(text + 8, 2)};
	if (has_time) {
		t.tm_hour = number(text + 11, 2);
		t.tm_min = number(text + 14, 2);
		t.tm_sec = number(text + 17, 2);
	}
	struct tm same = t;
	*out_s = timegm(&same);
	/* A day that there is not is one of another month. */
	return *out_s >= 0 && same.tm_mon == t.tm_mon && same.tm_hour == t.tm_hour &&
	       same.tm_min == t.tm_min && same.tm_sec == t.tm_sec;
}

static int read_expires(struct api_grant_value *v, size_t len, struct err *err)
{
	enum { DAY_S = 24 * 60 * 60 };
	bool is_day = len == sizeof day_form - 1 && follows(day_form, v->text, len);
	bool is_instant = len == sizeof instant_form - 1 && follows(instant_form, v->text, len);
	if (!(is_day || is_instant) || !instant_of(v->text, is_instant, &v->expires_s))
		return err_set(err, -EINVAL,
			"expires: must be a day, at whose end it is over, or an instant, in UTC: "
			"2026-12-31, 2026-12-31T18:00:00Z");
	v->expires_s += is_day ? DAY_S : 0;
	return 0;
}

/* ---- all three ---- */

void api_grant_value_free(struct api_grant_value *v)
{
	free(v->text);
	*v = (struct api_grant_value){0};
}

int api_grant_read(struct api_grant_value *out, const char *file, const char *value, size_t len,
	struct err *err)
{
	static int (*const read[])(struct api_grant_value *, size_t, struct err *) = {
		read_user, read_scopes, read_expires};
	int i = api_grant_find(file, err);
	*out = (struct api_grant_value){0};
	if (i < 0)
		return i;
	out->setting = (enum api_grant_setting)i;
	if (!len)
		return 0;
	if (len > MOST_BYTES || memchr(value, '\0', len) || memchr(value, '\n', len))
		return err_set(
			err, -EINVAL, "%s: must be one line of at most %d bytes", file, MOST_BYTES);
	out->text = strndup(value, len);
	int r = out->text ? read[i](out, len, err) : err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		api_grant_value_free(out);
	return r;
}

bool api_grant_is_hopeless(const char *file, const char *value, size_t len)
{
	int i = api_grant_find(file, NULL);
	len -= len && value[len - 1] == '\r';
	if (i < 0 || len > MOST_BYTES)
		return true;
	if (i == API_GRANT_USER)
		return !is_user(value, len);
	return i == API_GRANT_SCOPES ? scopes_hopeless(value, len)
				     : !follows(instant_form, value, len);
}

void api_grant_take(struct api_grant *g, struct api_grant_value *v)
{
	enum api_grant_setting i = v->setting;
	struct api_grant_value before = g->values[i];
	g->values[i] = *v;
	g->broken[i] = false;
	*v = before;
}

void api_grant_free(struct api_grant *g)
{
	for (size_t i = 0; i < API_GRANT_SETTINGS; i++)
		api_grant_value_free(&g->values[i]);
}

/* ---- asking ---- */

const char *api_grant_broken(const struct api_grant *g)
{
	for (size_t i = 0; i < API_GRANT_SETTINGS; i++)
		if (g->broken[i])
			return names[i];
	return NULL;
}

bool api_grant_is_over(const struct api_grant *g, int64_t now_s)
{
	const struct api_grant_value *v = &g->values[API_GRANT_EXPIRES];
	return v->text && now_s >= v->expires_s;
}

static bool names_model(const char *text, const char *model)
{
	const size_t own = sizeof model_word - 1, n = strlen(model);
	const char *word;
	size_t len;
	while ((word = next_word(&text, &len)))
		if (begins_model(word, len) && len - own == n && !memcmp(word + own, model, n))
			return true;
	return false;
}

int api_grant_allows(
	const struct api_grant *g, enum api_scope what, const char *model, struct err *err)
{
	const struct api_grant_value *v = &g->values[API_GRANT_SCOPES];
	if (v->scopes && !(v->scopes & what))
		return err_set(err, -EPERM,
			"this API key is for something else; its scopes: %.200s", v->text);
	if (model && v->names_models && !names_model(v->text, model))
		return err_set(err, -EPERM,
			"this API key may not name that model; its scopes: %.200s", v->text);
	return 0;
}
