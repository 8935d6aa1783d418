/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A setting is a row: its file's name, how a value is checked, its default as a number, and the
 * sentence that tells a person what is allowed. As with sessions, a value is kept as the text that
 * was written and parsed when it is asked for; a row that was never written costs a NULL.
 *
 * Which settings a handle of a provider is made from is in the table as well: a model makes another
 * handle when one of them has changed.
 */
#include "gateway/model_settings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "gateway/onoff.h"
#include "gateway/prefix.h"
#include "gateway/route.h"
#include "gateway/router.h"
#include "gateway/upstream.h"

enum { NUMBER_BYTES = 64, WORDS_BYTES = 255, PATH_BYTES = 4095, URL_BYTES = 2048 };
enum { ENDPOINT_BYTES = 32 << 10, FALLBACK_BYTES = 2048 };
static const uint64_t upstream_context_tok = 131072, replicas_health_ms = 10000,
		      health_least_ms = 1000;

struct row {
	const char *name;
	int (*check)(const struct row *row, const char *value, size_t len, struct err *err);
	const char *allowed;
	double number;        /* the default of a number */
	double low, high;     /* of numbers */
	struct prefix prefix; /* with the words of check_word */
	size_t max_bytes;
	bool reloads;
};

static int check_real(const struct row *row, const char *value, size_t len, struct err *err)
{
	char *end;
	if (strspn(value, "0123456789.eE+-") != len)
		return -EINVAL;
	double x = strtod(value, &end);
	return end == value + len && isfinite(x) && x >= row->low && x <= row->high ? 0 : -EINVAL;
}

static int check_integer(const struct row *row, const char *value, size_t len, struct err *err)
{
	if (len > 18 || strspn(value, "0123456789") != len)
		return -EINVAL;
	double x = (double)strtoull(value, NULL, 10);
	return x >= row->low && x <= row->high ? 0 : -EINVAL;
}

/* Checks that come faster than once a second are an attack. */
static int check_interval(const struct row *row, const char *value, size_t len, struct err *err)
{
	int r = check_integer(row, value, len, err);
	uint64_t ms = r ? 0 : strtoull(value, NULL, 10);
	return r || !ms || ms >= health_least_ms ? r : -EINVAL;
}

static int check_dollars(const struct row *row, const char *value, size_t len, struct err *err)
{
	money dollars;
	return money_parse(value, len, &dollars);
}

static int check_word(const struct row *row, const char *value, size_t len, struct err *err)
{
	return prefix_word(&row->prefix, value, len) < 0 ? -EINVAL : 0;
}

static int check_capabilities(const struct row *row, const char *value, size_t len, struct err *err)
{
	unsigned unused;
	return router_capabilities_parse(value, len, &unused, NULL);
}

/* A file's name is bytes, not text. */
static int check_path(const struct row *row, const char *value, size_t len, struct err *err)
{
	return value[0] == '/' && strlen(value) == len && !strchr(value, '\n') ? 0 : -EINVAL;
}

static int check_line(const struct row *row, const char *value, size_t len, struct err *err)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == 0x7F)
			return -EINVAL;
	if (len && strspn(value, " ") >= len)
		return -EINVAL;
	return utf8_valid_prefix(value, len) == len ? 0 : -EINVAL;
}

static int check_fallback(const struct row *row, const char *value, size_t len, struct err *err)
{
	return route_fallback_check(value, len, err);
}

static int check_endpoint(const struct row *row, const char *value, size_t len, struct err *err)
{
	struct upstream_endpoint endpoints[UPSTREAM_ENDPOINTS_MAX];
	char *copy = NULL;
	size_t n;
	int r = upstream_endpoints_parse(value, len, &copy, endpoints, &n, err);
	free(copy);
	return r;
}

/* What is left out of URLs is mostly the scheme. */
static bool begins_endpoint(const struct prefix *p, const char *value, size_t len)
{
	static const char *const schemes[] = {"http://", "https://", NULL};
	size_t from = 0;
	while (from < len && strchr(" \t\r\n", value[from]))
		from++;
	if (from)
		return true;
	for (const char *const *scheme = schemes; *scheme; scheme++) {
		size_t n = strlen(*scheme);
		if (!strncasecmp(value, *scheme, len < n ? len : n))
			return true;
	}
	return false;
}

static int check_proxy(const struct row *row, const char *value, size_t len, struct err *err)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};
	if (!strcmp(value, "none"))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (value[i] <= ' ' || value[i] == 0x7F)
			return -EINVAL;
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		size_t n = strlen(schemes[i]);
		if (len <= n || memcmp(value, schemes[i], n))
			continue;
		if (memchr(value + n, '@', strcspn(value + n, "/?#")))
			return err_set(err, -EINVAL,
				"no user and password here, where everybody can read them: set the "
				"daemon's environment (https_proxy, http_proxy) and leave this "
				"empty");
		return 0;
	}
	return -EINVAL;
}

static const char *const protocols[] = {"openai", "anthropic", NULL};
static const char *const backends[] = {"auto", "cpu", "cuda", NULL};
static const char *const families[] = {
	"chatml", "llama2", "llama3", "mistral", "zephyr", "gemma", "plain", NULL};

#define PRICE "dollars per million tokens, at most 1000000000, with at most 9 decimals, or nothing"
#define MILLISECONDS "a whole number of milliseconds from 0 (no limit) to 86400000"

/* How a value is checked, at its end and before. */
#define WHOLE(how, least, most)                                                                    \
	.check = how, .prefix = PREFIX_INTEGER(most), .low = least, .high = most,                  \
	.max_bytes = NUMBER_BYTES
#define REAL(least, most)                                                                          \
	.check = check_real, .prefix = PREFIX_REAL(most), .low = least, .high = most,              \
	.max_bytes = NUMBER_BYTES
#define DOLLARS                                                                                    \
	.check = check_dollars, .max_bytes = NUMBER_BYTES,                                         \
	.prefix = PREFIX_DECIMAL(MONEY_DECIMALS, MONEY_MOST_DOLLARS)
#define WORD(list) .check = check_word, .prefix = PREFIX_WORD(list), .max_bytes = NUMBER_BYTES

#define INTEGER(file, least, most, standard, again, words)                                         \
	{                                                                                          \
		.name = file, WHOLE(check_integer, least, most), .allowed = words,                 \
		.number = standard, .reloads = again                                               \
	}
#define SWITCH(file, words)                                                                        \
	{                                                                                          \
		.name = file, WORD(onoff_words), .allowed = words, .reloads = true                 \
	}
#define TIME_OUT(file, standard, what)                                                             \
	INTEGER(file, 0, 86400000, standard, true, MILLISECONDS " (" what ")")

static const struct row rows[N_MODEL_SETTINGS] = {
	[MODEL_PATH] = {.name = "path",
		.check = check_path,
		.prefix = PREFIX_ANY,
		.max_bytes = PATH_BYTES,
		.allowed = "the path of a GGUF file",
		.reloads = true},
	[MODEL_ENDPOINT] = {.name = "endpoint",
		.check = check_endpoint,
		.prefix = PREFIX_OF(begins_endpoint),
		.max_bytes = ENDPOINT_BYTES,
		.allowed = "the URL of a server (http or https), or several, one a line, each with "
			   "an optional weight=N from 1 to 1000",
		.reloads = true},
	[MODEL_PROTOCOL] = {.name = "protocol",
		WORD(protocols),
		.allowed = "openai or anthropic",
		.reloads = true},
	[MODEL_REMOTE_NAME] = {.name = "remote_name",
		.check = check_line,
		.prefix = PREFIX_ANY,
		.max_bytes = WORDS_BYTES,
		.allowed = "one line of at most 255 bytes: the model's name at its server",
		.reloads = true},
	[MODEL_TEMPLATE] = {.name = "template",
		WORD(families),
		.allowed = "chatml, llama2, llama3, mistral, zephyr, gemma, plain, or nothing (as "
			   "the file says)",
		.reloads = true},
	[MODEL_BACKEND] = {.name = "backend",
		WORD(backends),
		.allowed = "auto (a GPU if there is one, else the processor), cpu or cuda",
		.reloads = true},
	[MODEL_GPU] = INTEGER("gpu", 0, 255, 0, true,
		"the number of a GPU as the driver counts, a whole number from 0 to 255"),
	[MODEL_FP8] = SWITCH("fp8",
		ONOFF_ALLOWED " (weights that are not quantised are kept in 8 bits on a GPU)"),
	[MODEL_KV_FP8] =
		SWITCH("kv_fp8", ONOFF_ALLOWED " (keys and values are kept in 8 bits on a GPU)"),
	[MODEL_MEMORY_SHARE] = {.name = "memory_share",
		REAL(0.01, 1),
		.number = 0.9,
		.allowed = "a number from 0.01 to 1 (the share of a GPU's free memory that it may "
			   "take)",
		.reloads = true},
	[MODEL_PRICE_INPUT] = {.name = "price_input", DOLLARS, .allowed = PRICE " (0)"},
	[MODEL_PRICE_CACHED] = {.name = "price_cached",
		DOLLARS,
		.allowed = PRICE " (as price_input)"},
	[MODEL_PRICE_OUTPUT] = {.name = "price_output", DOLLARS, .allowed = PRICE " (0)"},
	[MODEL_QUALITY] = {.name = "quality",
		REAL(0, 1),
		.number = 0.5,
		.allowed = "a number from 0 to 1"},
	[MODEL_CAPABILITIES] = {.name = "capabilities",
		.check = check_capabilities,
		.prefix = PREFIX_ANY,
		.max_bytes = WORDS_BYTES,
		.allowed = "words of chat, json, code, math, vision, audio, tools, embed, with "
			   "blanks between them, or nothing (chat json)"},
	[MODEL_CONTEXT] = INTEGER("context", 1, 100000000, 0, true,
		"a whole number from 1 to 100000000 (tokens of prompt and answer together), or "
		"nothing (what the model says; of an endpoint: 131072)"),
	[MODEL_MAX_TOKENS] = INTEGER("max_tokens", 1, 1000000, 0, false,
		"a whole number from 1 to 1000000 (tokens of the longest answer it can give), or "
		"nothing"),
	[MODEL_FALLBACK] = {.name = "fallback",
		.check = check_fallback,
		.prefix = PREFIX_ANY,
		.max_bytes = FALLBACK_BYTES,
		.allowed = "names of at most 16 models, each once, in the order in which they are "
			   "tried"},
	[MODEL_WEIGHT] = INTEGER("weight", 0, 1000000, 1, false,
		"a whole number from 0 to 1000000 (its share where router/policy is split)"),
	[MODEL_REQUESTS_MAX] = INTEGER("requests_max", 1, 100000, 256, false,
		"a whole number from 1 to 100000 (requests at the same time)"),
	[MODEL_QUEUE_MAX] = INTEGER("queue_max", 0, 1000000, 4096, false,
		"a whole number from 0 to 1000000 (requests that may wait)"),
	[MODEL_QUEUE_TIMEOUT_MS] = INTEGER("queue_timeout_ms", 0, 86400000, 60000, false,
		MILLISECONDS " (how long a request may wait)"),
	[MODEL_CONNECT_TIMEOUT_MS] = TIME_OUT("connect_timeout_ms", 5000, "until it is connected"),
	[MODEL_FIRST_BYTE_TIMEOUT_MS] =
		TIME_OUT("first_byte_timeout_ms", 60000, "until the first byte of an answer"),
	[MODEL_IDLE_TIMEOUT_MS] =
		TIME_OUT("idle_timeout_ms", 30000, "between two pieces of an answer"),
	[MODEL_TIMEOUT_MS] = TIME_OUT("timeout_ms", 600000, "for all of a request"),
	[MODEL_RETRIES] = INTEGER("retries", 0, 10, 2, true,
		"a whole number from 0 to 10 (how often a request is tried again)"),
	[MODEL_RETRY_RATIO] = {.name = "retry_ratio",
		REAL(0, 1),
		.number = 0.1,
		.allowed = "a number from 0 to 1 (the share of requests that may be tried again, "
			   "besides 10 within 10 seconds)",
		.reloads = true},
	[MODEL_BREAKER_FAILURES] = INTEGER("breaker_failures", 1, 1000, 5, true,
		"a whole number from 1 to 1000 (failures in a row that open the breaker)"),
	[MODEL_BREAKER_SUCCESSES] = INTEGER("breaker_successes", 1, 1000, 3, true,
		"a whole number from 1 to 1000 (successes in a row that close the breaker)"),
	[MODEL_BREAKER_OPEN_MS] = INTEGER("breaker_open_ms", 1, 86400000, 30000, true,
		"a whole number of milliseconds from 1 to 86400000 (that the breaker stays open)"),
	[MODEL_HEALTH_INTERVAL_MS] = {.name = "health_interval_ms",
		WHOLE(check_interval, 0, 86400000),
		.allowed = "0 (none) or a whole number of milliseconds from 1000 to 86400000 "
			   "(between two checks of each endpoint), or nothing (10000 with "
			   "several endpoints, else none)",
		.reloads = true},
	[MODEL_PROXY] = {.name = "proxy",
		.check = check_proxy,
		.prefix = PREFIX_ANY,
		.max_bytes = URL_BYTES,
		.allowed =
			"a URL that begins with http://, https://, socks5:// or socks5h://, none, "
			"or nothing (as the environment says)",
		.reloads = true},
	[MODEL_CA_FILE] = {.name = "ca_file",
		.check = check_path,
		.prefix = PREFIX_ANY,
		.max_bytes = PATH_BYTES,
		.allowed = "the path of a PEM file with certificates of authorities",
		.reloads = true},
};

static const char *const names[N_MODEL_SETTINGS + 1] = {"path", "endpoint", "protocol",
	"remote_name", "template", "backend", "gpu", "fp8", "kv_fp8", "memory_share", "price_input",
	"price_cached", "price_output", "quality", "capabilities", "context", "max_tokens",
	"fallback", "weight", "requests_max", "queue_max", "queue_timeout_ms", "connect_timeout_ms",
	"first_byte_timeout_ms", "idle_timeout_ms", "timeout_ms", "retries", "retry_ratio",
	"breaker_failures", "breaker_successes", "breaker_open_ms", "health_interval_ms", "proxy",
	"ca_file", NULL};

const char *const *model_settings_names(void)
{
	return names;
}

enum model_setting model_settings_find(const char *file)
{
	int i = 0;
	while (i < N_MODEL_SETTINGS && strcmp(rows[i].name, file))
		i++;
	return (enum model_setting)i;
}

int model_settings_check(enum model_setting i, const char *value, size_t len, struct err *err)
{
	const struct row *row = &rows[i];
	struct err why = {0};
	if (!len)
		return 0;
	/* The checks read C strings: a NUL inside makes the lengths differ. */
	char *copy = len <= row->max_bytes ? strndup(value, len) : NULL;
	if (!copy && len <= row->max_bytes)
		return err_set(err, -ENOMEM, "out of memory");
	int r = copy && strlen(copy) == len ? row->check(row, copy, len, &why) : -EINVAL;
	free(copy);
	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	if (r < 0 && *why.text)
		return err_set(err, -EINVAL, "%s: %s", row->name, why.text);
	return r < 0 ? err_set(err, -EINVAL, "%s: must be %s", row->name, row->allowed) : 0;
}

bool model_settings_is_hopeless(enum model_setting i, const char *value, size_t len)
{
	return !prefix_fits(&rows[i].prefix, value, len);
}

bool model_settings_reloads(enum model_setting i)
{
	return rows[i].reloads;
}

bool model_settings_is_of_a_load(enum model_setting i)
{
	return i == MODEL_PATH || i == MODEL_TEMPLATE || i == MODEL_BACKEND || i == MODEL_GPU ||
	       i == MODEL_FP8 || i == MODEL_KV_FP8 || i == MODEL_MEMORY_SHARE;
}

void model_settings_copy(struct model_settings *to, const struct model_settings *from)
{
	for (size_t i = 0; i < N_MODEL_SETTINGS; i++)
		to->value[i] = text_ref(from->value[i]);
}

void model_settings_clear(struct model_settings *s)
{
	for (size_t i = 0; i < N_MODEL_SETTINGS; i++)
		s->value[i] = text_put(s->value[i]);
}

bool model_settings_is_set(const struct model_settings *s, enum model_setting i)
{
	return s->value[i];
}

const char *model_settings_text(const struct model_settings *s, enum model_setting i)
{
	return s->value[i] ? s->value[i]->bytes : "";
}

/* Where the default depends on the rest. */
static uint64_t default_integer(const struct model_settings *s, enum model_setting i)
{
	const char *endpoint = model_settings_text(s, MODEL_ENDPOINT);
	if (i == MODEL_CONTEXT && *endpoint)
		return upstream_context_tok;
	if (i != MODEL_HEALTH_INTERVAL_MS)
		return (uint64_t)rows[i].number;
	size_t lines = 0;
	for (const char *p = endpoint + strspn(endpoint, " \t\r\n"); *p; lines++) {
		p += strcspn(p, "\n");
		p += strspn(p, " \t\r\n");
	}
	return lines > 1 ? replicas_health_ms : 0;
}

uint64_t model_settings_integer(const struct model_settings *s, enum model_setting i)
{
	return s->value[i] ? strtoull(s->value[i]->bytes, NULL, 10) : default_integer(s, i);
}

bool model_settings_is_on(const struct model_settings *s, enum model_setting i)
{
	return s->value[i] && onoff_is_on(s->value[i]->bytes, s->value[i]->len);
}

double model_settings_real(const struct model_settings *s, enum model_setting i)
{
	return s->value[i] ? strtod(s->value[i]->bytes, NULL) : rows[i].number;
}

static money price_of(const struct model_settings *s, enum model_setting i, money otherwise)
{
	money price = otherwise;
	if (s->value[i])
		money_parse(s->value[i]->bytes, s->value[i]->len, &price);
	return price;
}

void model_settings_price(const struct model_settings *s, struct money_price *out)
{
	out->input = price_of(s, MODEL_PRICE_INPUT, 0);
	out->cached = price_of(s, MODEL_PRICE_CACHED, out->input);
	out->output = price_of(s, MODEL_PRICE_OUTPUT, 0);
}
