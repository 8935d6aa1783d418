/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the engine computes a model, beside what the machine could do at most: reading memory at
 * full speed with the same threads, measured in the same run. All measurements are repeated in
 * turns, so that a slow minute of a shared machine hits all of them, and the medians are printed.
 *
 * usage: bench-engine [-t THREADS] [-r ROUNDS] [-p PATH] [-b BATCHES] FILE.gguf
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/pool.h"

#define PREFILL_TOK 512
#define CONTEXT_TOK 64 /* already computed of each sequence when decoding is measured */
#define MAX_BATCH 32
#define MAX_ROUNDS 101
#define SEQ_BLOCKS ((CONTEXT_TOK + 192) / KV_BLOCK_TOK)
#define MEMORY_BYTES ((size_t)1 << 30)
#define READ_CHUNK ((size_t)64 << 10)

static const uint32_t batches[] = {1, 2, 4, 8, 16, 32};
#define N_BATCHES (sizeof batches / sizeof batches[0])

struct bench {
	struct model *model;
	struct pool *pool; /* for reading */
	uint8_t *memory;   /* [MEMORY_BYTES] */
	volatile uint64_t sink;
	uint32_t ids[PREFILL_TOK];
	uint32_t blocks[MAX_BATCH][SEQ_BLOCKS];
	uint32_t n_rounds, n_decoded;
	size_t weight_bytes; /* read by a step of one token */
	double decode_s[N_BATCHES][MAX_ROUNDS], prefill_s[MAX_ROUNDS];
	double read_far[MAX_ROUNDS],
		read_near[MAX_ROUNDS]; /* bytes a second: of MEMORY_BYTES, of weight_bytes */
};

static double seconds_since(uint64_t start_ns)
{
	return (double)(clock_mono_ns() - start_ns) * 1e-9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, uint32_t n)
{
	qsort(v, n, sizeof *v, compare);
	return v[n / 2];
}

/* ---- reading memory ---- */

static void read_units(void *arg, uint32_t first, uint32_t last, uint32_t thread)
{
	struct bench *b = arg;
	typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));
	const wide *p = (const void *)(b->memory + first * READ_CHUNK);
	size_t n = (last - first) * READ_CHUNK / sizeof *p;
	wide a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};

	for (size_t i = 0; i < n; i += 4) {
		a0 ^= p[i];
		a1 ^= p[i + 1];
		a2 ^= p[i + 2];
		a3 ^= p[i + 3];
	}
	a0 ^= a1 ^ a2 ^ a3;
	b->sink = a0[0] ^ a0[7];
}

/* Bytes a second over the first n bytes, which were just read once if that is possible. */
static double read_rate(struct bench *b, size_t n)
{
	uint32_t units = (uint32_t)(n / READ_CHUNK);

	pool_run(b->pool, read_units, b, units, 16);
	uint64_t start = clock_mono_ns();
	pool_run(b->pool, read_units, b, units, 16);
	return (double)(units * READ_CHUNK) / seconds_since(start);
}

/* ---- the model ---- */

static void step(struct bench *b, const struct batch_run *runs, uint32_t n)
{
	struct err err = {""};

	if (model_step(b->model, runs, n, NULL, &err) < 0) {
		fprintf(stderr, "bench-engine: %s\n", err.text);
		exit(1);
	}
}

static double prefill(struct bench *b)
{
	uint32_t blocks[PREFILL_TOK / KV_BLOCK_TOK];
	struct batch_run run = {
		.ids = b->ids, .n = PREFILL_TOK, .blocks = blocks, .n_logit_rows = 1};

	for (uint32_t i = 0; i < PREFILL_TOK / KV_BLOCK_TOK; i++)
		blocks[i] = MAX_BATCH * SEQ_BLOCKS + i;
	uint64_t start = clock_mono_ns();
	step(b, &run, 1);
	return seconds_since(start);
}

static double decode(struct bench *b, uint32_t n, uint32_t n_steps)
{
	struct batch_run runs[MAX_BATCH];
	uint64_t start = clock_mono_ns();

	for (uint32_t s = 0; s < n_steps; s++) {
		for (uint32_t i = 0; i < n; i++)
			runs[i] = (struct batch_run){
				.ids = b->ids + (s * n + i) % PREFILL_TOK,
				.n = 1,
				.first_pos = CONTEXT_TOK + s,
				.blocks = b->blocks[i],
				.n_logit_rows = 1,
			};
		step(b, runs, n);
	}
	return seconds_since(start) / n_steps;
}

static void fill_context(struct bench *b)
{
	for (uint32_t i = 0; i < MAX_BATCH; i++) {
		for (uint32_t k = 0; k < SEQ_BLOCKS; k++)
			b->blocks[i][k] = i * SEQ_BLOCKS + k;
		struct batch_run run = {.ids = b->ids, .n = CONTEXT_TOK, .blocks = b->blocks[i]};
		step(b, &run, 1);
	}
}

/* Bytes of weights a decode step reads: all but the table of embeddings, unless that is the output
 * too. */
static size_t weight_bytes(const struct gguf *g)
{
	size_t n = 0;

	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		if (strcmp(t->name, "token_embd.weight") != 0 || !gguf_tensor(g, "output.weight"))
			n += t->bytes;
	}
	return n;
}

static void measure(struct bench *b)
{
	size_t near = b->weight_bytes < MEMORY_BYTES ? b->weight_bytes : MEMORY_BYTES;

	for (uint32_t r = 0; r < b->n_rounds; r++) {
		b->read_far[r] = read_rate(b, MEMORY_BYTES);
		b->read_near[r] = read_rate(b, near);
		for (size_t i = 0; i < b->n_decoded; i++) {
			double once = decode(
				b, batches[i], 1); /* and the weights are where they can be */
			uint32_t steps = (uint32_t)(0.25 / once);
			b->decode_s[i][r] = decode(b, batches[i],
				steps < 2    ? 2
				: steps > 64 ? 64
					     : steps);
		}
		b->prefill_s[r] = prefill(b);
	}
}

static void report(struct bench *b)
{
	double far = median(b->read_far, b->n_rounds), near = median(b->read_near, b->n_rounds);
	double gb = (double)b->weight_bytes * 1e-9, first = 0;

	printf("read bandwidth: %.1f GB/s over 1 GiB, %.1f GB/s over as much as the weights\n",
		far * 1e-9, near * 1e-9);
	printf("%-12s %10s %10s %8s %8s %10s %10s\n", "", "tok/s", "ms/step", "x of 1", "GB/s",
		"of 1 GiB", "of weights");
	for (size_t i = 0; i < b->n_decoded; i++) {
		double s = median(b->decode_s[i], b->n_rounds), rate = batches[i] / s;
		first = i == 0 ? rate : first;
		printf("decode %-5u %10.1f %10.2f %8.2f %8.1f %9.0f%% %9.0f%%\n", batches[i], rate,
			s * 1e3, rate / first, gb / s, 100 * gb * 1e9 / s / far,
			100 * gb * 1e9 / s / near);
	}
	double s = median(b->prefill_s, b->n_rounds);
	printf("prefill %-4u %10.1f %10.2f\n", PREFILL_TOK, PREFILL_TOK / s, s * 1e3);
}

static int open_model(
	struct bench *b, const char *path, struct gguf **g, const char *cpu, uint32_t threads)
{
	struct err err = {""};
	struct model_options o = {
		.n_threads = threads,
		.cpu_path = cpu,
		.max_rows = PREFILL_TOK,
		.max_logit_rows = MAX_BATCH,
		.kv_blocks = MAX_BATCH * SEQ_BLOCKS + PREFILL_TOK / KV_BLOCK_TOK,
	};
	uint64_t start = clock_mono_ns();
	int r = gguf_open(g, path, 0, &err);

	if (!r)
		r = model_new(&b->model, *g, &o, &err);
	if (r) {
		fprintf(stderr, "bench-engine: %s: %s\n", path, err.text);
		return r;
	}
	b->weight_bytes = weight_bytes(*g);
	printf("%s: %s, %s, %u threads, %.1f M parameters, %.0f MB, opened in %.2f s\n", path,
		model_file_type(b->model), model_backend(b->model), threads,
		(double)model_n_parameters(b->model) * 1e-6, (double)gguf_file_bytes(*g) * 1e-6,
		seconds_since(start));
	return 0;
}

static int usage(void)
{
	fputs("usage: bench-engine [-t THREADS] [-r ROUNDS] [-p PATH] [-b LARGEST_BATCH] "
	      "FILE.gguf\n",
		stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct gguf *g = NULL;
	const char *cpu = NULL;
	long threads = sysconf(_SC_NPROCESSORS_ONLN), rounds = 7, largest = MAX_BATCH;

	for (int c; (c = getopt(argc, argv, "t:r:p:b:")) != -1;) {
		if (c == 't')
			threads = strtol(optarg, NULL, 10);
		else if (c == 'r')
			rounds = strtol(optarg, NULL, 10);
		else if (c == 'b')
			largest = strtol(optarg, NULL, 10);
		else if (c == 'p')
			cpu = optarg;
		else
			return usage();
	}
	if (optind != argc - 1 || threads < 1 || threads > 256 || rounds < 1 || rounds > MAX_ROUNDS)
		return usage();
	if (open_model(&b, argv[optind], &g, cpu, (uint32_t)threads) != 0)
		return 1;
	b.n_rounds = (uint32_t)rounds;
	while (b.n_decoded < N_BATCHES && batches[b.n_decoded] <= largest)
		b.n_decoded++;
	b.pool = pool_new((uint32_t)threads);
	b.memory = mmap(
		NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b.memory = b.memory == MAP_FAILED ? NULL : b.memory;
	if (!b.pool || !b.memory) {
		fputs("bench-engine: out of memory\n", stderr);
		return 1;
	}
	madvise(b.memory, MEMORY_BYTES, MADV_HUGEPAGE); /* as the weights are */
	memset(b.memory, 1, MEMORY_BYTES);
	for (uint32_t i = 0; i < PREFILL_TOK; i++)
		b.ids[i] = i * 7919 % model_config(b.model)->n_vocab;
	fill_context(&b);
	measure(&b);
	report(&b);
	munmap(b.memory, MEMORY_BYTES);
	pool_free(b.pool);
	model_free(b.model);
	gguf_free(g);
	return 0;
}
