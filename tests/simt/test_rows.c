/* SPDX-License-Identifier: Apache-2.0 */
/* Norm, gate, conversion and gather of rows against f64. */
#include "engine/cuda/rows.h"
#include "tests/simt/values.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const enum cuda_type plain_types[] = {CUDA_TYPE_F32, CUDA_TYPE_F16, CUDA_TYPE_BF16};
static const enum cuda_type out_types[] = {
	CUDA_TYPE_F32, CUDA_TYPE_F16, CUDA_TYPE_BF16, CUDA_TYPE_E4M3, CUDA_TYPE_Q8};

/* [rows][ld] of values on the device; columns beyond cols are NaN. *copy: what they are, rounded.
 */
static void *random_rows(
	enum cuda_type type, uint32_t rows, uint32_t cols, size_t ld, float scale, float **copy)
{
	size_t size = cuda_type_bytes(type), bytes = rows * ld * size;
	uint8_t *host = kernel_test_host(bytes);

	memset(host, 0xff, bytes);
	*copy = kernel_test_host((size_t)rows * cols * sizeof **copy);
	for (size_t i = 0; i < (size_t)rows * cols; i++) {
		size_t at = i / cols * ld + i % cols;
		values_set(host, type, at, kernel_test_random_float() * scale);
		(*copy)[i] = values_get(host, type, at);
	}
	return kernel_test_upload(host, bytes);
}

static size_t out_bytes(enum cuda_type type, uint32_t rows, uint32_t cols)
{
	return type == CUDA_TYPE_Q8 ? cuda_quant_q8_bytes(rows, cols)
				    : (size_t)rows * cols * cuda_type_bytes(type);
}

static struct rows_out new_out(enum cuda_type type, uint32_t rows, uint32_t cols)
{
	return (struct rows_out){
		.type = type,
		.data = kernel_test_device(out_bytes(type, rows, cols)),
		.scale = kernel_test_device(rows * sizeof(float)),
	};
}

/* The tail of a q8 row and its sums are what quant.h says. */
static void check_q8(const uint8_t *q8, uint32_t rows, uint32_t cols)
{
	uint32_t n_blocks = cuda_quant_q8_blocks(cols);

	for (uint32_t row = 0; row < rows; row++) {
		for (uint32_t b = 0; b < n_blocks; b++) {
			const uint8_t *block = q8 + ((size_t)(row / 8) * n_blocks + b) *
							    CUDA_QUANT_GROUP_BLOCK_BYTES;
			const int8_t *q = (const int8_t *)block + row % 8 * 32;
			int sum = 0, most = 0;
			float d, s;
			for (int i = 0; i < 32; i++) {
				sum += q[i];
				most = abs(q[i]) > most ? abs(q[i]) : most;
			}
			memcpy(&d, block + 256 + row % 8 * 4, sizeof d);
			memcpy(&s, block + 288 + row % 8 * 4, sizeof s);
			EXPECT_NEAR(s, -(double)d * sum, 1e-6 * fabs((double)d * sum));
			if (b * 32 >= cols)
				EXPECT(most == 0 && d == 0);
			else
				EXPECT(most == 127 || d == 0);
		}
	}
}

/* Each row within the tolerance of the type, or of `least` if that is more. */
static void check_out(
	const struct rows_out *out, const double *want, uint32_t rows, uint32_t cols, double least)
{
	size_t bytes = out_bytes(out->type, rows, cols);
	uint8_t *data = kernel_test_host(bytes);
	float *scale = kernel_test_host(rows * sizeof *scale),
	      *got = kernel_test_host(cols * sizeof *got);
	double most = values_tolerance(out->type);

	kernel_test_download(data, out->data, bytes);
	if (out->type == CUDA_TYPE_E4M3)
		kernel_test_download(scale, out->scale, rows * sizeof *scale);
	if (out->type == CUDA_TYPE_Q8)
		check_q8(data, rows, cols);
	for (uint32_t row = 0; row < rows; row++) {
		double largest = 0;
		for (uint32_t c = 0; c < cols; c++) {
			double w = fabs(want[(size_t)row * cols + c]);
			largest = w > largest ? w : largest;
			got[c] = out->type == CUDA_TYPE_Q8
					 ? values_q8(data, cols, row, c)
					 : values_get(data, out->type, (size_t)row * cols + c) *
						   (out->type == CUDA_TYPE_E4M3 ? scale[row] : 1);
		}
		if (out->type == CUDA_TYPE_E4M3)
			EXPECT_NEAR(scale[row], largest > 0 ? largest / 448 : 1, 1e-4 * largest);
		EXPECT_ERROR(got, want + (size_t)row * cols, cols, most > least ? most : least);
	}
}

/* ---- norm ---- */

struct norm_case {
	uint32_t rows, cols;
	enum cuda_type out;
	const enum cuda_type *delta;
	bool picked;
};

static void check_norm(const struct norm_case *c)
{
	uint32_t in_rows = c->picked ? c->rows + 5 : c->rows, cols = c->cols;
	float *x, *w, *d = NULL;
	struct rows_norm n = {
		.x = random_rows(CUDA_TYPE_F32, in_rows, cols, cols, 3, &x),
		.weight = random_rows(CUDA_TYPE_F32, 1, cols, cols, 1, &w),
		.eps = 1e-5f,
		.n_rows = c->rows,
		.cols = cols,
	};
	uint32_t *row = kernel_test_host(c->rows * sizeof *row);
	double *want = kernel_test_host((size_t)c->rows * cols * sizeof *want);

	for (uint32_t i = 0; i < c->rows; i++)
		row[i] = c->picked ? (i * 7 + 3) % in_rows : i;
	if (c->picked)
		n.row = kernel_test_upload(row, c->rows * sizeof *row);
	if (c->delta) {
		n.delta_type = *c->delta;
		n.delta = random_rows(*c->delta, c->rows, cols, cols, 1, &d);
	}
	for (uint32_t i = 0; i < c->rows; i++) {
		double squares = 0;
		for (uint32_t k = 0; k < cols; k++) {
			size_t at = (size_t)row[i] * cols + k;
			x[at] += d ? d[at] : 0;
			squares += (double)x[at] * x[at];
		}
		for (uint32_t k = 0; k < cols; k++)
			want[(size_t)i * cols + k] = x[(size_t)row[i] * cols + k] /
						     sqrt(squares / cols + (double)n.eps) * w[k];
	}
	struct rows_out out = new_out(c->out, c->rows, cols);
	EXPECT_CUDA(rows_norm(&n, &out, NULL));
	check_out(&out, want, c->rows, cols, 0);
	float *after = kernel_test_host((size_t)in_rows * cols * sizeof *after);
	kernel_test_download(after, n.x, (size_t)in_rows * cols * sizeof *after);
	EXPECT(memcmp(after, x, (size_t)in_rows * cols * sizeof *after) == 0);
}

KERNEL_TEST(norm_of_any_row_length_is_that_of_f64_in_every_type)
{
	static const uint32_t cols[] = {1, 6, 32, 64, 100, 160, 576, 2048, 4096, 8192};

	for (size_t i = 0; i < COUNT(cols); i++) {
		for (size_t t = 0; t < COUNT(out_types); t++) {
			struct norm_case c = {
				.rows = i % 3 ? 3 : 1, .cols = cols[i], .out = out_types[t]};
			if (c.out != CUDA_TYPE_Q8 || c.cols % 32 == 0)
				check_norm(&c);
		}
	}
}

KERNEL_TEST(norm_of_the_longest_rows_is_that_of_f64)
{
	static const uint32_t cols[] = {8196, 12288, ROWS_MAX_COLS};

	for (size_t i = 0; i < COUNT(cols); i++) {
		for (size_t t = 0; t < COUNT(out_types); t++) {
			struct norm_case c = {.rows = 1, .cols = cols[i], .out = out_types[t]};
			if (c.out != CUDA_TYPE_Q8 || c.cols % 32 == 0)
				check_norm(&c);
		}
	}
}

KERNEL_TEST(norm_adds_the_residual_first_and_keeps_the_sum)
{
	static const uint32_t cols[] = {6, 96, 1024, 8224};

	for (size_t i = 0; i < COUNT(cols); i++) {
		for (size_t t = 0; t < COUNT(plain_types); t++) {
			struct norm_case c = {.rows = 5,
				.cols = cols[i],
				.out = out_types[(i + t) % COUNT(out_types)],
				.delta = &plain_types[t]};
			if (c.out == CUDA_TYPE_Q8 && c.cols % 32)
				c.out = CUDA_TYPE_F16;
			check_norm(&c);
		}
	}
}

KERNEL_TEST(norm_of_picked_rows_leaves_the_others_alone)
{
	for (size_t t = 0; t < COUNT(out_types); t++) {
		struct norm_case c = {.rows = 9, .cols = 192, .out = out_types[t], .picked = true};
		check_norm(&c);
	}
}

/* ---- gate ---- */

static double gate(enum rows_gate kind, double x)
{
	return kind == ROWS_SWIGLU
		       ? x / (1 + exp(-x))
		       : x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))) / 2;
}

static void check_glu(enum rows_gate kind, enum cuda_type act, enum cuda_type type, uint32_t rows,
	uint32_t cols, bool halves)
{
	size_t ld = halves ? 2 * (size_t)cols : cols;
	float *both, *up;
	struct rows_glu g = {.kind = kind, .act = act, .ld = ld, .n_rows = rows, .cols = cols};
	double *want = kernel_test_host((size_t)rows * cols * sizeof *want);

	if (halves) { /* two halves of one matrix */
		uint8_t *p = random_rows(act, rows, 2 * cols, ld, 6, &both);
		g.gate = p;
		g.up = p + cols * cuda_type_bytes(act);
	} else {
		g.gate = random_rows(act, rows, cols, ld, 6, &both);
		g.up = random_rows(act, rows, cols, ld, 6, &up);
	}
	for (uint32_t i = 0; i < rows; i++) {
		for (uint32_t c = 0; c < cols; c++) {
			size_t at = (size_t)i * cols + c;
			double x = halves ? both[i * ld + c] : both[at],
			       y = halves ? both[i * ld + cols + c] : up[at];
			want[at] = gate(kind, x) * y;
		}
	}
	struct rows_out out = new_out(type, rows, cols);
	EXPECT_CUDA(rows_glu(&g, &out, NULL));
	check_out(&out, want, rows, cols, 0);
}

KERNEL_TEST(gate_of_any_row_length_is_that_of_f64_in_every_type)
{
	static const uint32_t cols[] = {2, 30, 32, 96, 160, 1000, 1024, 1056, 2816};

	for (size_t i = 0; i < COUNT(cols); i++) {
		for (size_t t = 0; t < COUNT(out_types); t++) {
			enum cuda_type act = plain_types[(i + t) % COUNT(plain_types)];
			if (out_types[t] != CUDA_TYPE_Q8 || cols[i] % 32 == 0)
				check_glu(i % 2 ? ROWS_GEGLU : ROWS_SWIGLU, act, out_types[t],
					i % 2 ? 3 : 1, cols[i], false);
		}
	}
}

KERNEL_TEST(gate_reads_two_halves_of_one_matrix)
{
	for (size_t t = 0; t < COUNT(out_types); t++) {
		check_glu(ROWS_SWIGLU, plain_types[t % 3], out_types[t], 9, 352, true);
		check_glu(ROWS_GEGLU, plain_types[t % 3], out_types[t], 2, 64, true);
	}
}

KERNEL_TEST(gate_of_huge_values_is_finite)
{
	static const float x[] = {-3e4f, -1000, -90, -0.0f, 0, 90, 1000, 3e4f};
	float ones[8], got[8];
	double want[8];

	for (int kind = ROWS_SWIGLU; kind <= ROWS_GEGLU; kind++) {
		for (int i = 0; i < 8; i++) {
			ones[i] = 1;
			want[i] = x[i] > 0 ? (double)x[i] : 0;
		}
		struct rows_glu g = {.kind = (enum rows_gate)kind,
			.act = CUDA_TYPE_F32,
			.gate = kernel_test_upload(x, sizeof x),
			.up = kernel_test_upload(ones, sizeof ones),
			.ld = 8,
			.n_rows = 1,
			.cols = 8};
		struct rows_out out = new_out(CUDA_TYPE_F32, 1, 8);
		EXPECT_CUDA(rows_glu(&g, &out, NULL));
		kernel_test_download(got, out.data, sizeof got);
		EXPECT_ERROR(got, want, 8, 1e-11);
	}
}

KERNEL_TEST(gate_may_be_written_over)
{
	enum { ROWS = 3, COLS = 300 };
	float *a, *b, got[ROWS * COLS];
	double want[ROWS * COLS];
	void *gate_rows = random_rows(CUDA_TYPE_F32, ROWS, COLS, COLS, 2, &a);
	struct rows_glu g = {.act = CUDA_TYPE_F32,
		.gate = gate_rows,
		.up = random_rows(CUDA_TYPE_F32, ROWS, COLS, COLS, 2, &b),
		.ld = COLS,
		.n_rows = ROWS,
		.cols = COLS};
	struct rows_out out = {CUDA_TYPE_F32, gate_rows, NULL};

	for (int i = 0; i < ROWS * COLS; i++)
		want[i] = gate(ROWS_SWIGLU, a[i]) * b[i];
	EXPECT_CUDA(rows_glu(&g, &out, NULL));
	kernel_test_download(got, gate_rows, sizeof got);
	EXPECT_ERROR(got, want, ROWS * COLS, 1e-11);
}

/* ---- conversion and gather ---- */

KERNEL_TEST(rows_are_the_same_in_another_type)
{
	static const uint32_t cols[] = {2, 30, 64, 96, 4128};

	for (size_t i = 0; i < COUNT(cols); i++) {
		for (size_t t = 0; t < COUNT(out_types); t++) {
			enum cuda_type in = plain_types[(i + t) % COUNT(plain_types)];
			uint32_t rows = i % 2 ? 1 : 10;
			size_t n = (size_t)rows * cols[i];
			float *x;
			if (out_types[t] == CUDA_TYPE_Q8 && cols[i] % 32)
				continue;
			void *p = random_rows(in, rows, cols[i], cols[i], 20, &x);
			double *want = kernel_test_host(n * sizeof *want);
			for (size_t k = 0; k < n; k++)
				want[k] = x[k];
			struct rows_out out = new_out(out_types[t], rows, cols[i]);
			EXPECT_CUDA(rows_convert(p, in, rows, cols[i], &out, NULL));
			check_out(&out, want, rows, cols[i], 0);
		}
	}
}

KERNEL_TEST(a_row_of_zeros_stays_one_in_every_type)
{
	static const float zeros[128];
	static const double want[128];

	for (size_t t = 0; t < COUNT(out_types); t++) {
		struct rows_out out = new_out(out_types[t], 1, 128);
		EXPECT_CUDA(rows_convert(kernel_test_upload(zeros, sizeof zeros), CUDA_TYPE_F32, 1,
			128, &out, NULL));
		check_out(&out, want, 1, 128, 0);
	}
}

KERNEL_TEST(a_row_of_next_to_nothing_is_zeros_as_e4m3)
{
	static const float tiny[32] = {0, 1e-37f, -1e-40f};
	struct rows_out out = new_out(CUDA_TYPE_E4M3, 1, 32);
	uint8_t got[32];

	EXPECT_CUDA(rows_convert(
		kernel_test_upload(tiny, sizeof(tiny)), CUDA_TYPE_F32, 1, 32, &out, NULL));
	kernel_test_download(got, out.data, sizeof(got));
	for (int i = 0; i < 32; i++)
		EXPECT_EQUAL(got[i] & 0x7f, 0); /* 0x7f is a NaN */
}

KERNEL_TEST(picked_rows_are_copied_whatever_their_size)
{
	static const uint32_t sizes[] = {4, 12, 16, 100, 4096, 10000, 65552};
	static const uint32_t row[] = {6, 0, 6, 3, 1};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		uint32_t bytes = sizes[i];
		uint8_t *in = kernel_test_host(7 * bytes), *got = kernel_test_host(5 * bytes);
		for (uint32_t k = 0; k < 7 * bytes; k++)
			in[k] = (uint8_t)kernel_test_random(256);
		void *out = kernel_test_device(5 * bytes);
		EXPECT_CUDA(rows_gather(kernel_test_upload(in, 7 * bytes), bytes,
			kernel_test_upload(row, sizeof row), COUNT(row), out, NULL));
		kernel_test_download(got, out, 5 * bytes);
		for (size_t k = 0; k < COUNT(row); k++)
			EXPECT(memcmp(got + k * bytes, in + row[k] * bytes, bytes) == 0);
	}
}

KERNEL_TEST(shapes_that_the_header_rules_out_are_refused)
{
	float *x = kernel_test_device(64 * sizeof *x);
	struct rows_out q8 = new_out(CUDA_TYPE_Q8, 1, 64);
	struct rows_norm n = {.x = x, .weight = x, .n_rows = 1, .cols = 33};

	EXPECT_EQUAL(rows_norm(&n, &q8, NULL), cudaErrorInvalidValue);
	n.cols = ROWS_MAX_COLS + 32;
	EXPECT_EQUAL(rows_norm(&n, &q8, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(rows_convert(x, CUDA_TYPE_E4M3, 1, 32, &q8, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(rows_convert(x, CUDA_TYPE_F32, 1, 16, &q8, NULL), cudaErrorInvalidValue);
	EXPECT_EQUAL(rows_gather(x, 6, NULL, 1, x, NULL), cudaErrorInvalidValue);
	n.n_rows = 0;
	EXPECT_EQUAL(rows_norm(&n, &q8, NULL), 0);
}
