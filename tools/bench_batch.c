/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the engine serves many at once, through its door: N clients, each with a prompt of its own
 * and an answer of fixed length, one request after the other for a number of rounds. Prints tokens
 * a second, times to the first token and between tokens, and what a step costs beside the model.
 *
 * usage: bench-batch [-t THREADS] [-n CLIENTS] [-p PROMPT_TOK] [-o OUTPUT_TOK] [-r ROUNDS]
 *                    [-T TEMPERATURE] [-l LONG_PROMPT_TOK] [-b STEP_BUDGET]
 *                    [-B BACKEND] [-g GPU] FILE.gguf
 *
 * Where steps overlap (a GPU) the time beside the model is what is left over, and may be negative.
 * With -l, one more request with a long prompt is sent first, and the clients come after it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"

struct settings {
	uint32_t threads, clients, prompt_tok, output_tok, rounds, long_tok, budget;
	float temperature;
};

struct client {
	uint64_t submit_ns, first_ns, last_ns, longest_gap_ns;
	uint32_t *ids;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint32_t n_ended;

static void on_event(void *arg, const struct engine_event *event)
{
	struct client *c = arg;
	uint64_t now = clock_mono_ns();

	if (event->usage.output_tok > 0 && !c->first_ns)
		c->first_ns = now;
	else if (c->last_ns && now - c->last_ns > c->longest_gap_ns)
		c->longest_gap_ns = now - c->last_ns;
	if (c->first_ns)
		c->last_ns = now;
	if (event->kind != ENGINE_END)
		return;
	pthread_mutex_lock(&lock);
	n_ended++;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void submit(struct engine *e, const struct settings *s, struct client *c, uint32_t n_ids,
	uint32_t output_tok)
{
	struct engine_request r = {
		.ids = c->ids,
		.n_ids = n_ids,
		.sampling = {.temperature = s->temperature, .top_p = 0.95f, .seed = 1},
		.max_tokens = output_tok,
		.ignore_eos = true,
		.event = on_event,
		.arg = c,
	};
	struct err err = {""};
	uint64_t id;

	c->submit_ns = clock_mono_ns();
	c->first_ns = c->last_ns = c->longest_gap_ns = 0;
	if (engine_submit(e, &r, &id, &err) < 0) {
		fprintf(stderr, "bench-batch: %s\n", err.text);
		exit(1);
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void make_ids(struct client *c, uint32_t n, uint32_t n_vocab, uint32_t *random)
{
	c->ids = realloc(c->ids, n * sizeof(*c->ids));
	if (!c->ids)
		exit(1);
	for (uint32_t i = 0; i < n; i++) {
		*random = *random * 1664525u + 1013904223u;
		c->ids[i] = (*random >> 8) % (n_vocab - 3);
	}
}

static void run_round(struct engine *e, const struct settings *s, struct client *clients,
	uint32_t *random, uint32_t round)
{
	struct client *longer = &clients[s->clients];
	uint32_t n = s->clients + (s->long_tok > 0), n_vocab = engine_info(e)->n_vocab;
	double first[4096], gap = 0, wall;
	struct engine_stats before, after;
	uint64_t start;

	for (uint32_t i = 0; i < s->clients; i++)
		make_ids(&clients[i], s->prompt_tok, n_vocab, random);
	if (s->long_tok)
		make_ids(longer, s->long_tok, n_vocab, random);
	n_ended = 0;
	engine_stats(e, &before);
	start = clock_mono_ns();
	if (s->long_tok) {
		submit(e, s, longer, s->long_tok, 8);
		usleep(20000);
	}
	for (uint32_t i = 0; i < s->clients; i++)
		submit(e, s, &clients[i], s->prompt_tok, s->output_tok);
	pthread_mutex_lock(&lock);
	while (n_ended < n)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	wall = (double)(clock_mono_ns() - start) * 1e-9;
	engine_stats(e, &after);
	for (uint32_t i = 0; i < s->clients; i++) {
		first[i] = (double)(clients[i].first_ns - clients[i].submit_ns) * 1e-6;
		if ((double)clients[i].longest_gap_ns * 1e-6 > gap)
			gap = (double)clients[i].longest_gap_ns * 1e-6;
	}
	qsort(first, s->clients, sizeof(*first), compare);
	printf("%2u  out %7.1f tok/s  all %7.1f tok/s  first ms: min %.1f median %.1f max %.1f  "
	       "longest gap %.1f ms",
		round, (double)(after.output_tok - before.output_tok) / wall,
		(double)(after.output_tok - before.output_tok + after.prompt_tok -
			 before.prompt_tok) /
			wall,
		first[0], first[s->clients / 2], first[s->clients - 1], gap);
	if (s->long_tok)
		printf("  long first %.1f ms",
			(double)(longer->first_ns - longer->submit_ns) * 1e-6);
	printf("  steps %llu  model %.3f ms  beside it %.1f us a step\n",
		(unsigned long long)(after.steps - before.steps),
		(double)(after.model_ns - before.model_ns) * 1e-6 /
			(double)(after.steps - before.steps),
		((double)(after.step_ns - before.step_ns) -
			(double)(after.model_ns - before.model_ns)) *
			1e-3 / (double)(after.steps - before.steps));
}

static uint32_t number(const char *text)
{
	return (uint32_t)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	struct settings s = {.clients = 8, .prompt_tok = 16, .output_tok = 64, .rounds = 3};
	struct engine_options o = {0};
	struct client *clients;
	struct err err = {""};
	struct engine *e;
	uint32_t random = 1;
	int option;

	while ((option = getopt(argc, argv, "t:n:p:o:r:T:l:b:B:g:")) != -1) {
		switch (option) {
		case 't':
			o.n_threads = number(optarg);
			break;
		case 'n':
			s.clients = number(optarg);
			break;
		case 'p':
			s.prompt_tok = number(optarg);
			break;
		case 'o':
			s.output_tok = number(optarg);
			break;
		case 'r':
			s.rounds = number(optarg);
			break;
		case 'T':
			s.temperature = strtof(optarg, NULL);
			break;
		case 'l':
			s.long_tok = number(optarg);
			break;
		case 'b':
			o.step_budget_tok = number(optarg);
			break;
		case 'B':
			o.backend = optarg;
			break;
		case 'g':
			o.gpu = number(optarg);
			break;
		default:
			return 2;
		}
	}
	if (optind + 1 != argc || s.clients < 1 || s.clients > 4096 || s.prompt_tok < 1) {
		fprintf(stderr, "usage: bench-batch [options] FILE.gguf\n");
		return 2;
	}
	if (engine_open(&e, argv[optind], &o, NULL, &err) < 0) {
		fprintf(stderr, "bench-batch: %s\n", err.text);
		return 1;
	}
	clients = calloc(s.clients + 1, sizeof(*clients));
	if (!clients)
		return 1;
	for (uint32_t round = 1; round <= s.rounds; round++)
		run_round(e, &s, clients, &random, round);
	engine_free(e);
	for (uint32_t i = 0; i <= s.clients; i++)
		free(clients[i].ids);
	free(clients);
	return 0;
}
