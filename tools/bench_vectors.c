/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a semantic look-up costs without the embedding: the search among n vectors of one scope, and
 * whether two prompts agree.
 *
 * usage: bench-vectors [-d DIM] [-n MOST] [-r ROUNDS] [-m COSINE] [-s] [-v]
 *
 * -n: 1,000 vectors, ten times as many, and so on up to MOST, 100,000 if not given. -m: how alike
 * the vectors are to the query on average, 0.1 if not given: strangers under all-MiniLM are between
 * -0.1 and 0.4, prompts about one matter around 0.6. -s: also the slower paths. -v: several
 * thresholds.
 *
 * Microseconds of ROUNDS searches, each with another query: p50 and p99 of processor time, since
 * others share the machine, and p50 of wall-clock time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/agree.h"
#include "gateway/vectors_parts.h"

static uint64_t seed = 3;
static uint32_t dim = 384;
static size_t n_rounds = 2000, n_most = 100000;
static double alike = 0.1;

static float noise(void)
{
	int32_t sum = 0;

	for (unsigned i = 0; i < 4; i++) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		sum += (int32_t)(seed >> 40) - (1 << 23);
	}
	return (float)sum;
}

static void to_unit(float *x)
{
	double sum = 0;

	for (uint32_t i = 0; i < dim; i++)
		sum += (double)x[i] * (double)x[i];
	for (uint32_t i = 0; i < dim; i++)
		x[i] = (float)(x[i] / sqrt(sum));
}

/* All have a part in common, so that their products are `alike` on average. */
static void make_vector(float *x, const float *common)
{
	for (uint32_t i = 0; i < dim; i++)
		x[i] = noise();
	to_unit(x);
	for (uint32_t i = 0; i < dim; i++)
		x[i] = (float)(sqrt(alike) * common[i] + sqrt(1 - alike) * x[i]);
	to_unit(x);
}

struct times {
	uint64_t *busy, *wall; /* [n]: ns */
	size_t n;
	uint64_t busy_begin, wall_begin;
};

static uint64_t busy_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(struct times *t)
{
	t->wall_begin = clock_mono_ns();
	t->busy_begin = busy_ns();
}

static void end(struct times *t)
{
	t->busy[t->n] = busy_ns() - t->busy_begin;
	t->wall[t->n++] = clock_mono_ns() - t->wall_begin;
}

static struct times new_times(size_t n)
{
	return (struct times){
		.busy = calloc(n, sizeof(uint64_t)), .wall = calloc(n, sizeof(uint64_t))};
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void tell(const char *what, struct times *t, size_t hits)
{
	qsort(t->busy, t->n, sizeof(uint64_t), compare);
	qsort(t->wall, t->n, sizeof(uint64_t), compare);
	printf("%-40s p50 %8.2f  p99 %8.2f  wall p50 %8.2f us  (%zu found)\n", what,
		(double)t->busy[t->n / 2] / 1e3, (double)t->busy[t->n * 99 / 100] / 1e3,
		(double)t->wall[t->n / 2] / 1e3, hits);
	fflush(stdout);
	free(t->busy);
	free(t->wall);
}

static void measure(struct vectors *v, size_t n, const float *vectors, const float *common,
	float least, size_t k)
{
	struct times times = new_times(n_rounds);
	float *query = calloc(dim, sizeof(*query));
	struct vectors_hit hits[16];
	char what[128];
	size_t found = 0;

	for (size_t i = 0; i < n_rounds; i++) {
		make_vector(query, common);
		/* Every second query has something near: a hit. */
		for (uint32_t d = 0; d < dim && i % 2; d++)
			query[d] = vectors[(i * 7919 % n) * dim + d] + 0.2f * query[d];
		to_unit(query);
		begin(&times);
		found += vectors_search(v, 1, query, least, k, hits);
		end(&times);
	}
	snprintf(what, sizeof(what), "%zu of %u, cosine >= %.2f, best %zu", n, dim, (double)least,
		k);
	tell(what, &times, found);
	free(query);
}

static void measure_agree(void)
{
	static const char a[] =
		"Please write a function in src/gateway/text.c that returns the 3 largest values "
		"of "
		"an array of 64-bit integers without sorting it, and explain why it does not "
		"allocate memory. Thanks!";
	static const char b[] =
		"Write a function in src/gateway/text.c which returns the three largest values of "
		"an "
		"array of 64-bit integers without sorting it, and explain why it does not allocate "
		"memory.";
	enum { N = 20000 };
	struct times made = new_times(N), compared = new_times(N);
	struct agree_sign *x = NULL, *y = agree_sign_new(b, strlen(b));
	size_t agreed = 0;

	for (size_t i = 0; i < N; i++) {
		x = agree_sign_free(x);
		begin(&made);
		x = agree_sign_new(a, strlen(a));
		end(&made);
		begin(&compared);
		agreed += agree_compare(x, y) == AGREE_OK;
		end(&compared);
	}
	printf("a prompt of %zu bytes\n", strlen(a));
	tell("agree_sign_new", &made, agreed);
	tell("agree_compare", &compared, agreed);
	agree_sign_free(x);
	agree_sign_free(y);
}

int main(int argc, char **argv)
{
	bool slow = false, sweep = false;

	for (int c; (c = getopt(argc, argv, "d:n:r:m:sv")) != -1;) {
		if (c == 'd')
			dim = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			n_most = strtoul(optarg, NULL, 10);
		else if (c == 'r')
			n_rounds = strtoul(optarg, NULL, 10);
		else if (c == 'm')
			alike = strtod(optarg, NULL);
		else if (c == 's')
			slow = true;
		else if (c == 'v')
			sweep = true;
		else
			return 2;
	}
	if (!dim || dim > VECTORS_DIM_MAX || !n_rounds || n_most > VECTORS_MAX ||
		!(alike >= 0 && alike <= 1))
		return 2;
	measure_agree();
	float *vectors = calloc(n_most * dim, sizeof(*vectors));
	float *common = calloc(dim, sizeof(*common));
	struct vectors *v = vectors_new(dim, n_most, (size_t)8 << 30);
	if (!v || !common || !vectors)
		return 1;
	for (uint32_t i = 0; i < dim; i++)
		common[i] = noise();
	to_unit(common);
	size_t at = 0;
	for (size_t n = 1000; n <= n_most; n *= 10) {
		for (; at < n; at++) {
			make_vector(vectors + at * dim, common);
			if (vectors_add(v, 1, at, vectors + at * dim) < 0)
				return 1;
		}
		for (size_t p = slow ? 0 : 100; sketch_path_at(p); p++) {
			printf("%s:\n", sketch_path_at(p)->name);
			vectors_use(v, sketch_path_at(p));
			measure(v, n, vectors, common, 0.95f, 1);
		}
		vectors_use(v, sketch_path_best());
		if (!slow)
			measure(v, n, vectors, common, 0.95f, 1);
		for (int least = sweep ? 90 : 0; least >= 70; least -= 5)
			measure(v, n, vectors, common, (float)least / 100, 4);
		if (sweep)
			measure(v, n, vectors, common, -1, 4);
	}
	struct vectors_stats stats;
	vectors_count(v, &stats);
	printf("%zu vectors, %.1f MB\n", stats.n, (double)stats.bytes / 1e6);
	vectors_free(v);
	free(vectors);
	free(common);
	return 0;
}
