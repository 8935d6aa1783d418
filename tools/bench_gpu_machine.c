/* SPDX-License-Identifier: Apache-2.0 */
/* The rates that a model's are held against, each the best of ten. */
#include "tools/bench_gpu_machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/cuda/context.h"
#include "engine/cuda/matmul.h"
#include "engine/cuda/memory.h"

void bench_gpu_machine_die(const struct err *err)
{
	fprintf(stderr, "bench-gpu: %s\n", err->text);
	exit(1);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void must(struct cuda_context *c, int code, const char *doing)
{
	struct err err = {""};

	if (cuda_context_fault(c, code, doing, &err) < 0)
		bench_gpu_machine_die(&err);
}

static double between(struct cuda_context *c, cudaEvent_t from, cudaEvent_t to)
{
	float ms;

	must(c, cudaEventSynchronize(to), "measuring");
	must(c, cudaEventElapsedTime(&ms, from, to), "measuring");
	return (double)ms * 1e-3;
}

/* Bytes read and written a second by a copy within the device. */
static double measure_copy(struct cuda_context *c, uint8_t *memory, size_t n, cudaEvent_t e[2])
{
	double best = 0;

	for (int i = 0; i < 10; i++) {
		must(c, cudaEventRecord(e[0], c->stream), "measuring");
		must(c, cudaMemcpyAsync(memory + n, memory, n, cudaMemcpyDeviceToDevice, c->stream),
			"copying");
		must(c, cudaEventRecord(e[1], c->stream), "measuring");
		double rate = 2 * (double)n / between(c, e[0], e[1]);
		best = rate > best ? rate : best;
	}
	return best;
}

/* Operations a second of n x n matrices of bf16. */
static double measure_dense(struct cuda_context *c, uint8_t *memory, uint32_t n, cudaEvent_t e[2])
{
	size_t bytes = (size_t)n * n * 2;
	struct cuda_matmul_product p = {
		.w = memory,
		.x = memory + bytes,
		.out = memory + 2 * bytes,
		.type = CUDA_TYPE_BF16,
		.out_type = CUDA_TYPE_BF16,
		.ld = n,
		.n_rows = n,
		.rows = n,
		.cols = n,
	};
	struct cuda_matmul *m;
	struct err err = {""};
	double best = 0;

	if (cuda_matmul_new(&m, c, memory + 3 * bytes, &err) < 0)
		bench_gpu_machine_die(&err);
	for (int i = 0; i < 10; i++) {
		must(c, cudaEventRecord(e[0], c->stream), "measuring");
		if (cuda_matmul_run(m, &p, &err) < 0)
			bench_gpu_machine_die(&err);
		must(c, cudaEventRecord(e[1], c->stream), "measuring");
		double rate = 2.0 * n * n * n / between(c, e[0], e[1]);
		best = rate > best ? rate : best;
	}
	cuda_matmul_free(m);
	return best;
}

void bench_gpu_machine_measure(struct bench_gpu_machine *m, uint32_t gpu, bool small)
{
	struct cuda_context c = {0};
	struct cuda_memory memory = {0};
	struct err err = {""};
	uint32_t n = small ? 64 : 8192;
	size_t matrices = 3 * (size_t)n * n * 2 + CUDA_MATMUL_WORKSPACE,
	       copied = small ? (size_t)1 << 20 : (size_t)1 << 30;
	cudaEvent_t e[2];
	int driver = 0;

	if (cuda_context_open(&c, gpu, nothing, NULL, &err) < 0)
		bench_gpu_machine_die(&err);
	cuda_memory_take(&memory, 2 * copied > matrices ? 2 * copied : matrices);
	if (cuda_memory_get(&memory, &c, "the measurements", &err) < 0)
		bench_gpu_machine_die(&err);
	must(&c, cudaEventCreate(&e[0]), "measuring");
	must(&c, cudaEventCreate(&e[1]), "measuring");
	must(&c, cudaMemsetAsync(memory.base, 0x3c, memory.bytes, c.stream), "measuring");
	cudaDriverGetVersion(&driver);
	m->copy = measure_copy(&c, memory.base, copied, e);
	m->dense = measure_dense(&c, memory.base, n, e);
	printf("GPU %u: %s, compute capability %u.%u, %.1f GB, L2 cache of %.1f MB, driver for "
	       "CUDA "
	       "%d.%d\n",
		gpu, c.name, c.major, c.minor, (double)c.memory_bytes * 1e-9,
		(double)c.l2_bytes * 0x1p-20, driver / 1000, driver % 1000 / 10);
	printf("copy: %.0f GB/s read and written; dense bf16 product: %.1f TFLOP/s\n",
		m->copy * 1e-9, m->dense * 1e-12);
	cudaEventDestroy(e[0]);
	cudaEventDestroy(e[1]);
	cuda_memory_end(&memory);
	cuda_context_leave(&c);
	cuda_context_close(&c);
}
