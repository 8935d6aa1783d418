/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads GGUF v3.
 *
 * The file is: "GGUF", version, number of tensors, number of metadata pairs; the pairs; the tensor
 * descriptions; padding to the alignment; the data of the tensors. All of it is somebody else's
 * word, so nothing is believed: a cursor that cannot leave the file reads every field exactly once
 * (the file may change while we look), and every sum and product is checked for overflow before it
 * is used. What is kept in memory are two tables sorted by name; counts have ceilings, so a hostile
 * file costs at most about 100 MB.
 *
 * Names are copied and printable ASCII, so they can stand in a sentence. Values may be any bytes
 * and are left in the mapping: whoever keeps one copies it and then checks the copy.
 *
 * Immutable after gguf_open: any thread may read.
 */
#include "engine/gguf.h"

#include <stdlib.h>

#include "engine/gguf_file.h"

/* ---- the file ---- */

static int read_header(
	struct gguf_cursor *c, uint64_t *n_tensors, uint64_t *n_pairs, struct err *err)
{
	uint32_t version;
	char magic[4];

	if (gguf_file_left(c) == 0)
		return err_set(err, -EBADMSG, "the file is empty");
	if (gguf_file_take(c, magic, sizeof(magic)) || memcmp(magic, "GGUF", 4) != 0)
		return err_set(
			err, -EBADMSG, "this is not a GGUF file: it does not begin with GGUF");
	if (gguf_file_take(c, &version, sizeof(version)))
		return err_set(err, -EBADMSG, "the file ends inside its header");
	if (version > 3 && __builtin_bswap32(version) <= 3)
		return err_set(err, -ENOTSUP, "a big-endian GGUF file is not supported");
	if (version != 3)
		return err_set(err, -ENOTSUP, "GGUF version %u is not supported, only 3", version);
	if (gguf_file_take(c, n_tensors, sizeof(*n_tensors)) ||
		gguf_file_take(c, n_pairs, sizeof(*n_pairs)))
		return err_set(err, -EBADMSG, "the file ends inside its header");
	return 0;
}

static int parse(struct gguf *g, const void *bytes, size_t n, struct err *err)
{
	struct gguf_cursor c = {bytes, n, 0};
	uint64_t n_tensors = 0, n_pairs = 0;
	int r;

	g->file_bytes = n;
	r = read_header(&c, &n_tensors, &n_pairs, err);
	if (r == 0)
		r = gguf_metadata_read(g, &c, n_pairs, err);
	if (r == 0)
		r = gguf_tensors_read(g, &c, n_tensors, err);
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
	gguf_metadata_end(g);
	gguf_tensors_end(g);
	mapping_close(g->mapping);
	free(g);
	return NULL;
}

static int tell(enum mapping_file file, const char *whose, const char *when, struct err *err)
{
	switch (file) {
	case MAPPING_SHRANK:
		return err_set(err, -EBADMSG, "%s was truncated while it was %s", whose, when);
	case MAPPING_WRITTEN:
		return err_set(err, -EIO, "%s was written to while it was %s", whose, when);
	case MAPPING_REPLACED:
		return 1;
	case MAPPING_SAME:
		break;
	}
	return 0;
}

int gguf_changed(const struct gguf *g, const char *whose, const char *when, struct err *err)
{
	return g->mapping ? tell(mapping_file(g->mapping), whose, when, err) : 0;
}

int gguf_changed_now(const struct gguf *g, const char *whose, const char *when, struct err *err)
{
	return g->mapping ? tell(mapping_file_now(g->mapping), whose, when, err) : 0;
}

void gguf_forget(const struct gguf *g, const struct gguf_tensor *t)
{
	if (g->mapping)
		mapping_forget(g->mapping, t->data, t->bytes);
}

size_t gguf_file_bytes(const struct gguf *g)
{
	return g->file_bytes;
}

/* ---- look-up ---- */

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	return gguf_tensors_find(g, name);
}

size_t gguf_n_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
	return i < g->n_tensors ? &g->tensors[i] : NULL;
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return gguf_metadata_find(g, key) != NULL;
}

uint64_t gguf_uint(const struct gguf *g, const char *key, uint64_t fallback)
{
	const struct gguf_pair *p = gguf_metadata_find(g, key);
	uint64_t raw = 0;
	int64_t v;

	if (!p || p->type == GGUF_F32 || p->type == GGUF_F64 || p->type == GGUF_BOOL ||
		gguf_metadata_value_bytes(p->type) == 0)
		return fallback;
	memcpy(&raw, p->data, gguf_metadata_value_bytes(p->type)); /* little endian */
	switch (p->type) {
	case GGUF_I8:
		v = (int8_t)raw;
		break;
	case GGUF_I16:
		v = (int16_t)raw;
		break;
	case GGUF_I32:
		v = (int32_t)raw;
		break;
	case GGUF_I64:
		v = (int64_t)raw;
		break;
	default:
		return raw;
	}
	return v < 0 ? fallback : (uint64_t)v;
}

double gguf_float(const struct gguf *g, const char *key, double fallback)
{
	const struct gguf_pair *p = gguf_metadata_find(g, key);
	float f;
	double d;

	if (p && p->type == GGUF_F32) {
		memcpy(&f, p->data, sizeof(f));
		return f;
	}
	if (p && p->type == GGUF_F64) {
		memcpy(&d, p->data, sizeof(d));
		return d;
	}
	return fallback;
}

bool gguf_bool(const struct gguf *g, const char *key, bool fallback)
{
	const struct gguf_pair *p = gguf_metadata_find(g, key);

	return p && p->type == GGUF_BOOL ? p->data[0] != 0 : fallback;
}

const char *gguf_string(const struct gguf *g, const char *key, size_t *len)
{
	const struct gguf_pair *p = gguf_metadata_find(g, key);

	*len = 0;
	if (!p || p->type != GGUF_STRING)
		return NULL;
	*len = p->n;
	return (const char *)p->data;
}

static const struct gguf_pair *find_array(
	const struct gguf *g, const char *key, enum gguf_value a, enum gguf_value b)
{
	const struct gguf_pair *p = gguf_metadata_find(g, key);

	return p && p->type == GGUF_ARRAY && (p->element == a || p->element == b) ? p : NULL;
}

size_t gguf_strings(const struct gguf *g, const char *key)
{
	const struct gguf_pair *p = find_array(g, key, GGUF_STRING, GGUF_STRING);

	return p ? p->n : 0;
}

const char *gguf_string_at(const struct gguf *g, const char *key, size_t i, size_t *len)
{
	const struct gguf_pair *p = find_array(g, key, GGUF_STRING, GGUF_STRING);

	*len = 0;
	if (!p || i >= p->n)
		return NULL;
	*len = p->strings[i].len;
	return p->strings[i].data;
}

const float *gguf_floats(const struct gguf *g, const char *key, size_t *n)
{
	const struct gguf_pair *p = find_array(g, key, GGUF_F32, GGUF_F32);

	*n = p ? p->n : 0;
	return p ? (const float *)(const void *)p->data : NULL;
}

const int32_t *gguf_ints(const struct gguf *g, const char *key, size_t *n)
{
	const struct gguf_pair *p = find_array(g, key, GGUF_I32, GGUF_U32);

	*n = p ? p->n : 0;
	return p ? (const int32_t *)(const void *)p->data : NULL;
}
