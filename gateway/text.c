/* SPDX-License-Identifier: Apache-2.0 */
/* Shared text. A conversation, the forks of it, an answer's readers and a request that is being
 * rendered all hold the same bytes; nobody copies them and nobody may change them. */
#include "gateway/text.h"

#include <stdlib.h>
#include <string.h>

struct text *text_new(const char *bytes, size_t len)
{
	struct text *t = malloc(sizeof *t + len + 1);
	if (!t)
		return NULL;
	atomic_init(&t->refs, 1);
	t->len = len;
	if (len)
		memcpy(t->bytes, bytes, len);
	t->bytes[len] = '\0';
	return t;
}

struct text *text_ref(struct text *t)
{
	if (t)
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

struct text *text_put(struct text *t)
{
	if (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1)
		free(t);
	return NULL;
}

/* The escape of one byte in a JSON string, or NULL when it stands for itself. */
static const char *escape(unsigned char c, char room[8])
{
	static const char hex[] = "0123456789abcdef";
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		break;
	}
	if (c >= 0x20 && c != 0x7F)
		return NULL;
	memcpy(room, "\\u00", 4);
	room[4] = hex[c >> 4];
	room[5] = hex[c & 15];
	room[6] = '\0';
	return room;
}

int text_append_json(struct buf *out, const char *bytes, size_t len)
{
	size_t before = out->len;
	int r = buf_append(out, "\"", 1);
	for (size_t i = 0, run = 0; r == 0 && i <= len; i++) {
		char room[8];
		const char *e = i < len ? escape((unsigned char)bytes[i], room) : "\"";
		if (!e)
			continue;
		r = buf_append(out, bytes + run, i - run);
		if (r == 0)
			r = buf_append_str(out, e);
		run = i + 1;
	}
	if (r < 0)
		out->len = before;
	return r;
}

char *text_number(char *to, uint64_t x)
{
	char room[TEXT_NUMBER_MAX], *p = room + sizeof room;
	do
		*--p = (char)('0' + x % 10);
	while (x /= 10);
	size_t n = (size_t)(room + sizeof room - p);
	memcpy(to, p, n);
	return to + n;
}

char *text_signed(char *to, int64_t x)
{
	if (x < 0)
		*to++ = '-';
	return text_number(to, x < 0 ? -(uint64_t)x : (uint64_t)x);
}

char *text_time(char *to, uint64_t real_ns)
{
	unsigned ms = (unsigned)(real_ns % 1000000000 / 1000000);
	to = text_number((char *)mempcpy(to, "{\"time\": ", 9), real_ns / 1000000000);
	*to++ = '.';
	*to++ = (char)('0' + ms / 100);
	*to++ = (char)('0' + ms / 10 % 10);
	*to++ = (char)('0' + ms % 10);
	return to;
}

char *text_serial(char *to, uint64_t x)
{
	static const char hex[] = "0123456789abcdef";
	for (int i = TEXT_SERIAL_LEN; i--; x >>= 4)
		to[i] = hex[x & 15];
	to[TEXT_SERIAL_LEN] = '\0';
	return to + TEXT_SERIAL_LEN;
}

bool text_is_name(const char *bytes, size_t len)
{
	if (!len || len > TEXT_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = bytes[i];
		bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
		if (!fine)
			return false;
	}
	return !(bytes[0] == '.' && (len == 1 || (len == 2 && bytes[1] == '.')));
}
