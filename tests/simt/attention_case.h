/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_ATTENTION_CASE_H
#define TESTS_SIMT_ATTENTION_CASE_H

/* Attention of a step against f64. */
#include "tests/simt/attention_data.h"

/* One query vector. */
static void attend(const struct attention_case *c, const struct attention_data *d, uint32_t row,
	uint32_t head, double *out)
{
	uint32_t n = d->pos[row] + 1, kv_head = head / (c->n_heads / c->n_kv_heads);
	double score[MAX_CONTEXT], most = -INFINITY, sum = 0;
	const uint32_t *blocks = d->blocks + (size_t)d->run[row] * d->max_blocks;
	const float *q = d->q_wide + row * d->ld_q + head * c->head_dim;

	EXPECT(n <= MAX_CONTEXT);
	for (uint32_t p = 0; p < n; p++) {
		const float *k = d->k_wide + kv_at(c, blocks[p / 16], kv_head, p % 16);
		score[p] = 0;
		for (uint32_t i = 0; i < c->head_dim; i++)
			score[p] += (double)q[i] * k[i];
		most = score[p] > most ? score[p] : most;
	}
	memset(out, 0, c->head_dim * sizeof *out);
	for (uint32_t p = 0; p < n; p++) {
		const float *v = d->v_wide + kv_at(c, blocks[p / 16], kv_head, p % 16);
		double w = exp2(score[p] - most);
		sum += w;
		for (uint32_t i = 0; i < c->head_dim; i++)
			out[i] += w * v[i];
	}
	for (uint32_t i = 0; i < c->head_dim; i++)
		out[i] /= sum;
}

/* Weights of the softmax are rounded to 16 bits before they are multiplied, on the fast path. */
static double tolerance(const struct attention_case *c)
{
	double by_out = values_tolerance(c->out), by_act = values_tolerance(c->act);

	return by_out > by_act ? by_out : by_act;
}

static void check_out(const struct attention_case *c, const struct attention_data *d,
	const void *device, size_t bytes)
{
	uint8_t *out = kernel_test_host(bytes);
	uint32_t n = c->n_heads * c->head_dim, n_real = d->n_rows - c->n_padding;
	float *got = kernel_test_host(c->head_dim * sizeof *got);
	double *want = kernel_test_host(c->head_dim * sizeof *want);

	kernel_test_download(out, device, bytes);
	for (uint32_t row = 0; row < n_real; row++) {
		for (uint32_t h = 0; h < c->n_heads; h++) {
			attend(c, d, row, h, want);
			for (uint32_t i = 0; i < c->head_dim; i++)
				got[i] = c->out == CUDA_TYPE_Q8
						 ? values_q8(out, n, row, h * c->head_dim + i)
						 : values_get(out, c->out,
							   (size_t)row * n + h * c->head_dim + i);
			EXPECT_ERROR(got, want, c->head_dim, tolerance(c));
		}
	}
	if (c->out != CUDA_TYPE_Q8) { /* padding is left as it is */
		size_t from = (size_t)n_real * n * cuda_type_bytes(c->out);
		for (size_t i = from; i < bytes; i++)
			EXPECT_EQUAL(out[i], 0xff);
	}
}

/* A graph is captured and run while every row is the first of its sequence; then, with the
 * positions of the case, it is run again. */
static void run_captured(const struct attention_step *step, const struct cuda_kv *kv, const void *q,
	const struct attention_data *d, const struct rows_out *out)
{
	size_t bytes = d->n_rows * sizeof *d->pos;
	const void *positions[2] = {kernel_test_host(bytes), d->pos};
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;

	EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(attention_plan(step, stream));
	EXPECT_CUDA(attention_run(step, kv, q, d->ld_q, out, stream));
	EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
	EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
	for (int i = 0; i < 2; i++) {
		EXPECT_CUDA(cudaMemcpyAsync(
			step->rows->pos, positions[i], bytes, cudaMemcpyHostToDevice, stream));
		EXPECT_CUDA(cudaGraphLaunch(exec, stream));
		EXPECT_CUDA(cudaStreamSynchronize(stream));
	}
	EXPECT_CUDA(cudaGraphExecDestroy(exec));
	EXPECT_CUDA(cudaGraphDestroy(graph));
	EXPECT_CUDA(cudaStreamDestroy(stream));
}

static void check(const struct attention_case *c)
{
	struct attention_data d = make(c);
	struct attention_device on;

	bring(c, &d, &on);
	if (c->captured) {
		run_captured(&on.step, &on.kv, on.q, &d, &on.out);
		check_out(c, &d, on.out.data, on.out_bytes);
		return;
	}
	EXPECT_CUDA(attention_plan(&on.step, NULL));
	for (int layer = 0; layer < 2; layer++) { /* the workspace is ready for the next one */
		EXPECT_CUDA(cudaMemset(on.out.data, 0xff, on.out_bytes));
		EXPECT_CUDA(cudaDeviceSynchronize());
		EXPECT_CUDA(attention_run(&on.step, &on.kv, on.q, d.ld_q, &on.out, NULL));
	}
	check_out(c, &d, on.out.data, on.out_bytes);
}

#endif
