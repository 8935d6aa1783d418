/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kind, version, five numbers of 8 bytes, the texts each with 4 bytes of length before it, and a
 * digest of all of that and of the id. Numbers are little-endian. LevelDB has its own checksums, of
 * blocks; this one is of the whole record and its place, so that what is read is what was written
 * for this key, all of it, or nothing.
 */
#include "gateway/cache_record.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { VERSION = 1, N_NUMBERS = 5, N_TEXTS = 7, HEAD = 2 + 8 * N_NUMBERS, TAIL = 8 };

static void numbers_of(const struct cache_record *r, uint64_t numbers[N_NUMBERS])
{
	numbers[0] = r->serial;
	numbers[1] = r->stored_s;
	numbers[2] = r->bytes;
	numbers[3] = r->prompt_tok;
	numbers[4] = r->output_tok;
}

static void texts_of(struct cache_record *r, struct cache_record_text *texts[N_TEXTS])
{
	texts[0] = &r->finish;
	texts[1] = &r->user;
	texts[2] = &r->key;
	texts[3] = &r->model;
	texts[4] = &r->scope;
	texts[5] = &r->text;
	texts[6] = &r->vector;
}

static uint64_t digest(const char *bytes, size_t len, const struct cache_id *id)
{
	uint64_t place[2] = {htole64(id->a), htole64(id->b)};
	struct cache_id d;
	cache_key_digest(&d, bytes, len, (const char *)place, sizeof place);
	return htole64(d.a ^ d.b << 1);
}

int cache_record_write(
	struct buf *out, const struct cache_record *record, const struct cache_id *id)
{
	struct cache_record r = *record;
	struct cache_record_text *texts[N_TEXTS];
	uint64_t numbers[N_NUMBERS];
	size_t before = out->len, len = HEAD + TAIL;
	numbers_of(&r, numbers);
	texts_of(&r, texts);
	for (size_t i = 0; i < N_TEXTS; i++) {
		if (texts[i]->len > CACHE_RECORD_MAX)
			return -EFBIG;
		len += 4 + texts[i]->len;
	}
	if (len > CACHE_RECORD_MAX)
		return -EFBIG;
	int e = buf_reserve(out, len);
	if (e < 0)
		return e;
	buf_append(out, (char[]){(char)r.kind, VERSION}, 2);
	for (size_t i = 0; i < N_NUMBERS; i++) {
		uint64_t number = htole64(numbers[i]);
		buf_append(out, &number, sizeof number);
	}
	for (size_t i = 0; i < N_TEXTS; i++) {
		uint32_t n = htole32((uint32_t)texts[i]->len);
		buf_append(out, &n, sizeof n);
		if (texts[i]->len)
			buf_append(out, texts[i]->bytes, texts[i]->len);
	}
	uint64_t check = digest(out->data + before, out->len - before, id);
	return buf_append(out, &check, sizeof check);
}

static bool read_texts(struct cache_record *r, const char *bytes, size_t len)
{
	struct cache_record_text *texts[N_TEXTS];
	size_t at = 0;
	texts_of(r, texts);
	for (size_t i = 0; i < N_TEXTS; i++) {
		uint32_t n;
		if (len - at < sizeof n)
			return false;
		memcpy(&n, bytes + at, sizeof n);
		n = le32toh(n);
		at += sizeof n;
		if (len - at < n)
			return false;
		*texts[i] = (struct cache_record_text){bytes + at, n};
		at += n;
	}
	return at == len;
}

bool cache_record_read(struct cache_record *out, enum cache_record_kind kind,
	const struct cache_id *id, const char *bytes, size_t len)
{
	uint64_t check, numbers[N_NUMBERS];
	*out = (struct cache_record){.kind = kind};
	if (len < HEAD + TAIL || len > CACHE_RECORD_MAX || bytes[0] != (char)kind ||
		bytes[1] != VERSION)
		return false;
	memcpy(&check, bytes + len - TAIL, sizeof check);
	if (check != digest(bytes, len - TAIL, id))
		return false;
	memcpy(numbers, bytes + 2, sizeof numbers);
	for (size_t i = 0; i < N_NUMBERS; i++)
		numbers[i] = le64toh(numbers[i]);
	out->serial = numbers[0];
	out->stored_s = numbers[1];
	out->bytes = numbers[2];
	out->prompt_tok = numbers[3];
	out->output_tok = numbers[4];
	return read_texts(out, bytes + HEAD, len - HEAD - TAIL) &&
	       out->vector.len % sizeof(float) == 0;
}

bool cache_record_is(struct cache_record_text t, const char *string)
{
	size_t n = strlen(string);
	return t.len == n && (!n || !memcmp(t.bytes, string, n));
}
