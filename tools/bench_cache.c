/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the answer cache costs a request, on the loop's thread, for a conversation of about 1 KB:
 *
 *	hit in memory   the key is built from its fields, and the answer is there
 *	miss            the same, and it is nowhere; the ticket is dropped
 *	hit on disk     until the answer is there, by way of the thread of L2
 *	near            the nearest of PROMPTS prompts of one scope, and whether it agrees, by way
 *of the thread of L3, without the embedding
 *
 *	bench-cache DIRECTORY [REQUESTS [PROMPTS]]
 */
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "gateway/cache_parts.h"

enum { DIM = 384 };

static struct gateway *g;
static struct cache *c;
static unsigned n_requests = 100000, n_prompts = 100000;

/* ---- on the loop ---- */

struct errand {
	struct loop_work work;
	void (*run)(void);
	sem_t done;
};

static void run_errand(struct loop_work *work)
{
	struct errand *e = list_entry(work, struct errand, work);
	e->run();
	sem_post(&e->done);
}

static void wait_for(sem_t *done)
{
	while (sem_wait(done) < 0)
		;
}

static void on_loop(void (*run)(void))
{
	struct errand e = {.work.run = run_errand, .run = run};
	list_init(&e.work.link);
	sem_init(&e.done, 0, 0);
	loop_post(g->loop, &e.work);
	wait_for(&e.done);
}

/* ---- times ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void print(const char *what, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof *ns, compare);
	printf("%-14s %8zu  p50 %8.2f us  p99 %8.2f us  max %8.2f us\n", what, n,
		(double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3, (double)ns[n - 1] / 1e3);
}

/* ---- requests ---- */

/* The fields of a request with six turns behind it, some 1 KB in all. */
static int make_ask(struct cache_ask *ask, unsigned i)
{
	static const struct {
		const char *name, *value;
	} fields[] = {
		{"model", "llama-3.1-8b-instruct"},
		{"revision", "1a2b3c4d5e6f7a8b"},
		{"system", "You are a helpful assistant. Answer briefly, in whole sentences."},
		{"temperature", "0"},
		{"top_p", "1"},
		{"top_k", "0"},
		{"min_p", "0"},
		{"max_tokens", "256"},
		{"stop", ""},
		{"seed", ""},
		{"format", "text"},
		{"user", "What is a filesystem in user space, and what is it good for?"},
		{"assistant",
			"It is a filesystem whose operations are answered by an ordinary process. "
			"The "
			"kernel passes each of them on. So it can be written in any language, "
			"debugged like any program, and mounted by anybody."},
		{"user", "And what does it cost?"},
		{"assistant", "Each operation wakes a process and comes back through the kernel, "
			      "which takes "
			      "some tens of microseconds. Data is copied once more, unless it is "
			      "spliced."},
		{"user", "Which of the two interfaces of the library should I take, and why?"},
		{"assistant", "The one below, if you want to answer later than you were asked: it "
			      "hands you "
			      "each request, to be answered whenever you can, from any thread."},
	};
	char prompt[64];
	int n = snprintf(prompt, sizeof prompt, "Is number %u larger than it looks?", i), r = 0;
	*ask = (struct cache_ask){.user = "bench", .store = true, .uid = 1000};
	for (size_t f = 0; r == 0 && f < sizeof fields / sizeof *fields; f++)
		r = cache_key_field(
			&ask->key, fields[f].name, fields[f].value, strlen(fields[f].value));
	return r ? r : cache_key_field(&ask->key, "user", prompt, (size_t)n);
}

static size_t key_bytes;
static int outcome;
static uint64_t *times;

static void told(void *arg, const struct cache_found *found)
{
	outcome = found->outcome;
	text_put(found->text);
	sem_post(arg);
}

static struct cache_ticket *begin(unsigned i, struct cache_found *found, sem_t *done)
{
	struct cache_ask ask;
	struct cache_ticket *t = NULL;
	if (make_ask(&ask, i) < 0)
		exit(EXIT_FAILURE);
	key_bytes = ask.key.len;
	if (cache_begin(&t, c, &ask, NULL, found, told, done) == 0)
		outcome = found->outcome;
	else
		outcome = -1;
	return t;
}

static void fill(void)
{
	static const char answer[] = "That depends on how one looks at it.";
	struct text *text = text_new(answer, sizeof answer - 1);
	for (unsigned i = 0; i < 1000; i++) {
		struct cache_found found;
		struct cache_ticket *t = begin(i, &found, NULL);
		cache_land(t, text, "stop", 300, 10);
	}
	text_put(text);
}

static void hits(void)
{
	for (unsigned i = 0; i < n_requests; i++) {
		struct cache_found found;
		uint64_t t0 = clock_mono_ns();
		struct cache_ticket *t = begin(i * 7919 % 1000, &found, NULL);
		if (outcome != CACHE_HIT)
			exit(EXIT_FAILURE);
		text_put(found.text);
		cache_drop(t);
		times[i] = clock_mono_ns() - t0;
	}
}

static void misses(void)
{
	for (unsigned i = 0; i < n_requests; i++) {
		struct cache_found found;
		uint64_t t0 = clock_mono_ns();
		struct cache_ticket *t = begin(1000 + i, &found, NULL);
		if (outcome != CACHE_MISS)
			exit(EXIT_FAILURE);
		cache_drop(t);
		times[i] = clock_mono_ns() - t0;
	}
}

static sem_t arrived;
static unsigned turn;
static struct cache_ticket *ticket;

static void begin_one(void)
{
	struct cache_found found;
	ticket = begin(turn, &found, &arrived);
	if (outcome != -1)
		exit(EXIT_FAILURE);
}

static void drop_one(void)
{
	ticket = cache_drop(ticket);
}

static void disk_hits(void)
{
	sem_init(&arrived, 0, 0);
	cache_setting_set(c, "max_memory", "0", 1, NULL);
	for (turn = 0; turn < 1000; turn++) {
		uint64_t t0 = clock_mono_ns();
		on_loop(begin_one);
		wait_for(&arrived);
		times[turn] = clock_mono_ns() - t0;
		if (outcome != CACHE_HIT)
			exit(EXIT_FAILURE);
		on_loop(drop_one);
	}
	print("hit on disk", times, 1000);
}

/* ---- L3 ---- */

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) / 9007199254740992.0 - 0.5;
}

static void make_vector(float *v)
{
	double sum = 0;
	for (int i = 0; i < DIM; i++) {
		v[i] = (float)uniform();
		sum += (double)v[i] * (double)v[i];
	}
	for (int i = 0; i < DIM; i++)
		v[i] = (float)((double)v[i] / sqrt(sum));
}

static float *vectors;
static size_t found_near;

static void near_told(void *arg, const struct cache_near *near, size_t n)
{
	found_near += n;
	sem_post(&arrived);
}

static void begin_search(void)
{
	struct cache_search *q;
	struct buf scope = {0};
	char prompt[64];
	unsigned i = turn * 7919 % n_prompts;
	float *copy = malloc(DIM * sizeof *copy);
	memcpy(copy, vectors + (size_t)i * DIM, DIM * sizeof *copy);
	buf_append_str(&scope, "scope");
	int n = snprintf(prompt, sizeof prompt, "Is number %u larger than it looks?", i);
	cache_semantic_search(
		c->semantic, &scope, prompt, (size_t)n, copy, DIM, 0.95, near_told, NULL, &q);
}

static void learn_all(void)
{
	struct text *nothing = text_new("", 0);
	for (unsigned i = 0; i < n_prompts; i++) {
		const struct cache_id id = {i, ~(uint64_t)i};
		const struct cache_answer answer = {.text = nothing, .serial = i + 1};
		struct cache_item *item = cache_item_new(&id, "", 0, "", 0, "bench", &answer);
		struct cache_prompt *p = cache_prompt_new(item);
		char prompt[64];
		int n = snprintf(prompt, sizeof prompt, "Is number %u larger than it looks?", i);
		make_vector(vectors + (size_t)i * DIM);
		strcpy(p->model, "m");
		buf_append_str(&p->scope, "scope");
		p->text = text_new(prompt, (size_t)n);
		p->dim = DIM;
		p->vector = malloc(DIM * sizeof(float));
		memcpy(p->vector, vectors + (size_t)i * DIM, DIM * sizeof(float));
		cache_semantic_add(c->semantic, p);
		cache_prompt_put(p);
		cache_item_put(item);
	}
	text_put(nothing);
	cache_semantic_settle(c->semantic);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct cache_known *know_all(const struct buf *scope)
{
	struct cache_known *k = cache_known_new();
	for (unsigned i = 0; i < n_prompts; i++) {
		char prompt[64];
		int n = snprintf(prompt, sizeof prompt, "Is number %u larger than it looks?", i);
		struct text *text = text_new(prompt, (size_t)n);
		const struct cache_known_prompt p = {
			.id = {i, ~(uint64_t)i},
			.serial = i + 1,
			.user = "bench",
			.scope = scope->data,
			.scope_len = scope->len,
			.text = text,
			.vector = vectors + (size_t)i * DIM,
			.dim = DIM,
		};
		cache_known_learn(k, &p, true);
		text_put(text);
	}
	return k;
}

static void search_alone(void)
{
	struct buf scope = {0};
	buf_append_str(&scope, "scope");
	struct cache_known *k = know_all(&scope);
	size_t found = 0;
	for (turn = 0; turn < 2000; turn++) {
		struct cache_near near[CACHE_NEAR_MAX];
		char prompt[64];
		unsigned i = turn * 7919 % n_prompts;
		int n = snprintf(prompt, sizeof prompt, "Is number %u larger than it looks?", i);
		uint64_t t0 = cpu_ns();
		struct agree_sign *sign = agree_sign_new(prompt, (size_t)n);
		found += cache_known_search(
			k, &scope, sign, vectors + (size_t)i * DIM, DIM, 0.95, near);
		agree_sign_free(sign);
		times[turn] = cpu_ns() - t0;
	}
	print("near, CPU", times, 2000);
	if (found != 2000)
		printf("but %zu of 2000 were found\n", found);
	cache_known_free(k);
	buf_free(&scope);
}

static void near_ones(void)
{
	vectors = malloc((size_t)n_prompts * DIM * sizeof *vectors);
	cache_semantic_model(c->semantic, "m");
	learn_all();
	for (turn = 0; turn < 2000; turn++) {
		uint64_t t0 = clock_mono_ns();
		on_loop(begin_search);
		wait_for(&arrived);
		times[turn] = clock_mono_ns() - t0;
	}
	print("near", times, 2000);
	if (found_near != 2000)
		printf("but %zu of 2000 were found\n", found_near);
	cache_semantic_model(c->semantic, "");
	search_alone();
	free(vectors);
}

int main(int argc, char **argv)
{
	struct err err = {0};
	char path[4096];
	if (argc < 2) {
		fprintf(stderr, "usage: bench-cache DIRECTORY [REQUESTS [PROMPTS]]\n");
		return 2;
	}
	if (argc > 2)
		n_requests = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3)
		n_prompts = (unsigned)strtoul(argv[3], NULL, 10);
	const struct gateway_options options = {.state_dir = argv[1]};
	snprintf(path, sizeof path, "%s/bench-cache", argv[1]);
	times = calloc(n_requests > 2000 ? n_requests : 2000, sizeof *times);
	if (!times || gateway_open(&g, &options, &err) < 0 || cache_open(&c, g, path, &err) < 0) {
		fprintf(stderr, "bench-cache: %s\n", err.text);
		return EXIT_FAILURE;
	}
	cache_ctl(c, "flush", 5, NULL);
	cache_disk_settle(c->disk);
	on_loop(fill);
	cache_disk_settle(c->disk);
	on_loop(hits);
	printf("keys of %zu bytes\n", key_bytes);
	print("hit in memory", times, n_requests);
	on_loop(misses);
	print("miss", times, n_requests);
	disk_hits();
	if (n_prompts)
		near_ones();
	cache_free(c);
	gateway_free(g);
	free(times);
	return EXIT_SUCCESS;
}
