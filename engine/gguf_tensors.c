/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensors of a GGUF file: what they are called, their types and shapes, where their data lies.
 *
 * A description is believed only as far as it fits: sizes are multiplied with overflow checks, data
 * must lie inside the file at a multiple of the alignment, and no two tensors may share a byte.
 * Names are copied, so that they end with a NUL.
 */
#include "engine/gguf_file.h"

#include <stdlib.h>

#define MAX_TENSORS 65536
#define MAX_NAME_BYTES 127
#define MAX_ALIGNMENT ((uint64_t)1 << 20)
#define DEFAULT_ALIGNMENT 32
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8) /* name, dimensions, one size, type, offset */

static const struct {
	uint32_t type;
	struct tensor_type_info info;
} type_rows[] = {
	{TENSOR_F32, {"F32", 1, 4}},
	{TENSOR_F16, {"F16", 1, 2}},
	{TENSOR_Q4_0, {"Q4_0", 32, 18}},
	{TENSOR_Q4_1, {"Q4_1", 32, 20}},
	{TENSOR_Q5_0, {"Q5_0", 32, 22}},
	{TENSOR_Q5_1, {"Q5_1", 32, 24}},
	{TENSOR_Q8_0, {"Q8_0", 32, 34}},
	{TENSOR_Q4_K, {"Q4_K", 256, 144}},
	{TENSOR_Q5_K, {"Q5_K", 256, 176}},
	{TENSOR_Q6_K, {"Q6_K", 256, 210}},
	{TENSOR_BF16, {"BF16", 1, 2}},
};

/* For the sentence that refuses a type: the names a person knows from file names. */
static const char *const foreign_types[] = {
	[9] = "Q8_1",
	[10] = "Q2_K",
	[11] = "Q3_K",
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

#define KNOWN_TYPES "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K"

static int check_type(struct gguf_tensor *t, uint32_t type, struct err *err)
{
	const size_t n_foreign = sizeof(foreign_types) / sizeof(foreign_types[0]);

	if (!tensor_type_info(type)) {
		if (type < n_foreign && foreign_types[type])
			return err_set(err, -ENOTSUP,
				"tensor %s has the type %s; known are " KNOWN_TYPES, t->name,
				foreign_types[type]);
		return err_set(err, -ENOTSUP,
			"tensor %s has the unknown type %u; known are " KNOWN_TYPES, t->name, type);
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

static int take_tensor(struct gguf *g, struct gguf_cursor *c, size_t i, char *name, struct err *err)
{
	struct gguf_tensor *t = &g->tensors[i];
	struct gguf_text text;
	uint32_t type;
	int r;

	if (gguf_file_take_text(c, MAX_NAME_BYTES, &text))
		return err_set(err, -EBADMSG,
			"tensor %zu: its name is cut off or longer than %d bytes", i,
			MAX_NAME_BYTES);
	memcpy(name, text.data, text.len);
	text.data = name;
	if (!gguf_file_is_name(&text))
		return err_set(err, -EBADMSG, "tensor %zu: its name is not printable ASCII", i);
	t->name = name;
	if (gguf_file_take(c, &t->n_dims, sizeof(t->n_dims)) || t->n_dims < 1 || t->n_dims > 4)
		return err_set(err, -EBADMSG, "tensor %s has not 1 to 4 dimensions", name);
	for (size_t d = 0; d < 4; d++) {
		t->dim[d] = 1;
		if (d < t->n_dims && gguf_file_take(c, &t->dim[d], sizeof(t->dim[d])))
			return err_set(
				err, -EBADMSG, "the file ends inside tensor %s's shape", name);
	}
	if (gguf_file_take(c, &type, sizeof(type)) ||
		gguf_file_take(c, &g->offsets[i], sizeof(g->offsets[i])))
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
static int place_tensors(struct gguf *g, const struct gguf_cursor *c, struct err *err)
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

int gguf_tensors_read(struct gguf *g, struct gguf_cursor *c, uint64_t n, struct err *err)
{
	char *name;
	int r;

	if (n > MAX_TENSORS || n > gguf_file_left(c) / MIN_TENSOR_BYTES)
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

const struct gguf_tensor *gguf_tensors_find(const struct gguf *g, const char *name)
{
	struct gguf_tensor probe = {.name = name};
	const struct gguf_tensor *key = &probe;
	const struct gguf_tensor **found =
		bsearch(&key, g->by_name, g->n_tensors, sizeof(const void *), compare_names);

	return found ? *found : NULL;
}

void gguf_tensors_end(struct gguf *g)
{
	free(g->tensors);
	free(g->by_name);
	free(g->offsets);
	free(g->names);
}
