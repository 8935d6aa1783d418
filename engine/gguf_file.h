/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_GGUF_FILE_H
#define ENGINE_GGUF_FILE_H

/* The inside of gguf.h's object, shared by the files that fill it: gguf.c (the file),
 * gguf_metadata.c, gguf_tensors.c. */

#include <errno.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/mapping.h"

enum gguf_value {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
	GGUF_N_VALUES,
};

struct gguf_text {
	const char *data;
	uint32_t len;
};

struct gguf_pair {
	struct gguf_text key;
	enum gguf_value type;
	enum gguf_value element; /* of an array */
	size_t n;                /* elements of an array, bytes of a string */
	const unsigned char *data;
	struct gguf_text *strings; /* [n] of an array of strings */
};

struct gguf {
	struct mapping *mapping; /* NULL for gguf_parse */
	size_t file_bytes;
	struct gguf_pair *pairs; /* sorted by key */
	char *keys;              /* [n_pairs][MAX_KEY_BYTES], in the order of the file */
	size_t n_pairs;
	struct gguf_tensor *tensors; /* in the order of the file */
	size_t n_tensors;
	const struct gguf_tensor **by_name; /* sorted */
	uint64_t *offsets;                  /* [n_tensors], only while parsing */
	char *names;                        /* the NUL-terminated names of the tensors */
	uint64_t n_strings;
};

struct gguf_cursor {
	const unsigned char *bytes;
	size_t n, at; /* at <= n */
};

/* ---- the cursor: 0 or -EBADMSG, without a sentence ---- */

static inline size_t gguf_file_left(const struct gguf_cursor *c)
{
	return c->n - c->at;
}

static inline int gguf_file_take(struct gguf_cursor *c, void *out, size_t n)
{
	if (gguf_file_left(c) < n)
		return -EBADMSG;
	memcpy(out, c->bytes + c->at, n);
	c->at += n;
	return 0;
}

/* A u64 length and the bytes, which stay where they are. max < 2^32. */
static inline int gguf_file_take_text(struct gguf_cursor *c, uint64_t max, struct gguf_text *out)
{
	uint64_t n;

	if (gguf_file_take(c, &n, sizeof(n)) || n > gguf_file_left(c) || n > max)
		return -EBADMSG;
	out->data = (const char *)c->bytes + c->at;
	out->len = (uint32_t)n;
	c->at += (size_t)n;
	return 0;
}

/* Names may stand in a sentence: printable ASCII without spaces, not empty. */
static inline bool gguf_file_is_name(const struct gguf_text *t)
{
	for (uint32_t i = 0; i < t->len; i++)
		if (t->data[i] <= ' ' || t->data[i] > '~')
			return false;
	return t->len > 0;
}

/* Bytes of a scalar; 0 for strings and arrays. */
size_t gguf_metadata_value_bytes(enum gguf_value type);
/* Reads n pairs into g. -EBADMSG, -ENOTSUP, -ENOMEM with a sentence; gguf_free ends what is half
 * read. */
int gguf_metadata_read(struct gguf *g, struct gguf_cursor *c, uint64_t n, struct err *err);
/* borrows; NULL when there is none. */
const struct gguf_pair *gguf_metadata_find(const struct gguf *g, const char *key);
void gguf_metadata_end(struct gguf *g);

/* Reads n tensor descriptions behind the metadata, and finds the data of each. As
 * gguf_metadata_read. */
int gguf_tensors_read(struct gguf *g, struct gguf_cursor *c, uint64_t n, struct err *err);
const struct gguf_tensor *gguf_tensors_find(const struct gguf *g, const char *name);
void gguf_tensors_end(struct gguf *g);

#endif
