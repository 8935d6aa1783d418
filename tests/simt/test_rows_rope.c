/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation and the way into the cache, against f64. */
#include "engine/cuda/rows.h"
#include "tests/simt/values.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CONTEXT 40
#define BLOCKS 6

struct rope_case {
	enum cuda_type act, kv;
	uint32_t rows, n_heads, n_kv_heads, head_dim, rope_dim;
	bool one_matrix; /* q, k, v side by side */
};

/* The arrays of a case, on the host. */
struct rope_data {
	size_t ld_q, ld_kv, n_q, n_kv;
	void *q, *k, *v; /* q, k, v begin in one matrix, or are three */
	size_t matrix_bytes;
	float *cs;
	uint32_t *pos, *slot;
};

static void *random_values(enum cuda_type type, size_t n)
{
	void *p = kernel_test_host(n * cuda_type_bytes(type));

	for (size_t i = 0; i < n; i++)
		values_set(p, type, i, 3 * kernel_test_random_float());
	return p;
}

static struct rope_data make(const struct rope_case *c)
{
	struct rope_data d = {
		.n_q = (size_t)c->n_heads * c->head_dim,
		.n_kv = (size_t)c->n_kv_heads * c->head_dim,
		.cs = kernel_test_host(CONTEXT * c->rope_dim * sizeof(float)),
		.pos = kernel_test_host(c->rows * sizeof(uint32_t)),
		.slot = kernel_test_host(c->rows * sizeof(uint32_t)),
	};
	size_t size = cuda_type_bytes(c->act);

	if (c->one_matrix) {
		d.ld_q = d.ld_kv = d.n_q + 2 * d.n_kv;
		d.q = random_values(c->act, c->rows * d.ld_q);
		d.k = (uint8_t *)d.q + d.n_q * size;
		d.v = (uint8_t *)d.k + d.n_kv * size;
		d.matrix_bytes = c->rows * d.ld_q * size;
	} else {
		d.ld_q = d.n_q;
		d.ld_kv = d.n_kv;
		d.q = random_values(c->act, c->rows * d.ld_q);
		d.k = random_values(c->act, c->rows * d.ld_kv);
		d.v = random_values(c->act, c->rows * d.ld_kv);
	}
	for (uint32_t i = 0; i < CONTEXT * c->rope_dim; i += 2) {
		double angle = 3.2 * (double)kernel_test_random_float();
		d.cs[i] = (float)cos(angle);
		d.cs[i + 1] = (float)sin(angle);
	}
	for (uint32_t i = 0; i < c->rows; i++) { /* a slot is given once; row 1 is padding */
		d.pos[i] = kernel_test_random(CONTEXT);
		d.slot[i] = i == 1 ? CUDA_NO_SLOT : (i * 37 + 5) % (BLOCKS * 16);
		d.pos[i] = i == 1 ? 1u << 30 : d.pos[i];
	}
	return d;
}

/* Value c of a head, rotated. */
static double rotated(const struct rope_case *c, const struct rope_data *d, const void *p,
	size_t at, uint32_t row, uint32_t col)
{
	double x0 = values_get(p, c->act, at + col - col % 2),
	       x1 = values_get(p, c->act, at + col - col % 2 + 1);
	const float *cs = d->cs + (size_t)d->pos[row] * c->rope_dim + col - col % 2;

	if (col >= c->rope_dim)
		return col % 2 ? x1 : x0;
	return col % 2 ? x1 * cs[0] + x0 * cs[1] : x0 * cs[0] - x1 * cs[1];
}

static void check_q(const struct rope_case *c, const struct rope_data *d, const void *device,
	size_t bytes, double scale)
{
	void *after = kernel_test_host(bytes);
	float *got = kernel_test_host(d->n_q * sizeof *got);
	double *want = kernel_test_host(d->n_q * sizeof *want);

	kernel_test_download(after, device, bytes);
	for (uint32_t row = 0; row < c->rows; row++) {
		for (uint32_t i = 0; i < d->n_q; i++) {
			size_t at = row * d->ld_q + i - i % c->head_dim;
			got[i] = values_get(after, c->act, row * d->ld_q + i);
			want[i] = d->slot[row] == CUDA_NO_SLOT
					  ? values_get(d->q, c->act, at + i % c->head_dim)
					  : rotated(c, d, d->q, at, row, i % c->head_dim) * scale;
		}
		EXPECT_ERROR(got, want, d->n_q, values_tolerance(c->act));
	}
}

/* The cache: rows that were stored, and nothing else touched. */
static void check_cache(const struct rope_case *c, const struct rope_data *d, const void *device,
	size_t bytes, bool is_v)
{
	uint8_t *cache = kernel_test_host(bytes);
	float *got = kernel_test_host(c->head_dim * sizeof *got);
	double *want = kernel_test_host(c->head_dim * sizeof *want);
	size_t size = cuda_type_bytes(c->kv), written = 0, untouched = 0;

	kernel_test_download(cache, device, bytes);
	for (uint32_t row = 0; row < c->rows; row++) {
		if (d->slot[row] == CUDA_NO_SLOT)
			continue;
		for (uint32_t h = 0; h < c->n_kv_heads; h++) {
			size_t head = d->slot[row] / 16 * c->n_kv_heads + h;
			size_t to = (head * 16 + d->slot[row] % 16) * c->head_dim;
			size_t from = row * d->ld_kv + h * c->head_dim;
			for (uint32_t i = 0; i < c->head_dim; i++) {
				got[i] = values_get(cache, c->kv, to + i);
				want[i] = is_v ? values_get(d->v, c->act, from + i)
					       : rotated(c, d, d->k, from, row, i);
			}
			EXPECT_ERROR(got, want, c->head_dim, values_tolerance(c->kv));
			memset(cache + to * size, 0xff, c->head_dim * size);
			written += c->head_dim * size;
		}
	}
	for (size_t i = 0; i < bytes; i++)
		untouched += cache[i] == 0xff;
	EXPECT_EQUAL(untouched, bytes);
	EXPECT(written > 0);
}

static void check(const struct rope_case *c)
{
	struct rope_data d = make(c);
	size_t size = cuda_type_bytes(c->act), q_bytes = c->rows * d.ld_q * size;
	size_t kv_bytes = c->rows * d.ld_kv * size;
	size_t cache = (size_t)BLOCKS * 16 * d.n_kv * cuda_type_bytes(c->kv);
	struct cuda_kv kv = {kernel_test_device(cache), kernel_test_device(cache), c->kv,
		c->n_kv_heads, c->head_dim};
	uint8_t *q = kernel_test_upload(d.q, q_bytes);
	struct rows_rope r = {
		.act = c->act,
		.q = q,
		.k = c->one_matrix ? q + d.n_q * size : kernel_test_upload(d.k, kv_bytes),
		.v = c->one_matrix ? q + (d.n_q + d.n_kv) * size
				   : kernel_test_upload(d.v, kv_bytes),
		.ld_q = d.ld_q,
		.ld_kv = d.ld_kv,
		.n_rows = c->rows,
		.n_heads = c->n_heads,
		.rope_dim = c->rope_dim,
		.scale = 0.125f,
		.cs = kernel_test_upload(d.cs, CONTEXT * c->rope_dim * sizeof(float)),
		.pos = kernel_test_upload(d.pos, c->rows * sizeof(uint32_t)),
		.slot = kernel_test_upload(d.slot, c->rows * sizeof(uint32_t)),
	};

	EXPECT_CUDA(rows_rope(&r, &kv, NULL));
	check_q(c, &d, q, q_bytes, 0.125 * 1.4426950408889634);
	check_cache(c, &d, kv.k, cache, false);
	check_cache(c, &d, kv.v, cache, true);
}

KERNEL_TEST(rotated_rows_and_the_cache_are_those_of_f64)
{
	static const enum cuda_type types[][2] = {
		{CUDA_TYPE_F32, CUDA_TYPE_F32},
		{CUDA_TYPE_F16, CUDA_TYPE_F16},
		{CUDA_TYPE_BF16, CUDA_TYPE_BF16},
		{CUDA_TYPE_F32, CUDA_TYPE_E4M3},
		{CUDA_TYPE_F16, CUDA_TYPE_E4M3},
		{CUDA_TYPE_BF16, CUDA_TYPE_E4M3},
	};
	static const uint32_t dims[][2] = {/* head_dim, rope_dim */
		{32, 32}, {64, 64}, {80, 80}, {128, 128}, {128, 64}, {80, 20}, {30, 30}, {96, 6},
		{256, 256}};

	for (size_t i = 0; i < COUNT(dims); i++) {
		for (size_t t = 0; t < COUNT(types); t++) {
			struct rope_case c = {
				.act = types[t][0],
				.kv = types[t][1],
				.rows = i % 2 ? 7 : 1,
				.n_heads = i % 3 == 2 ? 7 : 4,
				.n_kv_heads = i % 3 == 0   ? 4
					      : i % 3 == 1 ? 2
							   : 1,
				.head_dim = dims[i][0],
				.rope_dim = dims[i][1],
				.one_matrix = (i + t) % 2,
			};
			check(&c);
		}
	}
}

KERNEL_TEST(values_beyond_e4m3_are_stored_as_its_largest)
{
	float v[32], cs[2] = {1, 0};
	uint32_t zero = 0;
	uint8_t got[16 * 32];

	for (int i = 0; i < 32; i++)
		v[i] = i % 2 ? 1e6f : -449;
	void *device = kernel_test_upload(v, sizeof v);
	struct cuda_kv kv = {kernel_test_device(sizeof got), kernel_test_device(sizeof got),
		CUDA_TYPE_E4M3, 1, 32};
	struct rows_rope r = {
		.act = CUDA_TYPE_F32,
		.q = kernel_test_upload(v, sizeof v),
		.k = device,
		.v = device,
		.ld_q = 32,
		.ld_kv = 32,
		.n_rows = 1,
		.n_heads = 1,
		.rope_dim = 2,
		.scale = 1,
		.cs = kernel_test_upload(cs, sizeof cs),
		.pos = kernel_test_upload(&zero, sizeof zero),
		.slot = kernel_test_upload(&zero, sizeof zero),
	};
	EXPECT_CUDA(rows_rope(&r, &kv, NULL));
	kernel_test_download(got, kv.v, sizeof got);
	for (int i = 0; i < 32; i++)
		EXPECT_NEAR(values_e4m3(got[i]), i % 2 ? 448 : -448, 0);
}

KERNEL_TEST(odd_dimensions_and_other_caches_are_refused)
{
	struct cuda_kv kv = {NULL, NULL, CUDA_TYPE_BF16, 1, 64};
	struct rows_rope r = {.act = CUDA_TYPE_F16, .n_rows = 1, .n_heads = 1, .rope_dim = 64};

	EXPECT_EQUAL(rows_rope(&r, &kv, NULL), cudaErrorInvalidValue);
	r.act = CUDA_TYPE_BF16;
	r.rope_dim = 66;
	EXPECT_EQUAL(rows_rope(&r, &kv, NULL), cudaErrorInvalidValue);
	r.rope_dim = 63;
	EXPECT_EQUAL(rows_rope(&r, &kv, NULL), cudaErrorInvalidValue);
}
