/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_RECORD_H
#define GATEWAY_CACHE_RECORD_H

/* What L2 keeps, as bytes: of each entry a short note of it, the answer with its key, and, if it
 * can be found by meaning, its prompt with a vector. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "gateway/cache_key.h"

enum cache_record_kind {
	CACHE_RECORD_NOTE = 'n',   /* serial, stored_s, bytes, user */
	CACHE_RECORD_ANSWER = 'a', /* serial, stored_s, tokens, finish, user, key, text */
	CACHE_RECORD_NEAR = 'v',   /* serial, stored_s, user, model, scope, text (prompt), vector */
};

struct cache_record_text {
	const char *bytes; /* borrowed: from the caller, or from what was read */
	size_t len;
};

struct cache_record {
	enum cache_record_kind kind;
	uint64_t serial, stored_s, bytes, prompt_tok, output_tok;
	struct cache_record_text finish, user, key, model, scope, text;
	struct cache_record_text vector; /* float[], not aligned */
};

/* Most bytes of one record. */
#define CACHE_RECORD_MAX ((size_t)8 << 20)

/* Appends. The id it is going to be found by is a part of what is checked. 0, -ENOMEM, -EFBIG. */
int cache_record_write(struct buf *out, const struct cache_record *r, const struct cache_id *id);
/* False: torn, damaged, of another kind, or not what was written under that id. */
bool cache_record_read(struct cache_record *out, enum cache_record_kind kind,
	const struct cache_id *id, const char *bytes, size_t len);
/* Whether a text of a record is that C string. */
bool cache_record_is(struct cache_record_text t, const char *string);

#endif
