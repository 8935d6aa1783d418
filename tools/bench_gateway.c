/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway adds to a request: everything but the engine's own time (docs/bench.md).
 *
 *	bench_gateway MODEL.gguf [RULES-DIR]
 *
 * Opens a gateway of its own with that model, and measures requests of one token with a prompt of
 * about 200 bytes, from one session at a time and from 64 at once; with nothing configured, and
 *with everything: the rule files of RULES-DIR/input and output, prices, a budget, and limits of
 *every kind. Both in turns, so that they see the same moods of the machine.
 *
 *	write     of the prompt: limits, budget and input rules are judged in it
 *	added     the write, and of the rest what is not the engine's (queue, prefill and decode of
 *the session's trace): scheduling, rendering, output rules, the ledger, the store
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/gateway.h"

enum { ROUNDS = 4, REQUESTS = 250, MANY = 64 };

static struct gateway *g;

struct sample {
	double write_us, added_us;
};

struct samples {
	struct sample *all;
	size_t n;
};

/* ---- small things ---- */

static void check(int r, const struct err *err, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench_gateway: %s: %s\n", what, *err->text ? err->text : strerror(-r));
	exit(1);
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(const struct samples *s, bool added, double p)
{
	double *values = calloc(s->n + 1, sizeof *values);
	for (size_t i = 0; i < s->n; i++)
		values[i] = added ? s->all[i].added_us : s->all[i].write_us;
	qsort(values, s->n, sizeof *values, order);
	size_t rank = (size_t)(p * (double)s->n);
	double value = values[rank < s->n ? rank : s->n - 1];
	free(values);
	return value;
}

static double milliseconds(const char *text, const char *name)
{
	char key[32];
	snprintf(key, sizeof key, "%s_ms ", name);
	const char *at = strstr(text, key);
	return at ? strtod(at + strlen(key), NULL) : 0;
}

/* ---- a request ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

static void wake(void *arg)
{
	pthread_mutex_lock(&lock);
	*(bool *)arg = true;
	pthread_cond_broadcast(&woken);
	pthread_mutex_unlock(&lock);
}

static void wait_for(bool *flag)
{
	pthread_mutex_lock(&lock);
	while (!*flag)
		pthread_cond_wait(&woken, &lock);
	*flag = false;
	pthread_mutex_unlock(&lock);
}

static struct answer *newest(struct session *s)
{
	struct answer *a = NULL;
	gateway_waiter id;
	bool told = false;
	while (session_newest(s, &a, wake, &told, &id) == 1)
		wait_for(&told);
	return a;
}

/* Until the answer's end. */
static void read_answer(struct answer *a)
{
	char bytes[4096];
	uint64_t offset = 0;
	bool told = false;
	for (;;) {
		size_t n;
		gateway_waiter id;
		int r = answer_read(a, offset, bytes, sizeof bytes, &n);
		if (r < 0 || (r == 0 && !n))
			return;
		offset += n;
		if (r == 1 && answer_wait(a, offset, wake, &told, &id) == 0)
			wait_for(&told);
	}
}

static void ask(struct session *s, unsigned k, struct sample *out)
{
	char prompt[256];
	struct err err = {0};
	struct draft *d;
	struct buf trace = {0};
	int n = snprintf(prompt, sizeof prompt,
		"Question %u: please explain in a few plain words how a filesystem can stand in "
		"front of a language model, and what a person at a shell gains by it; the shorter "
		"the answer, the better.\n",
		k);
	check(draft_new(&d, s, getuid(), &err), &err, "draft");
	uint64_t begin = clock_mono_ns();
	check(draft_write(d, prompt, (size_t)n, &err), &err, "write");
	out->write_us = (double)(clock_mono_ns() - begin) / 1e3;
	draft_commit(d);
	struct answer *a = newest(s);
	read_answer(a);
	answer_put(a);
	session_render(s, SESSION_TRACE, &trace);
	double engine = milliseconds(trace.data, "queue") + milliseconds(trace.data, "prefill") +
			milliseconds(trace.data, "decode") + milliseconds(trace.data, "session");
	out->added_us = out->write_us + (milliseconds(trace.data, "total") - engine) * 1e3;
	buf_free(&trace);
	check(session_ctl(s, getuid(), getgid(), "clear", 5, &err), &err, "clear");
}

struct asker {
	pthread_t thread;
	struct session *session;
	struct sample samples[REQUESTS];
	unsigned n;
};

static void *ask_all(void *arg)
{
	struct asker *k = arg;
	for (unsigned i = 0; i < k->n; i++)
		ask(k->session, i, &k->samples[i]);
	return NULL;
}

static void add(struct samples *s, const struct asker *k)
{
	s->all = realloc(s->all, (s->n + k->n) * sizeof *s->all);
	memcpy(s->all + s->n, k->samples, k->n * sizeof *s->all);
	s->n += k->n;
}

static void run(struct samples *s, struct asker *askers, unsigned n_askers, unsigned n)
{
	for (unsigned i = 0; i < n_askers; i++) {
		askers[i].n = n;
		pthread_create(&askers[i].thread, NULL, ask_all, &askers[i]);
	}
	for (unsigned i = 0; i < n_askers; i++) {
		pthread_join(askers[i].thread, NULL);
		add(s, &askers[i]);
	}
}

/* ---- what is configured ---- */

static void set_rules(const char *dir, const char *stage, bool on)
{
	char path[1024], name[300];
	struct err err = {0};
	snprintf(path, sizeof path, "%s/%s", dir, stage);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(name, sizeof name, "%s/%s", stage, e->d_name);
		if (!gateway_guard_name_ok(name))
			continue;
		if (!on) {
			gateway_guard_remove(g, name, false);
			continue;
		}
		struct buf text = {0};
		char bytes[4096];
		snprintf(path, sizeof path, "%s/%s", dir, name);
		FILE *f = fopen(path, "r");
		for (size_t n; f && (n = fread(bytes, 1, sizeof bytes, f));)
			buf_append(&text, bytes, n);
		if (f)
			fclose(f);
		check(gateway_guard_set(g, name, text.data, text.len, &err), &err, name);
		buf_free(&text);
	}
	if (d)
		closedir(d);
}

static void set_limits(bool on)
{
	static const char *const settings[][2] = {{"limit", "1000000"},
		{"requests_per_minute", "100000000"}, {"requests_per_day", "100000000"},
		{"tokens_per_minute", "1000000000"}, {"tokens_per_day", "1000000000"},
		{"requests_in_flight", "100000"}};
	static const char *const prices[] = {"price_input", "price_cached", "price_output"};
	struct err err = {0};
	struct account *a = gateway_account_find(g, "default");
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const char *value = on ? settings[i][1] : "";
		check(account_setting_set(a, settings[i][0], value, strlen(value), &err), &err,
			settings[i][0]);
	}
	account_put(a);
	struct model *m = gateway_model_find(g, "bench");
	for (size_t i = 0; i < sizeof prices / sizeof *prices; i++)
		check(model_setting_set(m, prices[i], on ? "0.5" : "", on ? 3 : 0, &err), &err,
			prices[i]);
	model_put(m);
}

static void set_all(const char *rules, bool on)
{
	if (rules) {
		set_rules(rules, "input", on);
		set_rules(rules, "output", on);
	}
	set_limits(on);
}

/* ---- the whole ---- */

static struct session *make_session(unsigned k)
{
	char id[16];
	struct err err = {0};
	struct session *s;
	snprintf(id, sizeof id, "s%u", k);
	check(gateway_session_create(g, id, getuid(), getgid(), 0700, &s, &err), &err, "session");
	session_setting_set(s, "max_tokens", "1", 1, &err);
	session_setting_set(s, "ignore_eos", "1", 1, &err);
	return s;
}

static void open_all(const char *model, const char *dir)
{
	struct err err = {0};
	struct gateway_options options = {.state_dir = dir, .daemon_uid = getuid()};
	check(gateway_open(&g, &options, &err), &err, "open");
	check(gateway_model_create(g, "bench", &err), &err, "model");
	struct model *m = gateway_model_find(g, "bench");
	check(model_setting_set(m, "path", model, strlen(model), &err), &err, "path");
	model_put(m);
	check(gateway_default_set(g, "bench", &err), &err, "default");
	gateway_account_create(g, "default", NULL);
}

static void print(const char *name, const struct samples *s)
{
	printf("%-22s write p50 %6.1f p99 %7.1f us   added p50 %7.1f p99 %8.1f us   (%zu "
	       "requests)\n",
		name, quantile(s, false, 0.5), quantile(s, false, 0.99), quantile(s, true, 0.5),
		quantile(s, true, 0.99), s->n);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: bench_gateway MODEL.gguf [RULES-DIR]\n");
		return 2;
	}
	char dir[] = "/tmp/llmfs-bench-gateway.XXXXXX", command[64];
	char *model = realpath(argv[1], NULL);
	const char *rules = argc > 2 ? argv[2] : NULL;
	if (!model || !mkdtemp(dir)) {
		perror(argv[1]);
		return 1;
	}
	open_all(model, dir);
	static struct asker askers[MANY];
	for (unsigned i = 0; i < MANY; i++)
		askers[i].session = make_session(i);
	struct samples warm = {0}, one[2] = {{0}}, many[2] = {{0}};
	run(&warm, askers, 1, 50);
	for (int round = 0; round < ROUNDS; round++) {
		for (int on = 0; on < 2; on++) {
			set_all(rules, on);
			run(&one[on], askers, 1, REQUESTS);
			run(&many[on], askers, MANY, REQUESTS / 25);
		}
	}
	print("1 at once, nothing", &one[0]);
	print("1 at once, everything", &one[1]);
	print("64 at once, nothing", &many[0]);
	print("64 at once, everything", &many[1]);
	for (unsigned i = 0; i < MANY; i++)
		session_put(askers[i].session);
	gateway_free(g);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0;
}
