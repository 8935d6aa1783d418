/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that may be followed with `tail -f`. In the store each line is an entry of its own, under a
 * serial number, and stays until it is too old (book_sweep.c). In memory are the newest
 * LEDGER_BYTES: when these are full, a quarter is dropped at once, at a line's end. A line at a
 * time would keep the size constant, and who follows by size would see nothing; it would also move
 * all bytes for every line.
 *
 * Which lines are in memory (first, next) is part of the owner's record, so that a start reads
 * those and not all there ever were.
 */
#include "gateway/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void ledger_init(struct ledger *l, const char *kind, const char *name)
{
	*l = (struct ledger){.text.max = LEDGER_BYTES + LEDGER_LINE_MAX};
	list_init(&l->watch);
	list_init(&l->link);
	l->prefix_len = (size_t)snprintf(l->key, sizeof l->key, "%s/%s/", kind, name);
}

void ledger_free(struct ledger *l)
{
	buf_free(&l->text);
}

static void set_serial(struct ledger *l, uint64_t serial)
{
	text_serial(l->key + l->prefix_len, serial);
}

/* Drops the oldest quarter, whole lines. */
static void trim(struct ledger *l)
{
	size_t drop = 0;
	while (drop < LEDGER_BYTES / 4 && drop < l->text.len) {
		const char *end = memchr(l->text.data + drop, '\n', l->text.len - drop);
		drop = end ? (size_t)(end - l->text.data) + 1 : l->text.len;
		l->first++;
	}
	buf_consume(&l->text, drop);
	l->trimmed = true;
}

void ledger_shrink(struct ledger *l)
{
	struct buf less = {.max = l->text.max};
	size_t from = l->text.len > LEDGER_IDLE_BYTES ? l->text.len - LEDGER_IDLE_BYTES : 0;
	for (size_t at = 0; at < from;) {
		const char *end = memchr(l->text.data + at, '\n', l->text.len - at);
		at = end ? (size_t)(end - l->text.data) + 1 : l->text.len;
		l->first++;
		if (at >= from)
			from = at;
	}
	if (from < l->text.len && buf_append(&less, l->text.data + from, l->text.len - from) < 0)
		l->first = l->next;
	buf_free(&l->text);
	l->text = less;
	l->trimmed = true;
}

static int remember(struct ledger *l, const char *line, size_t len)
{
	if (l->text.len + len > LEDGER_BYTES)
		trim(l);
	return buf_append(&l->text, line, len);
}

void ledger_add(
	struct ledger *l, struct store *store, const char *line, size_t len, uint64_t now_ns)
{
	if (l->oldest == l->next)
		l->oldest_s = now_ns / 1000000000;
	set_serial(l, l->next++);
	store_put(store, l->key, line, len);
	l->changed_ns = now_ns;
	if (remember(l, line, len) == 0)
		return;
	log_error("account log %.*s: out of memory: lines are in the store only",
		(int)l->prefix_len, l->key);
	buf_clear(&l->text);
	l->first = l->next;
	l->trimmed = true;
}

const char *ledger_oldest_key(struct ledger *l)
{
	set_serial(l, l->oldest);
	return l->key;
}

uint64_t ledger_serial(const struct ledger *l, const char *key)
{
	return strtoull(key + l->prefix_len, NULL, 16);
}

/* Lines begin with a text_time. */
uint64_t ledger_line_s(const char *line, size_t len)
{
	static const char head[] = "{\"time\": ";
	size_t at = strlen(head);
	uint64_t s = 0;
	if (len < at || memcmp(line, head, at))
		return 0;
	for (; at < len && line[at] >= '0' && line[at] <= '9' && s < UINT64_MAX / 100; at++)
		s = s * 10 + (uint64_t)(line[at] - '0');
	return s;
}

void ledger_forget(struct ledger *l, uint64_t before_s, uint64_t oldest, uint64_t oldest_s)
{
	size_t drop = 0;
	l->oldest = oldest;
	l->oldest_s = oldest_s;
	while (drop < l->text.len &&
		ledger_line_s(l->text.data + drop, l->text.len - drop) < before_s) {
		const char *end = memchr(l->text.data + drop, '\n', l->text.len - drop);
		drop = end ? (size_t)(end - l->text.data) + 1 : l->text.len;
	}
	if (l->first < oldest)
		l->first = oldest;
	if (!drop)
		return;
	buf_consume(&l->text, drop);
	l->trimmed = true;
}

static int restore_line(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	struct ledger *l = arg;
	if (!value_len || value_len > LEDGER_LINE_MAX || value[value_len - 1] != '\n' ||
		memchr(value, '\n', value_len - 1)) {
		log_warn("store: a line of %.*s is damaged and was left out", (int)l->prefix_len,
			l->key);
		return 0;
	}
	return remember(l, value, value_len);
}

int ledger_restore(struct ledger *l, struct store *store, uint64_t first, uint64_t next)
{
	char from[sizeof l->key], prefix[sizeof l->key];
	snprintf(prefix, sizeof prefix, "%.*s", (int)l->prefix_len, l->key);
	set_serial(l, first);
	memcpy(from, l->key, sizeof from);
	l->first = first;
	l->next = next;
	int r = first < next ? store_scan_from(store, prefix, from, restore_line, l) : 0;
	l->trimmed = false;
	return r;
}
