/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree, one row a file. Nothing else in this folder knows which files exist: a new file is a
 * new row here and, if it is of a new kind, one file with that kind's operations.
 *
 * The bits of rows below a session are what the session's directory may grant: a directory of mode
 * 0750 gives its group r of what has r here. All other bits are taken as they are.
 *
 * What is only written, `in` and `ctl`, may be read, and is empty: else each copy of a session and
 * each archive of a mount would end with a fault. A key of a model is the exception: it is to be
 * seen that it cannot be read. The `ctl` of an API key gives a secret to who has just made it, by
 * the same open, and is empty to all others.
 */
#include "fs/table.h"

#include "gateway/gateway_accounts.h"
#include "gateway/gateway_keys.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VIEW (S_IFREG | 0444)
#define SETTING (S_IFREG | 0666)

#define DIR_ROW(where, title, text, bits, inside)                                                  \
	{                                                                                          \
		.name = title, .about = text, .place = where, .kind = TABLE_DIR,                   \
		.mode = S_IFDIR | (bits), .view = inside                                           \
	}
#define VIEW_ROW(where, title, text, which)                                                        \
	{                                                                                          \
		.name = title, .about = text, .place = where, .kind = TABLE_VIEW, .mode = VIEW,    \
		.view = which                                                                      \
	}
#define ROW(where, title, text, what, bits, ...)                                                   \
	{                                                                                          \
		.name = title, .about = text, .place = where, .kind = what,                        \
		.mode = S_IFREG | (bits), __VA_ARGS__                                              \
	}
#define MODEL_ROW(title, text, ...) ROW(TABLE_MODEL, title, text, TABLE_SETTING, 0644, __VA_ARGS__)
#define ASK_ROW(where, title, text, which)                                                         \
	ROW(where, title, text, TABLE_CHANNEL, 0666, .view = which)
#define ROUTER_ROW(title, text, ...)                                                               \
	ROW(TABLE_ROUTER, title, text, TABLE_SETTING, 0644, __VA_ARGS__)
#define CACHE_ROW(title, text) ROW(TABLE_CACHE, title, text, TABLE_SETTING, 0644)
#define ACCOUNT_ROW(title, text, what, bits, ...)                                                  \
	ROW(TABLE_ACCOUNT, title, text, what, bits, __VA_ARGS__)
#define LIMIT_ROW(title, text) ACCOUNT_ROW(title, text, TABLE_SETTING, 0644)
#define API_KEY_ROW(title, text, what, bits, ...)                                                  \
	ROW(TABLE_API_KEY, title, text, what, bits, __VA_ARGS__)
#define SESSION_ROW(title, text, what, bits, ...)                                                  \
	{                                                                                          \
		.name = title, .about = text, .place = TABLE_SESSION, .kind = what, .mode = bits,  \
		__VA_ARGS__                                                                        \
	}

const struct table_row table_rows[] = {
	DIR_ROW(TABLE_NOWHERE, "", "the mount", 0755, TABLE_ROOT),
	{.name = "*",
		.about = "scratch files of editors",
		.kind = TABLE_SCRATCH,
		.mode = S_IFREG | 0600,
		.pattern = true},

	VIEW_ROW(TABLE_ROOT, "README", "how to use it", TABLE_README),
	VIEW_ROW(TABLE_ROOT, "version", "version and build", TABLE_VERSION),
	VIEW_ROW(TABLE_ROOT, "status", "\"ok\" or \"degraded: why\"", GATEWAY_STATUS),
	VIEW_ROW(TABLE_ROOT, "http", "where the HTTP front end listens, a URL; empty: nowhere",
		TABLE_HTTP),
	DIR_ROW(TABLE_ROOT, "models", "models, one directory each", 0755, TABLE_MODELS),
	DIR_ROW(TABLE_ROOT, "sessions", "conversations, one directory each", 01777, TABLE_SESSIONS),
	DIR_ROW(TABLE_ROOT, "guards", "what may not be said", 0755, TABLE_GUARDS),
	DIR_ROW(TABLE_ROOT, "budgets", "limits and money, a directory for each user or group", 0755,
		TABLE_BUDGETS),
	DIR_ROW(TABLE_ROOT, "keys", "API keys, a directory for each", 0755, TABLE_KEYS),
	DIR_ROW(TABLE_ROOT, "router", "which model a prompt goes to", 0755, TABLE_ROUTER),
	DIR_ROW(TABLE_ROOT, "cache", "answers that were given before", 0755, TABLE_CACHE),
	DIR_ROW(TABLE_ROOT, "metrics", "numbers about all of it", 0755, TABLE_METRICS),
	DIR_ROW(TABLE_ROOT, "trace", "requests of all users", 0700, TABLE_TRACE),

	{.name = "default",
		.about = "a symlink to the model that is used when none is named",
		.place = TABLE_MODELS,
		.kind = TABLE_LINK,
		.mode = S_IFLNK | 0777},
	{.name = "NAME",
		.about = "a model; mkdir creates, rmdir removes",
		.place = TABLE_MODELS,
		.kind = TABLE_DIR,
		.mode = S_IFDIR | 0755,
		.view = TABLE_MODEL,
		.pattern = true},
	DIR_ROW(TABLE_MODELS, "auto", "the router picks a model", 0755, TABLE_VIRTUAL_MODEL),
	DIR_ROW(TABLE_MODELS, "cascade", "the cheapest model first, a better one if need be", 0755,
		TABLE_VIRTUAL_MODEL),
	MODEL_ROW("path", "the model's GGUF file"),
	MODEL_ROW("endpoint", "or servers that have the model, a URL a line", .lines = true),
	MODEL_ROW("protocol", "openai or anthropic"),
	MODEL_ROW("remote_name", "what the servers call it"),
	ROW(TABLE_MODEL, "key", "the secret for the servers; cannot be read", TABLE_KEY, 0200),
	MODEL_ROW("template", "chat family, where the file's own is not recognised"),
	MODEL_ROW("backend", "auto, cpu or cuda: what computes it"),
	MODEL_ROW("gpu", "which GPU, by number"),
	MODEL_ROW("fp8", "on or off: its weights in 8 bits, on a GPU"),
	MODEL_ROW("kv_fp8", "on or off: keys and values in 8 bits, on a GPU"),
	MODEL_ROW("memory_share", "share of the GPU's free memory it may take"),
	MODEL_ROW("price_input", "dollars per million tokens of prompts"),
	MODEL_ROW("price_cached", "of those found in a cache; empty: as price_input"),
	MODEL_ROW("price_output", "dollars per million tokens of answers"),
	MODEL_ROW("quality", "how good its answers are, 0 to 1"),
	MODEL_ROW("capabilities", "what it can do, words"),
	MODEL_ROW("context", "tokens of prompt and answer it can take"),
	MODEL_ROW("max_tokens", "longest answer it can give"),
	MODEL_ROW("fallback", "models to try when this one cannot answer"),
	MODEL_ROW("weight", "its share of split traffic"),
	MODEL_ROW("requests_max", "requests at the same time"),
	MODEL_ROW("queue_max", "requests that wait for that"),
	MODEL_ROW("queue_timeout_ms", "how long they wait"),
	MODEL_ROW("connect_timeout_ms", "until there is a connection"),
	MODEL_ROW("first_byte_timeout_ms", "until the answer begins"),
	MODEL_ROW("idle_timeout_ms", "between two pieces of an answer"),
	MODEL_ROW("timeout_ms", "of a request as a whole"),
	MODEL_ROW("retries", "how often one request is tried again"),
	MODEL_ROW("retry_ratio", "share of all requests that may be tried again"),
	MODEL_ROW("breaker_failures", "failures in a row that open a breaker"),
	MODEL_ROW("breaker_successes", "successes that close it again"),
	MODEL_ROW("breaker_open_ms", "until an open one lets a probe through"),
	MODEL_ROW("health_interval_ms", "between two checks of a server"),
	MODEL_ROW("proxy", "the proxy to the servers"),
	MODEL_ROW("ca_file", "certificates of the authorities they are held against"),
	ROW(TABLE_MODEL, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	ROW(TABLE_MODEL, "ctl", "load, unload, reset", TABLE_CTL, 0600),
	ASK_ROW(TABLE_MODEL, "ask", "channel: a prompt and its answer", GATEWAY_ASK),
	ASK_ROW(TABLE_MODEL, "embed", "channel: a text and its vector", GATEWAY_EMBED),
	VIEW_ROW(TABLE_MODEL, "ask_error", "why your last ask or embed here failed",
		TABLE_ASK_FAULT),
	VIEW_ROW(TABLE_MODEL, "state", "ready, or in which way not", MODEL_STATE),
	VIEW_ROW(TABLE_MODEL, "info", "what the model is, JSON", MODEL_INFO),
	VIEW_ROW(TABLE_MODEL, "metrics", "its numbers, Prometheus text", MODEL_METRICS),

	ASK_ROW(TABLE_VIRTUAL_MODEL, "ask", "channel: a prompt and its answer", GATEWAY_ASK),
	VIEW_ROW(
		TABLE_VIRTUAL_MODEL, "ask_error", "why your last ask here failed", TABLE_ASK_FAULT),
	VIEW_ROW(TABLE_VIRTUAL_MODEL, "state", "ready, or why not", MODEL_STATE),
	VIEW_ROW(TABLE_VIRTUAL_MODEL, "info", "what it is, JSON", MODEL_INFO),
	VIEW_ROW(TABLE_VIRTUAL_MODEL, "metrics", "its numbers, Prometheus text", MODEL_METRICS),

	{.name = "ID",
		.about = "a session; mkdir creates, rmdir ends",
		.place = TABLE_SESSIONS,
		.kind = TABLE_DIR,
		.mode = S_IFDIR | 0700,
		.view = TABLE_SESSION,
		.pattern = true},
	SESSION_ROW("in", "write a prompt; its last close submits", TABLE_IN, SETTING),
	SESSION_ROW("out", "the newest answer, as it is generated", TABLE_OUT, VIEW),
	SESSION_ROW("chat", "the conversation as text", TABLE_LOG, VIEW, .view = SESSION_CHAT),
	SESSION_ROW("messages.json", "the conversation as JSON; writing it replaces it",
		TABLE_SETTING, SETTING, .view = SESSION_MESSAGES, .lines = true),
	SESSION_ROW("model", "the model asked; empty: default", TABLE_SETTING, SETTING),
	SESSION_ROW("system", "system prompt", TABLE_SETTING, SETTING, .lines = true),
	SESSION_ROW("temperature", "0 is greedy", TABLE_SETTING, SETTING),
	SESSION_ROW("top_p", "nucleus sampling", TABLE_SETTING, SETTING),
	SESSION_ROW("top_k", "the k likeliest tokens only", TABLE_SETTING, SETTING),
	SESSION_ROW("min_p", "least share of the likeliest", TABLE_SETTING, SETTING),
	SESSION_ROW(
		"repetition_penalty", "above 1: not again what was said", TABLE_SETTING, SETTING),
	SESSION_ROW("presence_penalty", "taken off what is in the answer", TABLE_SETTING, SETTING),
	SESSION_ROW("frequency_penalty", "the same for each time it came", TABLE_SETTING, SETTING),
	SESSION_ROW("max_tokens", "longest answer", TABLE_SETTING, SETTING),
	SESSION_ROW("stop", "texts that end the answer, one a line", TABLE_SETTING, SETTING,
		.lines = true),
	SESSION_ROW("seed", "the same seed gives the same text", TABLE_SETTING, SETTING),
	SESSION_ROW("format", "form of the answer", TABLE_SETTING, SETTING),
	SESSION_ROW("ignore_eos", "1 or on: go on to max_tokens", TABLE_SETTING, SETTING),
	SESSION_ROW("truncate", "what to drop when it no longer fits", TABLE_SETTING, SETTING),
	SESSION_ROW("max_cost", "dollars one request may cost at most", TABLE_SETTING, SETTING),
	SESSION_ROW("prompt_budget", "tokens of conversation that are sent at most", TABLE_SETTING,
		SETTING),
	SESSION_ROW("max_latency_ms", "how long models/auto may take", TABLE_SETTING, SETTING),
	SESSION_ROW("cache", "auto, all or off", TABLE_SETTING, SETTING),
	SESSION_ROW("status", "one word", TABLE_VIEW, VIEW, .view = SESSION_STATUS),
	SESSION_ROW("error", "why the last request was refused", TABLE_VIEW, VIEW,
		.view = SESSION_ERROR),
	SESSION_ROW("usage", "tokens and times", TABLE_VIEW, VIEW, .view = SESSION_USAGE),
	SESSION_ROW("trace", "stages of the last request", TABLE_VIEW, VIEW, .view = SESSION_TRACE),
	SESSION_ROW("events", "a JSON line per event", TABLE_LOG, VIEW, .view = SESSION_EVENTS),
	SESSION_ROW("ctl", "submit, cancel, clear, retry, fork ID", TABLE_CTL, SETTING),

	DIR_ROW(TABLE_GUARDS, "input", "rules for prompts", 0755, TABLE_GUARDS_INPUT),
	DIR_ROW(TABLE_GUARDS, "output", "rules for answers", 0755, TABLE_GUARDS_OUTPUT),
	ROW(TABLE_GUARDS_INPUT, "NAME.rules", "rules, one a line", TABLE_RULES, 0644,
		.pattern = true),
	ROW(TABLE_GUARDS_OUTPUT, "NAME.rules", "rules, one a line", TABLE_RULES, 0644,
		.pattern = true),
	ROW(TABLE_GUARDS, "moderation", "the model that judges", TABLE_RULES, 0644),
	ROW(TABLE_GUARDS, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	VIEW_ROW(TABLE_GUARDS, "status", "what is in force; faults of files", GATEWAY_GUARD_STATUS),
	ROW(TABLE_GUARDS, "audit", "a JSON line per finding, of all users", TABLE_LOG, 0400,
		.view = GATEWAY_GUARD_AUDIT),
	ROW(TABLE_GUARDS, "test", "channel: a text and its verdict", TABLE_CHANNEL, 0666,
		.view = GATEWAY_GUARD_TEST),
	VIEW_ROW(TABLE_GUARDS, "test_error", "why your last test failed", TABLE_ASK_FAULT),

	{.name = "USER",
		.about = "limits of a user, a group, or (default) everybody else",
		.place = TABLE_BUDGETS,
		.kind = TABLE_DIR,
		.mode = S_IFDIR | 0755,
		.view = TABLE_ACCOUNT,
		.pattern = true},
	LIMIT_ROW("limit", "dollars in a window"),
	LIMIT_ROW("window", "day, week, month or total"),
	LIMIT_ROW("requests_per_minute", "how many"),
	LIMIT_ROW("requests_per_day", "how many"),
	LIMIT_ROW("tokens_per_minute", "of prompts and answers"),
	LIMIT_ROW("tokens_per_day", "of prompts and answers"),
	LIMIT_ROW("requests_in_flight", "at the same time"),
	LIMIT_ROW("alerts", "fractions of the limit at which events says so"),
	ACCOUNT_ROW("members", "users, one a line: makes it a group", TABLE_SETTING, 0644,
		.lines = true),
	LIMIT_ROW("ledger_days", "how long lines are kept; 0: for ever"),
	ACCOUNT_ROW("spent", "dollars in this window", TABLE_VIEW, 0400, .view = ACCOUNT_SPENT),
	ACCOUNT_ROW(
		"remaining", "dollars, or unlimited", TABLE_VIEW, 0400, .view = ACCOUNT_REMAINING),
	ACCOUNT_ROW("ledger", "a JSON line per request", TABLE_LOG, 0400, .view = ACCOUNT_LEDGER),
	ACCOUNT_ROW("events", "a JSON line per alert", TABLE_LOG, 0400, .view = ACCOUNT_EVENTS),
	ROW(TABLE_ACCOUNT, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	ACCOUNT_ROW("ctl", "reset, credit DOLLARS", TABLE_CTL, 0600),

	{.name = "NAME",
		.about = "an API key; mkdir creates, rmdir removes",
		.place = TABLE_KEYS,
		.kind = TABLE_DIR,
		.mode = S_IFDIR | 0755,
		.view = TABLE_API_KEY,
		.pattern = true},
	API_KEY_ROW(
		"user", "whose requests they are; empty: it lets nobody in", TABLE_SETTING, 0644),
	API_KEY_ROW("scopes", "what it is for, words; empty: all", TABLE_SETTING, 0644),
	API_KEY_ROW("expires", "the last day; empty: never", TABLE_SETTING, 0644),
	API_KEY_ROW("last_used", "to the minute", TABLE_VIEW, 0400, .view = API_KEY_LAST_USED),
	API_KEY_ROW("state", "ready, or why it lets nobody in", TABLE_VIEW, 0400,
		.view = API_KEY_STATE),
	ROW(TABLE_API_KEY, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	API_KEY_ROW("ctl", "new, whose secret is read from it; revoke", TABLE_CTL, 0600),

	ROUTER_ROW("policy", "what models/auto looks for"),
	ROUTER_ROW("weights", "what quality, cost and time count for each class", .lines = true),
	ROUTER_ROW("classes", "what makes a prompt simple, moderate or complex", .lines = true),
	ROUTER_ROW("threshold", "quality below which models/cascade goes on"),
	ROUTER_ROW("cascade_judge", "the model that judges its answers; empty: none"),
	ROUTER_ROW("cascade_judge_timeout_ms", "how long it has for one"),
	ROUTER_ROW("classifier_model", "the model that says a prompt's class; empty: none"),
	ROUTER_ROW("classifier_timeout_ms", "how long it has for one"),
	ROW(TABLE_ROUTER, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	ASK_ROW(TABLE_ROUTER, "explain", "channel: a prompt, and what would be decided",
		GATEWAY_EXPLAIN),
	VIEW_ROW(TABLE_ROUTER, "explain_error", "why your last explain failed", TABLE_ASK_FAULT),

	CACHE_ROW("enabled", "1 or on, 0 or off"),
	CACHE_ROW("ttl", "seconds that an answer is kept"),
	CACHE_ROW("threshold", "how alike two prompts must be, 0 to 1"),
	CACHE_ROW("scope", "user or global"),
	CACHE_ROW("embedding_model", "the model that says how alike; empty: none"),
	CACHE_ROW("max_memory", "bytes"),
	CACHE_ROW("max_entries", "answers"),
	CACHE_ROW("max_disk", "bytes"),
	VIEW_ROW(TABLE_CACHE, "stats", "hits and misses, name value lines", GATEWAY_CACHE_STATS),
	ROW(TABLE_CACHE, "error", "what was wrong with the last write", TABLE_VIEW, 0400,
		.view = TABLE_FAULT),
	ROW(TABLE_CACHE, "ctl", "flush, flush USER", TABLE_CTL, 0600),
	ASK_ROW(TABLE_CACHE, "lookup", "channel: a prompt, and the answers that are near",
		GATEWAY_LOOKUP),
	VIEW_ROW(TABLE_CACHE, "lookup_error", "why your last lookup failed", TABLE_ASK_FAULT),

	VIEW_ROW(TABLE_METRICS, "prometheus", "all numbers, Prometheus text", GATEWAY_PROMETHEUS),
	{.name = "NUMBER",
		.about = "one plain number",
		.place = TABLE_METRICS,
		.kind = TABLE_VIEW,
		.mode = VIEW,
		.pattern = true},

	VIEW_ROW(TABLE_TRACE, "recent.jsonl", "the last requests, a JSON line each",
		GATEWAY_TRACE_RECENT),
};

const size_t table_n_rows = sizeof table_rows / sizeof *table_rows;

const struct table_row *table_root(void)
{
	return &table_rows[0];
}

const struct table_row *table_scratch(void)
{
	return &table_rows[1];
}

/* O(rows): some hundred and fifty short comparisons, a microsecond beside a request's twelve. */
const struct table_row *table_row_named(enum table_place place, const char *name)
{
	for (size_t i = 2; i < table_n_rows; i++)
		if (table_rows[i].place == place && !table_rows[i].pattern &&
			strcmp(table_rows[i].name, name) == 0)
			return &table_rows[i];
	return NULL;
}

const struct table_row *table_pattern(enum table_place place)
{
	for (size_t i = 2; i < table_n_rows; i++)
		if (table_rows[i].place == place && table_rows[i].pattern)
			return &table_rows[i];
	return NULL;
}

const struct table_row *table_dir_of(enum table_place place)
{
	for (size_t i = 0; i < table_n_rows; i++)
		if (table_rows[i].kind == TABLE_DIR && table_rows[i].view == (int)place)
			return &table_rows[i];
	return NULL;
}

static void print_line(const struct table_row *dir, const struct table_row *row)
{
	/* No directory but those of the root has directories that have files. */
	const struct table_row *above = dir ? table_dir_of(dir->place) : NULL;
	if (above && above != table_root())
		printf("%s/", above->name);
	if (dir && dir != table_root())
		printf("%s/", dir->name);
	printf("%s%s %04o %s\n", row->name, row->kind == TABLE_DIR ? "/" : "",
		(unsigned)(row->mode & 07777), row->about);
}

void table_print(void)
{
	for (size_t i = 2; i < table_n_rows; i++) {
		const struct table_row *row = &table_rows[i];
		for (size_t k = 0; k < table_n_rows; k++)
			if (table_rows[k].kind == TABLE_DIR &&
				table_rows[k].view == (int)row->place)
				print_line(&table_rows[k], row);
	}
}
