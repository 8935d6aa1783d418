/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata of a GGUF file: a table of pairs, sorted by key.
 *
 * Sorted, and not hashed, so that nobody can choose keys that make it slow. Keys are copied; values
 * stay in the mapping and are read there when asked for. Of an array of strings a table says where
 * each string lies, so the i-th is found at once. Counts are compared with what the file can hold
 * before anything is allocated for them.
 */
#include "engine/gguf_file.h"

#include <stdlib.h>

#define MAX_PAIRS 65536
#define MAX_KEY_BYTES 128
#define MAX_STRINGS ((uint64_t)4 << 20)       /* in all arrays of strings together */
#define MAX_STRING_BYTES ((uint64_t)16 << 20) /* in one */
#define MIN_PAIR_BYTES (8 + 1 + 4 + 1)        /* key length, one byte of key, type, a bool */

/* Bytes of a scalar; 0 for those of no fixed size. */
static const uint8_t scalar_bytes[GGUF_N_VALUES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

size_t gguf_metadata_value_bytes(enum gguf_value type)
{
	return scalar_bytes[type];
}

static int take_string_array(
	struct gguf *g, struct gguf_cursor *c, struct gguf_pair *p, struct err *err)
{
	int len = (int)p->key.len;

	if (p->n > MAX_STRINGS - g->n_strings)
		return err_set(err, -EBADMSG, "%.*s: more than %llu strings in the metadata", len,
			p->key.data, (unsigned long long)MAX_STRINGS);
	if (p->n > gguf_file_left(c) / sizeof(uint64_t))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside this array", len, p->key.data);
	g->n_strings += p->n;
	p->strings = calloc(p->n + 1, sizeof(*p->strings));
	if (!p->strings)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->n; i++)
		if (gguf_file_take_text(c, MAX_STRING_BYTES, &p->strings[i]))
			return err_set(err, -EBADMSG,
				"%.*s: string %zu is longer than the rest of the file or %llu MiB",
				len, p->key.data, i, (unsigned long long)MAX_STRING_BYTES >> 20);
	return 0;
}

static int take_array(struct gguf *g, struct gguf_cursor *c, struct gguf_pair *p, struct err *err)
{
	int len = (int)p->key.len;
	uint32_t element;
	uint64_t n;

	if (gguf_file_take(c, &element, sizeof(element)) || gguf_file_take(c, &n, sizeof(n)))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside this array", len, p->key.data);
	if (element >= GGUF_N_VALUES)
		return err_set(err, -EBADMSG, "%.*s: elements of the unknown type %u", len,
			p->key.data, element);
	if (element == GGUF_ARRAY)
		return err_set(err, -ENOTSUP, "%.*s: an array of arrays is not supported", len,
			p->key.data);
	p->element = (enum gguf_value)element;
	size_t bytes = scalar_bytes[element] ? scalar_bytes[element] : sizeof(uint64_t);
	if (n > gguf_file_left(c) / bytes)
		return err_set(err, -EBADMSG,
			"%.*s: an array of %llu elements in a file with %zu bytes left: truncated, "
			"or a download that has not finished",
			len, p->key.data, (unsigned long long)n, gguf_file_left(c));
	p->n = (size_t)n;
	if (element == GGUF_STRING)
		return take_string_array(g, c, p, err);
	p->data = c->bytes + c->at;
	c->at += p->n * bytes;
	return 0;
}

static int take_value(struct gguf *g, struct gguf_cursor *c, struct gguf_pair *p, struct err *err)
{
	int len = (int)p->key.len;
	struct gguf_text text;

	if (p->type == GGUF_ARRAY)
		return take_array(g, c, p, err);
	if (p->type == GGUF_STRING) {
		if (gguf_file_take_text(c, MAX_STRING_BYTES, &text))
			return err_set(err, -EBADMSG,
				"%.*s: a string longer than the rest of the file or %llu MiB", len,
				p->key.data, (unsigned long long)MAX_STRING_BYTES >> 20);
		p->data = (const unsigned char *)text.data;
		p->n = text.len;
		return 0;
	}
	size_t bytes = scalar_bytes[p->type];
	if (bytes > gguf_file_left(c))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside its value", len, p->key.data);
	p->data = c->bytes + c->at;
	if (p->type == GGUF_BOOL && p->data[0] > 1)
		return err_set(err, -EBADMSG, "%.*s: a bool of %u", len, p->key.data, p->data[0]);
	c->at += bytes;
	return 0;
}

static int take_pair(struct gguf *g, struct gguf_cursor *c, size_t i, struct err *err)
{
	struct gguf_pair *p = &g->pairs[i];
	char *key = g->keys + i * MAX_KEY_BYTES;
	struct gguf_text text = {"", 0};
	uint32_t type;

	p->key = (struct gguf_text){key, 0};
	if (gguf_file_take_text(c, MAX_KEY_BYTES, &text))
		text.len = 0;
	memcpy(key, text.data, text.len);
	p->key.len = text.len;
	if (!gguf_file_is_name(&p->key))
		return err_set(err, -EBADMSG,
			"metadata key %zu: cut off, longer than %d bytes, or not printable ASCII",
			i, MAX_KEY_BYTES);
	if (gguf_file_take(c, &type, sizeof(type)) || type >= GGUF_N_VALUES)
		return err_set(err, -EBADMSG, "%.*s: no value, or one of an unknown type",
			(int)p->key.len, p->key.data);
	p->type = (enum gguf_value)type;
	return take_value(g, c, p, err);
}

static int compare_text(const struct gguf_text *a, const struct gguf_text *b)
{
	uint32_t n = a->len < b->len ? a->len : b->len;
	int r = memcmp(a->data, b->data, n);

	if (r)
		return r;
	return a->len < b->len ? -1 : a->len > b->len;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct gguf_pair *x = a, *y = b;

	return compare_text(&x->key, &y->key);
}

int gguf_metadata_read(struct gguf *g, struct gguf_cursor *c, uint64_t n, struct err *err)
{
	if (n > MAX_PAIRS)
		return err_set(err, -EBADMSG, "%llu metadata pairs are more than %d",
			(unsigned long long)n, MAX_PAIRS);
	if (n > gguf_file_left(c) / MIN_PAIR_BYTES)
		return err_set(err, -EBADMSG,
			"%llu metadata pairs in a file with %zu bytes left: truncated, or a "
			"download that has not finished",
			(unsigned long long)n, gguf_file_left(c));
	g->pairs = calloc((size_t)n + 1, sizeof(*g->pairs));
	g->keys = calloc((size_t)n + 1, MAX_KEY_BYTES);
	if (!g->pairs || !g->keys)
		return err_set(err, -ENOMEM, "out of memory");
	g->n_pairs = (size_t)n; /* the zeroed ones are fit for gguf_free */
	for (size_t i = 0; i < g->n_pairs; i++) {
		int r = take_pair(g, c, i, err);

		if (r)
			return r;
	}
	qsort(g->pairs, g->n_pairs, sizeof(*g->pairs), compare_pairs);
	for (size_t i = 1; i < g->n_pairs; i++)
		if (compare_pairs(&g->pairs[i - 1], &g->pairs[i]) == 0)
			return err_set(err, -EBADMSG, "the key %.*s stands in the file twice",
				(int)g->pairs[i].key.len, g->pairs[i].key.data);
	return 0;
}

const struct gguf_pair *gguf_metadata_find(const struct gguf *g, const char *key)
{
	struct gguf_pair probe = {.key = {key, (uint32_t)strnlen(key, MAX_KEY_BYTES + 1)}};

	return bsearch(&probe, g->pairs, g->n_pairs, sizeof(*g->pairs), compare_pairs);
}

void gguf_metadata_end(struct gguf *g)
{
	for (size_t i = 0; i < g->n_pairs; i++)
		free(g->pairs[i].strings);
	free(g->pairs);
	free(g->keys);
}
