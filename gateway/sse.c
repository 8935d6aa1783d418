/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of HTML's standard, 9.2.6, over bytes as they come. A line that lies whole in what is
 * fed is read where it is; only the rest of one is kept. CR, LF and CRLF end a line: a CR ends it
 * at once, and an LF right behind it is passed over, perhaps in the next piece.
 *
 * `id` and `retry` have no meaning here: nothing reconnects. At the end of a stream the standard
 * throws an event away that has no empty line behind it; who would rather have it feeds two line
 * ends.
 */
#include "gateway/sse.h"

#include <errno.h>
#include <string.h>

#define BOM "\xef\xbb\xbf"

static int dispatch(struct sse *s, sse_event_fn *fn, void *arg)
{
	int r = 0;
	if (s->data.len) {
		size_t len = s->data.len - 1; /* without the last LF */
		s->data.data[len] = '\0';
		r = fn(arg, s->event.len ? s->event.data : "", s->data.data, len);
	}
	buf_clear(&s->data);
	buf_clear(&s->event);
	return r;
}

/* Whether a line has the field; the value has lost its first space. */
static bool is_field(const char *line, size_t len, const char *name, const char **value, size_t *n)
{
	size_t name_len = strlen(name);
	if (len < name_len || memcmp(line, name, name_len) ||
		(len > name_len && line[name_len] != ':'))
		return false;
	size_t at = len > name_len ? name_len + 1 : len;
	if (at < len && line[at] == ' ')
		at++;
	*value = line + at;
	*n = len - at;
	return true;
}

static int take_line(struct sse *s, const char *line, size_t len, sse_event_fn *fn, void *arg)
{
	const char *value;
	size_t n;
	int r = 0;
	if (!s->not_first && len >= 3 && !memcmp(line, BOM, 3)) {
		line += 3;
		len -= 3;
	}
	s->not_first = true;
	if (!len)
		return dispatch(s, fn, arg);
	if (is_field(line, len, "data", &value, &n)) {
		if (s->data.len + n > SSE_EVENT_MAX) {
			s->too_long = true;
			return -EMSGSIZE;
		}
		r = buf_append(&s->data, value, n);
		if (r == 0)
			r = buf_append(&s->data, "\n", 1);
	} else if (is_field(line, len, "event", &value, &n)) {
		buf_clear(&s->event);
		r = buf_append(&s->event, value, n);
	}
	return r;
}

static size_t line_len(const char *bytes, size_t len)
{
	const char *lf = memchr(bytes, '\n', len);
	size_t n = lf ? (size_t)(lf - bytes) : len;
	const char *cr = memchr(bytes, '\r', n);
	return cr ? (size_t)(cr - bytes) : n;
}

static int feed(struct sse *s, const char *bytes, size_t len, sse_event_fn *fn, void *arg)
{
	while (len) {
		if (s->after_cr && *bytes == '\n') {
			bytes++;
			len--;
		}
		s->after_cr = false;
		if (!len)
			break;
		size_t n = line_len(bytes, len);
		bool whole = n < len;
		s->too_long = s->line.len + n > SSE_EVENT_MAX;
		if (s->too_long)
			return -EMSGSIZE;
		int r = !whole || s->line.len ? buf_append(&s->line, bytes, n) : 0;
		if (r < 0 || !whole)
			return r;
		r = s->line.len ? take_line(s, s->line.data, s->line.len, fn, arg)
				: take_line(s, bytes, n, fn, arg);
		buf_clear(&s->line);
		s->after_cr = bytes[n] == '\r';
		bytes += n + 1;
		len -= n + 1;
		if (r < 0)
			return r;
	}
	return 0;
}

int sse_feed(struct sse *s, const char *bytes, size_t len, sse_event_fn *fn, void *arg)
{
	return s->too_long ? -EMSGSIZE : feed(s, bytes, len, fn, arg);
}

void sse_free(struct sse *s)
{
	buf_free(&s->line);
	buf_free(&s->data);
	buf_free(&s->event);
	*s = (struct sse){0};
}
