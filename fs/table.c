/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree, one row a file. Nothing else in this folder knows which files exist: a new file is a
 * new row here and, if it is of a new kind, one file with that kind's operations.
 *
 * The bits of rows below a session are what the session's directory may grant: a directory of mode
 * 0750 gives its group r of what has r here. All other bits are taken as they are.
 */
#include "fs/table.h"

#include "gateway/gateway.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VIEW (S_IFREG | 0444)
#define SETTING (S_IFREG | 0666)
#define WRITE_ONLY (S_IFREG | 0222)

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
#define PRICE_ROW(title, text) ROW(TABLE_MODEL, title, text, TABLE_SETTING, 0644)
#define ACCOUNT_ROW(title, text, what, bits, ...)                                                  \
	ROW(TABLE_ACCOUNT, title, text, what, bits, __VA_ARGS__)
#define LIMIT_ROW(title, text) ACCOUNT_ROW(title, text, TABLE_SETTING, 0644)
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
	DIR_ROW(TABLE_ROOT, "models", "models, one directory each", 0755, TABLE_MODELS),
	DIR_ROW(TABLE_ROOT, "sessions", "conversations, one directory each", 01777, TABLE_SESSIONS),
	DIR_ROW(TABLE_ROOT, "guards", "what may not be said", 0755, TABLE_GUARDS),
	DIR_ROW(TABLE_ROOT, "budgets", "limits and money, a directory for each user or group", 0755,
		TABLE_BUDGETS),
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
	{.name = "path",
		.about = "the model's GGUF file",
		.place = TABLE_MODEL,
		.kind = TABLE_SETTING,
		.mode = S_IFREG | 0644},
	{.name = "template",
		.about = "chat family, where the file's own is not recognised",
		.place = TABLE_MODEL,
		.kind = TABLE_SETTING,
		.mode = S_IFREG | 0644},
	PRICE_ROW("price_input", "dollars per million tokens of prompts"),
	PRICE_ROW("price_cached", "of those found in a cache; empty: as price_input"),
	PRICE_ROW("price_output", "dollars per million tokens of answers"),
	{.name = "ctl",
		.about = "load, unload, reset",
		.place = TABLE_MODEL,
		.kind = TABLE_CTL,
		.mode = S_IFREG | 0200},
	{.name = "ask",
		.about = "channel: a prompt and its answer",
		.place = TABLE_MODEL,
		.kind = TABLE_CHANNEL,
		.mode = SETTING},
	VIEW_ROW(TABLE_MODEL, "state", "unloaded, loading N%, ready, failed: why", MODEL_STATE),
	VIEW_ROW(TABLE_MODEL, "info", "what the model is, JSON", MODEL_INFO),
	VIEW_ROW(TABLE_MODEL, "metrics", "its numbers, Prometheus text", MODEL_METRICS),

	{.name = "ID",
		.about = "a session; mkdir creates, rmdir ends",
		.place = TABLE_SESSIONS,
		.kind = TABLE_DIR,
		.mode = S_IFDIR | 0700,
		.view = TABLE_SESSION,
		.pattern = true},
	SESSION_ROW("in", "write a prompt; its last close submits", TABLE_IN, WRITE_ONLY),
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
	SESSION_ROW("max_tokens", "longest answer", TABLE_SETTING, SETTING),
	SESSION_ROW("stop", "texts that end the answer, one a line", TABLE_SETTING, SETTING,
		.lines = true),
	SESSION_ROW("seed", "the same seed gives the same text", TABLE_SETTING, SETTING),
	SESSION_ROW("format", "form of the answer", TABLE_SETTING, SETTING),
	SESSION_ROW("ignore_eos", "1: go on to max_tokens", TABLE_SETTING, SETTING),
	SESSION_ROW("truncate", "what to drop when it no longer fits", TABLE_SETTING, SETTING),
	SESSION_ROW("max_cost", "dollars one request may cost at most", TABLE_SETTING, SETTING),
	SESSION_ROW("prompt_budget", "tokens of conversation that are sent at most", TABLE_SETTING,
		SETTING),
	SESSION_ROW("status", "one word", TABLE_VIEW, VIEW, .view = SESSION_STATUS),
	SESSION_ROW("error", "why the last request was refused", TABLE_VIEW, VIEW,
		.view = SESSION_ERROR),
	SESSION_ROW("usage", "tokens and times", TABLE_VIEW, VIEW, .view = SESSION_USAGE),
	SESSION_ROW("trace", "stages of the last request", TABLE_VIEW, VIEW, .view = SESSION_TRACE),
	SESSION_ROW("events", "a JSON line per event", TABLE_LOG, VIEW, .view = SESSION_EVENTS),
	SESSION_ROW("ctl", "submit, cancel, clear, retry, fork ID", TABLE_CTL, WRITE_ONLY),

	DIR_ROW(TABLE_GUARDS, "input", "rules for prompts", 0755, TABLE_GUARDS_INPUT),
	DIR_ROW(TABLE_GUARDS, "output", "rules for answers", 0755, TABLE_GUARDS_OUTPUT),
	ROW(TABLE_GUARDS_INPUT, "NAME.rules", "rules, one a line", TABLE_RULES, 0644,
		.pattern = true),
	ROW(TABLE_GUARDS_OUTPUT, "NAME.rules", "rules, one a line", TABLE_RULES, 0644,
		.pattern = true),
	ROW(TABLE_GUARDS, "moderation", "the model that judges", TABLE_RULES, 0644),
	VIEW_ROW(TABLE_GUARDS, "status", "what is in force; faults of files", GATEWAY_GUARD_STATUS),
	ROW(TABLE_GUARDS, "audit", "a JSON line per finding, of all users", TABLE_LOG, 0400,
		.view = GATEWAY_GUARD_AUDIT),
	ROW(TABLE_GUARDS, "test", "channel: a text and its verdict", TABLE_CHANNEL, 0666),

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
	ACCOUNT_ROW("spent", "dollars in this window", TABLE_VIEW, 0444, .view = ACCOUNT_SPENT),
	ACCOUNT_ROW(
		"remaining", "dollars, or unlimited", TABLE_VIEW, 0444, .view = ACCOUNT_REMAINING),
	ACCOUNT_ROW("ledger", "a JSON line per request", TABLE_LOG, 0400, .view = ACCOUNT_LEDGER),
	ACCOUNT_ROW("events", "a JSON line per alert", TABLE_LOG, 0444, .view = ACCOUNT_EVENTS),
	ACCOUNT_ROW("ctl", "reset, credit DOLLARS", TABLE_CTL, 0200),

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

/* O(rows): some eighty short comparisons, less than a microsecond beside a FUSE request's twelve.
 */
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

static void print_path(const struct table_row *row)
{
	if (row->place != TABLE_ROOT && row->place != TABLE_NOWHERE) {
		print_path(table_dir_of(row->place));
		putchar('/');
	}
	fputs(row->name, stdout);
}

void table_print(void)
{
	for (size_t i = 2; i < table_n_rows; i++) {
		const struct table_row *row = &table_rows[i];
		print_path(row);
		if (row->kind == TABLE_DIR)
			putchar('/');
		printf(" %04o %s\n", (unsigned)(row->mode & 07777), row->about);
	}
}
