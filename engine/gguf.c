/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads GGUF v3.
 *
 * The file is: "GGUF", version, number of tensors, number of metadata pairs; the pairs; the tensor
 * descriptions; padding to the alignment; the data of the tensors. All of it is somebody else's
 * word, so nothing is believed: a cursor that cannot leave the file reads every field exactly once
 * (the file may change while we look), and every sum and product is checked for overflow before it
 * is used. What is kept in memory are two tables sorted by name and, for arrays of strings, a table
 * of where each string lies; their sizes have ceilings (MAX_* below), so a hostile file costs at
 * most about 100 MB. Sorted tables and not hash tables: nobody can choose names that make them
 * slow.
 *
 * Names are copied and printable ASCII, so they can stand in a sentence. Values may be any bytes
 * and are left in the mapping: whoever keeps one copies it and then checks the copy.
 *
 * Immutable after gguf_open: any thread may read.
 */
#include "engine/gguf.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mapping.h"

#define MAX_PAIRS 65536
#define MAX_TENSORS 65536
#define MAX_KEY_BYTES 128
#define MAX_NAME_BYTES 127
#define MAX_STRINGS ((uint64_t)4 << 20)       /* in all arrays of strings together */
#define MAX_STRING_BYTES ((uint64_t)16 << 20) /* in one */
#define MAX_ALIGNMENT ((uint64_t)1 << 20)
#define DEFAULT_ALIGNMENT 32
#define MIN_PAIR_BYTES (8 + 1 + 4 + 1)           /* key length, one byte of key, type, a bool */
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8) /* name, dimensions, one size, type, offset */

enum value_type {
	VALUE_U8,
	VALUE_I8,
	VALUE_U16,
	VALUE_I16,
	VALUE_U32,
	VALUE_I32,
	VALUE_F32,
	VALUE_BOOL,
	VALUE_STRING,
	VALUE_ARRAY,
	VALUE_U64,
	VALUE_I64,
	VALUE_F64,
	N_VALUE_TYPES,
};

/* Bytes of a scalar; 0 for those of no fixed size. */
static const uint8_t value_bytes[N_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct text {
	const char *data;
	uint32_t len;
};

struct pair {
	struct text key;
	enum value_type type;
	enum value_type element; /* of an array */
	size_t n;                /* elements of an array, bytes of a string */
	const unsigned char *data;
	struct text *strings; /* [n] of an array of strings */
};

struct gguf {
	struct mapping *mapping; /* NULL for gguf_parse */
	size_t file_bytes;
	struct pair *pairs; /* sorted by key */
	char *keys;         /* [n_pairs][MAX_KEY_BYTES], in the order of the file */
	size_t n_pairs;
	struct gguf_tensor *tensors; /* in the order of the file */
	size_t n_tensors;
	const struct gguf_tensor **by_name; /* sorted */
	uint64_t *offsets;                  /* [n_tensors], only while parsing */
	char *names;                        /* the NUL-terminated names of the tensors */
	uint64_t n_strings;
};

struct cursor {
	const unsigned char *bytes;
	size_t n, at; /* at <= n */
};

static const struct {
	uint32_t type;
	struct tensor_type_info info;
} type_rows[] = {
	{TENSOR_F32, {"F32", 1, 4}},
	{TENSOR_F16, {"F16", 1, 2}},
	{TENSOR_Q4_0, {"Q4_0", 32, 18}},
	{TENSOR_Q8_0, {"Q8_0", 32, 34}},
	{TENSOR_BF16, {"BF16", 1, 2}},
};

/* For the sentence that refuses a type: the names a person knows from file names. */
static const char *const foreign_types[] = {
	[3] = "Q4_1",
	[6] = "Q5_0",
	[7] = "Q5_1",
	[9] = "Q8_1",
	[10] = "Q2_K",
	[11] = "Q3_K",
	[12] = "Q4_K",
	[13] = "Q5_K",
	[14] = "Q6_K",
	[15] = "Q8_K",
	[16] = "IQ2_XXS",
	[17] = "IQ2_XS",
	[18] = "IQ3_XXS",
	[19] = "IQ1_S",
	[20] = "IQ4_NL",
	[21] = "IQ3_S",
	[22] = "IQ2_S",
	[23] = "IQ4_XS",
	[24] = "I8",
	[25] = "I16",
	[26] = "I32",
	[27] = "I64",
	[28] = "F64",
	[29] = "IQ1_M",
	[34] = "TQ1_0",
	[35] = "TQ2_0",
	[39] = "MXFP4",
};

const struct tensor_type_info *tensor_type_info(uint32_t type)
{
	for (size_t i = 0; i < sizeof(type_rows) / sizeof(type_rows[0]); i++)
		if (type_rows[i].type == type)
			return &type_rows[i].info;
	return NULL;
}

/* ---- the cursor: 0 or -EBADMSG, without a sentence ---- */

static size_t left(const struct cursor *c)
{
	return c->n - c->at;
}

static int take(struct cursor *c, void *out, size_t n)
{
	if (left(c) < n)
		return -EBADMSG;
	memcpy(out, c->bytes + c->at, n);
	c->at += n;
	return 0;
}

static int take_string(struct cursor *c, uint64_t max, struct text *out)
{
	uint64_t n;

	if (take(c, &n, sizeof(n)) || n > left(c) || n > max)
		return -EBADMSG;
	out->data = (const char *)c->bytes + c->at;
	out->len = (uint32_t)n;
	c->at += (size_t)n;
	return 0;
}

static bool is_printable(const struct text *t)
{
	for (uint32_t i = 0; i < t->len; i++)
		if (t->data[i] <= ' ' || t->data[i] > '~')
			return false;
	return t->len > 0;
}

/* ---- metadata ---- */

static int take_string_array(struct gguf *g, struct cursor *c, struct pair *p, struct err *err)
{
	int len = (int)p->key.len;

	if (p->n > MAX_STRINGS - g->n_strings)
		return err_set(err, -EBADMSG, "%.*s: more than %llu strings in the metadata", len,
			p->key.data, (unsigned long long)MAX_STRINGS);
	if (p->n > left(c) / sizeof(uint64_t))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside this array", len, p->key.data);
	g->n_strings += p->n;
	p->strings = calloc(p->n + 1, sizeof(*p->strings));
	if (!p->strings)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->n; i++)
		if (take_string(c, MAX_STRING_BYTES, &p->strings[i]))
			return err_set(err, -EBADMSG,
				"%.*s: string %zu is longer than the rest of the file or %llu MiB",
				len, p->key.data, i, (unsigned long long)MAX_STRING_BYTES >> 20);
	return 0;
}

static int take_array(struct gguf *g, struct cursor *c, struct pair *p, struct err *err)
{
	int len = (int)p->key.len;
	uint32_t element;
	uint64_t n;

	if (take(c, &element, sizeof(element)) || take(c, &n, sizeof(n)))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside this array", len, p->key.data);
	if (element >= N_VALUE_TYPES)
		return err_set(err, -EBADMSG, "%.*s: elements of the unknown type %u", len,
			p->key.data, element);
	if (element == VALUE_ARRAY)
		return err_set(err, -ENOTSUP, "%.*s: an array of arrays is not supported", len,
			p->key.data);
	p->element = (enum value_type)element;
	size_t bytes = value_bytes[element] ? value_bytes[element] : sizeof(uint64_t);
	if (n > left(c) / bytes)
		return err_set(err, -EBADMSG,
			"%.*s: an array of %llu elements in a file with %zu bytes left", len,
			p->key.data, (unsigned long long)n, left(c));
	p->n = (size_t)n;
	if (element == VALUE_STRING)
		return take_string_array(g, c, p, err);
	p->data = c->bytes + c->at;
	c->at += p->n * bytes;
	return 0;
}

static int take_value(struct gguf *g, struct cursor *c, struct pair *p, struct err *err)
{
	int len = (int)p->key.len;
	struct text text;

	if (p->type == VALUE_ARRAY)
		return take_array(g, c, p, err);
	if (p->type == VALUE_STRING) {
		if (take_string(c, MAX_STRING_BYTES, &text))
			return err_set(err, -EBADMSG,
				"%.*s: a string longer than the rest of the file or %llu MiB", len,
				p->key.data, (unsigned long long)MAX_STRING_BYTES >> 20);
		p->data = (const unsigned char *)text.data;
		p->n = text.len;
		return 0;
	}
	size_t bytes = value_bytes[p->type];
	if (bytes > left(c))
		return err_set(
			err, -EBADMSG, "%.*s: the file ends inside its value", len, p->key.data);
	p->data = c->bytes + c->at;
	if (p->type == VALUE_BOOL && p->data[0] > 1)
		return err_set(err, -EBADMSG, "%.*s: a bool of %u", len, p->key.data, p->data[0]);
	c->at += bytes;
	return 0;
}

static int take_pair(struct gguf *g, struct cursor *c, size_t i, struct err *err)
{
	struct pair *p = &g->pairs[i];
	char *key = g->keys + i * MAX_KEY_BYTES;
	struct text text = {"", 0};
	uint32_t type;

	p->key = (struct text){key, 0};
	if (take_string(c, MAX_KEY_BYTES, &text))
		text.len = 0;
	memcpy(key, text.data, text.len);
	p->key.len = text.len;
	if (!is_printable(&p->key))
		return err_set(err, -EBADMSG,
			"metadata key %zu: cut off, longer than %d bytes, or not printable ASCII",
			i, MAX_KEY_BYTES);
	if (take(c, &type, sizeof(type)) || type >= N_VALUE_TYPES)
		return err_set(err, -EBADMSG, "%.*s: no value, or one of an unknown type",
			(int)p->key.len, p->key.data);
	p->type = (enum value_type)type;
	return take_value(g, c, p, err);
}

static int compare_text(const struct text *a, const struct text *b)
{
	uint32_t n = a->len < b->len ? a->len : b->len;
	int r = memcmp(a->data, b->data, n);

	if (r)
		return r;
	return a->len < b->len ? -1 : a->len > b->len;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return compare_text(&x->key, &y->key);
}

static int read_metadata(struct gguf *g, struct cursor *c, uint64_t n, struct err *err)
{
	if (n > MAX_PAIRS || n > left(c) / MIN_PAIR_BYTES)
		return err_set(err, -EBADMSG,
			"%llu metadata pairs are more than the file can hold, or than %d",
			(unsigned long long)n, MAX_PAIRS);
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

/* ---- tensors ---- */

static int check_type(struct gguf_tensor *t, uint32_t type, struct err *err)
{
	const size_t n_foreign = sizeof(foreign_types) / sizeof(foreign_types[0]);

	if (!tensor_type_info(type)) {
		if (type < n_foreign && foreign_types[type])
			return err_set(err, -ENOTSUP,
				"tensor %s has the type %s; known are F32, F16, BF16, Q8_0, Q4_0",
				t->name, foreign_types[type]);
		return err_set(err, -ENOTSUP,
			"tensor %s has the unknown type %u; known are F32, F16, BF16, Q8_0, Q4_0",
			t->name, type);
	}
	t->type = (enum tensor_type)type;
	return 0;
}

/* t->bytes from type and shape. */
static int measure(struct gguf_tensor *t, struct err *err)
{
	const struct tensor_type_info *info = tensor_type_info(t->type);
	uint64_t values = 1, bytes;

	for (uint32_t i = 0; i < t->n_dims; i++)
		if (t->dim[i] == 0 || __builtin_mul_overflow(values, t->dim[i], &values))
			return err_set(err, -EBADMSG, "tensor %s has an impossible shape", t->name);
	if (t->dim[0] % info->block_values)
		return err_set(err, -EBADMSG,
			"tensor %s has rows of %llu values, which is no multiple of the %u of a %s "
			"block",
			t->name, (unsigned long long)t->dim[0], info->block_values, info->name);
	if (__builtin_mul_overflow(values / info->block_values, info->block_bytes, &bytes) ||
		bytes > SIZE_MAX)
		return err_set(err, -EBADMSG, "tensor %s has an impossible shape", t->name);
	t->bytes = (size_t)bytes;
	return 0;
}

static int take_tensor(struct gguf *g, struct cursor *c, size_t i, char *name, struct err *err)
{
	struct gguf_tensor *t = &g->tensors[i];
	struct text text;
	uint32_t type;
	int r;

	if (take_string(c, MAX_NAME_BYTES, &text))
		return err_set(err, -EBADMSG,
			"tensor %zu: its name is cut off or longer than %d bytes", i,
			MAX_NAME_BYTES);
	memcpy(name, text.data, text.len);
	text.data = name;
	if (!is_printable(&text))
		return err_set(err, -EBADMSG, "tensor %zu: its name is not printable ASCII", i);
	t->name = name;
	if (take(c, &t->n_dims, sizeof(t->n_dims)) || t->n_dims < 1 || t->n_dims > 4)
		return err_set(err, -EBADMSG, "tensor %s has not 1 to 4 dimensions", name);
	for (size_t d = 0; d < 4; d++) {
		t->dim[d] = 1;
		if (d < t->n_dims && take(c, &t->dim[d], sizeof(t->dim[d])))
			return err_set(
				err, -EBADMSG, "the file ends inside tensor %s's shape", name);
	}
	if (take(c, &type, sizeof(type)) || take(c, &g->offsets[i], sizeof(g->offsets[i])))
		return err_set(
			err, -EBADMSG, "the file ends inside the description of tensor %s", name);
	r = check_type(t, type, err);
	return r ? r : measure(t, err);
}

static int compare_names(const void *a, const void *b)
{
	const struct gguf_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int compare_places(const void *a, const void *b)
{
	const struct gguf_tensor *const *x = a, *const *y = b;
	const char *p = (*x)->data, *q = (*y)->data;

	return p < q ? -1 : p > q;
}

/* Leaves by_name sorted by name. */
static int check_distinct(struct gguf *g, struct err *err)
{
	const struct gguf_tensor **t = g->by_name;

	for (size_t i = 0; i < g->n_tensors; i++)
		t[i] = &g->tensors[i];
	qsort(t, g->n_tensors, sizeof(const void *), compare_places);
	for (size_t i = 1; i < g->n_tensors; i++) {
		const char *end = (const char *)t[i - 1]->data + t[i - 1]->bytes;

		if ((const char *)t[i]->data < end)
			return err_set(err, -EBADMSG, "the tensors %s and %s overlap",
				t[i - 1]->name, t[i]->name);
	}
	qsort(t, g->n_tensors, sizeof(const void *), compare_names);
	for (size_t i = 1; i < g->n_tensors; i++)
		if (strcmp(t[i - 1]->name, t[i]->name) == 0)
			return err_set(err, -EBADMSG, "the tensor %s stands in the file twice",
				t[i]->name);
	return 0;
}

/* The data of every tensor, which starts behind the cursor at the next multiple of the alignment.
 */
static int place_tensors(struct gguf *g, const struct cursor *c, struct err *err)
{
	uint64_t alignment = gguf_uint(g, "general.alignment", DEFAULT_ALIGNMENT);
	uint64_t start;

	if (gguf_has(g, "general.alignment") &&
		(alignment < 8 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) ||
			gguf_uint(g, "general.alignment", 0) == 0))
		return err_set(err, -EBADMSG, "general.alignment is no power of two from 8 to %llu",
			(unsigned long long)MAX_ALIGNMENT);
	if (g->n_tensors == 0)
		return 0;
	start = (c->at + alignment - 1) & ~(alignment - 1);
	if (start > c->n)
		return err_set(err, -EBADMSG, "the file ends before the data of its tensors");
	for (size_t i = 0; i < g->n_tensors; i++) {
		struct gguf_tensor *t = &g->tensors[i];

		if (g->offsets[i] % alignment)
			return err_set(err, -EBADMSG,
				"tensor %s lies at %llu, which is no multiple of %llu", t->name,
				(unsigned long long)g->offsets[i], (unsigned long long)alignment);
		if (g->offsets[i] > c->n - start || t->bytes > c->n - start - g->offsets[i])
			return err_set(err, -EBADMSG,
				"tensor %s reaches beyond the end of the file (%zu bytes at %llu): "
				"truncated, or a download that has not finished",
				t->name, t->bytes, (unsigned long long)g->offsets[i]);
		t->data = c->bytes + start + g->offsets[i];
	}
	return check_distinct(g, err);
}

static int read_tensors(struct gguf *g, struct cursor *c, uint64_t n, struct err *err)
{
	char *name;
	int r;

	if (n > MAX_TENSORS || n > left(c) / MIN_TENSOR_BYTES)
		return err_set(err, -EBADMSG,
			"%llu tensors are more than the file can hold, or than %d",
			(unsigned long long)n, MAX_TENSORS);
	g->n_tensors = (size_t)n;
	g->tensors = calloc(g->n_tensors + 1, sizeof(*g->tensors));
	g->by_name = calloc(g->n_tensors + 1, sizeof(const void *));
	g->offsets = calloc(g->n_tensors + 1, sizeof(*g->offsets));
	g->names = calloc(g->n_tensors + 1, MAX_NAME_BYTES + 1);
	if (!g->tensors || !g->by_name || !g->offsets || !g->names)
		return err_set(err, -ENOMEM, "out of memory");
	name = g->names;
	for (size_t i = 0; i < g->n_tensors; i++) {
		r = take_tensor(g, c, i, name, err);
		if (r)
			return r;
		name += strlen(name) + 1;
	}
	r = place_tensors(g, c, err);
	free(g->offsets);
	g->offsets = NULL;
	return r;
}

/* ---- the file ---- */

static int read_header(struct cursor *c, uint64_t *n_tensors, uint64_t *n_pairs, struct err *err)
{
	uint32_t version;
	char magic[4];

	if (take(c, magic, sizeof(magic)) || memcmp(magic, "GGUF", 4) != 0)
		return err_set(
			err, -EBADMSG, "this is not a GGUF file: it does not begin with GGUF");
	if (take(c, &version, sizeof(version)))
		return err_set(err, -EBADMSG, "the file ends inside its header");
	if (version != 3 && __builtin_bswap32(version) <= 3)
		return err_set(err, -ENOTSUP, "a big-endian GGUF file is not supported");
	if (version != 3)
		return err_set(err, -ENOTSUP, "GGUF version %u is not supported, only 3", version);
	if (take(c, n_tensors, sizeof(*n_tensors)) || take(c, n_pairs, sizeof(*n_pairs)))
		return err_set(err, -EBADMSG, "the file ends inside its header");
	return 0;
}

static int parse(struct gguf *g, const void *bytes, size_t n, struct err *err)
{
	struct cursor c = {bytes, n, 0};
	uint64_t n_tensors = 0, n_pairs = 0;
	int r;

	g->file_bytes = n;
	r = read_header(&c, &n_tensors, &n_pairs, err);
	if (r == 0)
		r = read_metadata(g, &c, n_pairs, err);
	if (r == 0)
		r = read_tensors(g, &c, n_tensors, err);
	return r;
}

int gguf_parse(struct gguf **out, const void *bytes, size_t n, struct err *err)
{
	struct gguf *g = calloc(1, sizeof(*g));
	int r;

	*out = NULL;
	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	r = parse(g, bytes, n, err);
	*out = r ? gguf_free(g) : g;
	return r;
}

int gguf_open(struct gguf **out, const char *path, dev_t forbidden_device, struct err *err)
{
	struct gguf *g = calloc(1, sizeof(*g));
	int r;

	*out = NULL;
	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	r = mapping_open(&g->mapping, path, forbidden_device, err);
	if (r == 0)
		r = parse(g, mapping_bytes(g->mapping), mapping_size(g->mapping), err);
	if (g->mapping && mapping_damaged(g->mapping))
		r = err_set(err, -EBADMSG, "the file shrank while it was being read");
	*out = r ? gguf_free(g) : g;
	return r;
}

struct gguf *gguf_free(struct gguf *g)
{
	if (!g)
		return NULL;
	for (size_t i = 0; i < g->n_pairs; i++)
		free(g->pairs[i].strings);
	free(g->pairs);
	free(g->keys);
	free(g->tensors);
	free(g->by_name);
	free(g->offsets);
	free(g->names);
	mapping_close(g->mapping);
	free(g);
	return NULL;
}

bool gguf_damaged(const struct gguf *g)
{
	return g->mapping && mapping_damaged(g->mapping);
}

size_t gguf_file_bytes(const struct gguf *g)
{
	return g->file_bytes;
}

/* ---- look-up ---- */

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	struct gguf_tensor probe = {.name = name};
	const struct gguf_tensor *key = &probe;
	const struct gguf_tensor **found =
		bsearch(&key, g->by_name, g->n_tensors, sizeof(const void *), compare_names);

	return found ? *found : NULL;
}

size_t gguf_n_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
	return i < g->n_tensors ? &g->tensors[i] : NULL;
}

static const struct pair *find(const struct gguf *g, const char *key)
{
	struct pair probe = {.key = {key, (uint32_t)strnlen(key, MAX_KEY_BYTES + 1)}};

	return bsearch(&probe, g->pairs, g->n_pairs, sizeof(*g->pairs), compare_pairs);
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return find(g, key) != NULL;
}

uint64_t gguf_uint(const struct gguf *g, const char *key, uint64_t fallback)
{
	const struct pair *p = find(g, key);
	uint64_t raw = 0;
	int64_t v;

	if (!p || p->type == VALUE_F32 || p->type == VALUE_F64 || p->type == VALUE_BOOL ||
		value_bytes[p->type] == 0)
		return fallback;
	memcpy(&raw, p->data, value_bytes[p->type]); /* little endian */
	switch (p->type) {
	case VALUE_I8:
		v = (int8_t)raw;
		break;
	case VALUE_I16:
		v = (int16_t)raw;
		break;
	case VALUE_I32:
		v = (int32_t)raw;
		break;
	case VALUE_I64:
		v = (int64_t)raw;
		break;
	default:
		return raw;
	}
	return v < 0 ? fallback : (uint64_t)v;
}

double gguf_float(const struct gguf *g, const char *key, double fallback)
{
	const struct pair *p = find(g, key);
	float f;
	double d;

	if (p && p->type == VALUE_F32) {
		memcpy(&f, p->data, sizeof(f));
		return f;
	}
	if (p && p->type == VALUE_F64) {
		memcpy(&d, p->data, sizeof(d));
		return d;
	}
	return fallback;
}

bool gguf_bool(const struct gguf *g, const char *key, bool fallback)
{
	const struct pair *p = find(g, key);

	return p && p->type == VALUE_BOOL ? p->data[0] != 0 : fallback;
}

const char *gguf_string(const struct gguf *g, const char *key, size_t *len)
{
	const struct pair *p = find(g, key);

	*len = 0;
	if (!p || p->type != VALUE_STRING)
		return NULL;
	*len = p->n;
	return (const char *)p->data;
}

static const struct pair *find_array(
	const struct gguf *g, const char *key, enum value_type a, enum value_type b)
{
	const struct pair *p = find(g, key);

	return p && p->type == VALUE_ARRAY && (p->element == a || p->element == b) ? p : NULL;
}

size_t gguf_strings(const struct gguf *g, const char *key)
{
	const struct pair *p = find_array(g, key, VALUE_STRING, VALUE_STRING);

	return p ? p->n : 0;
}

const char *gguf_string_at(const struct gguf *g, const char *key, size_t i, size_t *len)
{
	const struct pair *p = find_array(g, key, VALUE_STRING, VALUE_STRING);

	*len = 0;
	if (!p || i >= p->n)
		return NULL;
	*len = p->strings[i].len;
	return p->strings[i].data;
}

const float *gguf_floats(const struct gguf *g, const char *key, size_t *n)
{
	const struct pair *p = find_array(g, key, VALUE_F32, VALUE_F32);

	*n = p ? p->n : 0;
	return p ? (const float *)(const void *)p->data : NULL;
}

const int32_t *gguf_ints(const struct gguf *g, const char *key, size_t *n)
{
	const struct pair *p = find_array(g, key, VALUE_I32, VALUE_U32);

	*n = p ? p->n : 0;
	return p ? (const int32_t *)(const void *)p->data : NULL;
}
