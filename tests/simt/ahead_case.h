/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_AHEAD_CASE_H
#define TESTS_SIMT_AHEAD_CASE_H

/*
 * Every launch that may ask for weights ahead (engine/cuda/ahead.h), small, over the same numbers:
 * bytes that are harmless in all types. What comes out is only compared with itself.
 */
#include "engine/cuda/attention.h"
#include "engine/cuda/gemv.h"
#include "engine/cuda/rows.h"
#include "engine/cuda/sample.h"
#include "tests/simt/values.h"

#define AHEAD_OUT_BYTES 65536
#define AHEAD_NUMBER_BYTES (1 << 19)

/* Device memory, made by ahead_data(). */
struct ahead_data {
	uint8_t *numbers;    /* [AHEAD_NUMBER_BYTES] 0x3c00 and a little, as 16 bits */
	uint8_t *out;        /* [AHEAD_OUT_BYTES] */
	uint32_t *positions; /* 40, 39, 38 */
	uint32_t *order;     /* 0, 1, 2, ... */
	void *workspace, *attention, *sampler;
};

static const struct attention_shape ahead_shape = {
	.act = CUDA_TYPE_BF16,
	.kv = CUDA_TYPE_BF16,
	.n_heads = 4,
	.n_kv_heads = 2,
	.head_dim = 64,
	.n_processors = 4,
	.max_rows = 3,
	.max_runs = 3,
};

/* An f32 model has the plain kernel. */
static const struct attention_shape ahead_plain_shape = {
	.act = CUDA_TYPE_F32,
	.kv = CUDA_TYPE_F32,
	.n_heads = 2,
	.n_kv_heads = 1,
	.head_dim = 32,
	.n_processors = 4,
	.max_rows = 3,
	.max_runs = 3,
};

static void *zeroed(size_t bytes)
{
	void *p = kernel_test_device(bytes);

	EXPECT_CUDA(cudaMemset(p, 0, bytes));
	return p;
}

static struct ahead_data ahead_data(void)
{
	static const uint32_t positions[] = {40, 39, 38};
	static uint16_t numbers[AHEAD_NUMBER_BYTES / 2];
	static uint32_t order[64];

	for (size_t i = 0; i < AHEAD_NUMBER_BYTES / 2; i++)
		numbers[i] = (uint16_t)(0x3c00 + kernel_test_random(64));
	for (uint32_t i = 0; i < 64; i++)
		order[i] = i;
	return (struct ahead_data){
		.numbers = kernel_test_upload(numbers, sizeof(numbers)),
		.out = kernel_test_device(AHEAD_OUT_BYTES),
		.positions = kernel_test_upload(positions, sizeof(positions)),
		.order = kernel_test_upload(order, sizeof(order)),
		.workspace = zeroed(CUDA_PRODUCT_WORKSPACE_BYTES),
		.attention = zeroed(attention_workspace_bytes(&ahead_shape)),
		.sampler = zeroed(sample_bytes(1000, 2, 0)),
	};
}

/* ---- the launches: a cudaError_t, of the kernel that asks and what has to go before it ---- */

static int run_norm(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct rows_out out = {type, d->out, (float *)(void *)(d->out + AHEAD_OUT_BYTES - 64)};
	struct rows_norm n = {
		.x = (float *)(void *)d->numbers,
		.weight = (float *)(void *)(d->numbers + 4096),
		.eps = 1e-5f,
		.n_rows = 3,
		.cols = 288,
		.ahead = a,
	};

	return rows_norm(&n, &out, NULL);
}

static int norm_wide(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct rows_out out = {type, d->out, NULL};
	struct rows_norm n = {
		.x = (float *)(void *)d->numbers,
		.weight = (float *)(void *)(d->numbers + AHEAD_NUMBER_BYTES / 2),
		.n_rows = 1,
		.cols = 8196, /* more than a block has in four pieces a thread */
		.ahead = a,
	};

	return rows_norm(&n, &out, NULL);
}

static int run_glu(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct rows_out out = {type, d->out, (float *)(void *)(d->out + AHEAD_OUT_BYTES - 64)};
	struct rows_glu g = {
		.act = CUDA_TYPE_BF16,
		.gate = d->numbers,
		.up = d->numbers + 4096,
		.ld = 1120,
		.n_rows = 2,
		.cols = 1120,
		.ahead = a,
	};

	return rows_glu(&g, &out, NULL);
}

static int run_convert(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct rows_out out = {type, d->out, (float *)(void *)(d->out + AHEAD_OUT_BYTES - 64)};
	struct rows_glu g = {.act = CUDA_TYPE_BF16,
		.gate = d->numbers,
		.ld = 96,
		.n_rows = 8,
		.cols = 96,
		.ahead = a};

	return rows_glu(&g, &out, NULL);
}

static int run_embed(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct rows_embed e = {.data = d->numbers,
		.file_type = type == CUDA_TYPE_Q8 ? TENSOR_Q8_0 : TENSOR_BF16,
		.n_vocab = 100,
		.cols = 544,
		.scale = 1,
		.ahead = a};

	return rows_embed(&e, d->order + 7, 3, (float *)(void *)d->out, NULL);
}

static int run_rope(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_kv kv = {d->out + 8192, d->out + 32768, type, 2, 64};
	struct rows_rope r = {
		.act = CUDA_TYPE_BF16,
		.q = d->out,
		.k = d->numbers,
		.v = d->numbers + 4096,
		.ld_q = 256,
		.ld_kv = 128,
		.n_rows = 3,
		.n_heads = 4,
		.rope_dim = 64,
		.scale = 0.125f,
		.cs = (const float *)(const void *)d->numbers,
		.pos = d->positions,
		.slot = d->positions,
		.ahead = a,
	};
	int rc = cudaMemcpyAsync(d->out, d->numbers, 3 * 256 * 2, cudaMemcpyDeviceToDevice, NULL);

	return rc ? rc : rows_rope(&r, &kv, NULL);
}

static int run_attention(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	bool plain = type == CUDA_TYPE_F32;
	const struct attention_shape *shape = plain ? &ahead_plain_shape : &ahead_shape;
	struct cuda_rows rows = {
		.pos = d->positions,
		.slot = d->positions,
		.run = d->order,
		.first_row = d->order,
		.first_pos = d->positions,
		.blocks = d->order,
		.max_blocks = 3,
	};
	struct attention_step step = {
		.shape = shape,
		.rows = &rows,
		.decode = true,
		.n_rows = 3,
		.n_runs = 3,
		.workspace = d->attention,
		.ahead = a,
	};
	struct cuda_kv kv = {d->numbers, d->numbers + AHEAD_NUMBER_BYTES / 2, shape->kv,
		shape->n_kv_heads, shape->head_dim};
	struct rows_out out = {shape->act, d->out, NULL};
	int rc = attention_plan(&step, NULL);

	return rc ? rc
		  : attention_run(&step, &kv, d->numbers, (size_t)shape->n_heads * shape->head_dim,
			    &out, NULL);
}

static struct cuda_product product(const struct ahead_data *d, struct cuda_ahead a, uint32_t n_rows)
{
	return (struct cuda_product){.x = d->numbers + AHEAD_NUMBER_BYTES / 2,
		.n_rows = n_rows,
		.out = d->out,
		.ld = 104,
		.type = CUDA_TYPE_BF16,
		.workspace = d->workspace,
		.n_sm = 4,
		.ahead = a};
}

/* 100 rows: 7 blocks of the 8 that 4 multiprocessors have. */
static int run_gemv(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_product p = product(d, a, 3);
	const float *scale = (const float *)(const void *)d->numbers;

	if (type == CUDA_TYPE_E4M3)
		return cuda_gemv_fp8(d->numbers, scale, 100, 1024, scale, &p, NULL);
	return cuda_gemv(type, d->numbers, 100, 512, &p, NULL);
}

/* Fewer tiles than that, so that columns are cut: the grid has two dimensions. */
static int gemv_in_parts(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_product p = product(d, a, 8);

	return cuda_gemv(type, d->numbers, 20, 8192, &p, NULL);
}

/* More blocks than the device has at a time: only the last ones ask. */
static int gemv_of_many(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_product p = product(d, a, 1);

	p.n_sm = 1;
	return cuda_gemv(type, d->numbers, 104, 256, &p, NULL);
}

static int run_gated(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_product p = product(d, a, 2);

	p.type = type;
	return cuda_gemv_gated(type, d->numbers, 50, 512, ROWS_SWIGLU, &p, NULL);
}

static int run_gemv_q(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct cuda_quant_matrix w = {
		type == CUDA_TYPE_Q8 ? TENSOR_Q8_0 : TENSOR_Q4_K, 100, 512, d->numbers};
	struct cuda_product p = product(d, a, type == CUDA_TYPE_Q8 ? 1 : 8);

	return cuda_gemv_q(&w, &p, NULL);
}

static int run_sample(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type)
{
	struct sample_row rows[2] = {
		sample_row_of(&(struct engine_sampling){.top_p = 1}, 9, SAMPLE_NONE, false, false)};
	struct sample_state s;
	struct sample_step step = {
		.logits = (float *)(void *)d->numbers,
		.ld = 1000,
		.n_rows = 2,
		.rows = kernel_test_upload(rows, sizeof(rows)),
		.picked = (uint32_t *)(void *)d->out,
		.n_processors = 4,
		.ahead = a,
	};

	(void)type;
	sample_place(&s, 1000, 2, 0, d->sampler);
	return sample_run(&s, &step, NULL);
}

static const struct ahead_case {
	const char *name;
	int (*run)(const struct ahead_data *d, struct cuda_ahead a, enum cuda_type type);
	enum cuda_type type;
	bool product;    /* asks at its end, else before device_begin() */
	uint32_t blocks; /* that ask, at most; 0: as many as it is told */
} ahead_cases[] = {
	{"norm to f32", run_norm, CUDA_TYPE_F32, false, 0},
	{"norm to bf16", run_norm, CUDA_TYPE_BF16, false, 0},
	{"norm to e4m3", run_norm, CUDA_TYPE_E4M3, false, 0},
	{"norm to q8", run_norm, CUDA_TYPE_Q8, false, 0},
	{"norm of wide rows", norm_wide, CUDA_TYPE_F16, false, 0},
	{"glu to f16", run_glu, CUDA_TYPE_F16, false, 0},
	{"glu to q8", run_glu, CUDA_TYPE_Q8, false, 0},
	{"glu to e4m3", run_glu, CUDA_TYPE_E4M3, false, 0},
	{"conversion to q8", run_convert, CUDA_TYPE_Q8, false, 0},
	{"conversion to e4m3", run_convert, CUDA_TYPE_E4M3, false, 0},
	{"embedding of bf16", run_embed, CUDA_TYPE_BF16, false, 0},
	{"embedding of q8_0", run_embed, CUDA_TYPE_Q8, false, 0},
	{"rotation", run_rope, CUDA_TYPE_BF16, false, 0},
	{"rotation to e4m3", run_rope, CUDA_TYPE_E4M3, false, 0},
	{"attention", run_attention, CUDA_TYPE_BF16, false, 0},
	{"plain attention", run_attention, CUDA_TYPE_F32, false, 0},
	{"product of f32", run_gemv, CUDA_TYPE_F32, true, 0},
	{"product of f16", run_gemv, CUDA_TYPE_F16, true, 0},
	{"product of bf16", run_gemv, CUDA_TYPE_BF16, true, 0},
	{"product of e4m3", run_gemv, CUDA_TYPE_E4M3, true, 0},
	{"product in parts", gemv_in_parts, CUDA_TYPE_BF16, true, 0},
	{"product of many blocks", gemv_of_many, CUDA_TYPE_BF16, true, 2},
	{"gate and up", run_gated, CUDA_TYPE_BF16, true, 0},
	{"product of q8_0", run_gemv_q, CUDA_TYPE_Q8, true, 0},
	{"product of q4_k", run_gemv_q, CUDA_TYPE_BF16, true, 0},
	{"sampling", run_sample, CUDA_TYPE_F32, false, 0},
};

#define AHEAD_CASES (sizeof(ahead_cases) / sizeof(ahead_cases[0]))

#endif
