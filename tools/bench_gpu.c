/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a GPU computes a model, beside what it could do at most: copying its memory, and a large
 * dense product, both measured in the same run. Decoding is measured as the engine does it: tokens
 * are picked on the device, each step is begun before the one before it is finished, steps of a
 * size are replayed from a graph. What the KV cache holds does not matter for the time, so contexts
 * are as they are found.
 *
 * Gaps are a trace of the second run of a batch: how long between the last launch of a step and the
 * first of the next the device computed nothing of the model, by events in its stream, as a part of
 * the step: copies of tokens to the host and of the next step from it, and a host that is late.
 *
 * The limit of decoding is the time to read all weights and all keys and values once, or to do the
 * arithmetic, whichever is longer; that of prefill is the arithmetic at the measured dense rate. In
 * e4m3 a card can do twice that rate; the limit shown is that of bf16 all the same.
 *
 * usage: bench-gpu [-g GPU] [-f] [-k] [-t] [-s] [-d] [-a KB] [-c CONTEXT] [-r STEPS]
 *                  [-w WIDE,DENSE] FILE.gguf
 *        bench-gpu -m [-g GPU]
 *
 *   -m  only the machine: copy bandwidth, dense product
 *   -f  weights as FP8   -k  keys and values as FP8
 *   -t  tails: products of few rows do the norm or activation behind them, to compare
 *   -w  from how many rows on quantised weights are multiplied as bf16, and from how many on they
 *       are made so in memory first, instead of what is built in for the card, which a 0 leaves;
 *       9999,192 is how it was before there was the first of them
 *   -s  small: batches up to 8, prefill of 64 tokens (for trying it in the emulator)
 *   -d  only decoding, with 1 and with 8 sequences
 *   -a  KB of a matrix to be asked into the L2 cache before its product, in steps of few rows; 0,
 *       and without it: none
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/backend.h"
#include "engine/cuda_door.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "tools/bench_gpu_machine.h"

#define MAX_BATCH 256
#define MAX_PREFILL 8192
#define MAX_CONTEXT 16384
#define MAX_STEPS 1000
#define MAX_AHEAD_KB (1 << 20)

static const uint32_t batches[] = {1, 8, 16, 32, 64, 128, 256};
static const uint32_t prefills[] = {512, 8192};

struct bench {
	uint32_t gpu, context_tok, n_steps, wide_rows, dense_rows;
	bool small, few, fp8, kv_fp8, tails;
	int32_t ahead_kb; /* as struct model_options has it */
	struct bench_gpu_machine machine;
	struct gguf *gguf;
	struct model *model;
	uint32_t *ids;   /* [MAX_PREFILL] */
	uint32_t *table; /* [MAX_BATCH][blocks of a sequence] */
	uint32_t seq_blocks, kv_blocks;
	double weight_bytes, kv_bytes_tok, parameters; /* of a step of one token */
	double gap[MAX_STEPS];                         /* before a step, of that step */
	uint32_t n_gaps;
};

static double seconds_since(uint64_t start_ns)
{
	return (double)(clock_mono_ns() - start_ns) * 1e-9;
}

/* ---- the model ---- */

/* Bytes of weights and numbers of parameters that a step reads: all but the embeddings, unless they
 * are the output too. */
static void count_weights(struct bench *b)
{
	for (size_t i = 0; i < gguf_n_tensors(b->gguf); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(b->gguf, i);
		bool embd = strcmp(t->name, "token_embd.weight") == 0;
		bool out = strcmp(t->name, "output.weight") == 0;
		bool tied = !gguf_tensor(b->gguf, "output.weight");

		if (t->n_dims != 2 || (embd && !tied))
			continue;
		double n = (double)t->dim[0] * (double)t->dim[1];
		b->parameters += n;
		b->weight_bytes += b->fp8 && !embd && !out ? n : (double)t->bytes;
	}
}

static uint32_t largest_batch(const struct bench *b)
{
	return b->small || b->few ? 8 : MAX_BATCH;
}

static uint32_t largest_prefill(const struct bench *b)
{
	return b->small || b->few ? 64 : MAX_PREFILL;
}

static void open_model(struct bench *b, const char *path)
{
	struct model_options o = {
		.gpu = b->gpu,
		.fp8 = b->fp8,
		.kv_fp8 = b->kv_fp8,
		.ahead_kb = b->ahead_kb,
		.tails = b->tails,
		.wide_rows = b->wide_rows,
		.dense_rows = b->dense_rows,
		.n_threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
		.max_rows = largest_prefill(b),
		.max_runs = largest_batch(b),
		.max_logit_rows = largest_batch(b),
		.context_tok = b->context_tok + 2 * b->n_steps + 64 > largest_prefill(b)
				       ? b->context_tok + 2 * b->n_steps + 64
				       : largest_prefill(b),
		.kv_may_shrink = true,
	};
	struct err err = {""};

	b->seq_blocks = (b->context_tok + 2 * b->n_steps + 48) / KV_BLOCK_TOK + 1;
	uint32_t need = largest_batch(b) * b->seq_blocks, whole = largest_prefill(b) / KV_BLOCK_TOK;
	o.kv_blocks = need > whole ? need : whole;
	if (gguf_open(&b->gguf, path, 0, &err) < 0 ||
		cuda_door_backend(&o.backend, b->gpu, &err) < 0)
		bench_gpu_machine_die(&err);
	uint64_t start = clock_mono_ns();
	if (model_new(&b->model, b->gguf, &o, &err) < 0)
		bench_gpu_machine_die(&err);
	double s = seconds_since(start);
	count_weights(b);
	b->kv_blocks = model_kv_blocks(b->model);
	b->kv_bytes_tok = (double)model_kv_block_bytes(b->gguf, &o) / KV_BLOCK_TOK;
	b->ids = calloc(largest_prefill(b), sizeof(*b->ids));
	b->table = calloc(b->kv_blocks, sizeof(*b->table));
	if (!b->ids || !b->table)
		exit(1);
	for (uint32_t i = 0; i < largest_prefill(b); i++)
		b->ids[i] = i * 7919 % model_config(b->model)->n_vocab;
	for (uint32_t i = 0; i < b->kv_blocks; i++)
		b->table[i] = i;
	printf("%s%s%s%s: %.2f G parameters, %.2f GB, loaded in %.2f s (%.1f GB/s), KV pool of %u "
	       "tokens\n",
		model_file_type(b->model), b->fp8 ? " as FP8" : "", b->kv_fp8 ? ", KV as FP8" : "",
		b->tails ? ", tails" : "", (double)model_n_parameters(b->model) * 1e-9,
		(double)gguf_file_bytes(b->gguf) * 1e-9, s,
		(double)gguf_file_bytes(b->gguf) * 1e-9 / s, b->kv_blocks * KV_BLOCK_TOK);
}

static void begin(struct bench *b, const struct batch_run *runs, uint32_t n)
{
	static struct model_pick picks[MAX_BATCH]; /* greedy */
	struct err err = {""};

	if (model_begin(b->model, runs, n, picks, &err) < 0)
		bench_gpu_machine_die(&err);
}

static void finish(struct bench *b)
{
	static struct model_result results[MAX_BATCH];
	struct err err = {""};

	if (model_finish(b->model, results, &err) < 0)
		bench_gpu_machine_die(&err);
}

static void finish_and_trace(struct bench *b)
{
	struct backend_stats s;

	finish(b);
	model_device_stats(b->model, &s);
	if (s.step_ns > 0)
		b->gap[b->n_gaps++] = (double)s.gap_ns / (double)s.step_ns;
}

/* n_steps steps of n sequences, two under way; the position of the first is pos. */
static double decode(struct bench *b, uint32_t n, uint32_t pos)
{
	struct batch_run runs[MAX_BATCH];
	uint64_t start = clock_mono_ns();

	b->n_gaps = 0;
	for (uint32_t s = 0; s < b->n_steps; s++) {
		for (uint32_t i = 0; i < n; i++)
			runs[i] = (struct batch_run){
				.ids = b->ids + i % 64,
				.n = 1,
				.first_pos = pos + s,
				.blocks = b->table + (size_t)i * b->seq_blocks,
				.n_logit_rows = 1,
				.follows = s > 0 ? i + 1 : 0,
			};
		begin(b, runs, n);
		if (s == 1) /* nobody counts what was before the first */
			finish(b);
		else if (s > 1)
			finish_and_trace(b);
	}
	if (b->n_steps > 1)
		finish_and_trace(b);
	else
		finish(b);
	return seconds_since(start) / b->n_steps;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void report_gaps(struct bench *b)
{
	if (b->n_gaps == 0)
		return;
	qsort(b->gap, b->n_gaps, sizeof(*b->gap), compare);
	printf("  gaps between %u steps: median %.2f %%, largest %.2f %% of the step\n",
		b->n_gaps + 1, 100 * b->gap[b->n_gaps / 2], 100 * b->gap[b->n_gaps - 1]);
}

static void measure_decode(struct bench *b, uint32_t n)
{
	if ((size_t)n * b->seq_blocks > b->kv_blocks) {
		printf("decode %-7u does not fit\n", n);
		return;
	}
	decode(b, n, b->context_tok); /* issues, captures, warms up */
	double s = decode(b, n, b->context_tok + b->n_steps);
	double context = b->context_tok + 1.5 * b->n_steps;
	double read = (b->weight_bytes + n * context * b->kv_bytes_tok) / b->machine.copy;
	double compute = 2 * b->parameters * n / b->machine.dense;
	double limit = read > compute ? read : compute;

	printf("decode %-7u %10.1f tok/s %9.3f ms/step  limit %9.3f ms (%s)  %5.1f %%\n", n, n / s,
		s * 1e3, limit * 1e3, read > compute ? "bandwidth" : "arithmetic", 100 * limit / s);
	report_gaps(b);
}

static void measure_prefill(struct bench *b, uint32_t n)
{
	struct batch_run run = {.ids = b->ids, .n = n, .blocks = b->table, .n_logit_rows = 1};
	const struct model_config *c = model_config(b->model);
	double best = 1e30;

	if (n / KV_BLOCK_TOK > b->kv_blocks) {
		printf("prefill %-6u does not fit\n", n);
		return;
	}
	for (int i = 0; i < 4; i++) {
		uint64_t start = clock_mono_ns();
		begin(b, &run, 1);
		finish(b);
		double s = seconds_since(start);
		best = s < best ? s : best;
	}
	/* Logits are of one row; attention is two products over half of all positions. */
	double layers = b->parameters - (double)c->n_vocab * c->n_embd;
	double attention = 2.0 * n * n * c->n_heads * c->head_dim * c->n_layers;
	double limit = (2 * layers * n + attention) / b->machine.dense;
	printf("prefill %-6u %10.1f tok/s %9.3f ms       limit %9.3f ms (arithmetic)  %5.1f %%\n",
		n, n / best, best * 1e3, limit * 1e3, 100 * limit / best);
}

static void report_graphs(const struct bench *b)
{
	struct backend_stats s;

	model_device_stats(b->model, &s);
	printf("steps replayed from graphs: %llu, issued: %llu; memory used: %.1f GB\n",
		(unsigned long long)s.graph_hits, (unsigned long long)s.graph_misses,
		(double)s.memory_used * 1e-9);
}

static int usage(void)
{
	fputs("usage: bench-gpu [-g GPU] [-f] [-k] [-t] [-s] [-d] [-a KB] [-c CONTEXT] [-r STEPS]\n"
	      "                 [-w WIDE,DENSE] FILE.gguf\n"
	      "       bench-gpu -m [-g GPU]\n",
		stderr);
	return 2;
}

static bool read_number(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*out = (uint32_t)n;
	return *text && !*end && n <= max;
}

static bool read_ahead(const char *text, int32_t *out)
{
	uint32_t kb = 0;
	bool ok = read_number(text, MAX_AHEAD_KB, &kb);

	*out = (int32_t)kb;
	return ok;
}

static bool read_ways(const char *text, struct bench *b)
{
	const char *comma = strchr(text, ',');
	char wide[16];
	size_t n = comma ? (size_t)(comma - text) : 0;

	if (n == 0 || n >= sizeof(wide))
		return false;
	memcpy(wide, text, n);
	wide[n] = 0;
	return read_number(wide, UINT32_MAX, &b->wide_rows) &&
	       read_number(comma + 1, UINT32_MAX, &b->dense_rows);
}

int main(int argc, char **argv)
{
	static struct bench b = {.context_tok = 512, .n_steps = 32};
	bool machine = false, ok = true;

	for (int c; (c = getopt(argc, argv, "g:fktsdma:c:r:w:")) != -1;) {
		if (c == 'g')
			ok = ok && read_number(optarg, 63, &b.gpu);
		else if (c == 'c')
			ok = ok && read_number(optarg, MAX_CONTEXT, &b.context_tok);
		else if (c == 'r')
			ok = ok && read_number(optarg, MAX_STEPS, &b.n_steps) && b.n_steps > 0;
		else if (c == 'a')
			ok = ok && read_ahead(optarg, &b.ahead_kb);
		else if (c == 'd')
			b.few = true;
		else if (c == 'w')
			ok = ok && read_ways(optarg, &b);
		else if (c == 'f')
			b.fp8 = true;
		else if (c == 'k')
			b.kv_fp8 = true;
		else if (c == 't')
			b.tails = true;
		else if (c == 's')
			b.small = true;
		else if (c == 'm')
			machine = true;
		else
			ok = false;
	}
	if (!ok || optind != argc - (machine ? 0 : 1))
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	bench_gpu_machine_measure(&b.machine, b.gpu, b.small);
	if (machine)
		return 0;
	open_model(&b, argv[optind]);
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
		if (batches[i] <= largest_batch(&b))
			measure_decode(&b, batches[i]);
	for (size_t i = 0; i < sizeof(prefills) / sizeof(prefills[0]); i++)
		if (prefills[i] <= largest_prefill(&b))
			measure_prefill(&b, prefills[i]);
	if (b.small && !b.few)
		measure_prefill(&b, largest_prefill(&b));
	report_graphs(&b);
	model_free(b.model);
	gguf_free(b.gguf);
	free(b.ids);
	free(b.table);
	return 0;
}
