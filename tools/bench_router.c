/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What routing costs: classifying a prompt of 1 KB (English, German, program text), a decision
 * between 10 models by each policy with that prompt, its explanation as JSON, and the estimate of
 * an answer's quality. Each is measured many times one by one; `cold`: with 8 MiB of other memory
 * touched before each, as between the requests of a quiet mount.
 *
 * usage: bench-router [ROUNDS]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/quality.h"
#include "gateway/router.h"

enum { MODELS = 10, PROMPT_BYTES = 1024 };

static size_t rounds = 20000;
static uint64_t *times;

static void fail(const char *what)
{
	fprintf(stderr, "bench-router: %s\n", what);
	exit(1);
}

static const char *const texts[][2] = {
	{"English",
		"Please compare the two offers that we got for the new heating and explain which "
		"one "
		"you would take and why. The first costs 14,200 and needs three weeks; the second "
		"costs 11,900, but the supplier could not say when they would begin. We must not "
		"be "
		"without warm water for more than two days. "},
	{"German", "Bitte vergleiche die beiden Angebote f\xC3\xBCr die neue Heizung und "
		   "begr\xC3\xBCnde, "
		   "welches du nehmen w\xC3\xBCrdest. Das erste kostet 14.200 Euro und dauert drei "
		   "Wochen, "
		   "das zweite 11.900, aber der Anbieter konnte nicht sagen, wann er "
		   "anf\xC3\xA4ngt. "},
	{"program", "for (size_t i = 0; i < n; i++) {\n\tif (!table[i].name)\n\t\treturn -ENOMEM;\n"
		    "\tsum += table[i].price * 3; /* why? */\n}\nreturn sum / (n + 1);\n"},
};

static void fill(char *out, const char *text)
{
	size_t len = strlen(text);
	for (size_t i = 0; i < PROMPT_BYTES; i++)
		out[i] = text[i % len];
}

static void make_facts(struct router_facts facts[MODELS])
{
	const money dollar = 1000000000;
	for (int i = 0; i < MODELS; i++) {
		facts[i] = (struct router_facts){
			.price = {dollar * (i + 1), dollar * (i + 1) / 2, dollar * (i + 1) * 3},
			.quality = 0.4 + 0.05 * i,
			.has_quality = true,
			.capabilities = ROUTER_CHAT | ROUTER_JSON | (i % 2 ? ROUTER_TOOLS : 0),
			.context_tok = (uint64_t)4096 << i,
			.weight = (uint32_t)i,
			.health = i == 3   ? ROUTER_COLD
				  : i == 7 ? ROUTER_DOWN
					   : ROUTER_READY,
			.why = "breaker open after 5 failures",
			.first_ms = 100 + 30 * i,
			.tok_per_s = 200 - 15 * i,
			.running = (uint64_t)i,
		};
		snprintf(facts[i].name, sizeof facts[i].name, "model-%d", i);
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(const char *what, const char *which)
{
	qsort(times, rounds, sizeof *times, compare);
	printf("%-10s %-9s p50 %6.2f us   p99 %6.2f us\n", what, which,
		(double)times[rounds / 2] / 1e3, (double)times[rounds * 99 / 100] / 1e3);
}

static void bench_classify(const char *name, const char *text)
{
	struct classify_weights w = classify_weights_default();
	struct classify_result result;
	for (size_t i = 0; i < rounds; i++) {
		uint64_t begin = clock_mono_ns();
		classify_text(text, PROMPT_BYTES, &w, &result);
		times[i] = clock_mono_ns() - begin;
	}
	report("classify", name);
}

/* What lies between two requests: other memory in the caches. */
static void forget(void)
{
	static unsigned char other[8 << 20];
	for (size_t i = 0; i < sizeof other; i += 64)
		other[i]++;
}

static void bench_decide(struct router *r, const char *policy, const char *text, bool cold)
{
	struct router_facts facts[MODELS];
	struct router_ask ask = {.text = text,
		.len = PROMPT_BYTES,
		.prompt_tok = 300,
		.max_tokens = 1024,
		.capabilities = ROUTER_CHAT,
		.max_latency_ms = 60000,
		.session = "bench"};
	make_facts(facts);
	if (router_setting_set(r, "policy", policy, strlen(policy), NULL) < 0)
		fail(policy);
	for (size_t i = 0; i < rounds; i++) {
		struct router_decision *d;
		if (cold)
			forget();
		uint64_t begin = clock_mono_ns();
		if (router_decide(r, &ask, facts, MODELS, &d, NULL) < 0)
			fail("nobody can take it");
		times[i] = clock_mono_ns() - begin;
		router_decision_free(d);
	}
	report(cold ? "cold" : "decide", policy);
}

static void bench_json(struct router *r, const char *text)
{
	struct router_facts facts[MODELS];
	struct router_ask ask = {.text = text, .len = PROMPT_BYTES, .capabilities = ROUTER_CHAT};
	struct router_decision *d;
	make_facts(facts);
	if (router_decide(r, &ask, facts, MODELS, &d, NULL) < 0)
		fail("nobody can take it");
	for (size_t i = 0; i < rounds; i++) {
		struct buf out = {0};
		uint64_t begin = clock_mono_ns();
		if (router_decision_json(d, &out) < 0)
			fail("out of memory");
		times[i] = clock_mono_ns() - begin;
		buf_free(&out);
	}
	report("explain", "JSON");
	router_decision_free(d);
}

static void bench_quality(const char *text)
{
	struct quality_answer a = {.text = text, .len = PROMPT_BYTES, .mean_logprob = -0.2};
	struct quality_reasons why;
	for (size_t i = 0; i < rounds; i++) {
		uint64_t begin = clock_mono_ns();
		if (isnan(quality_estimate(&a, &why)))
			fail("no number");
		times[i] = clock_mono_ns() - begin;
	}
	report("quality", "English");
}

int main(int argc, char **argv)
{
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	char text[sizeof texts / sizeof *texts][PROMPT_BYTES];
	struct router *r = router_new();
	if (argc > 1)
		rounds = strtoul(argv[1], NULL, 10);
	times = rounds ? calloc(rounds, sizeof *times) : NULL;
	if (!r || !times)
		fail("usage: bench-router [ROUNDS]");
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		fill(text[i], texts[i][1]);
		bench_classify(texts[i][0], text[i]);
	}
	for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
		bench_decide(r, policies[i], text[0], false);
	bench_decide(r, "balanced", text[0], true);
	bench_json(r, text[0]);
	bench_quality(text[0]);
	free(times);
	router_free(r);
	return 0;
}
