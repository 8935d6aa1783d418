/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long an embedding takes, through the engine's door: tokenising, queue, threads and all. First
 * one sentence of twelve words at a time, then as many at once as the queue takes.
 *
 * usage: bench-embed [-t THREADS] [-n REQUESTS] [-p PATH] FILE.gguf
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"

#define MAX_REQUESTS 100000
#define AT_ONCE 256

/* Twelve words each. */
static const char *const sentences[] = {
	"How can I change the password of my account on this page?",
	"The museum opens at nine in the morning and closes at six.",
	"She did not want to go because she was tired and hungry.",
	"Please delete all temporary files in this folder but keep the logs.",
	"What is the fastest way to travel from Berlin to Paris today?",
	"Rain is expected in the north with strong wind along the coast.",
	"My grandmother needs two eggs and a pinch of salt for this.",
	"A network with two hidden layers can learn any function it needs.",
};

#define N_SENTENCES (sizeof sentences / sizeof sentences[0])

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
	int status;
	uint32_t n_tok;
};

static void done(void *arg, int status, const char *sentence, const float *vectors,
	const struct engine_usage *usage)
{
	struct wait *w = arg;

	pthread_mutex_lock(&w->lock);
	w->over = true;
	w->status = status;
	w->n_tok = usage->prompt_tok;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* n sentences from `first` on as one request; nanoseconds until the callback, tokens in *n_tok. */
static uint64_t embed(struct engine *e, uint32_t first, uint32_t n, uint32_t *n_tok)
{
	static struct wait w = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	const char *texts[AT_ONCE];
	size_t lens[AT_ONCE];
	struct err err = {""};
	struct engine_embed q = {texts, lens, n, done, &w};

	for (uint32_t i = 0; i < n; i++) {
		texts[i] = sentences[(first + i) % N_SENTENCES];
		lens[i] = strlen(texts[i]);
	}
	w.over = false;
	uint64_t start = clock_mono_ns();
	if (engine_embed(e, &q, NULL, &err) != 0) {
		fprintf(stderr, "bench-embed: %s\n", err.text);
		exit(1);
	}
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	uint64_t ns = clock_mono_ns() - start;
	if (w.status != 0)
		exit(1);
	*n_tok = w.n_tok;
	return ns;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void measure_one(struct engine *e, uint64_t *ns, uint32_t n)
{
	uint32_t n_tok, all_tok = 0;

	for (uint32_t i = 0; i < N_SENTENCES; i++)
		embed(e, i, 1, &n_tok);
	for (uint32_t i = 0; i < n; i++) {
		ns[i] = embed(e, i, 1, &n_tok);
		all_tok += n_tok;
	}
	qsort(ns, n, sizeof *ns, compare);
	printf("one sentence of 12 words (%.1f tokens): p10 %.2f ms, p50 %.2f ms, p90 %.2f ms, p99 "
	       "%.2f ms\n",
		(double)all_tok / n, (double)ns[n / 10] * 1e-6, (double)ns[n / 2] * 1e-6,
		(double)ns[n * 9 / 10] * 1e-6, (double)ns[n * 99 / 100] * 1e-6);
}

static void measure_many(struct engine *e, uint64_t *ns, uint32_t n)
{
	uint32_t n_tok = 0;

	for (uint32_t i = 0; i < n; i++)
		ns[i] = embed(e, i, AT_ONCE, &n_tok);
	qsort(ns, n, sizeof *ns, compare);
	double s = (double)ns[n / 2] * 1e-9;
	printf("%d sentences at once: %.0f sentences/s, %.0f tokens/s (p50 of %u)\n", AT_ONCE,
		AT_ONCE / s, n_tok / s, n);
}

static int usage(void)
{
	fputs("usage: bench-embed [-t THREADS] [-n REQUESTS] [-p PATH] FILE.gguf\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	struct engine_options o = {.n_threads = 1};
	struct engine *e = NULL;
	struct err err = {""};
	long n = 1000;

	for (int c; (c = getopt(argc, argv, "t:n:p:")) != -1;) {
		if (c == 't')
			o.n_threads = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			n = strtol(optarg, NULL, 10);
		else if (c == 'p')
			o.cpu_path = optarg;
		else
			return usage();
	}
	if (optind != argc - 1 || n < 100 || n > MAX_REQUESTS)
		return usage();
	uint64_t start = clock_mono_ns();
	if (engine_open(&e, argv[optind], &o, NULL, &err) != 0) {
		fprintf(stderr, "bench-embed: %s: %s\n", argv[optind], err.text);
		return 1;
	}
	const struct engine_info *info = engine_info(e);
	printf("%s: %s, %s, %u threads, %.1f M parameters, opened in %.2f s\n", info->name,
		info->file_type, info->backend, info->n_threads, (double)info->n_parameters * 1e-6,
		(double)(clock_mono_ns() - start) * 1e-9);
	uint64_t *ns = calloc((size_t)n, sizeof *ns);
	if (!ns)
		return 1;
	measure_one(e, ns, (uint32_t)n);
	measure_many(e, ns, (uint32_t)n / 50);
	free(ns);
	engine_free(e);
	return 0;
}
