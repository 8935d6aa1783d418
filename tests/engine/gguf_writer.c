/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GGUF file is built in three buffers (metadata, tensor descriptions, tensor data) and joined at
 * the end, when the counts are known.
 */
#include "tests/engine/gguf_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define ALIGNMENT 32

enum {
	TYPE_U32 = 4,
	TYPE_I32 = 5,
	TYPE_F32 = 6,
	TYPE_BOOL = 7,
	TYPE_STRING = 8,
	TYPE_ARRAY = 9,
	TYPE_U64 = 10
};

struct gguf_writer {
	struct buf pairs, tensors, data;
	uint64_t n_pairs, n_tensors;
};

static void put(struct buf *b, const void *bytes, size_t n)
{
	if (buf_append(b, bytes, n)) {
		fprintf(stderr, "gguf_writer: out of memory\n");
		exit(1);
	}
}

static void put_u32(struct buf *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_u64(struct buf *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

static void put_text(struct buf *b, const char *text, size_t n)
{
	put_u64(b, n);
	put(b, text, n);
}

static void pad(struct buf *b, size_t start)
{
	static const char zeros[ALIGNMENT];

	put(b, zeros, (ALIGNMENT - (start + b->len) % ALIGNMENT) % ALIGNMENT);
}

struct gguf_writer *gguf_writer_new(void)
{
	struct gguf_writer *w = calloc(1, sizeof(*w));

	if (!w)
		exit(1);
	w->pairs.max = w->tensors.max = w->data.max = (size_t)8 << 30;
	return w;
}

struct gguf_writer *gguf_writer_free(struct gguf_writer *w)
{
	if (!w)
		return NULL;
	buf_free(&w->pairs);
	buf_free(&w->tensors);
	buf_free(&w->data);
	free(w);
	return NULL;
}

static void add_key(struct gguf_writer *w, const char *key, uint32_t type)
{
	put_text(&w->pairs, key, strlen(key));
	put_u32(&w->pairs, type);
	w->n_pairs++;
}

static void add_array(struct gguf_writer *w, const char *key, uint32_t element, size_t n)
{
	add_key(w, key, TYPE_ARRAY);
	put_u32(&w->pairs, element);
	put_u64(&w->pairs, n);
}

void gguf_writer_add_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
	add_key(w, key, TYPE_U32);
	put(&w->pairs, &value, sizeof(value));
}

void gguf_writer_add_u64(struct gguf_writer *w, const char *key, uint64_t value)
{
	add_key(w, key, TYPE_U64);
	put(&w->pairs, &value, sizeof(value));
}

void gguf_writer_add_i32(struct gguf_writer *w, const char *key, int32_t value)
{
	add_key(w, key, TYPE_I32);
	put(&w->pairs, &value, sizeof(value));
}

void gguf_writer_add_f32(struct gguf_writer *w, const char *key, float value)
{
	add_key(w, key, TYPE_F32);
	put(&w->pairs, &value, sizeof(value));
}

void gguf_writer_add_bool(struct gguf_writer *w, const char *key, bool value)
{
	unsigned char byte = value;

	add_key(w, key, TYPE_BOOL);
	put(&w->pairs, &byte, 1);
}

void gguf_writer_add_string(struct gguf_writer *w, const char *key, const char *value)
{
	add_key(w, key, TYPE_STRING);
	put_text(&w->pairs, value, strlen(value));
}

void gguf_writer_add_strings(struct gguf_writer *w, const char *key, const char *const *texts,
	const size_t *lens, size_t n)
{
	add_array(w, key, TYPE_STRING, n);
	for (size_t i = 0; i < n; i++)
		put_text(&w->pairs, texts[i], lens ? lens[i] : strlen(texts[i]));
}

void gguf_writer_add_floats(struct gguf_writer *w, const char *key, const float *values, size_t n)
{
	add_array(w, key, TYPE_F32, n);
	put(&w->pairs, values, n * sizeof(*values));
}

void gguf_writer_add_ints(struct gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
	add_array(w, key, TYPE_I32, n);
	put(&w->pairs, values, n * sizeof(*values));
}

void gguf_writer_add_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
	const uint64_t *dims, const void *data, size_t bytes)
{
	put_text(&w->tensors, name, strlen(name));
	put_u32(&w->tensors, n_dims);
	put(&w->tensors, dims, n_dims * sizeof(*dims));
	put_u32(&w->tensors, type);
	pad(&w->data, 0);
	put_u64(&w->tensors, w->data.len);
	put(&w->data, data, bytes);
	w->n_tensors++;
}

void gguf_writer_lie_about_offset(struct gguf_writer *w, uint64_t offset)
{
	memcpy(w->tensors.data + w->tensors.len - sizeof(offset), &offset, sizeof(offset));
}

static void join(const struct gguf_writer *w, struct buf *b)
{
	b->max = (size_t)8 << 30;
	put(b, "GGUF", 4);
	put_u32(b, 3);
	put_u64(b, w->n_tensors);
	put_u64(b, w->n_pairs);
	put(b, w->pairs.data, w->pairs.len);
	put(b, w->tensors.data, w->tensors.len);
	if (w->n_tensors > 0)
		pad(b, 0);
}

unsigned char *gguf_writer_bytes(const struct gguf_writer *w, size_t *n)
{
	struct buf b = {0};

	join(w, &b);
	put(&b, w->data.data, w->data.len);
	*n = b.len;
	return (unsigned char *)b.data;
}

void gguf_writer_finish(const struct gguf_writer *w, const char *path)
{
	struct buf head = {0};
	FILE *f = fopen(path, "wb");
	bool ok = f != NULL;

	join(w, &head);
	ok = ok && fwrite(head.data, 1, head.len, f) == head.len;
	if (ok && w->data.len > 0)
		ok = fwrite(w->data.data, 1, w->data.len, f) == w->data.len;
	if (!f || fclose(f) || !ok) {
		perror(path);
		exit(1);
	}
	buf_free(&head);
}

/* ---- values ---- */

uint16_t gguf_writer_f16(float f)
{
	int exponent;
	float magnitude = fabsf(f);
	uint16_t sign = signbit(f) ? 0x8000 : 0;

	if (isnan(f))
		return sign | 0x7e00;
	if (magnitude >= 65520.0f)
		return sign | 0x7c00;
	if (magnitude < 0x1p-14f) /* subnormal, zero; 1024 of these units are the smallest normal */
		return (uint16_t)(sign | (uint16_t)lrintf(magnitude * 0x1p24f));
	float fraction = frexpf(magnitude, &exponent); /* [0.5, 1) * 2^exponent */
	/* A fraction rounded up to 2048 carries into the exponent, as it should. */
	return (uint16_t)(sign | (((unsigned)(exponent + 14) << 10) +
					 (unsigned)lrintf(fraction * 2048.0f) - 1024));
}

uint16_t gguf_writer_bf16(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	if (isnan(f))
		return (uint16_t)((bits >> 16) | 0x40);
	return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static float largest(const float *x, float *absolute)
{
	float most = 0;

	*absolute = 0;
	for (size_t i = 0; i < 32; i++) {
		if (fabsf(x[i]) > *absolute) {
			*absolute = fabsf(x[i]);
			most = x[i];
		}
	}
	return most;
}

/* 2 bytes of scale, 32 signed bytes. */
static void quantise_q8_0(const float *x, unsigned char *out)
{
	float absolute;

	largest(x, &absolute);
	float d = absolute / 127.0f;
	uint16_t scale = gguf_writer_f16(d);

	memcpy(out, &scale, 2);
	for (size_t i = 0; i < 32; i++)
		out[2 + i] = (unsigned char)(int8_t)(d > 0 ? lrintf(x[i] / d) : 0);
}

/* Half bytes behind the scale (and the least value), and before them fifth bits. */
static void quantise_q45(const float *x, bool fifth, bool has_min, unsigned char *out)
{
	long most = fifth ? 31 : 15, offset = has_min ? 0 : (most + 1) / 2;
	float low = x[0], high = x[0], absolute;
	uint32_t bits = 0;

	for (size_t i = 1; i < 32; i++) {
		low = fminf(low, x[i]);
		high = fmaxf(high, x[i]);
	}
	float d = has_min ? (high - low) / (float)most : largest(x, &absolute) / (float)-offset;
	uint16_t scale = gguf_writer_f16(d), least = gguf_writer_f16(low);
	unsigned char *q = out + (has_min ? 4 : 2) + (fifth ? 4 : 0);

	memcpy(out, &scale, 2);
	if (has_min)
		memcpy(out + 2, &least, 2);
	memset(q, 0, 16);
	for (size_t i = 0; i < 32; i++) {
		long v = d != 0 ? lrintf((x[i] - (has_min ? low : 0)) / d) + offset : offset;

		v = v > most ? most : v < 0 ? 0 : v;
		q[i % 16] |= (unsigned char)((v & 15) << i / 16 * 4);
		bits |= (uint32_t)(v >> 4) << i;
	}
	if (fifth)
		memcpy(q - 4, &bits, 4);
}

void *gguf_writer_quantise(enum tensor_type type, const float *values, size_t n, size_t *bytes)
{
	const struct tensor_type_info *info = tensor_type_info(type);

	*bytes = n / info->block_values * info->block_bytes;
	unsigned char *out = malloc(*bytes + 1);

	if (!out)
		exit(1);
	for (size_t i = 0; i < n; i += info->block_values) {
		unsigned char *block = out + i / info->block_values * info->block_bytes;
		uint16_t half = type == TENSOR_F16 ? gguf_writer_f16(values[i])
						   : gguf_writer_bf16(values[i]);

		if (type == TENSOR_F32)
			memcpy(block, &values[i], 4);
		else if (type == TENSOR_Q8_0)
			quantise_q8_0(&values[i], block);
		else if (info->block_values == 32)
			quantise_q45(&values[i], type == TENSOR_Q5_0 || type == TENSOR_Q5_1,
				type == TENSOR_Q4_1 || type == TENSOR_Q5_1, block);
		else if (info->block_values == 256)
			gguf_writer_quantise_k(type, &values[i], block);
		else
			memcpy(block, &half, 2);
	}
	return out;
}
