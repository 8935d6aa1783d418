/* SPDX-License-Identifier: Apache-2.0 */
/* Embeddings out of the blocks of a file. The K types are unpacked here in the order in which their
 * bits lie, a block at a time; the kernel goes from a column to its bits. */
#include "engine/cuda/rows.h"
#include "tests/simt/values.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define VOCAB 11

static double half(const uint8_t *p)
{
	return quant_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* The eight pairs of scale and minimum. */
static void k_scales(const uint8_t *s, int scale[8], int minimum[8])
{
	for (int i = 0; i < 4; i++) {
		scale[i] = s[i] & 63;
		minimum[i] = s[i + 4] & 63;
		scale[i + 4] = (s[i + 8] & 15) + 16 * (s[i] >> 6);
		minimum[i + 4] = (s[i + 8] >> 4) + 16 * (s[i + 4] >> 6);
	}
}

static void unpack_q45_k(const uint8_t *b, bool fifth, double *out)
{
	int scale[8], minimum[8];
	const uint8_t *q = b + (fifth ? 48 : 16), *high = b + 16;

	k_scales(b + 4, scale, minimum);
	for (int pair = 0; pair < 4; pair++) {
		for (int i = 0; i < 32; i++) {
			int low = q[pair * 32 + i] & 15, up = q[pair * 32 + i] >> 4;
			if (fifth) {
				low += 16 * (high[i] >> 2 * pair & 1);
				up += 16 * (high[i] >> (2 * pair + 1) & 1);
			}
			out[pair * 64 + i] =
				half(b) * scale[2 * pair] * low - half(b + 2) * minimum[2 * pair];
			out[pair * 64 + 32 + i] = half(b) * scale[2 * pair + 1] * up -
						  half(b + 2) * minimum[2 * pair + 1];
		}
	}
}

static void unpack_q6_k(const uint8_t *b, double *out)
{
	for (int n = 0; n < 2; n++) {
		const uint8_t *low = b + 64 * n, *high = b + 128 + 32 * n;
		const int8_t *scale = (const int8_t *)b + 192 + 8 * n;
		for (int i = 0; i < 32; i++) {
			int q[4] = {
				(low[i] & 15) | (high[i] & 3) << 4,
				(low[i + 32] & 15) | (high[i] >> 2 & 3) << 4,
				low[i] >> 4 | (high[i] >> 4 & 3) << 4,
				low[i + 32] >> 4 | (high[i] >> 6 & 3) << 4,
			};
			for (int k = 0; k < 4; k++)
				out[128 * n + 32 * k + i] =
					half(b + 208) * scale[i / 16 + 2 * k] * (q[k] - 32);
		}
	}
}

static void unpack(uint32_t type, const uint8_t *row, uint32_t cols, double *out)
{
	float *plain = kernel_test_host(cols * sizeof *plain);

	switch (type) {
	case TENSOR_Q4_K:
	case TENSOR_Q5_K:
		for (uint32_t b = 0; b < cols / 256; b++)
			unpack_q45_k(row + b * (type == TENSOR_Q5_K ? 176 : 144),
				type == TENSOR_Q5_K, out + 256 * b);
		return;
	case TENSOR_Q6_K:
		for (uint32_t b = 0; b < cols / 256; b++)
			unpack_q6_k(row + b * 210, out + 256 * b);
		return;
	default:
		quant_to_f32((enum tensor_type)type, row, cols, plain);
		for (uint32_t c = 0; c < cols; c++)
			out[c] = plain[c];
	}
}

/* Bytes of a block, its values, and where its binary16 scales are. */
struct format {
	uint32_t type, values, bytes;
	uint32_t n_halves, half[2];
};

static const struct format formats[] = {
	{TENSOR_F32, 1, 4, 0, {0}},
	{TENSOR_F16, 1, 2, 1, {0}},
	{TENSOR_BF16, 1, 2, 0, {0}},
	{TENSOR_Q8_0, 32, 34, 1, {0}},
	{TENSOR_Q4_0, 32, 18, 1, {0}},
	{TENSOR_Q4_1, 32, 20, 2, {0, 2}},
	{TENSOR_Q5_0, 32, 22, 1, {0}},
	{TENSOR_Q5_1, 32, 24, 2, {0, 2}},
	{TENSOR_Q4_K, 256, 144, 2, {0, 2}},
	{TENSOR_Q5_K, 256, 176, 2, {0, 2}},
	{TENSOR_Q6_K, 256, 210, 1, {208}},
};

/* Any bytes, but for scales, which are finite. */
static uint8_t *random_matrix(const struct format *f, uint32_t rows, uint32_t cols, size_t *row)
{
	size_t n_blocks = (size_t)rows * cols / f->values;
	uint8_t *m = kernel_test_host(n_blocks * f->bytes);

	*row = (size_t)cols / f->values * f->bytes;
	for (size_t b = 0; b < n_blocks; b++) {
		uint8_t *block = m + b * f->bytes;
		for (uint32_t i = 0; i < f->bytes; i++)
			block[i] = (uint8_t)kernel_test_random(256);
		for (uint32_t i = 0; i < f->n_halves; i++)
			values_set(
				block + f->half[i], CUDA_TYPE_F16, 0, kernel_test_random_float());
		if (f->type == TENSOR_F32)
			values_set(block, CUDA_TYPE_F32, 0, kernel_test_random_float());
		else if (f->type == TENSOR_BF16)
			values_set(block, CUDA_TYPE_BF16, 0, kernel_test_random_float());
	}
	return m;
}

static void check(const struct format *f, uint32_t cols, float scale)
{
	static const uint32_t ids[] = {3, 0, VOCAB - 1, VOCAB, 3, UINT32_MAX, 7};
	size_t row_bytes;
	uint8_t *m = random_matrix(f, VOCAB, cols, &row_bytes);
	struct rows_embed e = {
		.data = kernel_test_upload(m, VOCAB * row_bytes),
		.file_type = f->type,
		.n_vocab = VOCAB,
		.cols = cols,
		.scale = scale,
	};
	float *x = kernel_test_device(COUNT(ids) * cols * sizeof *x),
	      *got = kernel_test_host(COUNT(ids) * cols * sizeof *got);
	double *want = kernel_test_host(cols * sizeof *want);

	EXPECT_CUDA(rows_embed(&e, kernel_test_upload(ids, sizeof ids), COUNT(ids), x, NULL));
	kernel_test_download(got, x, COUNT(ids) * cols * sizeof *got);
	for (size_t i = 0; i < COUNT(ids); i++) {
		memset(want, 0, cols * sizeof *want);
		if (ids[i] < VOCAB)
			unpack(f->type, m + ids[i] * row_bytes, cols, want);
		for (uint32_t c = 0; c < cols; c++)
			want[c] *= scale;
		EXPECT_ERROR(got + i * cols, want, cols, 1e-12);
	}
}

KERNEL_TEST(embeddings_of_every_type_are_what_the_file_says)
{
	for (size_t f = 0; f < COUNT(formats); f++) {
		check(&formats[f], formats[f].values, 1);
		check(&formats[f], formats[f].values * 6, 1);
		check(&formats[f], formats[f].values == 1 ? 1030 : 768, 27.7128f);
	}
}

KERNEL_TEST(embeddings_with_part_of_a_block_are_refused)
{
	struct rows_embed e = {.file_type = TENSOR_Q8_0, .cols = 48};

	EXPECT_EQUAL(rows_embed(&e, NULL, 1, NULL, NULL), cudaErrorInvalidValue);
	e.file_type = TENSOR_Q6_K;
	e.cols = 128;
	EXPECT_EQUAL(rows_embed(&e, NULL, 1, NULL, NULL), cudaErrorInvalidValue);
	e.file_type = 99;
	EXPECT_EQUAL(rows_embed(&e, NULL, 1, NULL, NULL), cudaErrorInvalidValue);
}
