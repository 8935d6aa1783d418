/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What limits, reservation, leases and settlement cost a request: claim, start, a lease, settle,
 * with a store in a real directory behind them, a user's account and a group's, and all limits set
 * (high enough). The times are those of the caller: with durability as documented, that is until
 * everything is queued at the store; what the wait for it takes is measured apart (`stored`).
 *
 *	bench-book DIRECTORY [REQUESTS [THREADS]]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/book.h"

enum step { CLAIM, START, LEASE, SETTLE, TOGETHER, N_STEPS };
static const char *const step_names[N_STEPS] = {
	"claim", "start", "lease", "settle", "claim+start+settle"};

static struct gateway g;
static unsigned n_requests = 20000, pause_us;

struct worker {
	pthread_t thread;
	char user[16];
	uint64_t *ns[N_STEPS]; /* [n_requests] */
	int failed;
};

static int serve(struct worker *w, unsigned i)
{
	static const struct book_worst worst = {1000, 256,
		{.input = 150000000, .cached = 75000000, .output = 600000000}, false, 0, 0, 0, 0};
	static const struct money_tokens tokens = {1000, 200, 130};
	const struct book_request request = {i + 1, "bench", "model"};
	struct book_claim *c = NULL;
	struct err err = {0};
	uint64_t t0 = clock_mono_ns();
	int r = book_claim(&c, g.book, w->user, &worst, NULL, &err);
	if (r < 0) {
		fprintf(stderr, "bench-book: %s\n", err.text);
		return r;
	}
	uint64_t t1 = clock_mono_ns();
	book_claim_start(c, &request, 1000);
	uint64_t t2 = clock_mono_ns();
	book_claim_lease(c, 65);
	uint64_t t3 = clock_mono_ns();
	book_claim_settle(c, &tokens, "done");
	uint64_t t4 = clock_mono_ns();
	w->ns[CLAIM][i] = t1 - t0;
	w->ns[START][i] = t2 - t1;
	w->ns[LEASE][i] = t3 - t2;
	w->ns[SETTLE][i] = t4 - t3;
	w->ns[TOGETHER][i] = (t2 - t0) + (t4 - t3);
	return 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	for (unsigned i = 0; i < n_requests && !w->failed; i++) {
		w->failed = serve(w, i);
		if (pause_us)
			usleep(pause_us);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(const char *name, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof *ns, compare);
	printf("  %-20s p50 %7.2f us   p99 %7.2f us   max %9.2f us\n", name,
		(double)ns[n / 2] / 1e3, (double)ns[n - n / 100 - 1] / 1e3,
		(double)ns[n - 1] / 1e3);
}

static int run(unsigned n_threads)
{
	struct worker *workers = calloc(n_threads, sizeof *workers);
	uint64_t *all[N_STEPS], start_ns;
	size_t n = (size_t)n_threads * n_requests;
	int failed = !workers;
	for (int s = 0; s < N_STEPS; s++) {
		all[s] = calloc(n, sizeof **all);
		failed |= !all[s];
	}
	start_ns = clock_mono_ns();
	for (unsigned t = 0; !failed && t < n_threads; t++) {
		snprintf(workers[t].user, sizeof workers[t].user, "user%u", t);
		for (int s = 0; s < N_STEPS; s++)
			workers[t].ns[s] = all[s] + (size_t)t * n_requests;
		if (pthread_create(&workers[t].thread, NULL, work, &workers[t]))
			abort();
	}
	for (unsigned t = 0; !failed && t < n_threads; t++)
		pthread_join(workers[t].thread, NULL);
	double seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
	for (unsigned t = 0; !failed && t < n_threads; t++)
		failed |= workers[t].failed;
	if (!failed)
		printf("%u thread%s, %s, %.0f requests a second\n", n_threads,
			n_threads > 1 ? "s" : "", pause_us ? "with pauses" : "one after another",
			(double)n / seconds);
	for (int s = 0; s < N_STEPS; s++) {
		if (!failed)
			report(step_names[s], all[s], n);
		free(all[s]);
	}
	free(workers);
	return failed;
}

/* ---- how long the store takes ---- */

struct waiting {
	struct store_waiter w;
	pthread_mutex_t lock;
	pthread_cond_t told;
	bool is;
};

static void note(struct store_waiter *w, int status)
{
	struct waiting *x = (struct waiting *)w;
	pthread_mutex_lock(&x->lock);
	x->is = true;
	pthread_cond_signal(&x->told);
	pthread_mutex_unlock(&x->lock);
}

static void wait_stored(void)
{
	struct waiting x = {.w.done = note};
	pthread_mutex_init(&x.lock, NULL);
	pthread_cond_init(&x.told, NULL);
	store_after(g.store, &x.w);
	pthread_mutex_lock(&x.lock);
	while (!x.is)
		pthread_cond_wait(&x.told, &x.lock);
	pthread_mutex_unlock(&x.lock);
	pthread_cond_destroy(&x.told);
	pthread_mutex_destroy(&x.lock);
}

/* From the start of a claim until its record is stored: what a first byte waits for at most. */
static int run_stored(void)
{
	static const struct book_worst worst = {1000, 256, {.output = 1000}, false, 0, 0, 0, 0};
	enum { N = 2000 };
	static uint64_t ns[N];
	for (unsigned i = 0; i < N; i++) {
		const struct book_request request = {i + 1, "bench", "model"};
		const struct money_tokens tokens = {1000, 0, 10};
		struct book_claim *c = NULL;
		if (book_claim(&c, g.book, "user0", &worst, NULL, NULL) < 0)
			return 1;
		wait_stored();
		uint64_t t0 = clock_mono_ns();
		book_claim_start(c, &request, 1000);
		wait_stored();
		ns[i] = clock_mono_ns() - t0;
		book_claim_settle(c, &tokens, "done");
		wait_stored();
	}
	printf("1 thread, waiting for the store\n");
	report("start, stored", ns, N);
	return 0;
}

/* ---- the book ---- */

static int set(const char *name, const char *file, const char *value)
{
	struct err err = {0};
	gateway_account_create(&g, name, NULL);
	struct account *a = gateway_account_find(&g, name);
	int r = account_setting_set(a, file, value, strlen(value), &err);
	if (r < 0)
		fprintf(stderr, "bench-book: %s\n", err.text);
	account_put(a);
	return r;
}

static int open_all(const char *dir)
{
	struct err err = {0};
	g.watch = watch_table_new();
	int r = store_open(&g.store, dir, &err);
	r = r ? r : loop_new(&g.loop, &err);
	r = r ? r : book_open(&g.book, g.store, g.watch, g.loop, &err);
	if (r < 0)
		fprintf(stderr, "bench-book: %s\n", err.text);
	static const char *const names[] = {"staff", "user0", "user1"};
	for (size_t i = 0; r == 0 && i < sizeof names / sizeof *names; i++) {
		r = set(names[i], "limit", "1000000");
		r = r ? r : set(names[i], "requests_per_minute", "100000000");
		r = r ? r : set(names[i], "requests_per_day", "100000000");
		r = r ? r : set(names[i], "tokens_per_minute", "1000000000000");
		r = r ? r : set(names[i], "tokens_per_day", "1000000000000");
	}
	return r ? r : set("staff", "members", "user0\nuser1\nuser2\nuser3");
}

static void close_all(void)
{
	if (g.loop)
		loop_close(g.loop);
	book_free(g.book);
	loop_free(g.loop);
	store_free(g.store);
	watch_table_free(g.watch);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: bench-book DIRECTORY [REQUESTS [THREADS]]\n");
		return 2;
	}
	n_requests = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : n_requests;
	unsigned n_threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 4;
	if (n_requests < 100 || n_requests > 10000000 || !n_threads || n_threads > 256) {
		fprintf(stderr, "bench-book: at least 100 requests, 1 to 256 threads\n");
		return 2;
	}
	int failed = open_all(argv[1]) < 0;
	failed = failed || run(1);
	failed = failed || run(n_threads);
	/* Caches cool in between; without a journal each group would have to wake the store's
	 * thread. */
	pause_us = 200;
	n_requests = n_requests < 5000 ? n_requests : 5000;
	failed = failed || run(1);
	failed = failed || run_stored();
	close_all();
	return failed;
}
