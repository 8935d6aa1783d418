/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_ATTENTION_DATA_H
#define TESTS_SIMT_ATTENTION_DATA_H

/*
 * Steps for tests of attention: some runs, and rows of padding, over a cache whose unused parts are
 * NaN: whatever is read that should not be shows in the result.
 */
#include "engine/cuda/attention.h"
#include "tests/simt/values.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MAX_RUNS 300
#define MAX_CONTEXT 1024

struct run {
	uint32_t first_pos, n;
};

struct attention_case {
	enum cuda_type act, kv, out;
	uint32_t n_heads, n_kv_heads, head_dim;
	bool decode;
	uint32_t n_runs;
	struct run runs[MAX_RUNS];
	uint32_t n_padding; /* rows behind the last run */
	uint32_t n_processors;
	bool one_matrix; /* q is part of longer rows */
	bool captured;   /* in a graph, while all contexts were of one token */
};

/* The arrays of a case, on the host. */
struct attention_data {
	uint32_t n_rows, max_blocks, n_pool;
	size_t ld_q;
	uint8_t *q, *k, *v;
	float *q_wide, *k_wide, *v_wide; /* the same, rounded, as f32 */
	size_t q_bytes, kv_bytes;
	uint32_t *pos, *slot, *run, *first_row, *first_pos, *blocks;
};

static size_t kv_at(const struct attention_case *c, uint32_t block, uint32_t head, uint32_t row)
{
	return (((size_t)block * c->n_kv_heads + head) * 16 + row) * c->head_dim;
}

static float *widened(const void *p, enum cuda_type type, size_t bytes)
{
	size_t n = bytes / cuda_type_bytes(type);
	float *wide = kernel_test_host(n * sizeof *wide);

	for (size_t i = 0; i < n; i++)
		wide[i] = values_get(p, type, i);
	return wide;
}

/* Each run gets blocks of its own, in any order; the last block of the pool stays unused. */
static void fill_cache(const struct attention_case *c, struct attention_data *d)
{
	uint32_t *order = kernel_test_host(d->n_pool * sizeof *order), used = 0;

	for (uint32_t i = 0; i < d->n_pool; i++) {
		uint32_t other = kernel_test_random(i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	memset(d->k, 0xff, d->kv_bytes);
	memset(d->v, 0xff, d->kv_bytes);
	for (uint32_t r = 0; r < c->n_runs; r++) {
		uint32_t len = c->runs[r].first_pos + c->runs[r].n;
		for (uint32_t pos = 0; c->runs[r].n && pos < len; pos++) {
			uint32_t *block = d->blocks + r * d->max_blocks + pos / 16;
			if (pos % 16 == 0)
				*block = order[used++];
			for (uint32_t i = 0; i < c->n_kv_heads * c->head_dim; i++) {
				size_t at = kv_at(c, *block, i / c->head_dim, pos % 16) +
					    i % c->head_dim;
				values_set(d->k, c->kv, at, 2 * kernel_test_random_float());
				values_set(d->v, c->kv, at,
					kernel_test_random_float() + (float)(pos % 3));
			}
		}
	}
	EXPECT(used < d->n_pool);
}

static void number_rows(const struct attention_case *c, struct attention_data *d)
{
	uint32_t row = 0;

	for (uint32_t r = 0; r < c->n_runs; r++) {
		d->first_row[r] = row;
		d->first_pos[r] = c->runs[r].first_pos;
		for (uint32_t i = 0; i < c->runs[r].n; i++, row++) {
			d->run[row] = r;
			d->pos[row] = c->runs[r].first_pos + i;
			d->slot[row] = d->blocks[r * d->max_blocks + d->pos[row] / 16] * 16 +
				       d->pos[row] % 16;
		}
	}
	d->first_row[c->n_runs] = row;
	for (; row < d->n_rows; row++) { /* padding: numbers that would fault if they were used */
		d->run[row] = d->pos[row] = 1u << 30;
		d->slot[row] = CUDA_NO_SLOT;
	}
}

static struct attention_data make(const struct attention_case *c)
{
	struct attention_data d = {.n_rows = c->n_padding, .max_blocks = 1, .n_pool = 1};
	size_t n_q = (size_t)c->n_heads * c->head_dim;

	for (uint32_t r = 0; r < c->n_runs; r++) {
		uint32_t blocks = (c->runs[r].first_pos + c->runs[r].n + 15) / 16;
		d.n_rows += c->runs[r].n;
		d.n_pool += blocks;
		d.max_blocks = blocks > d.max_blocks ? blocks : d.max_blocks;
	}
	d.ld_q = c->one_matrix ? n_q + 2 * (size_t)c->n_kv_heads * c->head_dim : n_q;
	d.q_bytes = d.n_rows * d.ld_q * cuda_type_bytes(c->act);
	d.kv_bytes = kv_at(c, d.n_pool, 0, 0) * cuda_type_bytes(c->kv);
	d.q = kernel_test_host(d.q_bytes);
	d.k = kernel_test_host(d.kv_bytes);
	d.v = kernel_test_host(d.kv_bytes);
	d.pos = kernel_test_host(d.n_rows * sizeof *d.pos);
	d.slot = kernel_test_host(d.n_rows * sizeof *d.slot);
	d.run = kernel_test_host(d.n_rows * sizeof *d.run);
	d.first_row = kernel_test_host((c->n_runs + 1) * sizeof *d.first_row);
	d.first_pos = kernel_test_host((c->n_runs + 1) * sizeof *d.first_pos);
	d.blocks = kernel_test_host((size_t)(c->n_runs + 1) * d.max_blocks * sizeof *d.blocks);
	memset(d.blocks, 0xff, (size_t)(c->n_runs + 1) * d.max_blocks * sizeof *d.blocks);
	memset(d.q, 0xff, d.q_bytes);
	/* As rows_rope leaves it. The scores of a row spread over some units, like real ones. */
	for (size_t i = 0; i < d.n_rows * n_q; i++)
		values_set(d.q, c->act, i / n_q * d.ld_q + i % n_q,
			6 * kernel_test_random_float() / sqrtf((float)c->head_dim));
	fill_cache(c, &d);
	number_rows(c, &d);
	d.q_wide = widened(d.q, c->act, d.q_bytes);
	d.k_wide = widened(d.k, c->kv, d.kv_bytes);
	d.v_wide = widened(d.v, c->kv, d.kv_bytes);
	return d;
}

/* A case on the device. step points to shape and rows, so it stays where it was made. */
struct attention_device {
	struct attention_shape shape;
	struct cuda_rows rows;
	struct cuda_kv kv;
	struct attention_step step;
	uint8_t *q;
	struct rows_out out;
	size_t out_bytes;
};

static void bring(
	const struct attention_case *c, const struct attention_data *d, struct attention_device *on)
{
	size_t n = (size_t)c->n_heads * c->head_dim, u32 = sizeof(uint32_t);

	on->shape = (struct attention_shape){
		.act = c->act,
		.kv = c->kv,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.head_dim = c->head_dim,
		.n_processors = c->n_processors ? c->n_processors : 4,
		.max_rows = d->n_rows,
		.max_runs = c->n_runs,
	};
	on->rows = (struct cuda_rows){
		.pos = kernel_test_upload(d->pos, d->n_rows * u32),
		.slot = kernel_test_upload(d->slot, d->n_rows * u32),
		.run = kernel_test_upload(d->run, d->n_rows * u32),
		.first_row = kernel_test_upload(d->first_row, (c->n_runs + 1) * u32),
		.first_pos = kernel_test_upload(d->first_pos, (c->n_runs + 1) * u32),
		.blocks = kernel_test_upload(d->blocks, (size_t)c->n_runs * d->max_blocks * u32),
		.max_blocks = d->max_blocks,
	};
	on->kv = (struct cuda_kv){kernel_test_upload(d->k, d->kv_bytes),
		kernel_test_upload(d->v, d->kv_bytes), c->kv, c->n_kv_heads, c->head_dim};
	size_t workspace = attention_workspace_bytes(&on->shape);
	EXPECT(workspace > 0);
	on->step = (struct attention_step){
		.shape = &on->shape,
		.rows = &on->rows,
		.decode = c->decode,
		.n_rows = d->n_rows,
		.n_runs = c->n_runs,
		.workspace = kernel_test_device(workspace),
	};
	on->q = kernel_test_upload(d->q, d->q_bytes);
	on->out_bytes = c->out == CUDA_TYPE_Q8 ? cuda_quant_q8_bytes(d->n_rows, (uint32_t)n)
					       : d->n_rows * n * cuda_type_bytes(c->out);
	on->out = (struct rows_out){.type = c->out, .data = kernel_test_device(on->out_bytes)};
	EXPECT_CUDA(cudaMemset(on->step.workspace, 0, workspace));
	EXPECT_CUDA(cudaMemset(on->out.data, 0xff, on->out_bytes));
	EXPECT_CUDA(cudaDeviceSynchronize());
}

/* act, cache, output of the fast kernels, and of the plain one. */
static const enum cuda_type fast_types[][3] = {
	{CUDA_TYPE_BF16, CUDA_TYPE_BF16, CUDA_TYPE_BF16},
	{CUDA_TYPE_F16, CUDA_TYPE_F16, CUDA_TYPE_F16},
	{CUDA_TYPE_BF16, CUDA_TYPE_E4M3, CUDA_TYPE_F32},
	{CUDA_TYPE_F16, CUDA_TYPE_E4M3, CUDA_TYPE_F16},
};

static struct attention_case new_case(
	const enum cuda_type types[3], uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim)
{
	return (struct attention_case){.act = types[0],
		.kv = types[1],
		.out = types[2],
		.n_heads = n_heads,
		.n_kv_heads = n_kv_heads,
		.head_dim = head_dim};
}

static void add_run(struct attention_case *c, uint32_t first_pos, uint32_t n)
{
	c->runs[c->n_runs++] = (struct run){first_pos, n};
}

/* heads, KV heads, head_dim. Each test takes every other one for a type: those of the mixed steps
 * are the other half. */
static const uint32_t shapes[][3] = {
	{2, 2, 32}, {4, 1, 64}, {16, 2, 128}, {7, 1, 80}, {3, 1, 96}, {2, 1, 256}, {20, 1, 64}};

#endif
