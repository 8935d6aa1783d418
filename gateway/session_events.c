/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's events: JSON lines, the newest EVENTS_KEEP bytes and a few more.
 *
 * In the store they are a ring of a few records, each with what came since the one before:
 *
 *	e/ID/SLOT     a line with its number in the row, then the lines; SLOT: number % EVENTS_SLOTS
 *
 * One is written when a request ends, behind the end, and when the daemon does: so kill -9 loses
 * the lines since the last end, and a refusal, of which there may be many, writes nothing. No
 * record is ever deleted to make room, and one that is overwritten within a second is written to
 * the database once.
 *
 * Lock: the session's, which the caller holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/session.h"

enum {
	EVENTS_MAX = 8192,
	EVENTS_KEEP = 6144,
	EVENTS_SLOTS = 16,
	EVENTS_RECORD = 2048, /* of lines in one of them */
	KEY_SIZE = 2 + TEXT_NAME_SIZE + 8,
};

/* Where the last whole lines begin that are `most` bytes together at the most. */
static size_t last_lines(const char *bytes, size_t len, size_t most)
{
	if (len <= most)
		return 0;
	const char *line = memchr(bytes + len - most, '\n', most);
	return line ? (size_t)(line + 1 - bytes) : len;
}

static void trim(struct session *s, unsigned *flags)
{
	if (s->events.len <= EVENTS_MAX)
		return;
	buf_consume(&s->events, last_lines(s->events.data, s->events.len, EVENTS_KEEP));
	if (s->events_unsaved > s->events.len)
		s->events_unsaved = s->events.len;
	*flags = SESSION_EVENTS_CHANGED;
}

/* The beginning of its line. event: a word of ours. */
static int begin_line(struct buf *out, const char *event, const struct request *r)
{
	int e = buf_reserve(out, 64 + TEXT_TIME_MAX + TEXT_NUMBER_MAX + strlen(event));
	if (e < 0)
		return e;
	char *p = text_time(out->data + out->len, clock_real_ns());
	p = stpcpy(stpcpy(stpcpy(p, ", \"event\": \""), event), "\"");
	if (r && r->id)
		p = text_number(stpcpy(p, ", \"request\": "), r->id);
	*p = '\0';
	out->len = (size_t)(p - out->data);
	return 0;
}

unsigned session_events_add(struct session *s, const char *event, const struct request *r)
{
	size_t before = s->events.len;
	int e = begin_line(&s->events, event, r);
	if (e == 0 && r && r->code)
		e = buf_printf(&s->events, ", \"errno\": %d", -r->code);
	if (e == 0 && r && r->error) {
		e = buf_append_str(&s->events, ", \"error\": ");
		e = e ? e : text_append_json(&s->events, r->error->bytes, r->error->len);
	}
	if (e == 0 && r && r->sent_again && r->prompt)
		e = buf_printf(&s->events, ", \"bytes\": %zu", r->prompt->len);
	e = e ? e : buf_append_str(&s->events, "}\n");
	if (e < 0) {
		s->events.len = before;
		return 0;
	}
	s->events_unsaved += s->events.len - before;
	unsigned flags = SESSION_EVENTS_GREW;
	trim(s, &flags);
	return flags;
}

void session_event(struct session *s, const char *event, const struct request *r)
{
	unsigned flags = session_events_add(s, event, r);
	if (flags)
		session_poke(s, flags);
}

/* ---- in the store ---- */

static void slot_key(char key[KEY_SIZE], const struct session *s, uint64_t number)
{
	char *p = stpcpy(stpcpy(stpcpy(key, "e/"), s->id), "/");
	*p++ = (char)('0' + number % EVENTS_SLOTS / 10);
	*p++ = (char)('0' + number % EVENTS_SLOTS % 10);
	*p = '\0';
}

void session_events_store(struct session *s)
{
	char key[KEY_SIZE], value[TEXT_NUMBER_MAX + 1 + EVENTS_RECORD];
	size_t n = s->events_unsaved;
	if (!session_is_stored(s) || !n)
		return;
	const char *lines = s->events.data + s->events.len - n;
	size_t from = last_lines(lines, n, EVENTS_RECORD);
	char *p = text_number(value, s->events_next);
	*p++ = '\n';
	p = mempcpy(p, lines + from, n - from);
	slot_key(key, s, s->events_next++);
	store_put_later(s->g->store, key, value, (size_t)(p - value));
	s->events_unsaved = 0;
}

void session_events_unstore(struct session *s)
{
	char key[KEY_SIZE];
	for (uint64_t i = 0; i < s->events_next && i < EVENTS_SLOTS; i++) {
		slot_key(key, s, i);
		store_delete(s->g->store, key);
	}
}

/*
 * Slots come in the order of their names, which is that of their numbers but for one place: from
 * there on they are of the round before, and older than all that came until then.
 */
int session_events_restore(
	struct session *s, struct session_events_place *at, const char *value, size_t len)
{
	char line[TEXT_NUMBER_MAX + 1], *behind;
	const char *end = memchr(value, '\n', len);
	size_t n = end ? (size_t)(end - value) : sizeof line;
	if (!n || n >= sizeof line)
		return -EBADMSG;
	memcpy(line, value, n);
	line[n] = '\0';
	uint64_t number = strtoull(line, &behind, 10);
	if (*behind || line[0] < '0' || line[0] > '9')
		return -EBADMSG;
	if (at->session != s)
		*at = (struct session_events_place){.session = s};
	size_t lines = len - n - 1, older = s->events.len - at->older;
	bool wraps = s->events_next && number < s->events_next;
	int e = buf_append(&s->events, end + 1, lines);
	if (e < 0)
		return e;
	if (wraps) {
		char *to = s->events.data + at->older;
		memmove(to + lines, to, older);
		memcpy(to, end + 1, lines);
		at->older += lines;
	} else {
		s->events_next = number + 1;
	}
	return 0;
}

void session_events_restored(struct session *s)
{
	unsigned flags = 0;
	trim(s, &flags);
}
