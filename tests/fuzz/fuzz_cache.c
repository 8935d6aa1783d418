/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A record of the answer cache's store: rubbish is not believed, and what is believed is what would
 * be written for it. Most inputs would end at the checksum, so it is also made right. The first
 * byte picks the kind.
 */

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cache_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct cache_id id = {0x0123456789abcdef, 0xfedcba9876543210};

static void must(bool claim)
{
	if (!claim)
		abort();
}

static void touch(struct cache_record_text t)
{
	volatile char sum = 0;
	for (size_t i = 0; i < t.len; i++)
		sum = (char)(sum + t.bytes[i]);
}

static void check(enum cache_record_kind kind, const char *bytes, size_t n)
{
	struct cache_record r;
	struct cache_id other = {id.a, id.b + 1};
	struct buf again = {0};
	if (!cache_record_read(&r, kind, &id, bytes, n))
		return;
	touch(r.finish);
	touch(r.user);
	touch(r.key);
	touch(r.model);
	touch(r.scope);
	touch(r.text);
	touch(r.vector);
	must(r.vector.len % sizeof(float) == 0);
	must(cache_record_write(&again, &r, &id) == 0);
	must(again.len == n && !memcmp(again.data, bytes, n));
	must(!cache_record_read(&r, kind, &other, bytes, n));
	buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const enum cache_record_kind kinds[] = {
		CACHE_RECORD_NOTE, CACHE_RECORD_ANSWER, CACHE_RECORD_NEAR};
	if (n < 10)
		return 0;
	enum cache_record_kind kind = kinds[data[0] % 3];
	char *bytes = malloc(n - 1);
	if (!bytes)
		return 0;
	memcpy(bytes, data + 1, n - 1);
	check(kind, bytes, n - 1);
	uint64_t place[2] = {htole64(id.a), htole64(id.b)}, sum;
	struct cache_id d;
	bytes[0] = (char)kind;
	bytes[1] = 1;
	cache_key_digest(&d, bytes, n - 9, (const char *)place, sizeof place);
	sum = htole64(d.a ^ d.b << 1);
	memcpy(bytes + n - 9, &sum, sizeof sum);
	check(kind, bytes, n - 1);
	free(bytes);
	return 0;
}
