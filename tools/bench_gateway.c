/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway adds to a request: everything but the engine's own time (docs/bench.md).
 *
 *	bench_gateway MODEL.gguf [RULES-DIR]
 *
 * Opens a gateway of its own with that model, and measures requests of one token with a prompt of
 * about 200 bytes, from one session at a time and from 64 at once; with nothing configured, and
 * with everything: the rule files of RULES-DIR/input and output, prices, a budget, and limits of
 * every kind. Both in turns, so that they see the same moods of the machine.
 *
 *	write     of the prompt: limits, budget and input rules are judged in it
 *	added     the write, and of the rest what is not the engine's (queue, prefill and decode of
 * the session's trace): scheduling, rendering, output rules, the ledger, the store
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_asking.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_accounts.h"

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

static double quantile(const struct samples *s, bool added, double p)
{
	double *values = calloc(s->n + 1, sizeof *values);
	for (size_t i = 0; i < s->n; i++)
		values[i] = added ? s->all[i].added_us : s->all[i].write_us;
	double value = bench_asking_quantile(values, s->n, p);
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

static void ask(struct session *s, unsigned k, struct sample *out)
{
	char prompt[256];
	struct bench_asking_times times;
	struct buf trace = {0};
	struct err err = {0};
	int n = snprintf(prompt, sizeof prompt,
		"Question %u: please explain in a few plain words how a filesystem can stand in "
		"front of a language model, and what a person at a shell gains by it; the shorter "
		"the answer, the better.\n",
		k);
	bench_asking_ask(s, prompt, (size_t)n, &times);
	bench_asking_check(times.code, &err, "ask");
	out->write_us = times.write_us;
	session_render(s, SESSION_TRACE, &trace);
	double engine = milliseconds(trace.data, "queue") + milliseconds(trace.data, "prefill") +
			milliseconds(trace.data, "decode") + milliseconds(trace.data, "session");
	out->added_us = out->write_us + (milliseconds(trace.data, "total") - engine) * 1e3;
	buf_free(&trace);
	bench_asking_clear(s);
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

static void set_all(const char *rules, bool on)
{
	const char *price = on ? "0.5" : "";
	if (rules)
		bench_asking_rules(g, rules, on);
	bench_asking_limits(g, on);
	bench_asking_model(g, "bench",
		(const char *const[][2]){{"price_input", price}, {"price_cached", price},
			{"price_output", price}, {NULL, NULL}});
}

/* ---- the whole ---- */

static struct session *make_session(unsigned k)
{
	char id[16];
	struct err err = {0};
	struct session *s;
	snprintf(id, sizeof id, "s%u", k);
	bench_asking_check(
		gateway_session_create(g, id, getuid(), getgid(), 0700, &s, &err), &err, "session");
	session_setting_set(s, "max_tokens", "1", 1, &err);
	session_setting_set(s, "ignore_eos", "1", 1, &err);
	return s;
}

static void open_all(const char *model, const char *dir)
{
	struct err err = {0};
	struct gateway_options options = {.state_dir = dir, .daemon_uid = getuid()};
	bench_asking_check(gateway_open(&g, &options, &err), &err, "open");
	bench_asking_check(gateway_model_create(g, "bench", &err), &err, "model");
	struct model *m = gateway_model_find(g, "bench");
	bench_asking_check(model_setting_set(m, "path", model, strlen(model), &err), &err, "path");
	model_put(m);
	bench_asking_check(gateway_default_set(g, "bench", &err), &err, "default");
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
